//! Resizing the last two axes, and cropping.

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results, made_count};
use crate::onnx::{OnnxBuilder, Resize, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "crop", run: crop },
    Lowering { mil: "resize_bilinear", run: resize_bilinear },
    Lowering { mil: "resize_nearest_neighbor", run: resize_nearest_neighbor },
    Lowering { mil: "upsample_bilinear", run: upsample_bilinear },
    Lowering { mil: "upsample_nearest_neighbor", run: upsample_nearest_neighbor },
];

const NEAREST: Resize = Resize { mode: "nearest", coordinates: "asymmetric", nearest: "floor" };
/// Pixel centres: coremltools writes TensorFlow's `half_pixel_centers` as this operation, and as no other.
const NEAREST_CENTRE: Resize = Resize { mode: "nearest", coordinates: "half_pixel", nearest: "round_prefer_ceil" };
const ALIGNED: Resize = Resize { mode: "linear", coordinates: "align_corners", nearest: "" };
const HALF_PIXEL: Resize = Resize { mode: "linear", coordinates: "half_pixel", nearest: "" };
const ASYMMETRIC: Resize = Resize { mode: "linear", coordinates: "asymmetric", nearest: "" };

/// Cuts off rows and columns at either end.
fn crop(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, height, width) = (op.value("x")?, op.ints("crop_height")?, op.ints("crop_width")?);
    let ([top, bottom], [left, right]) = (&height[..], &width[..]) else {
        return Err("crop_height and crop_width need two numbers each".into());
    };
    let end = |amount: i64| if amount == 0 { i64::from(i32::MAX) } else { -amount };
    Ok(vec![onnx.slice(&x, &[*top, *left], &[end(*bottom), end(*right)], &[-2, -1], &[1, 1])])
}

fn factors(op: &OpReader<'_>) -> Result<[f32; 2], Fault> {
    let factors = [op.float_or("scale_factor_height", 1.0)?, op.float_or("scale_factor_width", 1.0)?];
    if factors.iter().all(|f| f.is_finite() && *f > 0.0 && *f < 65536.0) {
        Ok(factors)
    } else {
        Err(format!("scale factors are {factors:?}, expected numbers above 0").into())
    }
}

fn upsample_nearest_neighbor(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, factors) = (op.value("x")?, factors(op)?);
    Ok(vec![scaled(onnx, &x, factors, NEAREST)?])
}

/// Scale factors are recomputed from the sizes (docs of coremltools 9.0), which is what ONNX does with sizes.
fn upsample_bilinear(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, factors, aligned) = (op.value("x")?, factors(op)?, op.bool_or("align_corners", true)?);
    // From opset iOS 16 on, half_pixel_centers says the sampling where corners are not aligned.
    let half = op.bool_or("half_pixel_centers", !aligned)?;
    let how = match (aligned, half) {
        (true, _) => ALIGNED,
        (false, true) => HALF_PIXEL,
        (false, false) => ASYMMETRIC,
    };
    let sizes = x.dims().and_then(|dims| match dims {
        [.., Dim::Fixed(h), Dim::Fixed(w)] => Some([(*h as f32 * factors[0]) as i64, (*w as f32 * factors[1]) as i64]),
        _ => None,
    });
    Ok(vec![match sizes {
        Some(sizes) => resized(onnx, &x, sizes, how)?,
        None => scaled(onnx, &x, factors, how)?,
    }])
}

fn target(op: &OpReader<'_>) -> Result<[i64; 2], Fault> {
    let target = [op.int_or("target_size_height", 1)?, op.int_or("target_size_width", 1)?];
    if target.iter().all(|t| (1..1 << 20).contains(t)) {
        Ok(target)
    } else {
        Err(format!("the target size is {target:?}").into())
    }
}

fn resize_nearest_neighbor(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, target) = (op.value("x")?, target(op)?);
    Ok(vec![resized(onnx, &x, target, NEAREST_CENTRE)?])
}

fn resize_bilinear(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, target, mode) = (op.value("x")?, target(op)?, op.string_or("sampling_mode", "DEFAULT")?);
    let how = match mode.as_str() {
        "STRICT_ALIGN_CORNERS" => ALIGNED,
        "ALIGN_CORNERS" if !target.contains(&1) => ALIGNED,
        "ALIGN_CORNERS" | "OFFSET_CORNERS" => return Ok(vec![interpolated(onnx, &x, target, &mode)?]),
        "DEFAULT" => ASYMMETRIC,
        "UNALIGN_CORNERS" => HALF_PIXEL,
        other => return Err(format!("sampling_mode {other:?} is not known").into()),
    };
    Ok(vec![resized(onnx, &x, target, how)?])
}

fn scaled(onnx: &mut OnnxBuilder, x: &Value, [height, width]: [f32; 2], how: Resize) -> Result<Value, Fault> {
    in_four_axes(onnx, x, |onnx, x| {
        let scales = onnx.floats(&[4], vec![1.0, 1.0, height, width]);
        Ok(onnx.resize(x, Some(&scales), None, how))
    })
}

fn resized(onnx: &mut OnnxBuilder, x: &Value, [height, width]: [i64; 2], how: Resize) -> Result<Value, Fault> {
    in_four_axes(onnx, x, |onnx, x| {
        let shape = onnx.shape(x);
        let outer = onnx.slice(&shape, &[0], &[2], &[0], &[1]);
        let inner = onnx.ints(&[height, width]);
        let sizes = onnx.concat(&[outer, inner], 0);
        Ok(onnx.resize(x, None, Some(&sizes), how))
    })
}

/// Engines resize images of rank 4; one of rank 3 gets a batch, one of rank 5 has its outer axes joined.
fn in_four_axes(
    onnx: &mut OnnxBuilder,
    x: &Value,
    resize: impl Fn(&mut OnnxBuilder, &Value) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    match x.dims().map(<[_]>::len) {
        Some(4) => resize(onnx, x),
        Some(3) => {
            let raised = onnx.unsqueeze(x, &[0]);
            let resized = resize(onnx, &raised)?;
            Ok(onnx.squeeze(&resized, &[0]))
        }
        Some(rank) => Err(format!("x must have rank 3 or 4, and has rank {rank}").into()),
        None => Err("the rank of x must be known".into()),
    }
}

/// Bilinear sampling at any grid, as products with a matrix on either side: rows first, then columns.
fn interpolated(onnx: &mut OnnxBuilder, x: &Value, target: [i64; 2], mode: &str) -> Result<Value, Fault> {
    let Some([.., Dim::Fixed(height), Dim::Fixed(width)]) = x.dims() else {
        return Err("the size of x must be fixed for this sampling_mode".into());
    };
    made_count(&[*height, target[0] as usize])?;
    made_count(&[*width, target[1] as usize])?;
    let (rows, columns) = (grid(*height, target[0] as usize, mode), grid(*width, target[1] as usize, mode));
    let left = onnx.floats(&[rows.len(), *height], weights(&rows, *height));
    let right = onnx.floats(&[columns.len(), *width], weights(&columns, *width));
    let right = onnx.transpose(&right, &[1, 0]);
    let tall = onnx.mat_mul(&left, x);
    Ok(onnx.mat_mul(&tall, &right))
}

/// Where each output samples the input (docs of `resize_bilinear`, coremltools 9.0).
fn grid(input: usize, output: usize, mode: &str) -> Vec<f32> {
    let last = input as f32 - 1.0;
    let at = |i: usize| match mode {
        "ALIGN_CORNERS" if output == 1 => last / 2.0,
        "ALIGN_CORNERS" => i as f32 * last / (output as f32 - 1.0),
        _ => (0.5 + i as f32) * last.max(1.0) / output as f32,
    };
    (0..output).map(|i| at(i).clamp(0.0, last)).collect()
}

/// One row an output with the weights of the two inputs that it lies between.
fn weights(points: &[f32], input: usize) -> Vec<f32> {
    let mut weights = vec![0.0; points.len() * input];
    for (row, &point) in points.iter().enumerate() {
        let low = point.floor() as usize;
        let share = point - low as f32;
        weights[row * input + low] += 1.0 - share;
        weights[row * input + (low + 1).min(input - 1)] += share;
    }
    weights
}
