//! What a model says of itself, as the dataclasses of `ane._types`.

use apple_silicon::ane::{
    engines::Choice,
    infer::{ComputeUnits, Placement},
    models::coreml_model::CoreMlModel,
};
use coreml_format::schema::{
    ArrayKind, ArrayType, ClassLabels, ColorSpace, Feature, FeatureKind, ImageFlexibility, ImageKind, KeyKind,
    Metadata, ShapeFlexibility, SizeRange,
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyList, PyTuple},
};

pub(crate) fn schema<'py>(py: Python<'py>, model: &CoreMlModel) -> PyResult<Bound<'py, PyAny>> {
    let (whole, interface) = (model.schema(), model.interface());
    let features = |features: &[Feature]| -> PyResult<Bound<'py, PyTuple>> {
        let features: PyResult<Vec<_>> = features.iter().map(|one| feature(py, one)).collect();
        PyTuple::new(py, features?)
    };
    let fields = PyDict::new(py);
    fields.set_item("inputs", features(&interface.inputs)?)?;
    fields.set_item("outputs", features(&interface.outputs)?)?;
    fields.set_item("states", features(&interface.states)?)?;
    fields.set_item("predicted_feature", &interface.predicted_feature)?;
    fields.set_item("predicted_probabilities", &interface.predicted_probabilities)?;
    fields.set_item(
        "class_labels",
        match &whole.class_labels {
            None => None,
            Some(ClassLabels::Strings(labels)) => Some(PyList::new(py, labels)?),
            Some(ClassLabels::Int64s(labels)) => Some(PyList::new(py, labels)?),
        },
    )?;
    fields.set_item("functions", PyTuple::new(py, whole.functions.keys())?)?;
    fields.set_item("default_function", &whole.default_function)?;
    make(py, "Schema", &fields)
}

pub(crate) fn metadata<'py>(py: Python<'py>, metadata: &Metadata) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("description", &metadata.description)?;
    fields.set_item("version", &metadata.version)?;
    fields.set_item("author", &metadata.author)?;
    fields.set_item("license", &metadata.license)?;
    fields.set_item("user_defined", &metadata.user_defined)?;
    make(py, "Metadata", &fields)
}

pub(crate) fn engine<'py>(py: Python<'py>, choice: &Choice) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("name", choice.engine)?;
    fields.set_item("version", &choice.version)?;
    fields.set_item("reason", &choice.reason)?;
    make(py, "Engine", &fields)
}

pub(crate) fn placement<'py>(py: Python<'py>, placement: &Placement) -> PyResult<Bound<'py, PyAny>> {
    let planned: Vec<_> =
        placement.planned.iter().map(|unit| (unit.unit.to_string(), unit.operations, unit.cost)).collect();
    let fields = PyDict::new(py);
    fields.set_item("asked", units_name(placement.asked))?;
    fields.set_item("allowed", units_name(placement.allowed))?;
    fields.set_item("planned", planned)?;
    fields.set_item("known", placement.known.map(|unit| unit.to_string()))?;
    fields.set_item("fallbacks", &placement.fallbacks)?;
    make(py, "Placement", &fields)
}

fn make<'py>(py: Python<'py>, class: &str, fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    py.import("ane._types")?.getattr(class)?.call((), Some(fields))
}

fn feature<'py>(py: Python<'py>, feature: &Feature) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("name", &feature.name)?;
    fields.set_item("description", &feature.description)?;
    fields.set_item("optional", feature.optional)?;
    let kind = match &feature.kind {
        FeatureKind::Int64 => "int",
        FeatureKind::Double => "float",
        FeatureKind::String => "str",
        FeatureKind::Image(kind) => {
            image(&fields, kind)?;
            "image"
        }
        FeatureKind::MultiArray(kind) => {
            array(py, &fields, kind)?;
            "array"
        }
        FeatureKind::State(kind) => {
            array(py, &fields, kind)?;
            "state"
        }
        FeatureKind::Dictionary(key) => {
            fields.set_item("key", key_name(*key))?;
            "dict"
        }
        FeatureKind::Sequence(key, length) => {
            fields.set_item("key", key_name(*key))?;
            fields.set_item("ranges", [bounds(length)])?;
            "list"
        }
    };
    fields.set_item("kind", kind)?;
    make(py, "Feature", &fields)
}

fn array<'py>(py: Python<'py>, fields: &Bound<'py, PyDict>, kind: &ArrayKind) -> PyResult<()> {
    fields.set_item(
        "dtype",
        match kind.dtype {
            ArrayType::Float16 => "float16",
            ArrayType::Float32 => "float32",
            ArrayType::Float64 => "float64",
            ArrayType::Int32 => "int32",
            ArrayType::Int8 => "int8",
        },
    )?;
    fields.set_item("shape", PyTuple::new(py, &kind.shape)?)?;
    fields.set_item("default", kind.default)?;
    match &kind.flexibility {
        ShapeFlexibility::Fixed => Ok(()),
        ShapeFlexibility::Enumerated(shapes) => {
            let shapes: PyResult<Vec<_>> = shapes.iter().map(|shape| PyTuple::new(py, shape)).collect();
            fields.set_item("shapes", shapes?)
        }
        ShapeFlexibility::Ranges(ranges) => fields.set_item("ranges", ranges.iter().map(bounds).collect::<Vec<_>>()),
    }
}

/// Sizes are (height, width), as the shapes of arrays are.
fn image(fields: &Bound<'_, PyDict>, kind: &ImageKind) -> PyResult<()> {
    fields.set_item(
        "color",
        match kind.color {
            ColorSpace::Grayscale => "L",
            ColorSpace::GrayscaleFloat16 => "F",
            ColorSpace::Rgb => "RGB",
            ColorSpace::Bgr => "BGR",
        },
    )?;
    fields.set_item("shape", (kind.height, kind.width))?;
    match &kind.flexibility {
        ImageFlexibility::Fixed => Ok(()),
        ImageFlexibility::Enumerated(sizes) => {
            fields.set_item("shapes", sizes.iter().map(|&(width, height)| (height, width)).collect::<Vec<_>>())
        }
        ImageFlexibility::Ranges { width, height } => fields.set_item("ranges", [bounds(height), bounds(width)]),
    }
}

fn bounds(range: &SizeRange) -> (usize, Option<usize>) {
    (range.lower, range.upper)
}

fn key_name(key: KeyKind) -> &'static str {
    match key {
        KeyKind::Int64 => "int",
        KeyKind::String => "str",
    }
}

fn units_name(units: ComputeUnits) -> &'static str {
    match units {
        ComputeUnits::All => "ALL",
        ComputeUnits::Ane => "ANE",
        ComputeUnits::Gpu => "GPU",
        ComputeUnits::Cpu => "CPU",
    }
}
