//! Lowering of neural networks: one arm a layer, with the verbs and helpers that MIL's operations use.
//!
//! What a layer means is written in the comments of coremltools' `NeuralNetwork.proto`. The format says no shapes, so
//! each lowering says that of its result.

mod activation;
mod arithmetic;
mod blob;
mod boxes;
mod constant;
mod control;
mod convolution;
mod image;
mod index;
mod interface;
mod normalization;
mod pieces;
mod planes;
mod pooling;
mod product;
mod reader;
mod recurrent;
mod reduction;
mod shape;

use std::collections::HashSet;

use coreml_format::{
    Model,
    nn::{LayerKind, NeuralNetwork},
    schema::Interface,
};

use crate::{
    LowerError, LowerOptions, Lowered,
    lower::{Fault, grouped},
    onnx::OnnxBuilder,
};
use blob::Blob;
use control::Walker;
pub use interface::network_input;
use reader::LayerReader;

pub(crate) fn lower(model: &Model, network: &NeuralNetwork, options: &LowerOptions) -> Result<Lowered, LowerError> {
    if let Some(name) = options.function.as_ref().filter(|name| **name != model.schema.default_function) {
        return Err(LowerError::Model(format!(
            "{} is a neural network, which has no function {name:?}",
            model.path.display()
        )));
    }
    let missing = custom(network);
    if !missing.is_empty() {
        let places = missing.iter().map(|(class, layer)| (class.as_str(), *layer));
        return Err(LowerError::Unsupported(grouped(places)));
    }
    let interface = &model.schema.interface;
    let mut onnx = OnnxBuilder::new(options.without_fp16);
    let (inputs, blobs) = interface::inputs(network, interface, options, &mut onnx)?;
    let mut walker = Walker::new(onnx, blobs, options);
    walker.layers(&network.layers, &shown(network, interface))?;
    let Walker { mut onnx, blobs, .. } = walker;
    let (ports, outputs) = interface::outputs(network, interface, options, &mut onnx, &blobs)?;
    let given = outputs.iter().map(|binding| binding.feature.clone()).collect();
    let interface = Interface { outputs: given, ..interface.clone() };
    Ok(Lowered { model: onnx.finish("main", ports), interface, inputs, outputs, states: Vec::new() })
}

/// Every layer whose code is not in the model, with the name of its class.
fn custom(network: &NeuralNetwork) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    NeuralNetwork::visit(&network.layers, &mut |layer| {
        if let LayerKind::Custom { class_name, .. } = &layer.kind {
            found.push((format!("custom layer {class_name}"), layer.name.as_str()));
        }
    });
    found
}

/// The blobs that outputs are made from.
fn shown<'a>(network: &'a NeuralNetwork, interface: &'a Interface) -> HashSet<&'a str> {
    let last = network.layers.last().and_then(|layer| layer.outputs.first()).map(String::as_str);
    let scores = network.classifier.as_ref().map(|classifier| classifier.probabilities.as_str());
    interface.outputs.iter().map(|feature| feature.name.as_str()).chain(last).chain(scores).collect()
}

/// Lowers one layer: its outputs in their order.
fn run(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Vec<Blob>, Fault> {
    use LayerKind as Kind;
    let blob = match layer.kind() {
        Kind::Convolution(params) => convolution::convolution(layer, params, onnx),
        Kind::Convolution3d(params) => convolution::convolution(layer, params, onnx),
        Kind::Pooling(params) => pooling::pooling(layer, params, onnx),
        Kind::Pooling3d(params) | Kind::GlobalPooling3d(params) => pooling::pooling_3d(layer, params, onnx),
        Kind::Activation(params) => activation::activation(layer, params, onnx),
        Kind::ClampedRelu { alpha, beta } => activation::clamped_relu(layer, *alpha, *beta, onnx),
        Kind::Gelu { mode } => activation::gelu(layer, *mode, onnx),
        // A layer that is marked for int8 arithmetic has int8 weights; what it computes is the product all the same.
        Kind::InnerProduct { input_channels, output_channels, weights, bias, int8_dynamic: _ } => {
            product::inner_product(layer, [*output_channels, *input_channels], weights, bias.as_ref(), onnx)
        }
        Kind::Embedding { input_dim, output_channels, weights, bias } => {
            product::embedding(layer, [*output_channels, *input_dim], weights, bias.as_ref(), onnx)
        }
        Kind::EmbeddingNd { vocabulary, size, weights, bias } => {
            product::embedding_nd(layer, [*size, *vocabulary], weights, bias.as_ref(), onnx)
        }
        Kind::BatchedMatmul { weights: Some((rows, columns, weights)), bias, .. } => {
            product::matmul_by_weight(layer, [*rows, *columns], weights, bias.as_ref(), onnx)
        }
        Kind::BatchedMatmul { transpose_a, transpose_b, weights: None, .. } => {
            product::matmul(layer, *transpose_a, *transpose_b, onnx)
        }
        Kind::Dot { cosine_similarity } => product::dot(layer, *cosine_similarity, onnx),

        Kind::Batchnorm(params) => normalization::batchnorm(layer, params, onnx),
        Kind::Mvn { across_channels, normalize_variance, epsilon } => {
            normalization::mvn(layer, *across_channels, normalize_variance.then_some(*epsilon), onnx)
        }
        Kind::L2Normalize { epsilon } => normalization::l2_normalize(layer, *epsilon, onnx),
        Kind::Lrn { alpha, beta, local_size, k } => normalization::lrn(layer, [*alpha, *beta, *k], *local_size, onnx),
        Kind::LayerNormalization { normalized_shape, epsilon, gamma, beta } => {
            normalization::layer_normalization(layer, normalized_shape, [gamma, beta], *epsilon, onnx)
        }
        Kind::Softmax => normalization::softmax(layer, onnx),
        Kind::SoftmaxNd { axis } => normalization::softmax_nd(layer, *axis, onnx),

        Kind::Crop { amounts, offset } => image::crop(layer, *amounts, *offset, onnx),
        Kind::Padding { mode, amounts } => image::padding(layer, *mode, *amounts, onnx),
        Kind::ConstantPad(params) => image::constant_pad(layer, params, onnx),
        Kind::Upsample(params) => image::upsample(layer, params, onnx),
        Kind::ResizeBilinear { target_size, grid } => image::resize_bilinear(layer, *target_size, *grid, onnx),
        Kind::CropResize(params) => image::crop_resize(layer, params, onnx),

        Kind::Unary(params) => arithmetic::unary(layer, params, onnx),
        Kind::Elementwise(function) => arithmetic::elementwise(layer, *function, onnx),
        Kind::Clip { min, max } => arithmetic::clip(layer, [*min, *max], onnx),
        Kind::Add { alpha } => arithmetic::fold(layer, "Add", *alpha, onnx),
        Kind::Multiply { alpha } => arithmetic::fold(layer, "Mul", *alpha, onnx),
        Kind::Average => arithmetic::average(layer, onnx),
        Kind::Max => arithmetic::fold_all(layer, "Max", onnx),
        Kind::Min => arithmetic::fold_all(layer, "Min", onnx),
        Kind::Operation { operation, alpha } => arithmetic::operation(layer, *operation, *alpha, onnx),
        Kind::WhereBroadcastable => arithmetic::where_broadcastable(layer, onnx),
        Kind::Scale { shape_scale, scale, has_bias: _, shape_bias, bias } => {
            arithmetic::scale(layer, (shape_scale, scale), bias.as_ref().map(|bias| (&shape_bias[..], bias)), onnx)
        }
        Kind::Bias { shape, bias } => arithmetic::bias(layer, shape, bias, onnx),

        Kind::Reduce { mode, epsilon, axes } => reduction::reduce(layer, *mode, *epsilon, *axes, onnx),
        Kind::ReduceNd { reduction, axes, keep_dims } => {
            reduction::reduce_nd(layer, *reduction, axes.as_deref(), *keep_dims, onnx)
        }
        Kind::ArgMax { axis, remove_dim } => reduction::arg(layer, "ArgMax", *axis, *remove_dim, onnx),
        Kind::ArgMin { axis, remove_dim } => reduction::arg(layer, "ArgMin", *axis, *remove_dim, onnx),
        Kind::ArgSort { axis, descending } => reduction::arg_sort(layer, *axis, *descending, onnx),
        Kind::TopK { axis, k, use_bottom_k } => return reduction::top_k(layer, *axis, *k, *use_bottom_k, onnx),
        Kind::CumSum { axis, exclude_final_sum, reverse } => {
            reduction::cum_sum(layer, *axis, *exclude_final_sum, *reverse, onnx)
        }

        Kind::LoadConstant { shape, data } => constant::load_constant(layer, *shape, data, onnx),
        Kind::LoadConstantNd { shape, data } => constant::load_constant_nd(layer, shape, data, onnx),
        Kind::Fill { value, shape } => constant::fill(layer, *value, shape, onnx),
        Kind::RangeStatic { start, end, step } => constant::range_static([*start, *end, *step], onnx),
        Kind::RangeDynamic { start, step } => constant::range_dynamic(layer, [*start, *step], onnx),
        Kind::Random { distribution, seed, shape } => constant::random(layer, *distribution, *seed, shape, onnx),
        // Epsilon only keeps a logarithm of 0 away, and none is taken here.
        Kind::CategoricalDistribution { seed, num_samples, is_logits, epsilon: _, temperature } => {
            constant::categorical_distribution(layer, *num_samples, *is_logits, *temperature, *seed, onnx)
        }
        Kind::OneHot { one_hot_vector_size, axis, on_value, off_value } => {
            index::one_hot(layer, *one_hot_vector_size, *axis, [*on_value, *off_value], onnx)
        }

        Kind::Reshape { target_shape, channel_last } => shape::reshape(layer, target_shape, *channel_last, onnx),
        Kind::ReshapeStatic { target_shape } => shape::reshape_static(layer, target_shape, onnx),
        Kind::ReshapeDynamic => shape::reshape_dynamic(layer, onnx),
        Kind::ReshapeLike => shape::reshape_like(layer, onnx),
        Kind::RankPreservingReshape { target_shape } => shape::rank_preserving_reshape(layer, target_shape, onnx),
        Kind::Flatten { channel_last } => shape::flatten(layer, *channel_last, onnx),
        Kind::FlattenTo2d { axis } => shape::flatten_to_2d(layer, *axis, onnx),
        Kind::Squeeze { axes } => shape::squeeze(layer, axes.as_deref(), onnx),
        Kind::ExpandDims { axes } => shape::expand_dims(layer, axes, onnx),
        Kind::Permute { axis } => shape::permute(layer, axis, onnx),
        Kind::Transpose { axes } => shape::transpose(layer, axes, onnx),
        Kind::BroadcastTo(shape) => shape::broadcast_to(layer, shape, onnx),
        Kind::GetShape => shape::get_shape(layer, onnx),
        Kind::ReorganizeData { mode, block_size } => shape::reorganize_data(layer, *mode, *block_size, onnx),

        Kind::Concat { sequence_concat } => pieces::concat(layer, *sequence_concat, onnx),
        Kind::ConcatNd { axis, interleave } => pieces::concat_nd(layer, *axis, *interleave, onnx),
        Kind::Stack { axis } => pieces::stack(layer, *axis, onnx),
        Kind::Split { outputs } => return pieces::split(layer, *outputs, onnx),
        Kind::SplitNd { axis, num_splits: _, split_sizes } => return pieces::split_nd(layer, *axis, split_sizes, onnx),
        Kind::Slice { start, end, stride, axis } => pieces::slice(layer, [*start, *end], *stride, *axis, onnx),
        Kind::SliceStatic(params) => pieces::slice_static(layer, params, onnx),
        Kind::SliceDynamic(params) => pieces::slice_dynamic(layer, params, onnx),
        Kind::SliceBySize { size, axis } => pieces::slice_by_size(layer, *size, *axis, onnx),
        Kind::SlidingWindows { axis, window_size, step } => {
            pieces::sliding_windows(layer, *axis, [*window_size, *step], onnx)
        }
        Kind::Tile { reps } => pieces::tile(layer, reps, onnx),
        Kind::SequenceRepeat { repetitions } => pieces::sequence_repeat(layer, *repetitions, onnx),
        Kind::Reverse { reverse_dim } => pieces::reverse(layer, reverse_dim, onnx),
        Kind::ReverseSeq { batch_axis, sequence_axis } => pieces::reverse_seq(layer, *batch_axis, *sequence_axis, onnx),
        Kind::Gather { axis } => index::gather(layer, *axis, onnx),
        Kind::GatherNd => index::gather_nd(layer, onnx),
        Kind::GatherAlongAxis { axis } => index::gather_along_axis(layer, *axis, onnx),
        Kind::Scatter { axis, mode } => index::scatter(layer, *axis, *mode, onnx),
        Kind::ScatterNd { mode } => index::scatter_nd(layer, *mode, onnx),
        Kind::ScatterAlongAxis { axis, mode } => index::scatter_along_axis(layer, *axis, *mode, onnx),
        Kind::WhereNonZero => index::where_non_zero(layer, onnx),
        Kind::MatrixBandPart { lower, upper } => index::band(layer, *lower, *upper, onnx),
        Kind::LowerTriangular { k } => index::triangle(layer, *k, false, onnx),
        Kind::UpperTriangular { k } => index::triangle(layer, *k, true, onnx),
        Kind::NonMaximumSuppression(params) => return boxes::suppression(layer, params, onnx),

        Kind::SimpleRecurrent(params) => return recurrent::simple(layer, params, onnx),
        Kind::Gru(params) => return recurrent::gru(layer, params, onnx),
        Kind::UniDirectionalLstm(params) | Kind::BiDirectionalLstm(params) => {
            return recurrent::lstm(layer, params, onnx);
        }
        Kind::Copy => layer.input().cloned(),
        Kind::Branch { .. } | Kind::Loop(_) | Kind::LoopBreak | Kind::LoopContinue => {
            Err("it says what runs, and computes nothing".into())
        }
        Kind::Custom { .. } => Err("its code is not in the model".into()),
    };
    Ok(vec![blob?])
}
