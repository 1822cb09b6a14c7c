//! What a model takes and gives: named features.
//!
//! Knows no model; [`models`](super::models) checks features against what a model declares.

mod array;
mod image;

use std::collections::BTreeMap;

pub(crate) use array::repeated;
pub use array::{Array, Elements};
pub use coreml_format::schema::ArrayType;
use coreml_format::schema::ColorSpace;
pub use image::{Image, Pixels};

/// Features by name, in the order in which they were added.
///
/// ```
/// use apple_silicon::ane::features::{Feature, Features};
///
/// let mut features = Features::from_iter([("age", 42)]);
/// features.insert("name", "Ada");
/// assert_eq!(features.names().collect::<Vec<_>>(), ["age", "name"]);
/// assert_eq!(features.get("age"), Some(&Feature::Int64(42)));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    entries: Vec<(String, Feature)>,
}

impl Features {
    /// No features.
    pub fn new() -> Features {
        Features::default()
    }

    /// Adds a feature, or replaces the one of this name in its place.
    pub fn insert(&mut self, name: impl Into<String>, feature: impl Into<Feature>) {
        let (name, feature) = (name.into(), feature.into());
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = feature,
            None => self.entries.push((name, feature)),
        }
    }

    /// The feature of this name.
    pub fn get(&self, name: &str) -> Option<&Feature> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, feature)| feature)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Names and features, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Feature)> {
        self.entries.iter().map(|(name, feature)| (name.as_str(), feature))
    }

    /// The number of features.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<N: Into<String>, F: Into<Feature>> FromIterator<(N, F)> for Features {
    fn from_iter<I: IntoIterator<Item = (N, F)>>(entries: I) -> Features {
        let mut features = Features::new();
        entries.into_iter().for_each(|(name, feature)| features.insert(name, feature));
        features
    }
}

impl IntoIterator for Features {
    type Item = (String, Feature);
    type IntoIter = std::vec::IntoIter<(String, Feature)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// The value of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Feature {
    /// A tensor.
    Array(Array),
    /// A picture.
    Image(Image),
    /// Text, such as a class label.
    String(String),
    /// A whole number, which may be a class label too.
    Int64(i64),
    /// A real number.
    Double(f64),
    /// Numbers by key, such as the probability of each class.
    Dictionary(Dictionary),
    /// A list.
    Sequence(Sequence),
}

impl Feature {
    /// What the feature is, for messages: `a Float32 array of shape [1, 3]`.
    pub fn describe(&self) -> String {
        match self {
            Feature::Array(array) => array.describe(),
            Feature::Image(image) => image.describe(),
            Feature::String(_) => "a string".to_owned(),
            Feature::Int64(_) => "an integer".to_owned(),
            Feature::Double(_) => "a number".to_owned(),
            Feature::Dictionary(_) => "a dictionary".to_owned(),
            Feature::Sequence(_) => "a sequence".to_owned(),
        }
    }

    /// Every number of it, in its order; the planes of a picture, red first. None of words.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        match self {
            Feature::Array(array) => array.to_f64s(),
            Feature::Image(image) => {
                let color = match image.pixels() {
                    Pixels::Rgb(_) => ColorSpace::Rgb,
                    Pixels::Gray(_) | Pixels::GrayFloat16(_) => ColorSpace::Grayscale,
                };
                image.to_planes(color).into_iter().map(f64::from).collect()
            }
            Feature::String(_) | Feature::Sequence(Sequence::Strings(_)) => Vec::new(),
            Feature::Int64(value) => vec![*value as f64],
            Feature::Double(value) => vec![*value],
            Feature::Dictionary(Dictionary::Strings(entries)) => entries.iter().map(|(_, value)| *value).collect(),
            Feature::Dictionary(Dictionary::Int64s(entries)) => entries.iter().map(|(_, value)| *value).collect(),
            Feature::Sequence(Sequence::Int64s(values)) => values.iter().map(|&value| value as f64).collect(),
        }
    }

    /// The tensor, where this is one.
    pub fn as_array(&self) -> Option<&Array> {
        if let Feature::Array(array) = self { Some(array) } else { None }
    }
}

/// Numbers by key, in the model's order: for a classifier that of its labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Dictionary {
    /// Keys are words.
    Strings(Vec<(String, f64)>),
    /// Keys are numbers.
    Int64s(Vec<(i64, f64)>),
}

/// A list of words or of whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Sequence {
    /// Words.
    Strings(Vec<String>),
    /// Whole numbers.
    Int64s(Vec<i64>),
}

macro_rules! features_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Feature {
            fn from(value: $from) -> Feature {
                Feature::$variant(value.into())
            }
        }
    )*};
}

features_from! {
    Array => Array,
    Image => Image,
    String => String,
    &str => String,
    i64 => Int64,
    f64 => Double,
    Dictionary => Dictionary,
    Sequence => Sequence,
}

impl From<BTreeMap<String, f64>> for Dictionary {
    fn from(entries: BTreeMap<String, f64>) -> Dictionary {
        Dictionary::Strings(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_value_takes_the_place_of_the_first() {
        let mut features = Features::from_iter([("a", 1), ("b", 2)]);
        features.insert("a", 3.5);
        assert_eq!(features.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(features.get("a"), Some(&Feature::Double(3.5)));
        assert_eq!(features.get("c"), None);
    }
}
