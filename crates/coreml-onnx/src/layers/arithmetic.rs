//! Sums and products, element by element.

use coreml_format::{mil::Dim, nn::Weight};

use super::{
    blob::{Blob, broadcast, show},
    reader::LayerReader,
};
use crate::{
    lower::Fault,
    onnx::{OnnxBuilder, Value},
};

/// The sum or product of all inputs; that of the input and `alpha` where there is one only.
pub(super) fn fold(
    layer: &LayerReader<'_>,
    op_type: &'static str,
    alpha: f32,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    match layer.inputs() {
        [] => Err("it has no input".into()),
        [x] => Ok(x.same(onnx.with_scalar(op_type, x.value(), alpha))),
        [first, rest @ ..] => rest.iter().try_fold(first.clone(), |sum, x| sum.broadcast(op_type, x, onnx)),
    }
}

pub(super) fn broadcastable(
    layer: &LayerReader<'_>,
    op_type: &'static str,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let (x, y) = layer.pair()?;
    x.broadcast(op_type, y, onnx)
}

/// `x * scale + bias`, each with its shape: `[1]`, `[C]`, `[1, H, W]` or `[C, H, W]`.
pub(super) fn scale(
    layer: &LayerReader<'_>,
    scale: (&[u64], &Weight),
    bias: Option<(&[u64], &Weight)>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let scale = last_three(layer, "scale", scale, x, onnx)?;
    let scaled = onnx.binary("Mul", x.value(), &scale);
    Ok(x.same(match bias {
        Some(bias) => {
            let bias = last_three(layer, "bias", bias, x, onnx)?;
            onnx.binary("Add", &scaled, &bias)
        }
        None => scaled,
    }))
}

/// A constant that goes along the last three dimensions of `x` and leaves its shape as it is.
fn last_three(
    layer: &LayerReader<'_>,
    role: &str,
    (shape, weight): (&[u64], &Weight),
    x: &Blob,
    onnx: &mut OnnxBuilder,
) -> Result<Value, Fault> {
    let shape = match shape {
        [1] | [_, _, _] => shape.to_vec(),
        [channels] => vec![*channels, 1, 1],
        other => return Err(format!("{role} has shape {other:?}, expected one or three sizes").into()),
    };
    let value = layer.weight(role, weight, &shape, onnx)?;
    let dims = value.dims().expect("a constant has a shape");
    let fits = |(before, after): (&Dim, &Dim)| before == after || *before == Dim::Unknown;
    match broadcast(x.dims(), dims)? {
        after if after.len() == x.dims().len() && x.dims().iter().zip(&after).all(fits) => Ok(value),
        _ => Err(format!("{role} of shape {} does not fit an input of shape {}", show(dims), show(x.dims())).into()),
    }
}
