//! Classic models, which are evaluated as they are and need no engine.

use std::borrow::Cow;

use coreml_classic::{Dictionary as EvaluatedDictionary, Evaluator, Sequence as EvaluatedSequence, Value};
use coreml_format::{
    classic::Classic,
    schema::{ArrayKind, ArrayType, Feature as Declared, FeatureKind, Interface},
};
use half::f16;

use super::{Choice, Data, LoadedEngineModel, Shape, Take, Tensor};
use crate::ane::{
    errors::{ANEError, Result},
    features::{Array, Dictionary, Elements, Feature, Sequence},
    limits::Limits,
};

/// What stands in an engine's place.
pub(crate) fn choice() -> Choice {
    Choice {
        engine: "classic",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        reason: "evaluated as it is, without an engine".to_owned(),
    }
}

/// A classic model that is ready. It takes and gives features.
pub(crate) struct ClassicModel {
    interface: Interface,
    /// `None` for an identity, which takes features of every kind.
    evaluator: Option<Evaluator>,
}

impl ClassicModel {
    /// Makes a model ready. Cost: that of its parameters.
    pub(crate) fn new(model: Classic, interface: Interface) -> ClassicModel {
        let evaluator = (model != Classic::Identity).then(|| Evaluator::new(model, interface.clone()));
        ClassicModel { interface, evaluator }
    }
}

impl LoadedEngineModel for ClassicModel {
    fn run(&self, inputs: &[Tensor<'_>], limits: &Limits, take: &mut Take<'_>) -> Result<()> {
        limits.check()?;
        let Interface { inputs: features, outputs, .. } = &self.interface;
        let Some(evaluator) = &self.evaluator else {
            return outputs.iter().enumerate().try_for_each(|(port, output)| {
                let same = features.iter().position(|input| input.name == output.name);
                let input = same.and_then(|place| inputs.get(place));
                take(port, input.ok_or_else(|| missing(output))?.borrowed())
            });
        };
        let values: Result<Vec<Option<Value>>> =
            features.iter().zip(inputs).map(|(feature, tensor)| to_value(feature, tensor)).collect();
        let values = evaluator.evaluate(&values?).map_err(|error| ANEError::InferenceFailed(error.to_string()))?;
        for (port, (output, value)) in outputs.iter().zip(values).enumerate() {
            let (shape, feature) = to_feature(output, value)?;
            take(port, Tensor { shape, data: Data::Feature(Cow::Owned(feature)) })?;
        }
        limits.check()
    }
}

/// The feature that a port was given, where an engine takes features; `None` for one that was left out.
pub(crate) fn given(declared: &Declared, tensor: &Tensor<'_>) -> Result<Option<Feature>> {
    let elements: Elements = match &tensor.data {
        Data::Absent => return Ok(None),
        Data::Feature(feature) => return Ok(Some(Feature::clone(feature))),
        Data::State(_) => return Err(missing(declared)),
        Data::Shared(memory, len) => memory[..*len].to_vec().into(),
        Data::F32(values) => values.to_vec().into(),
        Data::I32(values) => values.to_vec().into(),
        Data::I64(values) => values.to_vec().into(),
        Data::Bool(values) => values.to_vec().into(),
    };
    match declared.kind {
        FeatureKind::Double | FeatureKind::Int64 => {
            let value = elements.to_f64s().first().copied().ok_or_else(|| missing(declared))?;
            let whole = declared.kind == FeatureKind::Int64;
            Ok(Some(if whole { Feature::Int64(value as i64) } else { Feature::Double(value) }))
        }
        _ => Ok(Some(Feature::Array(Array::new(tensor.shape.to_vec(), elements)?))),
    }
}

fn to_value(declared: &Declared, tensor: &Tensor<'_>) -> Result<Option<Value>> {
    let Some(feature) = given(declared, tensor)? else { return Ok(None) };
    Ok(Some(match feature {
        Feature::Array(array) => {
            Value::Array(coreml_classic::Array { shape: array.shape().to_vec(), values: array.to_f64s() })
        }
        Feature::String(text) => Value::String(text),
        Feature::Int64(value) => Value::Int64(value),
        Feature::Double(value) => Value::Double(value),
        Feature::Dictionary(Dictionary::Strings(entries)) => Value::Dictionary(EvaluatedDictionary::Strings(entries)),
        Feature::Dictionary(Dictionary::Int64s(entries)) => Value::Dictionary(EvaluatedDictionary::Int64s(entries)),
        Feature::Sequence(Sequence::Strings(words)) => Value::Sequence(EvaluatedSequence::Strings(words)),
        Feature::Sequence(Sequence::Int64s(numbers)) => Value::Sequence(EvaluatedSequence::Int64s(numbers)),
        Feature::Image(_) => return Err(missing(declared)),
    }))
}

/// An output's value with its shape, and in the type that is declared where it is an array.
fn to_feature(declared: &Declared, value: Value) -> Result<(Shape, Feature)> {
    let feature = match (value, &declared.kind) {
        (Value::Array(array), FeatureKind::MultiArray(kind)) => {
            let elements = typed(kind, array.values).map_err(|value| {
                ANEError::InferenceFailed(format!("the output {:?} holds no {value}", declared.name))
            })?;
            return Ok((array.shape.as_slice().into(), Feature::Array(Array::new(array.shape, elements)?)));
        }
        (Value::Array(_), _) => return Err(missing(declared)),
        (Value::String(text), _) => Feature::String(text),
        (Value::Int64(value), _) => Feature::Int64(value),
        (Value::Double(value), _) => Feature::Double(value),
        (Value::Dictionary(EvaluatedDictionary::Strings(all)), _) => Feature::Dictionary(Dictionary::Strings(all)),
        (Value::Dictionary(EvaluatedDictionary::Int64s(all)), _) => Feature::Dictionary(Dictionary::Int64s(all)),
        (Value::Sequence(EvaluatedSequence::Strings(all)), _) => Feature::Sequence(Sequence::Strings(all)),
        (Value::Sequence(EvaluatedSequence::Int64s(all)), _) => Feature::Sequence(Sequence::Int64s(all)),
    };
    Ok((Shape::new(), feature))
}

/// Elements of the declared type; or the value that it does not hold.
fn typed(kind: &ArrayKind, values: Vec<f64>) -> Result<Elements, f64> {
    let whole = |least: f64, most: f64| match values.iter().find(|v| v.fract() != 0.0 || !(least..=most).contains(*v)) {
        Some(value) => Err(*value),
        None => Ok(()),
    };
    Ok(match kind.dtype {
        ArrayType::Float64 => Elements::Float64(values),
        ArrayType::Float32 => Elements::Float32(values.into_iter().map(|v| v as f32).collect()),
        ArrayType::Float16 => Elements::Float16(values.into_iter().map(f16::from_f64).collect()),
        ArrayType::Int32 => {
            whole(f64::from(i32::MIN), f64::from(i32::MAX))?;
            Elements::Int32(values.into_iter().map(|v| v as i32).collect())
        }
        ArrayType::Int8 => {
            whole(f64::from(i8::MIN), f64::from(i8::MAX))?;
            Elements::Int8(values.into_iter().map(|v| v as i8).collect())
        }
    })
}

fn missing(declared: &Declared) -> ANEError {
    ANEError::Internal(format!("a classic model was given or gives nothing that becomes {:?}", declared.name))
}

#[cfg(test)]
mod tests {
    use coreml_format::{
        classic::{GlmRegressor, Link, Scaler},
        schema::ShapeFlexibility,
    };

    use super::*;

    fn feature(name: &str, kind: FeatureKind) -> Declared {
        Declared { name: name.to_owned(), description: String::new(), kind, optional: false }
    }

    fn array(dtype: ArrayType, len: usize) -> FeatureKind {
        FeatureKind::MultiArray(ArrayKind {
            dtype,
            shape: vec![len],
            flexibility: ShapeFlexibility::Fixed,
            default: None,
        })
    }

    fn run(model: Classic, input: FeatureKind, output: FeatureKind, data: Data<'_>) -> Result<Feature> {
        let interface = Interface {
            inputs: vec![feature("x", input)],
            outputs: vec![feature("y", output)],
            ..Interface::default()
        };
        let shape = Shape::from_slice(&[2]);
        let mut given = None;
        let model = ClassicModel::new(model, interface);
        model.run(&[Tensor { shape, data }], &Limits::default(), &mut |_, tensor| {
            let Data::Feature(feature) = tensor.data else { panic!("{:?} is no feature", tensor.data) };
            given = Some(feature.into_owned());
            Ok(())
        })?;
        Ok(given.unwrap())
    }

    #[test]
    fn arrays_come_in_the_declared_type() {
        let scaler = || Classic::Scaler(Scaler { shift: vec![], scale: vec![0.5] });
        let (single, whole) = (|| array(ArrayType::Float32, 2), || array(ArrayType::Int32, 2));
        let two = |elements: Elements| Ok(Feature::Array(Array::new([2], elements).unwrap()));
        assert_eq!(run(scaler(), single(), single(), Data::F32(vec![2.0, 3.0].into())), two(vec![1.0f32, 1.5].into()));
        assert_eq!(run(scaler(), whole(), whole(), Data::I32(vec![2, 4].into())), two(vec![1, 2].into()));
        let error = run(scaler(), whole(), whole(), Data::I32(vec![2, 3].into())).unwrap_err();
        assert_eq!(error, ANEError::InferenceFailed("the output \"y\" holds no 1.5".to_owned()));
    }

    #[test]
    fn what_a_model_does_not_take_is_an_error_with_its_reason() {
        let model = GlmRegressor { weights: vec![vec![1.0; 3]], offset: vec![0.0], link: Link::Identity };
        let error = run(
            Classic::GlmRegressor(model),
            array(ArrayType::Float32, 2),
            FeatureKind::Double,
            Data::F32(vec![1.0, 2.0].into()),
        );
        let message = "it takes 3 numbers, and 2 were given";
        assert_eq!(error, Err(ANEError::InferenceFailed(message.to_owned())));
    }
}
