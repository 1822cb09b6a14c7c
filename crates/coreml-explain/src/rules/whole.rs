//! Rules about the model as a whole, most of them after its operations have been placed.

use coreml_format::stats;

use super::{Confidence, Effect, Find, Rule};
use crate::{
    chips::{DISPATCH, ON_CHIP_BYTES},
    placement::{Unit, Verdict},
};

const MANY_FUNCTIONS: usize = 4;
const MANY_SEGMENTS: usize = 3;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE049",
        name: "classic-model",
        title: "Only ML Programs and neural networks get to the Neural Engine",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "Core ML runs trees, linear models, neighbours and transformers of features on the CPU.",
        advice: "nothing: they are fast there",
        source: "Apple, Core ML documentation",
        example: "A treeEnsembleClassifier runs on the CPU.",
        find: Find::Model(|subject| {
            let kind = subject.graph.model.kind.name();
            CPU_MODELS.contains(&kind).then(|| format!("it is of type {kind}, which Core ML runs on the CPU"))
        }),
    },
    Rule {
        id: "ANE050",
        name: "entering-often",
        title: "Leaving and entering the Neural Engine costs time",
        effect: Effect::Slow,
        confidence: Confidence::B,
        reason: "Each segment is a program of its own, and data moves between units. Going to the CPU and back is common, to the \
                 GPU and back rare.",
        advice: "change the operations that end its segments, or move them to the beginning or the end",
        source: "hollance/neural-engine; apple/coreai-models, neural_engine_rules.md",
        example: "A scatter in each of 12 layers makes 13 segments.",
        find: Find::Placed(|_, placed| {
            let entered = placed.segments.iter().filter(|segment| segment.unit == Unit::Ane).count();
            (entered > MANY_SEGMENTS).then(|| format!("execution would enter the Neural Engine {entered} times"))
        }),
    },
    Rule {
        id: "ANE051",
        name: "mixed-units",
        title: "With all units allowed, Core ML's choice may be slower than each alone",
        effect: Effect::Note,
        confidence: Confidence::B,
        reason: "computeUnits says what may be used. On an M4 Pro `.all` was up to 5.2 times slower than the best single choice, and \
                 an M5 Max chose otherwise.",
        advice: "measure `.cpuAndNeuralEngine`, `.cpuAndGPU` and `.all` on the device",
        source: "erwinzhang7/coreml-compute-placement, PAPER.md",
        example: "Whisper's tiny encoder: 56 a second on the Neural Engine, 145 on the GPU, 28 with .all (M4 Pro).",
        find: Find::Placed(|_, placed| {
            let off = placed.verdicts.iter().filter(|verdict| **verdict == Verdict::Unlikely).count();
            let on = placed.verdicts.len() - off;
            (off > 0 && on > off).then(|| format!("{off} of {} operations run elsewhere", placed.verdicts.len()))
        }),
    },
    Rule {
        id: "ANE052",
        name: "dispatch-bound",
        title: "Calling takes longer than computing",
        effect: Effect::Note,
        confidence: Confidence::B,
        reason: "A prediction on the Neural Engine takes 0.1 to 0.23 ms beside its work.",
        advice: "predict on batches, or leave it to the CPU",
        source: "aosama/astronomical#540; maderix/ANE by ironmill; coremltools guide (MobileNetV3-small: 0.13 ms)",
        example: "A model of 0.02 ms takes 0.12 ms.",
        find: Find::Placed(|_, placed| {
            let work: f64 = placed.estimate?.ops.iter().map(|op| op.seconds).sum();
            (work < DISPATCH[0]).then(|| format!("its work takes about {:.3} ms", work * 1e3))
        }),
    },
    Rule {
        id: "ANE053",
        name: "beyond-on-chip-memory",
        title: "Operations on more than 32 MB read from memory",
        effect: Effect::Slow,
        confidence: Confidence::C,
        reason: "The Neural Engine holds about 32 MB itself; beyond that it was 30 % slower.",
        advice: "cut large tensors into tiles",
        source: "maderix/ANE, part 2",
        example: "A tensor of (1, 64, 1024, 1024) takes 128 MB in fp16.",
        find: Find::Placed(|subject, placed| {
            let large = |bytes: &f64| *bytes > ON_CHIP_BYTES;
            let sizes = placed.estimate?.ops.iter().map(|op| op.activation_bytes);
            let count = sizes.clone().filter(large).count();
            let (place, most) = sizes.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
            let op = subject.graph.ops.get(place)?;
            let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
            (count > 0).then(|| format!("{} {:?} moves {:.0} MB of activations{more}", op.kind, op.name, most * 1e-6))
        }),
    },
    Rule {
        id: "ANE054",
        name: "compressed-but-computing",
        title: "Compressed weights gain no time where arithmetic is what takes it",
        effect: Effect::Note,
        confidence: Confidence::A,
        reason: "Compression saves reading. From iOS 17 and macOS 14 on weights are decompressed while they are read.",
        advice: "keep it for the size of the file, or quantise activations too (A17 Pro, M4 and later)",
        source: "coremltools guide, palettisation performance",
        example: "ResNet50 with palettes of 6 bits is as fast as in fp16; a language model is 6 times faster with 4 bits.",
        find: Find::Placed(|subject, placed| {
            let estimate = placed.estimate?;
            let computing = estimate.ops.iter().filter(|op| op.computing).map(|op| op.seconds).sum::<f64>();
            let all: f64 = estimate.ops.iter().map(|op| op.seconds).sum();
            let compressed = !stats::compression(subject.graph.model).is_empty();
            let share = computing / all;
            (compressed && share > 0.5).then(|| format!("arithmetic takes {:.0} % of its time", share * 100.0))
        }),
    },
    Rule {
        id: "ANE055",
        name: "many-functions",
        title: "Many functions loaded at once slow each other down",
        effect: Effect::Note,
        confidence: Confidence::C,
        reason: "Four programs with four functions each, all loaded, took 1250 ms where one took 560.",
        advice: "unload functions that are not in use",
        source: "CoreML-LLM, IPHONE_ANE_SPARSITY_FINDING",
        example: "A model with a function for each of eight prompt lengths.",
        find: Find::Model(|subject| {
            let functions = subject.graph.model.schema.functions.len();
            (functions >= MANY_FUNCTIONS).then(|| format!("it has {functions} functions"))
        }),
    },
];

/// Types of models without anything that computes on the Neural Engine, sorted. The others are made of models, or of
/// what Apple and apps keep to themselves.
const CPU_MODELS: &[&str] = &[
    "arrayFeatureExtractor",
    "bayesianProbitRegressor",
    "categoricalMapping",
    "dictVectorizer",
    "featureVectorizer",
    "glmClassifier",
    "glmRegressor",
    "identity",
    "imputer",
    "itemSimilarityRecommender",
    "kNearestNeighborsClassifier",
    "nonMaximumSuppression",
    "normalizer",
    "oneHotEncoder",
    "scaler",
    "supportVectorClassifier",
    "supportVectorRegressor",
    "treeEnsembleClassifier",
    "treeEnsembleRegressor",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_known() {
        assert!(CPU_MODELS.is_sorted());
        assert!(CPU_MODELS.iter().all(|kind| coreml_format::spec::MODEL_TYPES.iter().any(|row| row.1 == *kind)));
    }
}
