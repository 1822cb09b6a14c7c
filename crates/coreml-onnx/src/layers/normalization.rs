//! Normalisations.

use super::{blob::Blob, reader::LayerReader};
use crate::{
    lower::{Fault, axis, normalization::normalised},
    onnx::OnnxBuilder,
};

/// Mean 0 within each channel, or across all three last dimensions; variance 1 too, where there is an epsilon for it.
pub(super) fn mvn(
    layer: &LayerReader<'_>,
    across_channels: bool,
    variance: Option<f32>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = image(layer)?;
    let rank = x.dims().len() as i64;
    let along: Vec<i64> = (rank - if across_channels { 3 } else { 2 }..rank).collect();
    Ok(x.same(match variance {
        // An epsilon of 0 stands for the default.
        Some(epsilon) => {
            let epsilon = if epsilon == 0.0 { 1e-6 } else { epsilon };
            normalised(onnx, x.value(), &along, [None, None], epsilon)?
        }
        None => {
            let mean = onnx.reduce("ReduceMean", x.value(), &along, true);
            onnx.binary("Sub", x.value(), &mean)
        }
    }))
}

/// Over the channels, which are the third dimension from the last.
pub(super) fn softmax(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = image(layer)?;
    Ok(x.same(onnx.softmax(x.value(), -3)))
}

pub(super) fn softmax_nd(layer: &LayerReader<'_>, along: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    // Counted from the end, axes are the same with and without the first dimension of a blob.
    let from_end = axis(along, x.rank())? - x.rank() as i64;
    if from_end < -(x.dims().len() as i64) {
        let whole = x.whole(onnx);
        let dims = whole.dims().unwrap_or_default().to_vec();
        return Ok(Blob::exact(onnx.softmax(&whole, from_end), dims));
    }
    Ok(x.same(onnx.softmax(x.value(), from_end)))
}

/// The input of a layer that has channels, rows and columns.
fn image<'l>(layer: &'l LayerReader<'_>) -> Result<&'l Blob, Fault> {
    match layer.input()? {
        x if x.dims().len() >= 3 => Ok(x),
        x => Err(format!("its input has rank {}, expected at least 3", x.rank()).into()),
    }
}
