//! Recurrent layers.
//!
//! Their blobs are (sequence, batch, vector, 1, 1).

use std::sync::Arc;

use coreml_format::{
    mil::Dim,
    nn::{self, Gates, Weight},
};

use super::{
    blob::{Blob, fixed, show},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault,
        recurrent::{
            Weights, activation as activation_named, all_steps, by_batch, gru_net, lstm_net, of_batch, rnn_net,
        },
    },
    onnx::{Activation, Element, OnnxBuilder, Source, Value},
};

/// Where each of ONNX's gates (input, output, forget, cell) stands in the file (input, forget, block input, output).
const LSTM_GATES: &[usize] = &[0, 3, 1, 2];
/// The same for peepholes: ONNX has (input, output, forget), the file (input, forget, output).
const PEEPHOLES: &[usize] = &[0, 2, 1];
/// ONNX has (update, reset, output), as the file has.
const GRU_GATES: &[usize] = &[0, 1, 2];

pub(super) fn simple(
    layer: &LayerReader<'_>,
    params: &nn::Recurrent,
    onnx: &mut OnnxBuilder,
) -> Result<Vec<Blob>, Fault> {
    let net = Net::read(layer, params, &[0], 1, onnx)?;
    let [activation] = net.activations(params)?;
    let state = net.state(layer, 1, onnx)?;
    let [all, last] = rnn_net(onnx, &net.x, &net.weights(), &state, net.direction, activation)?;
    let last = onnx.squeeze(&last, &[0]);
    Ok(net.results(layer, params, all, vec![last], onnx))
}

pub(super) fn gru(layer: &LayerReader<'_>, params: &nn::Recurrent, onnx: &mut OnnxBuilder) -> Result<Vec<Blob>, Fault> {
    let net = Net::read(layer, params, GRU_GATES, 1, onnx)?;
    let activations = net.activations(params)?;
    let state = net.state(layer, 1, onnx)?;
    // ONNX wants a bias of the recurrence where there is one of the input.
    let recurrent = net.bias.as_ref().map(|_| onnx.floats(&[1, 3 * net.hidden], vec![0.0; 3 * net.hidden]));
    let how = (activations, false);
    let [all, last] = gru_net(onnx, &net.x, &net.weights(), recurrent.as_ref(), &state, net.direction, how)?;
    let last = onnx.squeeze(&last, &[0]);
    Ok(net.results(layer, params, all, vec![last], onnx))
}

/// With one direction or two. States and results have hidden state and cell of each direction.
pub(super) fn lstm(
    layer: &LayerReader<'_>,
    params: &nn::Recurrent,
    onnx: &mut OnnxBuilder,
) -> Result<Vec<Blob>, Fault> {
    let sides = params.directions.len();
    let net = Net::read(layer, params, LSTM_GATES, 2 * sides, onnx)?;
    let activations = match net.activations::<6>(params) {
        Ok([a, b, c, d, e, f]) if [a.name, b.name, c.name] == [d.name, e.name, f.name] => [a, b, c],
        Ok(_) => return Err("its directions must have the same activations".into()),
        Err(_) => net.activations::<3>(params)?,
    };
    let states: Vec<Value> = (0..2 * sides).map(|i| net.state(layer, i + 1, onnx)).collect::<Result<_, _>>()?;
    let stacked = |onnx: &mut OnnxBuilder, first: usize| {
        let each: Vec<Value> = (0..sides).map(|side| states[2 * side + first].clone()).collect();
        if sides == 1 { each[0].clone() } else { onnx.concat(&each, 0) }
    };
    let (h, c) = (stacked(onnx, 0), stacked(onnx, 1));
    let clip = Some(params.cell_clip).filter(|clip| *clip > 0.0 && *clip < 50.0);
    let [all, h, c] = lstm_net(onnx, &net.x, &net.weights(), [&h, &c], net.direction, activations, clip)?;
    let last = match sides {
        1 => vec![onnx.squeeze(&h, &[0]), onnx.squeeze(&c, &[0])],
        _ => {
            let mut each = Vec::with_capacity(2 * sides);
            for side in 0..sides as i64 {
                let at = onnx.int(side);
                each.push(onnx.gather(&h, &at, 0));
                each.push(onnx.gather(&c, &at, 0));
            }
            each.push(by_batch(onnx, &h, sides, net.hidden));
            each
        }
    };
    Ok(net.results(layer, params, all, last, onnx))
}

/// A recurrent layer on its way into ONNX.
struct Net {
    /// (sequence, batch, vector)
    x: Value,
    sequence: Dim,
    batch: Dim,
    hidden: usize,
    direction: &'static str,
    w: Value,
    r: Value,
    bias: Option<Value>,
    peephole: Option<Value>,
}

impl Net {
    /// Reads input and weights. The layer may have `states` inputs and outputs more than one.
    fn read(
        layer: &LayerReader<'_>,
        params: &nn::Recurrent,
        gates: &[usize],
        states: usize,
        onnx: &mut OnnxBuilder,
    ) -> Result<Net, Fault> {
        let ([x], more) = layer.first_of(states)?;
        if ![0, states].contains(&more.len()) {
            return Err(format!("it has {} states, expected {states} or none", more.len()).into());
        }
        let x = x.unfolded(onnx);
        let &[sequence, batch, vector, Dim::Fixed(1), Dim::Fixed(1)] = x.dims() else {
            return Err(format!("its input has shape {}, expected [?, ?, vector, 1, 1]", show(x.dims())).into());
        };
        if fixed(&vector).is_some_and(|n| n as u64 != params.input_size) {
            return Err(format!("its input has shape {}, expected {}", show(x.dims()), params.input_size).into());
        }
        let size = |n: u64| crate::lower::made_count(&[usize::try_from(n).unwrap_or(usize::MAX)]);
        let (inputs, hidden) = (size(params.input_size)?, size(params.output_size)?);
        let direction = match (params.directions.len(), params.reverse_input) {
            (2, _) => "bidirectional",
            (_, true) => "reverse",
            (_, false) => "forward",
        };
        let gather = |role: &str, pick: fn(&Gates) -> &Vec<Weight>, shape: &[usize], order: &[usize]| {
            stacked(layer, params, role, pick, shape, order)
        };
        let weight = |onnx: &mut OnnxBuilder, role: &str, (shape, values): (Vec<usize>, Vec<f32>)| {
            onnx.weight(&format!("{}.{role}", layer.name()), Element::F32, Arc::new(Source::floats(shape, values)))
        };
        let w = gather("weight", |gates| &gates.weights, &[hidden, inputs], gates)?;
        let r = gather("recursion", |gates| &gates.recursions, &[hidden, hidden], gates)?;
        let mut bias = gather("bias", |gates| &gates.biases, &[hidden], gates)?;
        let peephole = gather("peephole", |gates| &gates.peepholes, &[hidden], PEEPHOLES)?;
        if params.forget_bias {
            add_to_forget_gate(&mut bias, params.directions.len(), hidden);
        }
        let (mut w, mut r, mut peephole) = (w, r, peephole);
        if params.coupled {
            if !mirrors(params.activations.first()) {
                return Err("its input and forget gates can be coupled with a sigmoid only".into());
            }
            let lists = [(&mut w, 4), (&mut r, 4), (&mut bias, 4), (&mut peephole, 3)];
            lists.into_iter().for_each(|(list, gates)| couple(list, gates));
        }
        let optional = |onnx: &mut OnnxBuilder, role: &str, list: (Vec<usize>, Vec<f32>)| {
            (!list.1.is_empty()).then(|| weight(onnx, role, list))
        };
        Ok(Net {
            x: onnx.squeeze(x.value(), &[3, 4]).with_dims(Some(vec![sequence, batch, vector])),
            sequence,
            batch,
            hidden,
            direction,
            w: weight(onnx, "weight", w),
            r: weight(onnx, "recursion", r),
            bias: optional(onnx, "bias", bias),
            peephole: optional(onnx, "peephole", peephole),
        })
    }

    fn weights(&self) -> Weights<'_> {
        Weights {
            w: &self.w,
            r: &self.r,
            bias: self.bias.as_ref(),
            peephole: self.peephole.as_ref(),
            hidden: self.hidden,
        }
    }

    fn activations<const N: usize>(&self, params: &nn::Recurrent) -> Result<[Activation; N], Fault> {
        let all = params.activations.iter().map(activation).collect::<Result<Vec<_>, _>>()?;
        let found = all.len();
        all.try_into().map_err(|_| Fault(format!("it has {found} activations, expected {N}")))
    }

    /// A state before the first step, (1, batch, hidden): an input, or zeros.
    fn state(&self, layer: &LayerReader<'_>, input: usize, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
        if let Some(state) = layer.inputs().get(input) {
            let wrong =
                || Fault(format!("a state has shape {}, expected {} elements", show(state.dims()), self.hidden));
            let elements = super::blob::count(state.dims());
            if let (Some(elements), Some(batch)) = (elements, fixed(&self.batch))
                && elements != batch * self.hidden
            {
                return Err(wrong());
            }
            let states = onnx.reshape(state.value(), &[1, -1, self.hidden as i64]);
            return Ok(if elements.is_some() { states } else { of_batch(onnx, &states, self.batch, 1) });
        }
        if let Dim::Fixed(batch) = self.batch {
            let zeros = vec![0.0; crate::lower::made_count(&[batch, self.hidden])?];
            return Ok(onnx.floats(&[1, batch, self.hidden], zeros));
        }
        let batch = onnx.size_of(&self.x, 1);
        let (one, hidden) = (onnx.ints(&[1]), onnx.ints(&[self.hidden as i64]));
        let shape = onnx.concat(&[one, batch, hidden], 0);
        Ok(onnx.constant_of_shape(&shape, 0.0, Element::F32))
    }

    /// The output and, where the layer has more outputs, the states after the last step, which are (batch, hidden).
    /// Behind them stands what the output is where it is not a sequence, if that is not the first state.
    fn results(
        &self,
        layer: &LayerReader<'_>,
        params: &nn::Recurrent,
        all: Value,
        last: Vec<Value>,
        onnx: &mut OnnxBuilder,
    ) -> Vec<Blob> {
        let one = Dim::Fixed(1);
        let states = last.len() - usize::from(params.directions.len() == 2);
        let vector = Dim::Fixed(self.hidden * params.directions.len());
        let output = if params.sequence_output {
            let steps = all_steps(onnx, &all, self.direction, self.hidden);
            Blob::exact(onnx.unsqueeze(&steps, &[3, 4]), vec![self.sequence, self.batch, vector, one, one])
        } else {
            let end = last.get(states).unwrap_or(&last[0]);
            Blob::exact(onnx.unsqueeze(end, &[0, 3, 4]), vec![one, self.batch, vector, one, one])
        };
        let mut blobs = vec![output];
        if layer.outputs() > 1 {
            blobs.extend(last.into_iter().take(states).map(|state| {
                let dims = vec![one, self.batch, Dim::Fixed(self.hidden), one, one];
                Blob::exact(onnx.unsqueeze(&state, &[0, 3, 4]), dims)
            }));
        }
        blobs
    }
}

/// The weights of all directions and gates, in ONNX's order: (directions, gates * hidden, ...). Empty where there are
/// none.
fn stacked(
    layer: &LayerReader<'_>,
    params: &nn::Recurrent,
    role: &str,
    pick: fn(&Gates) -> &Vec<Weight>,
    shape: &[usize],
    order: &[usize],
) -> Result<(Vec<usize>, Vec<f32>), Fault> {
    let mut values = Vec::new();
    for direction in &params.directions {
        let gates = pick(direction);
        if gates.is_empty() {
            continue;
        }
        for &gate in order {
            let weight = gates.get(gate).ok_or_else(|| Fault(format!("{role} is not there for every gate")))?;
            values.extend(layer.numbers(role, weight, shape)?);
        }
    }
    let mut stacked = vec![params.directions.len(), order.len() * shape[0]];
    stacked.extend(&shape[1..]);
    Ok((stacked, values))
}

/// Whether 1 minus this function of x is the function of -x.
fn mirrors(activation: Option<&nn::Activation>) -> bool {
    matches!(activation, Some(nn::Activation::Sigmoid | nn::Activation::SigmoidHard { .. }))
}

/// Adds 1 to the bias of the forget gate, the third of ONNX's.
fn add_to_forget_gate((_, bias): &mut (Vec<usize>, Vec<f32>), sides: usize, hidden: usize) {
    if bias.is_empty() {
        bias.resize(sides * 4 * hidden, 0.0);
    }
    for side in bias.chunks_mut(4 * hidden) {
        side[2 * hidden..3 * hidden].iter_mut().for_each(|bias| *bias += 1.0);
    }
}

/// Makes the forget gate, the third of ONNX's, 1 minus the input gate, the first: with its weights negated, since
/// `1 - sigmoid(x)` is `sigmoid(-x)`.
fn couple((shape, values): &mut (Vec<usize>, Vec<f32>), gates: usize) {
    let (sides, all) = (shape[0], values.len());
    if all == 0 {
        return;
    }
    let part = all / sides / gates;
    for side in values.chunks_mut(gates * part) {
        let (input, rest) = side.split_at_mut(part);
        rest[part..2 * part].iter_mut().zip(input).for_each(|(forget, input)| *forget = -*input);
    }
}

/// Linear, hard sigmoid and scaled tanh have the same parameters in every recurrent layer; writers leave them out.
fn activation(activation: &nn::Activation) -> Result<Activation, Fault> {
    activation_named(match activation {
        nn::Activation::Sigmoid => "sigmoid",
        nn::Activation::Tanh => "tanh",
        nn::Activation::Relu => "relu",
        nn::Activation::Linear { .. } => "linear",
        nn::Activation::SigmoidHard { .. } => "hard_sigmoid",
        nn::Activation::ScaledTanh { .. } => "scaled_tanh",
        nn::Activation::LeakyRelu { .. }
        | nn::Activation::ThresholdedRelu { .. }
        | nn::Activation::Prelu { .. }
        | nn::Activation::Elu { .. }
        | nn::Activation::Softsign
        | nn::Activation::Softplus
        | nn::Activation::ParametricSoftplus { .. } => {
            return Err(format!("no recurrent layer has the activation {activation:?}").into());
        }
    })
}
