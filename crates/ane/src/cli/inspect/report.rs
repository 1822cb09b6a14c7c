//! What `ane inspect` tells, as data. Field names are those of the JSON: a promise to scripts.

use std::collections::BTreeMap;

use coreml_format::{
    Model, ModelKind,
    classic::Stage,
    mil::{Block, Function, Op, Opset},
    nn::Layer,
    schema::{ArrayKind, Feature, FeatureKind, ImageKind, Interface, Metadata},
    spec, stats,
};
use serde::Serialize;

use crate::schema;

/// A model, told.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) path: String,
    /// The name of the type in `Model.proto`, or `compiled`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) specification_version: u32,
    pub(super) minimum_os: Option<MinimumOs>,
    pub(super) metadata: MetadataReport,
    pub(super) interface: InterfaceReport,
    /// Number of classes of a classifier.
    pub(super) classes: Option<usize>,
    pub(super) default_function: String,
    pub(super) functions: Vec<FunctionReport>,
    /// What a classic model is made of: the number of its trees and nodes, of its support vectors, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) parts: BTreeMap<&'static str, usize>,
    /// The models of a pipeline, in the order in which they run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stages: Vec<StageReport>,
    pub(super) weights: Vec<WeightsReport>,
    pub(super) compression: BTreeMap<String, usize>,
}

#[derive(Serialize)]
pub(super) struct MinimumOs {
    pub(super) ios: &'static str,
    pub(super) macos: &'static str,
}

#[derive(Serialize)]
pub(super) struct MetadataReport {
    pub(super) description: String,
    pub(super) version: String,
    pub(super) author: String,
    pub(super) license: String,
    pub(super) user_defined: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct InterfaceReport {
    pub(super) inputs: Vec<FeatureReport>,
    pub(super) outputs: Vec<FeatureReport>,
    pub(super) states: Vec<FeatureReport>,
    pub(super) predicted_feature: Option<String>,
    pub(super) predicted_probabilities: Option<String>,
}

#[derive(Serialize)]
pub(super) struct FeatureReport {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// The kind with shapes and sizes, in words.
    pub(super) summary: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    pub(super) optional: bool,
    /// Element type of an array, or colours of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dtype: Option<&'static str>,
    /// The default shape of an array; (height, width) of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shape: Option<Vec<usize>>,
}

#[derive(Serialize)]
pub(super) struct FunctionReport {
    pub(super) name: String,
    pub(super) opset: Option<&'static str>,
    /// Its own interface, in a multi-function model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<InterfaceReport>,
    /// Operations or layers by kind, constants included.
    pub(super) operations: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ops: Option<Vec<OpReport>>,
}

/// A model of a pipeline.
#[derive(Serialize)]
pub(super) struct StageReport {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) parts: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stages: Vec<StageReport>,
}

#[derive(Serialize)]
pub(super) struct OpReport {
    pub(super) kind: String,
    pub(super) name: String,
    /// How many blocks it is inside of, beyond the function's own.
    pub(super) depth: usize,
    pub(super) inputs: Vec<String>,
    /// Types of the results; names of the results for layers, which have no types.
    pub(super) outputs: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct WeightsReport {
    pub(super) dtype: String,
    pub(super) tensors: usize,
    pub(super) elements: usize,
    pub(super) bytes: usize,
}

/// Tells a model; each of its operations, too, with `ops`.
pub(super) fn report(model: &Model, ops: bool) -> Report {
    let minimum_os = spec::minimum_os(model.spec_version);
    Report {
        path: model.path.display().to_string(),
        kind: model.kind.name(),
        specification_version: model.spec_version,
        minimum_os: minimum_os.map(|os| MinimumOs { ios: os.ios, macos: os.macos }),
        metadata: metadata(&model.schema.metadata),
        interface: interface(&model.schema.interface),
        classes: model.schema.class_labels.as_ref().map(|labels| labels.len()),
        default_function: model.schema.default_function.clone(),
        functions: functions(model, ops),
        parts: parts(model),
        stages: stages(model),
        weights: weights(model),
        compression: stats::compression(model),
    }
}

fn metadata(metadata: &Metadata) -> MetadataReport {
    let Metadata { description, version, author, license, user_defined } = metadata.clone();
    MetadataReport { description, version, author, license, user_defined }
}

fn interface(interface: &Interface) -> InterfaceReport {
    let features = |features: &[Feature]| features.iter().map(feature).collect();
    InterfaceReport {
        inputs: features(&interface.inputs),
        outputs: features(&interface.outputs),
        states: features(&interface.states),
        predicted_feature: interface.predicted_feature.clone(),
        predicted_probabilities: interface.predicted_probabilities.clone(),
    }
}

fn feature(feature: &Feature) -> FeatureReport {
    let array = |array: &ArrayKind| (Some(schema::dtype(array.dtype)), Some(array.shape.clone()));
    let image = |image: &ImageKind| (Some(schema::color(image.color)), Some(vec![image.height, image.width]));
    let (kind, (dtype, shape)) = match &feature.kind {
        FeatureKind::Int64 => ("int64", (None, None)),
        FeatureKind::Double => ("double", (None, None)),
        FeatureKind::String => ("string", (None, None)),
        FeatureKind::Image(kind) => ("image", image(kind)),
        FeatureKind::MultiArray(kind) => ("multiArray", array(kind)),
        FeatureKind::Dictionary(key) => ("dictionary", (Some(schema::key_name(*key)), None)),
        FeatureKind::Sequence(element, _) => ("sequence", (Some(schema::key_name(*element)), None)),
        FeatureKind::State(kind) => ("state", array(kind)),
    };
    FeatureReport {
        name: feature.name.clone(),
        kind,
        summary: schema::describe(feature),
        description: feature.description.clone(),
        optional: feature.optional,
        dtype,
        shape,
    }
}

fn functions(model: &Model, ops: bool) -> Vec<FunctionReport> {
    stats::operations(model)
        .into_iter()
        .map(|(name, kinds)| FunctionReport {
            name: name.to_owned(),
            opset: opset(model, name).map(Opset::name),
            interface: model.schema.functions.get(name).map(interface),
            operations: kinds.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
            ops: ops.then(|| op_list(model, name)),
        })
        .collect()
}

fn parts(model: &Model) -> BTreeMap<&'static str, usize> {
    match &model.kind {
        ModelKind::Classic(classic) => classic.facts().into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

fn stages(model: &Model) -> Vec<StageReport> {
    let ModelKind::Pipeline(pipeline) = &model.kind else { return Vec::new() };
    let names = |features: &[Feature]| features.iter().map(|feature| feature.name.clone()).collect();
    let stage = |stage: &Stage| StageReport {
        name: stage.name.clone(),
        kind: stage.model.kind.name(),
        inputs: names(&stage.model.schema.interface.inputs),
        outputs: names(&stage.model.schema.interface.outputs),
        parts: parts(&stage.model),
        stages: stages(&stage.model),
    };
    pipeline.stages.iter().map(stage).collect()
}

fn function<'a>(model: &'a Model, name: &str) -> Option<&'a Function> {
    match &model.kind {
        ModelKind::Program(program) => program.functions.get(name),
        ModelKind::NeuralNetwork(_)
        | ModelKind::Classic(_)
        | ModelKind::Pipeline(_)
        | ModelKind::Compiled(_)
        | ModelKind::Other(_) => None,
    }
}

fn opset(model: &Model, name: &str) -> Option<Opset> {
    function(model, name).map(|function| function.opset)
}

fn op_list(model: &Model, name: &str) -> Vec<OpReport> {
    match &model.kind {
        ModelKind::Program(_) => {
            let mut list = Vec::new();
            function(model, name).iter().for_each(|function| block_ops(&function.block, 0, &mut list));
            list
        }
        ModelKind::NeuralNetwork(network) => network.layers.iter().map(layer).collect(),
        ModelKind::Classic(_) | ModelKind::Pipeline(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => Vec::new(),
    }
}

fn block_ops(block: &Block, depth: usize, list: &mut Vec<OpReport>) {
    for op in block.ops.iter().filter(|op| op.kind != "const") {
        list.push(operation(op, depth));
        op.blocks.iter().for_each(|inner| block_ops(inner, depth + 1, list));
    }
}

fn operation(op: &Op, depth: usize) -> OpReport {
    OpReport {
        kind: op.kind.clone(),
        name: op.name.clone(),
        depth,
        inputs: op.inputs.keys().cloned().collect(),
        outputs: op.outputs.iter().map(|output| output.ty.to_string()).collect(),
    }
}

fn layer(layer: &Layer) -> OpReport {
    OpReport {
        kind: layer.kind.name().to_owned(),
        name: layer.name.clone(),
        depth: 0,
        inputs: layer.inputs.clone(),
        outputs: layer.outputs.clone(),
    }
}

fn weights(model: &Model) -> Vec<WeightsReport> {
    stats::weights(model)
        .into_iter()
        .map(|(dtype, amount)| WeightsReport {
            dtype,
            tensors: amount.tensors,
            elements: amount.elements,
            bytes: amount.bytes,
        })
        .collect()
}
