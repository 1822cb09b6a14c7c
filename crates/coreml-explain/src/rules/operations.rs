//! Rules about what operations do.

use coreml_format::nn::LayerKind;

use super::{Confidence, Effect, Find, Rule};
use crate::graph::Source;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE019",
        name: "recurrent",
        title: "LSTM, GRU and RNN do not run on the Neural Engine",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "The Neural Engine has no recurrence.",
        advice: "run it on the CPU, or write the recurrence as convolutions or attention",
        source: "an engineer of Apple's in coremltools#1780",
        example: "torch.nn.LSTM becomes `lstm`, which runs on the CPU; a temporal convolution does not.",
        find: Find::Op(|_, op| one_of(op.kind, RECURRENT, "is recurrent")),
    },
    Rule {
        id: "ANE020",
        name: "control-flow",
        title: "Loops, branches and lists run on the CPU",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "A program of the Neural Engine is a fixed sequence of operations.",
        advice: "unroll loops, compute both branches and select, and keep lists out of the model",
        source: "coremltools FAQ, dynamic layers; hollance/neural-engine",
        example: "A Python loop over a tensor's length becomes `while_loop`; over a number, copies of its body.",
        find: Find::Op(|_, op| one_of(op.kind, CONTROL, "is control flow")),
    },
    Rule {
        id: "ANE021",
        name: "shape-from-values",
        title: "Shapes that follow from values run on the CPU",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "The sizes must be known before a program of the Neural Engine is compiled.",
        advice: "fix shapes before converting; give sizes as numbers and not as tensors",
        source: "coremltools FAQ, dynamic layers; hollance/neural-engine",
        example: "x.view(x.shape[0], -1) under a flexible shape becomes `shape` and a dynamic `reshape`; x.flatten(1) does not.",
        find: Find::Op(|subject, op| {
            let follows = || {
                let graph = subject.graph;
                let parameter = op.operands.iter().find(|operand| matches!(operand.0, "shape" | "reps" | "size"))?;
                let at_run_time = !graph.values[parameter.1].is_constant();
                at_run_time.then(|| format!("takes its {} at run time", parameter.0))
            };
            one_of(op.kind, SHAPES, "depends on values").or_else(follows)
        }),
    },
    Rule {
        id: "ANE022",
        name: "random",
        title: "Random numbers are drawn on the CPU",
        effect: Effect::Off,
        confidence: Confidence::B,
        reason: "The Neural Engine's programs give the same results each time.",
        advice: "draw them in the app, and give them as an input",
        source: "hollance/neural-engine, unsupported layers",
        example: "torch.randn_like in a sampler becomes `random_normal`; an input `noise` does not.",
        find: Find::Op(|_, op| {
            let draws = op.kind.starts_with("random") || op.kind == "categoricalDistribution";
            draws.then(|| "draws random numbers".to_owned())
        }),
    },
    Rule {
        id: "ANE023",
        name: "custom-layer",
        title: "Custom layers run on the CPU or the GPU",
        effect: Effect::Off,
        confidence: Confidence::B,
        reason: "Their code belongs to the app.",
        advice: "express them by layers of Core ML",
        source: "hollance/neural-engine, unsupported layers",
        example: "A custom Swish is sigmoid and multiply.",
        find: Find::Op(|_, op| one_of(op.kind, &["custom", "custom_layer"], "has its code in the app")),
    },
    Rule {
        id: "ANE024",
        name: "scatter",
        title: "Scattering does not run on the Neural Engine",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "Writing to computed places is left to the CPU and the GPU.",
        advice: "write slices instead (slice_update), or select with a mask",
        source: "comments in coremltools, converters/mil/frontend/torch/ops.py",
        example: "cache[:, pos] = k with a tensor `pos` becomes `scatter_nd`; with fixed bounds, `slice_update`.",
        find: Find::Op(|_, op| one_of(op.kind, SCATTERS, "scatters")),
    },
    Rule {
        id: "ANE025",
        name: "gather-nd-at-run-time",
        title: "gather_nd with open shapes gave zeros on an iPhone",
        effect: Effect::Numbers,
        confidence: Confidence::C,
        reason: "The result was all zeros on the Neural Engine, and right on a Mac's CPU and GPU.",
        advice: "gather along one axis, or outside of the model",
        source: "CoreML-LLM, PROBE_GEMMA4_VISION_ANE",
        example: "gather_nd with indices of (?, 2) gave zeros.",
        find: Find::Op(|subject, op| {
            if !matches!(op.kind, "gather_nd" | "gatherND") {
                return None;
            }
            let open =
                subject.graph.results(op).any(|value| value.dims.as_ref().is_none_or(|dims| dims.contains(&None)));
            open.then(|| "gathers by several axes into an open shape".to_owned())
        }),
    },
    Rule {
        id: "ANE026",
        name: "embedding-lookup",
        title: "Looking rows up in a table by ids does not run on the Neural Engine",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "The ids are int32, and the rows of a table of two dimensions make a tensor that the Neural Engine refuses.",
        advice: "nothing, at the beginning of a model: it is cheap on the CPU; inside, look up before the model",
        source: "apple/ml-ane-transformers, README: 4 of DistilBERT's 606 operations; apple/coreai-models, common_issues.md",
        example: "torch.nn.Embedding becomes `gather` on the weights by the model's ids, on the CPU.",
        find: Find::Op(|subject, op| {
            let graph = subject.graph;
            match op.source {
                Source::Program(_) if op.kind == "gather" => {
                    let table = graph.operand(op, "x", 0).filter(|table| table.is_constant())?;
                    graph.operand(op, "indices", 1).filter(|indices| !indices.is_constant())?;
                    let shape = table.shape.as_ref()?;
                    (shape.len() == 2).then(|| format!("looks up rows in a table of {} x {}", shape[0], shape[1]))
                }
                Source::Network(layer) => match &layer.kind {
                    LayerKind::Embedding { input_dim, output_channels, .. } => {
                        Some(format!("looks up rows in a table of {input_dim} x {output_channels}"))
                    }
                    LayerKind::EmbeddingNd { vocabulary, size, .. } => {
                        Some(format!("looks up rows in a table of {vocabulary} x {size}"))
                    }
                    _ => None,
                },
                Source::Program(_) => None,
            }
        }),
    },
    Rule {
        id: "ANE027",
        name: "broadcastable-layer",
        title: "Broadcastable and ND layers of networks may leave the Neural Engine",
        effect: Effect::Doubtful,
        confidence: Confidence::C,
        reason: "Layers that came with Core ML 3 were not taken by the Neural Engine of their time. The source says that it may \
                 be wrong.",
        advice: "use the older layers add, multiply, scale and concat, or convert to an ML Program",
        source: "hollance/neural-engine, unsupported layers",
        example: "`addBroadcastable` of two tensors of one shape is `add`.",
        find: Find::Op(|_, op| {
            let Source::Network(_) = op.source else { return None };
            let newer = op.kind.ends_with("Broadcastable") || op.kind.ends_with("ND");
            // Where the rule of its own says more.
            let known = one_of(op.kind, SCATTERS, "").is_some() || matches!(op.kind, "gatherND" | "embeddingND");
            (newer && !known && op.kind != "loadConstantND").then(|| "is a layer of Core ML 3".to_owned())
        }),
    },
];

const RECURRENT: &[&str] = &["biDirectionalLSTM", "gru", "lstm", "rnn", "simpleRecurrent", "uniDirectionalLSTM"];

const CONTROL: &[&str] = &[
    "branch",
    "cond",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "loop",
    "loopBreak",
    "loopContinue",
    "make_list",
    "while_loop",
];

const SHAPES: &[&str] = &[
    "broadcastToDynamic",
    "fillDynamic",
    "getShape",
    "non_zero",
    "rangeDynamic",
    "reshapeDynamic",
    "shape",
    "sliceDynamic",
    "whereNonZero",
];

const SCATTERS: &[&str] = &["scatter", "scatterAlongAxis", "scatterND", "scatter_along_axis", "scatter_nd"];

fn one_of(kind: &str, kinds: &[&str], what: &str) -> Option<String> {
    kinds.contains(&kind).then(|| what.to_owned())
}
