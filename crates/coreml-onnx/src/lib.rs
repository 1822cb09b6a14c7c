//! Lowers Core ML models to ONNX.
//!
//! [`lower`] turns one function of an ML Program, or a neural network, into an [`OnnxModel`]: one function and one
//! table row an operation, weights by reference. Compute is fp32. ONNX nodes keep the names of the operations they
//! come from. This crate knows formats, not engines.

mod error;
mod layers;
mod lower;
mod onnx;
mod plan;

use std::sync::Arc;

use coreml_format::{
    Model,
    schema::{ClassLabels, Feature, Interface},
};

pub use error::{LowerError, UnsupportedOp};
pub use layers::network_input;
pub use lower::ops;
pub use onnx::{Element, Node, OnnxModel, Port, Storage, Weight};
pub use plan::{Certainty, InferredValue, MemoryPlan, OpCost, PlannedTensor, Role};

/// What to lower, and how.
#[derive(Clone, Debug, Default)]
pub struct LowerOptions {
    /// The function of a multi-function model; the model's default where `None`.
    pub function: Option<String>,
    /// Declare fp16 inputs and outputs as fp16 in the graph, as a user of the exported file expects; otherwise they
    /// are fp32 and the caller converts.
    pub half_io: bool,
    /// The engine has no fp16 type: where the program casts to fp16, round by arithmetic instead.
    pub without_fp16: bool,
    /// Round every floating-point input, every operation's result and a program's fp32 constants to fp16, as the Neural
    /// Engine has them. Shows what half precision does to a model's numbers; weights of layers stay as they are stored.
    pub round_to_fp16: bool,
}

/// A lowered model: the ONNX graph and how the model's features map to its ports.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph and its weights.
    pub model: OnnxModel,
    /// Inputs, outputs and states as the model declares them; a network's output with the shape that it gives.
    pub interface: Interface,
    /// One for each input feature, in the model's order.
    pub inputs: Vec<InputBinding>,
    /// One for each output feature, in the model's order.
    pub outputs: Vec<OutputBinding>,
    /// One for each state.
    pub states: Vec<StateBinding>,
}

/// An input feature and the graph input that takes it.
#[derive(Clone, Debug)]
pub struct InputBinding {
    /// The feature.
    pub feature: Feature,
    /// Index in [`OnnxModel::inputs`]. An image is given as (1, channel, height, width) with values of 0 to 255.
    pub port: usize,
}

/// An output feature and the graph output that it is made from.
#[derive(Clone, Debug)]
pub struct OutputBinding {
    /// The feature.
    pub feature: Feature,
    /// Index in [`OnnxModel::outputs`]; two features may share a port.
    pub port: usize,
    /// How the port's tensor becomes the feature.
    pub form: OutputForm,
}

/// How a tensor becomes an output feature.
#[derive(Clone, Debug)]
pub enum OutputForm {
    /// As it is; an image where the feature is one.
    Tensor,
    /// The label with the highest score.
    Label(Arc<ClassLabels>),
    /// A dictionary from each label to its score.
    Probabilities(Arc<ClassLabels>),
}

/// A state and the ports through which it passes.
#[derive(Clone, Debug)]
pub struct StateBinding {
    /// The state's name.
    pub name: String,
    /// Index in [`OnnxModel::inputs`]: the value before the prediction.
    pub input: usize,
    /// Index in [`OnnxModel::outputs`]: the value after it; `None` for a state that is only read.
    pub output: Option<usize>,
}

/// Lowers `model`.
///
/// Cost: linear in the number of operations; weights are not touched, but for small ones that the graph's structure
/// depends on.
///
/// # Errors
/// [`LowerError::Unsupported`] names every operation that has no lowering, in one go, before any other work.
pub fn lower(model: &Model, options: &LowerOptions) -> Result<Lowered, LowerError> {
    lower::lower(model, options)
}
