//! `NeuralNetwork.proto`: the network, its weights, and layers up to specification 3. Later ones are in `layers`,
//! recurrent ones in `recurrent`.

mod layers;
mod recurrent;

use bytes::Bytes;
use prost::{Message, Oneof};

use super::model::{Empty, Int64Vector, StringVector};
pub(crate) use layers::*;
pub(crate) use recurrent::*;

/// `NeuralNetwork`, `NeuralNetworkClassifier` and `NeuralNetworkRegressor`: their fields share one numbering.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NeuralNetwork {
    /// `NeuralNetworkLayer` messages, left encoded.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) layers: Vec<Bytes>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) preprocessing: Vec<Preprocessing>,
    #[prost(int32, tag = "5")]
    pub(crate) array_input_shape_mapping: i32,
    #[prost(int32, tag = "6")]
    pub(crate) image_input_shape_mapping: i32,
    #[prost(oneof = "Labels", tags = "100, 101")]
    pub(crate) labels: Option<Labels>,
    #[prost(string, tag = "200")]
    pub(crate) label_probability_layer_name: String,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Labels {
    #[prost(message, tag = "100")]
    Strings(StringVector),
    #[prost(message, tag = "101")]
    Int64s(Int64Vector),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Preprocessing {
    #[prost(string, tag = "1")]
    pub(crate) feature_name: String,
    #[prost(oneof = "Preprocessor", tags = "10, 11")]
    pub(crate) preprocessor: Option<Preprocessor>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Preprocessor {
    #[prost(message, tag = "10")]
    Scaler(ImageScaler),
    #[prost(message, tag = "11")]
    MeanImage(PackedFloats),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ImageScaler {
    #[prost(float, tag = "10")]
    pub(crate) channel_scale: f32,
    #[prost(float, tag = "20")]
    pub(crate) blue_bias: f32,
    #[prost(float, tag = "21")]
    pub(crate) green_bias: f32,
    #[prost(float, tag = "22")]
    pub(crate) red_bias: f32,
    #[prost(float, tag = "30")]
    pub(crate) gray_bias: f32,
}

/// `NeuralNetworkMeanImage`: packed floats as bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PackedFloats {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) values: Bytes,
}

/// `NeuralNetworkLayer` without its kind, which [`last_member`](super::last_member) finds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Layer {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) input: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) output: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WeightParams {
    /// Packed floats, see the module above.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) float_value: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) float16_value: Bytes,
    #[prost(bytes = "bytes", tag = "30")]
    pub(crate) raw_value: Bytes,
    #[prost(bytes = "bytes", tag = "31")]
    pub(crate) int8_raw_value: Bytes,
    #[prost(message, optional, tag = "40")]
    pub(crate) quantization: Option<QuantizationParams>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QuantizationParams {
    #[prost(uint64, tag = "1")]
    pub(crate) number_of_bits: u64,
    #[prost(oneof = "Quantization", tags = "101, 102")]
    pub(crate) quantization: Option<Quantization>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Quantization {
    #[prost(message, tag = "101")]
    Linear(LinearQuantization),
    #[prost(message, tag = "102")]
    LookUpTable(LookUpTable),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinearQuantization {
    #[prost(float, repeated, tag = "1")]
    pub(crate) scale: Vec<f32>,
    #[prost(float, repeated, tag = "2")]
    pub(crate) bias: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LookUpTable {
    #[prost(float, repeated, tag = "1")]
    pub(crate) float_value: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Convolution {
    #[prost(uint64, tag = "1")]
    pub(crate) output_channels: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) kernel_channels: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) n_groups: u64,
    #[prost(uint64, repeated, tag = "20")]
    pub(crate) kernel_size: Vec<u64>,
    #[prost(uint64, repeated, tag = "30")]
    pub(crate) stride: Vec<u64>,
    #[prost(uint64, repeated, tag = "40")]
    pub(crate) dilation_factor: Vec<u64>,
    #[prost(oneof = "ConvolutionPadding", tags = "50, 51")]
    pub(crate) padding: Option<ConvolutionPadding>,
    #[prost(bool, tag = "60")]
    pub(crate) is_deconvolution: bool,
    #[prost(bool, tag = "70")]
    pub(crate) has_bias: bool,
    #[prost(message, optional, tag = "90")]
    pub(crate) weights: Option<WeightParams>,
    #[prost(message, optional, tag = "91")]
    pub(crate) bias: Option<WeightParams>,
    #[prost(uint64, repeated, tag = "100")]
    pub(crate) output_shape: Vec<u64>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ConvolutionPadding {
    #[prost(message, tag = "50")]
    Valid(ValidPadding),
    #[prost(message, tag = "51")]
    Same(SamePadding),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValidPadding {
    #[prost(message, optional, tag = "1")]
    pub(crate) padding_amounts: Option<BorderAmounts>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BorderAmounts {
    #[prost(message, repeated, tag = "10")]
    pub(crate) border_amounts: Vec<EdgeSizes>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct EdgeSizes {
    #[prost(uint64, tag = "1")]
    pub(crate) start_edge_size: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) end_edge_size: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SamePadding {
    /// 0 puts the odd one at the bottom right, 1 at the top left.
    #[prost(int32, tag = "1")]
    pub(crate) asymmetry_mode: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pooling {
    /// 0 maximum, 1 average, 2 the root of the sum of squares.
    #[prost(int32, tag = "1")]
    pub(crate) r#type: i32,
    #[prost(uint64, repeated, tag = "10")]
    pub(crate) kernel_size: Vec<u64>,
    #[prost(uint64, repeated, tag = "20")]
    pub(crate) stride: Vec<u64>,
    #[prost(oneof = "PoolingPadding", tags = "30, 31, 32")]
    pub(crate) padding: Option<PoolingPadding>,
    #[prost(bool, tag = "50")]
    pub(crate) avg_pool_exclude_padding: bool,
    #[prost(bool, tag = "60")]
    pub(crate) global_pooling: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum PoolingPadding {
    #[prost(message, tag = "30")]
    Valid(ValidPadding),
    #[prost(message, tag = "31")]
    Same(SamePadding),
    #[prost(message, tag = "32")]
    IncludeLastPixel(ValidCompletePadding),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValidCompletePadding {
    #[prost(uint64, repeated, tag = "10")]
    pub(crate) padding_amounts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Activation {
    #[prost(oneof = "Nonlinearity", tags = "5, 10, 15, 20, 25, 30, 31, 40, 41, 50, 60, 70, 71")]
    pub(crate) nonlinearity: Option<Nonlinearity>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Nonlinearity {
    #[prost(message, tag = "5")]
    Linear(AlphaBeta),
    #[prost(message, tag = "10")]
    Relu(Empty),
    #[prost(message, tag = "15")]
    LeakyRelu(Alpha),
    #[prost(message, tag = "20")]
    ThresholdedRelu(Alpha),
    #[prost(message, tag = "25")]
    Prelu(WeightAlphaBeta),
    #[prost(message, tag = "30")]
    Tanh(Empty),
    #[prost(message, tag = "31")]
    ScaledTanh(AlphaBeta),
    #[prost(message, tag = "40")]
    Sigmoid(Empty),
    #[prost(message, tag = "41")]
    SigmoidHard(AlphaBeta),
    #[prost(message, tag = "50")]
    Elu(Alpha),
    #[prost(message, tag = "60")]
    Softsign(Empty),
    #[prost(message, tag = "70")]
    Softplus(Empty),
    #[prost(message, tag = "71")]
    ParametricSoftplus(WeightAlphaBeta),
}

/// Every message with one float `alpha`: activations, `AddLayerParams`, `MultiplyLayerParams`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Alpha {
    #[prost(float, tag = "1")]
    pub(crate) alpha: f32,
}

/// Every activation with two floats.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AlphaBeta {
    #[prost(float, tag = "1")]
    pub(crate) alpha: f32,
    #[prost(float, tag = "2")]
    pub(crate) beta: f32,
}

/// `ActivationPReLU` (no beta) and `ActivationParametricSoftplus`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WeightAlphaBeta {
    #[prost(message, optional, tag = "1")]
    pub(crate) alpha: Option<WeightParams>,
    #[prost(message, optional, tag = "2")]
    pub(crate) beta: Option<WeightParams>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InnerProduct {
    #[prost(uint64, tag = "1")]
    pub(crate) input_channels: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) output_channels: u64,
    #[prost(bool, tag = "10")]
    pub(crate) has_bias: bool,
    #[prost(message, optional, tag = "20")]
    pub(crate) weights: Option<WeightParams>,
    #[prost(message, optional, tag = "21")]
    pub(crate) bias: Option<WeightParams>,
    #[prost(bool, tag = "22")]
    pub(crate) int8_dynamic_quantize: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scale {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) shape_scale: Vec<u64>,
    #[prost(message, optional, tag = "2")]
    pub(crate) scale: Option<WeightParams>,
    #[prost(bool, tag = "3")]
    pub(crate) has_bias: bool,
    #[prost(uint64, repeated, tag = "4")]
    pub(crate) shape_bias: Vec<u64>,
    #[prost(message, optional, tag = "5")]
    pub(crate) bias: Option<WeightParams>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MeanVarianceNormalize {
    #[prost(bool, tag = "1")]
    pub(crate) across_channels: bool,
    #[prost(bool, tag = "2")]
    pub(crate) normalize_variance: bool,
    #[prost(float, tag = "3")]
    pub(crate) epsilon: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchedMatmul {
    #[prost(bool, tag = "1")]
    pub(crate) transpose_a: bool,
    #[prost(bool, tag = "2")]
    pub(crate) transpose_b: bool,
    #[prost(uint64, tag = "5")]
    pub(crate) weight_matrix_first_dimension: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) weight_matrix_second_dimension: u64,
    #[prost(bool, tag = "7")]
    pub(crate) has_bias: bool,
    #[prost(message, optional, tag = "8")]
    pub(crate) weights: Option<WeightParams>,
    #[prost(message, optional, tag = "9")]
    pub(crate) bias: Option<WeightParams>,
    #[prost(bool, tag = "10")]
    pub(crate) int8_dynamic_quantize: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EmbeddingNd {
    #[prost(uint64, tag = "1")]
    pub(crate) vocab_size: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) embedding_size: u64,
    #[prost(bool, tag = "3")]
    pub(crate) has_bias: bool,
    #[prost(message, optional, tag = "20")]
    pub(crate) weights: Option<WeightParams>,
    #[prost(message, optional, tag = "21")]
    pub(crate) bias: Option<WeightParams>,
}
