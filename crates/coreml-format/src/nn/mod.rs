//! Neural networks: the layer format of Core ML before ML Programs.

mod kinds;
mod layer;
mod read;
mod validate;
mod weight;

use std::collections::BTreeMap;

pub(crate) use read::read;
pub(crate) use validate::validate;

use crate::{Tensor, schema::ClassLabels};

/// A neural network.
#[derive(Clone, Debug)]
pub struct NeuralNetwork {
    /// Layers in the order of execution.
    pub layers: Vec<Layer>,
    /// How an image input is turned into numbers, by input name; the key is empty where the file names none.
    pub preprocessing: BTreeMap<String, Preprocessing>,
    /// How shapes of multi-array inputs map to the network's.
    pub array_mapping: ArrayMapping,
    /// How image inputs map to the network's shapes.
    pub image_mapping: ImageMapping,
    /// The labels and the name of the layer output with the scores, where this is a classifier.
    pub classifier: Option<Classifier>,
    /// The name of the regressor's output in the network, where this is a regressor.
    pub regressor: bool,
}

/// A classifier's head.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// Labels in the order of the scores.
    pub labels: ClassLabels,
    /// The blob with the scores; empty where the last layer's output is meant.
    pub probabilities: String,
}

/// How multi-array inputs become blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayMapping {
    /// Rank 1 and 3 become (sequence, batch, channel, height, width).
    Rank5,
    /// The shape is taken as it is.
    Exact,
}

/// How image inputs become blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageMapping {
    /// (1, 1, channel, height, width).
    Rank5,
    /// (1, channel, height, width).
    Rank4,
}

/// Image preprocessing.
#[derive(Clone, Debug, PartialEq)]
pub enum Preprocessing {
    /// `x * scale + bias`, with one bias a channel.
    Scaler {
        /// Factor of every channel.
        scale: f32,
        /// Bias of blue, green, red and gray.
        bias: Bias,
    },
    /// Subtracts a mean image.
    MeanImage(Tensor),
}

/// Biases of the four channels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub struct Bias {
    pub blue: f32,
    pub green: f32,
    pub red: f32,
    pub gray: f32,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The layer's name.
    pub name: String,
    /// Blobs that it reads.
    pub inputs: Vec<String>,
    /// Blobs that it writes.
    pub outputs: Vec<String>,
    /// What it does.
    pub kind: LayerKind,
}

/// A weight of a layer: its elements as stored and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub enum Weight {
    /// Stored as float32 or float16; one dimension, since shapes are the layer's.
    Float(Tensor),
    /// Packed integers of 1 to 8 bits with a linear scale.
    Linear {
        /// Packed, most significant bit first.
        packed: bytes::Bytes,
        /// Bits an element.
        bits: u32,
        /// Whether elements are two's complement (then 8 bits wide) and not counted from 0.
        signed: bool,
        /// One, or one an output channel: a row of the first stored dimension, but of the second (the output channels
        /// of a group) for a deconvolution.
        scale: Vec<f32>,
        /// As many as scales, or none.
        bias: Vec<f32>,
    },
    /// Packed indices into a table.
    Table {
        /// Packed, most significant bit first.
        packed: bytes::Bytes,
        /// Bits an index.
        bits: u32,
        /// `2^bits` values.
        table: Vec<f32>,
    },
}

/// What a layer does.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub enum LayerKind {
    Convolution(Convolution),
    Pooling(Pooling),
    Activation(Activation),
    InnerProduct {
        input_channels: u64,
        output_channels: u64,
        weights: Weight,
        bias: Option<Weight>,
        int8_dynamic: bool,
    },
    Scale {
        shape_scale: Vec<u64>,
        scale: Weight,
        has_bias: bool,
        shape_bias: Vec<u64>,
        bias: Option<Weight>,
    },
    Mvn {
        across_channels: bool,
        normalize_variance: bool,
        epsilon: f32,
    },
    Add {
        alpha: f32,
    },
    Multiply {
        alpha: f32,
    },
    AddBroadcastable,
    MultiplyBroadcastable,
    BatchedMatmul {
        transpose_a: bool,
        transpose_b: bool,
        /// Rows, columns and elements of the second matrix where it is a constant. Its elements are stored column
        /// by column.
        weights: Option<(u64, u64, Weight)>,
        bias: Option<Weight>,
        int8_dynamic: bool,
    },
    Gelu {
        mode: GeluMode,
    },
    SoftmaxNd {
        axis: i64,
    },
    Softmax,
    ReshapeStatic {
        target_shape: Vec<i64>,
    },
    Transpose {
        axes: Vec<u64>,
    },
    ExpandDims {
        axes: Vec<i64>,
    },
    LoadConstantNd {
        shape: Vec<u64>,
        data: Weight,
    },
    EmbeddingNd {
        vocabulary: u64,
        size: u64,
        /// Stored as `size` rows of `vocabulary` elements.
        weights: Weight,
        bias: Option<Weight>,
    },
    /// Any other layer, by its name in `NeuralNetwork.proto`.
    Other(&'static str),
}

/// Form of the Gaussian error linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum GeluMode {
    Exact,
    TanhApproximation,
    SigmoidApproximation,
}

/// A convolution or a deconvolution.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct Convolution {
    pub output_channels: u64,
    pub kernel_channels: u64,
    pub groups: u64,
    pub kernel_size: [u64; 2],
    pub stride: [u64; 2],
    pub dilation: [u64; 2],
    pub padding: Padding,
    pub is_deconvolution: bool,
    /// Height and width of a deconvolution's output, where given.
    pub output_shape: Vec<u64>,
    /// Float32 without elements where the layer's second input brings the weights.
    pub weights: Weight,
    pub bias: Option<Weight>,
}

/// Padding of a convolution or a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Explicit amounts: top, bottom, left, right.
    Valid([u64; 4]),
    /// As many as keep the size; the odd one goes to the top left where `top_left`, else to the bottom right.
    Same {
        /// Where an odd one goes.
        top_left: bool,
    },
    /// Caffe's rule for pooling: the last window may stand over the edge. Amounts in height and width.
    IncludeLastPixel([u64; 2]),
}

/// A pooling.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct Pooling {
    pub kind: PoolingKind,
    pub kernel_size: [u64; 2],
    pub stride: [u64; 2],
    pub padding: Padding,
    pub average_excludes_padding: bool,
    /// Whether one window is the whole plane; then the sizes above are 1 and say nothing.
    pub global: bool,
}

/// The kind of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum PoolingKind {
    Max,
    Average,
    L2,
}

/// An element-wise activation.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub enum Activation {
    Linear { alpha: f32, beta: f32 },
    Relu,
    LeakyRelu { alpha: f32 },
    ThresholdedRelu { alpha: f32 },
    Prelu { alpha: Weight },
    Tanh,
    ScaledTanh { alpha: f32, beta: f32 },
    Sigmoid,
    SigmoidHard { alpha: f32, beta: f32 },
    Elu { alpha: f32 },
    Softsign,
    Softplus,
    ParametricSoftplus { alpha: Weight, beta: Weight },
}
