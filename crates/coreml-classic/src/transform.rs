//! Models that make features of features.

use std::collections::BTreeMap;

use coreml_format::{
    classic::{
        ArrayFeatureExtractor, CategoricalMapping, FeatureVectorizer, Imputed, Imputer, Keys, Label, Norm, Normalizer,
        OneHotEncoder, Replaced, Scaler,
    },
    schema::{Feature, FeatureKind},
};

use crate::{
    Array, Dictionary, EvaluationError, Result, Sequence, Value, fault,
    inputs::{Inputs, check_length, numbers},
    show,
};

/// The place of each key.
#[derive(Debug)]
pub(crate) struct Places {
    of: BTreeMap<Label, usize>,
    count: usize,
    are_numbers: bool,
}

impl Places {
    pub(crate) fn of(keys: &Keys) -> Places {
        Places { of: keys.places(), count: keys.len(), are_numbers: matches!(keys, Keys::Int64s(_)) }
    }

    /// The place of a key. A number that is written as a word will do, since coremltools declares numbers as words.
    fn get(&self, key: Label) -> Option<usize> {
        let key = match key {
            Label::String(key) if self.are_numbers => Label::Int64(key.parse().ok()?),
            key => key,
        };
        self.of.get(&key).copied()
    }
}

pub(crate) fn one_hot(model: &OneHotEncoder, places: &Places, input: &Value) -> Result<Value> {
    let category = match input {
        Value::String(category) => Label::String(category.clone()),
        Value::Int64(category) => Label::Int64(*category),
        other => return fault(format!("its input is {}", other.describe())),
    };
    let place = match places.of.get(&category) {
        None if !model.ignores_unknown => return fault(format!("it has no category {}", show(&category))),
        place => place.copied(),
    };
    if model.sparse {
        return Ok(Value::Dictionary(Dictionary::Int64s(place.map(|place| (place as i64, 1.0)).into_iter().collect())));
    }
    let mut values = vec![0.0; places.count];
    if let Some(place) = place {
        values[place] = 1.0;
    }
    Ok(Value::vector(values))
}

/// Keys that the model does not know are left out, as Core ML leaves them out.
pub(crate) fn dict_vectorizer(places: &Places, input: &Value, output: &Feature) -> Result<Value> {
    let entries: Vec<(Label, f64)> = match input {
        Value::Dictionary(Dictionary::Strings(entries)) => {
            entries.iter().map(|(key, value)| (Label::String(key.clone()), *value)).collect()
        }
        Value::Dictionary(Dictionary::Int64s(entries)) => {
            entries.iter().map(|(key, value)| (Label::Int64(*key), *value)).collect()
        }
        other => return fault(format!("its input is {}", other.describe())),
    };
    let known = entries.into_iter().filter_map(|(key, value)| Some((places.get(key)?, value)));
    if let FeatureKind::MultiArray(_) = output.kind {
        let mut values = vec![0.0; places.count];
        known.for_each(|(place, value)| values[place] = value);
        return numbers(output, values);
    }
    let known: BTreeMap<i64, f64> = known.map(|(place, value)| (place as i64, value)).collect();
    Ok(Value::Dictionary(Dictionary::Int64s(known.into_iter().collect())))
}

pub(crate) fn feature_vectorizer(model: &FeatureVectorizer, inputs: &Inputs<'_>) -> Result<Value> {
    let mut all = Vec::with_capacity(model.dimensions());
    for column in &model.columns {
        let wrong = |why: String| fault(format!("the input {:?}: {why}", column.name));
        match inputs.required(&column.name)? {
            Value::Int64(value) => all.push(*value as f64),
            Value::Double(value) => all.push(*value),
            Value::Array(array) if array.values.len() == column.dimensions => all.extend_from_slice(&array.values),
            Value::Array(array) => {
                return wrong(format!("it has {} elements, not {}", array.values.len(), column.dimensions));
            }
            Value::Dictionary(Dictionary::Int64s(entries)) => {
                let start = all.len();
                all.resize(start + column.dimensions, 0.0);
                for (key, value) in entries {
                    match usize::try_from(*key) {
                        Ok(place) if place < column.dimensions => all[start + place] = *value,
                        _ => return wrong(format!("it has the key {key} for {} places", column.dimensions)),
                    }
                }
            }
            other => return wrong(format!("it is {} without places", other.describe())),
        }
    }
    Ok(Value::vector(all))
}

pub(crate) fn imputer(model: &Imputer, inputs: &Inputs<'_>) -> Result<Value> {
    let Some(input) = inputs.only_optional() else { return all_imputed(&model.imputed, inputs.only_feature()) };
    let wrong = || fault(format!("its input is {}", input.describe()));
    let is_missing = |value: f64| match &model.replaced {
        Some(Replaced::Double(missing)) => value == *missing || (value.is_nan() && missing.is_nan()),
        Some(Replaced::Int64(missing)) => value == *missing as f64,
        Some(Replaced::String(_)) | None => value.is_nan(),
    };
    match (input, &model.imputed) {
        (Value::Double(value), Imputed::Double(imputed)) => {
            Ok(Value::Double(if is_missing(*value) { *imputed } else { *value }))
        }
        (Value::Int64(value), Imputed::Int64(imputed)) => {
            let missing = model.replaced == Some(Replaced::Int64(*value));
            Ok(Value::Int64(if missing { *imputed } else { *value }))
        }
        (Value::String(value), Imputed::String(imputed)) => {
            let missing = matches!(&model.replaced, Some(Replaced::String(missing)) if missing == value);
            Ok(Value::String(if missing { imputed.clone() } else { value.clone() }))
        }
        (Value::Array(array), imputed) => {
            let imputed_at = |place: usize| match imputed {
                Imputed::Double(imputed) => Some(*imputed),
                Imputed::Array(imputed) => imputed.get(place).copied(),
                _ => None,
            };
            if let Imputed::Array(imputed) = imputed {
                check_length(array.values.len(), imputed.len())?;
            }
            let each =
                |(place, value): (usize, &f64)| if is_missing(*value) { imputed_at(place) } else { Some(*value) };
            let values: Option<Vec<f64>> = array.values.iter().enumerate().map(each).collect();
            values.map_or_else(wrong, |values| Ok(Value::Array(Array { shape: array.shape.clone(), values })))
        }
        (Value::Dictionary(Dictionary::Strings(entries)), Imputed::StringDictionary(imputed)) => {
            Ok(Value::Dictionary(Dictionary::Strings(completed(entries, imputed, is_missing))))
        }
        (Value::Dictionary(Dictionary::Int64s(entries)), Imputed::Int64Dictionary(imputed)) => {
            Ok(Value::Dictionary(Dictionary::Int64s(completed(entries, imputed, is_missing))))
        }
        _ => wrong(),
    }
}

/// The output where the input is left out.
fn all_imputed(imputed: &Imputed, feature: &Feature) -> Result<Value> {
    match (imputed, &feature.kind) {
        (Imputed::Double(value), FeatureKind::MultiArray(kind)) => {
            let values = vec![*value; kind.shape.iter().product()];
            Ok(Value::Array(Array { shape: kind.shape.clone(), values }))
        }
        (Imputed::Double(value), _) => Ok(Value::Double(*value)),
        (Imputed::Int64(value), _) => Ok(Value::Int64(*value)),
        (Imputed::String(value), _) => Ok(Value::String(value.clone())),
        (Imputed::Array(values), _) => Ok(Value::vector(values.clone())),
        (Imputed::StringDictionary(entries), _) => {
            let entries = entries.iter().map(|(key, value)| (key.clone(), *value)).collect();
            Ok(Value::Dictionary(Dictionary::Strings(entries)))
        }
        (Imputed::Int64Dictionary(entries), _) => {
            let entries = entries.iter().map(|(key, value)| (*key, *value)).collect();
            Ok(Value::Dictionary(Dictionary::Int64s(entries)))
        }
    }
}

/// Entries in their order, then those for which there is no key.
fn completed<K: Ord + Clone>(
    entries: &[(K, f64)],
    imputed: &BTreeMap<K, f64>,
    is_missing: impl Fn(f64) -> bool,
) -> Vec<(K, f64)> {
    let value = |(key, value): &(K, f64)| match imputed.get(key) {
        Some(imputed) if is_missing(*value) => (key.clone(), *imputed),
        _ => (key.clone(), *value),
    };
    let absent = imputed.iter().filter(|(key, _)| entries.iter().all(|(known, _)| known != *key));
    entries.iter().map(value).chain(absent.map(|(key, value)| (key.clone(), *value))).collect()
}

pub(crate) fn scaler(model: &Scaler, input: &Value, output: &Feature) -> Result<Value> {
    let at = |values: &[f64], place: usize, otherwise: f64| match values {
        [] => otherwise,
        [value] => *value,
        values => values[place],
    };
    let scaled = |place: usize, x: f64| at(&model.scale, place, 1.0) * (x + at(&model.shift, place, 0.0));
    match input {
        Value::Int64(value) => numbers(output, vec![scaled(0, *value as f64)]),
        Value::Double(value) => numbers(output, vec![scaled(0, *value)]),
        Value::Array(array) => {
            for values in [&model.shift, &model.scale].into_iter().filter(|values| values.len() > 1) {
                check_length(array.values.len(), values.len())?;
            }
            let values = array.values.iter().enumerate().map(|(place, x)| scaled(place, *x)).collect();
            Ok(Value::Array(Array { shape: array.shape.clone(), values }))
        }
        other => fault(format!("its input is {}", other.describe())),
    }
}

/// An array whose norm is 0 stays as it is.
pub(crate) fn normalizer(model: &Normalizer, input: &Value) -> Result<Value> {
    let Value::Array(array) = input else { return fault(format!("its input is {}", input.describe())) };
    let values = array.values.iter();
    let norm = match model.norm {
        Norm::Max => values.copied().fold(f64::NEG_INFINITY, f64::max),
        Norm::L1 => values.map(|x| x.abs()).sum(),
        Norm::L2 => values.map(|x| x * x).sum::<f64>().sqrt(),
    };
    let divide = |x: &f64| if norm == 0.0 { *x } else { x / norm };
    Ok(Value::Array(Array { shape: array.shape.clone(), values: array.values.iter().map(divide).collect() }))
}

pub(crate) fn array_feature_extractor(model: &ArrayFeatureExtractor, input: &Value, output: &Feature) -> Result<Value> {
    let Value::Array(array) = input else { return fault(format!("its input is {}", input.describe())) };
    let at = |place: &usize| {
        let value = array.values.get(*place).copied();
        value.ok_or_else(|| EvaluationError(format!("it takes element {place}, and {} were given", array.values.len())))
    };
    numbers(output, model.indices.iter().map(at).collect::<Result<_>>()?)
}

pub(crate) fn categorical_mapping(model: &CategoricalMapping, input: &Value) -> Result<Value> {
    match (model, input) {
        (CategoricalMapping::StringToInt64 { map, unknown }, input) => {
            let number = |word: &String| {
                let number = map.get(word).or(unknown.as_ref()).copied();
                number.ok_or_else(|| EvaluationError(format!("it has no number for {word:?}")))
            };
            match input {
                Value::String(word) => number(word).map(Value::Int64),
                Value::Sequence(Sequence::Strings(words)) => {
                    Ok(Value::Sequence(Sequence::Int64s(words.iter().map(number).collect::<Result<_>>()?)))
                }
                other => fault(format!("its input is {}", other.describe())),
            }
        }
        (CategoricalMapping::Int64ToString { map, unknown }, input) => {
            let word = |number: &i64| {
                let word = map.get(number).or(unknown.as_ref()).cloned();
                word.ok_or_else(|| EvaluationError(format!("it has no word for {number}")))
            };
            match input {
                Value::Int64(number) => word(number).map(Value::String),
                Value::Sequence(Sequence::Int64s(numbers)) => {
                    Ok(Value::Sequence(Sequence::Strings(numbers.iter().map(word).collect::<Result<_>>()?)))
                }
                other => fault(format!("its input is {}", other.describe())),
            }
        }
    }
}

/// The scores, and a row of ones below: every class is taken.
pub(crate) fn class_confidence_thresholding(input: &Value) -> Result<Value> {
    let Value::Array(array) = input else { return fault(format!("its input is {}", input.describe())) };
    let classes = array.values.len();
    let values = array.values.iter().copied().chain(std::iter::repeat_n(1.0, classes)).collect();
    Ok(Value::Array(Array { shape: vec![2, classes], values }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f64]) -> Value {
        Value::vector(values.to_vec())
    }

    fn feature(kind: FeatureKind) -> Feature {
        Feature { name: "x".to_owned(), description: String::new(), kind, optional: true }
    }

    #[test]
    fn categories() {
        let encode = |sparse, ignores_unknown, category| {
            let model = OneHotEncoder { categories: Keys::Int64s(vec![5, 3]), sparse, ignores_unknown };
            one_hot(&model, &Places::of(&model.categories), &Value::Int64(category))
        };
        assert_eq!(encode(false, false, 3), Ok(vector(&[0.0, 1.0])));
        assert_eq!(encode(true, false, 3), Ok(Value::Dictionary(Dictionary::Int64s(vec![(1, 1.0)]))));
        assert_eq!(encode(false, true, 4), Ok(vector(&[0.0, 0.0])));
        assert_eq!(encode(true, true, 4), Ok(Value::Dictionary(Dictionary::Int64s(vec![]))));
        assert_eq!(encode(true, false, 4), fault("it has no category 4"));
    }

    #[test]
    fn numbers_may_be_keys_as_words() {
        let places = Places::of(&Keys::Int64s(vec![7, 9]));
        let keys = |entries: &[(&str, f64)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
            Value::Dictionary(Dictionary::Strings(entries))
        };
        let dictionary = feature(FeatureKind::Dictionary(coreml_format::schema::KeyKind::Int64));
        let output = dict_vectorizer(&places, &keys(&[("9", 2.0), ("x", 1.0)]), &dictionary);
        assert_eq!(output, Ok(Value::Dictionary(Dictionary::Int64s(vec![(1, 2.0)]))));
    }

    #[test]
    fn missing_values() {
        let check = |imputed: Imputed, replaced: Option<Replaced>, input: Option<Value>, expected: Result<Value>| {
            let (features, values) = ([feature(FeatureKind::Double)], [input]);
            let inputs = Inputs::new(&features, &values).unwrap();
            assert_eq!(imputer(&Imputer { imputed, replaced }, &inputs), expected);
        };
        let nan = f64::NAN;
        check(Imputed::Double(7.0), None, None, Ok(Value::Double(7.0)));
        check(Imputed::Double(7.0), None, Some(Value::Double(nan)), Ok(Value::Double(7.0)));
        check(Imputed::Double(7.0), Some(Replaced::Double(-1.0)), Some(Value::Double(-1.0)), Ok(Value::Double(7.0)));
        check(Imputed::Int64(7), Some(Replaced::Int64(0)), Some(Value::Int64(0)), Ok(Value::Int64(7)));
        check(Imputed::Int64(7), None, Some(Value::Int64(0)), Ok(Value::Int64(0)));
        let word = |word: &str| Value::String(word.to_owned());
        check(Imputed::String("b".into()), Some(Replaced::String("".into())), Some(word("")), Ok(word("b")));
        let array = Imputed::Array(vec![7.0, 8.0]);
        check(array.clone(), Some(Replaced::Double(nan)), Some(vector(&[nan, 1.0])), Ok(vector(&[7.0, 1.0])));
        check(array.clone(), Some(Replaced::Double(1.0)), Some(vector(&[0.0, 1.0])), Ok(vector(&[0.0, 8.0])));
        check(array, None, Some(vector(&[0.0])), fault("it takes 2 numbers, and 1 were given"));
        let entries = |entries: &[(i64, f64)]| Value::Dictionary(Dictionary::Int64s(entries.to_vec()));
        let imputed = Imputed::Int64Dictionary([(1, 10.0), (2, 20.0)].into());
        check(imputed, None, Some(entries(&[(2, 3.0)])), Ok(entries(&[(2, 3.0), (1, 10.0)])));
    }

    #[test]
    fn norms() {
        let by = |norm, values: &[f64]| normalizer(&Normalizer { norm }, &vector(values)).unwrap();
        assert_eq!(by(Norm::L2, &[3.0, -4.0]), vector(&[0.6, -0.8]));
        assert_eq!(by(Norm::L1, &[3.0, -1.0]), vector(&[0.75, -0.25]));
        assert_eq!(by(Norm::Max, &[2.0, -4.0]), vector(&[1.0, -2.0]), "the largest, not the largest absolute value");
        assert_eq!(by(Norm::L1, &[0.0, 0.0]), vector(&[0.0, 0.0]));
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let scale =
            |scale, output, input| scaler(&Scaler { shift: vec![1.0], scale: vec![scale] }, &input, &feature(output));
        assert_eq!(scale(2.0, FeatureKind::Int64, Value::Int64(3)), Ok(Value::Int64(8)));
        assert_eq!(scale(0.5, FeatureKind::Double, Value::Int64(2)), Ok(Value::Double(1.5)));
        assert_eq!(scale(0.5, FeatureKind::Int64, Value::Int64(2)), fault("the output \"x\" is no integer: 1.5"));
    }
}
