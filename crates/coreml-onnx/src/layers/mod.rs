//! Lowering of neural networks: one arm a layer, with the verbs and helpers that MIL's operations use.

use coreml_format::{Model, nn::NeuralNetwork};

use crate::{LowerError, LowerOptions, Lowered};

pub(crate) fn lower(model: &Model, _network: &NeuralNetwork, _options: &LowerOptions) -> Result<Lowered, LowerError> {
    Err(LowerError::Model(format!("{} is a neural network, which cannot be lowered yet", model.path.display())))
}
