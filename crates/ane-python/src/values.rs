//! Python's values as features, and features as Python's values.

use apple_silicon::ane::{
    errors::ANEError,
    features::{Array, Dictionary, Elements, Feature, Features, Image, Pixels, Sequence},
};
use coreml_format::schema::{ColorSpace, FeatureKind, ImageKind, KeyKind};
use half::{f16, slice::HalfFloatSliceExt};
use numpy::{
    Element, IxDyn, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString},
};

use crate::errors::exception;

/// A value as what the model declares, as far as Python's types tell; the library checks the rest.
pub(crate) fn to_feature(name: &str, kind: &FeatureKind, value: &Bound<'_, PyAny>) -> PyResult<Feature> {
    match kind {
        FeatureKind::MultiArray(kind) | FeatureKind::State(kind) => {
            let array = to_array(name, value)?;
            // Core ML's arrays have a dimension at least, so a number is what an array of one element takes.
            if array.shape().is_empty() && kind.shape == [1] {
                return array.reshape([1]).map(Feature::Array).map_err(|e| exception(value.py(), &e));
            }
            Ok(Feature::Array(array))
        }
        FeatureKind::Image(kind) => to_image(name, kind, value),
        FeatureKind::Int64 | FeatureKind::Double => to_number(name, value),
        FeatureKind::String => match value.cast::<PyString>() {
            Ok(text) => Ok(Feature::String(text.extract()?)),
            Err(_) => Err(wrong(name, "a str", value)),
        },
        FeatureKind::Dictionary(key) => to_dictionary(name, *key, value).map(Feature::Dictionary),
        FeatureKind::Sequence(key, _) => to_sequence(name, *key, value).map(Feature::Sequence),
    }
}

/// Whatever numpy makes an array of, with elements of one of the library's types. Cost: a copy.
pub(crate) fn to_array(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Array> {
    let py = value.py();
    let array = as_numpy(value).map_err(|_| wrong(name, "an array of numbers", value))?;
    let found = match elements(&array)? {
        Some(found) => Some(found),
        None if matches!(array.dtype().kind(), b'O' | b'S' | b'U') => {
            return Err(wrong(name, "an array of numbers", value));
        }
        None => elements(&widened(name, &array)?)?,
    };
    let elements = found.ok_or_else(|| wrong_type(name, &array))?;
    Array::new(array.shape(), elements).map_err(|e| exception(py, &e))
}

/// The features of an answer, in the model's order. Arrays are moved, not copied.
pub(crate) fn to_python(py: Python<'_>, features: Features) -> PyResult<Bound<'_, PyDict>> {
    let outputs = PyDict::new(py);
    for (name, feature) in features {
        outputs.set_item(name, feature_to_python(py, feature)?)?;
    }
    Ok(outputs)
}

/// An array whose elements are moved, not copied.
pub(crate) fn array_to_python(py: Python<'_>, array: Array) -> PyResult<Bound<'_, PyAny>> {
    let shape = array.shape().to_vec();
    match array.into_elements() {
        Elements::Float16(values) => shaped(py, values, &shape),
        Elements::Float32(values) => shaped(py, values, &shape),
        Elements::Float64(values) => shaped(py, values, &shape),
        Elements::Int32(values) => shaped(py, values, &shape),
        Elements::Int8(values) => shaped(py, values, &shape),
        Elements::Int64(values) => shaped(py, values, &shape),
        Elements::UInt8(values) => shaped(py, values, &shape),
        Elements::Bool(values) => shaped(py, values, &shape),
    }
}

fn feature_to_python(py: Python<'_>, feature: Feature) -> PyResult<Bound<'_, PyAny>> {
    match feature {
        Feature::Array(array) => array_to_python(py, array),
        Feature::Image(image) => image_to_python(py, &image),
        Feature::String(text) => Ok(text.into_pyobject(py)?.into_any()),
        Feature::Int64(value) => Ok(value.into_pyobject(py)?.into_any()),
        Feature::Double(value) => Ok(value.into_pyobject(py)?.into_any()),
        Feature::Dictionary(Dictionary::Strings(entries)) => dictionary(py, entries),
        Feature::Dictionary(Dictionary::Int64s(entries)) => dictionary(py, entries),
        Feature::Sequence(Sequence::Strings(values)) => Ok(PyList::new(py, values)?.into_any()),
        Feature::Sequence(Sequence::Int64s(values)) => Ok(PyList::new(py, values)?.into_any()),
    }
}

fn shaped<'py, T: Element>(py: Python<'py>, values: Vec<T>, shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyArray1::from_vec(py, values).reshape(IxDyn(shape))?.into_any())
}

fn dictionary<'py, K: IntoPyObject<'py>>(py: Python<'py>, entries: Vec<(K, f64)>) -> PyResult<Bound<'py, PyAny>> {
    let dict = PyDict::new(py);
    for (key, value) in entries {
        dict.set_item(key, value)?;
    }
    Ok(dict.into_any())
}

/// `numpy.asarray`, row by row.
fn as_numpy<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = value.py();
    let options = PyDict::new(py);
    options.set_item("order", "C")?;
    let array = py.import("numpy")?.getattr("asarray")?.call((value,), Some(&options))?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}

/// The elements, where they are of a type that the library has.
fn elements(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<Elements>> {
    fn copied<T: Element + Copy>(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<Elements>>
    where
        Vec<T>: Into<Elements>,
    {
        let Ok(typed) = array.cast::<PyArrayDyn<T>>() else { return Ok(None) };
        Ok(Some(typed.readonly().as_slice()?.to_vec().into()))
    }
    for read in [
        copied::<f32>,
        copied::<i32>,
        copied::<f16>,
        copied::<f64>,
        copied::<i64>,
        copied::<u8>,
        copied::<i8>,
        copied::<bool>,
    ] {
        if let Some(elements) = read(array)? {
            return Ok(Some(elements));
        }
    }
    Ok(None)
}

/// Numbers of any other type as the narrowest of the library's that holds them all.
fn widened<'py>(name: &str, array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let dtype = array.dtype();
    let wider = match (dtype.kind(), dtype.itemsize()) {
        (b'f', 2) => "float16",
        (b'f', 4) => "float32",
        (b'f', _) => "float64",
        (b'i', 1..=4) | (b'u', 1..=2) => "int32",
        (b'i', _) | (b'u', 4) => "int64",
        (b'u', _) => {
            // Above the range of int64 only a float is near.
            let largest = array.call_method0("max").and_then(|largest| largest.extract::<u64>()).unwrap_or(0);
            if i64::try_from(largest).is_ok() { "int64" } else { "float64" }
        }
        _ => return Err(wrong_type(name, array)),
    };
    Ok(array.call_method1("astype", (wider,))?.cast_into::<PyUntypedArray>()?)
}

fn to_number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Feature> {
    if value.is_instance_of::<PyBool>() || value.is_instance_of::<PyInt>() {
        return match value.extract() {
            Ok(value) => Ok(Feature::Int64(value)),
            Err(_) => Ok(Feature::Double(value.extract()?)),
        };
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Feature::Double(value.extract()?));
    }
    to_array(name, value).map(Feature::Array).map_err(|_| wrong(name, "a number", value))
}

fn to_dictionary(name: &str, key: KeyKind, value: &Bound<'_, PyAny>) -> PyResult<Dictionary> {
    let dict = value.cast::<PyDict>().map_err(|_| wrong(name, "a dict", value))?;
    let words = || dict.iter().map(|(k, v)| Ok((k.extract()?, v.extract()?))).collect::<PyResult<_>>();
    let numbers = || dict.iter().map(|(k, v)| Ok((k.extract()?, v.extract()?))).collect::<PyResult<_>>();
    match key {
        // coremltools declares the keys of a dictionary as words where they are numbers, and Core ML takes both.
        KeyKind::String => words()
            .map(Dictionary::Strings)
            .or_else(|_| numbers().map(Dictionary::Int64s))
            .map_err(|_| wrong(name, "a dict from str to numbers", value)),
        KeyKind::Int64 => {
            numbers().map(Dictionary::Int64s).map_err(|_| wrong(name, "a dict from int to numbers", value))
        }
    }
}

fn to_sequence(name: &str, key: KeyKind, value: &Bound<'_, PyAny>) -> PyResult<Sequence> {
    match key {
        KeyKind::String => value.extract().map(Sequence::Strings).map_err(|_| wrong(name, "a list of str", value)),
        KeyKind::Int64 => value.extract().map(Sequence::Int64s).map_err(|_| wrong(name, "a list of int", value)),
    }
}

/// A PIL image, or an array: of uint8 and the shape (height, width, 3) or (height, width), a picture; any other, its
/// planes, as the library takes them.
fn to_image(name: &str, kind: &ImageKind, value: &Bound<'_, PyAny>) -> PyResult<Feature> {
    let py = value.py();
    let is_pil = !value.is_instance_of::<PyUntypedArray>() && value.hasattr("convert")? && value.hasattr("mode")?;
    let array = if is_pil {
        let mode = match kind.color {
            ColorSpace::Rgb | ColorSpace::Bgr => "RGB",
            ColorSpace::Grayscale => "L",
            ColorSpace::GrayscaleFloat16 => "F",
        };
        to_array(name, &value.call_method1("convert", (mode,))?)?
    } else {
        to_array(name, value)?
    };
    let shape = array.shape().to_vec();
    let image = match (&*shape, array.into_elements()) {
        (&[height, width, 3], Elements::UInt8(values)) => Image::new(width, height, Pixels::Rgb(values)),
        (&[height, width], Elements::UInt8(values)) => Image::new(width, height, Pixels::Gray(values)),
        (&[height, width], Elements::Float16(values)) => Image::new(width, height, Pixels::GrayFloat16(values)),
        (&[height, width], Elements::Float32(values)) => {
            let values = values.into_iter().map(f16::from_f32).collect();
            Image::new(width, height, Pixels::GrayFloat16(values))
        }
        (_, elements) => return Array::new(shape, elements).map(Feature::Array).map_err(|e| exception(py, &e)),
    };
    image.map(Feature::Image).map_err(|e| exception(py, &e))
}

fn image_to_python<'py>(py: Python<'py>, image: &Image) -> PyResult<Bound<'py, PyAny>> {
    let (height, width) = (image.height(), image.width());
    let pil = pil(py);
    let array = match image.pixels() {
        Pixels::Rgb(values) => shaped(py, values.clone(), &[height, width, 3])?,
        Pixels::Gray(values) => shaped(py, values.clone(), &[height, width])?,
        // PIL has no half floats.
        Pixels::GrayFloat16(values) if pil.is_some() => shaped(py, values.to_f32_vec(), &[height, width])?,
        Pixels::GrayFloat16(values) => shaped(py, values.clone(), &[height, width])?,
    };
    match pil {
        Some(pil) => pil.call_method1(py, "fromarray", (array,)).map(|image| image.into_bound(py)),
        None => Ok(array),
    }
}

/// `PIL.Image`, where it is installed.
fn pil(py: Python<'_>) -> Option<&Py<PyAny>> {
    static PIL: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    PIL.get_or_init(py, || py.import("PIL.Image").ok().map(|module| module.into_any().unbind())).as_ref()
}

fn wrong(name: &str, takes: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let given = value.get_type().qualname().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    exception(value.py(), &ANEError::InvalidShape(format!("{name:?} takes {takes}, not {given}")))
}

fn wrong_type(name: &str, array: &Bound<'_, PyUntypedArray>) -> PyErr {
    let message = format!("{name:?} takes an array of numbers, not of {}", array.dtype());
    exception(array.py(), &ANEError::UnsupportedPrecision(message))
}
