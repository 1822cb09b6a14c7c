//! Convolutions, and what they share with poolings: planes and windows.

use coreml_format::{
    mil::Dim,
    nn::{Convolution, Padding},
};

use super::{
    blob::{Blob, count, show, target},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault,
        window::{LARGEST, Rounding, fit_transposed, pad_same, places},
    },
    onnx::{OnnxBuilder, Value, Window},
};

pub(super) fn convolution(
    layer: &LayerReader<'_>,
    params: &Convolution,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let (blob, weight) = match layer.inputs() {
        [x] => (x, None),
        [x, weight] => (x, Some(weight)),
        other => return Err(format!("expected one or two inputs, and it has {}", other.len()).into()),
    };
    let x = planes(blob, onnx)?;
    let [height, width] = params.kernel_size;
    let shape = [params.output_channels, params.kernel_channels, height, width];
    let weight = match weight {
        Some(weight) => given_weight(weight, shape, onnx)?,
        None => layer.weight("weight", &params.weights, &shape, onnx)?,
    };
    let [outputs, per_group, groups] = sizes([params.output_channels, params.kernel_channels, params.groups])?;
    check_channels(&x, per_group * groups)?;
    let mut window = window(params.kernel_size, params.stride, params.dilation)?;
    let spatial = &x.dims().unwrap_or_default()[2..];
    match params.padding {
        Padding::Valid(amounts) => window.pads = pads(amounts)?,
        Padding::Same { top_left } => pad_same(&mut window, spatial, top_left),
        Padding::IncludeLastPixel(_) => return Err("its padding is for poolings only".into()),
    }
    let spatial = places_of(&window, spatial, Rounding::Floor)?;
    let bias = bias(layer, params, onnx)?;
    let value = onnx.conv(&x, &weight, bias.as_ref(), &window, groups);
    from_planes(blob, value, Dim::Fixed(outputs as usize), spatial, onnx)
}

/// A weight that another layer gives.
fn given_weight(weight: &Blob, shape: [u64; 4], onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    let value = weight.whole(onnx);
    let dims = value.dims().unwrap_or_default();
    let fits = |(dim, size): (&Dim, &u64)| if let Dim::Fixed(n) = dim { *n as u64 == *size } else { true };
    if dims.len() == shape.len() && dims.iter().zip(&shape).all(fits) {
        Ok(value)
    } else {
        Err(format!("its weight has shape {}, expected {shape:?}", show(dims)).into())
    }
}

/// A transposed convolution. Padding crops its result, and where an output shape is given, the rest is cropped or
/// added as TensorFlow does.
pub(super) fn deconvolution(
    layer: &LayerReader<'_>,
    params: &Convolution,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes(blob, onnx)?;
    let [height, width] = params.kernel_size;
    let [outputs, inputs, groups] = sizes([params.output_channels, params.kernel_channels, params.groups])?;
    check_channels(&x, inputs)?;
    if inputs % groups != 0 {
        return Err(format!("its {inputs} input channels cannot be divided into {groups} groups").into());
    }
    let shape = [params.kernel_channels, params.output_channels / params.groups, height, width];
    let weight = layer.weight_scaled_along(1, "weight", &params.weights, &shape, onnx)?;
    let mut window = window(params.kernel_size, params.stride, params.dilation)?;
    let (same, lower) = match params.padding {
        Padding::Valid(amounts) => {
            window.pads = pads(amounts)?;
            (false, false)
        }
        Padding::Same { top_left } => (true, top_left),
        Padding::IncludeLastPixel(_) => return Err("its padding is for poolings only".into()),
    };
    let (mut spatial, mut extra) = ([Dim::Unknown; 2], [0; 2]);
    for (axis, dim) in x.dims().unwrap_or_default()[2..].iter().enumerate() {
        let Dim::Fixed(size) = *dim else {
            if same || !params.output_shape.is_empty() {
                return Err("its height and width must be fixed for this padding".into());
            }
            continue;
        };
        let target = match params.output_shape.get(axis) {
            Some(&target) => Some(size_of(target)?),
            None if same => Some((size as i64).saturating_mul(window.strides[axis])),
            None => None,
        };
        if let Some(target) = target {
            extra[axis] = fit_transposed(&mut window, axis, size, target, lower)?;
        }
        spatial[axis] = Dim::Fixed(transposed_places(&window, axis, size, extra[axis])?);
    }
    let bias = bias(layer, params, onnx)?;
    let value = onnx.conv_transpose(&x, &weight, bias.as_ref(), &window, &extra, groups);
    from_planes(blob, value, Dim::Fixed(outputs as usize), spatial, onnx)
}

fn transposed_places(window: &Window, axis: usize, size: usize, extra: i64) -> Result<usize, Fault> {
    let reach = (window.kernel[axis] - 1).saturating_mul(window.dilations[axis]).saturating_add(1);
    let full = (size as i64 - 1).saturating_mul(window.strides[axis]).saturating_add(reach).saturating_add(extra);
    match full - window.pads[axis] - window.pads[2 + axis] {
        places @ 1.. => Ok(places as usize),
        places => Err(format!("its padding leaves {places} elements of axis {}", axis + 2).into()),
    }
}

fn bias(layer: &LayerReader<'_>, params: &Convolution, onnx: &mut OnnxBuilder) -> Result<Option<Value>, Fault> {
    params.bias.as_ref().map(|bias| layer.weight("bias", bias, &[params.output_channels], onnx)).transpose()
}

fn check_channels(x: &Value, wanted: i64) -> Result<(), Fault> {
    match x.dims().unwrap_or_default()[1] {
        Dim::Fixed(given) if given as i64 != wanted => {
            Err(format!("its input has {given} channels, and its weight asks for {wanted}").into())
        }
        _ => Ok(()),
    }
}

/// A blob as (batch, channel, height, width): every dimension before the last three is batch.
pub(super) fn planes(x: &Blob, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    match x.dims() {
        [_, _, _, _] => Ok(x.value().clone()),
        [outer @ .., channels, height, width] if outer.len() > 1 => {
            let batch = count(outer).map_or(Dim::Unknown, Dim::Fixed);
            let dims = vec![batch, *channels, *height, *width];
            Ok(onnx.reshape(x.value(), &target(&dims)?).with_dims(Some(dims)))
        }
        dims => Err(format!("its input has shape {}, expected rank 4 or more", show(dims)).into()),
    }
}

/// The way back from [`planes`], for a result with other channels, rows and columns.
pub(super) fn from_planes(
    x: &Blob,
    value: Value,
    channels: Dim,
    [height, width]: [Dim; 2],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let outer = &x.dims()[..x.dims().len() - 3];
    let dims = [outer, &[channels, height, width]].concat();
    if outer.len() == 1 {
        return Ok(x.with(value, dims));
    }
    Ok(x.with(onnx.reshape(&value, &target(&dims)?), dims))
}

/// A window without padding.
pub(super) fn window(kernel: [u64; 2], stride: [u64; 2], dilation: [u64; 2]) -> Result<Window, Fault> {
    let [kernel, strides, dilations] = [sizes(kernel)?, sizes(stride)?, sizes(dilation)?].map(|pair| pair.to_vec());
    Ok(Window { kernel, strides, dilations, pads: vec![0; 4], auto: None })
}

/// Layers give top, bottom, left, right; ONNX wants all begins first.
pub(super) fn pads([top, bottom, left, right]: [u64; 4]) -> Result<Vec<i64>, Fault> {
    let one = |amount: u64| i64::try_from(amount).ok().filter(|amount| *amount < LARGEST);
    let all: Option<Vec<i64>> = [top, left, bottom, right].into_iter().map(one).collect();
    all.ok_or_else(|| "its padding is too large".into())
}

/// Height and width of what a window gives.
pub(super) fn places_of(window: &Window, spatial: &[Dim], rounding: Rounding) -> Result<[Dim; 2], Fault> {
    let mut result = [Dim::Unknown; 2];
    for (axis, dim) in spatial.iter().enumerate() {
        let Dim::Fixed(size) = *dim else { continue };
        result[axis] = Dim::Fixed(match window.auto {
            Some(_) => size.div_ceil(window.strides[axis] as usize),
            None => places(window, axis, size, rounding)? as usize,
        });
    }
    Ok(result)
}

fn sizes<const N: usize>(all: [u64; N]) -> Result<[i64; N], Fault> {
    let mut result = [0; N];
    for (to, from) in result.iter_mut().zip(all) {
        *to = size_of(from)?;
    }
    Ok(result)
}

fn size_of(size: u64) -> Result<i64, Fault> {
    let size = i64::try_from(size).ok().filter(|size| (1..LARGEST).contains(size));
    size.ok_or_else(|| "one of its sizes is 0 or too large".into())
}
