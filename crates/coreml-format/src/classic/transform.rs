//! Models that make features of features.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Label;
use crate::pb::{self, classic as message};

/// Elements that a feature vectoriser may give.
const MOST_ELEMENTS: usize = 1 << 28;

/// A category as an array of zeros with a single one.
#[derive(Clone, Debug, PartialEq)]
pub struct OneHotEncoder {
    /// Categories in the order of the array.
    pub categories: Keys,
    /// Whether it gives a dictionary with the one entry that is not zero.
    pub sparse: bool,
    /// Whether it gives zeros for what is no category, which is an error otherwise.
    pub ignores_unknown: bool,
}

/// A dictionary as an array, or as a dictionary from places in that array.
#[derive(Clone, Debug, PartialEq)]
pub struct DictVectorizer {
    /// Keys in the order of the array.
    pub keys: Keys,
}

/// Words or numbers in an order. Where one is there twice, its first place counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Keys {
    /// Words.
    Strings(Vec<String>),
    /// Numbers.
    Int64s(Vec<i64>),
}

/// Puts a value where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Imputer {
    /// What is put there.
    pub imputed: Imputed,
    /// What counts as none besides an input that is left out: this number or word; NaN where there is none here.
    pub replaced: Option<Replaced>,
}

/// What an imputer puts where there is no value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Imputed {
    Double(f64),
    Int64(i64),
    String(String),
    /// One for each place.
    Array(Vec<f64>),
    /// One for each key.
    StringDictionary(BTreeMap<String, f64>),
    /// One for each key.
    Int64Dictionary(BTreeMap<i64, f64>),
}

/// What an imputer takes for no value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Replaced {
    /// NaN stands for any NaN.
    Double(f64),
    Int64(i64),
    String(String),
}

/// Several features as one array.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureVectorizer {
    /// Features in the order of the array.
    pub columns: Vec<InputColumn>,
}

/// A feature of a feature vectoriser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputColumn {
    /// Its name.
    pub name: String,
    /// How many elements of the array it takes.
    pub dimensions: usize,
}

/// `scale * (x + shift)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// One for each element, one for all, or none.
    pub shift: Vec<f64>,
    /// One for each element, one for all, or none.
    pub scale: Vec<f64>,
}

/// Divides an array by its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalizer {
    /// Which one.
    pub norm: Norm,
}

/// A norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The largest element.
    Max,
    /// The sum of all absolute values.
    L1,
    /// The square root of the sum of all squares.
    L2,
}

/// Some elements of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayFeatureExtractor {
    /// Their places, at least one.
    pub indices: Vec<usize>,
}

/// Words as numbers, or numbers as words; for a sequence, each of its elements.
#[derive(Clone, Debug, PartialEq)]
pub enum CategoricalMapping {
    /// Words as numbers.
    StringToInt64 {
        /// The number of each word.
        map: BTreeMap<String, i64>,
        /// The number of any other word, which is an error where there is none.
        unknown: Option<i64>,
    },
    /// Numbers as words.
    Int64ToString {
        /// The word of each number.
        map: BTreeMap<i64, String>,
        /// The word of any other number, which is an error where there is none.
        unknown: Option<String>,
    },
}

impl Keys {
    /// The number of keys.
    pub fn len(&self) -> usize {
        match self {
            Keys::Strings(keys) => keys.len(),
            Keys::Int64s(keys) => keys.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each key with its place.
    pub fn places(&self) -> BTreeMap<Label, usize> {
        let keys: Vec<Label> = match self {
            Keys::Strings(keys) => keys.iter().cloned().map(Label::String).collect(),
            Keys::Int64s(keys) => keys.iter().copied().map(Label::Int64).collect(),
        };
        // Later entries of a map replace earlier ones, and the first place is to stay.
        keys.into_iter().enumerate().rev().map(|(place, key)| (key, place)).collect()
    }

    pub(super) fn parameters(&self) -> (usize, usize) {
        let bytes = match self {
            Keys::Strings(keys) => keys.iter().map(|key| key.len() + size_of::<String>()).sum(),
            Keys::Int64s(keys) => size_of_val(&keys[..]),
        };
        (self.len(), bytes)
    }
}

impl Imputed {
    pub(super) fn parameters(&self) -> (usize, usize) {
        let count = match self {
            Imputed::Double(_) | Imputed::Int64(_) | Imputed::String(_) => 1,
            Imputed::Array(values) => values.len(),
            Imputed::StringDictionary(entries) => entries.len(),
            Imputed::Int64Dictionary(entries) => entries.len(),
        };
        (count, count * size_of::<f64>())
    }
}

impl FeatureVectorizer {
    /// Elements of the array that it gives.
    pub fn dimensions(&self) -> usize {
        self.columns.iter().map(|column| column.dimensions).sum()
    }
}

impl CategoricalMapping {
    pub(super) fn parameters(&self) -> (usize, usize) {
        let each = size_of::<String>() + size_of::<i64>();
        let (count, words): (usize, usize) = match self {
            CategoricalMapping::StringToInt64 { map, .. } => (map.len(), map.keys().map(String::len).sum()),
            CategoricalMapping::Int64ToString { map, .. } => (map.len(), map.values().map(String::len).sum()),
        };
        (count, count * each + words)
    }
}

pub(super) fn one_hot_encoder(body: Bytes) -> Result<OneHotEncoder, String> {
    let model: message::OneHotEncoder = pb::decode(body, "it")?;
    let ignores_unknown = match model.handle_unknown {
        0 => false,
        1 => true,
        other => return Err(format!("has unknown value {other} of handleUnknown")),
    };
    Ok(OneHotEncoder {
        categories: keys(model.categories, "categories")?,
        sparse: model.output_sparse,
        ignores_unknown,
    })
}

pub(super) fn dict_vectorizer(body: Bytes) -> Result<DictVectorizer, String> {
    let model: message::DictVectorizer = pb::decode(body, "it")?;
    Ok(DictVectorizer { keys: keys(model.map, "keys")? })
}

fn keys(keys: Option<message::Keys>, what: &str) -> Result<Keys, String> {
    match keys.ok_or_else(|| format!("has no {what}"))? {
        message::Keys::Strings(keys) => Ok(Keys::Strings(keys.vector)),
        message::Keys::Int64s(keys) => Ok(Keys::Int64s(keys.vector)),
    }
}

pub(super) fn imputer(body: Bytes) -> Result<Imputer, String> {
    let model: message::Imputer = pb::decode(body, "it")?;
    let imputed = match model.imputed.ok_or("has no value to put where there is none")? {
        message::Imputed::Double(value) => Imputed::Double(value),
        message::Imputed::Int64(value) => Imputed::Int64(value),
        message::Imputed::String(value) => Imputed::String(value),
        message::Imputed::Doubles(values) => Imputed::Array(values.values),
        message::Imputed::Int64s(values) => Imputed::Array(values.vector.into_iter().map(|v| v as f64).collect()),
        message::Imputed::StringDictionary(entries) => Imputed::StringDictionary(entries.map),
        message::Imputed::Int64Dictionary(entries) => Imputed::Int64Dictionary(entries.map),
    };
    let replaced = model.replaced.map(|value| match value {
        message::Replaced::Double(value) => Replaced::Double(value),
        message::Replaced::Int64(value) => Replaced::Int64(value),
        message::Replaced::String(value) => Replaced::String(value),
    });
    let fits = match (&imputed, &replaced) {
        (_, None)
        | (Imputed::Double(_), Some(Replaced::Double(_)))
        | (Imputed::Int64(_), Some(Replaced::Int64(_)))
        | (Imputed::String(_), Some(Replaced::String(_)))
        | (Imputed::Array(_), Some(Replaced::Double(_) | Replaced::Int64(_))) => true,
        (_, Some(_)) => false,
    };
    if fits { Ok(Imputer { imputed, replaced }) } else { Err("replaces values of another type".to_owned()) }
}

pub(super) fn feature_vectorizer(body: Bytes) -> Result<FeatureVectorizer, String> {
    let model: message::FeatureVectorizer = pb::decode(body, "it")?;
    let mut columns = Vec::with_capacity(model.input_list.len());
    let mut total = 0usize;
    for column in model.input_list {
        let dimensions = usize::try_from(column.input_dimensions).unwrap_or(usize::MAX);
        total = total.saturating_add(dimensions);
        if dimensions == 0 || total > MOST_ELEMENTS {
            return Err(format!("has a column of {dimensions} elements, and {total} with those before"));
        }
        columns.push(InputColumn { name: column.input_column, dimensions });
    }
    if columns.is_empty() { Err("has no columns".to_owned()) } else { Ok(FeatureVectorizer { columns }) }
}

pub(super) fn scaler(body: Bytes) -> Result<Scaler, String> {
    let model: message::Scaler = pb::decode(body, "it")?;
    Ok(Scaler { shift: model.shift_value, scale: model.scale_value })
}

pub(super) fn normalizer(body: Bytes) -> Result<Normalizer, String> {
    let model: message::Normalizer = pb::decode(body, "it")?;
    let norm = match model.norm_type {
        0 => Norm::Max,
        1 => Norm::L1,
        2 => Norm::L2,
        other => return Err(format!("has unknown norm {other}")),
    };
    Ok(Normalizer { norm })
}

pub(super) fn array_feature_extractor(body: Bytes) -> Result<ArrayFeatureExtractor, String> {
    let model: message::ArrayFeatureExtractor = pb::decode(body, "it")?;
    let indices: Option<Vec<usize>> = model.extract_index.iter().map(|&index| usize::try_from(index).ok()).collect();
    let indices = indices.ok_or("has an index that is too large")?;
    if indices.is_empty() { Err("extracts nothing".to_owned()) } else { Ok(ArrayFeatureExtractor { indices }) }
}

pub(super) fn categorical_mapping(body: Bytes) -> Result<CategoricalMapping, String> {
    use message::{Mapping, ValueOnUnknown};
    let model: message::CategoricalMapping = pb::decode(body, "it")?;
    match (model.mapping.ok_or("has no mapping")?, model.value_on_unknown) {
        (Mapping::StringToInt64(map), None) => Ok(CategoricalMapping::StringToInt64 { map: map.map, unknown: None }),
        (Mapping::StringToInt64(map), Some(ValueOnUnknown::Int64(value))) => {
            Ok(CategoricalMapping::StringToInt64 { map: map.map, unknown: Some(value) })
        }
        (Mapping::Int64ToString(map), None) => Ok(CategoricalMapping::Int64ToString { map: map.map, unknown: None }),
        (Mapping::Int64ToString(map), Some(ValueOnUnknown::String(value))) => {
            Ok(CategoricalMapping::Int64ToString { map: map.map, unknown: Some(value) })
        }
        _ => Err("maps what is unknown to another type than what is known".to_owned()),
    }
}
