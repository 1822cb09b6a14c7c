//! Blobs as engines take them for windows and images: one batch, channels, and `N` spatial dimensions.

use coreml_format::mil::Dim;

use super::blob::{Blob, count, show};
use crate::{
    lower::Fault,
    lower::window::{LARGEST, Rounding, places},
    onnx::{OnnxBuilder, Value, Window},
};

/// A blob as (batch, channel, spatial...): every dimension before the channels is batch, and none is a batch of one.
pub(super) fn planes<const N: usize>(x: &Blob, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    let x = if x.dims().len() < N + 2 { x.unfolded(onnx) } else { x.clone() };
    let Some(outer) = x.dims().len().checked_sub(N + 1) else {
        return Err(format!("its input has shape {}, expected rank {} or more", show(x.dims()), N + 1).into());
    };
    let (outer, inner) = x.dims().split_at(outer);
    if outer.len() == 1 {
        return Ok(x.value().clone());
    }
    let dims = [&[count(outer).map_or(Dim::Unknown, Dim::Fixed)], inner].concat();
    Ok(onnx.reshape_dims(x.value(), &dims)?.with_dims(Some(dims)))
}

/// [`planes`] of a blob that has a batch.
pub(super) fn batched_planes<const N: usize>(x: &Blob, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    if x.rank() < N + 2 {
        return Err(format!("its input has shape {}, expected rank {} or more", show(x.dims()), N + 2).into());
    }
    planes::<N>(x, onnx)
}

/// The way back from [`planes`], for a result with other channels and spatial sizes.
pub(super) fn from_planes<const N: usize>(
    x: &Blob,
    value: Value,
    channels: Dim,
    spatial: [Dim; N],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    // What was unfolded on the way there was too short for the spatial dimensions, and is so on the way back.
    let x = if x.dims().len() < N + 2 { x.unfolded(onnx) } else { x.clone() };
    let outer = &x.dims()[..x.dims().len() - N - 1];
    let dims = [outer, &[channels], &spatial].concat();
    if outer.len() == 1 {
        return Ok(x.with(value, dims));
    }
    Ok(x.with(onnx.reshape_dims(&value, &dims)?, dims))
}

/// A window without padding.
pub(super) fn window<const N: usize>(kernel: [u64; N], stride: [u64; N], dilation: [u64; N]) -> Result<Window, Fault> {
    let [kernel, strides, dilations] = [sizes(kernel)?, sizes(stride)?, sizes(dilation)?].map(|all| all.to_vec());
    Ok(Window { kernel, strides, dilations, pads: vec![0; 2 * N], auto: None })
}

/// Layers give begin and end of each dimension; ONNX wants all begins first.
pub(super) fn pads<const N: usize>(amounts: [[u64; 2]; N]) -> Result<Vec<i64>, Fault> {
    let one = |amount: u64| i64::try_from(amount).ok().filter(|amount| *amount < LARGEST);
    let ordered = (0..2).flat_map(|end| amounts.iter().map(move |both| both[end]));
    let all: Option<Vec<i64>> = ordered.map(one).collect();
    all.ok_or_else(|| "its padding is too large".into())
}

/// The spatial sizes of what a window gives.
pub(super) fn places_of<const N: usize>(
    window: &Window,
    spatial: &[Dim],
    rounding: Rounding,
) -> Result<[Dim; N], Fault> {
    let mut result = [Dim::Unknown; N];
    for (axis, dim) in spatial.iter().enumerate() {
        let Dim::Fixed(size) = *dim else { continue };
        result[axis] = Dim::Fixed(match window.auto {
            Some(_) => size.div_ceil(window.strides[axis] as usize),
            None => places(window, axis, size, rounding)? as usize,
        });
    }
    Ok(result)
}

pub(super) fn sizes<const N: usize>(all: [u64; N]) -> Result<[i64; N], Fault> {
    let mut result = [0; N];
    for (to, from) in result.iter_mut().zip(all) {
        *to = size_of(from)?;
    }
    Ok(result)
}

pub(super) fn size_of(size: u64) -> Result<i64, Fault> {
    let size = i64::try_from(size).ok().filter(|size| (1..LARGEST).contains(size));
    size.ok_or_else(|| "one of its sizes is 0 or too large".into())
}
