//! Checks of a whole program: names, types, constants, nested blocks.

use std::collections::HashMap;

use super::{Argument, Block, Dim, Function, Named, Op, Program, Type, Value, interface::check_interface, read::place};
use crate::{
    error::{Flaw, brief, quote},
    schema::Schema,
};

/// Operations that give nothing back.
const WITHOUT_OUTPUTS: &[&str] = &["write_state"];
/// Operations that take a state itself and not what it holds.
const TAKING_STATES: &[&str] = &["read_state", "write_state"];

/// Checks everything that needs more than one value to see, and that the program agrees with its description.
pub(crate) fn validate(program: &Program, schema: &Schema) -> Result<(), Flaw> {
    for (name, function) in &program.functions {
        Checker { function: &brief(name), visible: HashMap::new() }.function(function)?;
    }
    check_interface(program, schema)
}

/// Walks one function in the order of execution. Blocks nest at most as deep as `read` lets them.
struct Checker<'a> {
    /// The function's name as messages show it.
    function: &'a str,
    /// Values that can be read at this point. None may be defined again while it is here; blocks side by side may
    /// use one name each for themselves, as the two blocks of a `while_loop` often do.
    visible: HashMap<&'a str, &'a Type>,
}

impl<'a> Checker<'a> {
    fn function(&mut self, function: &'a Function) -> Result<(), Flaw> {
        let flaw = |reason| Flaw::new(self.function, reason);
        for input in &function.inputs {
            check_type(&input.ty, Zeros::Refused)
                .map_err(|reason| flaw(format!("input {} {reason}", quote(&input.name))))?;
        }
        for input in &function.inputs {
            self.define(input).map_err(|reason| Flaw::new(self.function, reason))?;
        }
        self.block(&function.block, self.function)
    }

    /// Checks a block of the operation or function at `owner`. What it defines is forgotten at its end.
    fn block(&mut self, block: &'a Block, owner: &str) -> Result<(), Flaw> {
        for input in &block.inputs {
            self.define(input).map_err(|reason| Flaw::new(owner, reason))?;
        }
        for op in &block.ops {
            self.op(op)?;
        }
        if block.outputs.is_empty() {
            return Err(Flaw::new(owner, "its block gives nothing back"));
        }
        if let Some(missing) = block.outputs.iter().find(|name| !self.visible.contains_key(name.as_str())) {
            return Err(Flaw::new(
                owner,
                format!("its block gives back {}, which nothing in it defines", quote(missing)),
            ));
        }
        for value in block.inputs.iter().chain(block.ops.iter().flat_map(|op| &op.outputs)) {
            self.visible.remove(value.name.as_str());
        }
        Ok(())
    }

    fn op(&mut self, op: &'a Op) -> Result<(), Flaw> {
        let place = place(self.function, &op.kind, &op.name);
        let flaw = |reason| Flaw::new(&place, reason);
        self.check_operands(op).map_err(flaw)?;
        check_blocks(op).map_err(flaw)?;
        for block in &op.blocks {
            self.block(block, &place)?;
        }
        check_outputs(op).map_err(flaw)?;
        if op.kind == "const" {
            check_const(op).map_err(flaw)?;
        }
        op.outputs.iter().try_for_each(|output| self.define(output)).map_err(flaw)
    }

    fn define(&mut self, value: &'a Named) -> Result<(), String> {
        match self.visible.insert(&value.name, &value.ty) {
            None => Ok(()),
            Some(_) => Err(format!("defines the value {}, which is defined already", quote(&value.name))),
        }
    }

    fn check_operands(&self, op: &Op) -> Result<(), String> {
        for (parameter, arguments) in &op.inputs {
            if arguments.is_empty() {
                return Err(format!("operand {} is bound to nothing", quote(parameter)));
            }
            for argument in arguments {
                let Argument::Name(name) = argument else { continue };
                let operand = || format!("operand {} reads {}", quote(parameter), quote(name));
                match self.visible.get(name.as_str()) {
                    None if op.outputs.iter().any(|output| output.name == *name) => {
                        return Err(format!("{}, which it defines itself", operand()));
                    }
                    None => return Err(format!("{}, which nothing before it defines", operand())),
                    Some(Type::State(_)) if !TAKING_STATES.contains(&op.kind.as_str()) => {
                        return Err(format!("{}, a state; only {} take one", operand(), TAKING_STATES.join(" and ")));
                    }
                    Some(ty) if parameter == "input" && TAKING_STATES.contains(&op.kind.as_str()) => {
                        if !matches!(ty, Type::State(_)) {
                            return Err(format!("{}, which is {ty} and not a state", operand()));
                        }
                    }
                    Some(_) => (),
                }
            }
        }
        Ok(())
    }
}

fn check_outputs(op: &Op) -> Result<(), String> {
    if op.outputs.is_empty() && !WITHOUT_OUTPUTS.contains(&op.kind.as_str()) {
        return Err("has no outputs".to_owned());
    }
    let zeros = if op.kind == "const" { Zeros::Allowed } else { Zeros::Refused };
    for output in &op.outputs {
        let checked = match output.ty {
            Type::State(_) => Err("is a state; only inputs of a function can be".to_owned()),
            ref ty => check_type(ty, zeros),
        };
        checked.map_err(|reason| format!("output {} {reason}", quote(&output.name)))?;
    }
    Ok(())
}

/// Nested blocks and what they take and give.
fn check_blocks(op: &Op) -> Result<(), String> {
    let outputs = op.outputs.len();
    // (inputs, outputs) of each block.
    let expected = match op.kind.as_str() {
        "cond" => vec![(0, outputs); 2],
        "while_loop" => {
            let variables = op.inputs.get("loop_vars").map_or(0, Vec::len);
            if outputs != variables {
                return Err(format!("has {variables} loop variables, but {outputs} outputs"));
            }
            vec![(variables, 1), (variables, variables)]
        }
        _ => Vec::new(),
    };
    if op.blocks.len() != expected.len() {
        return Err(format!("has {} nested blocks; expected {}", op.blocks.len(), expected.len()));
    }
    for (block, (inputs, outputs)) in op.blocks.iter().zip(expected) {
        let found = (block.inputs.len(), block.outputs.len());
        if found != (inputs, outputs) {
            return Err(format!(
                "a nested block takes {} and gives {} values; expected {inputs} and {outputs}",
                found.0, found.1
            ));
        }
    }
    Ok(())
}

fn check_const(op: &Op) -> Result<(), String> {
    let value = op.attributes.get("val").ok_or("has no value (attribute \"val\")")?;
    let [output] = &op.outputs[..] else { return Err(format!("has {} outputs; expected 1", op.outputs.len())) };
    let (agrees, found) = match (value, &output.ty) {
        (Value::Tensor(tensor), Type::Tensor(ty)) => (
            ty.dtype == tensor.dtype() && ty.fixed().as_deref() == Some(tensor.shape()),
            format!("a tensor of {} {:?}", tensor.dtype(), tensor.shape()),
        ),
        (Value::List(items), Type::List(_, length)) => {
            (length.is_none_or(|length| length == items.len()), format!("a list of {}", items.len()))
        }
        (Value::Tuple(items), Type::Tuple(types)) => {
            (items.len() == types.len(), format!("a tuple of {}", items.len()))
        }
        (Value::Dictionary(_), Type::Dictionary(..)) => (true, String::new()),
        _ => (false, "of another kind".to_owned()),
    };
    if agrees { Ok(()) } else { Err(format!("its output is declared as {}, but its value is {found}", output.ty)) }
}

/// Whether a dimension may have the size 0.
#[derive(Clone, Copy)]
enum Zeros {
    Allowed,
    Refused,
}

/// Checks that values of a type can exist: no dimension 0, and a size in bytes that fits in the address space.
fn check_type(ty: &Type, zeros: Zeros) -> Result<(), String> {
    match ty {
        Type::Tensor(tensor) => {
            let mut count = 1usize;
            for dim in tensor.dims.iter().flatten() {
                match dim {
                    Dim::Unknown => (),
                    Dim::Fixed(0) if matches!(zeros, Zeros::Refused) => {
                        return Err(format!("is {ty}, which has a dimension of size 0"));
                    }
                    Dim::Fixed(size) => {
                        count = count.checked_mul(*size).ok_or_else(|| format!("is {ty}, which is too large"))?;
                    }
                }
            }
            match tensor.dtype.bytes(count) {
                Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
                _ => Err(format!("is {ty}, which is too large")),
            }
        }
        Type::List(inner, _) | Type::State(inner) => check_type(inner, zeros),
        Type::Tuple(items) => items.iter().try_for_each(|item| check_type(item, zeros)),
        Type::Dictionary(key, value) => check_type(key, zeros).and_then(|()| check_type(value, zeros)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        DType, Tensor,
        mil::{Opset, TensorType},
    };

    fn ty(dims: &[usize]) -> Type {
        Type::Tensor(TensorType {
            dtype: DType::Float32,
            dims: Some(dims.iter().map(|&size| Dim::Fixed(size)).collect()),
        })
    }

    fn named(name: &str) -> Named {
        Named { name: name.to_owned(), ty: ty(&[2]) }
    }

    /// `y = relu(x)`: outputs, kind and the arguments of `x`, by names.
    fn op(text: &str) -> Op {
        let (outputs, call) = text.split_once('=').unwrap();
        let (kind, arguments) = call.trim().trim_end_matches(')').split_once('(').unwrap();
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let arguments: Vec<Argument> = names(arguments).into_iter().map(Argument::Name).collect();
        let parameter = if kind == "while_loop" { "loop_vars" } else { "x" };
        let inputs = if arguments.is_empty() { BTreeMap::new() } else { [(parameter.to_owned(), arguments)].into() };
        let outputs: Vec<Named> = names(outputs).iter().map(|name| named(name)).collect();
        let name = outputs.first().map_or(String::new(), |output| output.name.clone());
        Op { kind: kind.to_owned(), name, inputs, outputs, blocks: Vec::new(), attributes: BTreeMap::new() }
    }

    fn block(inputs: &[&str], ops: Vec<Op>, outputs: &[&str]) -> Block {
        let inputs = inputs.iter().map(|name| named(name)).collect();
        Block { inputs, outputs: outputs.iter().map(|&name| name.to_owned()).collect(), ops }
    }

    /// Checks a function of the input `x`.
    fn check(block: Block, expected: &str) {
        let function = Function { inputs: vec![named("x")], opset: Opset::IOS16, block };
        let mut checker = Checker { function: "main", visible: HashMap::new() };
        let shown = match checker.function(&function) {
            Ok(()) => "ok".to_owned(),
            Err(flaw) => format!("{}: {}", flaw.place, flaw.reason),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn check_ops(ops: &[&str], outputs: &[&str], expected: &str) {
        check(block(&[], ops.iter().map(|text| op(text)).collect(), outputs), expected);
    }

    #[test]
    fn names() {
        check_ops(&["y = relu(x)"], &["y"], "ok");
        check_ops(&["y = relu(y)"], &["y"], "main: relu \"y\": operand \"x\" reads \"y\", which it defines itself");
        check_ops(&["y = relu(z)", "z = relu(x)"], &["y"], "reads \"z\", which nothing before it defines");
        check_ops(&["y = relu(x)", "y = relu(x)"], &["y"], "defines the value \"y\", which is defined already");
        check_ops(&["x = relu(x)"], &["x"], "is defined already");
        check_ops(&["= relu(x)"], &["x"], "main: relu \"\": has no outputs");
        check_ops(&["y = relu(x)"], &[], "main: its block gives nothing back");
        check_ops(&["y = relu(x)"], &["z"], "gives back \"z\"");
        check_ops(&["y = read_state(x)"], &["y"], "ok");
    }

    #[test]
    fn constants() {
        let constant = |shape: &[usize], bytes: usize| {
            let tensor = Tensor::new(DType::Float32, shape.to_vec(), vec![0; bytes].into()).unwrap();
            let attributes = [("val".to_owned(), Value::Tensor(tensor))].into();
            block(&[], vec![Op { attributes, ..op("c = const()") }], &["c"])
        };
        check(constant(&[2], 8), "ok");
        check(constant(&[1, 2], 8), "declared as tensor<fp32, [2]>, but its value is a tensor of fp32 [1, 2]");
        check_ops(&["c = const()"], &["c"], "has no value");
    }

    #[test]
    fn nested_blocks() {
        let with_blocks = |text: &str, blocks: Vec<Block>| block(&[], vec![Op { blocks, ..op(text) }], &["y"]);
        let branch = |name: &str| block(&[], vec![op(&format!("{name} = relu(x)"))], &[name]);
        check(with_blocks("y = cond(x)", vec![branch("a"), branch("b")]), "ok");
        check(with_blocks("y = cond(x)", vec![branch("a"), branch("a")]), "ok");
        check(with_blocks("y = cond(x)", vec![branch("a"), branch("x")]), "defined already");
        check(with_blocks("y = cond(x)", vec![branch("a")]), "has 1 nested blocks; expected 2");
        check(
            with_blocks("y z = cond(x)", vec![branch("a"), branch("b")]),
            "takes 0 and gives 1 values; expected 0 and 2",
        );
        check(with_blocks("y = relu(x)", vec![branch("a")]), "has 1 nested blocks; expected 0");

        let condition = block(&["i"], vec![op("c = less(i x)")], &["c"]);
        let body = block(&["j"], vec![op("k = add(j x)")], &["k"]);
        check(with_blocks("y = while_loop(x)", vec![condition.clone(), body.clone()]), "ok");
        check(with_blocks("y z = while_loop(x)", vec![condition, body]), "has 1 loop variables, but 2 outputs");

        let mut leak = with_blocks("y = cond(x)", vec![branch("a"), branch("b")]);
        leak.ops.push(op("z = relu(a)"));
        check(leak, "reads \"a\", which nothing before it defines");
    }

    #[test]
    fn types() {
        let with = |dims: &[usize]| check_type(&ty(dims), Zeros::Refused);
        assert!(with(&[1, 3]).is_ok() && with(&[]).is_ok());
        assert!(with(&[1, 0]).unwrap_err().contains("size 0"));
        assert!(with(&[1 << 33, 1 << 33]).unwrap_err().contains("too large"));
        assert!(with(&[1 << 61]).unwrap_err().contains("too large"));
    }

    #[test]
    fn states_are_read_by_their_own_operations() {
        let state = || Named { name: "s".to_owned(), ty: Type::State(Box::new(ty(&[2]))) };
        for (text, expected) in
            [("y = read_state(s)", "ok"), ("y = relu(s)", "a state; only read_state and write_state")]
        {
            let function =
                Function { inputs: vec![state()], opset: Opset::IOS18, block: block(&[], vec![op(text)], &["y"]) };
            let mut checker = Checker { function: "main", visible: HashMap::new() };
            let shown = checker.function(&function).map_or_else(|flaw| flaw.reason, |()| "ok".to_owned());
            assert!(shown.contains(expected), "{shown}");
        }
    }
}
