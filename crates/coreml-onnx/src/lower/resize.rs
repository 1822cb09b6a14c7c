//! Resizing the last two axes, and cropping.

use coreml_format::mil::Dim;

use super::{
    Fault, Lowering, OpReader, Results, made_count, rank,
    sampling::{Grid, between},
};
use crate::onnx::{Element, OnnxBuilder, Resize, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "crop", run: crop },
    Lowering { mil: "resize", run: resize },
    Lowering { mil: "resize_bilinear", run: resize_bilinear },
    Lowering { mil: "resize_nearest_neighbor", run: resize_nearest_neighbor },
    Lowering { mil: "upsample_bilinear", run: upsample_bilinear },
    Lowering { mil: "upsample_nearest_neighbor", run: upsample_nearest_neighbor },
];

pub(crate) const NEAREST: Resize = Resize { mode: "nearest", coordinates: "asymmetric", nearest: "floor" };
/// Pixel centres: coremltools writes TensorFlow's `half_pixel_centers` as this operation, and as no other.
const NEAREST_CENTRE: Resize = Resize { mode: "nearest", coordinates: "half_pixel", nearest: "round_prefer_ceil" };
pub(crate) const ALIGNED: Resize = Resize { mode: "linear", coordinates: "align_corners", nearest: "" };
pub(crate) const HALF_PIXEL: Resize = Resize { mode: "linear", coordinates: "half_pixel", nearest: "" };
pub(crate) const ASYMMETRIC: Resize = Resize { mode: "linear", coordinates: "asymmetric", nearest: "" };

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
    Ok(vec![upsampled(onnx, &x, factors, NEAREST)?])
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
    Ok(vec![upsampled(onnx, &x, factors, how)?])
}

pub(crate) fn upsampled(onnx: &mut OnnxBuilder, x: &Value, factors: [f32; 2], how: Resize) -> Result<Value, Fault> {
    let sizes = x.dims().and_then(|dims| match dims {
        [.., Dim::Fixed(h), Dim::Fixed(w)] => Some([(*h as f32 * factors[0]) as i64, (*w as f32 * factors[1]) as i64]),
        _ => None,
    });
    match sizes {
        Some(sizes) => resized(onnx, x, sizes, how),
        None => scaled(onnx, x, factors, how),
    }
}

fn target(op: &OpReader<'_>) -> Result<[i64; 2], Fault> {
    limited([op.int_or("target_size_height", 1)?, op.int_or("target_size_width", 1)?])
}

fn limited(target: [i64; 2]) -> Result<[i64; 2], Fault> {
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
    Ok(vec![linear(onnx, &x, target, Grid::named(&mode)?)?])
}

pub(crate) fn linear(onnx: &mut OnnxBuilder, x: &Value, target: [i64; 2], grid: Grid) -> Result<Value, Fault> {
    let how = match grid {
        Grid::StrictAlignCorners => ALIGNED,
        Grid::AlignCorners if !target.contains(&1) => ALIGNED,
        Grid::AlignCorners | Grid::OffsetCorners => return interpolated(onnx, x, target, grid),
        Grid::Default => ASYMMETRIC,
        Grid::UnalignCorners => HALF_PIXEL,
    };
    resized(onnx, x, target, how)
}

/// Resizes the last `resized_dims` axes to the last sizes in `shape`; a 0 there leaves an axis as it is.
fn resize(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, shape, count) = (op.value("x")?, op.value("shape")?, op.int("resized_dims")?);
    let grid = Grid::named(&op.string_or("sampling_mode", "DEFAULT")?)?;
    let nearest = match op.string_or("interpolation_mode", "LINEAR")?.as_str() {
        "LINEAR" => false,
        "NEAREST_NEIGHBOR" => true,
        other => return Err(format!("interpolation_mode {other:?} is not known").into()),
    };
    let rank = rank(&x)?;
    let count = usize::try_from(count).ok().filter(|&count| count <= rank);
    let count = count.ok_or_else(|| format!("resized_dims is out of range for a tensor of rank {rank}"))?;
    let element = x.element();
    let (dims, x) = (x.dims().map(<[_]>::to_vec).unwrap_or_default(), onnx.cast(&x, Element::F32));
    let wanted = shape.constant().map(|source| source.i64s());
    let short = "shape must have at least resized_dims sizes";
    let mut result = match &wanted {
        Some(wanted) => {
            let wanted = wanted.get(wanted.len().wrapping_sub(count)..).ok_or(short)?;
            let size = |axis: usize| match wanted.get((axis + count).wrapping_sub(rank)) {
                Some(0) | None => {
                    if let Dim::Fixed(n) = dims[axis] {
                        Some(n as i64)
                    } else {
                        None
                    }
                }
                Some(&n) => Some(n),
            };
            let outer =
                (0..rank.saturating_sub(2)).all(|a| matches!(dims[a], Dim::Fixed(n) if size(a) == Some(n as i64)));
            let both = if rank >= 2 { size(rank - 2).zip(size(rank - 1)) } else { None };
            match both {
                Some((height, width)) if outer => {
                    let target = limited([height, width])?;
                    let x = x.clone().with_dims(Some(dims.clone()));
                    Some(if nearest {
                        resized(onnx, &x, target, NEAREST_CENTRE)?
                    } else {
                        linear(onnx, &x, target, grid)?
                    })
                }
                _ => None,
            }
        }
        None => None,
    };
    if result.is_none() {
        let Some([entries]) = shape.shape().and_then(|s| <[usize; 1]>::try_from(s).ok()) else {
            return Err("shape must be a list of fixed length".into());
        };
        if entries < count {
            return Err(short.into());
        }
        let (shape, own) = (onnx.cast(&shape, Element::I64), onnx.shape(&x));
        let mut stretched_so_far = x;
        for i in 0..count {
            let axis = rank - count + i;
            let (at, here) = (onnx.int((entries - count + i) as i64), onnx.int(axis as i64));
            let (wanted, given) = (onnx.gather(&shape, &at, 0), onnx.gather(&own, &here, 0));
            let zero = onnx.int(0);
            let same = onnx.compare("Equal", &wanted, &zero);
            let wanted = onnx.select(&same, &given, &wanted);
            stretched_so_far = stretched(onnx, &stretched_so_far, (axis, rank), [&given, &wanted], (nearest, grid));
        }
        result = Some(stretched_so_far);
    }
    let result = result.expect("made above");
    Ok(vec![onnx.cast(&result, element)])
}

/// Resizes one axis from and to sizes that are known at run time: picks either neighbour and takes its share.
fn stretched(
    onnx: &mut OnnxBuilder,
    x: &Value,
    (axis, rank): (usize, usize),
    [given, wanted]: [&Value; 2],
    (nearest, grid): (bool, Grid),
) -> Value {
    let (zero, one) = (onnx.int(0), onnx.int(1));
    let order = onnx.range(&zero, wanted, &one);
    let order = onnx.cast(&order, Element::F32);
    let (given, wanted) = (onnx.cast(given, Element::F32), onnx.cast(wanted, Element::F32));
    let last = onnx.with_scalar("Sub", &given, 1.0);
    let shared = |onnx: &mut OnnxBuilder, order: &Value, span: &Value, parts: &Value| {
        let scaled = onnx.binary("Mul", order, span).with_dims(Some(vec![Dim::Unknown]));
        onnx.quotient(&scaled, &parts.clone().with_dims(Some(Vec::new())))
    };
    let one = onnx.scalar(1.0, &order);
    let places = match grid {
        _ if nearest => {
            let centre = onnx.with_scalar("Add", &order, 0.5);
            let place = shared(onnx, &centre, &given, &wanted);
            onnx.unary("Floor", &place)
        }
        Grid::StrictAlignCorners | Grid::AlignCorners => {
            let gaps = onnx.binary("Sub", &wanted, &one);
            let parts = onnx.binary("Max", &gaps, &one);
            let places = shared(onnx, &order, &last, &parts);
            if grid == Grid::StrictAlignCorners {
                places
            } else {
                // A single place is in the middle.
                let alone = onnx.compare("LessOrEqual", &wanted, &one);
                let middle = onnx.with_scalar("Mul", &last, 0.5);
                onnx.select(&alone, &middle, &places)
            }
        }
        Grid::Default => shared(onnx, &order, &given, &wanted),
        Grid::OffsetCorners => {
            let centre = onnx.with_scalar("Add", &order, 0.5);
            let span = onnx.binary("Max", &last, &one);
            shared(onnx, &centre, &span, &wanted)
        }
        Grid::UnalignCorners => {
            let centre = onnx.with_scalar("Add", &order, 0.5);
            let places = shared(onnx, &centre, &given, &wanted);
            onnx.with_scalar("Sub", &places, 0.5)
        }
    };
    let zero = onnx.scalar(0.0, &places);
    let places = onnx.binary("Max", &places, &zero);
    let places = onnx.binary("Min", &places, &last);
    let low = onnx.unary("Floor", &places);
    let pick = |onnx: &mut OnnxBuilder, at: &Value| {
        let at = onnx.cast(at, Element::I64);
        onnx.gather(x, &at, axis as i64)
    };
    let near = pick(onnx, &low);
    if nearest {
        return near;
    }
    let high = onnx.binary("Add", &low, &one);
    let high = onnx.binary("Min", &high, &last);
    let far = pick(onnx, &high);
    let share = onnx.binary("Sub", &places, &low);
    let behind: Vec<i64> = (1..(rank - axis) as i64).collect();
    let share = if behind.is_empty() { share } else { onnx.unsqueeze(&share, &behind) };
    between(onnx, &near, &far, &share)
}

/// Scaled to sizes that are known at run time.
fn scaled(onnx: &mut OnnxBuilder, x: &Value, [height, width]: [f32; 2], how: Resize) -> Result<Value, Fault> {
    in_four_axes(onnx, x, |onnx, x| {
        let shape = onnx.shape(x);
        let (shape, factors) = (onnx.cast(&shape, Element::F32), onnx.floats(&[4], vec![1.0, 1.0, height, width]));
        let sizes = onnx.binary("Mul", &shape, &factors);
        let sizes = onnx.cast(&sizes, Element::I64);
        Ok(onnx.resize(x, &sizes, how))
    })
}

fn resized(onnx: &mut OnnxBuilder, x: &Value, [height, width]: [i64; 2], how: Resize) -> Result<Value, Fault> {
    in_four_axes(onnx, x, |onnx, x| {
        let shape = onnx.shape(x);
        let outer = onnx.slice(&shape, &[0], &[2], &[0], &[1]);
        let inner = onnx.ints(&[height, width]);
        let sizes = onnx.concat(&[outer, inner], 0);
        Ok(onnx.resize(x, &sizes, how))
    })
}

/// Engines resize images of rank 4; others have their outer axes joined.
fn in_four_axes(
    onnx: &mut OnnxBuilder,
    x: &Value,
    resize: impl Fn(&mut OnnxBuilder, &Value) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    let dims = x.dims().ok_or("the rank of x must be known")?;
    match dims {
        [_, _, _, _] => resize(onnx, x),
        [_, _] | [_, _, _] => {
            let axes: Vec<i64> = (0..4 - dims.len() as i64).collect();
            let raised = onnx.unsqueeze(x, &axes);
            let resized = resize(onnx, &raised)?;
            Ok(onnx.squeeze(&resized, &axes))
        }
        [] | [_] => Err(format!("x must have at least rank 2, and has rank {}", dims.len()).into()),
        [..] => {
            let rank = dims.len() as i64;
            let shape = onnx.shape(x);
            let (outer, inner) = (
                onnx.slice(&shape, &[0], &[rank - 2], &[0], &[1]),
                onnx.slice(&shape, &[rank - 2], &[rank], &[0], &[1]),
            );
            let joined = onnx.ints(&[1, -1]);
            let joined = onnx.concat(&[joined, inner], 0);
            let joined = onnx.reshape_to(x, &joined, false);
            let resized = resize(onnx, &joined)?;
            let shape = onnx.shape(&resized);
            let inner = onnx.slice(&shape, &[2], &[4], &[0], &[1]);
            let apart = onnx.concat(&[outer, inner], 0);
            Ok(onnx.reshape_to(&resized, &apart, false))
        }
    }
}

/// Bilinear sampling at any grid, as products with a matrix on either side: rows first, then columns.
fn interpolated(onnx: &mut OnnxBuilder, x: &Value, target: [i64; 2], mode: Grid) -> Result<Value, Fault> {
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
fn grid(input: usize, output: usize, mode: Grid) -> Vec<f32> {
    let last = input as f32 - 1.0;
    let at = |i: usize| match mode {
        Grid::AlignCorners if output == 1 => last / 2.0,
        Grid::AlignCorners => i as f32 * last / (output as f32 - 1.0),
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
