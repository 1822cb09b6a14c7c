//! How a model's features map to the ports of an engine that takes the model's file itself.

use std::{fs, path::Path, sync::Arc};

use coreml_format::{
    Model, ModelKind,
    schema::{ArrayKind, ArrayType, Feature, FeatureKind, Interface},
};
use coreml_onnx::{Element, InputBinding, LowerOptions, OutputBinding, OutputForm, Port, StateBinding};

use super::{
    Obstacle,
    bound::Bound,
    coreml_model::{LoadOptions, WorkingSet},
};
use crate::ane::{
    engines::compiled::Signature,
    errors::{ANEError, Result},
    infer::{ComputeUnits, Precision},
};

/// One port for each input and output, in their order, and one more each way for the state.
///
/// # Errors
/// [`ANEError::CompilationFailed`] for a function that the model does not have.
pub(super) fn bound(model: &Model, function: Option<&str>) -> Result<Bound> {
    let interface = interface(model, function)?.clone();
    let labels = model.schema.class_labels.clone().map(Arc::new);
    let form = |feature: &Feature| match (&feature.kind, &labels) {
        (FeatureKind::Dictionary(_), Some(labels))
            if interface.predicted_probabilities.as_deref() == Some(&feature.name) =>
        {
            OutputForm::Probabilities(labels.clone())
        }
        _ => OutputForm::Tensor,
    };
    let taken = |feature: &Feature| match &model.kind {
        ModelKind::NeuralNetwork(network) => coreml_onnx::network_input(network, feature),
        _ => feature.clone(),
    };
    let given = |feature: &Feature| match (&model.kind, feature.kind.clone()) {
        // Core ML checks none of a network's outputs.
        (ModelKind::NeuralNetwork(_), FeatureKind::MultiArray(kind)) => {
            let kind = FeatureKind::MultiArray(ArrayKind { shape: Vec::new(), ..kind });
            Feature { kind, ..feature.clone() }
        }
        _ => feature.clone(),
    };
    let input = |(port, feature): (usize, &Feature)| InputBinding { feature: taken(feature), port };
    let output =
        |(port, feature): (usize, &Feature)| OutputBinding { feature: given(feature), port, form: form(feature) };
    let inputs: Vec<InputBinding> = interface.inputs.iter().enumerate().map(input).collect();
    let outputs: Vec<OutputBinding> = interface.outputs.iter().enumerate().map(output).collect();
    let mut signature = Signature {
        inputs: inputs.iter().map(|input| port(&input.feature)).collect(),
        outputs: interface.outputs.iter().map(port).collect(),
        nodes: 0,
    };
    let mut states = Vec::new();
    if !interface.states.is_empty() {
        let port = Port { name: "state".to_owned(), element: Element::F32, dims: Vec::new() };
        states.push(StateBinding { name: port.name.clone(), input: inputs.len(), output: Some(outputs.len()) });
        signature.inputs.push(port.clone());
        signature.outputs.push(port);
    }
    Ok(Bound {
        weight_bytes: size(&model.path),
        working_set: working_set(model, function, &interface),
        interface,
        inputs,
        outputs,
        states,
        signature,
    })
}

/// What Core ML computes in, or why not in what is asked for.
///
/// # Errors
/// [`ANEError::UnsupportedPrecision`] for another precision than the model's own.
pub(super) fn precision(model: &Model, obstacles: &[Obstacle], options: &LoadOptions) -> Result<Precision> {
    let own = match model.kind {
        // Layers have no types: the Neural Engine and the GPU compute in fp16, and the CPU in fp32.
        ModelKind::NeuralNetwork(_) if options.compute_units == ComputeUnits::Cpu => Precision::Fp32,
        ModelKind::NeuralNetwork(_) => Precision::Fp16,
        ModelKind::Program(_) if obstacles.iter().any(|obstacle| obstacle.rule == "ANE001") => Precision::Fp32,
        ModelKind::Program(_) => Precision::Fp16,
        ModelKind::Classic(_) | ModelKind::Pipeline(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => {
            options.precision.unwrap_or(Precision::Fp32)
        }
    };
    match options.precision {
        Some(asked) if asked != own => Err(ANEError::UnsupportedPrecision(format!(
            "Core ML computes it in {own}, not in {asked}; convert it with compute_precision {asked}, or leave the \
             precision out"
        ))),
        _ => Ok(own),
    }
}

fn interface<'a>(model: &'a Model, function: Option<&str>) -> Result<&'a Interface> {
    let Some(name) = function else { return Ok(&model.schema.interface) };
    let functions = &model.schema.functions;
    functions.get(name).ok_or_else(|| {
        let names: Vec<&str> = functions.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "it has none by name".to_owned() } else { names.join(", ") };
        ANEError::CompilationFailed(format!("there is no function {name:?}; choose one of: {names}"))
    })
}

fn port(feature: &Feature) -> Port {
    let (element, rank) = match &feature.kind {
        FeatureKind::MultiArray(kind) | FeatureKind::State(kind) => {
            let whole = matches!(kind.dtype, ArrayType::Int32 | ArrayType::Int8);
            (if whole { Element::I32 } else { Element::F32 }, kind.shape.len())
        }
        FeatureKind::Image(_) => (Element::F32, 4),
        FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary(_)
        | FeatureKind::Sequence(..) => (Element::F32, 0),
    };
    Port { name: feature.name.clone(), element, dims: vec![None; rank] }
}

/// What the plan of the lowered model needs; of a model that is not lowered, what its inputs and outputs take.
fn working_set(model: &Model, function: Option<&str>, interface: &Interface) -> WorkingSet {
    let options = LowerOptions { function: function.map(str::to_owned), ..LowerOptions::default() };
    if let Ok(lowered) = coreml_onnx::lower(model, &options) {
        return WorkingSet::of(&lowered, |live| live);
    }
    let elements = |feature: &Feature| match &feature.kind {
        FeatureKind::MultiArray(kind) => kind.shape.iter().fold(1usize, |n, &d| n.saturating_mul(d)),
        FeatureKind::Image(kind) => kind.color.channels().saturating_mul(kind.width).saturating_mul(kind.height),
        _ => 1,
    };
    let all = interface.inputs.iter().chain(&interface.outputs).map(elements);
    WorkingSet {
        bytes: all.fold(0usize, |sum, n| sum.saturating_add(n.saturating_mul(size_of::<f32>()))),
        elements: interface.inputs.iter().map(elements).collect(),
    }
}

/// Bytes of a model's files: Core ML maps weights as they are.
fn size(path: &Path) -> usize {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    }
    let Ok(listing) = fs::read_dir(path) else { return 0 };
    listing.filter_map(|entry| Some(size(&entry.ok()?.path()))).fold(0, usize::saturating_add)
}
