//! Values of features, between Rust and Core ML.

use std::borrow::Cow;

use objc2::{rc::Retained, runtime::AnyObject};
use objc2_core_ml::{MLFeatureType, MLFeatureValue, MLSequence};
use objc2_foundation::{NSArray, NSDictionary, NSNumber, NSString};

use crate::{
    array::{self, Array},
    failure::Failure,
    pixels::{self, Pixels},
};

/// The value of a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A tensor.
    Array(Array<'a>),
    /// A picture.
    Pixels(Pixels<'a>),
    /// A whole number.
    Int64(i64),
    /// A real number.
    Double(f64),
    /// Text.
    String(Cow<'a, str>),
    /// Numbers by words.
    StringDictionary(Vec<(String, f64)>),
    /// Numbers by whole numbers.
    Int64Dictionary(Vec<(i64, f64)>),
    /// A list of words.
    StringSequence(Vec<String>),
    /// A list of whole numbers.
    Int64Sequence(Vec<i64>),
}

impl Value<'_> {
    /// The same value with memory of its own. Cost: a copy of what is borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Array(array) => Value::Array(array.into_owned()),
            Value::Pixels(pixels) => {
                let Pixels { width, height, format, bytes } = pixels;
                Value::Pixels(Pixels { width, height, format, bytes: Cow::Owned(bytes.into_owned()) })
            }
            Value::Int64(value) => Value::Int64(value),
            Value::Double(value) => Value::Double(value),
            Value::String(text) => Value::String(Cow::Owned(text.into_owned())),
            Value::StringDictionary(entries) => Value::StringDictionary(entries),
            Value::Int64Dictionary(entries) => Value::Int64Dictionary(entries),
            Value::StringSequence(words) => Value::StringSequence(words),
            Value::Int64Sequence(numbers) => Value::Int64Sequence(numbers),
        }
    }
}

/// The value as an object of Core ML's. The elements of tensors and pictures are copied, but for those that are shared.
pub(crate) fn to_object(value: &Value<'_>) -> Result<Retained<MLFeatureValue>, Failure> {
    Ok(match value {
        Value::Array(array) => {
            let array = array::to_object(array)?;
            // SAFETY: the value retains the array.
            unsafe { MLFeatureValue::featureValueWithMultiArray(&array) }
        }
        Value::Pixels(pixels) => {
            let buffer = pixels::to_object(pixels)?;
            // SAFETY: the value retains the buffer.
            unsafe { MLFeatureValue::featureValueWithPixelBuffer(&buffer) }
        }
        // SAFETY: a plain number.
        Value::Int64(value) => unsafe { MLFeatureValue::featureValueWithInt64(*value) },
        // SAFETY: a plain number.
        Value::Double(value) => unsafe { MLFeatureValue::featureValueWithDouble(*value) },
        Value::String(text) => {
            // SAFETY: the value copies the string.
            unsafe { MLFeatureValue::featureValueWithString(&NSString::from_str(text)) }
        }
        Value::StringDictionary(entries) => {
            let words: Vec<_> = entries.iter().map(|(word, _)| NSString::from_str(word)).collect();
            let words: Vec<&NSString> = words.iter().map(|word| &**word).collect();
            let dictionary = NSDictionary::from_retained_objects(&words, &numbers(entries));
            // SAFETY: strings are objects.
            dictionary_value(unsafe { dictionary.cast_unchecked() })?
        }
        Value::Int64Dictionary(entries) => {
            let keys: Vec<_> = entries.iter().map(|(key, _)| NSNumber::new_i64(*key)).collect();
            let keys: Vec<&NSNumber> = keys.iter().map(|key| &**key).collect();
            let dictionary = NSDictionary::from_retained_objects(&keys, &numbers(entries));
            // SAFETY: numbers are objects.
            dictionary_value(unsafe { dictionary.cast_unchecked() })?
        }
        Value::StringSequence(words) => {
            let words: Vec<_> = words.iter().map(|word| NSString::from_str(word)).collect();
            // SAFETY: the sequence copies the array, whose elements are strings.
            sequence_value(&*unsafe { MLSequence::sequenceWithStringArray(&NSArray::from_retained_slice(&words)) })
        }
        Value::Int64Sequence(numbers) => {
            let numbers: Vec<_> = numbers.iter().map(|number| NSNumber::new_i64(*number)).collect();
            // SAFETY: the sequence copies the array, whose elements are whole numbers.
            sequence_value(&*unsafe { MLSequence::sequenceWithInt64Array(&NSArray::from_retained_slice(&numbers)) })
        }
    })
}

fn numbers<K>(entries: &[(K, f64)]) -> Vec<Retained<NSNumber>> {
    entries.iter().map(|(_, value)| NSNumber::new_f64(*value)).collect()
}

fn dictionary_value(dictionary: &NSDictionary<AnyObject, NSNumber>) -> Result<Retained<MLFeatureValue>, Failure> {
    // SAFETY: keys are all strings or all whole numbers, as Core ML asks, and the value copies the dictionary.
    unsafe { MLFeatureValue::featureValueWithDictionary_error(dictionary) }.map_err(|e| Failure::from(&*e))
}

fn sequence_value(sequence: &MLSequence) -> Retained<MLFeatureValue> {
    // SAFETY: the value retains the sequence.
    unsafe { MLFeatureValue::featureValueWithSequence(sequence) }
}

/// Lends what an object holds. Elements are not copied, unless their strides leave gaps.
pub(crate) fn read<R>(object: &MLFeatureValue, take: impl FnOnce(Value<'_>) -> R) -> Result<R, Failure> {
    let missing = || Failure::ours("a feature value does not have what its type says");
    // SAFETY: a plain property.
    let kind = unsafe { object.r#type() };
    Ok(match kind {
        MLFeatureType::MultiArray => {
            // SAFETY: the array is retained, and read here and now.
            let array = unsafe { object.multiArrayValue() }.ok_or_else(missing)?;
            array::read(&array, |array| take(Value::Array(array)))?
        }
        MLFeatureType::Image => {
            // SAFETY: the buffer is retained, and read here and now.
            let buffer = unsafe { object.imageBufferValue() }.ok_or_else(missing)?;
            pixels::read(&buffer, |pixels| take(Value::Pixels(pixels)))?
        }
        // SAFETY: it is defined for a value of this type.
        MLFeatureType::Int64 => take(Value::Int64(unsafe { object.int64Value() })),
        // SAFETY: it is defined for a value of this type.
        MLFeatureType::Double => take(Value::Double(unsafe { object.doubleValue() })),
        MLFeatureType::String => {
            // SAFETY: it is defined for a value of this type.
            let text = unsafe { object.stringValue() }.to_string();
            take(Value::String(Cow::Owned(text)))
        }
        MLFeatureType::Dictionary => {
            // SAFETY: it is defined for a value of this type.
            let dictionary = unsafe { object.dictionaryValue() };
            take(entries(&dictionary).ok_or_else(missing)?)
        }
        MLFeatureType::Sequence => {
            // SAFETY: it is defined for a value of this type.
            let sequence = unsafe { object.sequenceValue() }.ok_or_else(missing)?;
            take(items(&sequence))
        }
        other => return Err(Failure::ours(format!("a feature value has the unknown type {}", other.0))),
    })
}

/// The entries of a dictionary, in an order of its keys; `None` where they are neither words nor numbers.
fn entries(dictionary: &NSDictionary<AnyObject, NSNumber>) -> Option<Value<'static>> {
    let (keys, values) = dictionary.to_vecs();
    let values = values.iter().map(|value| value.as_f64());
    if keys.iter().all(|key| key.downcast_ref::<NSString>().is_some()) {
        let words = keys.iter().filter_map(|key| key.downcast_ref::<NSString>()).map(NSString::to_string);
        let mut entries: Vec<(String, f64)> = words.zip(values).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        return Some(Value::StringDictionary(entries));
    }
    let numbers: Option<Vec<i64>> =
        keys.iter().map(|key| key.downcast_ref::<NSNumber>().map(NSNumber::as_i64)).collect();
    let mut entries: Vec<(i64, f64)> = numbers?.into_iter().zip(values).collect();
    entries.sort_by_key(|entry| entry.0);
    Some(Value::Int64Dictionary(entries))
}

fn items(sequence: &MLSequence) -> Value<'static> {
    // SAFETY: a plain property.
    if unsafe { sequence.r#type() } == MLFeatureType::String {
        // SAFETY: it is defined for a sequence of strings.
        let words = unsafe { sequence.stringValues() };
        return Value::StringSequence(words.iter().map(|word| word.to_string()).collect());
    }
    // SAFETY: it is defined for a sequence of whole numbers, the only other kind.
    let numbers = unsafe { sequence.int64Values() };
    Value::Int64Sequence(numbers.iter().map(|number| number.as_i64()).collect())
}
