//! Recurrent networks.

use std::sync::Arc;

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{Activation, Element, OnnxBuilder, Recurrent, Source, Value};

pub(super) const OPS: &[Lowering] = &[Lowering { mil: "lstm", run: lstm }];

/// Where each of ONNX's gates (input, output, forget, cell) stands among MIL's (input, forget, output, cell).
const LSTM_GATES: [usize; 4] = [0, 2, 1, 3];
/// The same for peepholes: ONNX has (input, output, forget), MIL (input, forget, output).
const PEEPHOLES: [usize; 3] = [0, 2, 1];

fn lstm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, initial_h, initial_c) = (op.value("x")?, op.value("initial_h")?, op.value("initial_c")?);
    let direction = direction(&op.string_or("direction", "forward")?)?;
    let sides: &[&str] = if direction == "bidirectional" { &["", "_back"] } else { &[""] };
    let hidden = op.source("weight_hh")?.shape().get(1).copied().ok_or("weight_hh must be a matrix")?;
    let w = stacked(op, onnx, "weight_ih", sides, &LSTM_GATES, hidden)?.ok_or("operand weight_ih is missing")?;
    let r = stacked(op, onnx, "weight_hh", sides, &LSTM_GATES, hidden)?.ok_or("operand weight_hh is missing")?;
    let bias = stacked(op, onnx, "bias", sides, &LSTM_GATES, hidden)?;
    let peephole = stacked(op, onnx, "peephole", sides, &PEEPHOLES, hidden)?;
    let gates = activation(&op.string_or("recurrent_activation", "sigmoid")?)?;
    let cell = activation(&op.string_or("cell_activation", "tanh")?)?;
    let out = activation(&op.string_or("activation", "tanh")?)?;
    let clip = op.maybe_source("clip")?.and_then(|source| source.f32s().first().copied());
    let sequence = op.bool_or("output_sequence", false)?;

    let n = sides.len();
    let (h, c) = (by_direction(onnx, &initial_h, n, hidden), by_direction(onnx, &initial_c, n, hidden));
    let bias = bias.map(|bias| with_zero_half(onnx, &bias));
    let net = Recurrent {
        x: &x,
        w: &w,
        r: &r,
        b: bias.as_ref(),
        initial: vec![&h, &c],
        peephole: peephole.as_ref(),
        hidden: hidden as i64,
        direction,
        activations: std::iter::repeat_n([gates, cell, out], n).flatten().collect(),
        clip,
    };
    let results = onnx.recurrent("LSTM", &net, false);
    let [all, last_h, last_c] = &results[..] else { return Err("it must have three results".into()) };
    let (last_h, last_c) = (by_batch(onnx, last_h, n, hidden), by_batch(onnx, last_c, n, hidden));
    let all = if sequence { all_steps(onnx, all, direction, hidden) } else { onnx.unsqueeze(&last_h, &[0]) };
    Ok(vec![all, last_h, last_c])
}

fn direction(name: &str) -> Result<&'static str, Fault> {
    match name {
        "forward" => Ok("forward"),
        "reverse" => Ok("reverse"),
        "bidirectional" => Ok("bidirectional"),
        other => Err(format!("direction {other:?} is not known").into()),
    }
}

/// Parameters of `scaled_tanh` are those of coremltools 9.0's tests; `hard_sigmoid`'s are Core ML's defaults.
fn activation(name: &str) -> Result<Activation, Fault> {
    let (name, alpha, beta) = match name {
        "sigmoid" => ("Sigmoid", None, None),
        "tanh" => ("Tanh", None, None),
        "relu" => ("Relu", None, None),
        "linear" => ("Affine", Some(1.0), Some(0.0)),
        "hard_sigmoid" | "sigmoid_hard" => ("HardSigmoid", Some(0.2), Some(0.5)),
        "scaled_tanh" => ("ScaledTanh", Some(1.7159), Some(2.0 / 3.0)),
        other => return Err(format!("activation {other:?} is not known").into()),
    };
    Ok(Activation { name, alpha, beta })
}

/// A parameter of each direction, gates in ONNX's order, under a leading axis of directions.
fn stacked(
    op: &OpReader<'_>,
    onnx: &mut OnnxBuilder,
    parameter: &str,
    sides: &[&str],
    gates: &[usize],
    hidden: usize,
) -> Result<Option<Value>, Fault> {
    let Some(first) = op.maybe_source(parameter)? else { return Ok(None) };
    let shape = first.shape();
    if shape.first() != Some(&(gates.len() * hidden)) {
        return Err(format!("{parameter} has shape {shape:?}, expected {} rows", gates.len() * hidden).into());
    }
    let mut values = Vec::new();
    for side in sides {
        let name = format!("{parameter}{side}");
        let source = op.maybe_source(&name)?;
        if source.as_ref().is_some_and(|s| s.shape() != shape) {
            return Err(format!("{name} must have the shape of {parameter}, {shape:?}").into());
        }
        let all = source.map_or_else(|| vec![0.0; shape.iter().product()], |s| s.f32s());
        let gate = all.len() / gates.len();
        values.extend(gates.iter().flat_map(|&g| all[g * gate..(g + 1) * gate].iter().copied()));
    }
    let mut stacked = vec![sides.len()];
    stacked.extend(shape);
    let name = op.outputs().first().map_or(String::new(), |out| format!("{}.{parameter}", out.name));
    Ok(Some(onnx.weight(&name, Element::F32, Arc::new(Source::floats(stacked, values)))))
}

/// ONNX adds two biases, of input and of recurrence; MIL has their sum.
fn with_zero_half(onnx: &mut OnnxBuilder, bias: &Value) -> Value {
    let source = bias.constant().expect("made from constants");
    let (shape, values) = (source.shape(), source.f32s());
    let n = shape[1];
    let padded = values.chunks(n).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, n))).collect();
    onnx.floats(&[shape[0], 2 * n], padded)
}

/// (batch, directions * hidden) to (directions, batch, hidden).
fn by_direction(onnx: &mut OnnxBuilder, x: &Value, directions: usize, hidden: usize) -> Value {
    if directions == 1 {
        return onnx.unsqueeze(x, &[0]);
    }
    let split = onnx.reshape(x, &[-1, directions as i64, hidden as i64]);
    onnx.transpose(&split, &[1, 0, 2])
}

/// (directions, batch, hidden) to (batch, directions * hidden).
fn by_batch(onnx: &mut OnnxBuilder, x: &Value, directions: usize, hidden: usize) -> Value {
    if directions == 1 {
        return onnx.squeeze(x, &[0]);
    }
    let turned = onnx.transpose(x, &[1, 0, 2]);
    onnx.reshape(&turned, &[-1, (directions * hidden) as i64])
}

/// (steps, directions, batch, hidden) to (steps, batch, directions * hidden). What runs in reverse alone stays in the
/// order in which it ran, where ONNX has the order of the inputs (coremltools 9.0's tests of `lstm`).
fn all_steps(onnx: &mut OnnxBuilder, x: &Value, direction: &str, hidden: usize) -> Value {
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    if directions == 1 {
        let steps = onnx.squeeze(x, &[1]);
        return if direction == "reverse" { onnx.reversed(&steps, &[0]) } else { steps };
    }
    let turned = onnx.transpose(x, &[0, 2, 1, 3]);
    let shape = onnx.ints(&[0, 0, (directions * hidden) as i64]);
    onnx.reshape_to(&turned, &shape, true)
}
