//! How a model's features map to the ports of its graph.

use coreml_format::schema::Interface;
use coreml_onnx::{InputBinding, Lowered, OnnxModel, OutputBinding, StateBinding};

use super::coreml_model::WorkingSet;
use crate::ane::engines::{Engine, compiled::Signature};

/// What is known of a lowered model once an engine has its graph.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) interface: Interface,
    pub(super) inputs: Vec<InputBinding>,
    pub(super) outputs: Vec<OutputBinding>,
    pub(super) states: Vec<StateBinding>,
    pub(super) signature: Signature,
    pub(super) weight_bytes: usize,
    pub(super) working_set: WorkingSet,
}

impl Bound {
    /// Takes a lowered model apart, for an engine.
    pub(super) fn of(engine: &dyn Engine, lowered: Lowered) -> (OnnxModel, Bound) {
        let bound = Bound {
            signature: Signature::of(&lowered.model),
            weight_bytes: lowered.model.weights_len(),
            working_set: WorkingSet::of(&lowered, |live| engine.working_set(live)),
            interface: lowered.interface,
            inputs: lowered.inputs,
            outputs: lowered.outputs,
            states: lowered.states,
        };
        (lowered.model, bound)
    }
}
