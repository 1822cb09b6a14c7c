//! What one decoded layer does.

use bytes::Bytes;

use super::{
    Activation, Convolution, GeluMode, LayerKind, Padding, Pooling, PoolingKind, Weight,
    weight::{Count, count, optional_weight, read_weight},
};
use crate::{DType, Tensor, pb, pb::nn as message};

/// Reads the content of a layer's field `number`, whose name is `name`. `inputs` counts the layer's inputs.
pub(super) fn read_kind(number: u32, name: &'static str, body: Bytes, inputs: usize) -> Result<LayerKind, String> {
    Ok(match number {
        100 => LayerKind::Convolution(convolution(decode(body)?, inputs)?),
        120 => LayerKind::Pooling(pooling(decode(body)?)?),
        130 => LayerKind::Activation(activation(decode(body)?)?),
        140 => inner_product(decode(body)?)?,
        165 => {
            let message::MeanVarianceNormalize { across_channels, normalize_variance, epsilon } = decode(body)?;
            LayerKind::Mvn { across_channels, normalize_variance, epsilon }
        }
        175 => LayerKind::Softmax,
        230 => LayerKind::Add { alpha: decode::<message::Alpha>(body)?.alpha },
        231 => LayerKind::Multiply { alpha: decode::<message::Alpha>(body)?.alpha },
        245 => scale(decode(body)?)?,
        795 => LayerKind::Gelu { mode: gelu_mode(decode::<message::Gelu>(body)?.mode)? },
        880 => LayerKind::AddBroadcastable,
        900 => LayerKind::MultiplyBroadcastable,
        950 => LayerKind::SoftmaxNd { axis: decode::<message::SoftmaxNd>(body)?.axis },
        985 => LayerKind::Transpose { axes: decode::<message::Transpose>(body)?.axes },
        1040 => embedding_nd(decode(body)?)?,
        1045 => batched_matmul(decode(body)?, inputs)?,
        1070 => {
            let message::LoadConstantNd { shape, data } = decode(body)?;
            let data = read_weight(data, count(&shape)?, "data")?;
            LayerKind::LoadConstantNd { shape, data }
        }
        1125 => LayerKind::ExpandDims { axes: decode::<message::Signed>(body)?.values },
        1140 => LayerKind::ReshapeStatic { target_shape: decode::<message::Signed>(body)?.values },
        _ => LayerKind::Other(name),
    })
}

fn decode<M: prost::Message + Default>(body: Bytes) -> Result<M, String> {
    pb::decode(body, "its content")
}

fn convolution(params: message::Convolution, inputs: usize) -> Result<Convolution, String> {
    let groups = params.n_groups.max(1);
    let kernel_size = pair(params.kernel_size, 3, "kernelSize")?;
    let (outputs, kernel_channels) = (params.output_channels, params.kernel_channels);
    if outputs % groups != 0 {
        return Err(format!("its {outputs} output channels can't be divided into {groups} groups"));
    }
    let [height, width] = kernel_size;
    let (sizes, scales) = match params.is_deconvolution {
        false => ([outputs, kernel_channels, height, width], outputs),
        true => ([kernel_channels, outputs / groups, height, width], outputs / groups),
    };
    // Since specification 4 a second input may bring the weights.
    let weights = match inputs {
        0 | 1 => read_weight(params.weights, count(&sizes)?.with_scales(scales), "weights")?,
        _ => none(),
    };
    let padding = match params.padding {
        None => Padding::Valid([0; 4]),
        Some(message::ConvolutionPadding::Valid(valid)) => valid_padding(valid)?,
        Some(message::ConvolutionPadding::Same(same)) => same_padding(same)?,
    };
    if !matches!(params.output_shape.len(), 0 | 2) {
        return Err(format!("outputShape has {} sizes; expected height and width", params.output_shape.len()));
    }
    Ok(Convolution {
        output_channels: outputs,
        kernel_channels,
        groups,
        kernel_size,
        stride: pair(params.stride, 1, "stride")?,
        dilation: pair(params.dilation_factor, 1, "dilationFactor")?,
        padding,
        is_deconvolution: params.is_deconvolution,
        output_shape: params.output_shape,
        weights,
        bias: optional_weight(params.has_bias, params.bias, count(&[outputs])?, "bias")?,
    })
}

/// A weight without elements.
fn none() -> Weight {
    Weight::Float(Tensor::new(DType::Float32, vec![0], Bytes::new()).expect("no element takes no byte"))
}

/// Two sizes, height and width; `default` each where none is given. None is 0.
fn pair(sizes: Vec<u64>, default: u64, what: &str) -> Result<[u64; 2], String> {
    match sizes[..] {
        [] => Ok([default; 2]),
        [height, width] if height > 0 && width > 0 => Ok([height, width]),
        _ => Err(format!("{what} is {sizes:?}; expected height and width, each at least 1")),
    }
}

fn valid_padding(valid: message::ValidPadding) -> Result<Padding, String> {
    match valid.padding_amounts.unwrap_or_default().border_amounts[..] {
        [] => Ok(Padding::Valid([0; 4])),
        [rows, columns] => Ok(Padding::Valid([
            rows.start_edge_size,
            rows.end_edge_size,
            columns.start_edge_size,
            columns.end_edge_size,
        ])),
        ref other => Err(format!("has padding amounts for {} dimensions; expected height and width", other.len())),
    }
}

fn same_padding(same: message::SamePadding) -> Result<Padding, String> {
    match same.asymmetry_mode {
        0 => Ok(Padding::Same { top_left: false }),
        1 => Ok(Padding::Same { top_left: true }),
        other => Err(format!("has unknown padding mode {other}")),
    }
}

fn pooling(params: message::Pooling) -> Result<Pooling, String> {
    let kind = match params.r#type {
        0 => PoolingKind::Max,
        1 => PoolingKind::Average,
        2 => PoolingKind::L2,
        other => return Err(format!("has unknown pooling type {other}")),
    };
    let padding = match params.padding {
        None => Padding::Valid([0; 4]),
        Some(message::PoolingPadding::Valid(valid)) => valid_padding(valid)?,
        Some(message::PoolingPadding::Same(same)) => same_padding(same)?,
        Some(message::PoolingPadding::IncludeLastPixel(complete)) => match complete.padding_amounts[..] {
            [] => Padding::IncludeLastPixel([0; 2]),
            [height, width] => Padding::IncludeLastPixel([height, width]),
            ref other => return Err(format!("has padding amounts {other:?}; expected height and width")),
        },
    };
    // Writers leave zeros where the whole plane is pooled.
    let (kernel_size, stride) = match params.global_pooling {
        true => ([1; 2], [1; 2]),
        false => (pair(params.kernel_size, 3, "kernelSize")?, pair(params.stride, 1, "stride")?),
    };
    Ok(Pooling {
        kind,
        kernel_size,
        stride,
        padding,
        average_excludes_padding: params.avg_pool_exclude_padding,
        global: params.global_pooling,
    })
}

fn activation(params: message::Activation) -> Result<Activation, String> {
    use message::Nonlinearity as From;
    let weight = |params, what| read_weight(params, Count::Any, what);
    Ok(match params.nonlinearity.ok_or("names no function")? {
        From::Linear(p) => Activation::Linear { alpha: p.alpha, beta: p.beta },
        From::Relu(_) => Activation::Relu,
        From::LeakyRelu(p) => Activation::LeakyRelu { alpha: p.alpha },
        From::ThresholdedRelu(p) => Activation::ThresholdedRelu { alpha: p.alpha },
        From::Prelu(p) => Activation::Prelu { alpha: weight(p.alpha, "alpha")? },
        From::Tanh(_) => Activation::Tanh,
        From::ScaledTanh(p) => Activation::ScaledTanh { alpha: p.alpha, beta: p.beta },
        From::Sigmoid(_) => Activation::Sigmoid,
        From::SigmoidHard(p) => Activation::SigmoidHard { alpha: p.alpha, beta: p.beta },
        From::Elu(p) => Activation::Elu { alpha: p.alpha },
        From::Softsign(_) => Activation::Softsign,
        From::Softplus(_) => Activation::Softplus,
        From::ParametricSoftplus(p) => {
            Activation::ParametricSoftplus { alpha: weight(p.alpha, "alpha")?, beta: weight(p.beta, "beta")? }
        }
    })
}

fn inner_product(params: message::InnerProduct) -> Result<LayerKind, String> {
    let (inputs, outputs) = (params.input_channels, params.output_channels);
    Ok(LayerKind::InnerProduct {
        input_channels: inputs,
        output_channels: outputs,
        weights: read_weight(params.weights, count(&[outputs, inputs])?, "weights")?,
        bias: optional_weight(params.has_bias, params.bias, count(&[outputs])?, "bias")?,
        int8_dynamic: params.int8_dynamic_quantize,
    })
}

fn scale(params: message::Scale) -> Result<LayerKind, String> {
    let scale = read_weight(params.scale, count(&params.shape_scale)?, "scale")?;
    let bias = match params.has_bias {
        true => Some(read_weight(params.bias, count(&params.shape_bias)?, "bias")?),
        false => None,
    };
    Ok(LayerKind::Scale {
        shape_scale: params.shape_scale,
        scale,
        has_bias: params.has_bias,
        shape_bias: params.shape_bias,
        bias,
    })
}

fn gelu_mode(mode: i32) -> Result<GeluMode, String> {
    match mode {
        0 => Ok(GeluMode::Exact),
        1 => Ok(GeluMode::TanhApproximation),
        2 => Ok(GeluMode::SigmoidApproximation),
        other => Err(format!("has unknown mode {other}")),
    }
}

fn embedding_nd(params: message::EmbeddingNd) -> Result<LayerKind, String> {
    let (vocabulary, size) = (params.vocab_size, params.embedding_size);
    // One row an output channel, like an inner product: the vocabulary runs along a row.
    Ok(LayerKind::EmbeddingNd {
        vocabulary,
        size,
        weights: read_weight(params.weights, count(&[size, vocabulary])?, "weights")?,
        bias: optional_weight(params.has_bias, params.bias, count(&[size])?, "bias")?,
    })
}

fn batched_matmul(params: message::BatchedMatmul, inputs: usize) -> Result<LayerKind, String> {
    let (first, second) = (params.weight_matrix_first_dimension, params.weight_matrix_second_dimension);
    let (weights, bias) = match inputs {
        0 | 1 => {
            let weights = read_weight(params.weights, count(&[first, second])?.with_scales(second), "weights")?;
            let bias = optional_weight(params.has_bias, params.bias, count(&[second])?, "bias")?;
            (Some((first, second, weights)), bias)
        }
        _ => (None, None),
    };
    Ok(LayerKind::BatchedMatmul {
        transpose_a: params.transpose_a,
        transpose_b: params.transpose_b,
        weights,
        bias,
        int8_dynamic: params.int8_dynamic_quantize,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn check(number: u32, params: &impl Message, inputs: usize, expected: &str) {
        let shown = match read_kind(number, "other", params.encode_to_vec().into(), inputs) {
            Ok(kind) => format!("{kind:?}"),
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn floats(n: usize) -> Option<message::WeightParams> {
        Some(message::WeightParams { float_value: vec![0; 4 * n].into(), ..Default::default() })
    }

    fn conv() -> message::Convolution {
        message::Convolution { output_channels: 4, kernel_channels: 2, weights: floats(72), ..Default::default() }
    }

    #[test]
    fn convolutions() {
        check(
            100,
            &conv(),
            1,
            "groups: 1, kernel_size: [3, 3], stride: [1, 1], dilation: [1, 1], padding: Valid([0, 0, 0, 0])",
        );
        check(100, &message::Convolution { weights: None, ..conv() }, 2, "shape: [0]");
        check(
            100,
            &message::Convolution { is_deconvolution: true, n_groups: 2, weights: floats(36), ..conv() },
            1,
            "is_deconvolution: true",
        );
        check(
            100,
            &message::Convolution { has_bias: true, bias: floats(3), ..conv() },
            1,
            "bias: expected 4 values, but 3",
        );
        check(100, &message::Convolution { n_groups: 3, ..conv() }, 1, "into 3 groups");
        check(100, &message::Convolution { stride: vec![0, 1], ..conv() }, 1, "stride is [0, 1]");
        check(100, &message::Convolution { kernel_size: vec![u64::MAX, 2], ..conv() }, 1, "too large");
    }

    #[test]
    fn others() {
        let product = message::InnerProduct { input_channels: 1 << 50, output_channels: 1 << 50, ..Default::default() };
        check(140, &product, 1, "sizes [1125899906842624, 1125899906842624] are too large");
        check(130, &message::Activation { nonlinearity: None }, 1, "names no function");
        check(1140, &message::Signed { values: vec![1, -1] }, 1, "ReshapeStatic { target_shape: [1, -1] }");
        check(
            120,
            &message::Pooling { kernel_size: vec![0, 0], global_pooling: true, ..Default::default() },
            1,
            "global: true",
        );
        check(120, &message::Pooling { kernel_size: vec![0, 0], ..Default::default() }, 1, "kernelSize is [0, 0]");
        check(120, &message::Pooling { r#type: 7, ..Default::default() }, 1, "unknown pooling type 7");
        check(795, &message::Gelu { mode: 1 }, 1, "TanhApproximation");
        check(1045, &message::BatchedMatmul::default(), 2, "weights: None");
        check(180, &message::Gelu { mode: 1 }, 1, "Other(\"other\")");
    }
}
