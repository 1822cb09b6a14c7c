//! Names of the layers, and their field numbers in `NeuralNetworkLayer`.

use super::{
    Activation, Distribution, Elementwise, Gates, Layer, LayerKind, Moments, Operation, Recurrent, Reduction, Weight,
};

impl LayerKind {
    /// The name in `NeuralNetwork.proto`: `convolution`, `softmaxND`.
    #[rustfmt::skip]
    pub fn name(&self) -> &'static str {
        match self {
            LayerKind::Convolution(_) => "convolution",
            LayerKind::Convolution3d(_) => "convolution3d",
            LayerKind::Pooling(_) => "pooling",
            LayerKind::Pooling3d(_) => "pooling3d",
            LayerKind::GlobalPooling3d(_) => "globalPooling3d",
            LayerKind::Activation(_) => "activation",
            LayerKind::ClampedRelu { .. } => "clampedReLU",
            LayerKind::Gelu { .. } => "gelu",
            LayerKind::InnerProduct { .. } => "innerProduct",
            LayerKind::Embedding { .. } => "embedding",
            LayerKind::EmbeddingNd { .. } => "embeddingND",
            LayerKind::BatchedMatmul { .. } => "batchedMatmul",
            LayerKind::Dot { .. } => "dot",
            LayerKind::Batchnorm(_) => "batchnorm",
            LayerKind::Mvn { .. } => "mvn",
            LayerKind::L2Normalize { .. } => "l2normalize",
            LayerKind::Lrn { .. } => "lrn",
            LayerKind::LayerNormalization { .. } => "layerNormalization",
            LayerKind::Softmax => "softmax",
            LayerKind::SoftmaxNd { .. } => "softmaxND",
            LayerKind::Crop { .. } => "crop",
            LayerKind::Padding { .. } => "padding",
            LayerKind::ConstantPad(_) => "constantPad",
            LayerKind::Upsample(_) => "upsample",
            LayerKind::ResizeBilinear { .. } => "resizeBilinear",
            LayerKind::CropResize(_) => "cropResize",
            LayerKind::Unary(_) => "unary",
            LayerKind::Elementwise(function) => function.name(),
            LayerKind::Clip { .. } => "clip",
            LayerKind::Add { .. } => "add",
            LayerKind::Multiply { .. } => "multiply",
            LayerKind::Average => "average",
            LayerKind::Max => "max",
            LayerKind::Min => "min",
            LayerKind::Operation { operation, .. } => operation.name(),
            LayerKind::WhereBroadcastable => "whereBroadcastable",
            LayerKind::Scale { .. } => "scale",
            LayerKind::Bias { .. } => "bias",
            LayerKind::Reduce { .. } => "reduce",
            LayerKind::ReduceNd { reduction, .. } => reduction.name(),
            LayerKind::ArgMax { .. } => "argMax",
            LayerKind::ArgMin { .. } => "argMin",
            LayerKind::ArgSort { .. } => "argSort",
            LayerKind::TopK { .. } => "topK",
            LayerKind::CumSum { .. } => "cumSum",
            LayerKind::LoadConstant { .. } => "loadConstant",
            LayerKind::LoadConstantNd { .. } => "loadConstantND",
            LayerKind::Fill { shape, .. } => shape.of("fillLike", "fillStatic", "fillDynamic"),
            LayerKind::RangeStatic { .. } => "rangeStatic",
            LayerKind::RangeDynamic { .. } => "rangeDynamic",
            LayerKind::Random { distribution: Distribution::Normal { .. }, shape, .. } => {
                shape.of("randomNormalLike", "randomNormalStatic", "randomNormalDynamic")
            }
            LayerKind::Random { distribution: Distribution::Uniform { .. }, shape, .. } => {
                shape.of("randomUniformLike", "randomUniformStatic", "randomUniformDynamic")
            }
            LayerKind::Random { distribution: Distribution::Bernoulli { .. }, shape, .. } => {
                shape.of("randomBernoulliLike", "randomBernoulliStatic", "randomBernoulliDynamic")
            }
            LayerKind::CategoricalDistribution { .. } => "categoricalDistribution",
            LayerKind::OneHot { .. } => "oneHot",
            LayerKind::Reshape { .. } => "reshape",
            LayerKind::ReshapeStatic { .. } => "reshapeStatic",
            LayerKind::ReshapeDynamic => "reshapeDynamic",
            LayerKind::ReshapeLike => "reshapeLike",
            LayerKind::RankPreservingReshape { .. } => "rankPreservingReshape",
            LayerKind::Flatten { .. } => "flatten",
            LayerKind::FlattenTo2d { .. } => "flattenTo2D",
            LayerKind::Squeeze { .. } => "squeeze",
            LayerKind::ExpandDims { .. } => "expandDims",
            LayerKind::Permute { .. } => "permute",
            LayerKind::Transpose { .. } => "transpose",
            LayerKind::BroadcastTo(shape) => shape.of("broadcastToLike", "broadcastToStatic", "broadcastToDynamic"),
            LayerKind::GetShape => "getShape",
            LayerKind::ReorganizeData { .. } => "reorganizeData",
            LayerKind::Concat { .. } => "concat",
            LayerKind::ConcatNd { .. } => "concatND",
            LayerKind::Stack { .. } => "stack",
            LayerKind::Split { .. } => "split",
            LayerKind::SplitNd { .. } => "splitND",
            LayerKind::Slice { .. } => "slice",
            LayerKind::SliceStatic(_) => "sliceStatic",
            LayerKind::SliceDynamic(_) => "sliceDynamic",
            LayerKind::SliceBySize { .. } => "sliceBySize",
            LayerKind::SlidingWindows { .. } => "slidingWindows",
            LayerKind::Tile { .. } => "tile",
            LayerKind::SequenceRepeat { .. } => "sequenceRepeat",
            LayerKind::Reverse { .. } => "reverse",
            LayerKind::ReverseSeq { .. } => "reverseSeq",
            LayerKind::Gather { .. } => "gather",
            LayerKind::GatherNd => "gatherND",
            LayerKind::GatherAlongAxis { .. } => "gatherAlongAxis",
            LayerKind::Scatter { .. } => "scatter",
            LayerKind::ScatterNd { .. } => "scatterND",
            LayerKind::ScatterAlongAxis { .. } => "scatterAlongAxis",
            LayerKind::WhereNonZero => "whereNonZero",
            LayerKind::MatrixBandPart { .. } => "matrixBandPart",
            LayerKind::LowerTriangular { .. } => "lowerTriangular",
            LayerKind::UpperTriangular { .. } => "upperTriangular",
            LayerKind::NonMaximumSuppression(_) => "NonMaximumSuppression",
            LayerKind::SimpleRecurrent(_) => "simpleRecurrent",
            LayerKind::Gru(_) => "gru",
            LayerKind::UniDirectionalLstm(_) => "uniDirectionalLSTM",
            LayerKind::BiDirectionalLstm(_) => "biDirectionalLSTM",
            LayerKind::Copy => "copy",
            LayerKind::Branch { .. } => "branch",
            LayerKind::Loop(_) => "loop",
            LayerKind::LoopBreak => "loopBreak",
            LayerKind::LoopContinue => "loopContinue",
            LayerKind::Custom { .. } => "custom",
        }
    }

    /// The layers of its branches, of its condition and its body.
    pub fn nested(&self) -> Vec<&[Layer]> {
        match self {
            LayerKind::Branch { if_branch, else_branch } => vec![if_branch, else_branch],
            LayerKind::Loop(params) => {
                let condition = params.condition.as_ref().map(|(layers, _)| &layers[..]);
                condition.into_iter().chain([&params.body[..]]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Every weight of the layer, biases too, without those of nested layers.
    pub fn weights(&self) -> Vec<&Weight> {
        match self {
            LayerKind::Convolution(params) => with_bias(&params.weights, &params.bias),
            LayerKind::Convolution3d(params) => with_bias(&params.weights, &params.bias),
            LayerKind::InnerProduct { weights, bias, .. }
            | LayerKind::Embedding { weights, bias, .. }
            | LayerKind::EmbeddingNd { weights, bias, .. }
            | LayerKind::Scale { scale: weights, bias, .. }
            | LayerKind::BatchedMatmul { weights: Some((_, _, weights)), bias, .. } => with_bias(weights, bias),
            LayerKind::Activation(Activation::Prelu { alpha }) => vec![alpha],
            LayerKind::Activation(Activation::ParametricSoftplus { alpha, beta }) => vec![alpha, beta],
            LayerKind::Batchnorm(params) => match &params.moments {
                Moments::Stored { mean, variance } => vec![&params.gamma, &params.beta, mean, variance],
                Moments::OfBatch | Moments::OfInstance => vec![&params.gamma, &params.beta],
            },
            LayerKind::LayerNormalization { gamma, beta, .. } => vec![gamma, beta],
            LayerKind::Bias { bias, .. } => vec![bias],
            LayerKind::LoadConstant { data, .. } | LayerKind::LoadConstantNd { data, .. } => vec![data],
            LayerKind::SimpleRecurrent(params)
            | LayerKind::Gru(params)
            | LayerKind::UniDirectionalLstm(params)
            | LayerKind::BiDirectionalLstm(params) => params.weights(),
            LayerKind::Custom { weights, .. } => weights.iter().collect(),
            _ => Vec::new(),
        }
    }
}

fn with_bias<'a>(weights: &'a Weight, bias: &'a Option<Weight>) -> Vec<&'a Weight> {
    std::iter::once(weights).chain(bias).collect()
}

impl Recurrent {
    fn weights(&self) -> Vec<&Weight> {
        self.directions.iter().flat_map(Gates::weights).collect()
    }
}

impl Gates {
    fn weights(&self) -> impl Iterator<Item = &Weight> {
        [&self.weights, &self.recursions, &self.biases, &self.peepholes].into_iter().flatten()
    }
}

impl Elementwise {
    fn name(self) -> &'static str {
        match self {
            Elementwise::Ceil => "ceil",
            Elementwise::Floor => "floor",
            Elementwise::Sign => "sign",
            Elementwise::Round => "round",
            Elementwise::Exp2 => "exp2",
            Elementwise::Sin => "sin",
            Elementwise::Cos => "cos",
            Elementwise::Tan => "tan",
            Elementwise::Asin => "asin",
            Elementwise::Acos => "acos",
            Elementwise::Atan => "atan",
            Elementwise::Sinh => "sinh",
            Elementwise::Cosh => "cosh",
            Elementwise::Tanh => "tanh",
            Elementwise::Asinh => "asinh",
            Elementwise::Acosh => "acosh",
            Elementwise::Atanh => "atanh",
            Elementwise::Erf => "erf",
            Elementwise::LogicalNot => "logicalNot",
        }
    }
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Equal => "equal",
            Operation::NotEqual => "notEqual",
            Operation::LessThan => "lessThan",
            Operation::LessEqual => "lessEqual",
            Operation::GreaterThan => "greaterThan",
            Operation::GreaterEqual => "greaterEqual",
            Operation::LogicalOr => "logicalOr",
            Operation::LogicalXor => "logicalXor",
            Operation::LogicalAnd => "logicalAnd",
            Operation::Mod => "modBroadcastable",
            Operation::Min => "minBroadcastable",
            Operation::Max => "maxBroadcastable",
            Operation::Add => "addBroadcastable",
            Operation::Pow => "powBroadcastable",
            Operation::Divide => "divideBroadcastable",
            Operation::FloorDiv => "floorDivBroadcastable",
            Operation::Multiply => "multiplyBroadcastable",
            Operation::Subtract => "subtractBroadcastable",
        }
    }
}

impl Reduction {
    fn name(self) -> &'static str {
        match self {
            Reduction::L1 => "reduceL1",
            Reduction::L2 => "reduceL2",
            Reduction::Max => "reduceMax",
            Reduction::Min => "reduceMin",
            Reduction::Sum => "reduceSum",
            Reduction::Prod => "reduceProd",
            Reduction::Mean => "reduceMean",
            Reduction::LogSum => "reduceLogSum",
            Reduction::SumSquare => "reduceSumSquare",
            Reduction::LogSumExp => "reduceLogSumExp",
        }
    }
}

/// The name of the layer with this field number.
pub(super) fn layer_name(number: u32) -> Option<&'static str> {
    let row = LAYERS.binary_search_by_key(&number, |row| row.0).ok()?;
    Some(LAYERS[row].1)
}

/// Every layer there is, sorted by its field number.
#[rustfmt::skip]
const LAYERS: &[(u32, &str)] = &[
    (100, "convolution"),
    (120, "pooling"),
    (130, "activation"),
    (140, "innerProduct"),
    (150, "embedding"),
    (160, "batchnorm"),
    (165, "mvn"),
    (170, "l2normalize"),
    (175, "softmax"),
    (180, "lrn"),
    (190, "crop"),
    (200, "padding"),
    (210, "upsample"),
    (211, "resizeBilinear"),
    (212, "cropResize"),
    (220, "unary"),
    (230, "add"),
    (231, "multiply"),
    (240, "average"),
    (245, "scale"),
    (250, "bias"),
    (260, "max"),
    (261, "min"),
    (270, "dot"),
    (280, "reduce"),
    (290, "loadConstant"),
    (300, "reshape"),
    (301, "flatten"),
    (310, "permute"),
    (320, "concat"),
    (330, "split"),
    (340, "sequenceRepeat"),
    (345, "reorganizeData"),
    (350, "slice"),
    (400, "simpleRecurrent"),
    (410, "gru"),
    (420, "uniDirectionalLSTM"),
    (430, "biDirectionalLSTM"),
    (500, "custom"),
    (600, "copy"),
    (605, "branch"),
    (615, "loop"),
    (620, "loopBreak"),
    (625, "loopContinue"),
    (635, "rangeStatic"),
    (640, "rangeDynamic"),
    (660, "clip"),
    (665, "ceil"),
    (670, "floor"),
    (680, "sign"),
    (685, "round"),
    (700, "exp2"),
    (710, "sin"),
    (715, "cos"),
    (720, "tan"),
    (730, "asin"),
    (735, "acos"),
    (740, "atan"),
    (750, "sinh"),
    (755, "cosh"),
    (760, "tanh"),
    (770, "asinh"),
    (775, "acosh"),
    (780, "atanh"),
    (790, "erf"),
    (795, "gelu"),
    (815, "equal"),
    (820, "notEqual"),
    (825, "lessThan"),
    (827, "lessEqual"),
    (830, "greaterThan"),
    (832, "greaterEqual"),
    (840, "logicalOr"),
    (845, "logicalXor"),
    (850, "logicalNot"),
    (855, "logicalAnd"),
    (865, "modBroadcastable"),
    (870, "minBroadcastable"),
    (875, "maxBroadcastable"),
    (880, "addBroadcastable"),
    (885, "powBroadcastable"),
    (890, "divideBroadcastable"),
    (895, "floorDivBroadcastable"),
    (900, "multiplyBroadcastable"),
    (905, "subtractBroadcastable"),
    (920, "tile"),
    (925, "stack"),
    (930, "gather"),
    (935, "scatter"),
    (940, "gatherND"),
    (945, "scatterND"),
    (950, "softmaxND"),
    (952, "gatherAlongAxis"),
    (954, "scatterAlongAxis"),
    (960, "reverse"),
    (965, "reverseSeq"),
    (975, "splitND"),
    (980, "concatND"),
    (985, "transpose"),
    (995, "sliceStatic"),
    (1000, "sliceDynamic"),
    (1005, "slidingWindows"),
    (1015, "topK"),
    (1020, "argMin"),
    (1025, "argMax"),
    (1040, "embeddingND"),
    (1045, "batchedMatmul"),
    (1065, "getShape"),
    (1070, "loadConstantND"),
    (1080, "fillLike"),
    (1085, "fillStatic"),
    (1090, "fillDynamic"),
    (1100, "broadcastToLike"),
    (1105, "broadcastToStatic"),
    (1110, "broadcastToDynamic"),
    (1120, "squeeze"),
    (1125, "expandDims"),
    (1130, "flattenTo2D"),
    (1135, "reshapeLike"),
    (1140, "reshapeStatic"),
    (1145, "reshapeDynamic"),
    (1150, "rankPreservingReshape"),
    (1155, "constantPad"),
    (1170, "randomNormalLike"),
    (1175, "randomNormalStatic"),
    (1180, "randomNormalDynamic"),
    (1190, "randomUniformLike"),
    (1195, "randomUniformStatic"),
    (1200, "randomUniformDynamic"),
    (1210, "randomBernoulliLike"),
    (1215, "randomBernoulliStatic"),
    (1220, "randomBernoulliDynamic"),
    (1230, "categoricalDistribution"),
    (1250, "reduceL1"),
    (1255, "reduceL2"),
    (1260, "reduceMax"),
    (1265, "reduceMin"),
    (1270, "reduceSum"),
    (1275, "reduceProd"),
    (1280, "reduceMean"),
    (1285, "reduceLogSum"),
    (1290, "reduceSumSquare"),
    (1295, "reduceLogSumExp"),
    (1313, "whereNonZero"),
    (1315, "matrixBandPart"),
    (1320, "lowerTriangular"),
    (1325, "upperTriangular"),
    (1330, "whereBroadcastable"),
    (1350, "layerNormalization"),
    (1400, "NonMaximumSuppression"),
    (1450, "oneHot"),
    (1455, "cumSum"),
    (1460, "clampedReLU"),
    (1461, "argSort"),
    (1465, "pooling3d"),
    (1466, "globalPooling3d"),
    (1470, "sliceBySize"),
    (1471, "convolution3d"),
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::nn::layer::{Body, read_kind};

    #[test]
    fn layers_are_sorted_and_found() {
        assert_eq!(LAYERS.len(), 158);
        assert!(LAYERS.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(layer_name(1471), Some("convolution3d"));
        assert_eq!(layer_name(1), None);
    }

    #[test]
    fn every_layer_is_read_as_what_it_is() {
        let mut read = 0;
        for &(number, name) in LAYERS {
            // Those that are left ask for weights.
            let body = Body { bytes: Bytes::new(), inputs: 0, depth: 0 };
            if let Ok(kind) = read_kind(number, body) {
                assert_eq!(kind.expect("each layer is read").name(), name);
                read += 1;
            }
        }
        assert_eq!(read, 137);
    }
}
