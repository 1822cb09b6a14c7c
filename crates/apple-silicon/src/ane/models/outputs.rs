//! An engine's tensors as features of the types that the model declares.

use coreml_format::schema::{ArrayKind, ArrayType, ClassLabels, FeatureKind, ImageKind, ShapeFlexibility};
use coreml_onnx::{OutputBinding, OutputForm};
use half::{f16, vec::HalfFloatVecExt};

use super::inputs::describe;
use crate::ane::{
    engines::{Data, Tensor},
    errors::{ANEError, Result},
    features::{Array, Dictionary, Elements, Feature, Features, Image},
};

/// One feature for each binding. Tensors are moved out of `results` where nothing else needs them. `fixed` says that
/// the shapes must be the declared ones.
pub(super) fn collect(
    bindings: &[OutputBinding],
    results: &mut [Option<Tensor<'static>>],
    fixed: bool,
) -> Result<Features> {
    let mut features = Features::new();
    for (index, binding) in bindings.iter().enumerate() {
        let name = &binding.feature.name;
        let used_again = bindings[index + 1..].iter().any(|other| other.port == binding.port);
        let place = &mut results[binding.port];
        let tensor = if used_again { place.clone() } else { place.take() };
        let tensor = tensor.ok_or_else(|| ANEError::Internal(format!("the output {name:?} has no tensor")))?;
        let feature = feature(binding, tensor, fixed).map_err(|why| {
            ANEError::InferenceFailed(format!("the output {name:?} is not {}: {why}", describe(&binding.feature.kind)))
        })?;
        features.insert(name.clone(), feature);
    }
    Ok(features)
}

fn feature(binding: &OutputBinding, tensor: Tensor<'static>, fixed: bool) -> Result<Feature, String> {
    match (&binding.form, &binding.feature.kind) {
        (OutputForm::Label(labels), _) => label(labels, &tensor),
        (OutputForm::Probabilities(labels), _) => probabilities(labels, &tensor),
        (OutputForm::Tensor, FeatureKind::MultiArray(kind)) => array(kind, tensor, fixed),
        (OutputForm::Tensor, FeatureKind::Image(kind)) => image(kind, tensor),
        (OutputForm::Tensor, FeatureKind::Double) => first(&tensor).map(Feature::Double),
        (OutputForm::Tensor, FeatureKind::Int64) => first(&tensor).map(|value| Feature::Int64(value as i64)),
        (OutputForm::Tensor, _) => Err("a tensor does not become one".to_owned()),
    }
}

fn array(kind: &ArrayKind, tensor: Tensor<'static>, fixed: bool) -> Result<Feature, String> {
    let declared = fixed && kind.flexibility == ShapeFlexibility::Fixed && !kind.shape.is_empty();
    if declared && kind.shape != *tensor.shape {
        return Err(format!("its shape is {:?}", tensor.shape));
    }
    let elements = match (kind.dtype, tensor.data) {
        (ArrayType::Float32, Data::F32(values)) => Elements::Float32(values.into_owned()),
        (ArrayType::Float16, Data::F32(values)) => Elements::Float16(narrow(&values)),
        (ArrayType::Int32, Data::I32(values)) => Elements::Int32(values.into_owned()),
        (ArrayType::Float16, data) => {
            Elements::Float16(narrow(&f64s(&data).into_iter().map(|v| v as f32).collect::<Vec<_>>()))
        }
        (ArrayType::Float32, data) => Elements::Float32(f64s(&data).into_iter().map(|v| v as f32).collect()),
        (ArrayType::Float64, data) => Elements::Float64(f64s(&data)),
        (ArrayType::Int32, data) => Elements::Int32(f64s(&data).into_iter().map(|v| v as i32).collect()),
        (ArrayType::Int8, data) => Elements::Int8(f64s(&data).into_iter().map(|v| v as i8).collect()),
    };
    Array::new(tensor.shape.into_owned(), elements).map(Feature::Array).map_err(|e| e.to_string())
}

fn image(kind: &ImageKind, tensor: Tensor<'static>) -> Result<Feature, String> {
    match (&*tensor.shape, &tensor.data) {
        (&[1, _, height, width] | &[_, height, width], Data::F32(planes)) => {
            Image::from_planes(kind.color, width, height, planes).map(Feature::Image).map_err(|e| e.to_string())
        }
        (shape, _) => Err(format!("its tensor has shape {shape:?}")),
    }
}

fn first(tensor: &Tensor<'_>) -> Result<f64, String> {
    f64s(&tensor.data).first().copied().ok_or_else(|| "its tensor is empty".to_owned())
}

/// The label with the highest score, the first of equals.
fn label(labels: &ClassLabels, tensor: &Tensor<'_>) -> Result<Feature, String> {
    let scores = scores(labels, tensor)?;
    let best = (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] { i } else { best });
    let best = best.ok_or("there is no label")?;
    Ok(match labels {
        ClassLabels::Strings(labels) => Feature::String(labels[best].clone()),
        ClassLabels::Int64s(labels) => Feature::Int64(labels[best]),
    })
}

fn probabilities(labels: &ClassLabels, tensor: &Tensor<'_>) -> Result<Feature, String> {
    let scores = scores(labels, tensor)?;
    Ok(Feature::Dictionary(match labels {
        ClassLabels::Strings(labels) => Dictionary::Strings(labels.iter().cloned().zip(scores).collect()),
        ClassLabels::Int64s(labels) => Dictionary::Int64s(labels.iter().copied().zip(scores).collect()),
    }))
}

fn scores(labels: &ClassLabels, tensor: &Tensor<'_>) -> Result<Vec<f64>, String> {
    let scores = f64s(&tensor.data);
    if scores.len() == labels.len() {
        return Ok(scores);
    }
    Err(format!("there are {} scores for {} labels", scores.len(), labels.len()))
}

fn f64s(data: &Data<'_>) -> Vec<f64> {
    match data {
        Data::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        Data::I32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        Data::I64(values) => values.iter().map(|&v| v as f64).collect(),
        Data::Bool(values) => values.iter().map(|&v| f64::from(u8::from(v))).collect(),
    }
}

/// fp16 as hardware rounds: to the nearest, ties to even, and what is too large becomes infinite.
fn narrow(values: &[f32]) -> Vec<f16> {
    Vec::from_f32_slice(values)
}
