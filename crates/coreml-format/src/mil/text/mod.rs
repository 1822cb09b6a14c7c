//! MIL text, which compiled ML Programs hold in `model.mil`.
//!
//! Apple documents the language nowhere; what is read here is what its compiler is known to write. Names and graph
//! structure are checked in [`validate`](super::validate), as those of other programs are.

mod lexer;
mod number;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::lexer::{Lexer, Token};
use super::{Argument, Block, Dim, Function, Named, Op, Opset, Program, TensorType, Type, Value};
use crate::{DType, Tensor, error::quote, weights::WeightFiles};

/// Operations of all functions together.
const OP_LIMIT: usize = 1_000_000;
/// Types within types, and values within values.
const NESTING_LIMIT: usize = 16;

/// Reads the text of a program. Weights stay in their files.
///
/// # Errors
/// What is wrong, with its line.
pub(crate) fn read(text: &str, weights: &mut WeightFiles) -> Result<Program, String> {
    let mut parser = Parser { lexer: Lexer::new(text), next: None, line: 1, weights, ops: 0 };
    let program = parser.advance().and_then(|()| parser.program());
    program.map_err(|reason| format!("line {}: {reason}", parser.line))
}

struct Parser<'a, 'w> {
    lexer: Lexer<'a>,
    next: Option<Token<'a>>,
    /// The line of the next token.
    line: usize,
    weights: &'w mut WeightFiles,
    ops: usize,
}

impl<'a> Parser<'a, '_> {
    /// `program(1.3) [..] { functions }`.
    fn program(&mut self) -> Result<Program, String> {
        self.word("program")?;
        self.mark('(')?;
        self.any_word()?;
        self.mark(')')?;
        self.skip_attributes()?;
        self.mark('{')?;
        let mut functions = BTreeMap::new();
        while !self.take_mark('}')? {
            let (name, function) = self.function()?;
            if functions.insert(name.clone(), function).is_some() {
                return Err(format!("there are two functions {}", quote(&name)));
            }
        }
        match &self.next {
            None if functions.is_empty() => Err("the program has no function".to_owned()),
            None => Ok(Program { functions }),
            Some(_) => Err(format!("{} follows the program", self.shown())),
        }
    }

    /// `func main<ios18>(inputs) [..] { operations } -> (outputs);`.
    fn function(&mut self) -> Result<(String, Function), String> {
        self.word("func")?;
        let name = self.any_word()?.to_owned();
        self.mark('<')?;
        let opset = self.any_word()?;
        let opset = opset_of(opset).ok_or_else(|| format!("the opset {} is not known", quote(opset)))?;
        self.mark('>')?;
        self.mark('(')?;
        let inputs = self.list(')', |parser| parser.named())?;
        self.skip_attributes()?;
        let block = self.block()?;
        self.take_mark(';')?;
        Ok((name, Function { inputs, opset, block }))
    }

    /// `{ operations } -> (outputs)`.
    fn block(&mut self) -> Result<Block, String> {
        self.mark('{')?;
        let mut ops = Vec::new();
        while !self.take_mark('}')? {
            self.ops += 1;
            if self.ops > OP_LIMIT {
                return Err(format!("the program has more than {OP_LIMIT} operations"));
            }
            ops.push(self.op()?);
        }
        if self.next != Some(Token::Arrow) {
            return Err(format!("expected -> after the operations, not {}", self.shown()));
        }
        self.advance()?;
        self.mark('(')?;
        let outputs = self.list(')', |parser| parser.any_word().map(str::to_owned))?;
        Ok(Block { inputs: Vec::new(), outputs, ops })
    }

    /// `type name, type name = kind(operands)[attributes];`, or `kind(operands)[attributes];` for one that gives nothing.
    fn op(&mut self) -> Result<Op, String> {
        let (first, mut outputs) = (self.any_word()?, Vec::new());
        let kind = if self.next == Some(Token::Mark('(')) {
            first.to_owned()
        } else {
            let ty = self.type_after(first, 0)?;
            outputs.push(Named { name: self.any_word()?.to_owned(), ty });
            while self.take_mark(',')? {
                outputs.push(self.named()?);
            }
            self.mark('=')?;
            self.any_word()?.to_owned()
        };
        self.mark('(')?;
        let inputs = self.list(')', |parser| parser.operand())?;
        let mut attributes = BTreeMap::new();
        if self.take_mark('[')? {
            attributes.extend(self.list(']', |parser| parser.attribute())?);
        }
        if self.next == Some(Token::Mark('{')) {
            return Err(format!(
                "the inner blocks of {kind} are not read from text; open the model it was compiled from"
            ));
        }
        self.mark(';')?;
        let own = attributes.remove("name").and_then(|name| Some(name.as_strings()?.first()?.clone()));
        let name = own.or_else(|| Some(outputs.first()?.name.clone())).unwrap_or_default();
        Ok(Op { kind, name, inputs: inputs.into_iter().collect(), outputs, blocks: Vec::new(), attributes })
    }

    /// `parameter = value`, or `parameter = (value, value)` for one that takes several.
    fn operand(&mut self) -> Result<(String, Vec<Argument>), String> {
        let parameter = self.any_word()?.to_owned();
        self.mark('=')?;
        let arguments = match self.take_mark('(')? {
            true => self.list(')', |parser| parser.argument())?,
            false => vec![self.argument()?],
        };
        Ok((parameter, arguments))
    }

    /// The name of a value, or a constant, which begins with its type.
    fn argument(&mut self) -> Result<Argument, String> {
        let word = self.any_word()?;
        if matches!(self.next, Some(Token::Mark('(' | '<'))) {
            let ty = self.type_after(word, 0)?;
            return Ok(Argument::Value(self.value(&ty)?));
        }
        Ok(Argument::Name(word.to_owned()))
    }

    fn attribute(&mut self) -> Result<(String, Value), String> {
        let name = self.any_word()?.to_owned();
        self.mark('=')?;
        let ty = self.ty(0)?;
        Ok((name, self.value(&ty)?))
    }

    fn named(&mut self) -> Result<Named, String> {
        let ty = self.ty(0)?;
        Ok(Named { name: self.any_word()?.to_owned(), ty })
    }

    fn ty(&mut self, depth: usize) -> Result<Type, String> {
        let word = self.any_word()?;
        self.type_after(word, depth)
    }

    /// A type whose first word was read.
    fn type_after(&mut self, word: &str, depth: usize) -> Result<Type, String> {
        if depth > NESTING_LIMIT {
            return Err(format!("types nest deeper than {NESTING_LIMIT}"));
        }
        if let Some(dtype) = dtype_of(word) {
            return Ok(Type::Tensor(TensorType { dtype, dims: Some(Vec::new()) }));
        }
        self.mark('<')?;
        let ty = match word {
            "tensor" => {
                let name = self.any_word()?;
                let dtype = dtype_of(name).ok_or_else(|| format!("the type {} is not known", quote(name)))?;
                self.mark(',')?;
                let dims = if self.take_mark('?')? {
                    None
                } else {
                    self.mark('[')?;
                    Some(self.list(']', |parser| parser.dim())?)
                };
                Type::Tensor(TensorType { dtype, dims })
            }
            "list" => {
                let element = self.ty(depth + 1)?;
                self.mark(',')?;
                let length = match self.dim()? {
                    Dim::Fixed(length) => Some(length),
                    Dim::Unknown => None,
                };
                Type::List(Box::new(element), length)
            }
            "tuple" => {
                let mut items = vec![self.ty(depth + 1)?];
                while self.take_mark(',')? {
                    items.push(self.ty(depth + 1)?);
                }
                Type::Tuple(items)
            }
            "dict" => {
                let key = self.ty(depth + 1)?;
                self.mark(',')?;
                Type::Dictionary(Box::new(key), Box::new(self.ty(depth + 1)?))
            }
            "state" => Type::State(Box::new(self.ty(depth + 1)?)),
            other => return Err(format!("the type {} is not known", quote(other))),
        };
        self.mark('>')?;
        Ok(ty)
    }

    fn dim(&mut self) -> Result<Dim, String> {
        if self.take_mark('?')? {
            return Ok(Dim::Unknown);
        }
        let word = self.any_word()?;
        word.parse().map(Dim::Fixed).map_err(|_| format!("{} is no size", quote(word)))
    }

    /// A value in parentheses, after its type.
    fn value(&mut self, ty: &Type) -> Result<Value, String> {
        self.mark('(')?;
        let value = self.bare(ty, 0)?;
        self.mark(')')?;
        Ok(value)
    }

    /// A value of a known type, without its parentheses.
    fn bare(&mut self, ty: &Type, depth: usize) -> Result<Value, String> {
        if depth > NESTING_LIMIT {
            return Err(format!("values nest deeper than {NESTING_LIMIT}"));
        }
        match ty {
            Type::Tensor(tensor) => self.tensor(tensor).map(Value::Tensor),
            Type::List(element, length) => {
                let close = self.open()?;
                let items = self.list(close, |parser| parser.bare(element, depth + 1))?;
                match length {
                    Some(length) if *length != items.len() => {
                        Err(format!("a list of {length} has {} values", items.len()))
                    }
                    _ => Ok(Value::List(items)),
                }
            }
            Type::Tuple(types) => {
                let close = self.open()?;
                let mut types = types.iter();
                let items = self.list(close, |parser| match types.next() {
                    Some(ty) => parser.bare(ty, depth + 1),
                    None => Err("a tuple has more values than types".to_owned()),
                })?;
                match types.next() {
                    None => Ok(Value::Tuple(items)),
                    Some(_) => Err("a tuple has fewer values than types".to_owned()),
                }
            }
            Type::Dictionary(key, value) => {
                self.mark('{')?;
                let pair = |parser: &mut Self| {
                    parser.mark('{')?;
                    let first = parser.bare(key, depth + 1)?;
                    parser.mark(',')?;
                    let second = parser.bare(value, depth + 1)?;
                    parser.mark('}')?;
                    Ok((first, second))
                };
                Ok(Value::Dictionary(self.list('}', pair)?))
            }
            Type::State(_) => Err("a state has no value".to_owned()),
        }
    }

    /// Elements in brackets of any depth, one element, or a place in a weight file.
    fn tensor(&mut self, ty: &TensorType) -> Result<Tensor, String> {
        let shape = ty.fixed().ok_or_else(|| format!("a constant has the type {ty}, which is not fixed"))?;
        if self.next == Some(Token::Word("BLOBFILE")) {
            let (path, offset) = self.blob()?;
            return self.weights.tensor(&path, offset, ty.dtype, shape);
        }
        let wrong = |found: usize| format!("a constant of type {ty} has {found} elements");
        let (mut words, mut strings, mut depth) = (Vec::new(), Vec::new(), 0usize);
        loop {
            match self.next.take() {
                Some(Token::Mark('[')) => depth += 1,
                Some(Token::Mark(']')) if depth > 0 => depth -= 1,
                Some(Token::Mark(',')) if depth > 0 => {}
                Some(Token::Word(word)) => words.push(word),
                Some(Token::Text(text)) => strings.push(text),
                other => {
                    self.next = other;
                    return Err(format!("expected an element, not {}", self.shown()));
                }
            }
            self.advance()?;
            if depth == 0 {
                break;
            }
        }
        if ty.dtype == DType::String {
            let found = strings.len();
            return Tensor::strings(shape, strings).ok_or_else(|| wrong(found));
        }
        let bytes = number::bytes(ty.dtype, &words)?;
        Tensor::new(ty.dtype, shape, bytes.into()).ok_or_else(|| wrong(words.len()))
    }

    /// `BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64))`.
    fn blob(&mut self) -> Result<(String, u64), String> {
        self.word("BLOBFILE")?;
        self.mark('(')?;
        let attributes: BTreeMap<String, Value> = self.list(')', |parser| parser.attribute())?.into_iter().collect();
        let tensor = |name: &str| attributes.get(name).and_then(Value::as_tensor);
        let path = tensor("path").and_then(|path| path.as_strings()?.first().cloned());
        let offset = tensor("offset").filter(|offset| offset.dtype() == DType::UInt64);
        let offset = offset.and_then(|offset| offset.bytes().as_ref().try_into().ok()).map(u64::from_le_bytes);
        path.zip(offset).ok_or_else(|| "a BLOBFILE needs a path and an offset".to_owned())
    }

    /// Takes `(` or `[`, and says what closes it.
    fn open(&mut self) -> Result<char, String> {
        if self.take_mark('[')? {
            return Ok(']');
        }
        self.mark('(').map(|()| ')')
    }

    /// What stands between commas, until `close`.
    fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        if self.take_mark(close)? {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take_mark(close)? {
                return Ok(items);
            }
            self.mark(',')?;
        }
    }

    /// Skips what describes a program or a function and not what it computes, where it is there.
    fn skip_attributes(&mut self) -> Result<(), String> {
        if self.next != Some(Token::Mark('[')) {
            return Ok(());
        }
        let mut depth = 0usize;
        loop {
            match &self.next {
                Some(Token::Mark('[' | '(' | '{' | '<')) => depth += 1,
                Some(Token::Mark(']' | ')' | '}' | '>')) => depth = depth.saturating_sub(1),
                Some(_) => {}
                None => return Err("brackets are not closed".to_owned()),
            }
            self.advance()?;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn any_word(&mut self) -> Result<&'a str, String> {
        let Some(Token::Word(word)) = self.next else { return Err(format!("expected a name, not {}", self.shown())) };
        self.advance()?;
        Ok(word)
    }

    fn word(&mut self, expected: &str) -> Result<(), String> {
        if self.next != Some(Token::Word(expected)) {
            return Err(format!("expected {expected}, not {}", self.shown()));
        }
        self.advance()
    }

    fn mark(&mut self, expected: char) -> Result<(), String> {
        if self.take_mark(expected)? {
            return Ok(());
        }
        Err(format!("expected {expected}, not {}", self.shown()))
    }

    fn take_mark(&mut self, expected: char) -> Result<bool, String> {
        let is_next = self.next == Some(Token::Mark(expected));
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn advance(&mut self) -> Result<(), String> {
        self.next = self.lexer.next()?;
        self.line = self.lexer.line();
        Ok(())
    }

    fn shown(&self) -> String {
        match &self.next {
            None => "the end".to_owned(),
            Some(Token::Word(word)) => quote(word).to_string(),
            Some(Token::Text(text)) => format!("the string {}", quote(text)),
            Some(Token::Mark(mark)) => mark.to_string(),
            Some(Token::Arrow) => "->".to_owned(),
        }
    }
}

/// `ios18` in compiled models, `CoreML8` elsewhere.
fn opset_of(name: &str) -> Option<Opset> {
    let numbered = match name {
        "ios15" => Opset::IOS15,
        "ios16" => Opset::IOS16,
        "ios17" => Opset::IOS17,
        "ios18" => Opset::IOS18,
        "ios26" => Opset::IOS26,
        other => return Opset::from_name(other),
    };
    Some(numbered)
}

fn dtype_of(name: &str) -> Option<DType> {
    DType::from_name(name)
}

#[cfg(test)]
mod grammar {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut weights = WeightFiles::new("none".into(), "none".into());
        let shown = match read(text, &mut weights) {
            Ok(program) => format!("{:?}", program.functions["main"]),
            Err(reason) => reason,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn body(op: &str) -> String {
        format!(
            "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-version\", \"3600.25.1\"}}}})]\n{{\n  func \
             main<ios18>(tensor<fp16, [1, ?]> x) [Shapes = tuple<int32>((1))] {{\n{op}\n  }} -> (y);\n}}\n"
        )
    }

    #[test]
    fn operations() {
        check(
            &body("tensor<fp16, [1, ?]> y = relu(x = x)[name = string(\"first\")];"),
            r#"kind: "relu", name: "first", inputs: {"x": [Name("x")]}"#,
        );
        check(&body("tensor<fp16, [1, ?]> y = relu(x = x);"), r#"name: "y""#);
        check(&body("fp16 a, fp16 b = split(axis = int32(1), x = x);"), r#"outputs: [Named { name: "a""#);
        check(&body("fp16 y = concat(values = (x, x));"), r#""values": [Name("x"), Name("x")]"#);
        check(&body("int32 y = const()[val = int32(-7)];"), r#"b"\xf9\xff\xff\xff""#);
        check(&body("tensor<int32, []> y = const()[val = tensor<int32, []>(3)];"), "shape: [], elements");
        check(&body("tensor<bool, [2]> y = const()[val = tensor<bool, [2]>([true, false])];"), r#"b"\x01\0""#);
        check(&body("tensor<string, [1]> y = const()[val = tensor<string, [1]>([\"a\"])];"), r#"Strings(["a"])"#);
        check(&body("state<tensor<fp16, [2]>> y = relu(x = x);"), "State(Tensor(TensorType");
        check(&body("fp16 y = f(s = list<int32, 2>((1, 2)));"), "List([Tensor(");
        check(&body("fp16 y = f(d = dict<string, int32>({{\"k\", 4}}));"), "Dictionary([(Tensor(");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        check("program(1.0) {}", "line 1: the program has no function");
        check("", "line 1: expected program, not the end");
        check(&body("tensor<fp99, [1]> y = relu(x = x);"), "line 5: the type \"fp99\" is not known");
        check(&body("int32 y = const()[val = int32(x)];"), "line 5: \"x\" is no int32");
        check(&body("tensor<int32, [2]> y = const()[val = tensor<int32, [2]>([1])];"), "has 1 elements");
        check(&body("fp16 y = cond(pred = x) {"), "the inner blocks of cond are not read from text");
        check(&body("fp16 y = relu(x = x)"), "expected ;, not }");
        check(&"[".repeat(100_000), "line 1: expected program");
        check(&body(&format!("{}fp16{} y = relu(x = x);", "tuple<".repeat(5000), ">".repeat(5000))), "nest deeper");
        check(&body("fp16 y = const()[val = fp16(BLOBFILE(path = string(\"w.bin\"), offset = uint64(64)))];"), "w.bin");
    }
}
