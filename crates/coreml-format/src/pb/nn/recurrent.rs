//! Messages of recurrent layers.

use prost::Message;

use super::{Activation, WeightParams};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SimpleRecurrent {
    #[prost(uint64, tag = "1")]
    pub(crate) input_vector_size: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) output_vector_size: u64,
    #[prost(message, optional, tag = "10")]
    pub(crate) activation: Option<Activation>,
    #[prost(bool, tag = "15")]
    pub(crate) sequence_output: bool,
    #[prost(bool, tag = "20")]
    pub(crate) has_bias_vector: bool,
    #[prost(message, optional, tag = "30")]
    pub(crate) weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "31")]
    pub(crate) recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "32")]
    pub(crate) bias_vector: Option<WeightParams>,
    #[prost(bool, tag = "100")]
    pub(crate) reverse_input: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Gru {
    #[prost(uint64, tag = "1")]
    pub(crate) input_vector_size: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) output_vector_size: u64,
    #[prost(message, repeated, tag = "10")]
    pub(crate) activations: Vec<Activation>,
    #[prost(bool, tag = "15")]
    pub(crate) sequence_output: bool,
    #[prost(bool, tag = "20")]
    pub(crate) has_bias_vectors: bool,
    #[prost(message, optional, tag = "30")]
    pub(crate) update_gate_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "31")]
    pub(crate) reset_gate_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "32")]
    pub(crate) output_gate_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "50")]
    pub(crate) update_gate_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "51")]
    pub(crate) reset_gate_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "52")]
    pub(crate) output_gate_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "70")]
    pub(crate) update_gate_bias_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "71")]
    pub(crate) reset_gate_bias_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "72")]
    pub(crate) output_gate_bias_vector: Option<WeightParams>,
    #[prost(bool, tag = "100")]
    pub(crate) reverse_input: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct LstmParams {
    #[prost(bool, tag = "10")]
    pub(crate) sequence_output: bool,
    #[prost(bool, tag = "20")]
    pub(crate) has_bias_vectors: bool,
    #[prost(bool, tag = "30")]
    pub(crate) forget_bias: bool,
    #[prost(bool, tag = "40")]
    pub(crate) has_peephole_vectors: bool,
    #[prost(bool, tag = "50")]
    pub(crate) coupled_input_and_forget_gate: bool,
    #[prost(float, tag = "60")]
    pub(crate) cell_clip_threshold: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LstmWeights {
    #[prost(message, optional, tag = "1")]
    pub(crate) input_gate_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "2")]
    pub(crate) forget_gate_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "3")]
    pub(crate) block_input_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "4")]
    pub(crate) output_gate_weight_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "20")]
    pub(crate) input_gate_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "21")]
    pub(crate) forget_gate_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "22")]
    pub(crate) block_input_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "23")]
    pub(crate) output_gate_recursion_matrix: Option<WeightParams>,
    #[prost(message, optional, tag = "40")]
    pub(crate) input_gate_bias_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "41")]
    pub(crate) forget_gate_bias_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "42")]
    pub(crate) block_input_bias_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "43")]
    pub(crate) output_gate_bias_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "60")]
    pub(crate) input_gate_peephole_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "61")]
    pub(crate) forget_gate_peephole_vector: Option<WeightParams>,
    #[prost(message, optional, tag = "62")]
    pub(crate) output_gate_peephole_vector: Option<WeightParams>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UniDirectionalLstm {
    #[prost(uint64, tag = "1")]
    pub(crate) input_vector_size: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) output_vector_size: u64,
    #[prost(message, repeated, tag = "10")]
    pub(crate) activations: Vec<Activation>,
    #[prost(message, optional, tag = "15")]
    pub(crate) params: Option<LstmParams>,
    #[prost(message, optional, tag = "20")]
    pub(crate) weight_params: Option<LstmWeights>,
    #[prost(bool, tag = "100")]
    pub(crate) reverse_input: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BiDirectionalLstm {
    #[prost(uint64, tag = "1")]
    pub(crate) input_vector_size: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) output_vector_size: u64,
    #[prost(message, repeated, tag = "10")]
    pub(crate) activations_forward: Vec<Activation>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) activations_backward: Vec<Activation>,
    #[prost(message, optional, tag = "15")]
    pub(crate) params: Option<LstmParams>,
    #[prost(message, repeated, tag = "20")]
    pub(crate) weight_params: Vec<LstmWeights>,
}
