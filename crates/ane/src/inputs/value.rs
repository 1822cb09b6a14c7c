//! One input from one value: a file, or text.

use std::path::Path;

use anyhow::Context;
use apple_silicon::ane::features::{Array, Dictionary, Elements, Feature, Image, Pixels, Sequence};
use coreml_format::schema::{ArrayKind, FeatureKind, KeyKind};
use serde_json::Value;

use super::picture;
use crate::{
    exit::Refusal,
    npy::{self, Npy},
    schema,
};

/// The input that a value on the command line means.
pub(super) fn parse(kind: &FeatureKind, text: &str) -> anyhow::Result<Feature> {
    let path = Path::new(text);
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) && *kind != FeatureKind::String {
        let npy = npy::read_npy(path).map_err(|e| Refusal::Input(e.to_string()))?;
        return Ok(from_npy(kind, npy)?);
    }
    if picture::is_picture(path) && *kind != FeatureKind::String {
        return picture(kind, path);
    }
    let refused = || Refusal::Input(format!("expected {}", expected(kind)));
    match kind {
        FeatureKind::Int64 => Ok(text.parse::<i64>().map_err(|_| refused())?.into()),
        FeatureKind::Double => Ok(text.parse::<f64>().map_err(|_| refused())?.into()),
        FeatureKind::String => Ok(text.into()),
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => {
            let value: Value = serde_json::from_str(text).ok().with_context(refused)?;
            Ok(array_from_json(array, &value).with_context(refused)?.into())
        }
        FeatureKind::Dictionary(keys) => {
            let value: Value = serde_json::from_str(text).ok().with_context(refused)?;
            Ok(dictionary_from_json(*keys, &value).with_context(refused)?.into())
        }
        FeatureKind::Sequence(elements, _) => {
            let value: Value = serde_json::from_str(text).ok().with_context(refused)?;
            Ok(sequence_from_json(*elements, &value).with_context(refused)?.into())
        }
        FeatureKind::Image(_) => Err(refused().into()),
    }
}

/// The input that a picture file means.
pub(super) fn picture(kind: &FeatureKind, path: &Path) -> anyhow::Result<Feature> {
    match kind {
        FeatureKind::Image(image) => Ok(picture::read(path, image)?.into()),
        _ => Err(Refusal::Input(format!("is a picture, but the input takes {}", expected(kind))).into()),
    }
}

/// The input that an array in a file of numpy's means. Arrays keep their type; the library converts them.
pub(super) fn from_npy(kind: &FeatureKind, npy: Npy) -> Result<Feature, Refusal> {
    let wrong = |held: String| Refusal::Input(format!("holds {held}, but the input takes {}", expected(kind)));
    match (kind, npy) {
        (FeatureKind::String, Npy::Strings(strings)) if strings.len() == 1 => Ok(strings[0].as_str().into()),
        (FeatureKind::Sequence(KeyKind::String, _), Npy::Strings(strings)) => Ok(Sequence::Strings(strings).into()),
        (_, Npy::Strings(strings)) => Err(wrong(format!("{} string(s)", strings.len()))),
        (FeatureKind::Image(_), Npy::Array(array)) => image_from_array(array),
        (FeatureKind::Sequence(KeyKind::Int64, _), Npy::Array(array)) => match array.elements() {
            Elements::Int64(values) => Ok(Sequence::Int64s(values.clone()).into()),
            Elements::Int32(values) => Ok(Sequence::Int64s(values.iter().map(|&v| i64::from(v)).collect()).into()),
            other => Err(wrong(format!("{} elements", other.type_name()))),
        },
        (_, Npy::Array(array)) => Ok(array.into()),
    }
}

/// uint8 of height x width, or height x width x 3 in the order red, green, blue, is a picture; anything else is for
/// the library to judge.
fn image_from_array(array: Array) -> Result<Feature, Refusal> {
    let Elements::UInt8(values) = array.elements() else { return Ok(array.into()) };
    let (height, width, pixels) = match *array.shape() {
        [height, width] | [height, width, 1] => (height, width, Pixels::Gray(values.clone())),
        [height, width, 3] => (height, width, Pixels::Rgb(values.clone())),
        _ => return Ok(array.into()),
    };
    let image = Image::new(width, height, pixels).map_err(|e| Refusal::Input(e.to_string()))?;
    Ok(image.into())
}

/// What a value for this input looks like.
fn expected(kind: &FeatureKind) -> String {
    let form = match kind {
        FeatureKind::Int64 => "a whole number, or a .npy file with one",
        FeatureKind::Double => "a number, or a .npy file with one",
        FeatureKind::String => "text",
        FeatureKind::Image(_) => "a .png or .jpg file, or a .npy file of uint8 height x width x 3",
        FeatureKind::MultiArray(_) | FeatureKind::State(_) => {
            "a .npy file, or numbers as JSON such as [[1, 2], [3, 4]]"
        }
        FeatureKind::Dictionary(_) => "JSON such as {\"key\": 1.5}",
        FeatureKind::Sequence(..) => "JSON such as [1, 2], or a .npy file",
    };
    format!("{} ({form})", schema::kind(kind))
}

/// Nested lists of numbers, or a single number for an array of one element.
fn array_from_json(declared: &ArrayKind, value: &Value) -> Option<Array> {
    let mut shape = Vec::new();
    let mut first = value;
    while let Value::Array(items) = first {
        shape.push(items.len());
        match items.first() {
            Some(item) => first = item,
            None => break,
        }
    }
    let mut numbers = Vec::new();
    flatten(value, &shape, &mut numbers)?;
    let is_number = shape.is_empty();
    let whole: Option<Vec<i64>> = numbers.iter().map(|number| number.as_i64()).collect();
    let elements: Elements = match whole {
        Some(whole) => whole.into(),
        None => numbers.iter().map(|number| number.as_f64()).collect::<Option<Vec<f64>>>()?.into(),
    };
    let array = Array::new(shape, elements).ok()?;
    if is_number { array.reshape(declared.shape.clone()).ok() } else { Some(array) }
}

fn flatten<'a>(value: &'a Value, shape: &[usize], numbers: &mut Vec<&'a serde_json::Number>) -> Option<()> {
    match (value, shape) {
        (Value::Number(number), []) => {
            numbers.push(number);
            Some(())
        }
        (Value::Array(items), [size, inner @ ..]) if items.len() == *size => {
            items.iter().try_for_each(|item| flatten(item, inner, numbers))
        }
        _ => None,
    }
}

fn dictionary_from_json(keys: KeyKind, value: &Value) -> Option<Dictionary> {
    let entries = value.as_object()?.iter();
    match keys {
        KeyKind::String => entries
            .map(|(key, value)| Some((key.clone(), value.as_f64()?)))
            .collect::<Option<_>>()
            .map(Dictionary::Strings),
        KeyKind::Int64 => entries
            .map(|(key, value)| Some((key.parse().ok()?, value.as_f64()?)))
            .collect::<Option<_>>()
            .map(Dictionary::Int64s),
    }
}

fn sequence_from_json(elements: KeyKind, value: &Value) -> Option<Sequence> {
    let items = value.as_array()?.iter();
    match elements {
        KeyKind::String => {
            items.map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Sequence::Strings)
        }
        KeyKind::Int64 => items.map(Value::as_i64).collect::<Option<_>>().map(Sequence::Int64s),
    }
}

#[cfg(test)]
mod tests {
    use coreml_format::schema::{ArrayType, ColorSpace, ImageFlexibility, ImageKind, ShapeFlexibility, SizeRange};

    use super::*;

    fn check(kind: FeatureKind, text: &str, expected: &str) {
        let shown = match parse(&kind, text) {
            Ok(feature) => format!("{feature:?}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn array(shape: &[usize]) -> FeatureKind {
        let flexibility = ShapeFlexibility::Fixed;
        FeatureKind::MultiArray(ArrayKind {
            dtype: ArrayType::Float32,
            shape: shape.to_vec(),
            flexibility,
            default: None,
        })
    }

    #[test]
    fn text_is_read_as_the_model_declares() {
        check(FeatureKind::Int64, "42", "Int64(42)");
        check(FeatureKind::Int64, "4.5", "expected int64 (a whole number");
        check(FeatureKind::Double, "-1e3", "Double(-1000.0)");
        check(FeatureKind::String, "a.png", "String(\"a.png\")");
        check(array(&[1, 1]), "7", "shape: [1, 1], elements: Int64([7])");
        check(array(&[2, 2]), "[[1, 2.5], [3, 4]]", "shape: [2, 2], elements: Float64([1.0, 2.5, 3.0, 4.0])");
        check(array(&[2, 2]), "[[1, 2], [3]]", "expected float32 [2, 2] (a .npy file, or numbers as JSON");
        check(array(&[2, 2]), "photo.png", "is a picture, but the input takes float32 [2, 2]");
        check(FeatureKind::Dictionary(KeyKind::Int64), "{\"3\": 1}", "Int64s([(3, 1.0)])");
        check(
            FeatureKind::Sequence(KeyKind::String, SizeRange { lower: 0, upper: None }),
            "[\"a\"]",
            "Strings([\"a\"])",
        );
    }

    #[test]
    fn bytes_of_pixels_are_a_picture() {
        let flexibility = ImageFlexibility::Fixed;
        let kind = FeatureKind::Image(ImageKind { width: 2, height: 1, color: ColorSpace::Rgb, flexibility });
        let npy = |shape: &[usize], values: &[u8]| Npy::Array(Array::new(shape, values.to_vec()).unwrap());
        let rgb = from_npy(&kind, npy(&[1, 2, 3], &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(rgb, Image::new(2, 1, Pixels::Rgb(vec![1, 2, 3, 4, 5, 6])).unwrap().into());
        let gray = from_npy(&kind, npy(&[1, 2], &[1, 2])).unwrap();
        assert_eq!(gray, Image::new(2, 1, Pixels::Gray(vec![1, 2])).unwrap().into());
        assert!(from_npy(&kind, Npy::Strings(vec!["a".to_owned()])).is_err());
    }
}
