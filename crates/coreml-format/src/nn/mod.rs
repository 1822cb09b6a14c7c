//! Neural networks: the layer format of Core ML before ML Programs.

mod kind;
mod kinds;
mod layer;
mod params;
mod read;
mod recurrent;
mod validate;
mod weight;
mod window;

use std::collections::BTreeMap;

pub use kind::LayerKind;
pub use params::{
    Activation, Batchnorm, BoxMode, ConstantPad, Convolution, CropResize, Distribution, Elementwise, Gates, GeluMode,
    Grid, Loop, Moments, NonMaximumSuppression, Operation, Padding, PaddingMode, Pooling, PoolingKind, Recurrent,
    ReduceMode, Reduction, Reorganization, Sampling, ScatterMode, Shape, SliceNd, UnaryFunction, UnaryOperation,
    Upsample,
};
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

impl NeuralNetwork {
    /// Calls `f` on every layer, those of branches and loops after the layer that they are in.
    pub fn visit<'a>(layers: &'a [Layer], f: &mut impl FnMut(&'a Layer)) {
        for layer in layers {
            f(layer);
            layer.kind.nested().into_iter().for_each(|inner| NeuralNetwork::visit(inner, f));
        }
    }
}
