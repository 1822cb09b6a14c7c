//! Rules about the types and shapes of tensors.

use coreml_format::{
    DType,
    schema::{FeatureKind, ImageFlexibility, ShapeFlexibility, SizeRange},
};

use super::{Confidence, Effect, Find, Rule, Subject};
use crate::graph::{Dims, Op, Source, declared_shapes};

const MOST_DIMENSIONS: usize = 5;
const LONGEST_DIMENSION: usize = 16384;
/// How many shapes may be enumerated (coremltools' guide, flexible inputs).
const MOST_SHAPES: usize = 128;
/// What a state's last dimension is a multiple of where it works (coremltools#2631).
const STATE_MULTIPLE: usize = 32;
/// Elements of a plane that failed to compile, 5568 x 5568 (coremltools#2247).
const LARGEST_PLANE: usize = 5568 * 5568;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE001",
        name: "fp32-operation",
        title: "Operations of ML Programs that give fp32 do not run on the Neural Engine",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "The Neural Engine computes in fp16. An ML Program says the type of every tensor, and Core ML keeps to it: \
                 what is fp32 runs on the GPU or the CPU.",
        advice: "convert it with compute_precision=ct.precision.FLOAT16",
        source: "coremltools guide, typed execution; apple/coreai-models, neural_engine_rules.md",
        example: "`y = mul(x=x, y=y)` giving tensor<fp32, [1, 64]> runs on the CPU or the GPU; giving tensor<fp16, [1, 64]> \
                  it may run on the Neural Engine.",
        find: Find::Op(|subject, op| {
            let Source::Program(_) = op.source else { return None };
            // Casts at the ends of a program are no work, and run wherever their neighbour does.
            let wide = subject
                .graph
                .results(op)
                .find_map(|v| v.dtype.filter(|d| matches!(d, DType::Float32 | DType::Float64)))?;
            (op.kind != "cast").then(|| format!("computes in {wide}"))
        }),
    },
    Rule {
        id: "ANE002",
        name: "int32-operation",
        title: "Operations that give integers run on the CPU",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "Token ids, positions, shapes and the results of argmax are int32, which the Neural Engine does not compute in.",
        advice: "keep index arithmetic at the beginning or the end of the model, or compute it in the app",
        source: "apple/ml-ane-transformers, README: the operations on indices are what stays on the CPU",
        example: "`add(x=ids, y=1)` on tensor<int32, [1, 128]> runs on the CPU, wherever its neighbours run.",
        find: Find::Op(|subject, op| {
            let Source::Program(_) = op.source else { return None };
            let types: Vec<DType> = subject.graph.results(op).filter_map(|value| value.dtype).collect();
            let whole = types.iter().all(|dtype| dtype.is_int() && dtype.bits() >= 32);
            (!types.is_empty() && whole).then(|| format!("gives {}", types[0]))
        }),
    },
    Rule {
        id: "ANE003",
        name: "too-many-dimensions",
        title: "Tensors have five dimensions at most",
        effect: Effect::Off,
        confidence: Confidence::A,
        reason: "The Neural Engine's tensors have five dimensions.",
        advice: "fold dimensions into each other",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "Attention over windows as (1, 8, 7, 8, 7, 96) leaves the Neural Engine; (64, 49, 96) does not.",
        find: Find::Op(|subject, op| {
            let ranks = || shapes(subject, op).map(Vec::len);
            let most = ranks().max()?;
            (most > MOST_DIMENSIONS).then(|| format!("has a tensor of {most} dimensions ({MOST_DIMENSIONS} at most)"))
        }),
    },
    Rule {
        id: "ANE004",
        name: "too-long-dimension",
        title: "Dimensions have 16384 elements at most",
        effect: Effect::Off,
        confidence: Confidence::B,
        reason: "Sizes beyond 16384 are refused by the Neural Engine's compiler.",
        advice: "split it, as large vocabularies are: several projections of 16384 and a concatenation on the CPU",
        source: "ANEMLL (llama_model.py, qwen2_5_model.py), Orion, ironmill",
        example: "A head with 32000 classes leaves the Neural Engine; two convolutions with 16000 outputs each do not.",
        find: Find::Op(|subject, op| {
            let longest = shapes(subject, op).flatten().copied().flatten().max()?;
            (longest > LONGEST_DIMENSION).then(|| format!("has a dimension of {longest} ({LONGEST_DIMENSION} at most)"))
        }),
    },
    Rule {
        id: "ANE005",
        name: "singleton-last-axis",
        title: "A last axis of size 1 takes 32 times its memory",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The last axis is padded to 64 bytes, which are 32 numbers in fp16 and 64 in int8.",
        advice: "put an axis of size 1 anywhere but last, as in (B, C, 1, S)",
        source: "Apple, Deploying Transformers on the Apple Neural Engine; neural_engine_rules.md",
        example: "(1, 512, 128, 1) takes 4 MB where (1, 512, 1, 128) takes 128 KB.",
        find: Find::Op(|subject, op| {
            let wasted = subject.graph.results(op).find(|value| {
                let last = value.dims.as_ref().is_some_and(|dims| dims.len() >= 3 && dims.last() == Some(&Some(1)));
                last && value.count().is_some_and(|count| count >= MANY)
            })?;
            let Some(dims) = &wasted.dims else { return None };
            // A plane of 1 x 1 after pooling is what convolutions of 1 x 1 read.
            let plane = dims.len() == 4 && dims[2] == Some(1);
            (!plane).then(|| format!("gives {}, whose last axis is padded from 1 to 32", shown(dims)))
        }),
    },
    Rule {
        id: "ANE006",
        name: "open-size",
        title: "Of a range of sizes only the default one runs on the Neural Engine",
        effect: Effect::Doubtful,
        confidence: Confidence::A,
        reason: "The Neural Engine's programs are compiled for fixed shapes.",
        advice: "give the input one shape or up to 128 enumerated ones; of a range only the default shape may run there",
        source: "Apple engineer, developer forum 724930; coremltools#1029",
        example: "ct.RangeDim(1, 512) leaves all but the default length to the CPU and the GPU; \
                  ct.EnumeratedShapes([[1, 128], [1, 512]]) does not.",
        find: Find::Op(|subject, op| {
            let open =
                subject.graph.results(op).find_map(|value| value.dims.as_ref().filter(|dims| dims.contains(&None)))?;
            // Enumerated shapes leave their sizes open in the program too.
            has_range(subject).then(|| format!("gives {}, whose size is open", shown(open)))
        }),
    },
    Rule {
        id: "ANE007",
        name: "range-of-sizes",
        title: "The model takes a range of sizes",
        effect: Effect::Note,
        confidence: Confidence::A,
        reason: "Core ML may compile for shapes as they come where it knows that they seldom change.",
        advice: "set reshapeFrequency to infrequent in MLOptimizationHints (iOS 17.4, macOS 14.4), or enumerate the shapes",
        source: "coremltools guide, flexible inputs",
        example: "MLModelConfiguration().optimizationHints.reshapeFrequency = .infrequent",
        find: Find::Model(|subject| subject.graph.interface?.inputs.iter().find_map(open_size)),
    },
    Rule {
        id: "ANE008",
        name: "too-many-shapes",
        title: "At most 128 shapes are enumerated, and before iOS 18 of one input",
        effect: Effect::Doubtful,
        confidence: Confidence::A,
        reason: "Each shape is a program of its own. Before iOS 18 only one input may have several; since then all must have as \
                 many, and they go by pairs.",
        advice: "enumerate fewer shapes, those of one input, or as many for each from iOS 18 on",
        source: "coremltools guide, flexible inputs and FAQ",
        example: "Two inputs with EnumeratedShapes of 3 and 4 shapes do not load; 3 and 3 do from iOS 18 on.",
        find: Find::Model(|subject| {
            let counts = enumerated(subject);
            if let Some((name, count)) = counts.iter().find(|(_, count)| *count > MOST_SHAPES) {
                return Some(format!("the input {name:?} has {count} shapes ({MOST_SHAPES} at most)"));
            }
            let equal = counts.windows(2).all(|pair| pair[0].1 == pair[1].1);
            let several = counts.len() > 1 && !(equal && subject.target.since_ios(18, subject.graph));
            several.then(|| format!("{} inputs have several shapes", counts.len()))
        }),
    },
    Rule {
        id: "ANE009",
        name: "enumerated-shapes",
        title: "Enumerated shapes may leave the Neural Engine",
        effect: Effect::Note,
        confidence: Confidence::B,
        reason: "Switching shapes and normalisations over enumerated sizes have been seen to fall back to the CPU.",
        advice: "check each shape with MLComputePlan or Xcode's report on the device",
        source: "coremltools#2370, coremltools#1909",
        example: "LayerNorm over an enumerated length ran on the CPU with iOS 16, and on the Neural Engine with one shape.",
        find: Find::Model(|subject| {
            let counts = enumerated(subject);
            let (name, count) = counts.first()?;
            Some(format!("the input {name:?} has {count} shapes"))
        }),
    },
    Rule {
        id: "ANE010",
        name: "narrow-state",
        title: "A state's last dimension should be a multiple of 32",
        effect: Effect::Doubtful,
        confidence: Confidence::C,
        reason: "States of other widths have failed on the Neural Engine: 270 did, 256 did not.",
        advice: "pad the state's last dimension to a multiple of 32",
        source: "coremltools#2631 (macOS 15.2, M4)",
        example: "ct.StateType of (1, 8, 270) fails at the prediction; of (1, 8, 288) it does not.",
        find: Find::Op(|subject, op| {
            if !matches!(op.kind, "read_state" | "coreml_update_state" | "write_state") {
                return None;
            }
            let last = shapes(subject, op).filter_map(|dims| *dims.last()?).find(|last| last % STATE_MULTIPLE != 0)?;
            Some(format!("has a state whose last dimension is {last}, no multiple of {STATE_MULTIPLE}"))
        }),
    },
    Rule {
        id: "ANE011",
        name: "huge-plane",
        title: "Very large planes fail to compile for the Neural Engine",
        effect: Effect::Doubtful,
        confidence: Confidence::C,
        reason: "An image of 5568 x 5568 failed to compile for the Neural Engine.",
        advice: "cut the image into tiles",
        source: "coremltools#2247",
        example: "(1, 3, 5568, 5568) fails; sixteen tiles of (1, 3, 1392, 1392) do not.",
        find: Find::Op(|subject, op| {
            let plane = |dims: &Dims| match dims[..] {
                [_, _, Some(rows), Some(columns)] => Some((rows, columns)),
                _ => None,
            };
            let planes = shapes(subject, op).filter_map(plane);
            let (rows, columns) = planes.max_by_key(|(rows, columns)| rows.saturating_mul(*columns))?;
            (rows.saturating_mul(columns) >= LARGEST_PLANE).then(|| format!("has a plane of {rows} x {columns}"))
        }),
    },
];

/// Small tensors may take what they like.
const MANY: usize = 1024;

/// The shapes of what an operation reads and gives, but of weights.
fn shapes<'s>(subject: &'s Subject<'_>, op: &'s Op<'_>) -> impl Iterator<Item = &'s Dims> {
    let graph = subject.graph;
    // Constants take the shape that their user wants, such as tables of rank 6.
    let read = graph.operands(op).filter(|value| !value.is_constant());
    read.chain(graph.results(op)).flat_map(|value| value.dims.iter().chain(&value.declared))
}

pub(super) fn shown(dims: &Dims) -> String {
    let sizes: Vec<String> = dims.iter().map(|dim| dim.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("({})", sizes.join(", "))
}

fn has_range(subject: &Subject<'_>) -> bool {
    let mut inputs = subject.graph.interface.into_iter().flat_map(|interface| &interface.inputs);
    inputs.any(|input| open_size(input).is_some())
}

/// Inputs with several shapes, and how many.
fn enumerated<'s>(subject: &'s Subject<'_>) -> Vec<(&'s str, usize)> {
    let inputs = subject.graph.interface.into_iter().flat_map(|interface| &interface.inputs);
    let several = |input: &'s coreml_format::schema::Feature| {
        let shapes = declared_shapes(input).len();
        (shapes > 1).then_some((input.name.as_str(), shapes))
    };
    inputs.filter_map(several).collect()
}

/// The dimension of an input that may have any size of a range.
fn open_size(input: &coreml_format::schema::Feature) -> Option<String> {
    let is_open = |range: &SizeRange| range.upper != Some(range.lower);
    let open = |of: &str, range: &SizeRange| {
        let to = range.upper.map_or("and up".to_owned(), |upper| format!("to {upper}"));
        format!("the {of} of the input {:?} is a range ({} {to})", input.name, range.lower)
    };
    match &input.kind {
        FeatureKind::MultiArray(array) => {
            let ShapeFlexibility::Ranges(ranges) = &array.flexibility else { return None };
            let (axis, range) = ranges.iter().enumerate().find(|(_, range)| is_open(range))?;
            Some(open(&format!("dimension {axis}"), range))
        }
        FeatureKind::Image(image) => {
            let ImageFlexibility::Ranges { width, height } = &image.flexibility else { return None };
            let (of, range) = [("width", width), ("height", height)].into_iter().find(|(_, range)| is_open(range))?;
            Some(open(of, range))
        }
        // A sequence's length is a range by nature, and no tensor's.
        FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary(_)
        | FeatureKind::Sequence(..)
        | FeatureKind::State(_) => None,
    }
}
