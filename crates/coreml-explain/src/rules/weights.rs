//! Rules about weights: how they are compressed, and how many there are.

use std::collections::HashSet;

use coreml_format::{mil::Op as MilOp, stats};

use super::{Confidence, Effect, Find, Rule, Subject};
use crate::{
    chips::FAST_INT8,
    graph::{Op, Value},
};

const PHONE_LIMIT: usize = 1_000_000_000;
/// The program of coremltools#2758: 300 million parameters.
const CRASHED_BYTES: usize = 667_000_000;
/// Where a program moved from the CPU to the Neural Engine (aosama/astronomical#540).
const SMALL_PARAMETERS: usize = 5_000_000;
/// Constants with fewer elements are parameters of an operation, such as strides, and no weights.
const FEWEST_ELEMENTS: usize = 10;
/// Bytes of weights from which the first load takes long enough to be noticed.
const SLOW_TO_COMPILE: usize = 100_000_000;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE012",
        name: "int8-activations",
        title: "int8 activations are faster from the A17 Pro and the M4 on only",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "Older Neural Engines, GPUs and CPUs compute in fp16 all the same, and have to convert between the two.",
        advice: "quantise weights alone for older chips",
        source: "coremltools guide, quantisation performance and overview",
        example: "ResNet50 with W8A8 takes 0.77 ms where fp16 takes 1.38 on an A17 Pro; an A14 gains nothing.",
        find: Find::Op(|subject, op| {
            if !matches!(op.kind, "quantize" | "dequantize") {
                return None;
            }
            match subject.target.chip {
                Some(chip) if chip.generation >= FAST_INT8 => None,
                Some(chip) => Some(format!("quantises activations, which the {} does not gain from", chip.name)),
                None => {
                    Some("quantises activations, which chips before the A17 Pro and the M4 do not gain from".to_owned())
                }
            }
        }),
    },
    Rule {
        id: "ANE013",
        name: "blocks-of-weights",
        title: "Weights quantised by blocks are a format for the GPU",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The Neural Engine reads tables of 1 to 8 bits and int8 with a scale for each channel while it computes; what is \
                 quantised by blocks is decompressed before.",
        advice: "use palettes, or int8 with a scale for each channel",
        source: "coremltools guide, quantisation performance and overview",
        example: "granularity=\"per_block\" with int4 suits a Mac's GPU; n_bits=4 in OpPalettizerConfig the Neural Engine.",
        find: Find::Op(|subject, op| {
            compressed(subject, op, "constexpr_blockwise_shift_scale").find_map(|(value, constant)| {
                let scale = shape(constant, "scale")?;
                let whole = value.shape.as_ref()?;
                // A block is shorter than the dimension and longer than an element in more than one dimension at once.
                let blocked = whole.iter().zip(&scale).filter(|(all, scales)| **scales > 1 && scales < all).count();
                let varying = scale.iter().filter(|scales| **scales > 1).count();
                (blocked > 0 || varying > 1).then(|| format!("has a weight with scales of {scale:?} for {whole:?}"))
            })
        }),
    },
    Rule {
        id: "ANE014",
        name: "narrow-groups",
        title: "Palettes for groups of one or two channels are slow",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "Each group has its own table. OPT-1.3B on an iPhone 15 Pro: 14.8 ms with one table for a tensor, 15.5 with groups \
                 of 8, 17.1 of 4, 30.7 of 2, 59.1 of 1; 92.2 without compression.",
        advice: "use groups of 4 to 8 channels or more",
        source: "coremltools guide, OPT-1.3B",
        example: "granularity=\"per_grouped_channel\", group_size=2 is slow; group_size=8 is nearly as fast as per_tensor.",
        find: Find::Op(|subject, op| {
            compressed(subject, op, "constexpr_lut_to_dense").find_map(|(value, constant)| {
                // (groups by dimension, entries, vector); before iOS 18 there is one table for all.
                let tables = shape(constant, "lut")?;
                let whole = value.shape.as_ref().filter(|whole| tables.len() == whole.len() + 2)?;
                let size =
                    whole.iter().zip(&tables).filter(|(_, groups)| **groups > 1).map(|(all, groups)| all / groups);
                let narrowest = size.min()?;
                (narrowest <= 2).then(|| format!("has a weight with a palette for each {narrowest} of {whole:?}"))
            })
        }),
    },
    Rule {
        id: "ANE015",
        name: "heavy-for-a-phone",
        title: "An iPhone's Neural Engine takes models of up to 1 GB",
        effect: Effect::Note,
        confidence: Confidence::A,
        reason: "Larger ones are not loaded there. On a Mac about 2 GB have worked.",
        advice: "compress its weights, or split it with coremltools' bisect_model",
        source: "coremltools guide, MLModel utilities; ANEMLL",
        example: "A model of 1.3 billion parameters takes 2.6 GB in fp16 and 0.7 GB with palettes of 4 bits.",
        find: Find::Model(|subject| {
            let bytes = bytes(subject);
            (bytes > PHONE_LIMIT).then(|| format!("its weights take {:.1} GB", bytes as f64 * 1e-9))
        }),
    },
    Rule {
        id: "ANE016",
        name: "may-crash",
        title: "Large programs may end the process at their first prediction",
        effect: Effect::Note,
        confidence: Confidence::B,
        reason: "A program of 300 million parameters failed to compile for the Neural Engine, loaded all the same, and then \
                 killed the process.",
        advice: "try it with `ane probe` first, which loads it in another process",
        source: "coremltools#2758; coreml-compute-placement, anecc-probe.md",
        example: "ane probe model.mlpackage",
        find: Find::Model(|subject| {
            let bytes = bytes(subject);
            let program = subject.graph.opset.is_some();
            (program && bytes >= CRASHED_BYTES).then(|| format!("its weights take {:.1} GB", bytes as f64 * 1e-9))
        }),
    },
    Rule {
        id: "ANE017",
        name: "small-program",
        title: "Very small programs may be left on the CPU",
        effect: Effect::Note,
        confidence: Confidence::C,
        reason: "Handing work to the Neural Engine takes longer than doing it. Programs of less than about five million \
                 parameters were seen to stay on the CPU although all of their operations are supported.",
        advice: "leave it to Core ML; the CPU is faster then",
        source: "aosama/astronomical#540; coremltools#2687",
        example: "A network of three layers of 64 units runs on the CPU.",
        find: Find::Model(|subject| {
            let parameters = parameters(subject);
            let any = !subject.graph.ops.is_empty();
            (any && parameters < SMALL_PARAMETERS).then(|| format!("it has {parameters} parameters"))
        }),
    },
    Rule {
        id: "ANE018",
        name: "slow-first-load",
        title: "The first load on a device compiles the model",
        effect: Effect::Note,
        confidence: Confidence::A,
        reason: "It takes seconds to minutes. The result is kept by the path of the compiled model, and lost with an update of \
                 the system, with little room on disk, and with another path or configuration.",
        advice: "keep the compiled model at one path, load it before it is needed, and say so to the user",
        source: "coremltools guide, model prediction; whisper.cpp#1278; WWDC23 session 10049",
        example: "Whisper's large encoder took 519 s at its first load and 0.8 s at the second (argmax-oss-swift#208).",
        find: Find::Model(|subject| {
            let bytes = bytes(subject);
            (bytes >= SLOW_TO_COMPILE).then(|| format!("its weights take {:.0} MB", bytes as f64 * 1e-6))
        }),
    },
];

fn bytes(subject: &Subject<'_>) -> usize {
    stats::weights(subject.graph.model).values().map(|amount| amount.bytes).sum()
}

/// Elements of weights as the operations read them, each weight once.
fn parameters(subject: &Subject<'_>) -> usize {
    let graph = subject.graph;
    if graph.opset.is_none() {
        return stats::weights(graph.model).values().map(|amount| amount.elements).sum();
    }
    let mut seen = HashSet::new();
    let weights = graph.values.iter().filter(|value| match (value.tensor, value.compressed) {
        // Tensors that share their place in a file share their address in its map.
        (Some(tensor), _) => seen.insert((tensor.bytes().as_ptr(), tensor.bytes().len())),
        (None, compressed) => compressed.is_some(),
    });
    weights.filter_map(|value| value.count()).filter(|count| *count >= FEWEST_ELEMENTS).sum()
}

/// The weights of an operation that are decompressed in this way, with what decompresses them.
fn compressed<'s>(
    subject: &'s Subject<'_>,
    op: &'s Op<'_>,
    kind: &'s str,
) -> impl Iterator<Item = (&'s Value<'s>, &'s MilOp)> {
    let constants = subject.graph.operands(op).filter_map(|value| Some((value, value.compressed?)));
    constants.filter(move |(_, constant)| constant.kind == kind)
}

/// The shape of a parameter of an operation that decompresses.
fn shape(constant: &MilOp, parameter: &str) -> Option<Vec<usize>> {
    use coreml_format::mil::Argument;
    let value = match constant.inputs.get(parameter).and_then(|arguments| arguments.first()) {
        Some(Argument::Value(value)) => Some(value),
        Some(Argument::Name(_)) | None => constant.attributes.get(parameter),
    };
    Some(value?.as_tensor()?.shape().to_vec())
}
