//! `Model.proto`, `FeatureTypes.proto` and what they share.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

/// `Model` without its type, which [`last_member`](super::last_member) finds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int32, tag = "1")]
    pub(crate) specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) description: Option<ModelDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(string, tag = "11")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "12")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "13")]
    pub(crate) state: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "20")]
    pub(crate) functions: Vec<FunctionDescription>,
    #[prost(string, tag = "21")]
    pub(crate) default_function_name: String,
    #[prost(message, optional, tag = "100")]
    pub(crate) metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunctionDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(string, tag = "4")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "5")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "6")]
    pub(crate) state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) short_description: String,
    #[prost(string, tag = "2")]
    pub(crate) version_string: String,
    #[prost(string, tag = "3")]
    pub(crate) author: String,
    #[prost(string, tag = "4")]
    pub(crate) license: String,
    #[prost(btree_map = "string, string", tag = "100")]
    pub(crate) user_defined: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) short_description: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) r#type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureType {
    #[prost(oneof = "FeatureKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(crate) kind: Option<FeatureKind>,
    #[prost(bool, tag = "1000")]
    pub(crate) is_optional: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum FeatureKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    Double(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
    #[prost(message, tag = "4")]
    Image(ImageFeatureType),
    #[prost(message, tag = "5")]
    MultiArray(ArrayFeatureType),
    #[prost(message, tag = "6")]
    Dictionary(DictionaryFeatureType),
    #[prost(message, tag = "7")]
    Sequence(SequenceFeatureType),
    #[prost(message, tag = "8")]
    State(StateFeatureType),
}

/// Any message whose presence says it all.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub(crate) lower_bound: u64,
    /// Negative where there is no limit.
    #[prost(int64, tag = "2")]
    pub(crate) upper_bound: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageFeatureType {
    #[prost(int64, tag = "1")]
    pub(crate) width: i64,
    #[prost(int64, tag = "2")]
    pub(crate) height: i64,
    #[prost(enumeration = "ColorSpace", tag = "3")]
    pub(crate) color_space: i32,
    #[prost(oneof = "SizeFlexibility", tags = "21, 31")]
    pub(crate) flexibility: Option<SizeFlexibility>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(crate) enum ColorSpace {
    Invalid = 0,
    Grayscale = 10,
    Rgb = 20,
    Bgr = 30,
    GrayscaleFloat16 = 40,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum SizeFlexibility {
    #[prost(message, tag = "21")]
    Enumerated(EnumeratedImageSizes),
    #[prost(message, tag = "31")]
    Range(ImageSizeRange),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnumeratedImageSizes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sizes: Vec<ImageSize>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSize {
    #[prost(uint64, tag = "1")]
    pub(crate) width: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) height: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSizeRange {
    #[prost(message, optional, tag = "1")]
    pub(crate) width_range: Option<SizeRange>,
    #[prost(message, optional, tag = "2")]
    pub(crate) height_range: Option<SizeRange>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayFeatureType {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
    #[prost(enumeration = "ArrayDataType", tag = "2")]
    pub(crate) data_type: i32,
    #[prost(oneof = "ShapeFlexibility", tags = "21, 31")]
    pub(crate) flexibility: Option<ShapeFlexibility>,
    #[prost(oneof = "DefaultValue", tags = "41, 51, 61")]
    pub(crate) default: Option<DefaultValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(crate) enum ArrayDataType {
    Invalid = 0,
    Float16 = 65552,
    Float32 = 65568,
    Double = 65600,
    Int8 = 131_080,
    Int32 = 131_104,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ShapeFlexibility {
    #[prost(message, tag = "21")]
    Enumerated(EnumeratedShapes),
    #[prost(message, tag = "31")]
    Range(ShapeRange),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum DefaultValue {
    #[prost(int32, tag = "41")]
    Int(i32),
    #[prost(float, tag = "51")]
    Float(f32),
    #[prost(double, tag = "61")]
    Double(f64),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) shapes: Vec<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub(crate) size_ranges: Vec<SizeRange>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryFeatureType {
    #[prost(oneof = "DictionaryKey", tags = "1, 2")]
    pub(crate) key: Option<DictionaryKey>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum DictionaryKey {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    String(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SequenceFeatureType {
    #[prost(oneof = "SequenceElement", tags = "1, 3")]
    pub(crate) element: Option<SequenceElement>,
    #[prost(message, optional, tag = "101")]
    pub(crate) size_range: Option<SizeRange>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum SequenceElement {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StateFeatureType {
    #[prost(message, optional, tag = "1")]
    pub(crate) array_type: Option<ArrayFeatureType>,
}

/// `PipelineClassifier` and `PipelineRegressor`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WrappedPipeline {
    #[prost(message, optional, tag = "1")]
    pub(crate) pipeline: Option<Pipeline>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pipeline {
    /// `Model` messages, left encoded.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) models: Vec<bytes::Bytes>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringVector {
    #[prost(string, repeated, tag = "1")]
    pub(crate) vector: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Int64Vector {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) vector: Vec<i64>,
}
