//! Messages of layers. Those of one shape and one numbering share a type here, whatever their names in the file.

use prost::{Message, Oneof};

use super::{BorderAmounts, NeuralNetwork, WeightParams};
use crate::pb::model::Empty;

/// One enum: `GeluLayerParams`, `FlattenLayerParams`, `GlobalPooling3DLayerParams`, `ScatterNDLayerParams`,
/// `SamplingMode`, `BoxCoordinatesMode`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Mode {
    #[prost(int32, tag = "1")]
    pub(crate) mode: i32,
}

/// One axis, or the diagonal of a triangle.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Axis {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
}

/// An axis and how values are joined: `ScatterLayerParams`, `ScatterAlongAxisLayerParams`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AxisMode {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
    #[prost(int32, tag = "2")]
    pub(crate) mode: i32,
}

/// An axis and a flag: `ConcatNDLayerParams`, `ArgMaxLayerParams`, `ArgMinLayerParams`, `ArgSortLayerParams`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AxisFlag {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
    #[prost(bool, tag = "2")]
    pub(crate) flag: bool,
}

/// Two whole numbers: `ReverseSeqLayerParams` (batch and sequence axis), `MatrixBandPartLayerParams` (lower, upper).
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(int64, tag = "1")]
    pub(crate) first: i64,
    #[prost(int64, tag = "2")]
    pub(crate) second: i64,
}

/// Sizes or axes with a sign: shapes that may hold -1, axes that may count from the end.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Signed {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) values: Vec<i64>,
}

/// Sizes or axes without a sign: `TransposeLayerParams`, `PermuteLayerParams`, `TileLayerParams`,
/// `BroadcastToStaticLayerParams`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Unsigned {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) values: Vec<u64>,
}

/// One number of things: `SplitLayerParams`, `SequenceRepeatLayerParams`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Many {
    #[prost(uint64, tag = "1")]
    pub(crate) count: u64,
}

/// One flag: `DotProductLayerParams`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Flag {
    #[prost(bool, tag = "1")]
    pub(crate) flag: bool,
}

/// The second operand of a comparison that has one input, but for `EqualLayerParams` and `NotEqualLayerParams`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SecondOperand {
    #[prost(float, tag = "2")]
    pub(crate) alpha: f32,
}

/// A shape and as many values: `LoadConstantNDLayerParams`, `LoadConstantLayerParams`, `BiasLayerParams`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shaped {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) shape: Vec<u64>,
    #[prost(message, optional, tag = "2")]
    pub(crate) data: Option<WeightParams>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Batchnorm {
    #[prost(uint64, tag = "1")]
    pub(crate) channels: u64,
    #[prost(bool, tag = "5")]
    pub(crate) compute_mean_var: bool,
    #[prost(bool, tag = "6")]
    pub(crate) instance_normalization: bool,
    #[prost(float, tag = "10")]
    pub(crate) epsilon: f32,
    #[prost(message, optional, tag = "15")]
    pub(crate) gamma: Option<WeightParams>,
    #[prost(message, optional, tag = "16")]
    pub(crate) beta: Option<WeightParams>,
    #[prost(message, optional, tag = "17")]
    pub(crate) mean: Option<WeightParams>,
    #[prost(message, optional, tag = "18")]
    pub(crate) variance: Option<WeightParams>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Lrn {
    #[prost(float, tag = "1")]
    pub(crate) alpha: f32,
    #[prost(float, tag = "2")]
    pub(crate) beta: f32,
    #[prost(uint64, tag = "3")]
    pub(crate) local_size: u64,
    #[prost(float, tag = "4")]
    pub(crate) k: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Crop {
    #[prost(message, optional, tag = "1")]
    pub(crate) crop_amounts: Option<BorderAmounts>,
    #[prost(uint64, repeated, tag = "5")]
    pub(crate) offset: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PaddingLayer {
    #[prost(oneof = "PaddingLayerKind", tags = "1, 2, 3")]
    pub(crate) kind: Option<PaddingLayerKind>,
    #[prost(message, optional, tag = "10")]
    pub(crate) padding_amounts: Option<BorderAmounts>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum PaddingLayerKind {
    /// The value stands where an activation has its alpha.
    #[prost(message, tag = "1")]
    Constant(super::Alpha),
    #[prost(message, tag = "2")]
    Reflection(Empty),
    #[prost(message, tag = "3")]
    Replication(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Upsample {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) scaling_factor: Vec<u64>,
    /// 0 nearest, 1 bilinear.
    #[prost(int32, tag = "5")]
    pub(crate) mode: i32,
    /// 0 default, 1 with aligned corners, 2 with pixel centres.
    #[prost(int32, tag = "6")]
    pub(crate) linear_upsample_mode: i32,
    #[prost(float, repeated, tag = "7")]
    pub(crate) fractional_scaling_factor: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResizeBilinear {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) target_size: Vec<u64>,
    #[prost(message, optional, tag = "2")]
    pub(crate) mode: Option<Mode>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CropResize {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) target_size: Vec<u64>,
    #[prost(bool, tag = "2")]
    pub(crate) normalized_coordinates: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) mode: Option<Mode>,
    #[prost(message, optional, tag = "4")]
    pub(crate) box_indices_mode: Option<Mode>,
    #[prost(float, tag = "5")]
    pub(crate) spatial_scale: f32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct UnaryFunction {
    #[prost(int32, tag = "1")]
    pub(crate) r#type: i32,
    #[prost(float, tag = "2")]
    pub(crate) alpha: f32,
    #[prost(float, tag = "3")]
    pub(crate) epsilon: f32,
    #[prost(float, tag = "4")]
    pub(crate) shift: f32,
    #[prost(float, tag = "5")]
    pub(crate) scale: f32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Reduce {
    #[prost(int32, tag = "1")]
    pub(crate) mode: i32,
    #[prost(float, tag = "2")]
    pub(crate) epsilon: f32,
    #[prost(int32, tag = "3")]
    pub(crate) axis: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reshape {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) target_shape: Vec<i64>,
    /// 0 channel first, 1 channel last.
    #[prost(int32, tag = "2")]
    pub(crate) mode: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Concat {
    #[prost(bool, tag = "100")]
    pub(crate) sequence_concat: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ReorganizeData {
    /// 0 space to depth, 1 depth to space, 2 pixel shuffle.
    #[prost(int32, tag = "1")]
    pub(crate) mode: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) block_size: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Slice {
    #[prost(int64, tag = "1")]
    pub(crate) start_index: i64,
    #[prost(int64, tag = "2")]
    pub(crate) end_index: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) stride: u64,
    /// 0 channels, 1 rows, 2 columns.
    #[prost(int32, tag = "4")]
    pub(crate) axis: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Custom {
    #[prost(string, tag = "10")]
    pub(crate) class_name: String,
    #[prost(message, repeated, tag = "20")]
    pub(crate) weights: Vec<WeightParams>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Branch {
    #[prost(message, optional, tag = "1")]
    pub(crate) if_branch: Option<NeuralNetwork>,
    #[prost(message, optional, tag = "2")]
    pub(crate) else_branch: Option<NeuralNetwork>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Loop {
    #[prost(uint64, tag = "1")]
    pub(crate) max_loop_iterations: u64,
    #[prost(string, tag = "2")]
    pub(crate) condition_var: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) condition_network: Option<NeuralNetwork>,
    #[prost(message, optional, tag = "4")]
    pub(crate) body_network: Option<NeuralNetwork>,
}

/// `RangeStaticLayerParams`, and `RangeDynamicLayerParams`, which has no end.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(float, tag = "1")]
    pub(crate) end_value: f32,
    #[prost(float, tag = "2")]
    pub(crate) start_value: f32,
    #[prost(float, tag = "3")]
    pub(crate) step_size_value: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reverse {
    #[prost(bool, repeated, tag = "1")]
    pub(crate) reverse_dim: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SplitNd {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) num_splits: u64,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) split_sizes: Vec<u64>,
}

/// `SliceStaticLayerParams`, and `SliceDynamicLayerParams`, whose begins are an input.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SliceNd {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) begin_ids: Vec<i64>,
    #[prost(bool, repeated, tag = "2")]
    pub(crate) begin_masks: Vec<bool>,
    #[prost(int64, repeated, tag = "3")]
    pub(crate) end_ids: Vec<i64>,
    #[prost(bool, repeated, tag = "4")]
    pub(crate) end_masks: Vec<bool>,
    #[prost(int64, repeated, tag = "5")]
    pub(crate) strides: Vec<i64>,
    #[prost(bool, repeated, tag = "6")]
    pub(crate) squeeze_masks: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SlidingWindows {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) window_size: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) step: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct TopK {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) k: u64,
    #[prost(bool, tag = "3")]
    pub(crate) use_bottom_k: bool,
}

/// `FillStaticLayerParams`, and `FillLikeLayerParams` and `FillDynamicLayerParams`, which have no shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Fill {
    #[prost(float, tag = "1")]
    pub(crate) value: f32,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) target_shape: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Squeeze {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) axes: Vec<i64>,
    #[prost(bool, tag = "2")]
    pub(crate) squeeze_all: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConstantPad {
    #[prost(float, tag = "1")]
    pub(crate) value: f32,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) pad_amounts: Vec<u64>,
    #[prost(bool, tag = "3")]
    pub(crate) pad_to_given_output_size_mode: bool,
}

/// The six layers of normal and of uniform numbers: mean and deviation, or least and greatest. Only the static ones
/// have a shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Random {
    #[prost(int64, tag = "1")]
    pub(crate) seed: i64,
    #[prost(float, tag = "2")]
    pub(crate) first: f32,
    #[prost(float, tag = "3")]
    pub(crate) second: f32,
    #[prost(uint64, repeated, tag = "4")]
    pub(crate) output_shape: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RandomBernoulli {
    #[prost(int64, tag = "1")]
    pub(crate) seed: i64,
    #[prost(float, tag = "2")]
    pub(crate) prob: f32,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) output_shape: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct CategoricalDistribution {
    #[prost(int64, tag = "1")]
    pub(crate) seed: i64,
    #[prost(int64, tag = "2")]
    pub(crate) num_samples: i64,
    #[prost(bool, tag = "3")]
    pub(crate) is_logits: bool,
    #[prost(float, tag = "4")]
    pub(crate) eps: f32,
    #[prost(float, tag = "5")]
    pub(crate) temperature: f32,
}

/// The ten reductions since specification 4.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReduceNd {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) axes: Vec<i64>,
    #[prost(bool, tag = "2")]
    pub(crate) keep_dims: bool,
    #[prost(bool, tag = "3")]
    pub(crate) reduce_all: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LayerNormalization {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) normalized_shape: Vec<i64>,
    #[prost(float, tag = "2")]
    pub(crate) eps: f32,
    #[prost(message, optional, tag = "3")]
    pub(crate) gamma: Option<WeightParams>,
    #[prost(message, optional, tag = "4")]
    pub(crate) beta: Option<WeightParams>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NonMaximumSuppression {
    #[prost(float, tag = "1")]
    pub(crate) iou_threshold: f32,
    #[prost(float, tag = "2")]
    pub(crate) score_threshold: f32,
    #[prost(uint64, tag = "3")]
    pub(crate) max_boxes: u64,
    #[prost(bool, tag = "4")]
    pub(crate) per_class_suppression: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct OneHot {
    #[prost(uint64, tag = "1")]
    pub(crate) one_hot_vector_size: u64,
    #[prost(int64, tag = "2")]
    pub(crate) axis: i64,
    #[prost(float, tag = "3")]
    pub(crate) on_value: f32,
    #[prost(float, tag = "4")]
    pub(crate) off_value: f32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct CumSum {
    #[prost(int64, tag = "1")]
    pub(crate) axis: i64,
    #[prost(bool, tag = "2")]
    pub(crate) exclude_final_sum: bool,
    #[prost(bool, tag = "3")]
    pub(crate) reverse: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SliceBySize {
    #[prost(int64, tag = "2")]
    pub(crate) size: i64,
    #[prost(int64, tag = "3")]
    pub(crate) axis: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Pooling3d {
    #[prost(int32, tag = "1")]
    pub(crate) r#type: i32,
    #[prost(int32, tag = "2")]
    pub(crate) kernel_depth: i32,
    #[prost(int32, tag = "3")]
    pub(crate) kernel_height: i32,
    #[prost(int32, tag = "4")]
    pub(crate) kernel_width: i32,
    #[prost(int32, tag = "5")]
    pub(crate) stride_depth: i32,
    #[prost(int32, tag = "6")]
    pub(crate) stride_height: i32,
    #[prost(int32, tag = "7")]
    pub(crate) stride_width: i32,
    #[prost(int32, tag = "8")]
    pub(crate) custom_padding_front: i32,
    #[prost(int32, tag = "9")]
    pub(crate) custom_padding_back: i32,
    #[prost(int32, tag = "10")]
    pub(crate) custom_padding_top: i32,
    #[prost(int32, tag = "11")]
    pub(crate) custom_padding_bottom: i32,
    #[prost(int32, tag = "12")]
    pub(crate) custom_padding_left: i32,
    #[prost(int32, tag = "13")]
    pub(crate) custom_padding_right: i32,
    #[prost(bool, tag = "14")]
    pub(crate) count_exclude_padding: bool,
    /// 0 custom, 1 valid, 2 same.
    #[prost(int32, tag = "15")]
    pub(crate) padding_type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Convolution3d {
    #[prost(int32, tag = "1")]
    pub(crate) output_channels: i32,
    #[prost(int32, tag = "2")]
    pub(crate) input_channels: i32,
    #[prost(int32, tag = "10")]
    pub(crate) n_groups: i32,
    #[prost(int32, tag = "20")]
    pub(crate) kernel_depth: i32,
    #[prost(int32, tag = "21")]
    pub(crate) kernel_height: i32,
    #[prost(int32, tag = "22")]
    pub(crate) kernel_width: i32,
    #[prost(int32, tag = "31")]
    pub(crate) stride_depth: i32,
    #[prost(int32, tag = "32")]
    pub(crate) stride_height: i32,
    #[prost(int32, tag = "33")]
    pub(crate) stride_width: i32,
    #[prost(int32, tag = "40")]
    pub(crate) dilation_depth: i32,
    #[prost(int32, tag = "41")]
    pub(crate) dilation_height: i32,
    #[prost(int32, tag = "42")]
    pub(crate) dilation_width: i32,
    #[prost(bool, tag = "50")]
    pub(crate) has_bias: bool,
    #[prost(message, optional, tag = "60")]
    pub(crate) weights: Option<WeightParams>,
    #[prost(message, optional, tag = "61")]
    pub(crate) bias: Option<WeightParams>,
    /// 0 custom, 1 valid, 2 same.
    #[prost(int32, tag = "70")]
    pub(crate) padding_type: i32,
    #[prost(int32, tag = "80")]
    pub(crate) custom_padding_front: i32,
    #[prost(int32, tag = "81")]
    pub(crate) custom_padding_back: i32,
    #[prost(int32, tag = "82")]
    pub(crate) custom_padding_top: i32,
    #[prost(int32, tag = "83")]
    pub(crate) custom_padding_bottom: i32,
    #[prost(int32, tag = "84")]
    pub(crate) custom_padding_left: i32,
    #[prost(int32, tag = "85")]
    pub(crate) custom_padding_right: i32,
    #[prost(bool, tag = "86")]
    pub(crate) is_deconvolution: bool,
    #[prost(uint64, repeated, tag = "87")]
    pub(crate) output_shape: Vec<u64>,
}
