//! Features as tensors for an engine, checked against what the model declares.

use std::borrow::Cow;

use coreml_format::schema::{
    ArrayKind, ArrayType, Feature as Declared, FeatureKind, ImageFlexibility, ImageKind, KeyKind, ShapeFlexibility,
    SizeRange,
};
use coreml_onnx::{Element, InputBinding, Port};
use smallvec::smallvec;

use crate::ane::{
    engines::{Data, Shape, Tensor},
    errors::{ANEError, Result},
    features::{Array, Dictionary, Elements, Feature, Features, Image, Sequence},
};

/// What goes through the ports of a loaded model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Tensors, as a lowered graph has them.
    Tensors,
    /// Features themselves, but for the arrays of fp32 and int32.
    Features,
}

/// One tensor for each binding, in their order.
pub(super) fn prepare<'a>(
    bindings: &[InputBinding],
    ports: &[Port],
    carried: Carried,
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
    let tensor = |binding: &InputBinding| match carried {
        Carried::Tensors => tensor(&binding.feature, &ports[binding.port], features),
        Carried::Features => whole(&binding.feature, &ports[binding.port], features),
    };
    bindings.iter().map(tensor).collect()
}

/// What a state is to hold.
pub(super) fn state(declared: &Declared, port: &Port, array: &Array) -> Result<Tensor<'static>> {
    let (FeatureKind::State(kind) | FeatureKind::MultiArray(kind)) = &declared.kind else {
        return Err(ANEError::Internal(format!("the state {:?} is no tensor", declared.name)));
    };
    if !takes_shape(kind, port, array.shape()) {
        return Err(ANEError::InvalidShape(format!(
            "the state {:?} holds {}, not {}",
            declared.name,
            describe(&declared.kind),
            Feature::from(array.clone()).describe()
        )));
    }
    let data = typed(array, kind.dtype, port.element).map_err(|e| named(declared, e))?;
    Ok(Tensor { shape: array.shape().into(), data }.into_owned())
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

/// A feature for an engine that takes features themselves.
fn whole<'a>(declared: &Declared, port: &Port, features: &'a Features) -> Result<Tensor<'a>> {
    match (&declared.kind, features.get(&declared.name)) {
        (FeatureKind::MultiArray(kind), Some(feature @ Feature::Array(array)))
            if !matches!(kind.dtype, ArrayType::Float32 | ArrayType::Int32)
                && takes_shape(kind, port, array.shape()) =>
        {
            let feature = if array.array_type() == Some(kind.dtype) {
                Cow::Borrowed(feature)
            } else {
                Cow::Owned(Feature::Array(array.convert(kind.dtype).map_err(|e| named(declared, e))?))
            };
            Ok(Tensor { shape: array.shape().into(), data: Data::Feature(feature) })
        }
        (FeatureKind::Image(kind), Some(feature @ Feature::Image(image)))
            if takes_size(kind, image.width(), image.height()) =>
        {
            let shape = smallvec![1, kind.color.channels(), image.height(), image.width()];
            Ok(Tensor { shape, data: Data::Feature(Cow::Borrowed(feature)) })
        }
        (FeatureKind::String, Some(feature @ Feature::String(_)))
        | (FeatureKind::Dictionary(KeyKind::String), Some(feature @ Feature::Dictionary(Dictionary::Strings(_))))
        | (FeatureKind::Dictionary(KeyKind::Int64), Some(feature @ Feature::Dictionary(Dictionary::Int64s(_))))
        | (FeatureKind::Sequence(KeyKind::String, _), Some(feature @ Feature::Sequence(Sequence::Strings(_))))
        | (FeatureKind::Sequence(KeyKind::Int64, _), Some(feature @ Feature::Sequence(Sequence::Int64s(_)))) => {
            Ok(Tensor { shape: Shape::new(), data: Data::Feature(Cow::Borrowed(feature)) })
        }
        (FeatureKind::Int64 | FeatureKind::Double, Some(feature)) => {
            let value = scalar(&declared.kind, feature).ok_or_else(|| wrong(declared, feature))?;
            let feature = match declared.kind {
                FeatureKind::Int64 => Feature::Int64(value as i64),
                _ => Feature::Double(value),
            };
            Ok(Tensor { shape: Shape::new(), data: Data::Feature(Cow::Owned(feature)) })
        }
        // coremltools declares the keys of a dictionary as words where they are numbers, and Core ML takes both.
        (FeatureKind::Dictionary(KeyKind::String), Some(feature @ Feature::Dictionary(Dictionary::Int64s(_)))) => {
            Ok(Tensor { shape: Shape::new(), data: Data::Feature(Cow::Borrowed(feature)) })
        }
        (FeatureKind::MultiArray(ArrayKind { default: Some(_), .. }), None) => tensor(declared, port, features),
        (_, None) if declared.optional => Ok(Tensor { shape: Shape::new(), data: Data::Absent }),
        // One step of a sequence, as it is declared: what comes out has its rank.
        (FeatureKind::MultiArray(kind), Some(Feature::Array(array))) if array.shape().len() < kind.shape.len() => {
            let sequence = tensor(declared, port, features)?;
            let declared = sequence.shape[..2] == [1, 1];
            let shape = if declared { array.shape().into() } else { sequence.shape };
            Ok(Tensor { shape, ..sequence })
        }
        // Arrays of fp32 and int32, planes for an image, defaults, and what is wrong.
        _ => tensor(declared, port, features),
    }
}

fn wrong(declared: &Declared, feature: &Feature) -> ANEError {
    ANEError::InvalidShape(format!(
        "the input {:?} takes {}, not {}",
        declared.name,
        describe(&declared.kind),
        feature.describe()
    ))
}

fn named(declared: &Declared, error: ANEError) -> ANEError {
    match error {
        ANEError::UnsupportedPrecision(why) => {
            ANEError::UnsupportedPrecision(format!("the input {:?}: {why}", declared.name))
        }
        other => other,
    }
}

fn tensor<'a>(declared: &Declared, port: &Port, features: &'a Features) -> Result<Tensor<'a>> {
    let wrong = |feature: &Feature| wrong(declared, feature);
    let named = |error: ANEError| named(declared, error);
    match (&declared.kind, features.get(&declared.name)) {
        (FeatureKind::MultiArray(kind), Some(feature @ Feature::Array(array))) => {
            let shape = match array.shape() {
                shape if takes_shape(kind, port, shape) => shape.into(),
                shape => in_sequence(kind, port, shape).ok_or_else(|| wrong(feature))?,
            };
            let data = typed(array, kind.dtype, port.element).map_err(named)?;
            Ok(Tensor { shape, data })
        }
        (FeatureKind::Image(kind), Some(feature)) => image(kind, feature).unwrap_or_else(|| Err(wrong(feature))),
        (FeatureKind::Int64 | FeatureKind::Double, Some(feature)) => {
            let value = scalar(&declared.kind, feature).ok_or_else(|| wrong(feature))?;
            let elements = Elements::Float64(vec![value]);
            Ok(Tensor { shape: smallvec![1; port.dims.len()], data: carried(Cow::Owned(elements), port.element)? })
        }
        (_, Some(feature)) => Err(wrong(feature)),
        (FeatureKind::MultiArray(kind), None) if declared.optional => {
            let array = Array::filled(kind.dtype, kind.shape.clone(), kind.default.unwrap_or(0.0)).map_err(named)?;
            let data = carried(Cow::Owned(array.elements().clone()), port.element)?;
            Ok(Tensor { shape: kind.shape.as_slice().into(), data })
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

/// Whether the model takes an array of this shape.
pub(super) fn takes_shape(kind: &ArrayKind, port: &Port, shape: &[usize]) -> bool {
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

/// An array as a network of before specification 4 computes on it: (sequence, batch, channel, height, width). Such a
/// network takes one step, and vectors, with fewer dimensions.
fn in_sequence(kind: &ArrayKind, port: &Port, shape: &[usize]) -> Option<Shape> {
    let readings: &[[usize; 5]] = match *shape {
        [channels] => &[[1, 1, channels, 1, 1]],
        [steps, channels] => &[[steps, 1, channels, 1, 1]],
        [a, b, c] => &[[1, 1, a, b, c], [a, b, c, 1, 1]],
        _ => &[],
    };
    readings.iter().find(|shape| takes_shape(kind, port, &shape[..])).map(|shape| Shape::from_slice(shape))
}

/// An image, or an array of its planes: (1, channel, height, width) or without the 1, of values from 0 to 255, with
/// the channels in the order that the model declares. `None` where it is neither, or of another size.
fn image<'a>(kind: &ImageKind, feature: &'a Feature) -> Option<Result<Tensor<'a>>> {
    let channels = kind.color.channels();
    match feature {
        Feature::Image(image) => takes_size(kind, image.width(), image.height()).then(|| {
            let planes = Image::to_planes(image, kind.color);
            Ok(Tensor { shape: smallvec![1, channels, image.height(), image.width()], data: Data::F32(planes.into()) })
        }),
        Feature::Array(array) => {
            let (&[1, c, height, width] | &[c, height, width]) = array.shape() else { return None };
            (c == channels && takes_size(kind, width, height)).then(|| {
                let shape = smallvec![1, channels, height, width];
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

#[cfg(test)]
mod tests {
    use coreml_format::schema::ColorSpace;

    use super::*;
    use crate::ane::features::Pixels;

    fn prepare_one(kind: &FeatureKind, optional: bool, rank: usize, features: &Features) -> Result<Tensor<'static>> {
        let feature = Declared { name: "x".to_owned(), description: String::new(), kind: kind.clone(), optional };
        let element = match kind {
            FeatureKind::MultiArray(ArrayKind { dtype: ArrayType::Int32 | ArrayType::Int8, .. }) => Element::I32,
            _ => Element::F32,
        };
        let port = Port { name: "x".to_owned(), element, dims: vec![None; rank] };
        let tensors = prepare(&[InputBinding { feature, port: 0 }], &[port], Carried::Tensors, features)?;
        let data = match &tensors[0].data {
            Data::F32(values) => Data::F32(values.to_vec().into()),
            Data::I32(values) => Data::I32(values.to_vec().into()),
            other => panic!("{other:?} is not made here"),
        };
        Ok(Tensor::owned(tensors[0].shape.to_vec(), data))
    }

    fn array(dtype: ArrayType, flexibility: ShapeFlexibility) -> FeatureKind {
        FeatureKind::MultiArray(ArrayKind { dtype, shape: vec![2, 2], flexibility, default: Some(7.0) })
    }

    fn given(feature: impl Into<Feature>) -> Features {
        Features::from_iter([("x", feature.into())])
    }

    fn zeros(shape: &[usize]) -> Features {
        given(Array::filled(ArrayType::Float32, shape, 0.0).unwrap())
    }

    #[test]
    fn shapes_are_fixed_listed_or_within_ranges() {
        let range = |lower, upper| SizeRange { lower, upper };
        let listed = ShapeFlexibility::Enumerated(vec![vec![2, 2], vec![4, 2]]);
        let ranges = ShapeFlexibility::Ranges(vec![range(1, Some(3)), range(2, None)]);
        for (flexibility, taken, refused, said) in [
            (ShapeFlexibility::Fixed, vec![[2, 2]], vec![[2, 3]], "shape [2, 2], not"),
            (listed, vec![[2, 2], [4, 2]], vec![[3, 2]], "shape [2, 2] or [4, 2], not"),
            (ranges, vec![[1, 2], [3, 90]], vec![[4, 2], [1, 1]], "shape [1..=3, 2..], not"),
        ] {
            let kind = array(ArrayType::Float32, flexibility);
            for shape in taken {
                assert_eq!(*prepare_one(&kind, false, 2, &zeros(&shape)).unwrap().shape, shape);
            }
            for shape in refused {
                let error = prepare_one(&kind, false, 2, &zeros(&shape)).unwrap_err().to_string();
                assert!(error.contains(said), "{error}");
            }
            assert!(prepare_one(&kind, false, 2, &zeros(&[4])).is_err(), "another rank");
        }
    }

    #[test]
    fn elements_are_carried_as_the_graph_wants() {
        let half = array(ArrayType::Float16, ShapeFlexibility::Fixed);
        let precise = given(Array::new([2, 2], vec![0.1f32; 4]).unwrap());
        let tensor = prepare_one(&half, false, 2, &precise).unwrap();
        assert_eq!(tensor.data, Data::F32(vec![0.1; 4].into()), "not rounded through fp16");
        let large = given(Array::new([2, 2], vec![1e6f32; 4]).unwrap());
        let error = prepare_one(&half, false, 2, &large).unwrap_err();
        let message = "the input \"x\": the value 1000000 is out of the range of Float16";
        assert_eq!(error, ANEError::UnsupportedPrecision(message.to_owned()));
        let whole = array(ArrayType::Int32, ShapeFlexibility::Fixed);
        let wide = given(Array::new([2, 2], vec![3i64; 4]).unwrap());
        assert_eq!(prepare_one(&whole, false, 2, &wide).unwrap().data, Data::I32(vec![3; 4].into()));
        assert!(prepare_one(&whole, false, 2, &precise).is_err());
    }

    #[test]
    fn what_is_optional_has_a_default() {
        let kind = array(ArrayType::Float32, ShapeFlexibility::Fixed);
        let tensor = prepare_one(&kind, true, 2, &Features::new()).unwrap();
        assert_eq!(tensor, Tensor::owned(vec![2, 2], Data::F32(vec![7.0; 4].into())));
        assert!(prepare_one(&kind, false, 2, &Features::new()).is_err());
    }

    #[test]
    fn numbers_fill_their_port() {
        let one = |value: f32| Tensor::owned(vec![1], Data::F32(vec![value].into()));
        assert_eq!(prepare_one(&FeatureKind::Double, false, 1, &given(2.5)), Ok(one(2.5)));
        assert_eq!(prepare_one(&FeatureKind::Int64, false, 1, &given(4)), Ok(one(4.0)));
        assert!(prepare_one(&FeatureKind::Int64, false, 1, &given(2.5)).is_err());
        assert!(prepare_one(&FeatureKind::Double, false, 1, &given("2.5")).is_err());
    }

    #[test]
    fn images_come_as_pictures_or_planes() {
        let sizes = ImageFlexibility::Enumerated(vec![(2, 1), (4, 4)]);
        let kind = FeatureKind::Image(ImageKind { width: 2, height: 1, color: ColorSpace::Bgr, flexibility: sizes });
        let picture = Image::new(2, 1, Pixels::Rgb(vec![1, 2, 3, 4, 5, 6])).unwrap();
        let planes = Array::new([3, 1, 2], vec![3u8, 6, 2, 5, 1, 4]).unwrap();
        let expected = Tensor::owned(vec![1, 3, 1, 2], Data::F32(vec![3.0, 6.0, 2.0, 5.0, 1.0, 4.0].into()));
        assert_eq!(prepare_one(&kind, false, 4, &given(picture)), Ok(expected.clone()));
        assert_eq!(prepare_one(&kind, false, 4, &given(planes)), Ok(expected));
        let wrong = Image::new(3, 1, Pixels::Gray(vec![0; 3])).unwrap();
        let error = prepare_one(&kind, false, 4, &given(wrong)).unwrap_err().to_string();
        assert_eq!(error, "the input \"x\" takes a Bgr image of 2x1 or 4x4 pixels, not a gray image of 3x1 pixels");
    }
}
