//! Lowering of neural networks: one arm a layer, with the verbs and helpers that MIL's operations use.
//!
//! What a layer means is written in the comments of coremltools' `NeuralNetwork.proto`. The format says no shapes, so
//! each lowering says that of its result.

mod activation;
mod arithmetic;
mod blob;
mod convolution;
mod interface;
mod normalization;
mod pooling;
mod product;
mod reader;
mod shape;

use coreml_format::{
    Model,
    nn::{Layer, LayerKind, NeuralNetwork},
};

use crate::{
    LowerError, LowerOptions, Lowered, error,
    lower::{Fault, grouped},
    onnx::OnnxBuilder,
};
use blob::{Blob, Blobs};
use reader::LayerReader;

pub(crate) fn lower(model: &Model, network: &NeuralNetwork, options: &LowerOptions) -> Result<Lowered, LowerError> {
    if let Some(name) = options.function.as_ref().filter(|name| **name != model.schema.default_function) {
        return Err(LowerError::Model(format!(
            "{} is a neural network, which has no function {name:?}",
            model.path.display()
        )));
    }
    let missing = grouped(network.layers.iter().filter_map(|layer| {
        if let LayerKind::Other(kind) = layer.kind { Some((kind, layer.name.as_str())) } else { None }
    }));
    if !missing.is_empty() {
        return Err(LowerError::Unsupported(missing));
    }
    let interface = &model.schema.interface;
    let mut onnx = OnnxBuilder::new(options.without_fp16);
    let (inputs, mut blobs) = interface::inputs(network, interface, options, &mut onnx)?;
    for layer in &network.layers {
        lower_layer(layer, options, &mut blobs, &mut onnx).map_err(|fault| LowerError::Op {
            kind: layer.kind.name().to_owned(),
            name: error::shorten(&layer.name),
            reason: fault.0,
        })?;
    }
    let (ports, outputs) = interface::outputs(network, interface, options, &mut onnx, &blobs)?;
    Ok(Lowered { model: onnx.finish("main", ports), interface: interface.clone(), inputs, outputs, states: Vec::new() })
}

fn lower_layer<'a>(
    layer: &'a Layer,
    options: &LowerOptions,
    blobs: &mut Blobs<'a>,
    onnx: &mut OnnxBuilder,
) -> Result<(), Fault> {
    let [output] = &layer.outputs[..] else {
        return Err(format!("expected one output, and it has {}", layer.outputs.len()).into());
    };
    onnx.begin(&layer.name);
    let result = run(&LayerReader::new(layer, blobs)?, onnx)?.checked()?;
    let value = result.value();
    let value = if options.round_to_fp16 { onnx.round_half(value) } else { value.clone() };
    let value = onnx.end(vec![value], &[output]).pop().expect("one result was given");
    blobs.insert(output, result.same(value));
    Ok(())
}

fn run(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    match layer.kind() {
        LayerKind::Convolution(params) if params.is_deconvolution => convolution::deconvolution(layer, params, onnx),
        LayerKind::Convolution(params) => convolution::convolution(layer, params, onnx),
        LayerKind::Pooling(params) => pooling::pooling(layer, params, onnx),
        LayerKind::Activation(params) => activation::activation(layer, params, onnx),
        // A layer that is marked for int8 arithmetic has int8 weights; what it computes is the product all the same.
        LayerKind::InnerProduct { input_channels, output_channels, weights, bias, int8_dynamic: _ } => {
            product::inner_product(layer, [*output_channels, *input_channels], weights, bias.as_ref(), onnx)
        }
        LayerKind::Scale { shape_scale, scale, has_bias: _, shape_bias, bias } => {
            arithmetic::scale(layer, (shape_scale, scale), bias.as_ref().map(|bias| (&shape_bias[..], bias)), onnx)
        }
        LayerKind::Mvn { across_channels, normalize_variance, epsilon } => {
            normalization::mvn(layer, *across_channels, normalize_variance.then_some(*epsilon), onnx)
        }
        LayerKind::Add { alpha } => arithmetic::fold(layer, "Add", *alpha, onnx),
        LayerKind::Multiply { alpha } => arithmetic::fold(layer, "Mul", *alpha, onnx),
        LayerKind::AddBroadcastable => arithmetic::broadcastable(layer, "Add", onnx),
        LayerKind::MultiplyBroadcastable => arithmetic::broadcastable(layer, "Mul", onnx),
        LayerKind::BatchedMatmul { weights: Some((rows, columns, weights)), bias, .. } => {
            product::matmul_by_weight(layer, [*rows, *columns], weights, bias.as_ref(), onnx)
        }
        LayerKind::BatchedMatmul { transpose_a, transpose_b, weights: None, .. } => {
            product::matmul(layer, *transpose_a, *transpose_b, onnx)
        }
        LayerKind::Gelu { mode } => activation::gelu(layer, *mode, onnx),
        LayerKind::SoftmaxNd { axis } => normalization::softmax_nd(layer, *axis, onnx),
        LayerKind::Softmax => normalization::softmax(layer, onnx),
        LayerKind::ReshapeStatic { target_shape } => shape::reshape_static(layer, target_shape, onnx),
        LayerKind::Transpose { axes } => shape::transpose(layer, axes, onnx),
        LayerKind::ExpandDims { axes } => shape::expand_dims(layer, axes, onnx),
        LayerKind::LoadConstantNd { shape, data } => shape::load_constant_nd(layer, shape, data, onnx),
        LayerKind::EmbeddingNd { vocabulary, size, weights, bias } => {
            product::embedding_nd(layer, [*size, *vocabulary], weights, bias.as_ref(), onnx)
        }
        LayerKind::Other(_) => Err("it has no lowering".into()),
    }
}
