//! Checks of a whole network.

use std::collections::HashSet;

use super::{Classifier, Layer, LayerKind, NeuralNetwork, read::place};
use crate::{
    error::{Flaw, quote},
    schema::{Feature, FeatureKind, Schema},
};

/// Checks that every blob is written before it is read, once, and that every output is written.
pub(crate) fn validate(network: &NeuralNetwork, schema: &Schema) -> Result<(), Flaw> {
    if network.layers.is_empty() {
        return Err(Flaw::new("the network", "has no layers"));
    }
    let blobs = blobs(network, schema)?;
    if let Some(classifier) = &network.classifier {
        check_classifier(network, classifier, &blobs)?;
    }
    let missing =
        |output: &&Feature| !blobs.contains(output.name.as_str()) && !comes_from_head(output, network, schema);
    match schema.interface.outputs.iter().find(missing) {
        Some(output) => Err(Flaw::new("the network", format!("no layer writes the output {}", quote(&output.name)))),
        None => Ok(()),
    }
}

/// Whether an output is made from the network's blobs and is none itself: label and probabilities of a classifier,
/// the value of a regressor.
fn comes_from_head(output: &Feature, network: &NeuralNetwork, schema: &Schema) -> bool {
    let is_blob = matches!(output.kind, FeatureKind::MultiArray(_) | FeatureKind::Image(_));
    (network.classifier.is_some() && !is_blob)
        || (network.regressor && schema.interface.predicted_feature.as_ref() == Some(&output.name))
}

/// The names of all blobs: inputs of the model and outputs of layers.
fn blobs<'a>(network: &'a NeuralNetwork, schema: &'a Schema) -> Result<HashSet<&'a str>, Flaw> {
    let inputs: HashSet<&str> = schema.interface.inputs.iter().map(|input| input.name.as_str()).collect();
    let mut blobs = inputs.clone();
    write(&network.layers, &inputs, &mut blobs)?;
    Ok(blobs)
}

/// Adds what these layers write to `blobs`.
fn write<'a>(layers: &'a [Layer], inputs: &HashSet<&str>, blobs: &mut HashSet<&'a str>) -> Result<(), Flaw> {
    for layer in layers {
        let flaw = |reason| Flaw::new(place(layer.kind.name(), &layer.name), reason);
        if let Some(missing) = layer.inputs.iter().find(|input| !blobs.contains(input.as_str())) {
            return Err(flaw(format!("reads the blob {}, which no layer before it writes", quote(missing))));
        }
        if layer.outputs.is_empty() && !is_control(&layer.kind) {
            return Err(flaw("writes nothing".to_owned()));
        }
        for output in &layer.outputs {
            // Loops carry their variables by copying into a blob that is there already, and load constants again; a
            // network that gives what it takes copies it to its own name.
            if blobs.insert(output) || matches!(layer.kind, LayerKind::Copy | LayerKind::LoadConstantNd { .. }) {
                continue;
            }
            return Err(flaw(match inputs.contains(output.as_str()) {
                true => format!("overwrites the model's input {}", quote(output)),
                false => format!("writes the blob {}, which an earlier layer wrote", quote(output)),
            }));
        }
        if let LayerKind::Branch { if_branch, else_branch } = &layer.kind {
            // Both may write the same blobs.
            let mut otherwise = blobs.clone();
            write(if_branch, inputs, blobs)?;
            write(else_branch, inputs, &mut otherwise)?;
            blobs.extend(otherwise);
        } else {
            // A loop's body reads what its condition wrote.
            layer.kind.nested().into_iter().try_for_each(|inner| write(inner, inputs, blobs))?;
        }
    }
    Ok(())
}

/// Whether a layer says what runs, and computes nothing itself.
fn is_control(kind: &LayerKind) -> bool {
    matches!(kind, LayerKind::Branch { .. } | LayerKind::Loop(_) | LayerKind::LoopBreak | LayerKind::LoopContinue)
}

fn check_classifier(network: &NeuralNetwork, classifier: &Classifier, blobs: &HashSet<&str>) -> Result<(), Flaw> {
    let scores = match classifier.probabilities.as_str() {
        "" => network.layers.last().and_then(|layer| layer.outputs.first()).map_or("", String::as_str),
        name => name,
    };
    if !blobs.contains(scores) {
        return Err(Flaw::new("the classifier", format!("no layer writes its scores {}", quote(scores))));
    }
    let labels = classifier.labels.len() as u64;
    match score_count(&network.layers, scores) {
        // A convolution gives that many scores a pixel, and how many pixels there are is not known here.
        Some(Scores::Channels(n)) if !labels.is_multiple_of(n) => (),
        Some(Scores::Exactly(n)) if labels != n => (),
        _ => return Ok(()),
    }
    Err(Flaw::new(
        "the classifier",
        format!("has {labels} labels, which is not the number of scores in {}", quote(scores)),
    ))
}

enum Scores {
    Exactly(u64),
    Channels(u64),
}

/// How many scores the blob has, as far as the layers that lead to it say.
fn score_count(layers: &[Layer], scores: &str) -> Option<Scores> {
    let mut blob = scores;
    for layer in layers.iter().rev() {
        if !layer.outputs.iter().any(|output| output == blob) {
            continue;
        }
        match &layer.kind {
            LayerKind::InnerProduct { output_channels, .. } => return Some(Scores::Exactly(*output_channels)),
            LayerKind::Convolution(convolution) => return Some(Scores::Channels(convolution.output_channels)),
            LayerKind::Softmax | LayerKind::SoftmaxNd { .. } | LayerKind::Activation(_) => {
                blob = layer.inputs.first()?;
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        nn::{Activation, ArrayMapping, ImageMapping, Weight},
        schema::{ClassLabels, Interface},
    };

    /// `name: inputs -> outputs`, a ReLU, a branch with what follows a bar in it, or, with a number for its name, an inner
    /// product to so many channels.
    fn layer(text: &str) -> Layer {
        let (text, inner) = text.split_once('|').unwrap_or((text, ""));
        let (name, blobs) = text.trim().split_once(':').unwrap();
        let (inputs, outputs) = blobs.split_once("->").unwrap();
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let weights = || Weight::Table { packed: vec![].into(), bits: 1, table: vec![] };
        let kind = match name.parse() {
            Ok(output_channels) => LayerKind::InnerProduct {
                input_channels: 1,
                output_channels,
                weights: weights(),
                bias: None,
                int8_dynamic: false,
            },
            Err(_) if name == "branch" => {
                LayerKind::Branch { if_branch: vec![layer(inner)], else_branch: vec![layer(inner)] }
            }
            Err(_) if name == "copy" => LayerKind::Copy,
            Err(_) if name == "constant" => LayerKind::LoadConstantNd { shape: vec![], data: weights() },
            Err(_) => LayerKind::Activation(Activation::Relu),
        };
        Layer { name: name.to_owned(), inputs: names(inputs), outputs: names(outputs), kind }
    }

    fn check_with(layers: &[&str], labels: usize, expected: &str) {
        let feature = |name: &str| Feature {
            name: name.to_owned(),
            description: String::new(),
            kind: if labels > 0 { FeatureKind::Dictionary(crate::schema::KeyKind::Int64) } else { image() },
            optional: false,
        };
        let schema = Schema {
            interface: Interface { inputs: vec![feature("x")], outputs: vec![feature("y")], ..Interface::default() },
            ..Schema::default()
        };
        let labels = ClassLabels::Int64s(vec![0; labels]);
        let network = NeuralNetwork {
            layers: layers.iter().map(|text| layer(text)).collect(),
            preprocessing: BTreeMap::new(),
            array_mapping: ArrayMapping::Exact,
            image_mapping: ImageMapping::Rank4,
            classifier: (!labels.is_empty()).then_some(Classifier { labels, probabilities: String::new() }),
            regressor: false,
        };
        let shown = match validate(&network, &schema) {
            Ok(()) => "ok".to_owned(),
            Err(flaw) => format!("{}: {}", flaw.place, flaw.reason),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn image() -> FeatureKind {
        FeatureKind::Image(crate::schema::ImageKind {
            width: 1,
            height: 1,
            color: crate::schema::ColorSpace::Rgb,
            flexibility: crate::schema::ImageFlexibility::Fixed,
        })
    }

    #[test]
    fn blobs_flow_forward() {
        check_with(&["a: x -> b", "c: b -> y"], 0, "ok");
        check_with(&[], 0, "has no layers");
        check_with(&["a: nowhere -> y"], 0, "activation \"a\": reads the blob \"nowhere\"");
        check_with(&["a: b -> y", "c: x -> b"], 0, "reads the blob \"b\"");
        check_with(&["a: x -> x"], 0, "overwrites the model's input \"x\"");
        check_with(&["constant: -> b", "branch: x -> | constant: -> b", "a: b -> y"], 0, "ok");
        check_with(&["copy: x -> x", "a: x -> y"], 0, "ok");
        check_with(&["a: x -> b", "c: x -> b", "d: b -> y"], 0, "writes the blob \"b\", which an earlier layer wrote");
        check_with(&["a: x -> b"], 0, "no layer writes the output \"y\"");
        check_with(&["a: x ->"], 0, "writes nothing");
        check_with(&["branch: x -> | a: x -> y"], 0, "ok");
        check_with(&["branch: x -> | a: b -> y"], 0, "activation \"a\": reads the blob \"b\"");
        check_with(&["branch: x -> | a: x -> y", "b: x -> y"], 0, "which an earlier layer wrote");
        check_with(&["branch: x -> | a: x -> y", "copy: x -> y"], 0, "ok");
    }

    #[test]
    fn as_many_labels_as_scores() {
        check_with(&["2: x -> b", "a: b -> c"], 2, "ok");
        check_with(&["2: x -> b", "a: b -> c"], 3, "the classifier: has 3 labels");
        check_with(&["a: x -> b"], 3, "ok");
    }
}
