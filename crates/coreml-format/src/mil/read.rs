//! Decoded programs as the types of this module. Names and graph structure are checked in `validate`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Argument, Block, Function, Named, Op, Opset, Program, Value,
    value::{read_type, read_value},
};
use crate::{
    error::{Flaw, brief, quote},
    pb::{self, mil as message},
    weights::WeightFiles,
};

/// Blocks within blocks; real programs have two or three.
const NESTING_LIMIT: usize = 32;
/// Operations of all functions together.
const OP_LIMIT: usize = 1_000_000;

/// Reads an encoded `Program`. Large constants stay where they are.
pub(crate) fn read(body: Bytes, weights: &mut WeightFiles) -> Result<Program, Flaw> {
    let program: message::Program = pb::decode(body, "the program").map_err(|reason| Flaw::new("mlProgram", reason))?;
    if program.functions.is_empty() {
        return Err(Flaw::new("mlProgram", "has no function"));
    }
    let mut reader = Reader { weights, function: String::new(), ops: 0 };
    let mut functions = BTreeMap::new();
    for (name, function) in program.functions {
        reader.function = brief(&name);
        functions.insert(name, reader.function(function)?);
    }
    Ok(Program { functions })
}

struct Reader<'a> {
    weights: &'a mut WeightFiles,
    /// The name of the function that is read, as messages show it.
    function: String,
    /// Operations read so far.
    ops: usize,
}

impl Reader<'_> {
    fn flaw(&self, reason: impl Into<String>) -> Flaw {
        Flaw::new(self.function.clone(), reason)
    }

    fn function(&mut self, mut function: message::Function) -> Result<Function, Flaw> {
        let name = &function.opset;
        let opset = Opset::from_name(name).ok_or_else(|| self.flaw(format!("has unknown opset {}", quote(name))))?;
        let block = function.block_specializations.remove(name).ok_or_else(|| {
            let found: Vec<&str> = function.block_specializations.keys().map(String::as_str).collect();
            self.flaw(format!("its opset is {opset}, but it has blocks for {} only", quote(&found.join(", "))))
        })?;
        let inputs = all_named(function.inputs).map_err(|reason| self.flaw(format!("input {reason}")))?;
        Ok(Function { inputs, opset, block: self.block(block, 1)? })
    }

    fn block(&mut self, block: message::Block, depth: usize) -> Result<Block, Flaw> {
        if depth > NESTING_LIMIT {
            return Err(self.flaw(format!("nests blocks deeper than {NESTING_LIMIT}")));
        }
        self.ops += block.operations.len();
        if self.ops > OP_LIMIT {
            return Err(self.flaw(format!("has more than {OP_LIMIT} operations")));
        }
        let inputs = all_named(block.inputs).map_err(|reason| self.flaw(format!("block input {reason}")))?;
        let mut ops = Vec::with_capacity(block.operations.len());
        for (index, op) in block.operations.into_iter().enumerate() {
            let op = pb::decode(op, format_args!("operation number {index}")).map_err(|reason| self.flaw(reason))?;
            ops.push(self.op(op, index, depth)?);
        }
        Ok(Block { inputs, outputs: block.outputs, ops })
    }

    fn op(&mut self, op: message::Operation, index: usize, depth: usize) -> Result<Op, Flaw> {
        let message::Operation { r#type: kind, inputs, outputs, blocks, attributes } = op;
        if kind.is_empty() {
            return Err(self.flaw(format!("operation number {index} has no type")));
        }
        let first_output = outputs.first().map_or("", |output| &output.name);
        let name = own_name(&attributes).unwrap_or(first_output).to_owned();
        let place = place(&self.function, &kind, &name);
        let flaw = |reason| Flaw::new(&place, reason);

        let inputs = inputs.into_iter().map(|entry| self.input(entry)).collect::<Result<_, _>>().map_err(flaw)?;
        let outputs = all_named(outputs).map_err(|reason| flaw(format!("output {reason}")))?;
        let attributes = attributes.into_iter().filter(|entry| entry.key != "name");
        let attributes = attributes.map(|entry| self.attribute(entry)).collect::<Result<_, _>>().map_err(flaw)?;
        let mut nested = Vec::with_capacity(blocks.len());
        for block in blocks {
            let block = pb::decode(block, "a nested block").map_err(flaw)?;
            nested.push(self.block(block, depth + 1)?);
        }
        Ok(Op { kind, name, inputs, outputs, blocks: nested, attributes })
    }

    fn input(&mut self, entry: message::InputEntry) -> Result<(String, Vec<Argument>), String> {
        let parameter = entry.key;
        let bindings = entry.value.unwrap_or_default().arguments;
        if bindings.is_empty() {
            return Err(format!("operand {} is bound to nothing", quote(&parameter)));
        }
        let mut arguments = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let argument = self.argument(binding);
            arguments.push(argument.map_err(|reason| format!("operand {}: {reason}", quote(&parameter)))?);
        }
        Ok((parameter, arguments))
    }

    fn argument(&mut self, binding: message::ArgumentBinding) -> Result<Argument, String> {
        match binding.binding {
            Some(message::Binding::Name(name)) if !name.is_empty() => Ok(Argument::Name(name)),
            Some(message::Binding::Value(value)) => Ok(Argument::Value(read_value(value, self.weights)?)),
            Some(message::Binding::Name(_)) | None => Err("is bound to nothing".to_owned()),
        }
    }

    fn attribute(&mut self, entry: message::AttributeEntry) -> Result<(String, Value), String> {
        let value = entry.value.unwrap_or_default();
        let value =
            read_value(value, self.weights).map_err(|reason| format!("attribute {}: {reason}", quote(&entry.key)))?;
        Ok((entry.key, value))
    }
}

/// Where an operation stands, for messages: `main: conv "conv_0"`.
pub(super) fn place(function: &str, kind: &str, name: &str) -> String {
    format!("{function}: {} {}", brief(kind), quote(name))
}

/// Values with their types, in no more memory than they need: `collect` would keep that of the messages.
fn all_named(values: Vec<message::NamedValueType>) -> Result<Vec<Named>, String> {
    let mut all = Vec::with_capacity(values.len());
    for value in values {
        all.push(named(value)?);
    }
    Ok(all)
}

fn named(value: message::NamedValueType) -> Result<Named, String> {
    if value.name.is_empty() {
        return Err("without a name".to_owned());
    }
    let ty = read_type(value.r#type).map_err(|reason| format!("{} {reason}", quote(&value.name)))?;
    Ok(Named { name: value.name, ty })
}

/// The attribute `name`, where there is one.
fn own_name(attributes: &[message::AttributeEntry]) -> Option<&str> {
    let value = attributes.iter().find(|entry| entry.key == "name")?.value.as_ref()?;
    let Some(message::ValueKind::Immediate(immediate)) = &value.kind else { return None };
    let Some(message::Immediate::Tensor(tensor)) = &immediate.value else { return None };
    let Some(message::Elements::Strings(strings)) = &tensor.elements else { return None };
    strings.values.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn check(block: message::Block, opset: &str, expected: &str) {
        let function = message::Function {
            opset: opset.to_owned(),
            block_specializations: [("CoreML6".to_owned(), block)].into(),
            ..Default::default()
        };
        let program = message::Program { version: 1, functions: [("main".to_owned(), function)].into() };
        let mut weights = WeightFiles::new("none".into(), "none".into());
        let shown = match read(program.encode_to_vec().into(), &mut weights) {
            Ok(program) => format!("{:?}", program.functions["main"].block),
            Err(flaw) => format!("{}: {}", flaw.place, flaw.reason),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn block(op: message::Operation) -> message::Block {
        message::Block { operations: vec![op.encode_to_vec().into()], ..Default::default() }
    }

    fn relu(argument: Option<message::Binding>) -> message::Operation {
        let value = message::Argument { arguments: vec![message::ArgumentBinding { binding: argument }] };
        let input = message::InputEntry { key: "x".to_owned(), value: Some(value) };
        message::Operation { r#type: "relu".to_owned(), inputs: vec![input], ..Default::default() }
    }

    #[test]
    fn operations() {
        let x = || Some(message::Binding::Name("x".to_owned()));
        check(block(relu(x())), "CoreML6", r#"kind: "relu", name: "", inputs: {"x": [Name("x")]}"#);
        check(block(relu(x())), "CoreML5", "main: its opset is CoreML5, but it has blocks for \"CoreML6\" only");
        check(block(relu(x())), "CoreML99", "main: has unknown opset \"CoreML99\"");
        check(block(relu(None)), "CoreML6", "main: relu \"\": operand \"x\": is bound to nothing");
        check(block(message::Operation::default()), "CoreML6", "main: operation number 0 has no type");
        let long = message::Operation { r#type: "a".repeat(1_000_000), ..relu(None) };
        check(block(long), "CoreML6", "aaa\"... (1000000 bytes) \"\": operand");
        let cut = message::Block { operations: vec![Bytes::from_static(b"\x0a\x09")], ..Default::default() };
        check(cut, "CoreML6", "main: operation number 0 (2 bytes) is damaged or cut short");
    }

    #[test]
    fn nesting_ends() {
        let nested = |depth: usize| {
            (1..depth).fold(block(relu(None)), |inner, _| {
                let blocks = vec![inner.encode_to_vec().into()];
                block(message::Operation { r#type: "cond".to_owned(), blocks, ..Default::default() })
            })
        };
        check(nested(NESTING_LIMIT), "CoreML6", "main: relu \"\": operand");
        check(nested(NESTING_LIMIT + 1), "CoreML6", "main: nests blocks deeper than 32");
        check(nested(3000), "CoreML6", "main: nests blocks deeper than 32");
    }
}
