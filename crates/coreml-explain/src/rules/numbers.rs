//! Rules about what fp16 and the Neural Engine do to numbers.

use coreml_format::{
    DType,
    nn::{Activation, LayerKind, ReduceMode, Weight},
};

use super::{Confidence, Effect, Find, Rule, Subject, moves::squares};
use crate::graph::{Op, Source};

const LARGEST_HALF: f64 = 65504.0;
/// The smallest number that fp16 holds with all of its digits.
const LEAST_NORMAL: f64 = 6.103_515_625e-5;
/// Half of the smallest number that fp16 holds at all: what is not above it becomes 0.
const VANISHES: f64 = 2.980_232_238_769_531e-8;
/// Constants with more elements are weights, and not looked at.
const MASK_LIMIT: usize = 1 << 24;
const FAINT_FACTOR: f64 = 1e-4;

/// Operations that compute with a constant element by element, as with a mask.
const ELEMENTWISE: &[&str] = &[
    "add",
    "equal",
    "fill",
    "fill_like",
    "floor_div",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "not_equal",
    "pad",
    "pow",
    "real_div",
    "scatter",
    "select",
    "sub",
];

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE042",
        name: "beyond-fp16",
        title: "Constants beyond 65504 are infinite in fp16",
        effect: Effect::Numbers,
        confidence: Confidence::A,
        reason: "A mask of -1e9 becomes minus infinity; where a whole row is masked, or it meets another infinity, the result is \
                 no number.",
        advice: "use -1e4 or -4e4 in masks",
        source: "apple/coreai-models, neural_engine_rules.md (-40000); cactus#734 (-1e4)",
        example: "scores + (1 - mask) * -1e9 gives NaN; with -1e4 it does not.",
        find: Find::Op(beyond),
    },
    Rule {
        id: "ANE043",
        name: "softplus",
        title: "softplus gives 0 on the Neural Engine from 10.4 on",
        effect: Effect::Numbers,
        confidence: Confidence::B,
        reason: "It is right below 10.408, and 0 from there on, on the M1 to the M4.",
        advice: "use where(x > 10, x, softplus(x)), or relu(x) + log(1 + exp(-|x|))",
        source: "coremltools#2687 (open)",
        example: "softplus(12) is 12, and 0 on the Neural Engine.",
        find: Find::Op(|_, op| softplus(op).then(|| "is softplus".to_owned())),
    },
    Rule {
        id: "ANE044",
        name: "log-sum-exp",
        title: "reduce_log_sum_exp over channels gives 0 from 7.6 on",
        effect: Effect::Numbers,
        confidence: Confidence::B,
        reason: "It is right below 7.631, and 0 from there on.",
        advice: "subtract the maximum, then take the logarithm of the sum of exponentials, and add the maximum",
        source: "coremltools#2690 (open)",
        example: "torch.logsumexp(x, 1) of 8s is 0 on the Neural Engine.",
        find: Find::Op(|_, op| {
            matches!(op.kind, "reduce_log_sum_exp" | "reduceLogSumExp").then(|| "is a log-sum-exp".to_owned())
        }),
    },
    Rule {
        id: "ANE045",
        name: "mish",
        title: "Mish has large errors on the Neural Engine",
        effect: Effect::Numbers,
        confidence: Confidence::B,
        reason: "Its tanh of a softplus suffers from softplus.",
        advice: "use SiLU, or write it as x * (e^x * (e^x + 2)) / (e^x * (e^x + 2) + 2) for x below 10",
        source: "coremltools#2359 (open)",
        example: "nn.Mish() becomes softplus, tanh and mul.",
        find: Find::Op(|subject, op| {
            let tanh = |op: &Op<'_>| match op.source {
                Source::Program(_) => op.kind == "tanh",
                Source::Network(layer) => {
                    op.kind == "tanh" || matches!(layer.kind, LayerKind::Activation(Activation::Tanh))
                }
            };
            (softplus(op) && subject.graph.readers(op).any(tanh)).then(|| "is the softplus of Mish".to_owned())
        }),
    },
    Rule {
        id: "ANE046",
        name: "squares",
        title: "Squares of numbers above 255 overflow in fp16",
        effect: Effect::Numbers,
        confidence: Confidence::A,
        reason: "256 squared is 65536, and fp16 ends at 65504.",
        advice: "scale before squaring, or take the norm with l2_norm, layer_norm or instance_norm",
        source: "coremltools, converters/mil/frontend/torch/ops.py; rustane",
        example: "reduce_sum_square of a spectrogram overflows; of a spectrogram divided by 100 it does not.",
        find: Find::Op(|subject, op| {
            let sums = matches!(op.kind, "reduce_sum_square" | "reduce_l2_norm" | "reduceSumSquare" | "reduceL2");
            let reduces = match op.source {
                Source::Program(_) => false,
                Source::Network(layer) => {
                    matches!(layer.kind, LayerKind::Reduce { mode: ReduceMode::SumSquare | ReduceMode::L2, .. })
                }
            };
            (half(subject, op) && (sums || reduces || squares(subject, op))).then(|| "squares".to_owned())
        }),
    },
    Rule {
        id: "ANE047",
        name: "tiny-epsilon",
        title: "Epsilons below 6e-5 lose digits in fp16, and below 3e-8 are 0",
        effect: Effect::Numbers,
        confidence: Confidence::B,
        reason: "fp16's smallest number with all its digits is 6.1e-5. The Neural Engine of iPhones takes smaller ones for 0, and \
                 then rsqrt(0) is infinite.",
        advice: "use 1e-4 or more, or keep the operation in fp32",
        source: "CoreML-LLM, vision probe; IEEE 754 binary16",
        example: "layer_norm with epsilon 1e-12 divides by 0 where all elements are equal; with 1e-4 it does not.",
        find: Find::Op(|subject, op| {
            let epsilon = epsilon(subject, op)?;
            let tiny = epsilon > 0.0 && epsilon < LEAST_NORMAL && half(subject, op);
            let what = if epsilon <= VANISHES { "is 0 in fp16" } else { "has fewer digits in fp16, or is taken for 0" };
            tiny.then(|| format!("has an epsilon of {:e}, which {what}", epsilon as f32))
        }),
    },
    Rule {
        id: "ANE048",
        name: "faint-factor",
        title: "Results below 1e-4 lose their digits in fp16",
        effect: Effect::Numbers,
        confidence: Confidence::C,
        reason: "fp16 has three digits, and fewer below 6e-5; numbers between 1e-4 and 100 keep them.",
        advice: "move the factor to the end, or into the weights of the layer before",
        source: "hollance, 16-bit floats on the Neural Engine",
        example: "x * 1e-5 keeps two digits of x.",
        find: Find::Op(|subject, op| {
            let factor = match op.kind {
                "mul" => subject.graph.number(op, "y").or_else(|| subject.graph.number(op, "x"))?,
                "real_div" => 1.0 / subject.graph.number(op, "y")?,
                _ => return None,
            };
            let faint = factor != 0.0 && factor.abs() < FAINT_FACTOR && half(subject, op);
            faint.then(|| format!("multiplies by {:e}", factor as f32))
        }),
    },
];

/// Whether what an operation gives is fp16, or of a network, which says no types and is fp16 on the Neural Engine.
fn half(subject: &Subject<'_>, op: &Op<'_>) -> bool {
    match op.source {
        Source::Network(_) => true,
        Source::Program(_) => subject.graph.results(op).any(|value| value.dtype == Some(DType::Float16)),
    }
}

fn beyond(subject: &Subject<'_>, op: &Op<'_>) -> Option<String> {
    let is_beyond = |number: &f64| number.abs() > LARGEST_HALF;
    let found = match op.source {
        // Weights are not looked at, and bounds of `clip` that are never reached are no numbers to compute with.
        Source::Program(_) if !ELEMENTWISE.contains(&op.kind) => return None,
        Source::Program(_) => {
            let floats = subject.graph.operands(op).filter(|value| value.dtype.is_some_and(DType::is_float));
            floats.filter_map(|value| value.numbers(MASK_LIMIT)).find_map(|all| all.into_iter().find(is_beyond))?
        }
        Source::Network(layer) => {
            let numbers = match &layer.kind {
                LayerKind::Add { alpha } | LayerKind::Multiply { alpha } | LayerKind::Operation { alpha, .. } => {
                    vec![f64::from(*alpha)]
                }
                LayerKind::Fill { value, .. } => vec![f64::from(*value)],
                LayerKind::ConstantPad(pad) => vec![f64::from(pad.value)],
                LayerKind::LoadConstant { data: Weight::Float(tensor), .. }
                | LayerKind::LoadConstantNd { data: Weight::Float(tensor), .. }
                | LayerKind::Bias { bias: Weight::Float(tensor), .. } => crate::graph::numbers(tensor, MASK_LIMIT)?,
                _ => return None,
            };
            numbers.into_iter().find(is_beyond)?
        }
    };
    Some(match found.is_finite() {
        true => format!("computes with {found:e}, which is infinite in fp16"),
        false => format!("computes with {found}"),
    })
}

fn softplus(op: &Op<'_>) -> bool {
    match op.source {
        Source::Program(_) => matches!(op.kind, "softplus" | "softplus_parametric"),
        Source::Network(layer) => {
            matches!(layer.kind, LayerKind::Activation(Activation::Softplus | Activation::ParametricSoftplus { .. }))
        }
    }
}

/// What keeps an operation from dividing by 0. That of a batch normalisation goes into its weights.
fn epsilon(subject: &Subject<'_>, op: &Op<'_>) -> Option<f64> {
    let graph = subject.graph;
    match op.source {
        Source::Program(_) => match op.kind {
            "batch_norm" => None,
            "add" => {
                let divides =
                    |op: &Op<'_>| matches!(op.kind, "rsqrt" | "sqrt" | "log" | "inverse" | "real_div" | "pow");
                let number = graph.number(op, "y").or_else(|| graph.number(op, "x"))?;
                graph.readers(op).any(divides).then_some(number)
            }
            _ => graph.number(op, "epsilon"),
        },
        Source::Network(layer) => match &layer.kind {
            LayerKind::Mvn { epsilon, .. }
            | LayerKind::L2Normalize { epsilon }
            | LayerKind::LayerNormalization { epsilon, .. } => Some(f64::from(*epsilon)),
            LayerKind::Unary(function) if function.epsilon > 0.0 => Some(f64::from(function.epsilon)),
            _ => None,
        },
    }
}
