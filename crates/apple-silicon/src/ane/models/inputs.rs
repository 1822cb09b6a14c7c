//! Features as tensors for an engine, checked against what the model declares.

use std::borrow::Cow;

use coreml_format::schema::{
    ArrayKind, ArrayType, Feature as Declared, FeatureKind, ImageFlexibility, ImageKind, ShapeFlexibility, SizeRange,
};
use coreml_onnx::{Element, InputBinding, Port};

use crate::ane::{
    engines::{Data, Tensor},
    errors::{ANEError, Result},
    features::{Array, Elements, Feature, Features, Image},
};

/// One tensor for each binding, in their order.
pub(super) fn prepare<'a>(
    bindings: &[InputBinding],
    ports: &[Port],
    features: &'a Features,
) -> Result<Vec<Tensor<'a>>> {
    if let Some(unknown) = features.names().find(|name| bindings.iter().all(|b| b.feature.name != *name)) {
        let all: Vec<String> =
            bindings.iter().map(|b| format!("{:?} ({})", b.feature.name, describe(&b.feature.kind))).collect();
        return Err(ANEError::InvalidShape(format!(
            "there is no input {unknown:?}; the model takes {}",
            all.join(", ")
        )));
    }
    bindings.iter().map(|binding| tensor(&binding.feature, &ports[binding.port], features)).collect()
}

/// Whether the feature has one shape only.
pub(super) fn is_fixed(kind: &FeatureKind) -> bool {
    match kind {
        FeatureKind::MultiArray(kind) | FeatureKind::State(kind) => kind.flexibility == ShapeFlexibility::Fixed,
        FeatureKind::Image(kind) => kind.flexibility == ImageFlexibility::Fixed,
        FeatureKind::Sequence(..) => false,
        FeatureKind::Int64 | FeatureKind::Double | FeatureKind::String | FeatureKind::Dictionary(_) => true,
    }
}

fn tensor<'a>(declared: &Declared, port: &Port, features: &'a Features) -> Result<Tensor<'a>> {
    let wrong = |feature: &Feature| {
        ANEError::InvalidShape(format!(
            "the input {:?} takes {}, not {}",
            declared.name,
            describe(&declared.kind),
            feature.describe()
        ))
    };
    let named = |e: ANEError| match e {
        ANEError::UnsupportedPrecision(why) => {
            ANEError::UnsupportedPrecision(format!("the input {:?}: {why}", declared.name))
        }
        other => other,
    };
    match (&declared.kind, features.get(&declared.name)) {
        (FeatureKind::MultiArray(kind), Some(feature @ Feature::Array(array))) => {
            if !takes_shape(kind, port, array.shape()) {
                return Err(wrong(feature));
            }
            let data = typed(array, kind.dtype, port.element).map_err(named)?;
            Ok(Tensor { shape: Cow::Borrowed(array.shape()), data })
        }
        (FeatureKind::Image(kind), Some(feature)) => image(kind, feature).unwrap_or_else(|| Err(wrong(feature))),
        (FeatureKind::Int64 | FeatureKind::Double, Some(feature)) => {
            let value = scalar(&declared.kind, feature).ok_or_else(|| wrong(feature))?;
            let elements = Elements::Float64(vec![value]);
            Ok(Tensor { shape: vec![1; port.dims.len()].into(), data: carried(Cow::Owned(elements), port.element)? })
        }
        (_, Some(feature)) => Err(wrong(feature)),
        (FeatureKind::MultiArray(kind), None) if declared.optional => {
            let array = Array::filled(kind.dtype, kind.shape.clone(), kind.default.unwrap_or(0.0)).map_err(named)?;
            let data = carried(Cow::Owned(array.elements().clone()), port.element)?;
            Ok(Tensor { shape: kind.shape.clone().into(), data })
        }
        (_, None) => {
            let given: Vec<&str> = features.names().collect();
            let given =
                if given.is_empty() { "nothing was given".to_owned() } else { format!("given: {}", given.join(", ")) };
            Err(ANEError::InvalidShape(format!(
                "the input {:?} is missing: {}; {given}",
                declared.name,
                describe(&declared.kind)
            )))
        }
    }
}

/// The elements in the type that the model declares, as the graph carries them. What needs no conversion is borrowed.
fn typed<'a>(array: &'a Array, declared: ArrayType, element: Element) -> Result<Data<'a>> {
    if array.array_type() == Some(declared) {
        return carried(Cow::Borrowed(array.elements()), element);
    }
    let converted = array.convert(declared)?;
    if declared == ArrayType::Float16 {
        // Compute is fp32: a caller's fp32 values were checked to have a place in fp16, but are not rounded to it.
        return carried(Cow::Borrowed(array.elements()), element);
    }
    carried(Cow::Owned(converted.into_elements()), element)
}

/// Elements as the graph carries them: fp16 and fp64 as fp32, narrow whole numbers as int32.
fn carried(elements: Cow<'_, Elements>, element: Element) -> Result<Data<'_>> {
    match (element, elements) {
        (Element::F32, Cow::Borrowed(Elements::Float32(values))) => Ok(Data::F32(Cow::Borrowed(values))),
        (Element::I32, Cow::Borrowed(Elements::Int32(values))) => Ok(Data::I32(Cow::Borrowed(values))),
        (Element::F32, elements) => Ok(Data::F32(elements.to_f32s().into())),
        (Element::I32, elements) => Ok(Data::I32(elements.to_f64s().into_iter().map(|v| v as i32).collect())),
        (Element::I64, elements) => Ok(Data::I64(elements.to_f64s().into_iter().map(|v| v as i64).collect())),
        (Element::Bool, elements) => Ok(Data::Bool(elements.to_f64s().into_iter().map(|v| v != 0.0).collect())),
        (other, _) => Err(ANEError::Internal(format!("the lowered graph has an input of type {other:?}"))),
    }
}

fn takes_shape(kind: &ArrayKind, port: &Port, shape: &[usize]) -> bool {
    let declared = match &kind.flexibility {
        ShapeFlexibility::Fixed => kind.shape.is_empty() || kind.shape == shape,
        ShapeFlexibility::Enumerated(shapes) => shapes.iter().any(|one| one == shape),
        ShapeFlexibility::Ranges(ranges) => {
            ranges.len() == shape.len() && ranges.iter().zip(shape).all(|(range, &size)| range.contains(size))
        }
    };
    declared
        && port.dims.len() == shape.len()
        && port.dims.iter().zip(shape).all(|(dim, &size)| dim.is_none_or(|d| d == size))
}

/// An image, or an array of its planes: (1, channel, height, width) or without the 1, of values from 0 to 255, with
/// the channels in the order that the model declares. `None` where it is neither, or of another size.
fn image<'a>(kind: &ImageKind, feature: &'a Feature) -> Option<Result<Tensor<'a>>> {
    let channels = kind.color.channels();
    match feature {
        Feature::Image(image) => takes_size(kind, image.width(), image.height()).then(|| {
            let planes = Image::to_planes(image, kind.color);
            Ok(Tensor {
                shape: vec![1, channels, image.height(), image.width()].into(),
                data: Data::F32(planes.into()),
            })
        }),
        Feature::Array(array) => {
            let (&[1, c, height, width] | &[c, height, width]) = array.shape() else { return None };
            (c == channels && takes_size(kind, width, height)).then(|| {
                let shape = vec![1, channels, height, width].into();
                Ok(Tensor { shape, data: carried(Cow::Borrowed(array.elements()), Element::F32)? })
            })
        }
        _ => None,
    }
}

fn takes_size(kind: &ImageKind, width: usize, height: usize) -> bool {
    match &kind.flexibility {
        ImageFlexibility::Fixed => (width, height) == (kind.width, kind.height),
        ImageFlexibility::Enumerated(sizes) => sizes.contains(&(width, height)),
        ImageFlexibility::Ranges { width: widths, height: heights } => {
            widths.contains(width) && heights.contains(height)
        }
    }
}

/// A number, or an array with one.
fn scalar(kind: &FeatureKind, feature: &Feature) -> Option<f64> {
    let value = match feature {
        Feature::Int64(value) => *value as f64,
        Feature::Double(value) => *value,
        Feature::Array(array) if array.len() == 1 => array.to_f64s()[0],
        _ => return None,
    };
    (*kind == FeatureKind::Double || value.fract() == 0.0).then_some(value)
}

/// What a feature takes, for messages.
pub(super) fn describe(kind: &FeatureKind) -> String {
    match kind {
        FeatureKind::Int64 => "an integer".to_owned(),
        FeatureKind::Double => "a number".to_owned(),
        FeatureKind::String => "a string".to_owned(),
        FeatureKind::Dictionary(_) => "a dictionary".to_owned(),
        FeatureKind::Sequence(..) => "a sequence".to_owned(),
        FeatureKind::Image(kind) => format!("a {:?} image of {}", kind.color, describe_size(kind)),
        FeatureKind::MultiArray(kind) | FeatureKind::State(kind) => {
            format!("a {:?} array of {}", kind.dtype, describe_shape(kind))
        }
    }
}

fn describe_size(kind: &ImageKind) -> String {
    match &kind.flexibility {
        ImageFlexibility::Fixed => format!("{}x{} pixels", kind.width, kind.height),
        ImageFlexibility::Enumerated(sizes) => {
            let sizes: Vec<String> = sizes.iter().map(|(width, height)| format!("{width}x{height}")).collect();
            format!("{} pixels", sizes.join(" or "))
        }
        ImageFlexibility::Ranges { width, height } => {
            format!("{}x{} pixels", describe_range(width), describe_range(height))
        }
    }
}

fn describe_shape(kind: &ArrayKind) -> String {
    match &kind.flexibility {
        ShapeFlexibility::Fixed => format!("shape {:?}", kind.shape),
        ShapeFlexibility::Enumerated(shapes) => {
            let shapes: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
            format!("shape {}", shapes.join(" or "))
        }
        ShapeFlexibility::Ranges(ranges) => {
            let ranges: Vec<String> = ranges.iter().map(describe_range).collect();
            format!("shape [{}]", ranges.join(", "))
        }
    }
}

fn describe_range(range: &SizeRange) -> String {
    match range.upper {
        Some(upper) if upper == range.lower => upper.to_string(),
        Some(upper) => format!("{}..={upper}", range.lower),
        None => format!("{}..", range.lower),
    }
}
