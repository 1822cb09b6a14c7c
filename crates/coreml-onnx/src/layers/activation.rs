//! Activations.

use coreml_format::nn::{Activation, GeluMode};

use super::{blob::Blob, reader::LayerReader};
use crate::{
    lower::{
        Fault,
        activation::{
            alpha_softplus_beta_x, alpha_tanh_beta_x, alpha_x_plus_beta, leaky_up_to, sigmoid_gelu, x_from_alpha,
        },
    },
    onnx::OnnxBuilder,
};

pub(super) fn activation(layer: &LayerReader<'_>, params: &Activation, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = blob.value();
    Ok(blob.same(match params {
        Activation::Linear { alpha, beta } => alpha_x_plus_beta(onnx, x, *alpha, *beta),
        Activation::Relu => onnx.unary("Relu", x),
        Activation::LeakyRelu { alpha } => onnx.activation("LeakyRelu", x, &[("alpha", *alpha)]),
        Activation::ThresholdedRelu { alpha } => x_from_alpha(onnx, x, *alpha),
        Activation::Prelu { alpha } => {
            let slope = layer.per_channel("alpha", alpha, blob, onnx)?;
            onnx.binary("PRelu", x, &slope)
        }
        Activation::Tanh => onnx.unary("Tanh", x),
        Activation::ScaledTanh { alpha, beta } => alpha_tanh_beta_x(onnx, x, *alpha, *beta),
        Activation::Sigmoid => onnx.unary("Sigmoid", x),
        Activation::SigmoidHard { alpha, beta } => {
            onnx.activation("HardSigmoid", x, &[("alpha", *alpha), ("beta", *beta)])
        }
        Activation::Elu { alpha } => onnx.activation("Elu", x, &[("alpha", *alpha)]),
        Activation::Softsign => onnx.unary("Softsign", x),
        Activation::Softplus => onnx.softplus(x),
        Activation::ParametricSoftplus { alpha, beta } => {
            let alpha = layer.per_channel("alpha", alpha, blob, onnx)?;
            let beta = layer.per_channel("beta", beta, blob, onnx)?;
            alpha_softplus_beta_x(onnx, x, &alpha, &beta)
        }
    }))
}

/// `min(beta, x)` where `x` is at least 0, otherwise `min(beta, alpha x)`.
pub(super) fn clamped_relu(
    layer: &LayerReader<'_>,
    alpha: f32,
    beta: f32,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    Ok(x.same(leaky_up_to(onnx, x.value(), alpha, beta)))
}

pub(super) fn gelu(layer: &LayerReader<'_>, mode: GeluMode, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    Ok(x.same(match mode {
        GeluMode::Exact => onnx.gelu(x.value(), false),
        GeluMode::TanhApproximation => onnx.gelu(x.value(), true),
        GeluMode::SigmoidApproximation => sigmoid_gelu(onnx, x.value()),
    }))
}
