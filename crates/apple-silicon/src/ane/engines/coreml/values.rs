//! Tensors and features as Core ML's values, and back.

use std::{borrow::Cow, sync::Arc};

use apple_frameworks::{
    Array as Given, Elements as Memory, Failure, Memory as At, PixelFormat, Pixels as Bitmap, Value,
};
use coreml_format::schema::{ArrayKind, ArrayType, ClassLabels, FeatureKind, ImageKind};
use half::{f16, vec::HalfFloatVecExt};

use crate::ane::{
    engines::{Data, Shape, Tensor},
    errors::Result,
    features::{Array, Dictionary, Elements, Feature, Image, Pixels, Sequence},
};

/// The value for an input of this kind.
pub(super) fn to_value<'a>(kind: &FeatureKind, tensor: &'a Tensor<'_>) -> Result<Value<'a>, Failure> {
    let wrong = || failure(format!("{:?} was given for {kind:?}", tensor.shape));
    match (&tensor.data, kind) {
        (Data::Shared(memory, len), FeatureKind::MultiArray(ArrayKind { dtype: ArrayType::Float32, .. })) => {
            let elements = Memory::Float32(At::Shared(Arc::clone(memory), *len));
            Ok(Value::Array(Given { shape: Cow::Borrowed(&tensor.shape), elements }))
        }
        (Data::Shared(memory, len), _) => {
            let copied = Tensor { shape: tensor.shape.clone(), data: Data::F32(Cow::Borrowed(&memory[..*len])) };
            to_value(kind, &copied).map(Value::into_owned)
        }
        (Data::Feature(feature), _) => feature_value(feature).ok_or_else(wrong),
        (Data::F32(planes), FeatureKind::Image(kind)) => planes_value(kind, &tensor.shape, planes).ok_or_else(wrong),
        (Data::F32(values), FeatureKind::MultiArray(kind)) => {
            let elements = match kind.dtype {
                ArrayType::Float32 => Memory::Float32(borrowed(values)),
                ArrayType::Float16 => Memory::Float16(owned(Vec::from_f32_slice(values))),
                ArrayType::Float64 => Memory::Float64(owned(values.iter().map(|&v| f64::from(v)).collect())),
                ArrayType::Int32 | ArrayType::Int8 => return Err(wrong()),
            };
            Ok(Value::Array(Given { shape: Cow::Borrowed(&tensor.shape), elements }))
        }
        (Data::I32(values), FeatureKind::MultiArray(kind)) => {
            let elements = match kind.dtype {
                ArrayType::Int32 => Memory::Int32(borrowed(values)),
                ArrayType::Int8 => Memory::Int8(owned(values.iter().map(|&v| v as i8).collect())),
                ArrayType::Float16 | ArrayType::Float32 | ArrayType::Float64 => return Err(wrong()),
            };
            Ok(Value::Array(Given { shape: Cow::Borrowed(&tensor.shape), elements }))
        }
        (Data::F32(values), FeatureKind::Double) => {
            values.first().map(|&v| Value::Double(f64::from(v))).ok_or_else(wrong)
        }
        (Data::F32(values), FeatureKind::Int64) => values.first().map(|&v| Value::Int64(v as i64)).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn feature_value(feature: &Feature) -> Option<Value<'_>> {
    Some(match feature {
        Feature::Array(array) => {
            let elements = match array.elements() {
                Elements::Float16(values) => Memory::Float16(borrowed(values)),
                Elements::Float32(values) => Memory::Float32(borrowed(values)),
                Elements::Float64(values) => Memory::Float64(borrowed(values)),
                Elements::Int32(values) => Memory::Int32(borrowed(values)),
                Elements::Int8(values) => Memory::Int8(borrowed(values)),
                // Features were converted to what the model declares, which is none of these.
                Elements::Int64(_) | Elements::UInt8(_) | Elements::Bool(_) => return None,
            };
            Value::Array(Given { shape: Cow::Borrowed(array.shape()), elements })
        }
        Feature::Image(image) => Value::Pixels(bitmap(image)),
        Feature::String(text) => Value::String(Cow::Borrowed(text)),
        Feature::Int64(value) => Value::Int64(*value),
        Feature::Double(value) => Value::Double(*value),
        Feature::Dictionary(Dictionary::Strings(entries)) => Value::StringDictionary(entries.clone()),
        Feature::Dictionary(Dictionary::Int64s(entries)) => Value::Int64Dictionary(entries.clone()),
        Feature::Sequence(Sequence::Strings(words)) => Value::StringSequence(words.clone()),
        Feature::Sequence(Sequence::Int64s(numbers)) => Value::Int64Sequence(numbers.clone()),
    })
}

/// The picture that planes show.
fn planes_value(kind: &ImageKind, shape: &[usize], planes: &[f32]) -> Option<Value<'static>> {
    let &[.., height, width] = shape else { return None };
    let image = Image::from_planes(kind.color, width, height, planes).ok()?;
    let Bitmap { width, height, format, bytes } = bitmap(&image);
    Some(Value::Pixels(Bitmap { width, height, format, bytes: Cow::Owned(bytes.into_owned()) }))
}

fn bitmap(image: &Image) -> Bitmap<'_> {
    let (format, bytes) = match image.pixels() {
        Pixels::Rgb(rgb) => {
            let bgra = rgb.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [b, g, r, u8::MAX]).collect();
            (PixelFormat::Bgra8, Cow::Owned(bgra))
        }
        Pixels::Gray(gray) => (PixelFormat::Gray8, Cow::Borrowed(gray.as_slice())),
        Pixels::GrayFloat16(gray) => (PixelFormat::GrayFloat16, Cow::Borrowed(bytemuck::cast_slice(gray))),
    };
    Bitmap { width: image.width(), height: image.height(), format, bytes }
}

/// What Core ML gave. Arrays of fp32 and int32 are lent as they are; `labels` tell the order of a dictionary's entries.
pub(super) fn to_tensor<'a>(value: Value<'a>, labels: Option<&ClassLabels>) -> Result<Tensor<'a>> {
    let feature = match value {
        Value::Array(Given { shape, elements }) => {
            let elements = match elements {
                Memory::Float32(values) => return Ok(lent(&shape, Data::F32(taken(values)))),
                Memory::Int32(values) => return Ok(lent(&shape, Data::I32(taken(values)))),
                Memory::Float16(values) => Elements::Float16(taken(values).into_owned()),
                Memory::Float64(values) => Elements::Float64(taken(values).into_owned()),
                Memory::Int8(values) => Elements::Int8(taken(values).into_owned()),
            };
            Feature::Array(Array::new(shape.into_owned(), elements)?)
        }
        Value::Pixels(pixels) => Feature::Image(picture(&pixels)?),
        Value::Int64(value) => Feature::Int64(value),
        Value::Double(value) => Feature::Double(value),
        Value::String(text) => Feature::String(text.into_owned()),
        Value::StringDictionary(entries) => Feature::Dictionary(Dictionary::Strings(in_order(entries, labels))),
        Value::Int64Dictionary(entries) => Feature::Dictionary(Dictionary::Int64s(in_order(entries, labels))),
        Value::StringSequence(words) => Feature::Sequence(Sequence::Strings(words)),
        Value::Int64Sequence(numbers) => Feature::Sequence(Sequence::Int64s(numbers)),
    };
    let shape = feature.as_array().map_or_else(Shape::new, |array| array.shape().into());
    Ok(Tensor { shape, data: Data::Feature(Cow::Owned(feature)) })
}

fn picture(pixels: &Bitmap<'_>) -> Result<Image> {
    let bytes = &*pixels.bytes;
    let content = match pixels.format {
        PixelFormat::Bgra8 => {
            Pixels::Rgb(bytes.as_chunks::<4>().0.iter().flat_map(|&[b, g, r, _]| [r, g, b]).collect())
        }
        PixelFormat::Gray8 => Pixels::Gray(bytes.to_vec()),
        PixelFormat::GrayFloat16 => {
            Pixels::GrayFloat16(bytes.as_chunks::<2>().0.iter().map(|&pair| f16::from_ne_bytes(pair)).collect())
        }
    };
    Image::new(pixels.width, pixels.height, content)
}

/// Entries in the order of the labels, those that are none of them last.
fn in_order<K: Label>(mut entries: Vec<(K, f64)>, labels: Option<&ClassLabels>) -> Vec<(K, f64)> {
    if let Some(labels) = labels {
        let places = K::places(labels);
        entries.sort_by_key(|(key, _)| places.get(key).copied().unwrap_or(usize::MAX));
    }
    entries
}

/// The keys of a dictionary.
trait Label: std::hash::Hash + Eq + Sized {
    /// Where each label comes.
    fn places(labels: &ClassLabels) -> std::collections::HashMap<&Self, usize>;
}

impl Label for String {
    fn places(labels: &ClassLabels) -> std::collections::HashMap<&String, usize> {
        let ClassLabels::Strings(labels) = labels else { return Default::default() };
        labels.iter().zip(0..).collect()
    }
}

impl Label for i64 {
    fn places(labels: &ClassLabels) -> std::collections::HashMap<&i64, usize> {
        let ClassLabels::Int64s(labels) = labels else { return Default::default() };
        labels.iter().zip(0..).collect()
    }
}

fn lent<'a>(shape: &[usize], data: Data<'a>) -> Tensor<'a> {
    Tensor { shape: shape.into(), data }
}

fn borrowed<T: Clone>(values: &[T]) -> At<'_, T> {
    At::Borrowed(Cow::Borrowed(values))
}

fn owned<T: Clone>(values: Vec<T>) -> At<'static, T> {
    At::Borrowed(Cow::Owned(values))
}

fn taken<T: Clone>(values: At<'_, T>) -> Cow<'_, [T]> {
    match values {
        At::Borrowed(values) => values,
        At::Shared(values, len) => Cow::Owned(values[..len.min(values.len())].to_vec()),
    }
}

fn failure(message: String) -> Failure {
    Failure { domain: Failure::OURS.to_owned(), code: 0, message }
}
