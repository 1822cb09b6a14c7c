//! Recurrent networks.

use std::{ops::Range, sync::Arc};

use coreml_format::mil::Dim;

use super::{
    Fault, Lowering, OpReader, Results,
    activation::{alpha_tanh_beta_x, alpha_x_plus_beta},
};
use crate::onnx::{Activation, Element, OnnxBuilder, Recurrent, Source, Value};

pub(super) const OPS: &[Lowering] =
    &[Lowering { mil: "gru", run: gru }, Lowering { mil: "lstm", run: lstm }, Lowering { mil: "rnn", run: rnn }];

/// Where each of ONNX's gates (input, output, forget, cell) stands among MIL's (input, forget, output, cell).
const LSTM_GATES: [usize; 4] = [0, 2, 1, 3];
/// The same for peepholes: ONNX has (input, output, forget), MIL (input, forget, output).
const PEEPHOLES: [usize; 3] = [0, 2, 1];
/// Where each of ONNX's gates (update, reset, hidden) stands among MIL's (reset, output, update).
const GRU_GATES: [usize; 3] = [2, 0, 1];

fn lstm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, initial_h, initial_c) = (op.value("x")?, op.value("initial_h")?, op.value("initial_c")?);
    let direction = direction(&op.string_or("direction", "forward")?)?;
    let sides: &[&str] = if direction == "bidirectional" { &["", "_back"] } else { &[""] };
    let hidden = hidden(op)?;
    let gates = activation(&op.string_or("recurrent_activation", "sigmoid")?)?;
    let cell = activation(&op.string_or("cell_activation", "tanh")?)?;
    let out = activation(&op.string_or("activation", "tanh")?)?;
    let clip = op.maybe_source("clip")?.and_then(|source| source.f32s().first().copied());
    let sequence = op.bool_or("output_sequence", false)?;
    let w = stacked(op, onnx, "weight_ih", sides, &LSTM_GATES, hidden)?.ok_or("operand weight_ih is missing")?;
    let r = stacked(op, onnx, "weight_hh", sides, &LSTM_GATES, hidden)?.ok_or("operand weight_hh is missing")?;
    let bias = stacked(op, onnx, "bias", sides, &LSTM_GATES, hidden)?;
    let peephole = stacked(op, onnx, "peephole", sides, &PEEPHOLES, hidden)?;
    let activations = [gates, cell, out];

    let n = sides.len();
    let [initial_h, initial_c] = [initial_h, initial_c].map(|states| match (states.dims(), x.dims()) {
        (Some([Dim::Unknown, _]), Some(&[_, batch, _])) => of_batch(onnx, &states, batch, 0),
        _ => states,
    });
    let (h, c) = (by_direction(onnx, &initial_h, n, hidden), by_direction(onnx, &initial_c, n, hidden));
    let weights = Weights { w: &w, r: &r, bias: bias.as_ref(), peephole: peephole.as_ref(), hidden };
    let [all, last_h, last_c] = lstm_net(onnx, &x, &weights, [&h, &c], direction, activations, clip)?;
    let (last_h, last_c) = (by_batch(onnx, &last_h, n, hidden), by_batch(onnx, &last_c, n, hidden));
    let all = if sequence { all_steps(onnx, &all, direction, hidden) } else { onnx.unsqueeze(&last_h, &[0]) };
    Ok(vec![all, last_h, last_c])
}

/// Of states for a number of samples that is known at run time only, those of the samples that there are. coremltools
/// takes the first length of packed sequences for the number, which may be more, and Core ML takes what it needs.
pub(crate) fn of_batch(onnx: &mut OnnxBuilder, states: &Value, batch: Dim, along: i64) -> Value {
    match batch {
        Dim::Fixed(batch) => onnx.slice(states, &[0], &[i64::try_from(batch).unwrap_or(i64::MAX)], &[along], &[1]),
        Dim::Unknown => states.clone(),
    }
}

/// An LSTM: all hidden states, the last ones and the last cells, as ONNX's operator gives them. `clip` limits the cell.
pub(crate) fn lstm_net(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    [h, c]: [&Value; 2],
    direction: &'static str,
    activations: [Activation; 3],
    clip: Option<f32>,
) -> Result<[Value; 3], Fault> {
    let plain = activations.map(|a| a.name) == ["Sigmoid", "Tanh", "Tanh"] && weights.peephole.is_none();
    // ONNX clips what goes into activations, where Core ML clips the cell.
    if clip.is_some() || (onnx.is_plain() && !plain) {
        return Ok(lstm_steps(onnx, x, weights, [h, c], direction, activations, clip));
    }
    let bias = weights.bias.map(|bias| with_zero_half(onnx, bias));
    let net = Recurrent {
        x,
        w: weights.w,
        r: weights.r,
        b: bias.as_ref(),
        initial: vec![h, c],
        peephole: weights.peephole,
        hidden: weights.hidden as i64,
        direction,
        activations: std::iter::repeat_n(activations, ways(direction).len()).flatten().collect(),
        clip: None,
    };
    let results = onnx.recurrent("LSTM", &net, false);
    Ok(<[Value; 3]>::try_from(results).map_err(|_| "it must have three results")?)
}

/// The default applies the reset gate to the state, `reset_after` to its product; bias is that of the recurrence
/// (coremltools 9.0's tests of `gru`; its documentation has the formula of `reset_after`).
fn gru(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, initial_h) = (op.value("x")?, op.value("initial_h")?);
    let direction = one_way(op)?;
    let hidden = hidden(op)?;
    let gates = activation(&op.string_or("recurrent_activation", "sigmoid")?)?;
    let out = activation(&op.string_or("activation", "tanh")?)?;
    let (after, sequence) = (op.bool_or("reset_after", false)?, op.bool_or("output_sequence", false)?);
    let side = &[""];
    let w = stacked(op, onnx, "weight_ih", side, &GRU_GATES, hidden)?.ok_or("operand weight_ih is missing")?;
    let r = stacked(op, onnx, "weight_hh", side, &GRU_GATES, hidden)?.ok_or("operand weight_hh is missing")?;
    let bias = stacked(op, onnx, "bias", side, &GRU_GATES, hidden)?;
    let input_bias = stacked(op, onnx, "input_bias", side, &GRU_GATES, hidden)?;
    let zeros = |onnx: &mut OnnxBuilder| onnx.floats(&[1, 3 * hidden], vec![0.0; 3 * hidden]);
    let both = match (input_bias, bias) {
        (None, None) => None,
        (input, recurrent) => {
            let [input, recurrent] = [input, recurrent].map(|bias| bias.unwrap_or_else(|| zeros(onnx)));
            Some((input, recurrent))
        }
    };
    let h = onnx.unsqueeze(&initial_h, &[0]);
    let (bias, recurrent_bias) = both.unzip();
    let weights = Weights { w: &w, r: &r, bias: bias.as_ref(), peephole: None, hidden };
    let [all, last] = gru_net(onnx, &x, &weights, recurrent_bias.as_ref(), &h, direction, ([gates, out], after))?;
    last_or_all(onnx, &all, &last, direction, hidden, sequence)
}

/// A GRU: all hidden states and the last one, as ONNX's operator gives them. There are both biases or none.
pub(crate) fn gru_net(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    recurrent_bias: Option<&Value>,
    h: &Value,
    direction: &'static str,
    ([gate, out], reset_after): ([Activation; 2], bool),
) -> Result<[Value; 2], Fault> {
    let usual = [gate.name, out.name] == ["Sigmoid", "Tanh"];
    if onnx.is_plain() && !(reset_after && usual) {
        return Ok(gru_steps(onnx, x, weights, recurrent_bias, h, direction, ([gate, out], reset_after)));
    }
    let biases: Vec<Value> = weights.bias.into_iter().chain(recurrent_bias).cloned().collect();
    let bias = (biases.len() == 2).then(|| onnx.concat(&biases, 1));
    one_way_net(onnx, "GRU", (x, weights.w, weights.r, bias.as_ref(), h), direction, vec![gate, out], reset_after)
}

/// A simple network: all hidden states and the last one, as ONNX's operator gives them.
pub(crate) fn rnn_net(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    h: &Value,
    direction: &'static str,
    activation: Activation,
) -> Result<[Value; 2], Fault> {
    if onnx.is_plain() {
        return Ok(rnn_steps(onnx, x, weights, h, direction, activation));
    }
    let bias = weights.bias.map(|bias| with_zero_half(onnx, bias));
    one_way_net(onnx, "RNN", (x, weights.w, weights.r, bias.as_ref(), h), direction, vec![activation], false)
}

fn rnn(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, initial_h) = (op.value("x")?, op.value("initial_h")?);
    let direction = one_way(op)?;
    let hidden = hidden(op)?;
    let act = activation(&op.string_or("activation", "tanh")?)?;
    let sequence = op.bool_or("output_sequence", false)?;
    let side = &[""];
    let w = stacked(op, onnx, "weight_ih", side, &[0], hidden)?.ok_or("operand weight_ih is missing")?;
    let r = stacked(op, onnx, "weight_hh", side, &[0], hidden)?.ok_or("operand weight_hh is missing")?;
    let bias = stacked(op, onnx, "bias", side, &[0], hidden)?;
    let h = onnx.unsqueeze(&initial_h, &[0]);
    let weights = Weights { w: &w, r: &r, bias: bias.as_ref(), peephole: None, hidden };
    let [all, last] = rnn_net(onnx, &x, &weights, &h, direction, act)?;
    last_or_all(onnx, &all, &last, direction, hidden, sequence)
}

fn hidden(op: &OpReader<'_>) -> Result<usize, Fault> {
    Ok(op.source("weight_hh")?.shape().get(1).copied().ok_or("weight_hh must be a matrix")?)
}

fn one_way(op: &OpReader<'_>) -> Result<&'static str, Fault> {
    match direction(&op.string_or("direction", "forward")?)? {
        "bidirectional" => Err("direction must be forward or reverse".into()),
        one => Ok(one),
    }
}

/// A `GRU` or an `RNN`: all hidden states, and the last one.
fn one_way_net(
    onnx: &mut OnnxBuilder,
    op_type: &'static str,
    (x, w, r, bias, h): (&Value, &Value, &Value, Option<&Value>, &Value),
    direction: &'static str,
    activations: Vec<Activation>,
    reset_after: bool,
) -> Result<[Value; 2], Fault> {
    let hidden = r.shape().and_then(|shape| shape.last().copied()).ok_or("weight_hh must be a matrix")? as i64;
    let initial = vec![h];
    let net = Recurrent { x, w, r, b: bias, initial, peephole: None, hidden, direction, activations, clip: None };
    let results = onnx.recurrent(op_type, &net, reset_after);
    Ok(<[Value; 2]>::try_from(results).map_err(|_| "it must have two results")?)
}

fn last_or_all(
    onnx: &mut OnnxBuilder,
    all: &Value,
    last: &Value,
    direction: &str,
    hidden: usize,
    sequence: bool,
) -> Results {
    let last = onnx.squeeze(last, &[0]);
    let all = if sequence { all_steps(onnx, all, direction, hidden) } else { onnx.unsqueeze(&last, &[0]) };
    Ok(vec![all, last])
}

/// Weights of all directions, gates in ONNX's order.
pub(crate) struct Weights<'a> {
    /// (directions, gates * hidden, inputs)
    pub(crate) w: &'a Value,
    /// (directions, gates * hidden, hidden)
    pub(crate) r: &'a Value,
    /// (directions, gates * hidden)
    pub(crate) bias: Option<&'a Value>,
    /// (directions, 3 * hidden)
    pub(crate) peephole: Option<&'a Value>,
    pub(crate) hidden: usize,
}

/// Some gates of one direction, counted in ONNX's order; a matrix is turned. Constants, so that no node has to cut them.
fn part(onnx: &mut OnnxBuilder, weights: &Value, side: usize, hidden: usize, gates: Range<usize>) -> Value {
    let source = weights.constant().expect("made from constants");
    let (shape, all) = (source.shape(), source.f32s());
    let row = shape[2..].iter().product::<usize>();
    let first = (side * shape[1] + gates.start * hidden) * row;
    let rows = gates.len() * hidden;
    let values = all[first..first + rows * row].to_vec();
    let one = Source::floats([&[rows], &shape[2..]].concat(), values);
    let one = if shape.len() == 3 { Source::Permuted { source: Arc::new(one), perm: vec![1, 0] } } else { one };
    onnx.weight(&format!("{}.{side}", weights.name()), Element::F32, Arc::new(one))
}

/// The `side`-th of `values`, without their first axis.
fn of_side(onnx: &mut OnnxBuilder, values: &Value, side: usize) -> Value {
    let side = onnx.int(side as i64);
    onnx.gather(values, &side, 0)
}

/// An LSTM step by step, for what the operator does not do. As the operator's: all hidden states, the last ones, and the
/// last cells. `clip` limits the cell.
fn lstm_steps(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    [h, c]: [&Value; 2],
    direction: &str,
    [gate, cell, out]: [Activation; 3],
    clip: Option<f32>,
) -> [Value; 3] {
    let width = [weights.hidden as i64; 4];
    let sides: Vec<[Value; 3]> = ways(direction)
        .iter()
        .enumerate()
        .map(|(side, &reverse)| {
            let r = part(onnx, weights.r, side, weights.hidden, 0..4);
            let initial = [of_side(onnx, h, side), of_side(onnx, c, side)];
            let peephole =
                weights.peephole.map(|all| [0, 1, 2].map(|gate| part(onnx, all, side, weights.hidden, gate..gate + 1)));
            let look = |onnx: &mut OnnxBuilder, gate: &Value, which: usize, cell: &Value| match &peephole {
                Some(peephole) => {
                    let seen = onnx.binary("Mul", cell, &peephole[which]);
                    onnx.binary("Add", gate, &seen)
                }
                None => gate.clone(),
            };
            let (all, last) = stepped(onnx, x, weights, side, reverse, &initial, |onnx, given, state| {
                let recurrent = onnx.mat_mul(&state[0], &r);
                let sum = onnx.binary("Add", given, &recurrent);
                let gates = onnx.split(&sum, &width, 1);
                let before = &state[1];
                let input = look(onnx, &gates[0], 0, before);
                let input = activated(onnx, &input, gate);
                let forget = look(onnx, &gates[2], 2, before);
                let forget = activated(onnx, &forget, gate);
                let new = activated(onnx, &gates[3], cell);
                let (kept, new) = (onnx.binary("Mul", &forget, before), onnx.binary("Mul", &input, &new));
                let mut now = onnx.binary("Add", &kept, &new);
                if let Some(clip) = clip {
                    now = onnx.clip(&now, -clip, clip);
                }
                let output = look(onnx, &gates[1], 1, &now);
                let output = activated(onnx, &output, gate);
                let shown = activated(onnx, &now, out);
                vec![onnx.binary("Mul", &output, &shown), now]
            });
            let [h, c] = <[Value; 2]>::try_from(last).expect("two states");
            [all, h, c]
        })
        .collect();
    let together = |onnx: &mut OnnxBuilder, i: usize, axis: i64| {
        let raised: Vec<Value> = sides.iter().map(|side| onnx.unsqueeze(&side[i], &[axis])).collect();
        if raised.len() == 1 { raised[0].clone() } else { onnx.concat(&raised, axis) }
    };
    [together(onnx, 0, 1), together(onnx, 1, 0), together(onnx, 2, 0)]
}

/// A GRU of one direction, step by step. `recurrent_bias` has the shape of the bias of the input.
fn gru_steps(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    recurrent_bias: Option<&Value>,
    h: &Value,
    direction: &str,
    ([gate, out], reset_after): ([Activation; 2], bool),
) -> [Value; 2] {
    let width = weights.hidden as i64;
    let (both, one) = ([2 * width, width], [width, width]);
    let parts =
        |onnx: &mut OnnxBuilder, all: &Value| [0..2, 2..3].map(|gates| part(onnx, all, 0, weights.hidden, gates));
    let r = parts(onnx, weights.r);
    let bias = recurrent_bias.map(|bias| parts(onnx, bias));
    let product = |onnx: &mut OnnxBuilder, h: &Value, which: usize| {
        let product = onnx.mat_mul(h, &r[which]);
        match &bias {
            Some(bias) => onnx.binary("Add", &product, &bias[which]),
            None => product,
        }
    };
    let initial = [of_side(onnx, h, 0)];
    let reverse = direction == "reverse";
    let (all, last) = stepped(onnx, x, weights, 0, reverse, &initial, |onnx, given, state| {
        let h = &state[0];
        let given = onnx.split(given, &both, 1);
        let gates = product(onnx, h, 0);
        let gates = onnx.binary("Add", &given[0], &gates);
        let gates = activated(onnx, &gates, gate);
        let gates = onnx.split(&gates, &one, 1);
        let (update, reset) = (&gates[0], &gates[1]);
        let recurrent = if reset_after {
            let recurrent = product(onnx, h, 1);
            onnx.binary("Mul", reset, &recurrent)
        } else {
            let kept = onnx.binary("Mul", reset, h);
            product(onnx, &kept, 1)
        };
        let new = onnx.binary("Add", &given[1], &recurrent);
        let new = activated(onnx, &new, out);
        let whole = onnx.scalar(1.0, update);
        let rest = onnx.binary("Sub", &whole, update);
        let (new, old) = (onnx.binary("Mul", &rest, &new), onnx.binary("Mul", update, h));
        vec![onnx.binary("Add", &new, &old)]
    });
    [onnx.unsqueeze(&all, &[1]), onnx.unsqueeze(&last[0], &[0])]
}

/// A plain recurrent network of one direction, step by step.
fn rnn_steps(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    h: &Value,
    direction: &str,
    act: Activation,
) -> [Value; 2] {
    let r = part(onnx, weights.r, 0, weights.hidden, 0..1);
    let initial = [of_side(onnx, h, 0)];
    let reverse = direction == "reverse";
    let (all, last) = stepped(onnx, x, weights, 0, reverse, &initial, |onnx, given, state| {
        let recurrent = onnx.mat_mul(&state[0], &r);
        let sum = onnx.binary("Add", given, &recurrent);
        vec![activated(onnx, &sum, act)]
    });
    [onnx.unsqueeze(&all, &[1]), onnx.unsqueeze(&last[0], &[0])]
}

/// Whether each direction runs in reverse.
fn ways(direction: &str) -> &'static [bool] {
    match direction {
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => &[false],
    }
}

/// Runs `next` on each step of `x`, of shape (steps, batch, inputs): it gets what the input adds to all gates, and the
/// states, and gives the new states, the hidden one first. Gives the hidden states in the order of `x`, and the last
/// states.
fn stepped(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weights: &Weights<'_>,
    side: usize,
    reverse: bool,
    initial: &[Value],
    next: impl Fn(&mut OnnxBuilder, &Value, &[Value]) -> Vec<Value>,
) -> (Value, Vec<Value>) {
    let gates = 0..weights.w.shape().map_or(0, |shape| shape[1] / weights.hidden);
    let w = part(onnx, weights.w, side, weights.hidden, gates.clone());
    let mut given = onnx.mat_mul(x, &w);
    if let Some(bias) = weights.bias {
        let bias = part(onnx, bias, side, weights.hidden, gates);
        given = onnx.binary("Add", &given, &bias);
    }
    if reverse {
        given = onnx.reversed(&given, &[0]);
    }
    let (shape, first) = (onnx.shape(x), onnx.int(0));
    let count = onnx.gather(&shape, &first, 0);
    onnx.open_graph();
    let step = onnx.graph_input("step", Element::I64, Some(Vec::new()));
    let going_on = onnx.graph_input("going_on", Element::Bool, Some(Vec::new()));
    let states: Vec<Value> = initial.iter().map(|_| onnx.graph_input("state", Element::F32, None)).collect();
    let now = onnx.gather(&given, &step, 0);
    let new = next(onnx, &now, &states);
    let shown = onnx.unary("Identity", &new[0]);
    let inputs: Vec<Value> = [step, going_on.clone()].into_iter().chain(states).collect();
    let outputs: Vec<Value> = std::iter::once(going_on).chain(new).chain([shown]).collect();
    let body = onnx.close_graph("step", &inputs, &outputs);
    let mut results = onnx.repeat(&count, initial, &[Element::F32], body);
    let all = results.pop().expect("what is collected comes last");
    (if reverse { onnx.reversed(&all, &[0]) } else { all }, results)
}

fn activated(onnx: &mut OnnxBuilder, x: &Value, activation: Activation) -> Value {
    let (alpha, beta) = (activation.alpha.unwrap_or(1.0), activation.beta.unwrap_or(0.0));
    match activation.name {
        "Affine" if (alpha, beta) == (1.0, 0.0) => x.clone(),
        "Affine" => alpha_x_plus_beta(onnx, x, alpha, beta),
        "ScaledTanh" => alpha_tanh_beta_x(onnx, x, alpha, beta),
        "HardSigmoid" => onnx.activation("HardSigmoid", x, &[("alpha", alpha), ("beta", beta)]),
        name => onnx.unary(name, x),
    }
}

fn direction(name: &str) -> Result<&'static str, Fault> {
    match name {
        "forward" => Ok("forward"),
        "reverse" => Ok("reverse"),
        "bidirectional" => Ok("bidirectional"),
        other => Err(format!("direction {other:?} is not known").into()),
    }
}

/// Parameters of `scaled_tanh` are those of coremltools 9.0's tests, as are those of `hard_sigmoid`.
pub(crate) fn activation(name: &str) -> Result<Activation, Fault> {
    let (name, alpha, beta) = match name {
        "sigmoid" => ("Sigmoid", None, None),
        "tanh" => ("Tanh", None, None),
        "relu" => ("Relu", None, None),
        "linear" => ("Affine", Some(1.0), Some(0.0)),
        "hard_sigmoid" | "sigmoid_hard" => ("HardSigmoid", Some(0.2), Some(0.5)),
        "scaled_tanh" => ("ScaledTanh", Some(1.0), Some(1.0)),
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
pub(crate) fn by_direction(onnx: &mut OnnxBuilder, x: &Value, directions: usize, hidden: usize) -> Value {
    if directions == 1 {
        return onnx.unsqueeze(x, &[0]);
    }
    let split = onnx.reshape(x, &[-1, directions as i64, hidden as i64]);
    onnx.transpose(&split, &[1, 0, 2])
}

/// (directions, batch, hidden) to (batch, directions * hidden).
pub(crate) fn by_batch(onnx: &mut OnnxBuilder, x: &Value, directions: usize, hidden: usize) -> Value {
    if directions == 1 {
        return onnx.squeeze(x, &[0]);
    }
    let turned = onnx.transpose(x, &[1, 0, 2]);
    onnx.reshape(&turned, &[-1, (directions * hidden) as i64])
}

/// (steps, directions, batch, hidden) to (steps, batch, directions * hidden). What runs in reverse alone stays in the
/// order in which it ran, where ONNX has the order of the inputs (coremltools 9.0's tests of `lstm`).
pub(crate) fn all_steps(onnx: &mut OnnxBuilder, x: &Value, direction: &str, hidden: usize) -> Value {
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    if directions == 1 {
        let steps = onnx.squeeze(x, &[1]);
        return if direction == "reverse" { onnx.reversed(&steps, &[0]) } else { steps };
    }
    let turned = onnx.transpose(x, &[0, 2, 1, 3]);
    let shape = onnx.ints(&[0, 0, (directions * hidden) as i64]);
    onnx.reshape_to(&turned, &shape, true)
}
