//! Reads recurrent layers.

use super::{
    Activation, Gates, Recurrent, Weight,
    layer::activation,
    weight::{count, read_weight},
};
use crate::pb::nn as message;

type Stored = Option<message::WeightParams>;

pub(super) fn simple(params: message::SimpleRecurrent) -> Result<Recurrent, String> {
    let sizes = Sizes { inputs: params.input_vector_size, outputs: params.output_vector_size };
    Ok(Recurrent {
        activations: activations(params.activation.into_iter().collect(), 1)?,
        sequence_output: params.sequence_output,
        reverse_input: params.reverse_input,
        directions: vec![Gates {
            weights: sizes.matrices([params.weight_matrix], "weightMatrix")?,
            recursions: sizes.recursions([params.recursion_matrix], "recursionMatrix")?,
            biases: sizes.vectors(params.has_bias_vector, [params.bias_vector], "biasVector")?,
            peepholes: Vec::new(),
        }],
        ..sizes.empty()
    })
}

pub(super) fn gru(params: message::Gru) -> Result<Recurrent, String> {
    let sizes = Sizes { inputs: params.input_vector_size, outputs: params.output_vector_size };
    let weights = [params.update_gate_weight_matrix, params.reset_gate_weight_matrix, params.output_gate_weight_matrix];
    let recursions =
        [params.update_gate_recursion_matrix, params.reset_gate_recursion_matrix, params.output_gate_recursion_matrix];
    let biases = [params.update_gate_bias_vector, params.reset_gate_bias_vector, params.output_gate_bias_vector];
    Ok(Recurrent {
        activations: activations(params.activations, 2)?,
        sequence_output: params.sequence_output,
        reverse_input: params.reverse_input,
        directions: vec![Gates {
            weights: sizes.matrices(weights, "a weight matrix")?,
            recursions: sizes.recursions(recursions, "a recursion matrix")?,
            biases: sizes.vectors(params.has_bias_vectors, biases, "a bias vector")?,
            peepholes: Vec::new(),
        }],
        ..sizes.empty()
    })
}

pub(super) fn lstm(params: message::UniDirectionalLstm) -> Result<Recurrent, String> {
    let sizes = Sizes { inputs: params.input_vector_size, outputs: params.output_vector_size };
    let options = params.params.unwrap_or_default();
    let weights = params.weight_params.ok_or("has no weights")?;
    Ok(Recurrent {
        activations: activations(params.activations, 3)?,
        reverse_input: params.reverse_input,
        directions: vec![sizes.lstm(&options, weights)?],
        ..sizes.with(&options)
    })
}

pub(super) fn bidirectional_lstm(params: message::BiDirectionalLstm) -> Result<Recurrent, String> {
    let sizes = Sizes { inputs: params.input_vector_size, outputs: params.output_vector_size };
    let options = params.params.unwrap_or_default();
    if params.weight_params.len() != 2 {
        return Err(format!("has weights for {} directions; expected 2", params.weight_params.len()));
    }
    let directions = params.weight_params.into_iter().map(|weights| sizes.lstm(&options, weights));
    let mut all = activations(params.activations_forward, 3)?;
    all.extend(activations(params.activations_backward, 3)?);
    Ok(Recurrent { activations: all, directions: directions.collect::<Result<_, _>>()?, ..sizes.with(&options) })
}

fn activations(stored: Vec<message::Activation>, expected: usize) -> Result<Vec<Activation>, String> {
    if stored.len() != expected {
        return Err(format!("has {} activations; expected {expected}", stored.len()));
    }
    stored.into_iter().map(activation).collect()
}

/// The sizes of a layer's vectors.
struct Sizes {
    inputs: u64,
    outputs: u64,
}

impl Sizes {
    fn empty(&self) -> Recurrent {
        self.with(&message::LstmParams::default())
    }

    /// A layer with these options, and nothing else yet.
    fn with(&self, options: &message::LstmParams) -> Recurrent {
        Recurrent {
            input_size: self.inputs,
            output_size: self.outputs,
            activations: Vec::new(),
            sequence_output: options.sequence_output,
            reverse_input: false,
            forget_bias: options.forget_bias,
            coupled: options.coupled_input_and_forget_gate,
            cell_clip: options.cell_clip_threshold,
            directions: Vec::new(),
        }
    }

    fn lstm(&self, options: &message::LstmParams, stored: message::LstmWeights) -> Result<Gates, String> {
        let weights = [
            stored.input_gate_weight_matrix,
            stored.forget_gate_weight_matrix,
            stored.block_input_weight_matrix,
            stored.output_gate_weight_matrix,
        ];
        let recursions = [
            stored.input_gate_recursion_matrix,
            stored.forget_gate_recursion_matrix,
            stored.block_input_recursion_matrix,
            stored.output_gate_recursion_matrix,
        ];
        let biases = [
            stored.input_gate_bias_vector,
            stored.forget_gate_bias_vector,
            stored.block_input_bias_vector,
            stored.output_gate_bias_vector,
        ];
        let peepholes =
            [stored.input_gate_peephole_vector, stored.forget_gate_peephole_vector, stored.output_gate_peephole_vector];
        Ok(Gates {
            weights: self.matrices(weights, "a weight matrix")?,
            recursions: self.recursions(recursions, "a recursion matrix")?,
            biases: self.vectors(options.has_bias_vectors, biases, "a bias vector")?,
            peepholes: self.vectors(options.has_peephole_vectors, peepholes, "a peephole vector")?,
        })
    }

    fn matrices<const N: usize>(&self, stored: [Stored; N], what: &str) -> Result<Vec<Weight>, String> {
        read(&[self.outputs, self.inputs], stored, what)
    }

    fn recursions<const N: usize>(&self, stored: [Stored; N], what: &str) -> Result<Vec<Weight>, String> {
        read(&[self.outputs, self.outputs], stored, what)
    }

    fn vectors<const N: usize>(&self, there: bool, stored: [Stored; N], what: &str) -> Result<Vec<Weight>, String> {
        if there { read(&[self.outputs], stored, what) } else { Ok(Vec::new()) }
    }
}

fn read<const N: usize>(shape: &[u64], stored: [Stored; N], what: &str) -> Result<Vec<Weight>, String> {
    let count = count(shape)?;
    stored.into_iter().map(|weight| read_weight(weight, count, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: Result<Recurrent, String>, expected: &str) {
        let shown = read.map_or_else(|error| error, |layer| format!("{layer:?}"));
        assert!(shown.contains(expected), "{shown}");
    }

    fn floats(n: usize) -> Stored {
        Some(message::WeightParams { float_value: vec![0; 4 * n].into(), ..Default::default() })
    }

    fn tanh() -> message::Activation {
        message::Activation { nonlinearity: Some(message::Nonlinearity::Tanh(Default::default())) }
    }

    #[test]
    fn sizes_must_fit() {
        let layer = || message::SimpleRecurrent {
            input_vector_size: 2,
            output_vector_size: 3,
            activation: Some(tanh()),
            weight_matrix: floats(6),
            recursion_matrix: floats(9),
            ..Default::default()
        };
        check(simple(layer()), "activations: [Tanh], sequence_output: false");
        check(simple(message::SimpleRecurrent { weight_matrix: None, ..layer() }), "weightMatrix: expected 6 values");
        check(simple(message::SimpleRecurrent { has_bias_vector: true, ..layer() }), "biasVector: expected 3 values");
        check(simple(message::SimpleRecurrent { activation: None, ..layer() }), "has 0 activations; expected 1");
        check(gru(message::Gru { activations: vec![tanh()], ..Default::default() }), "has 1 activations; expected 2");
        check(lstm(message::UniDirectionalLstm::default()), "has no weights");
        check(bidirectional_lstm(message::BiDirectionalLstm::default()), "weights for 0 directions");
    }
}
