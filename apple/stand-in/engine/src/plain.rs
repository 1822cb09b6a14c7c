//! Features as C sees them, and as the engine does.

use std::ffi::{CString, c_long, c_uint};

use apple_silicon::ane::{
    errors::ANEError,
    features::{self, Array, ArrayType, Dictionary, Elements, Feature, Image, Pixels, Sequence},
    models::coreml_model::{CoreMlModel, State},
};
use coreml_format::schema::{self, ColorSpace, FeatureKind};
use half::f16;
use serde_json::{Value, json};

/// Features by name.
#[derive(Debug, Default)]
pub struct Features(pub(crate) Vec<(CString, Plain)>);

/// A feature as C sees it.
#[derive(Debug)]
pub(crate) enum Plain {
    Int64(i64),
    Double(f64),
    String(CString),
    /// With the number of `MLMultiArrayDataType`, and elements in row-major order.
    Array {
        kind: c_long,
        shape: Vec<c_long>,
        bytes: Vec<u8>,
    },
    /// With Core Video's code of the format, and pixels without gaps.
    Image {
        width: c_long,
        height: c_long,
        format: c_uint,
        bytes: Vec<u8>,
    },
    Dictionary(Vec<Entry>),
    Sequence(Vec<Entry>),
}

/// An entry of a dictionary, or an item of a sequence, which has no value.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The key where it is a word; else the number is.
    pub(crate) word: Option<CString>,
    pub(crate) number: i64,
    pub(crate) value: f64,
}

/// What Core ML would say.
pub(crate) struct Failed {
    /// The code of `MLModelError`.
    pub(crate) code: c_long,
    pub(crate) message: String,
}

const GENERIC: c_long = 0;
const FEATURE_TYPE: c_long = 1;

/// Predicts.
pub(crate) fn predict(model: &CoreMlModel, given: &Features, state: Option<&mut State>) -> Result<Features, Failed> {
    let mut features = features::Features::new();
    for (name, plain) in &given.0 {
        let name = name.to_string_lossy();
        let declared = model.interface().inputs.iter().find(|input| input.name == *name);
        let wrong = |what: &str| Failed { code: FEATURE_TYPE, message: format!("For input feature '{name}', {what}") };
        if let (Plain::Image { format, .. }, Some(FeatureKind::Image(image))) = (plain, declared.map(|d| &d.kind))
            && *format != format_of(image.color)
        {
            return Err(wrong("the provided pixel format is not compatible with the model's feature description."));
        }
        let feature = plain.to_feature().ok_or_else(|| wrong("the provided value cannot be read."))?;
        features.insert(name.into_owned(), feature);
    }
    let predicted = match state {
        Some(state) => model.predict_with_state(&features, state),
        None => model.predict(&features),
    };
    let outputs = predicted.map_err(|error| failed(error, &features))?;
    let results = outputs.into_iter().map(|(name, feature)| Ok((c_string(&name), Plain::of(feature)?)));
    results.collect::<Result<_, _>>().map(Features)
}

/// What Core ML says of it.
fn failed(error: ANEError, given: &features::Features) -> Failed {
    let code = match &error {
        ANEError::InvalidShape(_) | ANEError::UnsupportedPrecision(_) => FEATURE_TYPE,
        _ => GENERIC,
    };
    let message = error.to_string();
    let array = |(name, feature): (&str, &Feature)| feature.as_array().map(|a| (name.to_owned(), a.shape().to_vec()));
    let mut arrays = given.iter().filter_map(array);
    let message = match arrays.find(|(name, _)| message.contains(&format!("{name:?}")) && code == FEATURE_TYPE) {
        Some((name, shape)) => {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!(
                "For input feature '{name}', the provided shape {} is not compatible with the model's feature \
                 description. ({message})",
                shape.join(" × ")
            )
        }
        None => message,
    };
    Failed { code, message }
}

/// A state's name, shape and type, for the stand-in.
pub(crate) fn describe_state(state: &schema::Feature) -> Value {
    let FeatureKind::State(array) = &state.kind else { return Value::Null };
    json!({ "name": state.name, "shape": array.shape, "type": code_of(array.dtype) })
}

impl Plain {
    /// The number of `MLFeatureType`.
    pub(crate) fn kind(&self) -> c_long {
        match self {
            Plain::Int64(_) => 1,
            Plain::Double(_) => 2,
            Plain::String(_) => 3,
            Plain::Image { .. } => 4,
            Plain::Array { .. } => 5,
            Plain::Dictionary(_) => 6,
            Plain::Sequence(_) => 7,
        }
    }

    /// The feature for the engine; `None` where no model takes it.
    fn to_feature(&self) -> Option<Feature> {
        Some(match self {
            Plain::Int64(value) => Feature::Int64(*value),
            Plain::Double(value) => Feature::Double(*value),
            Plain::String(text) => Feature::String(text.to_string_lossy().into_owned()),
            Plain::Array { kind, shape, bytes } => {
                let elements = match type_of(*kind)? {
                    ArrayType::Float16 => Elements::Float16(numbers(bytes, f16::from_ne_bytes)),
                    ArrayType::Float32 => Elements::Float32(numbers(bytes, f32::from_ne_bytes)),
                    ArrayType::Float64 => Elements::Float64(numbers(bytes, f64::from_ne_bytes)),
                    ArrayType::Int32 => Elements::Int32(numbers(bytes, i32::from_ne_bytes)),
                    ArrayType::Int8 => Elements::Int8(numbers(bytes, i8::from_ne_bytes)),
                };
                let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
                Feature::Array(Array::new(shape, elements).ok()?)
            }
            Plain::Image { width, height, format, bytes } => {
                let pixels = match *format {
                    BGRA => Pixels::Rgb(bytes.as_chunks().0.iter().flat_map(|&[b, g, r, _]| [r, g, b]).collect()),
                    GRAY => Pixels::Gray(bytes.clone()),
                    GRAY_FLOAT16 => Pixels::GrayFloat16(numbers(bytes, f16::from_ne_bytes)),
                    _ => return None,
                };
                Feature::Image(Image::new(*width as usize, *height as usize, pixels).ok()?)
            }
            Plain::Dictionary(_) | Plain::Sequence(_) => return None,
        })
    }

    fn of(feature: Feature) -> Result<Plain, Failed> {
        Ok(match feature {
            Feature::Int64(value) => Plain::Int64(value),
            Feature::Double(value) => Plain::Double(value),
            Feature::String(text) => Plain::String(c_string(&text)),
            Feature::Array(array) => {
                let shape = array.shape().iter().map(|&size| size as c_long).collect();
                let (kind, bytes) = match array.into_elements() {
                    Elements::Float16(v) => (ArrayType::Float16, bytes(&v, |v| v.to_ne_bytes())),
                    Elements::Float32(v) => (ArrayType::Float32, bytes(&v, |v| v.to_ne_bytes())),
                    Elements::Float64(v) => (ArrayType::Float64, bytes(&v, |v| v.to_ne_bytes())),
                    Elements::Int32(v) => (ArrayType::Int32, bytes(&v, |v| v.to_ne_bytes())),
                    Elements::Int8(v) => (ArrayType::Int8, bytes(&v, |v| v.to_ne_bytes())),
                    other => {
                        let message = format!("the engine gave {} elements of a type Core ML lacks", other.len());
                        return Err(Failed { code: GENERIC, message });
                    }
                };
                Plain::Array { kind: code_of(kind), shape, bytes }
            }
            Feature::Image(image) => {
                let (format, bytes) = match image.pixels() {
                    Pixels::Rgb(rgb) => {
                        (BGRA, rgb.as_chunks().0.iter().flat_map(|&[r, g, b]| [b, g, r, u8::MAX]).collect())
                    }
                    Pixels::Gray(gray) => (GRAY, gray.clone()),
                    Pixels::GrayFloat16(gray) => (GRAY_FLOAT16, bytes(gray, |v| v.to_ne_bytes())),
                };
                Plain::Image { width: image.width() as c_long, height: image.height() as c_long, format, bytes }
            }
            Feature::Dictionary(Dictionary::Strings(entries)) => {
                Plain::Dictionary(entries.into_iter().map(|(key, value)| Entry::word(&key, value)).collect())
            }
            Feature::Dictionary(Dictionary::Int64s(entries)) => {
                Plain::Dictionary(entries.into_iter().map(|(number, value)| Entry::number(number, value)).collect())
            }
            Feature::Sequence(Sequence::Strings(words)) => {
                Plain::Sequence(words.iter().map(|word| Entry::word(word, 0.0)).collect())
            }
            Feature::Sequence(Sequence::Int64s(numbers)) => {
                Plain::Sequence(numbers.iter().map(|&number| Entry::number(number, 0.0)).collect())
            }
        })
    }
}

impl Entry {
    fn word(word: &str, value: f64) -> Entry {
        Entry { word: Some(c_string(word)), number: 0, value }
    }

    fn number(number: i64, value: f64) -> Entry {
        Entry { word: None, number, value }
    }
}

/// The numbers of `MLMultiArrayDataType`.
const TYPES: [(c_long, ArrayType); 5] = [
    (0x10000 | 16, ArrayType::Float16),
    (0x10000 | 32, ArrayType::Float32),
    (0x10000 | 64, ArrayType::Float64),
    (0x20000 | 32, ArrayType::Int32),
    (0x20000 | 8, ArrayType::Int8),
];

fn type_of(code: c_long) -> Option<ArrayType> {
    TYPES.iter().find(|row| row.0 == code).map(|row| row.1)
}

fn code_of(dtype: ArrayType) -> c_long {
    TYPES.iter().find(|row| row.1 == dtype).expect("every type is listed").0
}

/// Bytes of an element.
pub(crate) fn element_size(code: c_long) -> usize {
    (code & 0xffff) as usize / 8
}

const BGRA: c_uint = u32::from_be_bytes(*b"BGRA");
const GRAY: c_uint = u32::from_be_bytes(*b"L008");
const GRAY_FLOAT16: c_uint = u32::from_be_bytes(*b"L00h");

/// Bytes of a pixel.
pub(crate) fn pixel_size(format: c_uint) -> usize {
    match format {
        BGRA => 4,
        GRAY_FLOAT16 => 2,
        _ => 1,
    }
}

fn format_of(color: ColorSpace) -> c_uint {
    match color {
        ColorSpace::Rgb | ColorSpace::Bgr => BGRA,
        ColorSpace::Grayscale => GRAY,
        ColorSpace::GrayscaleFloat16 => GRAY_FLOAT16,
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| number(chunk)).collect()
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| bytes(number)).collect()
}

pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).expect("no zeros are left")
}
