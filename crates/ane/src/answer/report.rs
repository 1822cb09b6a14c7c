//! A prediction as data. Field names are those of the JSON: a promise to scripts.

use std::cmp::Ordering;

use apple_silicon::ane::features::{Array, Dictionary, Feature, Features, Image, Sequence};
use serde::Serialize;

/// How many elements of an array are told.
const FIRST: usize = 8;

/// One prediction.
#[derive(Serialize)]
pub(crate) struct Prediction {
    /// What it was made from.
    pub(crate) input: String,
    pub(crate) outputs: Vec<Output>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outputs_file: Option<String>,
}

/// One output by name.
#[derive(Serialize)]
pub(crate) struct Output {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) value: Value,
}

/// What an output holds.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Value {
    Int64 { value: i64 },
    Double { value: f64 },
    String { value: String },
    Image { width: usize, height: usize },
    MultiArray(Statistics),
    Dictionary { len: usize, top: Vec<Entry> },
    Sequence { len: usize, first: Vec<String> },
}

/// An entry of a dictionary.
#[derive(Serialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: f64,
}

/// An array's elements, summed up. The numbers are over those that are finite, and absent where none is.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Statistics {
    /// As numpy names it.
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) mean: Option<f64>,
    pub(crate) std: Option<f64>,
    pub(crate) nan: usize,
    pub(crate) inf: usize,
    pub(crate) first: Vec<f64>,
}

/// Tells a prediction; of dictionaries the `top` entries with the largest values.
pub(crate) fn prediction(input: String, outputs: &Features, top: usize) -> Prediction {
    let outputs = outputs.iter().map(|(name, feature)| Output { name: name.to_owned(), value: value(feature, top) });
    Prediction { input, outputs: outputs.collect(), outputs_file: None }
}

fn value(feature: &Feature, top: usize) -> Value {
    match feature {
        Feature::Array(array) => Value::MultiArray(statistics(array)),
        Feature::Image(image) => image_value(image),
        Feature::String(value) => Value::String { value: value.clone() },
        Feature::Int64(value) => Value::Int64 { value: *value },
        Feature::Double(value) => Value::Double { value: *value },
        Feature::Dictionary(Dictionary::Strings(entries)) => largest(entries, top),
        Feature::Dictionary(Dictionary::Int64s(entries)) => largest(entries, top),
        Feature::Sequence(Sequence::Strings(values)) => sequence(values),
        Feature::Sequence(Sequence::Int64s(values)) => sequence(values),
    }
}

fn image_value(image: &Image) -> Value {
    Value::Image { width: image.width(), height: image.height() }
}

fn largest<K: ToString>(entries: &[(K, f64)], top: usize) -> Value {
    let mut sorted: Vec<&(K, f64)> = entries.iter().collect();
    // NaN goes last; equal values stay in the model's order.
    sorted.sort_by(|a, b| a.1.is_nan().cmp(&b.1.is_nan()).then(b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal)));
    let top = sorted.iter().take(top).map(|(key, value)| Entry { key: key.to_string(), value: *value }).collect();
    Value::Dictionary { len: entries.len(), top }
}

fn sequence<T: ToString>(values: &[T]) -> Value {
    Value::Sequence { len: values.len(), first: values.iter().take(FIRST).map(T::to_string).collect() }
}

fn statistics(array: &Array) -> Statistics {
    let values = array.to_f64s();
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let count = finite().count();
    let mean = (count > 0).then(|| finite().sum::<f64>() / count as f64);
    let variance = mean.map(|mean| finite().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64);
    Statistics {
        dtype: dtype(array),
        shape: array.shape().to_vec(),
        min: finite().reduce(f64::min),
        max: finite().reduce(f64::max),
        mean,
        std: variance.map(f64::sqrt),
        nan: values.iter().filter(|value| value.is_nan()).count(),
        inf: values.iter().filter(|value| value.is_infinite()).count(),
        first: values.iter().take(FIRST).copied().collect(),
    }
}

fn dtype(array: &Array) -> &'static str {
    use apple_silicon::ane::features::Elements;
    match array.elements() {
        Elements::Float16(_) => "float16",
        Elements::Float32(_) => "float32",
        Elements::Float64(_) => "float64",
        Elements::Int32(_) => "int32",
        Elements::Int8(_) => "int8",
        Elements::Int64(_) => "int64",
        Elements::UInt8(_) => "uint8",
        Elements::Bool(_) => "bool",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let values = vec![1.0f32, 3.0, f32::NAN, f32::INFINITY];
        let told = statistics(&Array::new([4], values).unwrap());
        assert_eq!((told.min, told.max, told.mean, told.std), (Some(1.0), Some(3.0), Some(2.0), Some(1.0)));
        assert_eq!((told.nan, told.inf), (1, 1));
        let empty = statistics(&Array::new([0, 2], Vec::<f32>::new()).unwrap());
        assert_eq!((empty.min, empty.mean), (None, None));
    }

    #[test]
    fn the_largest_come_first() {
        let entries = [("a", f64::NAN), ("b", 0.5), ("c", 0.75), ("d", 0.5)];
        let Value::Dictionary { len: 4, top } = largest(&entries, 3) else { panic!() };
        assert_eq!(top.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["c", "b", "d"]);
    }
}
