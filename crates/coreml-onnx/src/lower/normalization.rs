//! Normalisations.

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results, axes, made_count};
use crate::onnx::{OnnxBuilder, Value, Window};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "batch_norm", run: batch_norm },
    Lowering { mil: "instance_norm", run: instance_norm },
    Lowering { mil: "l2_norm", run: l2_norm },
    Lowering { mil: "layer_norm", run: layer_norm },
    Lowering { mil: "local_response_norm", run: local_response_norm },
];

fn batch_norm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, mean, variance) = (op.value("x")?, op.value("mean")?, op.value("variance")?);
    let channels = channels(&x)?;
    let (gamma, beta) = (scale_of(op, onnx, channels)?, bias_of(op, onnx, channels)?);
    let epsilon = op.float_or("epsilon", 1e-5)?;
    Ok(vec![onnx.batch_norm(&x, [&gamma, &beta, &mean, &variance], epsilon)])
}

fn instance_norm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    let channels = channels(&x)?;
    let (gamma, beta) = (scale_of(op, onnx, channels)?, bias_of(op, onnx, channels)?);
    let epsilon = op.float_or("epsilon", 1e-5)?;
    Ok(vec![onnx.instance_norm(&x, &gamma, &beta, epsilon)])
}

fn channels(x: &Value) -> Result<usize, Fault> {
    match x.dims().and_then(|dims| dims.get(1)) {
        Some(Dim::Fixed(channels)) => made_count(&[*channels]),
        _ => Err("the number of channels, axis 1 of x, must be fixed".into()),
    }
}

fn scale_of(op: &OpReader<'_>, onnx: &mut OnnxBuilder, n: usize) -> Result<Value, Fault> {
    Ok(op.maybe("gamma")?.unwrap_or_else(|| onnx.floats(&[n], vec![1.0; n])))
}

fn bias_of(op: &OpReader<'_>, onnx: &mut OnnxBuilder, n: usize) -> Result<Value, Fault> {
    Ok(op.maybe("beta")?.unwrap_or_else(|| onnx.floats(&[n], vec![0.0; n])))
}

/// `x / sqrt(sum(x^2) + epsilon)` over the last three axes.
fn l2_norm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, epsilon) = (op.value("x")?, op.float_or("epsilon", 1e-6)?);
    Ok(vec![onnx.l2_normalised(&x, &[-3, -2, -1], epsilon)])
}

fn layer_norm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along, epsilon) = (op.value("x")?, op.maybe_ints("axes")?, op.float_or("epsilon", 1e-5)?);
    let (gamma, beta) = (op.maybe("gamma")?, op.maybe("beta")?);
    let rank = x.dims().ok_or("the rank of x must be known")?.len();
    let mut along = axes(&along.unwrap_or_else(|| (0..rank as i64).collect()), rank)?;
    along.sort_unstable();
    Ok(vec![normalised(onnx, &x, &along, [gamma, beta], epsilon)?])
}

/// `x` with mean 0 and variance 1 over some axes, which are sorted; then scaled and shifted. Scale and bias have the
/// sizes of those axes.
pub(crate) fn normalised(
    onnx: &mut OnnxBuilder,
    x: &Value,
    along: &[i64],
    [gamma, beta]: [Option<Value>; 2],
    epsilon: f32,
) -> Result<Value, Fault> {
    if along.is_empty() {
        return Err("it names no axis".into());
    }
    let dims = x.dims().ok_or("the rank of x must be known")?;
    let trailing = along.iter().copied().eq((dims.len() - along.len()) as i64..dims.len() as i64);
    let sizes: Option<Vec<usize>> =
        along.iter().map(|&axis| if let Dim::Fixed(n) = dims[axis as usize] { Some(n) } else { None }).collect();
    match sizes {
        Some(sizes) if trailing => {
            let gamma = match gamma {
                Some(gamma) => gamma,
                None => onnx.floats(&sizes, vec![1.0; made_count(&sizes)?]),
            };
            Ok(onnx.layer_norm(x, along[0], &gamma, beta.as_ref(), epsilon))
        }
        _ => decomposed_layer_norm(onnx, x, along, [gamma, beta], epsilon),
    }
}

/// Normalises any axes. Scale and bias have the sizes of those axes and are spread to the rank of `x`.
fn decomposed_layer_norm(
    onnx: &mut OnnxBuilder,
    x: &Value,
    along: &[i64],
    [gamma, beta]: [Option<Value>; 2],
    epsilon: f32,
) -> Result<Value, Fault> {
    let rank = x.dims().map_or(0, <[_]>::len);
    let others: Vec<i64> = (0..rank as i64).filter(|axis| !along.contains(axis)).collect();
    let spread =
        |onnx: &mut OnnxBuilder, value: Value| if others.is_empty() { value } else { onnx.unsqueeze(&value, &others) };
    let mean = onnx.reduce("ReduceMean", x, along, true);
    let centred = onnx.binary("Sub", x, &mean);
    let squares = onnx.binary("Mul", &centred, &centred);
    let variance = onnx.reduce("ReduceMean", &squares, along, true);
    let shifted = onnx.with_scalar("Add", &variance, epsilon);
    let deviation = onnx.unary("Sqrt", &shifted);
    let mut result = onnx.binary("Div", &centred, &deviation);
    if let Some(gamma) = gamma {
        let gamma = spread(onnx, gamma);
        result = onnx.binary("Mul", &result, &gamma);
    }
    if let Some(beta) = beta {
        let beta = spread(onnx, beta);
        result = onnx.binary("Add", &result, &beta);
    }
    Ok(result)
}

fn local_response_norm(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, size) = (op.value("x")?, op.int("size")?);
    let (alpha, beta, k) = (op.float_or("alpha", 1e-4)?, op.float_or("beta", 0.75)?, op.float_or("k", 1.0)?);
    if size < 1 {
        return Err(format!("size is {size}, expected at least 1").into());
    }
    match x.dims().map(<[_]>::len) {
        Some(3..=5) => Ok(vec![response_norm(onnx, &x, size, [alpha, beta, k])?]),
        _ => Err("x must have rank 3 to 5".into()),
    }
}

/// `x / (k + alpha / size * sum)^beta`, with the sum of squares over neighbouring channels: as many on each side as a
/// window of `size` has there, so that an even size counts as the odd one below it. Beyond the ends are zeros.
pub(crate) fn response_norm(
    onnx: &mut OnnxBuilder,
    x: &Value,
    size: i64,
    [alpha, beta, k]: [f32; 3],
) -> Result<Value, Fault> {
    if !onnx.is_plain() && size % 2 == 1 && x.dims().is_some_and(|dims| dims.len() == 4) {
        return Ok(onnx.lrn(x, size, alpha, beta, k));
    }
    let channels = channels(x)? as i64;
    let squares = onnx.binary("Mul", x, x);
    let shape = onnx.ints(&[0, 1, channels, -1]);
    let columns = onnx.reshape_to(&squares, &shape, true);
    let side = (size - 1) / 2;
    let kernel = 2 * side + 1;
    let window = Window {
        kernel: vec![kernel, 1],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads: vec![side, 0, side, 0],
        auto: None,
    };
    let mean = onnx.average_pool(&columns, &window, false, true);
    let scaled = onnx.with_scalar("Mul", &mean, alpha * kernel as f32 / size as f32);
    let shifted = onnx.with_scalar("Add", &scaled, k);
    let power = onnx.with_scalar("Pow", &shifted, beta);
    let shape = onnx.shape(x);
    let divisor = onnx.reshape_to(&power, &shape, false);
    Ok(onnx.binary("Div", x, &divisor))
}
