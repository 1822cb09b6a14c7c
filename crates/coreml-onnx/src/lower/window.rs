//! Convolutions, and the windows that they share with poolings.

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{OnnxBuilder, Value, Window};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "conv", run: conv },
    Lowering { mil: "conv_quantized", run: conv_quantized },
    Lowering { mil: "conv_transpose", run: conv_transpose },
];

/// No dimension of a real model is larger; a larger one would only ask for memory.
pub(crate) const LARGEST: i64 = 1 << 31;

fn conv(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let weight = op.value("weight")?;
    convolved(op, onnx, &weight)
}

/// A weight of bytes, scaled and shifted as a whole or for each output channel. A table has no place among its operands.
fn conv_quantized(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (weight, kind, bits) = (op.source("weight")?, op.string("quantization_type")?, op.int_or("nbits", 8)?);
    let (scale, bias) = (op.floats("quant_scale")?, op.floats("quant_bias")?);
    if kind != "linear" {
        return Err(format!("quantization_type {kind:?} has no documented meaning, expected linear").into());
    }
    let (shape, numbers) = (weight.shape(), weight.i64s());
    let channels = shape.first().copied().unwrap_or(0);
    let fits = |all: &[f32]| all.len() == 1 || all.len() == channels;
    if !(1..=8).contains(&bits) || channels == 0 || !fits(&scale) || !fits(&bias) {
        return Err("quant_scale and quant_bias need one number, or one for each output channel".into());
    }
    let part = (numbers.len() / channels).max(1);
    let of = |all: &[f32], i: usize| if all.len() == 1 { all[0] } else { all[i / part] };
    let values = numbers.iter().enumerate().map(|(i, &n)| n as f32 * of(&scale, i) + of(&bias, i)).collect();
    let weight = onnx.floats(&shape, values);
    convolved(op, onnx, &weight)
}

fn convolved(op: &OpReader<'_>, onnx: &mut OnnxBuilder, weight: &Value) -> Results {
    let (x, bias, groups) = (op.value("x")?, op.maybe("bias")?, op.int_or("groups", 1)?);
    let spatial = spatial(&x)?;
    let (channels, kernel) = channels_and_kernel(weight, spatial.len())?;
    divides(groups, channels[0])?;
    if let Some(Dim::Fixed(given)) = x.dims().and_then(|dims| dims.get(1))
        && *given as i64 != channels[1] * groups
    {
        return Err(
            format!("x has {given} channels; its weight and {groups} groups ask for {}", channels[1] * groups).into()
        );
    }
    let window = window(op, &spatial, kernel)?;
    check_output(op, &spatial, &window, Rounding::Floor)?;
    Ok(vec![onnx.conv(&x, weight, bias.as_ref(), &window, groups)])
}

fn conv_transpose(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, weight, bias, groups) = (op.value("x")?, op.value("weight")?, op.maybe("bias")?, op.int_or("groups", 1)?);
    let spatial = spatial(&x)?;
    let (channels, kernel) = channels_and_kernel(&weight, spatial.len())?;
    divides(groups, channels[0])?;
    let wanted = op.maybe_ints("output_shape")?;
    let (pad, pad_type) = (op.maybe_ints("pad")?, op.string_or("pad_type", "valid")?);
    let n = spatial.len();
    let (strides, dilations) = (steps(op, "strides", n)?, steps(op, "dilations", n)?);
    let pads = match (pad_type.as_str(), pad) {
        ("custom", Some(pad)) => begins_then_ends(&pad, n)?,
        ("custom", None) => return Err("pad_type is custom, and operand pad is missing".into()),
        ("valid" | "same", _) => vec![0; 2 * n],
        (other, _) => return Err(format!("pad_type {other:?} is not known").into()),
    };
    let mut window = Window { kernel, strides, dilations, pads, auto: None };
    let mut extra = vec![0; n];
    for axis in 0..n {
        let Dim::Fixed(size) = spatial[axis] else {
            if pad_type == "same" || wanted.is_some() {
                return Err("its spatial size must be fixed for this padding".into());
            }
            continue;
        };
        let given = wanted.as_ref().map(|shape| shape.get(shape.len().wrapping_sub(n - axis)).copied().unwrap_or(0));
        let target = match given {
            Some(target) => target,
            None if pad_type == "same" => (size as i64).saturating_mul(window.strides[axis]),
            None => continue,
        };
        extra[axis] = fit_transposed(&mut window, axis, size, target, false)?;
    }
    Ok(vec![onnx.conv_transpose(&x, &weight, bias.as_ref(), &window, &extra, groups)])
}

/// Pads a transposed convolution so that it gives `target` elements on a spatial axis, from `size` elements. What is
/// too much goes, half at either end; the odd one at the end, or at the beginning where `lower`. What is missing is
/// the result, to be added at the end.
pub(crate) fn fit_transposed(
    window: &mut Window,
    axis: usize,
    size: usize,
    target: i64,
    lower: bool,
) -> Result<i64, Fault> {
    let n = window.kernel.len();
    let full = (size as i64 - 1).saturating_mul(window.strides[axis]).saturating_add(reach(window, axis));
    if !(1..=full.saturating_add(LARGEST)).contains(&target) {
        return Err(format!("its output cannot have {target} elements on axis {}", axis + 2).into());
    }
    let over = full - window.pads[axis] - window.pads[n + axis] - target;
    let (less, more) = (over.max(0) / 2, over.max(0) - over.max(0) / 2);
    let (begin, end) = if lower { (more, less) } else { (less, more) };
    window.pads[axis] += begin;
    window.pads[n + axis] += end;
    Ok((-over).max(0))
}

/// How many elements a window spans on a spatial axis.
fn reach(window: &Window, axis: usize) -> i64 {
    (window.kernel[axis] - 1).saturating_mul(window.dilations[axis]).saturating_add(1)
}

fn divides(groups: i64, channels: i64) -> Result<(), Fault> {
    if groups > 0 && channels % groups == 0 {
        Ok(())
    } else {
        Err(format!("groups is {groups}, which must be at least 1 and divide {channels} channels").into())
    }
}

/// The spatial dimensions of (batch, channel, spatial...).
pub(super) fn spatial(x: &Value) -> Result<Vec<Dim>, Fault> {
    match x.dims() {
        Some(dims) if (3..=5).contains(&dims.len()) => Ok(dims[2..].to_vec()),
        Some(dims) => Err(format!("x must have rank 3, 4 or 5, and has rank {}", dims.len()).into()),
        None => Err("the rank of x must be known".into()),
    }
}

/// The first two sizes of a convolution's weight, and its kernel.
fn channels_and_kernel(weight: &Value, n: usize) -> Result<([i64; 2], Vec<i64>), Fault> {
    let shape: Vec<i64> =
        weight.shape().ok_or("the shape of weight must be fixed")?.iter().map(|&d| d as i64).collect();
    match &shape[..] {
        [a, b, kernel @ ..] if kernel.len() == n && shape.iter().all(|&d| d > 0) => Ok(([*a, *b], kernel.to_vec())),
        _ => Err(format!("weight has shape {shape:?}, and x has {n} spatial dimensions").into()),
    }
}

/// How an output size is rounded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    Floor,
    Ceil,
}

/// The window of a convolution or pooling: strides, dilations and padding as the operation has them.
pub(super) fn window(op: &OpReader<'_>, spatial: &[Dim], kernel: Vec<i64>) -> Result<Window, Fault> {
    let n = spatial.len();
    if kernel.len() != n || kernel.iter().any(|k| !(1..LARGEST).contains(k)) {
        return Err(format!("a kernel of {kernel:?} does not fit {n} spatial dimensions").into());
    }
    let strides = steps(op, "strides", n)?;
    let dilations = if op.kind().ends_with("pool") { vec![1; n] } else { steps(op, "dilations", n)? };
    let (pad, pad_type) = (op.maybe_ints("pad")?, op.string_or("pad_type", "valid")?);
    let mut window = Window { kernel, strides, dilations, pads: vec![0; 2 * n], auto: None };
    match (pad_type.as_str(), pad) {
        ("valid", _) => {}
        ("custom", Some(pad)) => window.pads = begins_then_ends(&pad, n)?,
        ("custom", None) => return Err("pad_type is custom, and operand pad is missing".into()),
        (same @ ("same" | "same_lower"), _) => pad_same(&mut window, spatial, same == "same_lower"),
        (other, _) => return Err(format!("pad_type {other:?} is not known").into()),
    }
    Ok(window)
}

/// Pads so that the output has `ceil(size / stride)` elements; the odd one stands at the end, or at the beginning
/// where `lower`.
pub(crate) fn pad_same(window: &mut Window, spatial: &[Dim], lower: bool) {
    let n = spatial.len();
    for (axis, dim) in spatial.iter().enumerate() {
        let reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
        let total = match *dim {
            _ if window.strides[axis] == 1 => reach - 1,
            Dim::Fixed(size) => {
                let (size, stride) = (size as i64, window.strides[axis]);
                (((size + stride - 1) / stride - 1) * stride + reach - size).max(0)
            }
            Dim::Unknown => {
                window.auto = Some(if lower { "SAME_LOWER" } else { "SAME_UPPER" });
                return;
            }
        };
        let less = total / 2;
        (window.pads[axis], window.pads[n + axis]) = if lower { (total - less, less) } else { (less, total - less) };
    }
}

fn steps(op: &OpReader<'_>, parameter: &str, n: usize) -> Result<Vec<i64>, Fault> {
    let steps = op.maybe_ints(parameter)?.unwrap_or_else(|| vec![1; n]);
    if steps.len() == n && steps.iter().all(|step| (1..LARGEST).contains(step)) {
        Ok(steps)
    } else {
        Err(format!("{parameter} is {steps:?}, expected {n} numbers of at least 1").into())
    }
}

/// MIL pads per axis (begin, end); ONNX wants all begins first.
pub(super) fn begins_then_ends(pad: &[i64], n: usize) -> Result<Vec<i64>, Fault> {
    if pad.len() != 2 * n || pad.iter().any(|p| !(0..LARGEST).contains(p)) {
        return Err(format!("pad is {pad:?}, expected {} numbers of at least 0", 2 * n).into());
    }
    Ok((0..2).flat_map(|end| (0..n).map(move |axis| pad[2 * axis + end])).collect())
}

/// The output of a window must be what the program declares.
pub(super) fn check_output(
    op: &OpReader<'_>,
    spatial: &[Dim],
    window: &Window,
    rounding: Rounding,
) -> Result<(), Fault> {
    let declared = op.output_dims(0).unwrap_or_default();
    for (axis, dim) in spatial.iter().enumerate() {
        let (Dim::Fixed(size), None) = (dim, window.auto) else { continue };
        let output = places(window, axis, *size, rounding)?;
        if let Some(Dim::Fixed(given)) = declared.get(axis + 2)
            && *given as i64 != output
        {
            return Err(format!(
                "its output is declared with {given} elements on axis {}, and its window gives {output}",
                axis + 2
            )
            .into());
        }
    }
    Ok(())
}

/// The number of places that a window has on a spatial axis of `size` elements. A window that does not fit is an error:
/// it would ask for absurd memory, or for none.
pub(crate) fn places(window: &Window, axis: usize, size: usize, rounding: Rounding) -> Result<i64, Fault> {
    let n = window.kernel.len();
    let reach = reach(window, axis);
    let room = (size as i64).saturating_add(window.pads[axis]).saturating_add(window.pads[n + axis]) - reach;
    if room < 0 {
        return Err(
            format!("its window reaches over {reach} elements, more than the padded input of {size} has").into()
        );
    }
    let ceil = if rounding == Rounding::Ceil { window.strides[axis] - 1 } else { 0 };
    let output = (room + ceil) / window.strides[axis] + 1;
    // A last window that would start in the padding at the end is left out.
    let beyond = rounding == Rounding::Ceil && (output - 1) * window.strides[axis] >= size as i64 + window.pads[axis];
    Ok(if beyond { output - 1 } else { output })
}
