//! Decoded `ModelDescription` messages as a [`Schema`].

use crate::{
    error::quote,
    pb::model as pb,
    schema::{
        ArrayKind, ArrayType, ColorSpace, Feature, FeatureKind, ImageFlexibility, ImageKind, Interface, KeyKind,
        Metadata, Schema, ShapeFlexibility, SizeRange,
    },
};

const DEFAULT_FUNCTION: &str = "main";

/// The schema that a description gives; class labels stand elsewhere.
pub(crate) fn read(description: pb::ModelDescription) -> Result<Schema, String> {
    let interface = interface(Parts {
        input: description.input,
        output: description.output,
        state: description.state,
        predicted_feature: description.predicted_feature_name,
        predicted_probabilities: description.predicted_probabilities_name,
    })?;
    let mut schema = Schema {
        interface,
        default_function: non_empty(description.default_function_name).unwrap_or_else(|| DEFAULT_FUNCTION.to_owned()),
        metadata: metadata(description.metadata.unwrap_or_default()),
        ..Schema::default()
    };
    for function in description.functions {
        read_function(function, &mut schema)?;
    }
    if !schema.functions.is_empty() {
        let default = schema.functions.get(&schema.default_function);
        schema.interface = default
            .ok_or_else(|| format!("the default function {} is not described", quote(&schema.default_function)))?
            .clone();
    }
    Ok(schema)
}

fn read_function(function: pb::FunctionDescription, schema: &mut Schema) -> Result<(), String> {
    let name = function.name;
    let interface = interface(Parts {
        input: function.input,
        output: function.output,
        state: function.state,
        predicted_feature: function.predicted_feature_name,
        predicted_probabilities: function.predicted_probabilities_name,
    })
    .map_err(|reason| format!("function {}: {reason}", quote(&name)))?;
    match schema.functions.insert(name.clone(), interface) {
        None => Ok(()),
        Some(_) => Err(format!("function {} is described twice", quote(&name))),
    }
}

/// What a model's description and a function's have in common.
struct Parts {
    input: Vec<pb::FeatureDescription>,
    output: Vec<pb::FeatureDescription>,
    state: Vec<pb::FeatureDescription>,
    predicted_feature: String,
    predicted_probabilities: String,
}

fn interface(parts: Parts) -> Result<Interface, String> {
    let interface = Interface {
        inputs: features("input", parts.input)?,
        outputs: features("output", parts.output)?,
        states: features("state", parts.state)?,
        predicted_feature: non_empty(parts.predicted_feature),
        predicted_probabilities: non_empty(parts.predicted_probabilities),
    };
    for feature in interface.inputs.iter().chain(&interface.states) {
        no_zero(feature).map_err(|reason| format!("input {}: {reason}", quote(&feature.name)))?;
    }
    Ok(interface)
}

fn features(role: &str, features: Vec<pb::FeatureDescription>) -> Result<Vec<Feature>, String> {
    let mut all: Vec<Feature> = Vec::with_capacity(features.len());
    for feature in features {
        let name = feature.name;
        if name.is_empty() {
            return Err(format!("{role} number {} has no name", all.len()));
        }
        if all.iter().any(|other| other.name == name) {
            return Err(format!("{role} {} is described twice", quote(&name)));
        }
        let ty = feature.r#type.unwrap_or_default();
        let kind = feature_kind(ty.kind).map_err(|reason| format!("{role} {}: {reason}", quote(&name)))?;
        all.push(Feature { name, description: feature.short_description, kind, optional: ty.is_optional });
    }
    Ok(all)
}

fn feature_kind(kind: Option<pb::FeatureKind>) -> Result<FeatureKind, String> {
    Ok(match kind.ok_or("has no type")? {
        pb::FeatureKind::Int64(_) => FeatureKind::Int64,
        pb::FeatureKind::Double(_) => FeatureKind::Double,
        pb::FeatureKind::String(_) => FeatureKind::String,
        pb::FeatureKind::Image(image) => FeatureKind::Image(image_kind(image)?),
        pb::FeatureKind::MultiArray(array) => FeatureKind::MultiArray(array_kind(array)?),
        pb::FeatureKind::Dictionary(dictionary) => {
            FeatureKind::Dictionary(match dictionary.key.ok_or("is a dictionary without a type of keys")? {
                pb::DictionaryKey::Int64(_) => KeyKind::Int64,
                pb::DictionaryKey::String(_) => KeyKind::String,
            })
        }
        pb::FeatureKind::Sequence(sequence) => {
            let element = match sequence.element.ok_or("is a sequence without a type of elements")? {
                pb::SequenceElement::Int64(_) => KeyKind::Int64,
                pb::SequenceElement::String(_) => KeyKind::String,
            };
            let any = pb::SizeRange { lower_bound: 0, upper_bound: -1 };
            FeatureKind::Sequence(element, size_range(sequence.size_range.unwrap_or(any))?)
        }
        pb::FeatureKind::State(state) => {
            FeatureKind::State(array_kind(state.array_type.ok_or("is a state without a multi-array type")?)?)
        }
    })
}

fn array_kind(array: pb::ArrayFeatureType) -> Result<ArrayKind, String> {
    let dtype = match array.data_type() {
        pb::ArrayDataType::Float16 => ArrayType::Float16,
        pb::ArrayDataType::Float32 => ArrayType::Float32,
        pb::ArrayDataType::Double => ArrayType::Float64,
        pb::ArrayDataType::Int8 => ArrayType::Int8,
        pb::ArrayDataType::Int32 => ArrayType::Int32,
        pb::ArrayDataType::Invalid => return Err(format!("has unknown element type {}", array.data_type)),
    };
    let shape = shape(&array.shape)?;
    let flexibility = match array.flexibility {
        None => ShapeFlexibility::Fixed,
        Some(pb::ShapeFlexibility::Enumerated(all)) if all.shapes.is_empty() => ShapeFlexibility::Fixed,
        Some(pb::ShapeFlexibility::Enumerated(all)) => {
            ShapeFlexibility::Enumerated(all.shapes.iter().map(|s| self::shape(&s.shape)).collect::<Result<_, _>>()?)
        }
        Some(pb::ShapeFlexibility::Range(range)) => {
            ShapeFlexibility::Ranges(range.size_ranges.into_iter().map(size_range).collect::<Result<_, _>>()?)
        }
    };
    let default = array.default.map(|value| match value {
        pb::DefaultValue::Int(value) => f64::from(value),
        pb::DefaultValue::Float(value) => f64::from(value),
        pb::DefaultValue::Double(value) => value,
    });
    Ok(ArrayKind { dtype, shape, flexibility, default })
}

fn image_kind(image: pb::ImageFeatureType) -> Result<ImageKind, String> {
    let color = match image.color_space() {
        pb::ColorSpace::Grayscale => ColorSpace::Grayscale,
        pb::ColorSpace::GrayscaleFloat16 => ColorSpace::GrayscaleFloat16,
        pb::ColorSpace::Rgb => ColorSpace::Rgb,
        pb::ColorSpace::Bgr => ColorSpace::Bgr,
        pb::ColorSpace::Invalid => return Err(format!("has unknown colour space {}", image.color_space)),
    };
    let flexibility = match image.flexibility {
        None => ImageFlexibility::Fixed,
        Some(pb::SizeFlexibility::Enumerated(all)) if all.sizes.is_empty() => ImageFlexibility::Fixed,
        Some(pb::SizeFlexibility::Enumerated(all)) => ImageFlexibility::Enumerated(
            all.sizes
                .iter()
                .map(|s| Ok((image_side(s.width)?, image_side(s.height)?)))
                .collect::<Result<_, String>>()?,
        ),
        Some(pb::SizeFlexibility::Range(range)) => ImageFlexibility::Ranges {
            width: size_range(range.width_range.ok_or("has no range of widths")?)?,
            height: size_range(range.height_range.ok_or("has no range of heights")?)?,
        },
    };
    let side = |n: i64| u64::try_from(n).map_err(|_| format!("has the negative size {n}")).and_then(image_side);
    Ok(ImageKind { width: side(image.width)?, height: side(image.height)?, color, flexibility })
}

/// Sides beyond this can't be the size of a picture; the limit keeps products of sides and channels in range.
fn image_side(n: u64) -> Result<usize, String> {
    const MOST: u64 = 1 << 20;
    if n > MOST { Err(format!("has a side of {n} pixels; {MOST} is the most")) } else { Ok(n as usize) }
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(|| format!("has the shape {dims:?} with a negative size"))?;
    // Elements have up to 8 bytes, and every later product of sizes and bytes must fit.
    let bytes = shape.iter().try_fold(8usize, |n, &d| n.checked_mul(d.max(1)));
    match bytes {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(shape),
        _ => Err(format!("has the shape {dims:?}, which is too large")),
    }
}

fn size_range(range: pb::SizeRange) -> Result<SizeRange, String> {
    let lower = usize::try_from(range.lower_bound).map_err(|_| format!("has the lower bound {}", range.lower_bound))?;
    let upper = usize::try_from(range.upper_bound).ok();
    match upper {
        Some(upper) if upper < lower => Err(format!("has a range from {lower} to {upper}")),
        _ => Ok(SizeRange { lower, upper }),
    }
}

fn no_zero(feature: &Feature) -> Result<(), String> {
    let zero = match &feature.kind {
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => array.shape.contains(&0),
        FeatureKind::Image(image) => image.width == 0 || image.height == 0,
        FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary(_)
        | FeatureKind::Sequence(..) => false,
    };
    if zero { Err("has a dimension of size 0".to_owned()) } else { Ok(()) }
}

fn metadata(metadata: pb::Metadata) -> Metadata {
    Metadata {
        description: metadata.short_description,
        version: metadata.version_string,
        author: metadata.author,
        license: metadata.license,
        user_defined: metadata.user_defined,
    }
}

fn non_empty(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[i64], data_type: i32) -> pb::FeatureKind {
        pb::FeatureKind::MultiArray(pb::ArrayFeatureType { shape: shape.to_vec(), data_type, ..Default::default() })
    }

    fn check(kind: Option<pb::FeatureKind>, expected: &str) {
        let input = pb::FeatureDescription {
            name: "x".to_owned(),
            r#type: Some(pb::FeatureType { kind, is_optional: false }),
            ..Default::default()
        };
        let shown = match read(pb::ModelDescription { input: vec![input], ..Default::default() }) {
            Ok(schema) => format!("{:?}", schema.interface.inputs[0].kind),
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn kinds() {
        check(Some(pb::FeatureKind::Int64(pb::Empty {})), "Int64");
        check(Some(array(&[1, 3], 65568)), "MultiArray(ArrayKind { dtype: Float32, shape: [1, 3], flexibility: Fixed");
        let image = pb::ImageFeatureType { width: 4, height: 5, color_space: 30, flexibility: None };
        check(Some(pb::FeatureKind::Image(image)), "width: 4, height: 5, color: Bgr");
    }

    #[test]
    fn an_upper_bound_below_zero_means_none() {
        let range = |lower_bound, upper_bound| size_range(pb::SizeRange { lower_bound, upper_bound });
        assert_eq!(range(1, -1), Ok(SizeRange { lower: 1, upper: None }));
        assert_eq!(range(1, 8), Ok(SizeRange { lower: 1, upper: Some(8) }));
        assert!(range(9, 8).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        check(None, "input \"x\": has no type");
        check(Some(array(&[1, -3], 65568)), "negative");
        check(Some(array(&[1, 0], 65568)), "size 0");
        check(Some(array(&[1, 3], 7)), "unknown element type 7");
        check(Some(array(&[1 << 33, 1 << 33, 1 << 33], 65568)), "too large");
        let image = pb::ImageFeatureType { width: i64::MAX, height: 5, color_space: 30, flexibility: None };
        check(Some(pb::FeatureKind::Image(image)), "pixels");
    }
}
