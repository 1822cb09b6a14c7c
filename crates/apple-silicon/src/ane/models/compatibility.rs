//! What keeps a whole model off the Neural Engine, as far as its file tells.
//!
//! Only facts that Apple writes or that several projects have measured, and only such as hold for the model as a
//! whole: where an operation ends up is Core ML's choice, which depends on the device and the system. A model without
//! obstacles may still run elsewhere.

use coreml_format::{
    DType, Model, ModelKind,
    mil::{Block, Dim, Op, Program, Type},
    nn::Layer,
    schema::{Feature, FeatureKind, ImageFlexibility, Interface, ShapeFlexibility, SizeRange},
    stats,
};

use crate::ane::errors::{ANEError, Result};

/// What keeps a function of a model, the default one where `None`, off the Neural Engine: the most serious first, and
/// notes last. Empty for a function that is not there, and where the file does not tell: in a compiled model, or one
/// of several models.
///
/// Cost: a look at each operation's types, and at none of its weights.
pub(crate) fn examine(model: &Model, function: Option<&str>) -> Vec<Obstacle> {
    let subject = Subject::of(model, function);
    let found = |check: &Check| {
        let message = (check.find)(&subject)?;
        Some(Obstacle { rule: check.rule, what: check.what, message, remedy: check.remedy })
    };
    CHECKS.iter().filter_map(found).collect()
}

/// Whether the Neural Engine can take what was examined.
///
/// # Errors
/// The error that fits the first obstacle; its message has a line for each, the first with what to do.
pub(crate) fn verdict(obstacles: &[Obstacle]) -> Result<()> {
    let Some((first, others)) = obstacles.split_first() else { return Ok(()) };
    let error = match first.what {
        ObstacleKind::Model | ObstacleKind::Operations => ANEError::CompilationFailed,
        ObstacleKind::Precision => ANEError::UnsupportedPrecision,
        ObstacleKind::Shape => ANEError::InvalidShape,
        ObstacleKind::Note => return Ok(()),
    };
    let (why, remedy, rule) = (&first.message, first.remedy, first.rule);
    let others = others.iter().map(|other| format!("\n{} [{}]", other.message, other.rule));
    Err(error(
        format!("the Neural Engine does not take this model: {why}; {remedy} [{rule}]") + &others.collect::<String>(),
    ))
}

/// Something in a model that the Neural Engine does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Obstacle {
    /// The rule's name, such as `D1`.
    pub rule: &'static str,
    /// What it is about.
    pub what: ObstacleKind,
    /// What is in the way, as half a sentence with the feature or operation and its value.
    pub message: String,
    /// What to do, as half a sentence.
    pub remedy: &'static str,
}

/// What an obstacle is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObstacleKind {
    /// The type of the model.
    Model,
    /// What its operations do.
    Operations,
    /// What its operations compute in.
    Precision,
    /// The shapes of its tensors.
    Shape,
    /// Good to know, and in nobody's way here.
    Note,
}

/// One rule: what it finds, where it finds something.
struct Check {
    rule: &'static str,
    what: ObstacleKind,
    find: fn(&Subject<'_>) -> Option<String>,
    remedy: &'static str,
}

/// The most serious first.
const CHECKS: &[Check] = &[
    Check {
        rule: "kind",
        what: ObstacleKind::Model,
        find: |subject| {
            let kind = subject.model.kind.name();
            CPU_MODELS.contains(&kind).then(|| format!("it is a {kind}, which Core ML runs on the CPU"))
        },
        remedy: "only ML Programs and neural networks get there",
    },
    Check {
        rule: "D1",
        what: ObstacleKind::Precision,
        find: |subject| subject.without("D1", "it computes in fp32"),
        remedy: "convert it with compute_precision=ct.precision.FLOAT16",
    },
    Check {
        rule: "D2",
        what: ObstacleKind::Precision,
        find: |subject| subject.without("D2", "it computes in int32"),
        remedy: "run it on the CPU, or compute in fp16",
    },
    Check {
        rule: "O1",
        what: ObstacleKind::Operations,
        find: |subject| subject.without("O1", "it is recurrent"),
        remedy: "run it on the CPU, or write the recurrence as convolutions or attention",
    },
    Check {
        rule: "O2",
        what: ObstacleKind::Operations,
        find: |subject| subject.without("O2", "it is control flow, lists, random numbers or shapes that values decide"),
        remedy: "unroll loops and fix shapes before converting",
    },
    Check {
        rule: "O3",
        what: ObstacleKind::Operations,
        find: |subject| subject.without("O3", "it is made of custom layers"),
        remedy: "express them by layers of Core ML",
    },
    Check {
        rule: "O4",
        what: ObstacleKind::Operations,
        find: |subject| subject.without("O4", "it scatters"),
        remedy: "write slices instead",
    },
    Check {
        rule: "S1",
        what: ObstacleKind::Shape,
        find: |subject| {
            let too_many = |shape: &[Option<usize>]| shape.len() > MOST_DIMENSIONS;
            let says = |shape: &[Option<usize>]| format!("{} dimensions ({MOST_DIMENSIONS} at most)", shape.len());
            subject.first_tensor(too_many, says)
        },
        remedy: "fold dimensions into each other",
    },
    Check {
        rule: "S2",
        what: ObstacleKind::Shape,
        find: |subject| {
            let longest = |shape: &[Option<usize>]| shape.iter().flatten().copied().max().unwrap_or(0);
            let says =
                |shape: &[Option<usize>]| format!("a dimension of {} ({LONGEST_DIMENSION} at most)", longest(shape));
            subject.first_tensor(|shape| longest(shape) > LONGEST_DIMENSION, says)
        },
        remedy: "split it, as large vocabularies are",
    },
    Check {
        rule: "S5",
        what: ObstacleKind::Shape,
        find: |subject| subject.interface?.inputs.iter().find_map(open_size),
        remedy: "give it one shape or up to 128 enumerated ones; of a range only the default shape runs there",
    },
    Check {
        rule: "S11",
        what: ObstacleKind::Note,
        find: |subject| {
            let bytes: usize = stats::weights(subject.model).values().map(|amount| amount.bytes).sum();
            (bytes > MOST_WEIGHTS).then(|| format!("its weights take {:.1} GB", bytes as f64 * 1e-9))
        },
        remedy: "an iPhone's Neural Engine takes 1 GB; split the model for it, as coremltools' `bisect_model` does",
    },
];

const MOST_DIMENSIONS: usize = 5;
const LONGEST_DIMENSION: usize = 16384;
const MOST_WEIGHTS: usize = 1_000_000_000;

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

/// Operations and layers that the Neural Engine does not run, each with its rule, sorted.
const OFF: &[(&str, &str)] = &[
    ("biDirectionalLSTM", "O1"),
    ("branch", "O2"),
    ("broadcastToDynamic", "O2"),
    ("categoricalDistribution", "O2"),
    ("cond", "O2"),
    ("custom", "O3"),
    ("custom_layer", "O3"),
    ("fillDynamic", "O2"),
    ("getShape", "O2"),
    ("gru", "O1"),
    ("list_gather", "O2"),
    ("list_length", "O2"),
    ("list_read", "O2"),
    ("list_scatter", "O2"),
    ("list_write", "O2"),
    ("loop", "O2"),
    ("loopBreak", "O2"),
    ("loopContinue", "O2"),
    ("lstm", "O1"),
    ("make_list", "O2"),
    ("non_zero", "O2"),
    ("randomBernoulliDynamic", "O2"),
    ("randomBernoulliLike", "O2"),
    ("randomBernoulliStatic", "O2"),
    ("randomNormalDynamic", "O2"),
    ("randomNormalLike", "O2"),
    ("randomNormalStatic", "O2"),
    ("randomUniformDynamic", "O2"),
    ("randomUniformLike", "O2"),
    ("randomUniformStatic", "O2"),
    ("random_bernoulli", "O2"),
    ("random_categorical", "O2"),
    ("random_normal", "O2"),
    ("random_uniform", "O2"),
    ("rangeDynamic", "O2"),
    ("reshapeDynamic", "O2"),
    ("rnn", "O1"),
    ("scatter", "O4"),
    ("scatterND", "O4"),
    ("scatter_nd", "O4"),
    ("shape", "O2"),
    ("simpleRecurrent", "O1"),
    ("sliceDynamic", "O2"),
    ("uniDirectionalLSTM", "O1"),
    ("whereNonZero", "O2"),
    ("while_loop", "O2"),
];

/// Operations and layers that only move values, sorted. What is left of a model without its work is no reason to run
/// it on the Neural Engine.
const MOVES: &[&str] = &[
    "cast",
    "classify",
    "concat",
    "concatND",
    "copy",
    "expandDims",
    "expand_dims",
    "flatten",
    "flatten2d",
    "flattenTo2D",
    "identity",
    "loadConstant",
    "loadConstantND",
    "permute",
    "read_state",
    "reshape",
    "reshapeStatic",
    "reverse",
    "slice",
    "sliceBySize",
    "sliceStatic",
    "slice_by_index",
    "slice_by_size",
    "split",
    "splitND",
    "squeeze",
    "stack",
    "transpose",
    "write_state",
];

/// A function of a model, as the checks look at it.
struct Subject<'a> {
    model: &'a Model,
    interface: Option<&'a Interface>,
    block: Option<&'a Block>,
    /// What computes, outside of nested blocks; what moves values where nothing else is there.
    work: Vec<Work<'a>>,
}

/// An operation or a layer.
struct Work<'a> {
    kind: &'a str,
    name: &'a str,
    /// The rule that keeps it off the Neural Engine.
    off: Option<&'static str>,
}

impl<'a> Subject<'a> {
    fn of(model: &'a Model, function: Option<&str>) -> Subject<'a> {
        let schema = &model.schema;
        let name = function.unwrap_or(&schema.default_function);
        let is_default = function.is_none() || name == schema.default_function;
        let interface = schema.functions.get(name).or(Some(&schema.interface).filter(|_| is_default));
        let block = match &model.kind {
            ModelKind::Program(program) => program.functions.get(name).map(|function| &function.block),
            ModelKind::NeuralNetwork(_)
            | ModelKind::Classic(_)
            | ModelKind::Pipeline(_)
            | ModelKind::Compiled(_)
            | ModelKind::Other(_) => None,
        };
        let all: Vec<Work<'a>> = match &model.kind {
            ModelKind::NeuralNetwork(network) => network.layers.iter().map(Work::of_layer).collect(),
            _ => block
                .map_or(&[][..], |block| &block.ops)
                .iter()
                .filter(|op| !is_constant(op))
                .map(Work::of_op)
                .collect(),
        };
        let (moves, work): (Vec<Work<'a>>, _) =
            all.into_iter().partition(|work| MOVES.binary_search(&work.kind).is_ok());
        Subject { model, interface, block, work: if work.is_empty() { moves } else { work } }
    }

    /// What `rule` keeps off the Neural Engine, where no operation is left for it: `it`, and the first such operation.
    fn without(&self, rule: &str, it: &str) -> Option<String> {
        if self.work.iter().any(|work| work.off.is_none()) {
            return None;
        }
        let mut off = self.work.iter().filter(|work| work.off == Some(rule));
        let first = off.next()?;
        let more = match off.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("{it} ({} {:?}{more})", first.kind, first.name))
    }

    /// The first tensor with such a shape, and how many more there are.
    fn first_tensor(
        &self,
        is: impl Fn(&[Option<usize>]) -> bool,
        says: impl Fn(&[Option<usize>]) -> String,
    ) -> Option<String> {
        let mut found = Vec::new();
        let mut look = |of: &str, name: &str, shape: &[Option<usize>]| {
            if is(shape) {
                found.push(format!("the {of} {name:?} has {}", says(shape)));
            }
        };
        if let Some(interface) = self.interface {
            let inputs = interface.inputs.iter().map(|feature| ("input", feature));
            let outputs = interface.outputs.iter().map(|feature| ("output", feature));
            for (of, feature) in inputs.chain(outputs) {
                declared_shapes(feature).iter().for_each(|shape| look(of, &feature.name, shape));
            }
        }
        if let Some(block) = self.block {
            Program::visit(block, &mut |op| {
                // Constants take the shape that their user wants, such as tables of rank 6.
                let outputs = op.outputs.iter().filter(|_| !is_constant(op));
                for shape in outputs.filter_map(|output| shape_of(&output.ty)) {
                    look(&format!("result of {}", op.kind), &op.name, &shape);
                }
            });
        }
        let more = found.len().saturating_sub(1);
        let first = found.into_iter().next()?;
        Some(if more == 0 { first } else { format!("{first}, and {more} more like it") })
    }
}

impl<'a> Work<'a> {
    fn of_op(op: &'a Op) -> Work<'a> {
        let types: Vec<DType> = op.outputs.iter().filter_map(|output| Some(output.ty.as_tensor()?.dtype)).collect();
        let off = off(&op.kind).or_else(|| {
            if types.iter().any(|dtype| matches!(dtype, DType::Float32 | DType::Float64)) {
                return Some("D1");
            }
            (!types.is_empty() && types.iter().all(|dtype| *dtype == DType::Int32)).then_some("D2")
        });
        Work { kind: &op.kind, name: &op.name, off }
    }

    /// A neural network does not say what it computes in; on the Neural Engine that is fp16.
    fn of_layer(layer: &'a Layer) -> Work<'a> {
        Work { kind: layer.kind.name(), name: &layer.name, off: off(layer.kind.name()) }
    }
}

fn off(kind: &str) -> Option<&'static str> {
    OFF.binary_search_by_key(&kind, |row| row.0).ok().map(|row| OFF[row].1)
}

fn is_constant(op: &Op) -> bool {
    op.kind == "const" || op.kind.starts_with("constexpr_")
}

/// The sizes that a tensor has; `None` where even the rank is unknown.
fn shape_of(ty: &Type) -> Option<Vec<Option<usize>>> {
    let dims = ty.as_tensor()?.dims.as_ref()?;
    Some(dims.iter().map(|dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None }).collect())
}

/// The shapes that the description names, the default one first. Of ranges that is the only one.
fn declared_shapes(feature: &Feature) -> Vec<Vec<Option<usize>>> {
    let known = |shape: &[usize]| shape.iter().copied().map(Some).collect();
    match &feature.kind {
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => match &array.flexibility {
            ShapeFlexibility::Enumerated(shapes) => shapes.iter().map(|shape| known(shape)).collect(),
            ShapeFlexibility::Fixed | ShapeFlexibility::Ranges(_) => vec![known(&array.shape)],
        },
        FeatureKind::Image(image) => {
            let sizes = match &image.flexibility {
                ImageFlexibility::Enumerated(sizes) => sizes.clone(),
                ImageFlexibility::Fixed | ImageFlexibility::Ranges { .. } => vec![(image.width, image.height)],
            };
            let shape = |&(width, height): &(usize, usize)| known(&[1, image.color.channels(), height, width]);
            sizes.iter().map(shape).collect()
        }
        FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary(_)
        | FeatureKind::Sequence(..) => Vec::new(),
    }
}

/// The dimension of an input that may have any size of a range.
fn open_size(input: &Feature) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        path::{Path, PathBuf},
    };

    use coreml_format::{
        Tensor,
        mil::{Function, Named, Opset, TensorType, Value},
        nn::{ArrayMapping, ImageMapping, Layer, LayerKind, Loop, NeuralNetwork, Recurrent, ScatterMode},
        schema::{ArrayKind, ArrayType, ColorSpace, ImageKind, Schema},
        spec,
    };

    use super::*;

    /// The rules that a model goes against, and part of the first message.
    fn check(model: &Model, function: Option<&str>, rules: &[&str], message: &str) {
        let found = examine(model, function);
        let named: Vec<&str> = found.iter().map(|obstacle| obstacle.rule).collect();
        assert_eq!(named, rules, "{}: {found:?}", model.path.display());
        let first = found.first().map(|obstacle| obstacle.message.as_str()).unwrap_or_default();
        assert!(first.contains(message), "{}: {first}", model.path.display());
    }

    /// A model of this repository, by its folder below `crates/coreml-onnx/tests`.
    fn fixture(folder: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests").join(folder);
        let files = ["model.mlpackage", "model.mlmodel"].map(|file| folder.join(file));
        Model::open(files.iter().find(|file| file.exists()).unwrap()).unwrap()
    }

    #[test]
    fn fixtures() {
        for (folder, rules, message) in [
            ("ops/add/same_shape", &["D1"][..], "it computes in fp32 (add \"add_0\")"),
            ("ops/add/fp16", &[], ""),
            ("ops/add/int32", &["D2"], "it computes in int32 (add \"add_0\")"),
            // Whole numbers in, real ones out.
            ("ops/gather/embedding", &["D1"], "fp32 (gather"),
            // Narrow integers do run on the Neural Engine.
            ("ops/quantize/int8", &[], ""),
            ("ops/greater/fp16", &[], ""),
            ("ops/transpose/rank5", &["D1"], "transpose"),
            ("ops/lstm/sequence", &["O1"], "it is recurrent (lstm \"lstm_0\")"),
            ("ops/while_loop/until_sum", &["O2"], "(while_loop \"while_loop_0\")"),
            ("ops/while_loop/nested", &["D1", "D2", "O2"], "it computes in fp32 (mul"),
            ("ops/list_gather/rows", &["O2"], "(make_list \"make_list_0\" and 3 more)"),
            ("ops/scatter/update", &["O4"], "it scatters (scatter \"scatter_0\")"),
            ("layers/activation/relu", &[], ""),
            ("layers/network/enumerated_shapes", &[], ""),
            ("layers/mvn/flexible_size", &["S5"], "the dimension 2 of the input \"x\" is a range (1 to 20)"),
        ] {
            let model = fixture(folder);
            check(&model, None, rules, message);
        }
    }

    #[test]
    fn the_example_has_no_obstacles() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
        let model = Model::open(path).unwrap();
        check(&model, None, &[], "");
        assert_eq!(verdict(&examine(&model, None)), Ok(()));
    }

    #[test]
    fn whole_networks() {
        let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
        let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
        let open = shared.join("models/open");
        if !open.is_dir() {
            println!("skipped: there are no models in {}", open.display());
            return;
        }
        let obstacles: BTreeMap<&str, &[&str]> = BTreeMap::from([
            ("basic_pitch", &["D1", "S2"][..]),
            ("bilstm_fp32", &["D1", "O1"]),
            ("gru_fp32", &["D1", "O2"]),
            ("lstm_fp32", &["D1", "O1"]),
            ("mobilenet_v2_w035_flexbatch", &["S5"]),
            ("mobilenet_v2_w050_fp32", &["D1"]),
        ]);
        let mut seen = 0;
        for folder in open.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            let files = ["model.mlpackage", "model.mlmodel", "efficientnet.mlmodel"].map(|file| folder.join(file));
            let model = Model::open(files.iter().find(|file| file.exists()).unwrap()).unwrap();
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap();
            let expected = obstacles.get(name).copied();
            seen += usize::from(expected.is_some());
            check(&model, None, expected.unwrap_or_default(), "");
        }
        assert_eq!(seen, obstacles.len());
    }

    fn feature(kind: FeatureKind) -> Feature {
        Feature { name: "x".to_owned(), description: String::new(), kind, optional: false }
    }

    fn array(shape: &[usize], flexibility: ShapeFlexibility) -> Feature {
        let dtype = ArrayType::Float16;
        feature(FeatureKind::MultiArray(ArrayKind { dtype, shape: shape.to_vec(), flexibility, default: None }))
    }

    fn model(kind: ModelKind, inputs: Vec<Feature>) -> Model {
        let interface = Interface { inputs, ..Interface::default() };
        let schema = Schema { interface, default_function: "main".to_owned(), ..Schema::default() };
        Model { path: PathBuf::from("m"), spec_version: 7, schema, kind }
    }

    /// A program of an fp16 `relu` for each shape.
    fn relus(shapes: &[&[usize]], inputs: Vec<Feature>) -> Model {
        let relu = |shape: &&[usize]| op("relu", shape, Vec::new());
        program(vec![("main", shapes.iter().map(relu).collect())], inputs)
    }

    fn op(kind: &str, shape: &[usize], blocks: Vec<Block>) -> Op {
        let dims = Some(shape.iter().map(|size| Dim::Fixed(*size)).collect());
        let output = Named { name: "y".to_owned(), ty: Type::Tensor(TensorType { dtype: DType::Float16, dims }) };
        let (kind, name) = (kind.to_owned(), "y".to_owned());
        Op { kind, name, inputs: BTreeMap::new(), outputs: vec![output], blocks, attributes: BTreeMap::new() }
    }

    fn program(functions: Vec<(&str, Vec<Op>)>, inputs: Vec<Feature>) -> Model {
        let function =
            |ops| Function { inputs: Vec::new(), opset: Opset::IOS16, block: Block { ops, ..Block::default() } };
        let functions = functions.into_iter().map(|(name, ops)| (name.to_owned(), function(ops))).collect();
        model(ModelKind::Program(Program { functions }), inputs)
    }

    fn network(layers: Vec<LayerKind>) -> Model {
        let layer = |kind| Layer { name: "l".to_owned(), inputs: Vec::new(), outputs: Vec::new(), kind };
        let network = NeuralNetwork {
            layers: layers.into_iter().map(layer).collect(),
            preprocessing: BTreeMap::new(),
            array_mapping: ArrayMapping::Exact,
            image_mapping: ImageMapping::Rank4,
            classifier: None,
            regressor: false,
        };
        model(ModelKind::NeuralNetwork(network), Vec::new())
    }

    #[test]
    fn types_of_models() {
        let message = "it is a treeEnsembleRegressor, which Core ML runs on the CPU";
        check(&model(ModelKind::Other("treeEnsembleRegressor"), Vec::new()), None, &["kind"], message);
        // There may be a network in it.
        check(&model(ModelKind::Other("pipeline"), Vec::new()), None, &[], "");
        check(&model(ModelKind::Compiled(String::new()), Vec::new()), None, &[], "");
    }

    #[test]
    fn layers() {
        let custom = || LayerKind::Custom { class_name: "C".to_owned(), weights: Vec::new() };
        let permute = || LayerKind::Permute { axis: vec![0, 1, 2, 3] };
        let repeat = LayerKind::Loop(Loop { max_iterations: 1, condition: None, body: Vec::new() });
        let scatter = LayerKind::ScatterNd { mode: ScatterMode::Add };
        let gru = LayerKind::Gru(Recurrent {
            input_size: 1,
            output_size: 1,
            activations: Vec::new(),
            sequence_output: false,
            reverse_input: false,
            forget_bias: false,
            coupled: false,
            cell_clip: 0.0,
            directions: Vec::new(),
        });
        check(&network(vec![custom(), permute()]), None, &["O3"], "it is made of custom layers (custom \"l\")");
        check(&network(vec![custom(), LayerKind::Softmax]), None, &[], "");
        check(&network(vec![gru, custom(), repeat, scatter]), None, &["O1", "O2", "O3", "O4"], "(gru \"l\")");
        check(&network(vec![permute(), LayerKind::Softmax]), None, &[], "");
        check(&network(Vec::new()), None, &[], "");
    }

    #[test]
    fn ranks_and_sizes() {
        check(&relus(&[&[1, 2, 3, 4, 5]], Vec::new()), None, &[], "");
        let message = "the result of relu \"y\" has 6 dimensions (5 at most), and 1 more like it";
        check(&relus(&[&[1; 5], &[1; 6], &[1; 7]], Vec::new()), None, &["S1"], message);
        check(&relus(&[&[1, 16384]], Vec::new()), None, &[], "");
        let message = "the result of relu \"y\" has a dimension of 16385 (16384 at most)";
        check(&relus(&[&[1, 16385]], Vec::new()), None, &["S2"], message);
        let inner = vec![Block { ops: vec![op("relu", &[1; 6], Vec::new())], ..Block::default() }];
        let nested = vec![op("relu", &[1], Vec::new()), op("cond", &[1], inner)];
        check(&program(vec![("main", nested)], Vec::new()), None, &["S1"], "relu");
        // Tables of palettes have the rank of the weight and two more.
        let table = vec![op("relu", &[1], Vec::new()), op("const", &[1; 6], Vec::new())];
        check(&program(vec![("main", table)], Vec::new()), None, &[], "");

        let input = |shape: &[usize], flexibility| relus(&[&[1]], vec![array(shape, flexibility)]);
        check(&input(&[1; 6], ShapeFlexibility::Fixed), None, &["S1"], "the input \"x\" has 6 dimensions");
        let long = ShapeFlexibility::Enumerated(vec![vec![8], vec![20000]]);
        check(&input(&[8], long), None, &["S2"], "the input \"x\" has a dimension of 20000");
    }

    #[test]
    fn ranges() {
        let of = |ranges: &[(usize, Option<usize>)]| {
            let ranges = ranges.iter().map(|&(lower, upper)| SizeRange { lower, upper }).collect();
            relus(&[&[1]], vec![array(&[1, 3], ShapeFlexibility::Ranges(ranges))])
        };
        check(&of(&[(1, Some(1)), (3, Some(3))]), None, &[], "");
        let message = "the dimension 1 of the input \"x\" is a range (1 and up)";
        check(&of(&[(1, Some(1)), (1, None)]), None, &["S5"], message);
        let picture = |high: usize| {
            let width = SizeRange { lower: 8, upper: Some(8) };
            let height = SizeRange { lower: 8, upper: Some(high) };
            let flexibility = ImageFlexibility::Ranges { width, height };
            let image = ImageKind { width: 8, height: 8, color: ColorSpace::Rgb, flexibility };
            relus(&[&[1]], vec![feature(FeatureKind::Image(image))])
        };
        check(&picture(8), None, &[], "");
        check(&picture(9), None, &["S5"], "the height of the input \"x\" is a range (8 to 9)");
    }

    #[test]
    fn one_function_is_examined() {
        let ops = |shape: &[usize]| vec![op("relu", shape, Vec::new())];
        let model = program(vec![("main", ops(&[1])), ("other", ops(&[1; 6]))], Vec::new());
        check(&model, None, &[], "");
        check(&model, Some("main"), &[], "");
        check(&model, Some("other"), &["S1"], "relu");
        check(&model, Some("missing"), &[], "");
    }

    #[test]
    fn heavy_models_are_noted() {
        let of = |bytes: usize| {
            // Zeros that are never looked at take no memory.
            let weight = Tensor::new(DType::UInt8, vec![bytes], vec![0; bytes].into()).unwrap();
            let mut constant = op("const", &[bytes], Vec::new());
            constant.attributes.insert("val".to_owned(), Value::Tensor(weight));
            program(vec![("main", vec![constant, op("relu", &[1], Vec::new())])], Vec::new())
        };
        check(&of(MOST_WEIGHTS), None, &[], "");
        let heavy = of(MOST_WEIGHTS + 1);
        check(&heavy, None, &["S11"], "its weights take 1.0 GB");
        assert_eq!(verdict(&examine(&heavy, None)), Ok(()));
    }

    #[test]
    fn verdicts() {
        let errors = |model: &Model| verdict(&examine(model, None)).unwrap_err();
        assert_eq!(
            errors(&fixture("ops/while_loop/nested")),
            ANEError::UnsupportedPrecision(
                "the Neural Engine does not take this model: it computes in fp32 (mul \"mul_0\"); convert it with \
                 compute_precision=ct.precision.FLOAT16 [D1]\nit computes in int32 (sub \"sub_0\" and 1 more) \
                 [D2]\nit is control flow, lists, random numbers or shapes that values decide (while_loop \
                 \"while_loop_0\") [O2]"
                    .to_owned()
            )
        );
        assert!(matches!(errors(&fixture("ops/add/int32")), ANEError::UnsupportedPrecision(_)));
        assert!(matches!(errors(&fixture("ops/lstm/sequence")), ANEError::CompilationFailed(_)));
        let tree = model(ModelKind::Other("treeEnsembleClassifier"), vec![array(&[1; 6], ShapeFlexibility::Fixed)]);
        assert!(matches!(errors(&tree), ANEError::CompilationFailed(_)));
        assert!(matches!(errors(&relus(&[&[1; 6]], Vec::new())), ANEError::InvalidShape(_)));
    }

    #[test]
    fn tables_are_sorted_and_agree() {
        assert!(OFF.is_sorted_by(|a, b| a.0 < b.0));
        assert!(MOVES.is_sorted_by(|a, b| a < b));
        assert!(CPU_MODELS.is_sorted_by(|a, b| a < b));
        assert!(OFF.iter().all(|(kind, _)| MOVES.binary_search(kind).is_err()));
        assert!(OFF.iter().all(|(_, rule)| CHECKS.iter().any(|check| check.rule == *rule)));
        assert!(CPU_MODELS.iter().all(|kind| spec::MODEL_TYPES.iter().any(|row| row.1 == *kind)));
        let notes = CHECKS.iter().position(|check| check.what == ObstacleKind::Note).unwrap();
        assert!(CHECKS[notes..].iter().all(|check| check.what == ObstacleKind::Note), "notes come last");
    }
}
