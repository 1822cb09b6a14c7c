//! The outputs of a classifier: the label of the class that won, and the score of each class.

use coreml_format::{
    classic::Label,
    schema::{ClassLabels, Feature, FeatureKind},
};

use crate::{Dictionary, Result, Value, fault};

/// The values of a classifier's outputs. There is a score for each label.
pub(crate) fn outputs(outputs: &[Feature], labels: &ClassLabels, winner: usize, scores: &[f64]) -> Result<Vec<Value>> {
    let output = |output: &Feature| match (&output.kind, labels.get(winner)) {
        (FeatureKind::Dictionary(_), _) => Ok(Value::Dictionary(dictionary(labels, scores))),
        (_, Some(Label::String(label))) => Ok(Value::String(label)),
        (_, Some(Label::Int64(label))) => Ok(Value::Int64(label)),
        (_, None) => fault("it has no classes"),
    };
    outputs.iter().map(output).collect()
}

fn dictionary(labels: &ClassLabels, scores: &[f64]) -> Dictionary {
    let scores = scores.iter().copied();
    match labels {
        ClassLabels::Strings(labels) => Dictionary::Strings(labels.iter().cloned().zip(scores).collect()),
        ClassLabels::Int64s(labels) => Dictionary::Int64s(labels.iter().copied().zip(scores).collect()),
    }
}
