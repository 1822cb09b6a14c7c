//! A model's features in words.

use coreml_format::schema::{
    ArrayKind, ArrayType, ColorSpace, Feature, FeatureKind, ImageFlexibility, ImageKind, KeyKind, ShapeFlexibility,
    SizeRange,
};

/// What a feature is: `float32 [1, 3, 224, 224]`, `grayscale image, 28x28`.
pub(crate) fn kind(kind: &FeatureKind) -> String {
    match kind {
        FeatureKind::Int64 => "int64".to_owned(),
        FeatureKind::Double => "double".to_owned(),
        FeatureKind::String => "string".to_owned(),
        FeatureKind::Image(image) => image_kind(image),
        FeatureKind::MultiArray(array) => array_kind(array),
        FeatureKind::Dictionary(key) => format!("dictionary from {} to double", key_name(*key)),
        FeatureKind::Sequence(element, length) => {
            format!("sequence of {}, length {}", key_name(*element), range(*length))
        }
        FeatureKind::State(array) => format!("state, {}", array_kind(array)),
    }
}

/// A feature's kind and what else a caller has to know of it.
pub(crate) fn describe(feature: &Feature) -> String {
    let mut text = kind(&feature.kind);
    if feature.optional {
        text.push_str(", optional");
    }
    if let FeatureKind::MultiArray(ArrayKind { default: Some(default), .. }) = &feature.kind {
        text.push_str(&format!(", {default} where left out"));
    }
    text
}

/// The name of the type of dictionary keys and sequence elements.
pub(crate) fn key_name(key: KeyKind) -> &'static str {
    match key {
        KeyKind::Int64 => "int64",
        KeyKind::String => "string",
    }
}

/// The name that numpy has for the element type.
pub(crate) fn dtype(dtype: ArrayType) -> &'static str {
    match dtype {
        ArrayType::Float16 => "float16",
        ArrayType::Float32 => "float32",
        ArrayType::Float64 => "float64",
        ArrayType::Int32 => "int32",
        ArrayType::Int8 => "int8",
    }
}

/// The name of the colour space.
pub(crate) fn color(color: ColorSpace) -> &'static str {
    match color {
        ColorSpace::Grayscale => "grayscale",
        ColorSpace::GrayscaleFloat16 => "grayscale float16",
        ColorSpace::Rgb => "RGB",
        ColorSpace::Bgr => "BGR",
    }
}

fn array_kind(array: &ArrayKind) -> String {
    let dtype = dtype(array.dtype);
    match &array.flexibility {
        ShapeFlexibility::Fixed if array.shape.is_empty() => format!("{dtype} of a shape that the model does not say"),
        ShapeFlexibility::Fixed => format!("{dtype} {:?}", array.shape),
        ShapeFlexibility::Enumerated(shapes) => {
            let shapes: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
            format!("{dtype} {}", shapes.join(" or "))
        }
        ShapeFlexibility::Ranges(ranges) => {
            let ranges: Vec<String> = ranges.iter().map(|r| range(*r)).collect();
            format!("{dtype} [{}]", ranges.join(", "))
        }
    }
}

fn image_kind(image: &ImageKind) -> String {
    let size = match &image.flexibility {
        ImageFlexibility::Fixed => format!("{}x{}", image.width, image.height),
        ImageFlexibility::Enumerated(sizes) => {
            let sizes: Vec<String> = sizes.iter().map(|(width, height)| format!("{width}x{height}")).collect();
            sizes.join(" or ")
        }
        ImageFlexibility::Ranges { width, height } => format!("{} wide, {} high", range(*width), range(*height)),
    };
    format!("{} image, {size}", color(image.color))
}

fn range(range: SizeRange) -> String {
    match range.upper {
        Some(upper) if upper == range.lower => upper.to_string(),
        Some(upper) => format!("{}..{upper}", range.lower),
        None => format!("{}..", range.lower),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(feature: FeatureKind, expected: &str) {
        assert_eq!(kind(&feature), expected);
    }

    fn array(flexibility: ShapeFlexibility) -> FeatureKind {
        FeatureKind::MultiArray(ArrayKind { dtype: ArrayType::Float16, shape: vec![1, 3], flexibility, default: None })
    }

    #[test]
    fn kinds_are_read_as_people_write_them() {
        check(array(ShapeFlexibility::Fixed), "float16 [1, 3]");
        check(array(ShapeFlexibility::Enumerated(vec![vec![1, 3], vec![2, 3]])), "float16 [1, 3] or [2, 3]");
        let (any, three) = (SizeRange { lower: 1, upper: None }, SizeRange { lower: 3, upper: Some(3) });
        check(array(ShapeFlexibility::Ranges(vec![any, three])), "float16 [1.., 3]");
        check(FeatureKind::Dictionary(KeyKind::String), "dictionary from string to double");
        check(
            FeatureKind::Sequence(KeyKind::Int64, SizeRange { lower: 1, upper: Some(9) }),
            "sequence of int64, length 1..9",
        );
        let flexibility = ImageFlexibility::Ranges { width: any, height: three };
        let image = ImageKind { width: 28, height: 28, color: ColorSpace::Bgr, flexibility };
        check(FeatureKind::Image(image), "BGR image, 1.. wide, 3 high");
    }
}
