//! `metadata.json`: an array of one object, whose numbers are mostly strings.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Found;
use crate::{
    error::quote,
    schema::{
        ArrayKind, ArrayType, ColorSpace, Feature, FeatureKind, ImageFlexibility, ImageKind, Interface, KeyKind,
        Metadata, Schema, ShapeFlexibility, SizeRange,
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    specification_version: Option<u32>,
    #[serde(default)]
    input_schema: Vec<Item>,
    #[serde(default)]
    output_schema: Vec<Item>,
    #[serde(default)]
    state_schema: Vec<Item>,
    #[serde(default)]
    user_defined_metadata: BTreeMap<String, String>,
    #[serde(default)]
    short_description: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    author: String,
    #[serde(default)]
    license: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Item {
    name: String,
    short_description: String,
    r#type: String,
    data_type: String,
    is_optional: String,
    /// `[1, 10]`
    shape: String,
    /// `[[1, 8], [3, 3]]`, the upper bound -1 where there is none.
    shape_range: String,
    /// `[[1, 10], [2, 10]]`
    enumerated_shapes: String,
    width: String,
    height: String,
    colorspace: String,
    key_type: String,
}

/// Reads the document's first object.
pub(super) fn read(text: &[u8]) -> Result<Found, String> {
    let documents: Vec<Document> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let document = documents.into_iter().next().ok_or("its array is empty")?;
    let interface = Interface {
        inputs: features(document.input_schema)?,
        outputs: features(document.output_schema)?,
        states: features(document.state_schema)?,
        ..Interface::default()
    };
    let metadata = Metadata {
        description: document.short_description,
        version: document.version,
        author: document.author,
        license: document.license,
        user_defined: document.user_defined_metadata,
    };
    let schema = Schema { interface, default_function: "main".to_owned(), metadata, ..Schema::default() };
    Ok(Found { spec_version: document.specification_version, schema })
}

fn features(items: Vec<Item>) -> Result<Vec<Feature>, String> {
    items.into_iter().map(feature).collect()
}

fn feature(item: Item) -> Result<Feature, String> {
    let kind = kind(&item).ok_or_else(|| format!("{} has a type that is not known", quote(&item.name)))?;
    Ok(Feature { kind, optional: item.is_optional == "1", name: item.name, description: item.short_description })
}

fn kind(item: &Item) -> Option<FeatureKind> {
    Some(match item.r#type.as_str() {
        "Int64" => FeatureKind::Int64,
        "Double" => FeatureKind::Double,
        "String" => FeatureKind::String,
        "Dictionary" if item.key_type == "Int64" => FeatureKind::Dictionary(KeyKind::Int64),
        "Dictionary" => FeatureKind::Dictionary(KeyKind::String),
        "MultiArray" => FeatureKind::MultiArray(array(item)?),
        "State" => FeatureKind::State(array(item)?),
        "Image" => FeatureKind::Image(ImageKind {
            width: item.width.parse().ok()?,
            height: item.height.parse().ok()?,
            color: match item.colorspace.as_str() {
                "Grayscale" => ColorSpace::Grayscale,
                "GrayscaleFloat16" => ColorSpace::GrayscaleFloat16,
                "BGR" => ColorSpace::Bgr,
                _ => ColorSpace::Rgb,
            },
            flexibility: ImageFlexibility::Fixed,
        }),
        _ => return None,
    })
}

fn array(item: &Item) -> Option<ArrayKind> {
    let dtype = match item.data_type.as_str() {
        "Float16" => ArrayType::Float16,
        "Float32" => ArrayType::Float32,
        "Double" | "Float64" => ArrayType::Float64,
        "Int32" => ArrayType::Int32,
        "Int8" => ArrayType::Int8,
        _ => return None,
    };
    let flexibility = match (item.enumerated_shapes.as_str(), item.shape_range.as_str()) {
        ("", "") => ShapeFlexibility::Fixed,
        ("", ranges) => {
            let ranges: Vec<(usize, i64)> = serde_json::from_str(ranges).ok()?;
            let range = |(lower, upper)| SizeRange { lower, upper: usize::try_from(upper).ok() };
            ShapeFlexibility::Ranges(ranges.into_iter().map(range).collect())
        }
        (shapes, _) => ShapeFlexibility::Enumerated(serde_json::from_str(shapes).ok()?),
    };
    let shape = if item.shape.is_empty() { Vec::new() } else { serde_json::from_str(&item.shape).ok()? };
    Some(ArrayKind { dtype, shape, flexibility, default: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        let text = format!(r#"[{{"specificationVersion": 7, "inputSchema": [{input}], "outputSchema": []}}]"#);
        let shown = match read(text.as_bytes()) {
            Ok(found) => format!("{:?}", found.schema.interface.inputs),
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn strings_are_read_as_what_they_say() {
        check(
            r#"{"name": "x", "type": "MultiArray", "dataType": "Float16", "shape": "[1, 10]", "isOptional": "1"}"#,
            "dtype: Float16, shape: [1, 10], flexibility: Fixed, default: None }), optional: true",
        );
        check(
            r#"{"name": "x", "type": "MultiArray", "dataType": "Int32", "shape": "[1]", "shapeRange": "[[1, -1]]"}"#,
            "Ranges([SizeRange { lower: 1, upper: None }])",
        );
        check(
            r#"{"name": "x", "type": "MultiArray", "dataType": "Int8", "shape": "[]", "enumeratedShapes": "[[1], [2]]"}"#,
            "Enumerated([[1], [2]])",
        );
        check(
            r#"{"name": "x", "type": "Image", "width": "4", "height": "5", "colorspace": "BGR"}"#,
            "width: 4, height: 5, color: Bgr",
        );
        check(r#"{"name": "x", "type": "Tensor"}"#, "\"x\" has a type that is not known");
        check(r#"{"name": 7}"#, "line 1");
    }
}
