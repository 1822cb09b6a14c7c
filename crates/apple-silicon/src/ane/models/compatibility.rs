//! What keeps a whole model off the Neural Engine, as far as its file tells: the rules of `coreml_explain` that leave it
//! nothing to do.

use coreml_explain::{Effect, Explanation, Finding, Target, place, rule};
use coreml_format::Model;

use crate::ane::errors::{ANEError, Result};

/// What keeps a function of a model, the default one where `None`, off the Neural Engine: the most serious first, and
/// notes last. Empty for a function that is not there, and where the file does not tell: in a compiled model, or one
/// of several models.
///
/// Cost: a look at each operation's types, and at none of its weights.
pub(crate) fn examine(model: &Model, function: Option<&str>) -> Vec<Obstacle> {
    let explanation = place(model, function, Target::default());
    let work = Work::of(&explanation);
    RULES.iter().filter_map(|&(id, what)| obstacle(&explanation, &work, id, what)).collect()
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
    /// The rule's name, such as `ANE001`.
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

/// The rules that may keep a whole model off, the most serious first.
const RULES: &[(&str, ObstacleKind)] = &[
    ("ANE049", ObstacleKind::Model),
    ("ANE001", ObstacleKind::Precision),
    ("ANE002", ObstacleKind::Precision),
    ("ANE019", ObstacleKind::Operations),
    ("ANE020", ObstacleKind::Operations),
    ("ANE021", ObstacleKind::Operations),
    ("ANE022", ObstacleKind::Operations),
    ("ANE023", ObstacleKind::Operations),
    ("ANE024", ObstacleKind::Operations),
    ("ANE026", ObstacleKind::Operations),
    ("ANE003", ObstacleKind::Shape),
    ("ANE004", ObstacleKind::Shape),
    ("ANE007", ObstacleKind::Shape),
    ("ANE015", ObstacleKind::Note),
];

/// The work of a model, outside of nested blocks: what computes, or what moves values where nothing else is there.
struct Work {
    /// The places of its operations, each with the rule that keeps it off.
    ops: Vec<(usize, Option<&'static str>)>,
}

impl Work {
    fn of(explanation: &Explanation<'_>) -> Work {
        let ops = &explanation.graph.ops;
        let outside = (0..ops.len()).filter(|&place| ops[place].inside.is_none());
        let (moves, computes): (Vec<usize>, Vec<usize>) = outside.partition(|&place| ops[place].moves());
        let mut rules = vec![None; ops.len()];
        for finding in explanation.findings.iter().filter(|finding| is_off(finding)) {
            let Some(place) = finding.op else { continue };
            // What an operation does says more than what it computes in.
            let better =
                |now: &str| kind(now) == ObstacleKind::Precision && kind(finding.rule) != ObstacleKind::Precision;
            if rules[place].is_none_or(better) {
                rules[place] = Some(finding.rule);
            }
        }
        let work = if computes.is_empty() { moves } else { computes };
        Work { ops: work.into_iter().map(|place| (place, rules[place])).collect() }
    }
}

fn is_off(finding: &Finding) -> bool {
    let shape = kind(finding.rule) == ObstacleKind::Shape;
    !shape && rule(finding.rule).is_some_and(|rule| rule.effect == Effect::Off)
}

fn kind(id: &str) -> ObstacleKind {
    RULES.iter().find(|row| row.0 == id).map_or(ObstacleKind::Note, |row| row.1)
}

fn obstacle(explanation: &Explanation<'_>, work: &Work, id: &'static str, what: ObstacleKind) -> Option<Obstacle> {
    let findings: Vec<&Finding> = explanation.findings.iter().filter(|finding| finding.rule == id).collect();
    let first = findings.first()?;
    let message = match (what, first.op) {
        (ObstacleKind::Model | ObstacleKind::Note, _) | (_, None) => first.message.clone(),
        // One operation is enough.
        (ObstacleKind::Shape, Some(place)) => sentence(first, &explanation.graph.ops[place], findings.len() - 1),
        (ObstacleKind::Precision | ObstacleKind::Operations, Some(_)) => {
            if work.ops.iter().any(|(_, rule)| rule.is_none()) {
                return None;
            }
            let mut off = work.ops.iter().filter(|(_, rule)| *rule == Some(id)).map(|(place, _)| *place);
            let place = off.next()?;
            let found = findings.iter().find(|finding| finding.op == Some(place))?;
            sentence(found, &explanation.graph.ops[place], off.count())
        }
    };
    Some(Obstacle { rule: id, what, message, remedy: rule(id)?.advice })
}

fn sentence(finding: &Finding, op: &coreml_explain::Op<'_>, more: usize) -> String {
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("it {} ({} {:?}{more})", finding.message, op.kind, op.name)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        path::{Path, PathBuf},
    };

    use coreml_format::{
        DType, ModelKind, Tensor,
        mil::{Block, Dim, Function, Named, Op, Opset, Program, TensorType, Type, Value},
        nn::{ArrayMapping, ImageMapping, Layer, LayerKind, Loop, NeuralNetwork, Recurrent, ScatterMode},
        schema::{
            ArrayKind, ArrayType, ColorSpace, Feature, FeatureKind, ImageFlexibility, ImageKind, Interface, Schema,
            ShapeFlexibility, SizeRange,
        },
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
            ("ops/add/same_shape", &["ANE001"][..], "it computes in fp32 (add \"add_0\")"),
            ("ops/add/fp16", &[], ""),
            ("ops/add/int32", &["ANE002"], "it gives int32 (add \"add_0\")"),
            // Whole numbers in, real ones out.
            ("ops/gather/embedding", &["ANE026"], "it looks up rows in a table of 11 x 4 (gather"),
            // Narrow integers do run on the Neural Engine.
            ("ops/quantize/int8", &[], ""),
            ("ops/greater/fp16", &[], ""),
            ("ops/transpose/rank5", &["ANE001"], "transpose"),
            ("ops/lstm/sequence", &["ANE019"], "it is recurrent (lstm \"lstm_0\")"),
            ("ops/while_loop/until_sum", &["ANE020"], "(while_loop \"while_loop_0\")"),
            ("ops/while_loop/nested", &["ANE001", "ANE002", "ANE020"], "it computes in fp32 (mul"),
            ("ops/list_gather/rows", &["ANE020"], "(make_list \"make_list_0\" and 3 more)"),
            ("ops/scatter/update", &["ANE024"], "it scatters (scatter \"scatter_0\")"),
            ("layers/activation/relu", &[], ""),
            ("layers/network/enumerated_shapes", &[], ""),
            ("layers/mvn/flexible_size", &["ANE007"], "the dimension 2 of the input \"x\" is a range (1 to 20)"),
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
            ("basic_pitch", &["ANE001", "ANE004"][..]),
            ("bilstm_fp32", &["ANE001", "ANE019"]),
            ("gru_fp32", &["ANE001", "ANE020"]),
            ("lstm_fp32", &["ANE001", "ANE019"]),
            ("mobilenet_v2_w035_flexbatch", &["ANE007"]),
            ("mobilenet_v2_w050_fp32", &["ANE001"]),
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
        let message = "it is of type treeEnsembleRegressor, which Core ML runs on the CPU";
        check(&model(ModelKind::Other("treeEnsembleRegressor"), Vec::new()), None, &["ANE049"], message);
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
        check(&network(vec![custom(), permute()]), None, &["ANE023"], "it has its code in the app (custom \"l\")");
        check(&network(vec![custom(), LayerKind::Softmax]), None, &[], "");
        check(
            &network(vec![gru, custom(), repeat, scatter]),
            None,
            &["ANE019", "ANE020", "ANE023", "ANE024"],
            "(gru \"l\")",
        );
        check(&network(vec![permute(), LayerKind::Softmax]), None, &[], "");
        check(&network(Vec::new()), None, &[], "");
    }

    #[test]
    fn ranks_and_sizes() {
        check(&relus(&[&[1, 2, 3, 4, 5]], Vec::new()), None, &[], "");
        let message = "it has a tensor of 6 dimensions (5 at most) (relu \"y\" and 1 more)";
        check(&relus(&[&[1; 5], &[1; 6], &[1; 7]], Vec::new()), None, &["ANE003"], message);
        check(&relus(&[&[1, 16384]], Vec::new()), None, &[], "");
        let message = "it has a dimension of 16385 (16384 at most) (relu \"y\")";
        check(&relus(&[&[1, 16385]], Vec::new()), None, &["ANE004"], message);
        let inner = vec![Block { ops: vec![op("relu", &[1; 6], Vec::new())], ..Block::default() }];
        let nested = vec![op("relu", &[1], Vec::new()), op("cond", &[1], inner)];
        check(&program(vec![("main", nested)], Vec::new()), None, &["ANE003"], "relu");
        // Tables of palettes have the rank of the weight and two more.
        let table = vec![op("relu", &[1], Vec::new()), op("const", &[1; 6], Vec::new())];
        check(&program(vec![("main", table)], Vec::new()), None, &[], "");
    }

    #[test]
    fn ranges() {
        let of = |ranges: &[(usize, Option<usize>)]| {
            let ranges = ranges.iter().map(|&(lower, upper)| SizeRange { lower, upper }).collect();
            relus(&[&[1]], vec![array(&[1, 3], ShapeFlexibility::Ranges(ranges))])
        };
        check(&of(&[(1, Some(1)), (3, Some(3))]), None, &[], "");
        let message = "the dimension 1 of the input \"x\" is a range (1 and up)";
        check(&of(&[(1, Some(1)), (1, None)]), None, &["ANE007"], message);
        let picture = |high: usize| {
            let width = SizeRange { lower: 8, upper: Some(8) };
            let height = SizeRange { lower: 8, upper: Some(high) };
            let flexibility = ImageFlexibility::Ranges { width, height };
            let image = ImageKind { width: 8, height: 8, color: ColorSpace::Rgb, flexibility };
            relus(&[&[1]], vec![feature(FeatureKind::Image(image))])
        };
        check(&picture(8), None, &[], "");
        check(&picture(9), None, &["ANE007"], "the height of the input \"x\" is a range (8 to 9)");
    }

    #[test]
    fn one_function_is_examined() {
        let ops = |shape: &[usize]| vec![op("relu", shape, Vec::new())];
        let model = program(vec![("main", ops(&[1])), ("other", ops(&[1; 6]))], Vec::new());
        check(&model, None, &[], "");
        check(&model, Some("main"), &[], "");
        check(&model, Some("other"), &["ANE003"], "relu");
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
        check(&of(1_000_000_000), None, &[], "");
        let heavy = of(1_000_000_001);
        check(&heavy, None, &["ANE015"], "its weights take 1.0 GB");
        assert_eq!(verdict(&examine(&heavy, None)), Ok(()));
    }

    #[test]
    fn verdicts() {
        let errors = |model: &Model| verdict(&examine(model, None)).unwrap_err();
        assert_eq!(
            errors(&fixture("ops/while_loop/nested")),
            ANEError::UnsupportedPrecision(
                "the Neural Engine does not take this model: it computes in fp32 (mul \"mul_0\"); convert it with \
                 compute_precision=ct.precision.FLOAT16 [ANE001]\nit gives int32 (sub \"sub_0\" and 1 more) \
                 [ANE002]\nit is control flow (while_loop \
                 \"while_loop_0\") [ANE020]"
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
    fn rules_are_there_and_notes_come_last() {
        assert!(RULES.iter().all(|(id, _)| rule(id).is_some()));
        let notes = RULES.iter().position(|row| row.1 == ObstacleKind::Note).unwrap();
        assert!(RULES[notes..].iter().all(|row| row.1 == ObstacleKind::Note), "notes come last");
    }
}
