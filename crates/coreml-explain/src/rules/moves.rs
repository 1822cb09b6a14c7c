//! Rules about layout: how data moves, and operations that come in pieces.

use coreml_format::nn::LayerKind;

use super::{Confidence, Effect, Find, Rule, Subject};
use crate::graph::{Op, Source};

/// Elements from which moving them is worth a word.
const LARGE_MOVE: usize = 1 << 12;
/// Elements from which a softmax is cut into tiles.
const LARGE_SOFTMAX: usize = 1 << 20;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE035",
        name: "linear-layer",
        title: "Linear layers can be convolutions of 1 x 1",
        effect: Effect::Note,
        confidence: Confidence::B,
        reason: "The Neural Engine's own layout is (B, C, 1, S). The gain is 10 to 13 % where all of the model runs there \
                 already, and the GPU is 16 to 34 % slower with it.",
        advice: "write nn.Linear as nn.Conv2d of 1 x 1 on (B, C, 1, S), if the model is for the Neural Engine alone",
        source: "Apple, Deploying Transformers on the Apple Neural Engine; coreml-compute-placement, PAPER.md",
        example: "nn.Linear(768, 3072) on (1, 128, 768) is nn.Conv2d(768, 3072, 1) on (1, 768, 1, 128).",
        find: Find::Op(|subject, op| {
            let linear = match op.source {
                Source::Program(_) => {
                    let product = op.kind == "matmul" && subject.graph.operands(op).any(|value| value.is_constant());
                    op.kind == "linear" || product
                }
                Source::Network(layer) => matches!(layer.kind, LayerKind::InnerProduct { .. }),
            };
            let positions = |shape: &Vec<usize>| shape[..shape.len().saturating_sub(1)].iter().product::<usize>();
            let several =
                subject.graph.results(op).filter_map(|value| value.shape.as_ref()).any(|shape| positions(shape) > 1);
            (linear && several).then(|| "is a product with a matrix at each position".to_owned())
        }),
    },
    Rule {
        id: "ANE036",
        name: "spatial-softmax",
        title: "Softmax over rows or columns cannot be cut into tiles",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The Neural Engine cuts large tensors along their planes, where such a softmax needs the whole.",
        advice: "put what the softmax goes over into the channels",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "Attention of 1024 x 1024 over the last axis of (1, 8, 1024, 1024) is slow; over axis 1 of (1, 1024, 8, 1024) \
                  it is not.",
        find: Find::Op(|subject, op| {
            if !matches!(op.kind, "softmax" | "softmaxND") {
                return None;
            }
            let value = subject.graph.results(op).next()?;
            let shape = value.shape.as_ref()?;
            let axis = *subject.graph.axes(op, shape.len())?.first()?;
            let slow = shape.len() >= 4 && axis >= 2 && value.count()? >= LARGE_SOFTMAX;
            slow.then(|| format!("goes over the axis {axis} of {shape:?}"))
        }),
    },
    Rule {
        id: "ANE037",
        name: "batched-attention",
        title: "Attention is faster head by head",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The Neural Engine has no fused attention. One product for all heads moves more data than one for each.",
        advice: "split the heads, and use einsum bchq,bkhc->bkhq for each",
        source: "Apple, Deploying Transformers on the Apple Neural Engine; neural_engine_rules.md",
        example: "scaled_dot_product_attention on (1, 12, 128, 64) is decomposed into two products of twelve heads.",
        find: Find::Op(|subject, op| {
            if op.kind == "scaled_dot_product_attention" {
                return Some("is decomposed".to_owned());
            }
            let graph = subject.graph;
            let both =
                matches!(op.kind, "matmul" | "batchedMatmul") && graph.operands(op).all(|value| !value.is_constant());
            let heads = |shape: &Vec<usize>| if shape.len() == 4 { shape[1] } else { 1 };
            let most = graph.operands(op).filter_map(|value| value.shape.as_ref()).map(heads).max()?;
            (both && most > 1).then(|| format!("multiplies the matrices of {most} heads at once"))
        }),
    },
    Rule {
        id: "ANE038",
        name: "last-axis-moved",
        title: "Reshapes and transpositions of the last axis copy",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The last axis is contiguous and padded, so that changing it moves every element.",
        advice: "keep one layout through the model",
        source: "Apple, Deploying Transformers on the Apple Neural Engine; neural_engine_rules.md",
        example: "transpose(perm=[0, 2, 1]) copies; transpose(perm=[1, 0, 2]) does not.",
        find: Find::Op(last_axis_moved),
    },
    Rule {
        id: "ANE039",
        name: "layer-norm-in-pieces",
        title: "A layer normalisation in pieces is slower than layer_norm",
        effect: Effect::Note,
        confidence: Confidence::A,
        reason: "The one operation is carried out as one, and its mean and variance are kept in higher precision.",
        advice: "use nn.LayerNorm; coremltools fuses its own pieces where the axes are those of layer_norm",
        source: "apple/coreai-models, neural_engine_rules.md; coremltools, optimize_normalization.py",
        example: "(x - x.mean(-1)) / (x.var(-1) + eps).sqrt() is nn.LayerNorm.",
        find: Find::Op(|subject, op| {
            let parts = centred(subject, op)?;
            (!parts.grouped).then(|| "is a part of a normalisation in pieces".to_owned())
        }),
    },
    Rule {
        id: "ANE040",
        name: "group-norm-in-pieces",
        title: "A group normalisation becomes reductions",
        effect: Effect::Note,
        confidence: Confidence::B,
        reason: "There is no operation for it: nn.GroupNorm becomes reshapes, reduce_mean, sub, square and division, of tensors of \
                 four or five dimensions.",
        advice: "look at what comes of its reductions, or train with batch normalisation",
        source: "measured in this project on a Stable Diffusion U-Net (21 groups)",
        example: "nn.GroupNorm(32, 320) becomes eleven operations.",
        find: Find::Op(|subject, op| {
            let parts = centred(subject, op)?;
            parts.grouped.then(|| "is a part of a group normalisation".to_owned())
        }),
    },
    Rule {
        id: "ANE041",
        name: "rms-norm",
        title: "RMSNorm has no operation, and its squares overflow",
        effect: Effect::Numbers,
        confidence: Confidence::A,
        reason: "The squares of numbers above 255 are beyond fp16's 65504.",
        advice: "divide by the largest element first, as coremltools 9 does, or use layer_norm of concat(x, -x)",
        source: "coremltools, converters/mil/frontend/torch/ops.py; ANEMLL",
        example: "x * rsqrt(mean(x * x) + eps) overflows at |x| > 255.",
        find: Find::Op(|subject, op| {
            let graph = subject.graph;
            if !matches!(op.kind, "reduce_mean" | "reduceMean") {
                return None;
            }
            let square = graph.maker(graph.operand(op, "x", 0)?).filter(|maker| squares(subject, maker))?;
            let root = |op: &Op<'_>| matches!(op.kind, "rsqrt" | "sqrt" | "pow");
            let rooted = graph.readers(op).any(|next| root(next) || graph.readers(next).any(root));
            let x = graph.operands(square).find(|value| !value.is_constant())?;
            let centred = graph.maker(x).is_some_and(|maker| centred(subject, maker).is_some());
            (rooted && !centred).then(|| "takes the mean of squares".to_owned())
        }),
    },
];

fn last_axis_moved(subject: &Subject<'_>, op: &Op<'_>) -> Option<String> {
    let graph = subject.graph;
    if graph.results(op).next()?.count().is_some_and(|count| count < LARGE_MOVE) {
        return None;
    }
    match op.source {
        Source::Program(_) if op.kind == "transpose" => {
            let order = graph.sizes(op, "perm")?;
            let last = order.len() as i64 - 1;
            let moved = order.last().is_some_and(|&axis| axis != last && axis != -1);
            moved.then(|| format!("puts the axis {} last", order[order.len() - 1]))
        }
        Source::Network(layer) => match &layer.kind {
            LayerKind::Transpose { axes } if axes.last().is_some_and(|&last| last as usize + 1 != axes.len()) => {
                Some(format!("puts the axis {} last", axes[axes.len() - 1]))
            }
            LayerKind::Permute { axis } if axis.last() != Some(&3) => Some("permutes the columns".to_owned()),
            LayerKind::Reshape { .. } | LayerKind::ReshapeStatic { .. } => reshaped(subject, op),
            _ => None,
        },
        Source::Program(_) if op.kind == "reshape" => reshaped(subject, op),
        Source::Program(_) => None,
    }
}

fn reshaped(subject: &Subject<'_>, op: &Op<'_>) -> Option<String> {
    let before = subject.graph.operand(op, "x", 0)?.shape.as_ref()?.last()?;
    let after = subject.graph.results(op).next()?.shape.as_ref()?.last()?;
    (before != after).then(|| format!("changes the last axis from {before} to {after}"))
}

/// A difference from a mean that is squared.
struct Centred {
    /// Whether groups of channels were split off before.
    grouped: bool,
}

fn centred(subject: &Subject<'_>, op: &Op<'_>) -> Option<Centred> {
    let graph = subject.graph;
    if !matches!(op.kind, "sub" | "subtractBroadcastable") {
        return None;
    }
    let (x, mean) = (graph.operand(op, "x", 0)?, graph.operand(op, "y", 1)?);
    let reduction = graph.maker(mean).filter(|maker| matches!(maker.kind, "reduce_mean" | "reduceMean"))?;
    let same = reduction
        .operands
        .first()
        .is_some_and(|_| graph.operand(reduction, "x", 0).is_some_and(|of| std::ptr::eq(of, x)));
    let squared = graph.readers(op).any(|reader| squares(subject, reader));
    let grouped = || {
        let split = graph.maker(x).is_some_and(|maker| maker.kind.starts_with("reshape"));
        split && x.dims.as_ref().is_some_and(|dims| dims.len() >= 4)
    };
    (same && squared).then(|| Centred { grouped: grouped() })
}

/// Whether an operation squares what it reads.
pub(super) fn squares(subject: &Subject<'_>, op: &Op<'_>) -> bool {
    let graph = subject.graph;
    match op.kind {
        "square" => true,
        "mul" | "multiply" | "multiplyBroadcastable" => match op.operands[..] {
            [(_, x), (_, y)] => x == y,
            _ => false,
        },
        "pow" => graph.number(op, "y") == Some(2.0),
        _ => false,
    }
}
