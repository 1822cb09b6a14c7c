//! Inputs and outputs of a network: how features become blobs, and blobs features.

use std::sync::Arc;

use coreml_format::{
    mil::Dim,
    nn::{ArrayMapping, Bias, Classifier, ImageMapping, Layer, LayerKind, NeuralNetwork, Preprocessing},
    schema::{
        ArrayKind, ArrayType, ClassLabels, ColorSpace, Feature, FeatureKind, ImageFlexibility, ImageKind, Interface,
        ShapeFlexibility, SizeRange,
    },
};

use super::{
    blob::{Blob, Blobs, count, show, target},
    planes::planes,
};
use crate::{
    InputBinding, LowerError, LowerOptions, OutputBinding, OutputForm,
    lower::Fault,
    onnx::{Element, OnnxBuilder, Source, Value},
};

/// Declares an input of the graph for each feature, and gives their blobs.
pub(super) fn inputs<'a>(
    network: &NeuralNetwork,
    interface: &'a Interface,
    options: &LowerOptions,
    onnx: &mut OnnxBuilder,
) -> Result<(Vec<InputBinding>, Blobs<'a>), LowerError> {
    onnx.reserve(interface.outputs.iter().map(|feature| feature.name.as_str()));
    check_preprocessing(network, interface)?;
    let (mut bindings, mut blobs) = (Vec::new(), Blobs::new());
    let sequential = takes_sequences(network);
    for declared in &interface.inputs {
        let feature = if sequential { &sequence(declared) } else { declared };
        let blob = match &feature.kind {
            FeatureKind::MultiArray(kind) if sequential && kind.shape.len() == 5 => {
                array(feature, kind, ArrayMapping::Exact, options, onnx)
            }
            FeatureKind::MultiArray(kind) => array(feature, kind, network.array_mapping, options, onnx),
            FeatureKind::Image(kind) => {
                image(feature, kind, network.image_mapping, preprocessing_of(network, &feature.name), onnx)
            }
            FeatureKind::Int64
            | FeatureKind::Double
            | FeatureKind::String
            | FeatureKind::Dictionary(_)
            | FeatureKind::Sequence(..)
            | FeatureKind::State(_) => Err("it is neither an array nor an image".into()),
        };
        let blob = blob.map_err(|fault| LowerError::Model(format!("input {:?}: {}", feature.name, fault.0)))?;
        let blob = if options.round_to_fp16 { blob.same(onnx.round_half(blob.value())) } else { blob };
        blobs.insert(&declared.name, blob);
        bindings.push(InputBinding { feature: feature.clone(), port: bindings.len() });
    }
    Ok((bindings, blobs))
}

/// What a network takes for an input that it declares: with recurrent layers and the array mapping of before
/// specification 4, sequences of what it declares, (sequence, batch, channel, height, width).
pub fn network_input(network: &NeuralNetwork, declared: &Feature) -> Feature {
    if takes_sequences(network) { sequence(declared) } else { declared.clone() }
}

fn takes_sequences(network: &NeuralNetwork) -> bool {
    network.array_mapping == ArrayMapping::Rank5 && network.layers.iter().any(runs_over_sequences)
}

/// Whether a layer looks beyond one step of a sequence, so that a network that has it takes whole sequences.
fn runs_over_sequences(layer: &Layer) -> bool {
    match &layer.kind {
        LayerKind::SimpleRecurrent(_)
        | LayerKind::Gru(_)
        | LayerKind::UniDirectionalLstm(_)
        | LayerKind::BiDirectionalLstm(_)
        | LayerKind::Embedding { .. }
        | LayerKind::SequenceRepeat { .. }
        | LayerKind::Concat { sequence_concat: true }
        | LayerKind::CropResize(_) => true,
        LayerKind::Permute { axis } => axis.first().is_some_and(|&first| first != 0),
        LayerKind::Reshape { target_shape, .. } => target_shape.len() == 4,
        _ => false,
    }
}

/// The input of a network that takes sequences: any number of steps in front of what the model declares for one.
fn sequence(feature: &Feature) -> Feature {
    let FeatureKind::MultiArray(kind) = &feature.kind else { return feature.clone() };
    let shape = match kind.shape[..] {
        _ if kind.flexibility != ShapeFlexibility::Fixed => return feature.clone(),
        [channels] => [channels, 1, 1],
        [channels, height, width] => [channels, height, width],
        _ => return feature.clone(),
    };
    let shape = [&[1, 1], &shape[..]].concat();
    let mut ranges: Vec<SizeRange> = shape.iter().map(|&n| SizeRange { lower: n, upper: Some(n) }).collect();
    ranges[0].upper = None;
    let kind = ArrayKind { shape, flexibility: ShapeFlexibility::Ranges(ranges), ..kind.clone() };
    Feature { kind: FeatureKind::MultiArray(kind), ..feature.clone() }
}

fn array(
    feature: &Feature,
    kind: &ArrayKind,
    mapping: ArrayMapping,
    options: &LowerOptions,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let dims = array_dims(kind)?;
    let element = match kind.dtype {
        ArrayType::Float16 if options.half_io => Element::F16,
        ArrayType::Float16 | ArrayType::Float32 | ArrayType::Float64 => Element::F32,
        ArrayType::Int32 | ArrayType::Int8 => Element::I32,
    };
    let port = onnx.input(&feature.name, element, dims.clone());
    onnx.begin(&feature.name);
    // Networks compute with floats alone.
    let value = onnx.cast(&port, Element::F32);
    let blob = match (mapping, &dims[..]) {
        (ArrayMapping::Exact, _) => Blob::exact(value, dims),
        (ArrayMapping::Rank5, &[channels]) => {
            let dims = [Dim::Fixed(1), channels, Dim::Fixed(1), Dim::Fixed(1)];
            Blob::rank_5(onnx.reshape(&value, &target(&dims)?), dims)
        }
        (ArrayMapping::Rank5, &[channels, height, width]) => {
            Blob::rank_5(onnx.unsqueeze(&value, &[0]), [Dim::Fixed(1), channels, height, width])
        }
        (ArrayMapping::Rank5, _) => {
            return Err(format!("its shape is {}, and this network takes arrays of rank 1 and 3", show(&dims)).into());
        }
    };
    Ok(named(feature, blob, onnx))
}

/// Gives what was made of an input a name.
fn named(feature: &Feature, blob: Blob, onnx: &mut OnnxBuilder) -> Blob {
    let name = format!("{}.blob", feature.name);
    let value = onnx.end(vec![blob.value().clone()], &[&name]).pop().expect("one result was given");
    blob.same(value)
}

/// The dimensions of an array; those that differ between its shapes are known at run time only.
fn array_dims(kind: &ArrayKind) -> Result<Vec<Dim>, Fault> {
    let dims = match &kind.flexibility {
        ShapeFlexibility::Fixed => kind.shape.iter().map(|&d| Dim::Fixed(d)).collect(),
        ShapeFlexibility::Enumerated(shapes) => {
            let first = shapes.first().ok_or("it names no shape")?;
            if shapes.iter().any(|shape| shape.len() != first.len()) {
                return Err("its shapes have different ranks".into());
            }
            let same = |axis: usize| shapes.iter().all(|shape| shape[axis] == first[axis]);
            (0..first.len()).map(|axis| if same(axis) { Dim::Fixed(first[axis]) } else { Dim::Unknown }).collect()
        }
        ShapeFlexibility::Ranges(ranges) => {
            ranges.iter().map(|r| if r.upper == Some(r.lower) { Dim::Fixed(r.lower) } else { Dim::Unknown }).collect()
        }
    };
    if Vec::is_empty(&dims) { Err("it has no shape".into()) } else { Ok(dims) }
}

/// An image of values from 0 to 255, with its preprocessing.
fn image(
    feature: &Feature,
    kind: &ImageKind,
    mapping: ImageMapping,
    preprocessing: Option<&Preprocessing>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let side = |size: usize| if kind.flexibility == ImageFlexibility::Fixed { Dim::Fixed(size) } else { Dim::Unknown };
    let dims = [Dim::Fixed(1), Dim::Fixed(kind.color.channels()), side(kind.height), side(kind.width)];
    let port = onnx.input(&feature.name, Element::F32, dims.to_vec());
    onnx.begin(&feature.name);
    let value = match preprocessing {
        None => port,
        Some(Preprocessing::Scaler { scale, bias }) => scaled(&port, *scale, *bias, kind.color, onnx),
        Some(Preprocessing::MeanImage(mean)) => {
            if kind.flexibility != ImageFlexibility::Fixed {
                return Err("a mean image asks for one size of the image".into());
            }
            let mean = Arc::new(Source::Stored(mean.clone()));
            let mean = onnx.weight(&format!("{}.mean", feature.name), Element::F32, mean);
            onnx.binary("Sub", &port, &mean)
        }
    };
    let blob = match mapping {
        ImageMapping::Rank5 => Blob::rank_5(value, dims),
        ImageMapping::Rank4 => Blob::exact(value, dims.to_vec()),
    };
    Ok(named(feature, blob, onnx))
}

fn scaled(x: &Value, scale: f32, bias: Bias, color: ColorSpace, onnx: &mut OnnxBuilder) -> Value {
    let biases = match color {
        ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => vec![bias.gray],
        ColorSpace::Rgb => vec![bias.red, bias.green, bias.blue],
        ColorSpace::Bgr => vec![bias.blue, bias.green, bias.red],
    };
    let scaled = if scale == 1.0 { x.clone() } else { onnx.with_scalar("Mul", x, scale) };
    if biases.iter().all(|&b| b == 0.0) {
        return scaled;
    }
    let bias = onnx.floats(&[biases.len(), 1, 1], biases);
    onnx.binary("Add", &scaled, &bias)
}

/// Checks that each preprocessing belongs to an image. One without a name belongs to the only image.
fn check_preprocessing(network: &NeuralNetwork, interface: &Interface) -> Result<(), LowerError> {
    let is_image = |f: &&Feature| matches!(f.kind, FeatureKind::Image(_));
    let images: Vec<&str> = interface.inputs.iter().filter(is_image).map(|f| f.name.as_str()).collect();
    let belongs = |name: &String| images.contains(&name.as_str()) || (name.is_empty() && images.len() == 1);
    match network.preprocessing.keys().find(|name| !belongs(name)) {
        Some(name) => Err(LowerError::Model(format!("there is preprocessing of {name:?}, which is no image input"))),
        None => Ok(()),
    }
}

fn preprocessing_of<'a>(network: &'a NeuralNetwork, image: &str) -> Option<&'a Preprocessing> {
    network.preprocessing.get(image).or_else(|| network.preprocessing.get(""))
}

/// The graph's outputs: names and values.
type Ports = Vec<(String, Value)>;

/// Binds each output feature to a blob; the label and the probabilities of a classifier share one.
pub(super) fn outputs(
    network: &NeuralNetwork,
    interface: &Interface,
    options: &LowerOptions,
    onnx: &mut OnnxBuilder,
    blobs: &Blobs<'_>,
) -> Result<(Ports, Vec<OutputBinding>), LowerError> {
    let (mut ports, mut bindings) = (Ports::new(), Vec::new());
    let labels = network.classifier.as_ref().map(|classifier| Arc::new(classifier.labels.clone()));
    let mut scores_port = None;
    for feature in &interface.outputs {
        let fault = |fault: Fault| LowerError::Model(format!("output {:?}: {}", feature.name, fault.0));
        let head = labels.as_ref().and_then(|labels| head_form(labels, feature, interface));
        let (port, form, shown) = match (head, &network.classifier) {
            (Some(form), Some(classifier)) => {
                if scores_port.is_none() {
                    let scores = scores(network, classifier, blobs).map_err(fault)?;
                    ports.push((feature.name.clone(), scores.value().clone()));
                }
                (*scores_port.get_or_insert(ports.len() - 1), form, feature.clone())
            }
            (None, _) | (_, None) => {
                let blob = blobs.get(feature.name.as_str()).or_else(|| regressed(network, interface, feature, blobs));
                let blob = blob.ok_or_else(|| fault("no layer writes it".into()))?;
                let value = boundary(feature, blob, network.array_mapping, options, onnx).map_err(fault)?;
                let shown = as_given(feature, &value);
                ports.push((feature.name.clone(), value));
                (ports.len() - 1, OutputForm::Tensor, shown)
            }
        };
        bindings.push(OutputBinding { feature: shown, port, form });
    }
    Ok((ports, bindings))
}

/// The feature as the network gives it, which is what counts where the model declares another shape: Core ML checks none
/// of a network's outputs.
fn as_given(feature: &Feature, value: &Value) -> Feature {
    let mut feature = feature.clone();
    if let (FeatureKind::MultiArray(kind), Some(shape)) = (&mut feature.kind, value.shape())
        && kind.flexibility == ShapeFlexibility::Fixed
        && !kind.shape.is_empty()
    {
        kind.shape = shape;
    }
    feature
}

/// What a feature shows of a classifier's scores, where it shows them.
fn head_form(labels: &Arc<ClassLabels>, feature: &Feature, interface: &Interface) -> Option<OutputForm> {
    let predicted = interface.predicted_feature.as_ref() == Some(&feature.name);
    match feature.kind {
        FeatureKind::Dictionary(_) => Some(OutputForm::Probabilities(labels.clone())),
        FeatureKind::String | FeatureKind::Int64 => predicted.then(|| OutputForm::Label(labels.clone())),
        FeatureKind::Double
        | FeatureKind::Image(_)
        | FeatureKind::MultiArray(_)
        | FeatureKind::Sequence(..)
        | FeatureKind::State(_) => None,
    }
}

/// The blob with a classifier's scores: the one that it names, or the last layer's.
fn scores<'b>(network: &NeuralNetwork, classifier: &Classifier, blobs: &'b Blobs<'_>) -> Result<&'b Blob, Fault> {
    let blob = match classifier.probabilities.as_str() {
        "" => last(network, blobs),
        name => blobs.get(name),
    };
    let blob = blob.ok_or("no layer writes the classifier's scores")?;
    match count(blob.dims()) {
        Some(scores) if scores != classifier.labels.len() => {
            Err(format!("the classifier has {} labels, and the network gives {scores} scores", classifier.labels.len())
                .into())
        }
        _ => Ok(blob),
    }
}

/// The blob of a regressor's value, which need not have the value's name.
fn regressed<'b>(
    network: &NeuralNetwork,
    interface: &Interface,
    feature: &Feature,
    blobs: &'b Blobs<'_>,
) -> Option<&'b Blob> {
    let predicted = network.regressor && interface.predicted_feature.as_ref() == Some(&feature.name);
    if predicted { last(network, blobs) } else { None }
}

fn last<'b>(network: &NeuralNetwork, blobs: &'b Blobs<'_>) -> Option<&'b Blob> {
    blobs.get(network.layers.last()?.outputs.first()?.as_str())
}

/// A blob as it leaves the graph. Where the model declares a shape of as many elements, it gets that shape; otherwise a
/// blob of (sequence, batch, channel, height, width) loses the first two.
fn boundary(
    feature: &Feature,
    blob: &Blob,
    mapping: ArrayMapping,
    options: &LowerOptions,
    onnx: &mut OnnxBuilder,
) -> Result<Value, Fault> {
    let kind = match &feature.kind {
        FeatureKind::MultiArray(kind) => kind,
        FeatureKind::Image(_) if blob.dims().len() > 3 => return planes::<2>(blob, onnx),
        FeatureKind::Image(_)
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary(_)
        | FeatureKind::Sequence(..)
        | FeatureKind::State(_) => return Ok(blob.value().clone()),
    };
    let declared: Vec<Dim> = kind.shape.iter().map(|&d| Dim::Fixed(d)).collect();
    let all = count(blob.dims());
    let value = match blob.dims() {
        dims if dims == declared => blob.value().clone(),
        _ if !declared.is_empty() && all.is_some() && all == count(&declared) => {
            onnx.reshape(blob.value(), &target(&declared)?).with_dims(Some(declared))
        }
        [Dim::Fixed(1), inner @ ..] if mapping == ArrayMapping::Rank5 && blob.has_lead() => {
            let inner = inner.to_vec();
            onnx.squeeze(blob.value(), &[0]).with_dims(Some(inner))
        }
        [Dim::Fixed(1), Dim::Fixed(1), inner @ ..] if mapping == ArrayMapping::Rank5 && inner.len() == 3 => {
            let inner = inner.to_vec();
            onnx.squeeze(blob.value(), &[0, 1]).with_dims(Some(inner))
        }
        _ => blob.whole(onnx),
    };
    let dims = value.dims().map(<[_]>::to_vec);
    let element = match kind.dtype {
        ArrayType::Float16 if options.half_io => Element::F16,
        ArrayType::Float16 | ArrayType::Float32 | ArrayType::Float64 => Element::F32,
        ArrayType::Int32 | ArrayType::Int8 => Element::I32,
    };
    Ok(onnx.cast(&value, element).with_dims(dims))
}
