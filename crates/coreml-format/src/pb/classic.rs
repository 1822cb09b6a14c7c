//! The messages of the classic models: linear models, trees, neighbours, transformers and pipelines of them.
//!
//! What there may be millions of (nodes, samples, support vectors, items) is left encoded, and read one by one.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::{
    model::{Int64Vector, StringVector},
    nn::Labels,
};

/// Every message whose field 1 is a list of doubles: `DoubleVector`, `DoubleArray`, `DenseVector`, `Coefficients`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Doubles {
    #[prost(double, repeated, tag = "1")]
    pub(crate) values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FloatVector {
    #[prost(float, repeated, tag = "1")]
    pub(crate) vector: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GlmRegressor {
    #[prost(message, repeated, tag = "1")]
    pub(crate) weights: Vec<Doubles>,
    #[prost(double, repeated, tag = "2")]
    pub(crate) offset: Vec<f64>,
    #[prost(int32, tag = "3")]
    pub(crate) post_evaluation_transform: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GlmClassifier {
    #[prost(message, repeated, tag = "1")]
    pub(crate) weights: Vec<Doubles>,
    #[prost(double, repeated, tag = "2")]
    pub(crate) offset: Vec<f64>,
    #[prost(int32, tag = "3")]
    pub(crate) post_evaluation_transform: i32,
    #[prost(int32, tag = "4")]
    pub(crate) class_encoding: i32,
    #[prost(oneof = "Labels", tags = "100, 101")]
    pub(crate) labels: Option<Labels>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Kernel {
    #[prost(oneof = "KernelKind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<KernelKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum KernelKind {
    #[prost(message, tag = "1")]
    Linear(super::model::Empty),
    #[prost(message, tag = "2")]
    Rbf(RbfKernel),
    #[prost(message, tag = "3")]
    Poly(PolyKernel),
    #[prost(message, tag = "4")]
    Sigmoid(SigmoidKernel),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RbfKernel {
    #[prost(double, tag = "1")]
    pub(crate) gamma: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PolyKernel {
    #[prost(int32, tag = "1")]
    pub(crate) degree: i32,
    #[prost(double, tag = "2")]
    pub(crate) c: f64,
    #[prost(double, tag = "3")]
    pub(crate) gamma: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SigmoidKernel {
    #[prost(double, tag = "1")]
    pub(crate) gamma: f64,
    #[prost(double, tag = "2")]
    pub(crate) c: f64,
}

/// `SparseSupportVectors` and `DenseSupportVectors` hold encoded `SparseVector` and `DenseVector` messages as field 1.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SupportVectorRegressor {
    #[prost(message, optional, tag = "1")]
    pub(crate) kernel: Option<Kernel>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) sparse: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) dense: Option<Bytes>,
    #[prost(message, optional, tag = "4")]
    pub(crate) coefficients: Option<Doubles>,
    #[prost(double, tag = "5")]
    pub(crate) rho: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SupportVectorClassifier {
    #[prost(message, optional, tag = "1")]
    pub(crate) kernel: Option<Kernel>,
    #[prost(int32, repeated, tag = "2")]
    pub(crate) number_of_support_vectors_per_class: Vec<i32>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) sparse: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) dense: Option<Bytes>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) coefficients: Vec<Doubles>,
    #[prost(double, repeated, tag = "6")]
    pub(crate) rho: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub(crate) prob_a: Vec<f64>,
    #[prost(double, repeated, tag = "8")]
    pub(crate) prob_b: Vec<f64>,
    #[prost(oneof = "Labels", tags = "100, 101")]
    pub(crate) labels: Option<Labels>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SparseVector {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<SparseNode>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SparseNode {
    #[prost(int32, tag = "1")]
    pub(crate) index: i32,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
}

/// `TreeEnsembleRegressor` and `TreeEnsembleClassifier`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TreeEnsemble {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) parameters: Bytes,
    #[prost(int32, tag = "2")]
    pub(crate) post_evaluation_transform: i32,
    #[prost(oneof = "Labels", tags = "100, 101")]
    pub(crate) labels: Option<Labels>,
}

/// `TreeEnsembleParameters` without its nodes, which are field 1.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TreeParameters {
    #[prost(uint64, tag = "2")]
    pub(crate) num_prediction_dimensions: u64,
    #[prost(double, repeated, tag = "3")]
    pub(crate) base_prediction_value: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TreeNode {
    #[prost(uint64, tag = "1")]
    pub(crate) tree_id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node_id: u64,
    #[prost(int32, tag = "3")]
    pub(crate) node_behavior: i32,
    #[prost(uint64, tag = "10")]
    pub(crate) branch_feature_index: u64,
    #[prost(double, tag = "11")]
    pub(crate) branch_feature_value: f64,
    #[prost(uint64, tag = "12")]
    pub(crate) true_child_node_id: u64,
    #[prost(uint64, tag = "13")]
    pub(crate) false_child_node_id: u64,
    #[prost(bool, tag = "14")]
    pub(crate) missing_value_tracks_true_child: bool,
    #[prost(message, repeated, tag = "20")]
    pub(crate) evaluation_info: Vec<EvaluationInfo>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct EvaluationInfo {
    #[prost(uint64, tag = "1")]
    pub(crate) evaluation_index: u64,
    #[prost(double, tag = "2")]
    pub(crate) evaluation_value: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KNearestNeighborsClassifier {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) nearest_neighbors_index: Bytes,
    #[prost(message, optional, tag = "3")]
    pub(crate) number_of_neighbors: Option<Int64Parameter>,
    #[prost(oneof = "Labels", tags = "100, 101")]
    pub(crate) labels: Option<Labels>,
    #[prost(oneof = "DefaultLabel", tags = "110, 111")]
    pub(crate) default_label: Option<DefaultLabel>,
    #[prost(oneof = "Weighting", tags = "200, 210")]
    pub(crate) weighting: Option<Weighting>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum DefaultLabel {
    #[prost(string, tag = "110")]
    String(String),
    #[prost(int64, tag = "111")]
    Int64(i64),
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Weighting {
    #[prost(message, tag = "200")]
    Uniform(super::model::Empty),
    #[prost(message, tag = "210")]
    InverseDistance(super::model::Empty),
}

/// `NearestNeighborsIndex` without its samples, `FloatVector` messages in field 2.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NearestNeighborsIndex {
    #[prost(int32, tag = "1")]
    pub(crate) number_of_dimensions: i32,
    #[prost(oneof = "IndexType", tags = "100, 110")]
    pub(crate) index_type: Option<IndexType>,
    #[prost(message, optional, tag = "200")]
    pub(crate) squared_euclidean_distance: Option<super::model::Empty>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum IndexType {
    #[prost(message, tag = "100")]
    Linear(super::model::Empty),
    #[prost(message, tag = "110")]
    SingleKdTree(SingleKdTreeIndex),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SingleKdTreeIndex {
    #[prost(int32, tag = "1")]
    pub(crate) leaf_size: i32,
}

/// Without what values are allowed, which matters where a model is updated.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Int64Parameter {
    #[prost(int64, tag = "1")]
    pub(crate) default_value: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringParameter {
    #[prost(string, tag = "1")]
    pub(crate) default_value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OneHotEncoder {
    #[prost(oneof = "Keys", tags = "1, 2")]
    pub(crate) categories: Option<Keys>,
    #[prost(bool, tag = "10")]
    pub(crate) output_sparse: bool,
    #[prost(int32, tag = "11")]
    pub(crate) handle_unknown: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictVectorizer {
    #[prost(oneof = "Keys", tags = "1, 2")]
    pub(crate) map: Option<Keys>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Keys {
    #[prost(message, tag = "1")]
    Strings(StringVector),
    #[prost(message, tag = "2")]
    Int64s(Int64Vector),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Imputer {
    #[prost(oneof = "Imputed", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) imputed: Option<Imputed>,
    #[prost(oneof = "Replaced", tags = "11, 12, 13")]
    pub(crate) replaced: Option<Replaced>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Imputed {
    #[prost(double, tag = "1")]
    Double(f64),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(message, tag = "4")]
    Doubles(Doubles),
    #[prost(message, tag = "5")]
    Int64s(Int64Vector),
    #[prost(message, tag = "6")]
    StringDictionary(StringToDoubleMap),
    #[prost(message, tag = "7")]
    Int64Dictionary(Int64ToDoubleMap),
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Replaced {
    #[prost(double, tag = "11")]
    Double(f64),
    #[prost(int64, tag = "12")]
    Int64(i64),
    #[prost(string, tag = "13")]
    String(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringToDoubleMap {
    #[prost(btree_map = "string, double", tag = "1")]
    pub(crate) map: std::collections::BTreeMap<String, f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Int64ToDoubleMap {
    #[prost(btree_map = "int64, double", tag = "1")]
    pub(crate) map: std::collections::BTreeMap<i64, f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringToInt64Map {
    #[prost(btree_map = "string, int64", tag = "1")]
    pub(crate) map: std::collections::BTreeMap<String, i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Int64ToStringMap {
    #[prost(btree_map = "int64, string", tag = "1")]
    pub(crate) map: std::collections::BTreeMap<i64, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureVectorizer {
    #[prost(message, repeated, tag = "1")]
    pub(crate) input_list: Vec<InputColumn>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InputColumn {
    #[prost(string, tag = "1")]
    pub(crate) input_column: String,
    #[prost(uint64, tag = "2")]
    pub(crate) input_dimensions: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scaler {
    #[prost(double, repeated, tag = "1")]
    pub(crate) shift_value: Vec<f64>,
    #[prost(double, repeated, tag = "2")]
    pub(crate) scale_value: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Normalizer {
    #[prost(int32, tag = "1")]
    pub(crate) norm_type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayFeatureExtractor {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) extract_index: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CategoricalMapping {
    #[prost(oneof = "Mapping", tags = "1, 2")]
    pub(crate) mapping: Option<Mapping>,
    #[prost(oneof = "ValueOnUnknown", tags = "101, 102")]
    pub(crate) value_on_unknown: Option<ValueOnUnknown>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Mapping {
    #[prost(message, tag = "1")]
    StringToInt64(StringToInt64Map),
    #[prost(message, tag = "2")]
    Int64ToString(Int64ToStringMap),
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ValueOnUnknown {
    #[prost(string, tag = "101")]
    String(String),
    #[prost(int64, tag = "102")]
    Int64(i64),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NonMaximumSuppression {
    #[prost(message, optional, tag = "1")]
    pub(crate) pick_top: Option<PickTop>,
    #[prost(oneof = "Labels", tags = "100, 101")]
    pub(crate) labels: Option<Labels>,
    #[prost(double, tag = "110")]
    pub(crate) iou_threshold: f64,
    #[prost(double, tag = "111")]
    pub(crate) confidence_threshold: f64,
    #[prost(string, tag = "200")]
    pub(crate) confidence_input: String,
    #[prost(string, tag = "201")]
    pub(crate) coordinates_input: String,
    #[prost(string, tag = "202")]
    pub(crate) iou_threshold_input: String,
    #[prost(string, tag = "203")]
    pub(crate) confidence_threshold_input: String,
    #[prost(string, tag = "210")]
    pub(crate) confidence_output: String,
    #[prost(string, tag = "211")]
    pub(crate) coordinates_output: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PickTop {
    #[prost(bool, tag = "1")]
    pub(crate) per_class: bool,
}

/// `ItemSimilarityRecommender` without its similarities, `SimilarItems` messages in field 1.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ItemSimilarityRecommender {
    #[prost(message, optional, tag = "2")]
    pub(crate) string_ids: Option<StringVector>,
    #[prost(message, optional, tag = "3")]
    pub(crate) int64_ids: Option<Int64Vector>,
    #[prost(string, tag = "10")]
    pub(crate) item_input: String,
    #[prost(string, tag = "11")]
    pub(crate) num_recommendations_input: String,
    #[prost(string, tag = "12")]
    pub(crate) restriction_input: String,
    #[prost(string, tag = "13")]
    pub(crate) exclusion_input: String,
    #[prost(string, tag = "20")]
    pub(crate) item_list_output: String,
    #[prost(string, tag = "21")]
    pub(crate) item_score_output: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SimilarItems {
    #[prost(uint64, tag = "1")]
    pub(crate) item_id: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) similar: Vec<ConnectedItem>,
    #[prost(double, tag = "3")]
    pub(crate) score_adjustment: f64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ConnectedItem {
    #[prost(uint64, tag = "1")]
    pub(crate) item_id: u64,
    #[prost(double, tag = "2")]
    pub(crate) score: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinkedModel {
    #[prost(message, optional, tag = "1")]
    pub(crate) file: Option<LinkedModelFile>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinkedModelFile {
    #[prost(message, optional, tag = "1")]
    pub(crate) name: Option<StringParameter>,
    #[prost(message, optional, tag = "2")]
    pub(crate) search_path: Option<StringParameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SerializedModel {
    #[prost(string, tag = "1")]
    pub(crate) identifier: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) model: Bytes,
}
