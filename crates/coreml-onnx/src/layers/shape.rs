//! Shapes, layout and constants.

use coreml_format::{mil::Dim, nn::Weight};

use super::{
    blob::{Blob, count, show},
    reader::LayerReader,
};
use crate::{
    lower::{Fault, axes},
    onnx::OnnxBuilder,
};

/// A shape with at most one -1, for what is left.
pub(super) fn reshape_static(layer: &LayerReader<'_>, shape: &[i64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let inferred = shape.iter().filter(|&&d| d == -1).count();
    if shape.is_empty() || inferred > 1 || shape.iter().any(|&d| d == 0 || d < -1) {
        return Err(format!("its target shape is {shape:?}, expected sizes of at least 1, or -1 once").into());
    }
    let known = shape.iter().filter(|&&d| d != -1).try_fold(1usize, |n, &d| n.checked_mul(d as usize));
    let known = known.ok_or_else(|| format!("its target shape {shape:?} is too large"))?;
    let rest = match count(x.dims()) {
        Some(all) if all % known == 0 && (inferred == 1 || all == known) => Dim::Fixed(all / known),
        Some(_) => return Err(format!("{} cannot be reshaped to {shape:?}", show(x.dims())).into()),
        None => Dim::Unknown,
    };
    let dims = shape.iter().map(|&d| if d == -1 { rest } else { Dim::Fixed(d as usize) }).collect();
    Ok(Blob::exact(onnx.reshape(x.value(), shape), dims))
}

/// Fewer axes than dimensions are those of the last ones, and what is before them, each of size 1, goes: coremltools
/// makes such transposes where it turns an array input into an image.
pub(super) fn transpose(layer: &LayerReader<'_>, perm: &[u64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let mut x = layer.input()?.whole(onnx);
    let mut dims = x.dims().unwrap_or_default().to_vec();
    let before: Vec<i64> = (0..dims.len().saturating_sub(perm.len()) as i64).collect();
    let perm: Vec<i64> = perm.iter().map(|&axis| i64::try_from(axis).unwrap_or(i64::MAX)).collect();
    if !before.is_empty() && dims[..before.len()].iter().all(|dim| *dim == Dim::Fixed(1)) {
        dims.drain(..before.len());
        x = onnx.squeeze(&x, &before);
    }
    if axes(&perm, dims.len())?.len() != dims.len() {
        return Err(format!("axes {perm:?} do not name every dimension of {}", show(&dims)).into());
    }
    let turned = perm.iter().map(|&axis| dims[axis as usize]).collect();
    Ok(Blob::exact(onnx.transpose(&x, &perm), turned))
}

/// Dimensions of size 1, at axes of the result.
pub(super) fn expand_dims(layer: &LayerReader<'_>, new: &[i64], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.whole(onnx);
    let mut left = x.dims().unwrap_or_default().iter().copied();
    let rank = left.len() + new.len();
    let new = axes(new, rank)?;
    if new.is_empty() {
        return Err("it names no axis".into());
    }
    let dims = (0..rank as i64)
        .filter_map(|axis| if new.contains(&axis) { Some(Dim::Fixed(1)) } else { left.next() })
        .collect();
    Ok(Blob::exact(onnx.unsqueeze(&x, &new), dims))
}

pub(super) fn load_constant_nd(
    layer: &LayerReader<'_>,
    shape: &[u64],
    data: &Weight,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    if !layer.inputs().is_empty() {
        return Err("it has an input, expected none".into());
    }
    let value = layer.weight("data", data, shape, onnx)?;
    let dims = value.dims().unwrap_or_default().to_vec();
    Ok(Blob::exact(value, dims))
}
