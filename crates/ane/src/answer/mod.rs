//! What a model gives: in numbers, in words, and for files.

pub(crate) mod latency;
mod picture;
mod report;
mod text;

use apple_silicon::ane::features::{Array, Dictionary, Feature, Features, Image, Pixels, Sequence};

pub(crate) use self::{
    report::{Prediction, prediction},
    text::{Look, text},
};
use crate::npy::Npy;

/// The arrays that `--outputs` writes. Scalars have the shape `[1]`, pictures are uint8 of height x width (x 3 in the
/// order red, green, blue), and a dictionary is its values in the model's order with its keys in `NAME_labels`.
pub(crate) fn arrays(features: Features) -> anyhow::Result<Vec<(String, Npy)>> {
    let mut arrays = Vec::new();
    for (name, feature) in features {
        let array = match feature {
            Feature::Array(array) => Npy::Array(array),
            Feature::Image(image) => Npy::Array(pixels(image)?),
            Feature::String(value) => Npy::Strings(vec![value]),
            Feature::Int64(value) => Npy::Array(Array::new([1], vec![value])?),
            Feature::Double(value) => Npy::Array(Array::new([1], vec![value])?),
            Feature::Sequence(Sequence::Strings(values)) => Npy::Strings(values),
            Feature::Sequence(Sequence::Int64s(values)) => Npy::Array(list(values)?),
            Feature::Dictionary(dictionary) => {
                let (labels, values) = columns(dictionary)?;
                arrays.push((format!("{name}_labels"), labels));
                Npy::Array(list(values)?)
            }
        };
        arrays.push((name, array));
    }
    Ok(arrays)
}

fn list<T>(values: Vec<T>) -> anyhow::Result<Array>
where
    apple_silicon::ane::features::Elements: From<Vec<T>>,
{
    Ok(Array::new([values.len()], values)?)
}

fn columns(dictionary: Dictionary) -> anyhow::Result<(Npy, Vec<f64>)> {
    Ok(match dictionary {
        Dictionary::Strings(entries) => {
            let (labels, values) = entries.into_iter().unzip();
            (Npy::Strings(labels), values)
        }
        Dictionary::Int64s(entries) => {
            let (labels, values): (Vec<i64>, _) = entries.into_iter().unzip();
            (Npy::Array(list(labels)?), values)
        }
    })
}

fn pixels(image: Image) -> anyhow::Result<Array> {
    let (width, height) = (image.width(), image.height());
    Ok(match image.pixels().clone() {
        Pixels::Rgb(values) => Array::new([height, width, 3], values)?,
        Pixels::Gray(values) => Array::new([height, width], values)?,
        Pixels::GrayFloat16(values) => Array::new([height, width], values)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_becomes_an_array() {
        let features = Features::from_iter([
            ("label", Feature::from("cat")),
            ("score", 0.5.into()),
            ("probs", Dictionary::Strings(vec![("cat".to_owned(), 0.5), ("dog".to_owned(), 0.25)]).into()),
            ("mask", Image::new(2, 1, Pixels::Gray(vec![1, 2])).unwrap().into()),
        ]);
        let array = |shape: &[usize], values: Vec<f64>| Npy::Array(Array::new(shape, values).unwrap());
        let expected = [
            ("label", Npy::Strings(vec!["cat".to_owned()])),
            ("score", array(&[1], vec![0.5])),
            ("probs_labels", Npy::Strings(vec!["cat".to_owned(), "dog".to_owned()])),
            ("probs", array(&[2], vec![0.5, 0.25])),
            ("mask", Npy::Array(Array::new([1, 2], vec![1u8, 2]).unwrap())),
        ];
        assert_eq!(arrays(features).unwrap(), expected.map(|(name, npy)| (name.to_owned(), npy)));
    }
}
