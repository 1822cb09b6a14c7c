//! Activations.

use super::{Fault, Lowering, OpReader, Results, axis};
use crate::onnx::{OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "clamped_relu", run: clamped_relu },
    Lowering { mil: "elu", run: elu },
    Lowering { mil: "gelu", run: gelu },
    Lowering { mil: "leaky_relu", run: leaky_relu },
    Lowering { mil: "linear_activation", run: linear_activation },
    Lowering { mil: "prelu", run: prelu },
    Lowering { mil: "relu", run: relu },
    Lowering { mil: "relu6", run: relu6 },
    Lowering { mil: "scaled_tanh", run: scaled_tanh },
    Lowering { mil: "sigmoid", run: sigmoid },
    Lowering { mil: "sigmoid_hard", run: sigmoid_hard },
    Lowering { mil: "silu", run: silu },
    Lowering { mil: "softmax", run: softmax },
    Lowering { mil: "softplus", run: softplus },
    Lowering { mil: "softplus_parametric", run: softplus_parametric },
    Lowering { mil: "softsign", run: softsign },
    Lowering { mil: "thresholded_relu", run: thresholded_relu },
];

fn clamped_relu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha, beta) = (op.value("x")?, op.float("alpha")?, op.float("beta")?);
    Ok(vec![leaky_up_to(onnx, &x, alpha, beta)])
}

pub(crate) fn leaky_up_to(onnx: &mut OnnxBuilder, x: &Value, alpha: f32, beta: f32) -> Value {
    let leaky = onnx.activation("LeakyRelu", x, &[("alpha", alpha)]);
    onnx.clip(&leaky, f32::NEG_INFINITY, beta)
}

fn elu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha) = (op.value("x")?, op.float("alpha")?);
    Ok(vec![onnx.activation("Elu", &x, &[("alpha", alpha)])])
}

fn gelu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, mode) = (op.value("x")?, op.string_or("mode", "EXACT")?);
    Ok(vec![match mode.as_str() {
        "EXACT" => onnx.gelu(&x, false),
        "TANH_APPROXIMATION" => onnx.gelu(&x, true),
        "SIGMOID_APPROXIMATION" => sigmoid_gelu(onnx, &x),
        other => return Err(format!("mode {other:?} is not known").into()),
    }])
}

/// `x * sigmoid(1.702 x)`, the sigmoid approximation of Hendrycks and Gimpel (arXiv 1606.08415).
pub(crate) fn sigmoid_gelu(onnx: &mut OnnxBuilder, x: &Value) -> Value {
    let scaled = onnx.with_scalar("Mul", x, 1.702);
    let gate = onnx.unary("Sigmoid", &scaled);
    onnx.binary("Mul", x, &gate)
}

fn leaky_relu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha) = (op.value("x")?, op.float("alpha")?);
    Ok(vec![onnx.activation("LeakyRelu", &x, &[("alpha", alpha)])])
}

fn linear_activation(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha, beta) = (op.value("x")?, op.float("alpha")?, op.float("beta")?);
    Ok(vec![alpha_x_plus_beta(onnx, &x, alpha, beta)])
}

pub(crate) fn alpha_x_plus_beta(onnx: &mut OnnxBuilder, x: &Value, alpha: f32, beta: f32) -> Value {
    let scaled = onnx.with_scalar("Mul", x, alpha);
    onnx.with_scalar("Add", &scaled, beta)
}

fn prelu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha) = (op.value("x")?, op.floats("alpha")?);
    let slope = per_channel(onnx, &x, alpha)?;
    Ok(vec![onnx.binary("PRelu", &x, &slope)])
}

/// A constant with one value a channel, shaped to broadcast along axis 1 of `x`.
pub(crate) fn per_channel(onnx: &mut OnnxBuilder, x: &Value, values: Vec<f32>) -> Result<Value, Fault> {
    let rank = x.dims().ok_or("the rank of x must be known")?.len();
    let mut shape = vec![1; rank.saturating_sub(1)];
    match shape.first_mut() {
        Some(channels) => *channels = values.len(),
        None => return Err("x must have a channel axis".into()),
    }
    Ok(onnx.floats(&shape, values))
}

fn relu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.unary("Relu", &x)])
}

fn relu6(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.clip(&x, 0.0, 6.0)])
}

fn scaled_tanh(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha, beta) = (op.value("x")?, op.float("alpha")?, op.float("beta")?);
    Ok(vec![alpha_tanh_beta_x(onnx, &x, alpha, beta)])
}

pub(crate) fn alpha_tanh_beta_x(onnx: &mut OnnxBuilder, x: &Value, alpha: f32, beta: f32) -> Value {
    let inner = onnx.with_scalar("Mul", x, beta);
    let tanh = onnx.unary("Tanh", &inner);
    onnx.with_scalar("Mul", &tanh, alpha)
}

fn sigmoid(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.unary("Sigmoid", &x)])
}

fn sigmoid_hard(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha, beta) = (op.value("x")?, op.float_or("alpha", 0.2)?, op.float_or("beta", 0.5)?);
    Ok(vec![onnx.activation("HardSigmoid", &x, &[("alpha", alpha), ("beta", beta)])])
}

fn silu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    let gate = onnx.unary("Sigmoid", &x);
    Ok(vec![onnx.binary("Mul", &x, &gate)])
}

fn softmax(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, along) = (op.value("x")?, op.int_or("axis", -1)?);
    if let Some(dims) = x.dims() {
        axis(along, dims.len())?;
    }
    Ok(vec![onnx.softmax(&x, along)])
}

fn softplus(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.softplus(&x)])
}

fn softplus_parametric(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha, beta) = (op.value("x")?, op.floats("alpha")?, op.floats("beta")?);
    let (alpha, beta) = (per_channel(onnx, &x, alpha)?, per_channel(onnx, &x, beta)?);
    Ok(vec![alpha_softplus_beta_x(onnx, &x, &alpha, &beta)])
}

pub(crate) fn alpha_softplus_beta_x(onnx: &mut OnnxBuilder, x: &Value, alpha: &Value, beta: &Value) -> Value {
    let inner = onnx.binary("Mul", x, beta);
    let soft = onnx.softplus(&inner);
    onnx.binary("Mul", &soft, alpha)
}

fn softsign(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.unary("Softsign", &x)])
}

fn thresholded_relu(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha) = (op.value("x")?, op.float_or("alpha", 1.0)?);
    Ok(vec![x_from_alpha(onnx, &x, alpha)])
}

/// `x` where it is at least `alpha`, otherwise 0. ONNX's ThresholdedRelu drops equality.
pub(crate) fn x_from_alpha(onnx: &mut OnnxBuilder, x: &Value, alpha: f32) -> Value {
    let limit = onnx.scalar(alpha, x);
    let keep = onnx.compare("GreaterOrEqual", x, &limit);
    let zero = onnx.scalar(0.0, x);
    onnx.select(&keep, x, &zero)
}
