//! Non-maximum suppression.

use coreml_format::{
    classic::NonMaximumSuppression,
    schema::{ArrayKind, Feature, FeatureKind, ShapeFlexibility, SizeRange},
};

use crate::{Array, Result, Value, fault, inputs::Inputs, math::argmax};

/// Numbers of a box: centre and size, across and down.
const SIDES: usize = 4;

/// The boxes that are left, in the order of the outputs.
pub(crate) fn evaluate(model: &NonMaximumSuppression, inputs: &Inputs<'_>, outputs: &[Feature]) -> Result<Vec<Value>> {
    let confidences = rows(inputs.required(&model.confidence_input)?, &model.confidence_input)?;
    let boxes = rows(inputs.required(&model.coordinates_input)?, &model.coordinates_input)?;
    if boxes.width != SIDES {
        return fault(format!(
            "the input {:?} has {} numbers a box, not {SIDES}",
            model.coordinates_input, boxes.width
        ));
    }
    if boxes.count() != confidences.count() {
        return fault(format!("there are {} boxes, and confidences of {}", boxes.count(), confidences.count()));
    }
    let threshold = |name: &Option<String>, otherwise: f64| match name.as_ref().and_then(|name| inputs.named(name)) {
        Some(Value::Double(value)) => *value,
        _ => otherwise,
    };
    let iou = threshold(&model.iou_threshold_input, model.iou_threshold);
    let confidence = threshold(&model.confidence_threshold_input, model.confidence_threshold);
    let mut kept = keep(&confidences, &boxes, iou, confidence, model.per_class);

    let bounds = outputs.iter().map(|output| match &output.kind {
        FeatureKind::MultiArray(kind) => bounds(kind),
        _ => ANY,
    });
    let bounds: Vec<SizeRange> = bounds.collect();
    let least = bounds.iter().map(|range| range.lower).max().unwrap_or(0);
    let most = bounds.iter().filter_map(|range| range.upper).min().unwrap_or(usize::MAX);
    kept.truncate(most);
    let count = kept.len().max(least.min(most));
    let output = |output: &Feature| match &output.name {
        name if *name == model.confidence_output => Ok(confidences.chosen(&kept, count)),
        name if *name == model.coordinates_output => Ok(boxes.chosen(&kept, count)),
        name => fault(format!("it does not give {name:?}")),
    };
    outputs.iter().map(output).collect()
}

/// The places of the boxes that are left, best first.
fn keep(confidences: &Rows<'_>, boxes: &Rows<'_>, iou: f64, confidence: f64, per_class: bool) -> Vec<usize> {
    let candidate = |place: usize| {
        let row = confidences.row(place);
        let class = argmax(row);
        let best = row.get(class).copied().unwrap_or(0.0);
        (best >= confidence).then_some((place, class, best))
    };
    let mut candidates: Vec<(usize, usize, f64)> = (0..confidences.count()).filter_map(candidate).collect();
    candidates.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for (place, class, _) in candidates {
        let suppresses = |&(other, its_class): &(usize, usize)| {
            (!per_class || its_class == class) && overlap(boxes.row(other), boxes.row(place)) > iou
        };
        if !kept.iter().any(suppresses) {
            kept.push((place, class));
        }
    }
    kept.into_iter().map(|(place, _)| place).collect()
}

/// Intersection over union.
fn overlap(a: &[f64], b: &[f64]) -> f64 {
    let shared = |axis: usize| {
        let (low, high) = (|x: &[f64]| x[axis] - x[axis + 2] / 2.0, |x: &[f64]| x[axis] + x[axis + 2] / 2.0);
        (high(a).min(high(b)) - low(a).max(low(b))).max(0.0)
    };
    let area = |x: &[f64]| x[2] * x[3];
    let intersection = shared(0) * shared(1);
    let union = area(a) + area(b) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

/// An array by rows.
struct Rows<'a> {
    values: &'a [f64],
    width: usize,
}

impl<'a> Rows<'a> {
    fn count(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    fn row(&self, place: usize) -> &'a [f64] {
        &self.values[place * self.width..(place + 1) * self.width]
    }

    /// These rows, and zeros up to `count` rows.
    fn chosen(&self, places: &[usize], count: usize) -> Value {
        let mut values: Vec<f64> = places.iter().flat_map(|place| self.row(*place)).copied().collect();
        values.resize(count * self.width, 0.0);
        Value::Array(Array { shape: vec![count, self.width], values })
    }
}

/// An array of two dimensions; further ones before them must be 1.
fn rows<'a>(value: &'a Value, name: &str) -> Result<Rows<'a>> {
    match value {
        Value::Array(array) => match &array.shape[..] {
            [before @ .., _, width] if before.iter().all(|&size| size == 1) => {
                Ok(Rows { values: &array.values, width: *width })
            }
            shape => fault(format!("the input {name:?} has the shape {shape:?}, not two dimensions")),
        },
        other => fault(format!("the input {name:?} is {}", other.describe())),
    }
}

const ANY: SizeRange = SizeRange { lower: 0, upper: None };

/// How many rows an output may have.
fn bounds(kind: &ArrayKind) -> SizeRange {
    match (&kind.flexibility, &kind.shape[..]) {
        (ShapeFlexibility::Ranges(ranges), _) => ranges.first().copied().unwrap_or(ANY),
        (ShapeFlexibility::Fixed, [rows, _]) => SizeRange { lower: *rows, upper: Some(*rows) },
        _ => ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(iou: f64, confidence: f64, per_class: bool, expected: &[usize]) {
        let confidences = Rows { values: &[0.9, 0.1, 0.2, 0.8, 0.6, 0.1, 0.0, 0.3], width: 2 };
        // The first two are the same, the third overlaps them by a third, the last one is alone.
        let boxes = [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], [2.0, 1.0, 2.0, 2.0], [9.0, 9.0, 2.0, 2.0]];
        let boxes = Rows { values: boxes.as_flattened(), width: 4 };
        assert_eq!(keep(&confidences, &boxes, iou, confidence, per_class), expected);
    }

    #[test]
    fn the_best_of_what_overlaps_is_kept() {
        check(0.5, 0.0, false, &[0, 2, 3]);
        check(0.3, 0.0, false, &[0, 3]);
        check(0.3, 0.0, true, &[0, 1, 3]);
        check(1.0, 0.0, false, &[0, 1, 2, 3]);
        check(1.0, 0.6, false, &[0, 1, 2]);
        check(1.0, 0.95, false, &[]);
    }
}
