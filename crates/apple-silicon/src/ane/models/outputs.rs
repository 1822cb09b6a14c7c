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
    if let Data::Feature(feature) = tensor.data {
        return own(&binding.feature.kind, feature.into_owned());
    }
    match (&binding.form, &binding.feature.kind) {
        (OutputForm::Label(labels), _) => label(labels, &tensor),
        (OutputForm::Probabilities(labels), _) => probabilities(labels, &tensor),
        (OutputForm::Tensor, FeatureKind::MultiArray(kind)) => array(kind, tensor, fixed).map(Feature::Array),
        (OutputForm::Tensor, FeatureKind::Image(kind)) => image(kind, tensor),
        (OutputForm::Tensor, FeatureKind::Double) => first(&tensor).map(Feature::Double),
        (OutputForm::Tensor, FeatureKind::Int64) => first(&tensor).map(|value| Feature::Int64(value as i64)),
        (OutputForm::Tensor, _) => Err("a tensor does not become one".to_owned()),
    }
}

/// A feature that an engine has made itself.
fn own(kind: &FeatureKind, feature: Feature) -> Result<Feature, String> {
    let fits = match (kind, &feature) {
        // Core ML itself converts to what the model declares, where it does.
        (FeatureKind::MultiArray(_), Feature::Array(_))
        | (FeatureKind::Image(_), Feature::Image(_))
        | (FeatureKind::Int64, Feature::Int64(_))
        | (FeatureKind::Double, Feature::Double(_))
        | (FeatureKind::String, Feature::String(_))
        | (FeatureKind::Dictionary(_), Feature::Dictionary(_))
        | (FeatureKind::Sequence(..), Feature::Sequence(_)) => true,
        _ => false,
    };
    if fits { Ok(feature) } else { Err(format!("it is {}", feature.describe())) }
}

/// The tensor in the type that the model declares.
pub(super) fn array(kind: &ArrayKind, tensor: Tensor<'static>, fixed: bool) -> Result<Array, String> {
    let declared = fixed && kind.flexibility == ShapeFlexibility::Fixed && !kind.shape.is_empty();
    if declared && kind.shape != *tensor.shape && !(kind.shape == [1] && tensor.shape.is_empty()) {
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
    // Core ML has no arrays of rank 0.
    let shape = if tensor.shape.is_empty() { vec![1] } else { tensor.shape.into_vec() };
    Array::new(shape, elements).map_err(|e| e.to_string())
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

/// The label with the highest score, the first of equals; NaN is below every number.
fn label(labels: &ClassLabels, tensor: &Tensor<'_>) -> Result<Feature, String> {
    let scores = scores(labels, tensor)?;
    let best =
        (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] || scores[best].is_nan() { i } else { best });
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
        Data::Shared(memory, len) => memory[..*len].iter().map(|&v| f64::from(v)).collect(),
        Data::Feature(feature) => feature.numbers(),
        Data::Absent | Data::State(_) => Vec::new(),
    }
}

/// fp16 as hardware rounds: to the nearest, ties to even, and what is too large becomes infinite.
fn narrow(values: &[f32]) -> Vec<f16> {
    Vec::from_f32_slice(values)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coreml_format::schema::{ColorSpace, Feature as Declared, ImageFlexibility};

    use super::*;
    use crate::ane::features::Pixels;

    fn collect_one(kind: FeatureKind, form: OutputForm, shape: &[usize], values: &[f32]) -> Result<Feature> {
        let feature = Declared { name: "y".to_owned(), description: String::new(), kind, optional: false };
        let tensor = Tensor::owned(shape.to_vec(), Data::F32(values.to_vec().into()));
        let features = collect(&[OutputBinding { feature, port: 0, form }], &mut [Some(tensor)], true)?;
        Ok(features.get("y").unwrap().clone())
    }

    fn declared(dtype: ArrayType, shape: &[usize]) -> FeatureKind {
        let flexibility = ShapeFlexibility::Fixed;
        FeatureKind::MultiArray(ArrayKind { dtype, shape: shape.to_vec(), flexibility, default: None })
    }

    #[test]
    fn arrays_get_the_declared_type() {
        for (dtype, expected) in [
            (ArrayType::Float16, Elements::Float16(vec![f16::from_f32(1.5), f16::INFINITY])),
            (ArrayType::Float32, Elements::Float32(vec![1.5, 70000.0])),
            (ArrayType::Float64, Elements::Float64(vec![1.5, 70000.0])),
            (ArrayType::Int32, Elements::Int32(vec![1, 70000])),
        ] {
            let feature = collect_one(declared(dtype, &[2]), OutputForm::Tensor, &[2], &[1.5, 70000.0]).unwrap();
            assert_eq!(feature.as_array().unwrap().elements(), &expected);
        }
        let error = collect_one(declared(ArrayType::Float32, &[2]), OutputForm::Tensor, &[1, 2], &[0.0; 2]);
        let message = "the output \"y\" is not a Float32 array of shape [2]: its shape is [1, 2]";
        assert_eq!(error, Err(ANEError::InferenceFailed(message.to_owned())));
    }

    #[test]
    fn scores_become_labels_and_probabilities() {
        let labels = Arc::new(ClassLabels::Strings(["cat", "dog", "fox"].map(str::to_owned).to_vec()));
        let scores = [f32::NAN, 0.5, 0.5];
        let label = collect_one(FeatureKind::String, OutputForm::Label(labels.clone()), &[1, 3], &scores);
        assert_eq!(label, Ok(Feature::String("dog".to_owned())));
        let kind = FeatureKind::Dictionary(coreml_format::schema::KeyKind::String);
        let odds =
            collect_one(kind.clone(), OutputForm::Probabilities(labels.clone()), &[3], &[0.5, 0.25, 0.25]).unwrap();
        let Feature::Dictionary(Dictionary::Strings(odds)) = odds else { panic!("{odds:?}") };
        assert_eq!(odds[0], ("cat".to_owned(), 0.5));
        let error = collect_one(kind, OutputForm::Probabilities(labels), &[2], &[0.5; 2]).unwrap_err().to_string();
        assert!(error.ends_with("there are 2 scores for 3 labels"), "{error}");
    }

    #[test]
    fn planes_become_images() {
        let flexibility = ImageFlexibility::Fixed;
        let kind = FeatureKind::Image(ImageKind { width: 2, height: 1, color: ColorSpace::Rgb, flexibility });
        let planes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let Ok(Feature::Image(image)) = collect_one(kind.clone(), OutputForm::Tensor, &[1, 3, 1, 2], &planes) else {
            panic!("no image")
        };
        assert_eq!(image.pixels(), &Pixels::Rgb(vec![1, 3, 5, 2, 4, 6]));
        assert!(collect_one(kind, OutputForm::Tensor, &[6], &planes).is_err());
    }
}
