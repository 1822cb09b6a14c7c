//! Non-maximum suppression.

use bytes::Bytes;

use super::labels;
use crate::{
    pb::{self, classic as message},
    schema::ClassLabels,
};

/// Leaves out boxes that overlap a better one.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "fields carry the names of NonMaximumSuppression.proto, which documents them")]
pub struct NonMaximumSuppression {
    /// Whether a box suppresses those of its own class only.
    pub per_class: bool,
    /// Labels of the classes, where the model has them.
    pub labels: Option<ClassLabels>,
    pub iou_threshold: f64,
    pub confidence_threshold: f64,
    pub confidence_input: String,
    pub coordinates_input: String,
    /// The optional input that replaces the threshold.
    pub iou_threshold_input: Option<String>,
    /// The optional input that replaces the threshold.
    pub confidence_threshold_input: Option<String>,
    pub confidence_output: String,
    pub coordinates_output: String,
}

pub(super) fn read(body: Bytes) -> Result<NonMaximumSuppression, String> {
    let model: message::NonMaximumSuppression = pb::decode(body, "it")?;
    if !(0.0..=1.0).contains(&model.iou_threshold) {
        return Err(format!("has iouThreshold {}; it is from 0 to 1", model.iou_threshold));
    }
    if model.confidence_threshold.is_nan() || model.confidence_threshold < 0.0 {
        return Err(format!("has confidenceThreshold {}; it is 0 or more", model.confidence_threshold));
    }
    let optional = |name: String| (!name.is_empty()).then_some(name);
    Ok(NonMaximumSuppression {
        per_class: model.pick_top.is_some_and(|method| method.per_class),
        labels: labels::given(model.labels),
        iou_threshold: model.iou_threshold,
        confidence_threshold: model.confidence_threshold,
        confidence_input: model.confidence_input,
        coordinates_input: model.coordinates_input,
        iou_threshold_input: optional(model.iou_threshold_input),
        confidence_threshold_input: optional(model.confidence_threshold_input),
        confidence_output: model.confidence_output,
        coordinates_output: model.coordinates_output,
    })
}
