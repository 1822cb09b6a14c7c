//! Convolutions.

use coreml_format::{
    mil::Dim,
    nn::{Convolution, Padding},
};

use super::{
    blob::{Blob, show},
    planes::{batched_planes, from_planes, pads, places_of, size_of, sizes, window},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault,
        window::{Rounding, fit_transposed, pad_same},
    },
    onnx::{OnnxBuilder, Value, Window},
};

pub(super) fn convolution<const N: usize>(
    layer: &LayerReader<'_>,
    params: &Convolution<N>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    if params.is_deconvolution {
        return deconvolution(layer, params, onnx);
    }
    let (blob, weight) = match layer.inputs() {
        [x] => (x, None),
        [x, weight] => (x, Some(weight)),
        other => return Err(format!("expected one or two inputs, and it has {}", other.len()).into()),
    };
    let x = batched_planes::<N>(blob, onnx)?;
    let shape = [&[params.output_channels, params.kernel_channels], &params.kernel_size[..]].concat();
    let weight = match weight {
        Some(weight) => given_weight(weight, &shape, onnx)?,
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
    let spatial = places_of::<N>(&window, spatial, Rounding::Floor)?;
    let bias = bias(layer, params, onnx)?;
    let value = onnx.conv(&x, &weight, bias.as_ref(), &window, groups);
    from_planes(blob, value, Dim::Fixed(outputs as usize), spatial, onnx)
}

/// A weight that another layer gives.
fn given_weight(weight: &Blob, shape: &[u64], onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    let value = weight.whole(onnx);
    let dims = value.dims().unwrap_or_default();
    let fits = |(dim, size): (&Dim, &u64)| if let Dim::Fixed(n) = dim { *n as u64 == *size } else { true };
    if dims.len() == shape.len() && dims.iter().zip(shape).all(fits) {
        Ok(value)
    } else {
        Err(format!("its weight has shape {}, expected {shape:?}", show(dims)).into())
    }
}

/// A transposed convolution. Padding crops its result, and where an output shape is given, the rest is cropped or
/// added as TensorFlow does.
fn deconvolution<const N: usize>(
    layer: &LayerReader<'_>,
    params: &Convolution<N>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = batched_planes::<N>(blob, onnx)?;
    let [outputs, inputs, groups] = sizes([params.output_channels, params.kernel_channels, params.groups])?;
    check_channels(&x, inputs)?;
    if inputs % groups != 0 {
        return Err(format!("its {inputs} input channels cannot be divided into {groups} groups").into());
    }
    let shape = [&[params.kernel_channels, params.output_channels / params.groups], &params.kernel_size[..]].concat();
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
    let (mut spatial, mut extra) = ([Dim::Unknown; N], [0; N]);
    for (axis, dim) in x.dims().unwrap_or_default()[2..].iter().enumerate() {
        let Dim::Fixed(size) = *dim else {
            if same || !params.output_shape.is_empty() {
                return Err("its spatial sizes must be fixed for this padding".into());
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
    match full - window.pads[axis] - window.pads[window.kernel.len() + axis] {
        places @ 1.. => Ok(places as usize),
        places => Err(format!("its padding leaves {places} elements of axis {}", axis + 2).into()),
    }
}

fn bias<const N: usize>(
    layer: &LayerReader<'_>,
    params: &Convolution<N>,
    onnx: &mut OnnxBuilder,
) -> Result<Option<Value>, Fault> {
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
