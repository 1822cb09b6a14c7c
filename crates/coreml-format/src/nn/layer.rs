//! What one decoded layer does.

use bytes::Bytes;

use super::{
    Activation, Batchnorm, BoxMode, ConstantPad, CropResize, Distribution, Elementwise, GeluMode, Grid, Layer,
    LayerKind, Loop, Moments, NonMaximumSuppression, Operation, PaddingMode, ReduceMode, Reduction, Reorganization,
    Sampling, ScatterMode, Shape, SliceNd, UnaryFunction, UnaryOperation, Upsample,
    read::read_layers,
    recurrent::{bidirectional_lstm, gru, lstm, simple},
    weight::{Count, count, optional_weight, read_weight},
    window::{borders, convolution, convolution_3d, global_pooling_3d, pair, pooling, pooling_3d},
};
use crate::{pb, pb::nn as message};

/// The content of a layer's field.
pub(super) struct Body {
    /// The encoded message.
    pub(super) bytes: Bytes,
    /// How many inputs the layer has.
    pub(super) inputs: usize,
    /// How many branches and loops the layer is in.
    pub(super) depth: usize,
}

/// Reads the content of a layer's field `number`. `None` where no layer has that number.
pub(super) fn read_kind(number: u32, body: Body) -> Result<Option<LayerKind>, String> {
    let Body { bytes, inputs, depth } = body;
    match number {
        605 => branch(decode(bytes)?, depth).map(Some),
        615 => loop_(decode(bytes)?, depth).map(|params| Some(LayerKind::Loop(params))),
        _ => read_plain(number, bytes, inputs),
    }
}

/// Reads a layer that has no layers in it.
// Not inlined: its frame is large, and branches in branches would have one each.
#[inline(never)]
#[rustfmt::skip]
fn read_plain(number: u32, bytes: Bytes, inputs: usize) -> Result<Option<LayerKind>, String> {
    Ok(Some(match number {
        100 => LayerKind::Convolution(convolution(decode(bytes)?, inputs)?),
        120 => LayerKind::Pooling(pooling(decode(bytes)?)?),
        130 => LayerKind::Activation(activation(decode(bytes)?)?),
        140 => inner_product(decode(bytes)?)?,
        150 => embedding(decode(bytes)?)?,
        160 => LayerKind::Batchnorm(batchnorm(decode(bytes)?)?),
        165 => mvn(decode(bytes)?),
        170 => LayerKind::L2Normalize { epsilon: float(bytes)? },
        175 => LayerKind::Softmax,
        180 => lrn(decode(bytes)?),
        190 => crop(decode(bytes)?)?,
        200 => padding(decode(bytes)?)?,
        210 => LayerKind::Upsample(upsample(decode(bytes)?)?),
        211 => resize_bilinear(decode(bytes)?)?,
        212 => LayerKind::CropResize(crop_resize(decode(bytes)?)?),
        220 => LayerKind::Unary(unary(decode(bytes)?)?),
        230 => LayerKind::Add { alpha: float(bytes)? },
        231 => LayerKind::Multiply { alpha: float(bytes)? },
        240 => LayerKind::Average,
        245 => scale(decode(bytes)?)?,
        250 => bias(decode(bytes)?)?,
        260 => LayerKind::Max,
        261 => LayerKind::Min,
        270 => LayerKind::Dot { cosine_similarity: decode::<message::Flag>(bytes)?.flag },
        280 => reduce(decode(bytes)?)?,
        290 => load_constant(decode(bytes)?)?,
        300 => reshape(decode(bytes)?)?,
        301 => LayerKind::Flatten { channel_last: channel_last(mode(bytes)?)? },
        310 => LayerKind::Permute { axis: unsigned(bytes)? },
        320 => LayerKind::Concat { sequence_concat: decode::<message::Concat>(bytes)?.sequence_concat },
        330 => LayerKind::Split { outputs: decode::<message::Many>(bytes)?.count },
        340 => LayerKind::SequenceRepeat { repetitions: decode::<message::Many>(bytes)?.count.max(1) },
        345 => reorganize_data(decode(bytes)?)?,
        350 => slice(decode(bytes)?)?,
        400 => LayerKind::SimpleRecurrent(simple(decode(bytes)?)?),
        410 => LayerKind::Gru(gru(decode(bytes)?)?),
        420 => LayerKind::UniDirectionalLstm(lstm(decode(bytes)?)?),
        430 => LayerKind::BiDirectionalLstm(bidirectional_lstm(decode(bytes)?)?),
        500 => custom(decode(bytes)?)?,
        600 => LayerKind::Copy,
        620 => LayerKind::LoopBreak,
        625 => LayerKind::LoopContinue,
        635 => range_static(decode(bytes)?),
        640 => range_dynamic(decode(bytes)?),
        660 => clip(decode(bytes)?),
        665 => LayerKind::Elementwise(Elementwise::Ceil),
        670 => LayerKind::Elementwise(Elementwise::Floor),
        680 => LayerKind::Elementwise(Elementwise::Sign),
        685 => LayerKind::Elementwise(Elementwise::Round),
        700 => LayerKind::Elementwise(Elementwise::Exp2),
        710 => LayerKind::Elementwise(Elementwise::Sin),
        715 => LayerKind::Elementwise(Elementwise::Cos),
        720 => LayerKind::Elementwise(Elementwise::Tan),
        730 => LayerKind::Elementwise(Elementwise::Asin),
        735 => LayerKind::Elementwise(Elementwise::Acos),
        740 => LayerKind::Elementwise(Elementwise::Atan),
        750 => LayerKind::Elementwise(Elementwise::Sinh),
        755 => LayerKind::Elementwise(Elementwise::Cosh),
        760 => LayerKind::Elementwise(Elementwise::Tanh),
        770 => LayerKind::Elementwise(Elementwise::Asinh),
        775 => LayerKind::Elementwise(Elementwise::Acosh),
        780 => LayerKind::Elementwise(Elementwise::Atanh),
        790 => LayerKind::Elementwise(Elementwise::Erf),
        795 => LayerKind::Gelu { mode: gelu_mode(mode(bytes)?)? },
        815 => LayerKind::Operation { operation: Operation::Equal, alpha: float(bytes)? },
        820 => LayerKind::Operation { operation: Operation::NotEqual, alpha: float(bytes)? },
        825 => LayerKind::Operation { operation: Operation::LessThan, alpha: second(bytes)? },
        827 => LayerKind::Operation { operation: Operation::LessEqual, alpha: second(bytes)? },
        830 => LayerKind::Operation { operation: Operation::GreaterThan, alpha: second(bytes)? },
        832 => LayerKind::Operation { operation: Operation::GreaterEqual, alpha: second(bytes)? },
        840 => broadcastable(Operation::LogicalOr),
        845 => broadcastable(Operation::LogicalXor),
        850 => LayerKind::Elementwise(Elementwise::LogicalNot),
        855 => broadcastable(Operation::LogicalAnd),
        865 => broadcastable(Operation::Mod),
        870 => broadcastable(Operation::Min),
        875 => broadcastable(Operation::Max),
        880 => broadcastable(Operation::Add),
        885 => broadcastable(Operation::Pow),
        890 => broadcastable(Operation::Divide),
        895 => broadcastable(Operation::FloorDiv),
        900 => broadcastable(Operation::Multiply),
        905 => broadcastable(Operation::Subtract),
        920 => LayerKind::Tile { reps: unsigned(bytes)? },
        925 => LayerKind::Stack { axis: axis(bytes)? },
        930 => LayerKind::Gather { axis: axis(bytes)? },
        935 => scatter(decode(bytes)?, |axis, mode| LayerKind::Scatter { axis, mode })?,
        940 => LayerKind::GatherNd,
        945 => LayerKind::ScatterNd { mode: scatter_mode(mode(bytes)?)? },
        950 => LayerKind::SoftmaxNd { axis: axis(bytes)? },
        952 => LayerKind::GatherAlongAxis { axis: axis(bytes)? },
        954 => scatter(decode(bytes)?, |axis, mode| LayerKind::ScatterAlongAxis { axis, mode })?,
        960 => LayerKind::Reverse { reverse_dim: decode::<message::Reverse>(bytes)?.reverse_dim },
        965 => reverse_seq(decode(bytes)?),
        975 => split_nd(decode(bytes)?),
        980 => axis_flag(bytes, |axis, interleave| LayerKind::ConcatNd { axis, interleave })?,
        985 => LayerKind::Transpose { axes: unsigned(bytes)? },
        995 => LayerKind::SliceStatic(slice_nd(decode(bytes)?)),
        1000 => LayerKind::SliceDynamic(slice_nd(decode(bytes)?)),
        1005 => sliding_windows(decode(bytes)?),
        1015 => top_k(decode(bytes)?),
        1020 => axis_flag(bytes, |axis, remove_dim| LayerKind::ArgMin { axis, remove_dim })?,
        1025 => axis_flag(bytes, |axis, remove_dim| LayerKind::ArgMax { axis, remove_dim })?,
        1040 => embedding_nd(decode(bytes)?)?,
        1045 => batched_matmul(decode(bytes)?, inputs)?,
        1065 => LayerKind::GetShape,
        1070 => load_constant_nd(decode(bytes)?)?,
        1080 => fill(decode(bytes)?, |_| Shape::Like),
        1085 => fill(decode(bytes)?, Shape::Static),
        1090 => fill(decode(bytes)?, |_| Shape::Dynamic),
        1100 => LayerKind::BroadcastTo(Shape::Like),
        1105 => LayerKind::BroadcastTo(Shape::Static(unsigned(bytes)?)),
        1110 => LayerKind::BroadcastTo(Shape::Dynamic),
        1120 => squeeze(decode(bytes)?),
        1125 => LayerKind::ExpandDims { axes: signed(bytes)? },
        1130 => LayerKind::FlattenTo2d { axis: axis(bytes)? },
        1135 => LayerKind::ReshapeLike,
        1140 => LayerKind::ReshapeStatic { target_shape: signed(bytes)? },
        1145 => LayerKind::ReshapeDynamic,
        1150 => LayerKind::RankPreservingReshape { target_shape: signed(bytes)? },
        1155 => LayerKind::ConstantPad(constant_pad(decode(bytes)?)),
        1170 => normal(decode(bytes)?, |_| Shape::Like),
        1175 => normal(decode(bytes)?, Shape::Static),
        1180 => normal(decode(bytes)?, |_| Shape::Dynamic),
        1190 => uniform(decode(bytes)?, |_| Shape::Like),
        1195 => uniform(decode(bytes)?, Shape::Static),
        1200 => uniform(decode(bytes)?, |_| Shape::Dynamic),
        1210 => bernoulli(decode(bytes)?, |_| Shape::Like),
        1215 => bernoulli(decode(bytes)?, Shape::Static),
        1220 => bernoulli(decode(bytes)?, |_| Shape::Dynamic),
        1230 => categorical(decode(bytes)?),
        1250 => reduce_nd(Reduction::L1, decode(bytes)?),
        1255 => reduce_nd(Reduction::L2, decode(bytes)?),
        1260 => reduce_nd(Reduction::Max, decode(bytes)?),
        1265 => reduce_nd(Reduction::Min, decode(bytes)?),
        1270 => reduce_nd(Reduction::Sum, decode(bytes)?),
        1275 => reduce_nd(Reduction::Prod, decode(bytes)?),
        1280 => reduce_nd(Reduction::Mean, decode(bytes)?),
        1285 => reduce_nd(Reduction::LogSum, decode(bytes)?),
        1290 => reduce_nd(Reduction::SumSquare, decode(bytes)?),
        1295 => reduce_nd(Reduction::LogSumExp, decode(bytes)?),
        1313 => LayerKind::WhereNonZero,
        1315 => matrix_band_part(decode(bytes)?),
        1320 => LayerKind::LowerTriangular { k: axis(bytes)? },
        1325 => LayerKind::UpperTriangular { k: axis(bytes)? },
        1330 => LayerKind::WhereBroadcastable,
        1350 => layer_normalization(decode(bytes)?)?,
        1400 => LayerKind::NonMaximumSuppression(non_maximum_suppression(decode(bytes)?)),
        1450 => one_hot(decode(bytes)?),
        1455 => cum_sum(decode(bytes)?),
        1460 => clamped_relu(decode(bytes)?),
        1461 => axis_flag(bytes, |axis, descending| LayerKind::ArgSort { axis, descending })?,
        1465 => LayerKind::Pooling3d(pooling_3d(decode(bytes)?)?),
        1466 => LayerKind::GlobalPooling3d(global_pooling_3d(decode(bytes)?)?),
        1470 => slice_by_size(decode(bytes)?),
        1471 => LayerKind::Convolution3d(convolution_3d(decode(bytes)?)?),
        _ => return Ok(None),
    }))
}

fn decode<M: prost::Message + Default>(body: Bytes) -> Result<M, String> {
    pb::decode(body, "its content")
}

fn float(body: Bytes) -> Result<f32, String> {
    Ok(decode::<message::Alpha>(body)?.alpha)
}

fn second(body: Bytes) -> Result<f32, String> {
    Ok(decode::<message::SecondOperand>(body)?.alpha)
}

fn mode(body: Bytes) -> Result<i32, String> {
    Ok(decode::<message::Mode>(body)?.mode)
}

fn axis(body: Bytes) -> Result<i64, String> {
    Ok(decode::<message::Axis>(body)?.axis)
}

fn axis_flag(body: Bytes, kind: impl Fn(i64, bool) -> LayerKind) -> Result<LayerKind, String> {
    let message::AxisFlag { axis, flag } = decode(body)?;
    Ok(kind(axis, flag))
}

fn signed(body: Bytes) -> Result<Vec<i64>, String> {
    Ok(decode::<message::Signed>(body)?.values)
}

fn unsigned(body: Bytes) -> Result<Vec<u64>, String> {
    Ok(decode::<message::Unsigned>(body)?.values)
}

fn broadcastable(operation: Operation) -> LayerKind {
    LayerKind::Operation { operation, alpha: 0.0 }
}

pub(super) fn activation(params: message::Activation) -> Result<Activation, String> {
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

fn clamped_relu(params: message::AlphaBeta) -> LayerKind {
    LayerKind::ClampedRelu { alpha: params.alpha, beta: params.beta }
}

fn clip(params: message::AlphaBeta) -> LayerKind {
    LayerKind::Clip { min: params.alpha, max: params.beta }
}

fn gelu_mode(mode: i32) -> Result<GeluMode, String> {
    match mode {
        0 => Ok(GeluMode::Exact),
        1 => Ok(GeluMode::TanhApproximation),
        2 => Ok(GeluMode::SigmoidApproximation),
        other => Err(unknown("mode", other)),
    }
}

fn unknown(what: &str, value: i32) -> String {
    format!("has unknown {what} {value}")
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

/// Its fields are numbered as an inner product's.
fn embedding(params: message::InnerProduct) -> Result<LayerKind, String> {
    let (input_dim, output_channels) = (params.input_channels, params.output_channels);
    Ok(LayerKind::Embedding {
        input_dim,
        output_channels,
        weights: read_weight(params.weights, count(&[output_channels, input_dim])?, "weights")?,
        bias: optional_weight(params.has_bias, params.bias, count(&[output_channels])?, "bias")?,
    })
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

fn batchnorm(params: message::Batchnorm) -> Result<Batchnorm, String> {
    let sizes = count(&[params.channels])?;
    let moments = match (params.compute_mean_var, params.instance_normalization) {
        (false, _) => Moments::Stored {
            mean: read_weight(params.mean, sizes, "mean")?,
            variance: read_weight(params.variance, sizes, "variance")?,
        },
        (true, false) => Moments::OfBatch,
        (true, true) => Moments::OfInstance,
    };
    Ok(Batchnorm {
        channels: params.channels,
        epsilon: or_default(params.epsilon, 1e-5),
        gamma: read_weight(params.gamma, sizes, "gamma")?,
        beta: read_weight(params.beta, sizes, "beta")?,
        moments,
    })
}

/// A number that stands for a default where it is 0.
fn or_default(value: f32, default: f32) -> f32 {
    if value == 0.0 { default } else { value }
}

fn mvn(params: message::MeanVarianceNormalize) -> LayerKind {
    let message::MeanVarianceNormalize { across_channels, normalize_variance, epsilon } = params;
    LayerKind::Mvn { across_channels, normalize_variance, epsilon }
}

fn lrn(params: message::Lrn) -> LayerKind {
    let message::Lrn { alpha, beta, local_size, k } = params;
    LayerKind::Lrn { alpha, beta, local_size, k: or_default(k, 1.0) }
}

fn layer_normalization(params: message::LayerNormalization) -> Result<LayerKind, String> {
    let shape: Result<Vec<u64>, _> = params.normalized_shape.iter().map(|&size| u64::try_from(size)).collect();
    let shape = shape.map_err(|_| format!("normalizedShape is {:?}", params.normalized_shape))?;
    let sizes = count(&shape)?;
    Ok(LayerKind::LayerNormalization {
        normalized_shape: params.normalized_shape,
        epsilon: params.eps,
        gamma: read_weight(params.gamma, sizes, "gamma")?,
        beta: read_weight(params.beta, sizes, "beta")?,
    })
}

fn crop(params: message::Crop) -> Result<LayerKind, String> {
    let offset = match params.offset[..] {
        [] => [0; 2],
        [rows, columns] => [rows, columns],
        ref other => return Err(format!("offset is {other:?}; expected height and width")),
    };
    Ok(LayerKind::Crop { amounts: borders(params.crop_amounts)?, offset })
}

fn padding(params: message::PaddingLayer) -> Result<LayerKind, String> {
    let mode = match params.kind.ok_or("does not say how it pads")? {
        message::PaddingLayerKind::Constant(value) => PaddingMode::Constant(value.alpha),
        message::PaddingLayerKind::Reflection(_) => PaddingMode::Reflection,
        message::PaddingLayerKind::Replication(_) => PaddingMode::Replication,
    };
    Ok(LayerKind::Padding { mode, amounts: borders(params.padding_amounts)? })
}

fn constant_pad(params: message::ConstantPad) -> ConstantPad {
    let message::ConstantPad { value, pad_amounts, pad_to_given_output_size_mode } = params;
    ConstantPad { value, amounts: pad_amounts, to_given_size: pad_to_given_output_size_mode }
}

fn upsample(params: message::Upsample) -> Result<Upsample, String> {
    let factors = match params.fractional_scaling_factor[..] {
        [] => pair(params.scaling_factor, 1, "scalingFactor")?.map(|factor| factor as f32),
        [height, width] => [height, width],
        ref other => return Err(format!("fractionalScalingFactor is {other:?}; expected height and width")),
    };
    let sampling = match (params.mode, params.linear_upsample_mode) {
        (0, _) => Sampling::Nearest,
        (1, 0) => Sampling::Linear,
        (1, 1) => Sampling::AlignedCorners,
        (1, 2) => Sampling::PixelCentres,
        (1, other) => return Err(unknown("linear mode", other)),
        (other, _) => return Err(unknown("mode", other)),
    };
    Ok(Upsample { factors, sampling })
}

fn grid(mode: Option<message::Mode>) -> Result<Grid, String> {
    match mode.unwrap_or_default().mode {
        0 => Ok(Grid::StrictAlignEndpoints),
        1 => Ok(Grid::AlignEndpoints),
        2 => Ok(Grid::Upsample),
        3 => Ok(Grid::RoiAlign),
        other => Err(unknown("sampling method", other)),
    }
}

fn resize_bilinear(params: message::ResizeBilinear) -> Result<LayerKind, String> {
    Ok(LayerKind::ResizeBilinear { target_size: pair(params.target_size, 1, "targetSize")?, grid: grid(params.mode)? })
}

fn crop_resize(params: message::CropResize) -> Result<CropResize, String> {
    let boxes = params.box_indices_mode.unwrap_or_default().mode;
    if !(0..4).contains(&boxes) {
        return Err(unknown("box mode", boxes));
    }
    Ok(CropResize {
        target_size: pair(params.target_size, 1, "targetSize")?,
        normalized_coordinates: params.normalized_coordinates,
        grid: grid(params.mode)?,
        boxes: BoxMode { centre_size: boxes >= 2, width_first: boxes % 2 == 1 },
        // Writers that mean no scale leave it out.
        spatial_scale: or_default(params.spatial_scale, 1.0),
    })
}

fn unary(params: message::UnaryFunction) -> Result<UnaryFunction, String> {
    let operation = match params.r#type {
        0 => UnaryOperation::Sqrt,
        1 => UnaryOperation::Rsqrt,
        2 => UnaryOperation::Inverse,
        3 => UnaryOperation::Power,
        4 => UnaryOperation::Exp,
        5 => UnaryOperation::Log,
        6 => UnaryOperation::Abs,
        7 => UnaryOperation::Threshold,
        other => return Err(unknown("function", other)),
    };
    Ok(UnaryFunction {
        operation,
        alpha: params.alpha,
        epsilon: or_default(params.epsilon, 1e-6),
        shift: params.shift,
        scale: or_default(params.scale, 1.0),
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

fn bias(params: message::Shaped) -> Result<LayerKind, String> {
    let bias = read_weight(params.data, count(&params.shape)?, "bias")?;
    Ok(LayerKind::Bias { shape: params.shape, bias })
}

fn load_constant(params: message::Shaped) -> Result<LayerKind, String> {
    let shape = <[u64; 3]>::try_from(params.shape.clone())
        .map_err(|shape| format!("has shape {shape:?}; expected channels, height and width"))?;
    Ok(LayerKind::LoadConstant { shape, data: read_weight(params.data, count(&params.shape)?, "data")? })
}

fn load_constant_nd(params: message::Shaped) -> Result<LayerKind, String> {
    let data = read_weight(params.data, count(&params.shape)?, "data")?;
    Ok(LayerKind::LoadConstantNd { shape: params.shape, data })
}

fn reduce(params: message::Reduce) -> Result<LayerKind, String> {
    let mode = match params.mode {
        0 => ReduceMode::Sum,
        1 => ReduceMode::Average,
        2 => ReduceMode::Product,
        3 => ReduceMode::LogSum,
        4 => ReduceMode::SumSquare,
        5 => ReduceMode::L1,
        6 => ReduceMode::L2,
        7 => ReduceMode::Max,
        8 => ReduceMode::Min,
        9 => ReduceMode::ArgMax,
        other => return Err(unknown("mode", other)),
    };
    let axes = match params.axis {
        0 => (3, 0),
        1 => (2, 0),
        2 => (1, 2),
        3 => (1, 1),
        4 => (1, 0),
        other => return Err(unknown("axis", other)),
    };
    Ok(LayerKind::Reduce { mode, epsilon: or_default(params.epsilon, 1e-6), axes })
}

fn reduce_nd(reduction: Reduction, params: message::ReduceNd) -> LayerKind {
    let message::ReduceNd { axes, keep_dims, reduce_all } = params;
    LayerKind::ReduceNd { reduction, axes: (!reduce_all).then_some(axes), keep_dims }
}

fn reshape(params: message::Reshape) -> Result<LayerKind, String> {
    Ok(LayerKind::Reshape { target_shape: params.target_shape, channel_last: channel_last(params.mode)? })
}

fn channel_last(order: i32) -> Result<bool, String> {
    match order {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(unknown("order", other)),
    }
}

fn reorganize_data(params: message::ReorganizeData) -> Result<LayerKind, String> {
    let mode = match params.mode {
        0 => Reorganization::SpaceToDepth,
        1 => Reorganization::DepthToSpace,
        2 => Reorganization::PixelShuffle,
        other => return Err(unknown("mode", other)),
    };
    Ok(LayerKind::ReorganizeData { mode, block_size: params.block_size })
}

fn slice(params: message::Slice) -> Result<LayerKind, String> {
    let axis = match params.axis {
        0 => -3,
        1 => -2,
        2 => -1,
        other => return Err(unknown("axis", other)),
    };
    let message::Slice { start_index, end_index, stride, .. } = params;
    Ok(LayerKind::Slice { start: start_index, end: end_index, stride, axis })
}

fn slice_nd(params: message::SliceNd) -> SliceNd {
    let message::SliceNd { begin_ids, begin_masks, end_ids, end_masks, strides, squeeze_masks } = params;
    SliceNd { begin_ids, begin_masks, end_ids, end_masks, strides, squeeze_masks }
}

fn slice_by_size(params: message::SliceBySize) -> LayerKind {
    LayerKind::SliceBySize { size: params.size, axis: params.axis }
}

fn sliding_windows(params: message::SlidingWindows) -> LayerKind {
    let message::SlidingWindows { axis, window_size, step } = params;
    LayerKind::SlidingWindows { axis, window_size, step }
}

fn split_nd(params: message::SplitNd) -> LayerKind {
    let message::SplitNd { axis, num_splits, split_sizes } = params;
    LayerKind::SplitNd { axis, num_splits, split_sizes }
}

fn squeeze(params: message::Squeeze) -> LayerKind {
    LayerKind::Squeeze { axes: (!params.squeeze_all).then_some(params.axes) }
}

fn reverse_seq(params: message::Pair) -> LayerKind {
    LayerKind::ReverseSeq { batch_axis: params.first, sequence_axis: params.second }
}

fn matrix_band_part(params: message::Pair) -> LayerKind {
    LayerKind::MatrixBandPart { lower: params.first, upper: params.second }
}

fn scatter(params: message::AxisMode, kind: impl Fn(i64, ScatterMode) -> LayerKind) -> Result<LayerKind, String> {
    Ok(kind(params.axis, scatter_mode(params.mode)?))
}

fn scatter_mode(mode: i32) -> Result<ScatterMode, String> {
    Ok(match mode {
        0 => ScatterMode::Update,
        1 => ScatterMode::Add,
        2 => ScatterMode::Sub,
        3 => ScatterMode::Mul,
        4 => ScatterMode::Div,
        5 => ScatterMode::Max,
        6 => ScatterMode::Min,
        other => return Err(unknown("mode", other)),
    })
}

fn top_k(params: message::TopK) -> LayerKind {
    let message::TopK { axis, k, use_bottom_k } = params;
    LayerKind::TopK { axis, k, use_bottom_k }
}

fn one_hot(params: message::OneHot) -> LayerKind {
    let message::OneHot { one_hot_vector_size, axis, on_value, off_value } = params;
    LayerKind::OneHot { one_hot_vector_size, axis, on_value, off_value }
}

fn cum_sum(params: message::CumSum) -> LayerKind {
    let message::CumSum { axis, exclude_final_sum, reverse } = params;
    LayerKind::CumSum { axis, exclude_final_sum, reverse }
}

fn non_maximum_suppression(params: message::NonMaximumSuppression) -> NonMaximumSuppression {
    let message::NonMaximumSuppression { iou_threshold, score_threshold, max_boxes, per_class_suppression } = params;
    NonMaximumSuppression { iou_threshold, score_threshold, max_boxes, per_class_suppression }
}

fn range_static(params: message::Range) -> LayerKind {
    let message::Range { end_value, start_value, step_size_value } = params;
    LayerKind::RangeStatic { start: start_value, end: end_value, step: step_size_value }
}

fn range_dynamic(params: message::Range) -> LayerKind {
    LayerKind::RangeDynamic { start: params.start_value, step: params.step_size_value }
}

fn fill(params: message::Fill, shape: impl Fn(Vec<u64>) -> Shape) -> LayerKind {
    LayerKind::Fill { value: params.value, shape: shape(params.target_shape) }
}

fn normal(params: message::Random, shape: impl Fn(Vec<u64>) -> Shape) -> LayerKind {
    let distribution = Distribution::Normal { mean: params.first, std_dev: params.second };
    LayerKind::Random { distribution, seed: params.seed, shape: shape(params.output_shape) }
}

fn uniform(params: message::Random, shape: impl Fn(Vec<u64>) -> Shape) -> LayerKind {
    let distribution = Distribution::Uniform { min: params.first, max: params.second };
    LayerKind::Random { distribution, seed: params.seed, shape: shape(params.output_shape) }
}

fn bernoulli(params: message::RandomBernoulli, shape: impl Fn(Vec<u64>) -> Shape) -> LayerKind {
    let distribution = Distribution::Bernoulli { prob: params.prob };
    LayerKind::Random { distribution, seed: params.seed, shape: shape(params.output_shape) }
}

fn categorical(params: message::CategoricalDistribution) -> LayerKind {
    let message::CategoricalDistribution { seed, num_samples, is_logits, eps, temperature } = params;
    LayerKind::CategoricalDistribution {
        seed,
        num_samples,
        is_logits,
        epsilon: or_default(eps, 1e-10),
        temperature: or_default(temperature, 1.0),
    }
}

fn custom(params: message::Custom) -> Result<LayerKind, String> {
    let weights = params.weights.into_iter().map(|weight| read_weight(Some(weight), Count::Any, "a weight"));
    // How a custom layer reads its weights is its own affair: what is not understood is left out.
    Ok(LayerKind::Custom { class_name: params.class_name, weights: weights.filter_map(Result::ok).collect() })
}

fn branch(params: message::Branch, depth: usize) -> Result<LayerKind, String> {
    let if_branch = params.if_branch.ok_or("has no network for where its condition holds")?;
    Ok(LayerKind::Branch {
        if_branch: nested(if_branch, depth)?,
        else_branch: params.else_branch.map_or(Ok(Vec::new()), |network| nested(network, depth))?,
    })
}

fn loop_(params: message::Loop, depth: usize) -> Result<Loop, String> {
    let condition = match (params.condition_network, params.condition_var.is_empty()) {
        (None, true) => None,
        // coremltools writes an empty network where there is no condition.
        (Some(network), true) if network.layers.is_empty() => None,
        (Some(network), false) => Some((nested(network, depth)?, params.condition_var)),
        (Some(_), true) => return Err("has a condition, but does not say which blob has it".to_owned()),
        (None, false) => return Err("names a condition, but has no network for it".to_owned()),
    };
    let body = params.body_network.ok_or("has no body")?;
    Ok(Loop { max_iterations: params.max_loop_iterations, condition, body: nested(body, depth)? })
}

fn nested(network: message::NeuralNetwork, depth: usize) -> Result<Vec<Layer>, String> {
    read_layers(network.layers, depth + 1).map_err(|flaw| format!("{}: {}", flaw.place, flaw.reason))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn check(number: u32, params: &impl Message, inputs: usize, expected: &str) {
        let body = Body { bytes: params.encode_to_vec().into(), inputs, depth: 0 };
        let shown = match read_kind(number, body) {
            Ok(kind) => format!("{kind:?}"),
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn parameters() {
        let product = message::InnerProduct { input_channels: 1 << 50, output_channels: 1 << 50, ..Default::default() };
        check(140, &product, 1, "sizes [1125899906842624, 1125899906842624] are too large");
        check(130, &message::Activation { nonlinearity: None }, 1, "names no function");
        check(1140, &message::Signed { values: vec![1, -1] }, 1, "ReshapeStatic { target_shape: [1, -1] }");
        check(795, &message::Mode { mode: 1 }, 1, "TanhApproximation");
        check(1045, &message::BatchedMatmul::default(), 2, "weights: None");
        check(280, &message::Reduce { axis: 3, ..Default::default() }, 1, "epsilon: 1e-6, axes: (1, 1)");
        check(280, &message::Reduce { mode: 10, ..Default::default() }, 1, "has unknown mode 10");
        check(825, &message::SecondOperand { alpha: 2.5 }, 1, "LessThan, alpha: 2.5");
        check(290, &message::Shaped { shape: vec![2], data: None }, 0, "has shape [2]");
        check(212, &message::CropResize::default(), 2, "spatial_scale: 1.0");
        check(
            1255,
            &message::ReduceNd { axes: vec![1], reduce_all: true, keep_dims: false },
            1,
            "reduction: L2, axes: None",
        );
        check(999, &message::Mode { mode: 0 }, 1, "None");
    }

    #[test]
    fn control_flow() {
        let empty = || Some(message::NeuralNetwork::default());
        check(605, &message::Branch::default(), 1, "has no network");
        check(605, &message::Branch { if_branch: empty(), else_branch: None }, 1, "else_branch: []");
        let looped = |condition_var: &str, condition_network, body_network| message::Loop {
            condition_var: condition_var.to_owned(),
            condition_network,
            body_network,
            ..Default::default()
        };
        check(615, &looped("", None, None), 0, "has no body");
        check(615, &looped("", None, empty()), 0, "condition: None");
        check(615, &looped("c", empty(), empty()), 0, "condition: Some(([], \"c\"))");
        check(615, &looped("", empty(), empty()), 0, "condition: None");
        let one = message::NeuralNetwork { layers: vec![Vec::new().into()], ..Default::default() };
        check(615, &looped("", Some(one), empty()), 0, "does not say which blob");
        check(615, &looped("c", None, empty()), 0, "has no network for it");
    }
}
