//! Operations that need more than their operands: constants, blocks, states and the classifier's head.

use std::sync::Arc;

use coreml_format::{
    DType, Tensor,
    mil::{self, Block, Op},
};

use super::{
    Fault,
    list::carried,
    program::{Lowerer, labels_of, typed},
    reader::{Entry, OpReader},
};
use crate::onnx::{Element, Source, Value};

/// What this file lowers, sorted.
pub(super) const OPS: &[&str] = &["classify", "cond", "const", "read_state", "while_loop", "write_state"];

pub(super) fn lower<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), (&'a Op, Fault)> {
    let done = match op.kind.as_str() {
        "classify" => classify(to, op),
        "cond" => return cond(to, op),
        "const" => constant(to, op),
        "read_state" => read_state(to, op),
        "while_loop" => return while_loop(to, op),
        "write_state" => write_state(to, op),
        kind => Err(format!("{kind} is not control flow").into()),
    };
    done.map_err(|fault| (op, fault))
}

fn constant<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), Fault> {
    let (Some(value), Some(out)) = (op.attributes.get("val"), op.outputs.first()) else {
        return Err("a constant needs the attribute val and one result".into());
    };
    let entry = match value {
        mil::Value::Tensor(tensor) => match Element::carrier(tensor.dtype()) {
            Some(element) => {
                let tensor = if to.round_to_fp16 { halves(tensor) } else { tensor.clone() };
                let half = tensor.dtype() == DType::Float16;
                let weight = to.onnx.weight(&out.name, element, Arc::new(Source::Stored(tensor)));
                Entry::Value(weight.with_half(half))
            }
            None => Entry::Constant(value),
        },
        _ => Entry::Constant(value),
    };
    to.scope.insert(&out.name, entry);
    Ok(())
}

/// A constant as a program in fp16 has it.
fn halves(tensor: &Tensor) -> Tensor {
    if tensor.dtype() != DType::Float32 {
        return tensor.clone();
    }
    let numbers = tensor.bytes().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    half_tensor(tensor.shape().to_vec(), numbers)
}

/// A tensor of numbers that are rounded to fp16, as many as the shape has.
pub(super) fn half_tensor(shape: Vec<usize>, numbers: impl Iterator<Item = f32>) -> Tensor {
    let halves: Vec<u8> = numbers.flat_map(|number| half::f16::from_f32(number).to_le_bytes()).collect();
    Tensor::new(DType::Float16, shape, halves.into()).expect("as many elements as before")
}

fn classify<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), Fault> {
    let reader = OpReader::new(op, to.opset, &to.scope, &mut to.onnx);
    let scores = reader.value("probabilities")?;
    let classes = reader.constant("classes")?.ok_or_else(|| Fault::from("operand classes is missing"))?;
    reader.finish()?;
    let labels = labels_of(classes).ok_or_else(|| Fault::from("operand classes must hold strings or integers"))?;
    if let Some(shape) = scores.shape()
        && shape.iter().product::<usize>() != labels.len()
    {
        return Err(format!("{} labels for {} scores", labels.len(), shape.iter().product::<usize>()).into());
    }
    let [label, probabilities] = &op.outputs[..] else { return Err("it must have two results".into()) };
    to.scope.insert(&label.name, Entry::Label(scores.clone(), labels.clone()));
    to.scope.insert(&probabilities.name, Entry::Probabilities(scores, labels));
    Ok(())
}

fn state_index<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<usize, Fault> {
    let reader = OpReader::new(op, to.opset, &to.scope, &mut to.onnx);
    match reader.entry("input")? {
        Entry::State(index) => Ok(*index),
        _ => Err("operand input must be a state".into()),
    }
}

fn read_state<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), Fault> {
    let index = state_index(to, op)?;
    let out = op.outputs.first().ok_or_else(|| Fault::from("it must have one result"))?;
    to.scope.insert(&out.name, Entry::Value(to.states[index].value.clone()));
    Ok(())
}

fn write_state<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), Fault> {
    let index = state_index(to, op)?;
    if to.depth > 0 {
        return Err("a state can only be written outside of loops and branches".into());
    }
    let reader = OpReader::new(op, to.opset, &to.scope, &mut to.onnx);
    let data = reader.value("data")?;
    let state = &mut to.states[index];
    let (Some(new), Some(old)) = (data.shape(), state.value.shape()) else {
        return Err("a state needs a fixed shape".into());
    };
    if new != old {
        return Err(format!("it writes a tensor of shape {new:?} to a state of shape {old:?}").into());
    }
    state.value = data;
    state.written = true;
    Ok(())
}

/// Lowers a block into an open graph and gives its results.
fn inside<'a>(to: &mut Lowerer<'a>, owner: &'a Op, block: &'a Block) -> Result<Vec<Value>, (&'a Op, Fault)> {
    to.depth += 1;
    let done = to.block(block);
    to.depth -= 1;
    // The nested operation is named in the text already.
    done.map_err(|error| (owner, Fault(format!("in its block: {error}"))))?;
    let one = |name: &String| match to.scope.get(name.as_str()) {
        Some(Entry::Value(value)) => Ok(value.clone()),
        _ => Err((owner, Fault(format!("its block does not give a tensor {name:?}")))),
    };
    block.outputs.iter().map(one).collect()
}

fn cond<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), (&'a Op, Fault)> {
    let at = |fault: Fault| (op, fault);
    let [then, otherwise] = &op.blocks[..] else { return Err(at("it must have two blocks".into())) };
    let reader = OpReader::new(op, to.opset, &to.scope, &mut to.onnx);
    let condition = reader.value("pred").map_err(at)?;
    let rank = condition.dims().map(<[_]>::len);
    to.onnx.begin(&op.name);
    // ONNX wants a scalar or one element; MIL gives either.
    let condition = if rank.unwrap_or(0) > 1 { to.onnx.reshape(&condition, &[1]) } else { condition };
    let condition = to.onnx.cast(&condition, Element::Bool);
    let mut graphs = Vec::new();
    for (block, name) in [(then, "then"), (otherwise, "else")] {
        to.onnx.open_graph();
        let results = inside(to, op, block)?;
        if results.len() != op.outputs.len() {
            return Err(at(
                format!("a block gives {} values, and {} are declared", results.len(), op.outputs.len()).into()
            ));
        }
        let mut carried = Vec::with_capacity(results.len());
        for (value, out) in results.iter().zip(&op.outputs) {
            carried.push(to.onnx.cast(value, carrier(out).map_err(at)?));
        }
        graphs.push(to.onnx.close_graph(&format!("{}/{name}", op.name), &[], &carried));
    }
    let elements: Vec<Element> = op.outputs.iter().map(carrier).collect::<Result<_, _>>().map_err(at)?;
    let (otherwise, then) = (graphs.pop().expect("two graphs"), graphs.pop().expect("two graphs"));
    to.onnx.begin(&op.name);
    let results = to.onnx.if_(&condition, then, otherwise, &elements);
    define(to, op, results);
    Ok(())
}

fn while_loop<'a>(to: &mut Lowerer<'a>, op: &'a Op) -> Result<(), (&'a Op, Fault)> {
    let at = |fault: Fault| (op, fault);
    let [test, body] = &op.blocks[..] else { return Err(at("it must have two blocks".into())) };
    let reader = OpReader::new(op, to.opset, &to.scope, &mut to.onnx);
    let start = reader.values("loop_vars").map_err(at)?;
    if start.len() != test.inputs.len() || start.len() != body.inputs.len() || start.len() != op.outputs.len() {
        return Err(at("its blocks and results must have as many values as loop_vars".into()));
    }
    let condition = tested(to, op, test, &start)?;

    to.onnx.open_graph();
    to.depth += 1;
    let iteration = to.onnx.graph_input("iteration", Element::I64, Some(Vec::new()));
    let going_on = to.onnx.graph_input("condition", Element::Bool, Some(Vec::new()));
    let mut inputs = vec![iteration, going_on];
    for (input, value) in body.inputs.iter().zip(&start) {
        let dims = carried(&input.ty).and_then(|t| t.dims);
        let variable = typed(to.onnx.graph_input(&input.name, value.element(), dims), &input.ty);
        to.scope.insert(&input.name, Entry::Value(variable.clone()));
        inputs.push(variable);
    }
    let next = inside(to, op, body)?;
    let mut carried = Vec::with_capacity(next.len());
    for (value, first) in next.iter().zip(&start) {
        carried.push(to.onnx.cast(value, first.element()).with_dims(value.dims().map(<[_]>::to_vec)));
    }
    if carried.len() != start.len() {
        return Err(at("its body must give as many values as loop_vars".into()));
    }
    let mut results = vec![tested(to, op, test, &carried)?];
    results.extend(carried);
    to.depth -= 1;
    let graph = to.onnx.close_graph(&format!("{}/body", op.name), &inputs, &results);
    to.onnx.begin(&op.name);
    let results = to.onnx.loop_(&condition, &start, graph);
    define(to, op, results);
    Ok(())
}

/// The loop's test on these variables, as a scalar.
fn tested<'a>(
    to: &mut Lowerer<'a>,
    op: &'a Op,
    test: &'a Block,
    variables: &[Value],
) -> Result<Value, (&'a Op, Fault)> {
    for (input, value) in test.inputs.iter().zip(variables) {
        to.scope.insert(&input.name, Entry::Value(value.clone()));
    }
    let results = inside(to, op, test)?;
    let [condition] = &results[..] else { return Err((op, "its condition must give one value".into())) };
    let condition = to.onnx.cast(condition, Element::Bool);
    let rank = condition.dims().map(<[_]>::len);
    Ok(if rank == Some(0) { condition } else { to.onnx.reshape(&condition, &[]) })
}

fn carrier(out: &mil::Named) -> Result<Element, Fault> {
    carried(&out.ty)
        .and_then(|t| Element::carrier(t.dtype))
        .ok_or_else(|| format!("result {:?} is not a tensor of numbers", out.name).into())
}

fn define<'a>(to: &mut Lowerer<'a>, op: &'a Op, results: Vec<Value>) {
    let names: Vec<&str> = op.outputs.iter().map(|out| out.name.as_str()).collect();
    let results = to.onnx.end(results, &names);
    for (out, value) in op.outputs.iter().zip(results) {
        to.scope.insert(&out.name, Entry::Value(typed(value, &out.ty)));
    }
}
