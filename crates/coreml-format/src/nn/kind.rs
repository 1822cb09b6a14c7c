//! What a layer does.

use super::{
    Activation, Batchnorm, BoxMode, ConstantPad, Convolution, CropResize, Distribution, Elementwise, GeluMode, Grid,
    Loop, NonMaximumSuppression, Operation, PaddingMode, Pooling, Recurrent, ReduceMode, Reduction, Reorganization,
    ScatterMode, Shape, SliceNd, UnaryFunction, Upsample, Weight,
};
use crate::nn::Layer;

/// What a layer does. Layers that differ in one thing share a variant that says which: the ten reductions, the twelve
/// operations of two operands.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub enum LayerKind {
    Convolution(Convolution<2>),
    Convolution3d(Convolution<3>),
    Pooling(Pooling<2>),
    Pooling3d(Pooling<3>),
    GlobalPooling3d(Pooling<3>),
    Activation(Activation),
    ClampedRelu {
        alpha: f32,
        beta: f32,
    },
    Gelu {
        mode: GeluMode,
    },
    InnerProduct {
        input_channels: u64,
        output_channels: u64,
        weights: Weight,
        bias: Option<Weight>,
        int8_dynamic: bool,
    },
    Embedding {
        input_dim: u64,
        output_channels: u64,
        /// Stored as `output_channels` rows of `input_dim` elements.
        weights: Weight,
        bias: Option<Weight>,
    },
    EmbeddingNd {
        vocabulary: u64,
        size: u64,
        /// Stored as `size` rows of `vocabulary` elements.
        weights: Weight,
        bias: Option<Weight>,
    },
    BatchedMatmul {
        transpose_a: bool,
        transpose_b: bool,
        /// Rows, columns and elements of the second matrix where it is a constant. Its elements are stored column
        /// by column.
        weights: Option<(u64, u64, Weight)>,
        bias: Option<Weight>,
        int8_dynamic: bool,
    },
    Dot {
        cosine_similarity: bool,
    },

    Batchnorm(Batchnorm),
    Mvn {
        across_channels: bool,
        normalize_variance: bool,
        epsilon: f32,
    },
    L2Normalize {
        epsilon: f32,
    },
    Lrn {
        alpha: f32,
        beta: f32,
        local_size: u64,
        k: f32,
    },
    LayerNormalization {
        normalized_shape: Vec<i64>,
        epsilon: f32,
        gamma: Weight,
        beta: Weight,
    },
    Softmax,
    SoftmaxNd {
        axis: i64,
    },

    Crop {
        /// Top, bottom, left, right; for one input.
        amounts: [u64; 4],
        /// Rows and columns; for two inputs.
        offset: [u64; 2],
    },
    Padding {
        mode: PaddingMode,
        /// Top, bottom, left, right.
        amounts: [u64; 4],
    },
    ConstantPad(ConstantPad),
    Upsample(Upsample),
    ResizeBilinear {
        target_size: [u64; 2],
        grid: Grid,
    },
    CropResize(CropResize),

    /// The layer `unary`.
    Unary(UnaryFunction),
    /// A function without parameters, which is a layer of its own.
    Elementwise(Elementwise),
    Clip {
        min: f32,
        max: f32,
    },
    Add {
        alpha: f32,
    },
    Multiply {
        alpha: f32,
    },
    Average,
    Max,
    Min,
    /// An operation on two inputs that broadcast; a comparison with one input takes `alpha` as the other.
    Operation {
        operation: Operation,
        alpha: f32,
    },
    WhereBroadcastable,
    Scale {
        shape_scale: Vec<u64>,
        scale: Weight,
        has_bias: bool,
        shape_bias: Vec<u64>,
        bias: Option<Weight>,
    },
    Bias {
        shape: Vec<u64>,
        bias: Weight,
    },

    /// The layer `reduce`.
    Reduce {
        mode: ReduceMode,
        epsilon: f32,
        /// How many axes go, and how many of the last ones stay: (3, 0) for CHW, (1, 1) for H.
        axes: (usize, usize),
    },
    /// The reductions since specification 4; all axes where there are none.
    ReduceNd {
        reduction: Reduction,
        axes: Option<Vec<i64>>,
        keep_dims: bool,
    },
    ArgMax {
        axis: i64,
        remove_dim: bool,
    },
    ArgMin {
        axis: i64,
        remove_dim: bool,
    },
    ArgSort {
        axis: i64,
        descending: bool,
    },
    TopK {
        axis: i64,
        k: u64,
        use_bottom_k: bool,
    },
    CumSum {
        axis: i64,
        exclude_final_sum: bool,
        reverse: bool,
    },

    LoadConstant {
        /// Channels, rows, columns.
        shape: [u64; 3],
        data: Weight,
    },
    LoadConstantNd {
        shape: Vec<u64>,
        data: Weight,
    },
    Fill {
        value: f32,
        shape: Shape,
    },
    RangeStatic {
        start: f32,
        end: f32,
        step: f32,
    },
    RangeDynamic {
        start: f32,
        step: f32,
    },
    Random {
        distribution: Distribution,
        seed: i64,
        shape: Shape,
    },
    CategoricalDistribution {
        seed: i64,
        num_samples: i64,
        is_logits: bool,
        epsilon: f32,
        temperature: f32,
    },
    OneHot {
        one_hot_vector_size: u64,
        axis: i64,
        on_value: f32,
        off_value: f32,
    },

    Reshape {
        target_shape: Vec<i64>,
        channel_last: bool,
    },
    ReshapeStatic {
        target_shape: Vec<i64>,
    },
    ReshapeDynamic,
    ReshapeLike,
    RankPreservingReshape {
        target_shape: Vec<i64>,
    },
    Flatten {
        channel_last: bool,
    },
    FlattenTo2d {
        axis: i64,
    },
    Squeeze {
        /// All axes of size 1 where there are none.
        axes: Option<Vec<i64>>,
    },
    ExpandDims {
        axes: Vec<i64>,
    },
    Permute {
        axis: Vec<u64>,
    },
    Transpose {
        axes: Vec<u64>,
    },
    BroadcastTo(Shape),
    GetShape,
    ReorganizeData {
        mode: Reorganization,
        block_size: u64,
    },

    Concat {
        sequence_concat: bool,
    },
    ConcatNd {
        axis: i64,
        interleave: bool,
    },
    Stack {
        axis: i64,
    },
    Split {
        outputs: u64,
    },
    SplitNd {
        axis: i64,
        num_splits: u64,
        split_sizes: Vec<u64>,
    },
    Slice {
        start: i64,
        end: i64,
        stride: u64,
        /// The axis, counted from the last one: -3, -2 or -1.
        axis: i64,
    },
    SliceStatic(SliceNd),
    /// Begins are the second input; others are inputs too where there are as many.
    SliceDynamic(SliceNd),
    SliceBySize {
        size: i64,
        axis: i64,
    },
    SlidingWindows {
        axis: i64,
        window_size: u64,
        step: u64,
    },
    Tile {
        reps: Vec<u64>,
    },
    SequenceRepeat {
        repetitions: u64,
    },
    Reverse {
        reverse_dim: Vec<bool>,
    },
    ReverseSeq {
        batch_axis: i64,
        sequence_axis: i64,
    },
    Gather {
        axis: i64,
    },
    GatherNd,
    GatherAlongAxis {
        axis: i64,
    },
    Scatter {
        axis: i64,
        mode: ScatterMode,
    },
    ScatterNd {
        mode: ScatterMode,
    },
    ScatterAlongAxis {
        axis: i64,
        mode: ScatterMode,
    },
    WhereNonZero,
    MatrixBandPart {
        lower: i64,
        upper: i64,
    },
    LowerTriangular {
        k: i64,
    },
    UpperTriangular {
        k: i64,
    },
    NonMaximumSuppression(NonMaximumSuppression),

    SimpleRecurrent(Recurrent),
    Gru(Recurrent),
    UniDirectionalLstm(Recurrent),
    BiDirectionalLstm(Recurrent),

    Copy,
    Branch {
        if_branch: Vec<Layer>,
        else_branch: Vec<Layer>,
    },
    Loop(Loop),
    LoopBreak,
    LoopContinue,
    /// A layer whose code is in the app that the model belongs to.
    Custom {
        class_name: String,
        weights: Vec<Weight>,
    },
}

impl Shape {
    /// The name of a layer that gets its shape in this way.
    pub(super) fn of(&self, like: &'static str, fixed: &'static str, dynamic: &'static str) -> &'static str {
        match self {
            Shape::Like => like,
            Shape::Static(_) => fixed,
            Shape::Dynamic => dynamic,
        }
    }
}

impl BoxMode {
    /// Where centre or begin, and size or end, of rows and columns stand among the four coordinates: rows' two, then
    /// columns' two.
    pub fn places(self) -> [usize; 4] {
        if self.width_first { [1, 3, 0, 2] } else { [0, 2, 1, 3] }
    }
}
