//! Poolings.

use coreml_format::{
    mil::Dim,
    nn::{Padding, Pooling, PoolingKind},
};

use super::{
    blob::{Blob, count, fixed},
    planes::{batched_planes, from_planes, pads, places_of, window},
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

pub(super) fn pooling(layer: &LayerReader<'_>, params: &Pooling<2>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = batched_planes::<2>(blob, onnx)?;
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
            window.pads = pads([[rows; 2], [columns; 2]])?;
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

fn global(x: &Value, params: &Pooling<2>, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    match params.padding {
        Padding::Same { .. } | Padding::Valid([[0, 0], [0, 0]]) | Padding::IncludeLastPixel([0, 0]) => {}
        Padding::Valid(_) | Padding::IncludeLastPixel(_) => return Err("a global pooling cannot have padding".into()),
    }
    Ok(match params.kind {
        PoolingKind::Max => onnx.unary("GlobalMaxPool", x),
        PoolingKind::Average => reduced(onnx, "ReduceMean", x, &[2, 3], true),
        PoolingKind::L2 => reduced(onnx, "ReduceL2", x, &[2, 3], true),
    })
}

/// The maximum or the mean over three dimensions. Both are that over the last two, and then over the first, also where
/// padding is not counted: the number of elements in a window is a product as well. So engines that pool two dimensions
/// have this too.
pub(super) fn pooling_3d(layer: &LayerReader<'_>, params: &Pooling<3>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?.unfolded(onnx);
    let &[batch, channels, depth, height, width] = blob.dims() else {
        return Err(format!("its input has rank {}, expected 5", blob.rank()).into());
    };
    let mut window = window(params.kernel_size, params.stride, [1; 3])?;
    let spatial = [depth, height, width];
    if params.global {
        for (to, dim) in window.kernel.iter_mut().zip(spatial) {
            *to = fixed(&dim).ok_or("a global pooling asks for fixed sizes")? as i64;
        }
    }
    match params.padding {
        Padding::Valid(amounts) => window.pads = pads(amounts)?,
        Padding::Same { top_left } => pad_same(&mut window, &spatial, top_left),
        Padding::IncludeLastPixel(_) => return Err("its padding is for two dimensions only".into()),
    }
    if window.auto.is_some() {
        return Err("its spatial sizes must be fixed for this padding".into());
    }
    let [deep, high, wide] = places_of::<3>(&window, &spatial, Rounding::Floor)?;
    let planes = count(&[batch, channels]).map_or(Dim::Unknown, Dim::Fixed);
    let pool = |onnx: &mut OnnxBuilder, x: &Value, along: &[usize]| {
        let pick = |list: &[i64]| along.iter().map(|&axis| list[axis]).collect::<Vec<_>>();
        let (begins, ends) = window.pads.split_at(3);
        let mut part = Window {
            kernel: pick(&window.kernel),
            strides: pick(&window.strides),
            dilations: pick(&window.dilations),
            pads: [pick(begins), pick(ends)].concat(),
            auto: None,
        };
        if along.len() == 1 {
            // The second of two dimensions stays as it is.
            for (list, value) in [(&mut part.kernel, 1), (&mut part.strides, 1), (&mut part.dilations, 1)] {
                list.push(value);
            }
            part.pads = vec![part.pads[0], 0, part.pads[1], 0];
        }
        match params.kind {
            PoolingKind::Max => onnx.max_pool(x, &part, false),
            PoolingKind::Average | PoolingKind::L2 => {
                onnx.average_pool(x, &part, false, !params.average_excludes_padding)
            }
        }
    };
    let flat = onnx.reshape_dims(blob.value(), &[planes, depth, height, width])?;
    let flat = pool(onnx, &flat, &[1, 2]);
    let area = count(&[high, wide]).map_or(Dim::Unknown, Dim::Fixed);
    let columns = onnx.reshape_dims(&flat, &[planes, Dim::Fixed(1), depth, area])?;
    let columns = pool(onnx, &columns, &[0]);
    let dims = vec![batch, channels, deep, high, wide];
    Ok(Blob::exact(onnx.reshape_dims(&columns, &dims)?, dims))
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
