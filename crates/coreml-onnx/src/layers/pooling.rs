//! Poolings.

use coreml_format::{
    mil::Dim,
    nn::{Padding, Pooling, PoolingKind},
};

use super::{
    blob::Blob,
    convolution::{from_planes, pads, places_of, planes, window},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault,
        reduction::reduced,
        window::{Rounding, pad_same},
    },
    onnx::{OnnxBuilder, Value, Window},
};

pub(super) fn pooling(layer: &LayerReader<'_>, params: &Pooling, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = planes(blob, onnx)?;
    let &[_, channels, height, width] = x.dims().unwrap_or_default() else {
        return Err("its input must have planes".into());
    };
    if params.global {
        let value = global(&x, params, onnx)?;
        return from_planes(blob, value, channels, [Dim::Fixed(1); 2], onnx);
    }
    let spatial = [height, width];
    let mut window = window(params.kernel_size, params.stride, [1; 2])?;
    let mut rounding = Rounding::Floor;
    match params.padding {
        Padding::Valid(amounts) => window.pads = pads(amounts)?,
        Padding::Same { top_left } => pad_same(&mut window, &spatial, top_left),
        Padding::IncludeLastPixel([rows, columns]) => {
            window.pads = pads([rows, rows, columns, columns])?;
            rounding = Rounding::Ceil;
        }
    }
    let result = places_of(&window, &spatial, rounding)?;
    check_windows(&window, &spatial, &result, rounding)?;
    if rounding == Rounding::Ceil && params.kind == PoolingKind::L2 {
        pad_to_the_last(&mut window, &spatial, &result)?;
        rounding = Rounding::Floor;
    }
    let value = match params.kind {
        PoolingKind::Max => onnx.max_pool(&x, &window, rounding == Rounding::Ceil),
        PoolingKind::Average => {
            onnx.average_pool(&x, &window, rounding == Rounding::Ceil, !params.average_excludes_padding)
        }
        PoolingKind::L2 => l2(&x, &window, onnx),
    };
    from_planes(blob, value, channels, result, onnx)
}

fn global(x: &Value, params: &Pooling, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    match params.padding {
        Padding::Same { .. } | Padding::Valid([0, 0, 0, 0]) | Padding::IncludeLastPixel([0, 0]) => {}
        Padding::Valid(_) | Padding::IncludeLastPixel(_) => return Err("a global pooling cannot have padding".into()),
    }
    Ok(match params.kind {
        PoolingKind::Max => onnx.unary("GlobalMaxPool", x),
        PoolingKind::Average => reduced(onnx, "ReduceMean", x, &[2, 3], true),
        PoolingKind::L2 => reduced(onnx, "ReduceL2", x, &[2, 3], true),
    })
}

/// Every window must have an element of the input in it; the maximum of none is no number.
fn check_windows(window: &Window, spatial: &[Dim; 2], places: &[Dim; 2], rounding: Rounding) -> Result<(), Fault> {
    for axis in 0..2 {
        let (begin, end, kernel) = (window.pads[axis], window.pads[2 + axis], window.kernel[axis]);
        if begin >= kernel || end >= kernel {
            return Err(format!("its padding of {begin} and {end} is not smaller than its window of {kernel}").into());
        }
        // Without padding the rule of the last pixel does not leave out a window that starts behind it.
        if let (Rounding::Ceil, Dim::Fixed(size), Dim::Fixed(places)) = (rounding, spatial[axis], places[axis])
            && window.pads.iter().all(|&p| p == 0)
            && (size as i64 - kernel).div_euclid(window.strides[axis]) + 1 == places as i64
            && (size as i64 - kernel).rem_euclid(window.strides[axis]) != 0
        {
            return Err(format!("its last window lies outside its input of {size} elements").into());
        }
    }
    Ok(())
}

/// Pads at the end until the last window, which may reach over the edge, has all its elements.
fn pad_to_the_last(window: &mut Window, spatial: &[Dim; 2], places: &[Dim; 2]) -> Result<(), Fault> {
    for axis in 0..2 {
        let (Dim::Fixed(size), Dim::Fixed(places)) = (spatial[axis], places[axis]) else {
            return Err("its height and width must be fixed for this padding".into());
        };
        let needed = (places as i64 - 1) * window.strides[axis] + window.kernel[axis];
        let end = needed - size as i64 - window.pads[axis];
        window.pads[2 + axis] = window.pads[2 + axis].max(end);
    }
    Ok(())
}

/// The root of the sum of squares.
fn l2(x: &Value, window: &Window, onnx: &mut OnnxBuilder) -> Value {
    let squares = onnx.binary("Mul", x, x);
    let mean = onnx.average_pool(&squares, window, false, true);
    let area: i64 = window.kernel.iter().product();
    let sum = onnx.with_scalar("Mul", &mean, area as f32);
    onnx.unary("Sqrt", &sum)
}
