//! Non-maximum suppression.

use coreml_format::{mil::Dim, nn::NonMaximumSuppression};

use super::{
    blob::{Blob, show},
    reader::LayerReader,
};
use crate::{
    lower::{Fault, suppression::Suppression},
    onnx::{Element, OnnxBuilder},
};

/// Boxes, scores, indices and how many of each batch there are. Inputs beyond boxes and scores stand for the overlap, the
/// least score and the number of boxes.
pub(super) fn suppression(
    layer: &LayerReader<'_>,
    params: &NonMaximumSuppression,
    onnx: &mut OnnxBuilder,
) -> Result<Vec<Blob>, Fault> {
    let ([boxes, scores], more) = layer.first_of(3)?;
    let (boxes, scores) = (boxes.unfolded(onnx), scores.unfolded(onnx));
    let (&[batch, _, Dim::Fixed(4)], &[_, _, classes]) = (boxes.dims(), scores.dims()) else {
        return Err(format!(
            "its boxes and scores have shapes {} and {}, expected [batch, boxes, 4] and [batch, boxes, classes]",
            show(boxes.dims()),
            show(scores.dims())
        )
        .into());
    };
    let number = |at: usize, stored: f32, onnx: &mut OnnxBuilder| match more.get(at) {
        Some(given) => given.scalar(onnx),
        None => Ok(onnx.floats(&[], vec![stored])),
    };
    let overlap = number(0, params.iou_threshold, onnx)?;
    let least_score = Some(number(1, params.score_threshold, onnx)?);
    let (most, places) = match more.get(2) {
        Some(given) => {
            let given = given.scalar(onnx)?;
            (onnx.cast(&given, Element::I64), Dim::Unknown)
        }
        None => {
            let most = crate::lower::made_count(&[usize::try_from(params.max_boxes).unwrap_or(usize::MAX)])?;
            if most == 0 {
                return Err("it keeps no box".into());
            }
            (onnx.int(most as i64), Dim::Fixed(most))
        }
    };
    let suppression = Suppression { overlap, least_score, most, per_class: params.per_class_suppression };
    let kept = suppression.of(onnx, boxes.value(), scores.value())?;
    let [indices, count] = [kept.indices, kept.count].map(|whole| onnx.cast(&whole, Element::F32));
    Ok(vec![
        Blob::exact(kept.boxes, vec![batch, places, Dim::Fixed(4)]),
        Blob::exact(kept.scores, vec![batch, places, classes]),
        Blob::exact(indices, vec![batch, places]),
        Blob::exact(count, vec![batch]),
    ])
}
