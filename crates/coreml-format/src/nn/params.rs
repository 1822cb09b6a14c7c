//! What the kinds of layers are made of.

use super::{Layer, Weight};

/// A convolution or a deconvolution with `N` spatial dimensions.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct Convolution<const N: usize> {
    pub output_channels: u64,
    /// Input channels, of a group where this is no deconvolution.
    pub kernel_channels: u64,
    pub groups: u64,
    pub kernel_size: [u64; N],
    pub stride: [u64; N],
    pub dilation: [u64; N],
    pub padding: Padding<N>,
    pub is_deconvolution: bool,
    /// The spatial size of a deconvolution's output, where given.
    pub output_shape: Vec<u64>,
    /// Float32 without elements where the layer's second input brings the weights.
    pub weights: Weight,
    pub bias: Option<Weight>,
}

/// Padding of a convolution or a pooling with `N` spatial dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding<const N: usize> {
    /// Explicit amounts: begin and end of each dimension.
    Valid([[u64; 2]; N]),
    /// As many as keep the size; the odd one goes to the top left where `top_left`, else to the bottom right.
    Same {
        /// Where an odd one goes.
        top_left: bool,
    },
    /// Caffe's rule for pooling: the last window may stand over the edge. One amount for both ends of a dimension.
    IncludeLastPixel([u64; N]),
}

/// A pooling with `N` spatial dimensions.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct Pooling<const N: usize> {
    pub kind: PoolingKind,
    pub kernel_size: [u64; N],
    pub stride: [u64; N],
    pub padding: Padding<N>,
    pub average_excludes_padding: bool,
    /// Whether one window is the whole plane; then the sizes above are 1 and say nothing.
    pub global: bool,
}

/// The kind of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum PoolingKind {
    Max,
    Average,
    L2,
}

/// An element-wise activation.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub enum Activation {
    Linear { alpha: f32, beta: f32 },
    Relu,
    LeakyRelu { alpha: f32 },
    ThresholdedRelu { alpha: f32 },
    Prelu { alpha: Weight },
    Tanh,
    ScaledTanh { alpha: f32, beta: f32 },
    Sigmoid,
    SigmoidHard { alpha: f32, beta: f32 },
    Elu { alpha: f32 },
    Softsign,
    Softplus,
    ParametricSoftplus { alpha: Weight, beta: Weight },
}

/// Form of the Gaussian error linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum GeluMode {
    Exact,
    TanhApproximation,
    SigmoidApproximation,
}

/// A batch or instance normalisation.
#[derive(Clone, Debug)]
pub struct Batchnorm {
    /// The number of channels.
    pub channels: u64,
    /// What is added to the variance; the default stands here where the file has none.
    pub epsilon: f32,
    /// The factor of each channel.
    pub gamma: Weight,
    /// What is added to each channel.
    pub beta: Weight,
    /// Mean and variance of each channel.
    pub moments: Moments,
}

/// Where mean and variance come from.
#[derive(Clone, Debug)]
pub enum Moments {
    /// They are weights.
    Stored {
        /// The mean of each channel.
        mean: Weight,
        /// The variance of each channel.
        variance: Weight,
    },
    /// They are those of the whole batch.
    OfBatch,
    /// They are those of each instance.
    OfInstance,
}

/// How a padding fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PaddingMode {
    /// With this value.
    Constant(f32),
    /// With what the border reflects; the border itself is not repeated.
    Reflection,
    /// With the border.
    Replication,
}

/// A padding of any dimensions.
#[derive(Clone, Debug)]
pub struct ConstantPad {
    /// What it fills with.
    pub value: f32,
    /// Begin and end of each dimension; a second input may give them instead.
    pub amounts: Vec<u64>,
    /// Whether an amount above 0 is the size that the dimension gets.
    pub to_given_size: bool,
}

/// An upsampling of rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct Upsample {
    /// Factors of rows and columns.
    pub factors: [f32; 2],
    /// Where the result samples its input.
    pub sampling: Sampling,
}

/// Where an upsampling samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The nearest element.
    Nearest,
    /// Between elements, from the first one on.
    Linear,
    /// Between elements, from the first to the last one.
    AlignedCorners,
    /// Between elements, at the centres of pixels.
    PixelCentres,
}

/// Where points are taken from an interval, `SamplingMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is that of NeuralNetwork.proto")]
pub enum Grid {
    StrictAlignEndpoints,
    AlignEndpoints,
    Upsample,
    RoiAlign,
}

/// Regions that are cut out and resized.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct CropResize {
    pub target_size: [u64; 2],
    pub normalized_coordinates: bool,
    pub grid: Grid,
    pub boxes: BoxMode,
    pub spatial_scale: f32,
}

/// What the four coordinates of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxMode {
    /// Whether they are a centre and a size, and not two corners.
    pub centre_size: bool,
    /// Whether columns come before rows.
    pub width_first: bool,
}

/// A function of `scale * x + shift`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct UnaryFunction {
    pub operation: UnaryOperation,
    pub alpha: f32,
    pub epsilon: f32,
    pub shift: f32,
    pub scale: f32,
}

/// The function of a [`UnaryFunction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum UnaryOperation {
    Sqrt,
    Rsqrt,
    Inverse,
    Power,
    Exp,
    Log,
    Abs,
    Threshold,
}

/// A function of one operand without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Elementwise {
    Ceil,
    Floor,
    Sign,
    Round,
    Exp2,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    LogicalNot,
}

/// An operation on two operands that broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Operation {
    Equal,
    NotEqual,
    LessThan,
    LessEqual,
    GreaterThan,
    GreaterEqual,
    LogicalOr,
    LogicalXor,
    LogicalAnd,
    Mod,
    Min,
    Max,
    Add,
    Pow,
    Divide,
    FloorDiv,
    Multiply,
    Subtract,
}

/// What the layer `reduce` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum ReduceMode {
    Sum,
    Average,
    Product,
    LogSum,
    SumSquare,
    L1,
    L2,
    Max,
    Min,
    ArgMax,
}

/// What a reduction since specification 4 computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Reduction {
    L1,
    L2,
    Max,
    Min,
    Sum,
    Prod,
    Mean,
    LogSum,
    SumSquare,
    LogSumExp,
}

/// Where a layer's shape comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is that of the last input.
    Like,
    /// The layer has it.
    Static(Vec<u64>),
    /// The elements of the last input are it.
    Dynamic,
}

/// What random numbers are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub enum Distribution {
    Normal { mean: f32, std_dev: f32 },
    Uniform { min: f32, max: f32 },
    Bernoulli { prob: f32 },
}

/// How data moves between channels and planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Reorganization {
    SpaceToDepth,
    DepthToSpace,
    PixelShuffle,
}

/// How an update meets what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum ScatterMode {
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// A slice of any dimensions: one entry a dimension, or none where an input gives them.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct SliceNd {
    pub begin_ids: Vec<i64>,
    pub begin_masks: Vec<bool>,
    pub end_ids: Vec<i64>,
    pub end_masks: Vec<bool>,
    pub strides: Vec<i64>,
    pub squeeze_masks: Vec<bool>,
}

/// Suppression of boxes that overlap better ones.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields carry the names of NeuralNetwork.proto, which documents them")]
pub struct NonMaximumSuppression {
    pub iou_threshold: f32,
    pub score_threshold: f32,
    pub max_boxes: u64,
    pub per_class_suppression: bool,
}

/// A recurrent layer.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// The number of elements of an input.
    pub input_size: u64,
    /// The number of elements of a state.
    pub output_size: u64,
    /// That of the gates and, where the layer has them, of the candidate and of the output.
    pub activations: Vec<Activation>,
    /// Whether every step's output is given, and not the last one's alone.
    pub sequence_output: bool,
    /// Whether it runs from the last step to the first.
    pub reverse_input: bool,
    /// Whether 1 is added to the bias of the forget gate.
    pub forget_bias: bool,
    /// Whether what is forgotten is what is not taken in.
    pub coupled: bool,
    /// The largest size of an element of an LSTM's cell; 0 stands for 50.
    pub cell_clip: f32,
    /// The weights of each direction.
    pub directions: Vec<Gates>,
}

/// The weights of one direction, each list in the file's order of the gates: none for a simple layer; update, reset and
/// output; input, forget, block input and output.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// For the input: `output_size` rows.
    pub weights: Vec<Weight>,
    /// For the state before: `output_size` rows.
    pub recursions: Vec<Weight>,
    /// Empty where there are none.
    pub biases: Vec<Weight>,
    /// Of input, forget and output gate; empty where there are none.
    pub peepholes: Vec<Weight>,
}

/// A loop over layers.
#[derive(Clone, Debug, Default)]
pub struct Loop {
    /// The most iterations, unless an input says; 0 together with a condition is any number.
    pub max_iterations: u64,
    /// The layers that compute the condition, and the blob that has it.
    pub condition: Option<(Vec<Layer>, String)>,
    /// The layers that are repeated.
    pub body: Vec<Layer>,
}
