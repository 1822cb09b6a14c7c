//! Decoded networks as the types of this module. Blobs and their order are checked in `validate`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ArrayMapping, Bias, Classifier, ImageMapping, Layer, NeuralNetwork, Preprocessing,
    kinds::layer_name,
    layer::{Body, read_kind},
};
use crate::{
    DType, Tensor,
    error::{Flaw, quote},
    pb::{self, nn as message},
    schema::{ClassLabels, FeatureKind, ImageKind, Schema},
};

/// Branches and loops inside of each other; no real network has nearly as many.
const NESTING_LIMIT: usize = 32;

/// Reads an encoded network. `model_type` is the name of the field of `Model` that it stands in.
pub(crate) fn read(body: Bytes, model_type: &str, schema: &Schema) -> Result<NeuralNetwork, Flaw> {
    let flaw = |reason: String| Flaw::new(model_type, reason);
    let network: message::NeuralNetwork = pb::decode(body, "the network").map_err(flaw)?;
    let array_mapping = match network.array_input_shape_mapping {
        0 => ArrayMapping::Rank5,
        1 => ArrayMapping::Exact,
        other => return Err(flaw(format!("has unknown array mapping {other}"))),
    };
    let image_mapping = match network.image_input_shape_mapping {
        0 => ImageMapping::Rank5,
        1 => ImageMapping::Rank4,
        other => return Err(flaw(format!("has unknown image mapping {other}"))),
    };
    let classifier = (model_type == "neuralNetworkClassifier")
        .then(|| classifier(network.labels, network.label_probability_layer_name))
        .transpose()
        .map_err(flaw)?;
    Ok(NeuralNetwork {
        layers: read_layers(network.layers, 0)?,
        preprocessing: preprocessing(network.preprocessing, schema).map_err(flaw)?,
        array_mapping,
        image_mapping,
        classifier,
        regressor: model_type == "neuralNetworkRegressor",
    })
}

fn classifier(labels: Option<message::Labels>, probabilities: String) -> Result<Classifier, String> {
    let labels = match labels {
        Some(message::Labels::Strings(labels)) => ClassLabels::Strings(labels.vector),
        Some(message::Labels::Int64s(labels)) => ClassLabels::Int64s(labels.vector),
        None => ClassLabels::Strings(Vec::new()),
    };
    if labels.is_empty() { Err("has no class labels".to_owned()) } else { Ok(Classifier { labels, probabilities }) }
}

/// Reads the layers of a network that is in `depth` branches and loops.
pub(super) fn read_layers(layers: Vec<Bytes>, depth: usize) -> Result<Vec<Layer>, Flaw> {
    if depth > NESTING_LIMIT {
        return Err(Flaw::new("the network", format!("nests branches and loops deeper than {NESTING_LIMIT}")));
    }
    layers.into_iter().enumerate().map(|(index, layer)| read_layer(layer, index, depth)).collect()
}

fn read_layer(layer: Bytes, index: usize, depth: usize) -> Result<Layer, Flaw> {
    let flaw = |reason: String| Flaw::new(format!("layer number {index}"), reason);
    let member = pb::last_member(&layer, |number| layer_name(number).map(|name| (number, name))).map_err(flaw)?;
    let message::Layer { name, input, output } = pb::decode(layer, "it").map_err(flaw)?;
    let untyped = || Flaw::new(format!("layer {}", quote(&name)), "has no type, or one that is not known");
    let ((number, kind), bytes) = member.ok_or_else(untyped)?;
    let body = Body { bytes, inputs: input.len(), depth };
    let kind = read_kind(number, body).map_err(|reason| Flaw::new(place(kind, &name), reason))?;
    Ok(Layer { kind: kind.ok_or_else(untyped)?, name, inputs: input, outputs: output })
}

/// Where a layer stands, for messages: `convolution "conv1"`.
pub(super) fn place(kind: &str, name: &str) -> String {
    format!("{kind} {}", quote(name))
}

fn preprocessing(all: Vec<message::Preprocessing>, schema: &Schema) -> Result<BTreeMap<String, Preprocessing>, String> {
    let mut by_input = BTreeMap::new();
    for one in all {
        let name = one.feature_name;
        let preprocessor = one.preprocessor.ok_or_else(|| format!("preprocessing of {} does nothing", quote(&name)))?;
        let read = match preprocessor {
            message::Preprocessor::Scaler(scaler) => Preprocessing::Scaler {
                scale: scaler.channel_scale,
                bias: Bias {
                    blue: scaler.blue_bias,
                    green: scaler.green_bias,
                    red: scaler.red_bias,
                    gray: scaler.gray_bias,
                },
            },
            message::Preprocessor::MeanImage(mean) => Preprocessing::MeanImage(mean_image(mean.values, &name, schema)?),
        };
        if by_input.insert(name.clone(), read).is_some() {
            return Err(format!("has two preprocessings of {}", quote(&name)));
        }
    }
    Ok(by_input)
}

/// The mean image with the shape (channel, height, width) of the image input it belongs to.
fn mean_image(values: Bytes, name: &str, schema: &Schema) -> Result<Tensor, String> {
    let images = schema.interface.inputs.iter().filter_map(|input| match &input.kind {
        FeatureKind::Image(image) if name.is_empty() || input.name == name => Some(image),
        _ => None,
    });
    let [ImageKind { width, height, color, .. }] = images.collect::<Vec<_>>()[..] else {
        return Err(format!("the mean image of {} belongs to no image input", quote(name)));
    };
    let shape = vec![color.channels(), *height, *width];
    let stored = values.len() / 4;
    let expected = format!("the mean image of {} has {stored} values, its image {shape:?}", quote(name));
    Tensor::new(DType::Float32, shape, values).ok_or(expected)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn check(layer: &message::Layer, kind: &[u8], expected: &str) {
        let mut bytes = layer.encode_to_vec();
        bytes.extend_from_slice(kind);
        let shown = match read_layer(bytes.into(), 3, 0) {
            Ok(layer) => format!("{layer:?}"),
            Err(flaw) => format!("{}: {}", flaw.place, flaw.reason),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn layers() {
        let layer = message::Layer { name: "l".to_owned(), input: vec!["x".to_owned()], output: vec!["y".to_owned()] };
        check(&layer, b"\xfa\x0a\x00", "kind: Softmax }");
        check(&layer, b"\xaa\x0b\x00", "layer \"l\": has no type"); // 181, which is no layer
        check(&layer, b"\xa2\x0b\x02\x18\x05", "kind: Lrn { alpha: 0.0, beta: 0.0, local_size: 5, k: 1.0 }");
        check(&layer, b"", "layer \"l\": has no type");
        check(&layer, b"\xfa\x0a\x09", "layer number 3: field 175 at byte");
        check(&layer, b"\x92\x08\x00", "activation \"l\": names no function");
    }

    #[test]
    fn nesting_ends() {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |layers: Vec<Bytes>, _| {
                let branch = message::Branch {
                    if_branch: Some(message::NeuralNetwork { layers, ..Default::default() }),
                    else_branch: None,
                };
                let mut bytes = message::Layer::default().encode_to_vec();
                prost::encoding::message::encode(605, &branch, &mut bytes);
                vec![bytes.into()]
            })
        };
        let shown = |depth| match read_layers(nested(depth), 0) {
            Ok(layers) => format!("{} layers", layers.len()),
            Err(flaw) => flaw.reason,
        };
        assert_eq!(shown(NESTING_LIMIT), "1 layers");
        assert!(shown(NESTING_LIMIT + 1).ends_with("nests branches and loops deeper than 32"));
    }
}
