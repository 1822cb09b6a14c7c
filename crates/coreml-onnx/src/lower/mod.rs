//! Lowering: the driver that walks a program, and the table of operations that it walks with.
//!
//! The driver alone looks operations up, reads their results' declared types and adds places to errors.

pub(crate) mod activation;
pub(crate) mod blocks;
mod constexpr;
mod control;
mod elementwise;
pub(crate) mod linear;
mod list;
pub(crate) mod normalization;
mod pool;
mod program;
mod quantize;
pub(crate) mod random;
mod reader;
pub(crate) mod recurrent;
pub(crate) mod reduction;
pub(crate) mod resize;
pub(crate) mod sampling;
pub(crate) mod scatter_gather;
pub(crate) mod suppression;
mod tensor;
pub(crate) mod transform;
pub(crate) mod window;

use std::collections::BTreeMap;

use coreml_format::{Model, ModelKind};

use crate::{
    LowerError, LowerOptions, Lowered, UnsupportedOp, layers,
    onnx::{OnnxBuilder, Value},
};
use reader::OpReader;

/// How one MIL operation is written in ONNX.
struct Lowering {
    mil: &'static str,
    run: fn(&OpReader<'_>, &mut OnnxBuilder) -> Results,
}

/// The results of an operation in its order, or what is wrong with it.
type Results = Result<Vec<Value>, Fault>;

/// What is wrong with an operation; the driver adds which one it is.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl From<String> for Fault {
    fn from(reason: String) -> Fault {
        Fault(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Fault {
        Fault(reason.to_owned())
    }
}

/// Every family of operations.
const FAMILIES: &[&[Lowering]] = &[
    activation::OPS,
    blocks::OPS,
    constexpr::OPS,
    elementwise::OPS,
    linear::OPS,
    list::OPS,
    normalization::OPS,
    pool::OPS,
    quantize::OPS,
    random::OPS,
    recurrent::OPS,
    reduction::OPS,
    resize::OPS,
    sampling::OPS,
    scatter_gather::OPS,
    suppression::OPS,
    tensor::OPS,
    transform::OPS,
    window::OPS,
];

/// The MIL operations that have a lowering, sorted by name.
pub fn ops() -> Vec<&'static str> {
    let mut names: Vec<&str> = FAMILIES.iter().flat_map(|family| family.iter().map(|row| row.mil)).collect();
    names.extend(control::OPS);
    names.sort_unstable();
    names
}

fn find(kind: &str) -> Option<&'static Lowering> {
    FAMILIES.iter().find_map(|family| family.iter().find(|row| row.mil == kind))
}

/// Operations that have no lowering, of which the kind and the name are given, by their kind.
pub(crate) fn grouped<'a>(missing: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<UnsupportedOp> {
    const NAMED: usize = 3;
    let mut kinds: BTreeMap<&str, UnsupportedOp> = BTreeMap::new();
    for (kind, name) in missing {
        let entry =
            kinds.entry(kind).or_insert_with(|| UnsupportedOp { kind: kind.to_owned(), count: 0, places: Vec::new() });
        entry.count += 1;
        if entry.places.len() < NAMED {
            entry.places.push(name.to_owned());
        }
    }
    kinds.into_values().collect()
}

pub(crate) fn lower(model: &Model, options: &LowerOptions) -> Result<Lowered, LowerError> {
    match &model.kind {
        ModelKind::Program(program) => program::lower(model, program, options),
        ModelKind::NeuralNetwork(network) => layers::lower(model, network, options),
        ModelKind::Compiled(why) => Err(LowerError::Model(format!(
            "it is a compiled model, and {why}, so that only Apple's Core ML can run it; take the .mlpackage or .mlmodel that \
             it was compiled from"
        ))),
        ModelKind::Classic(classic) => Err(LowerError::Model(format!(
            "it is a {} model, which is evaluated as it is and has no graph; ML Programs and neural networks have one",
            spaced(classic.name())
        ))),
        ModelKind::Pipeline(_) => Err(LowerError::Model(
            "it is a pipeline, whose models have a graph each and none together; export the models that it was made of"
                .to_owned(),
        )),
        ModelKind::Other(kind) => Err(LowerError::Model(closed(kind))),
    }
}

/// Why a model of this type runs on Apple's systems alone.
fn closed(kind: &str) -> String {
    let why = match kind {
        "textClassifier" | "wordTagger" | "gazetteer" | "wordEmbedding" => {
            "whose parameters only Apple's Natural Language framework can read"
        }
        "visionFeaturePrint" => "whose parameters are part of Apple's Vision framework and not of the file",
        "soundAnalysisPreprocessing" | "audioFeaturePrint" => {
            "whose parameters are part of Apple's Sound Analysis framework and not of the file"
        }
        "customModel" => "whose code is in an app and not in the file",
        "serializedModel" => "of a type that its file does not tell",
        _ => "which is not documented well enough to be run elsewhere",
    };
    format!("it is a {} model, {why}; it runs on Apple's systems alone", spaced(kind.trim_end_matches("Model")))
}

/// `treeEnsembleRegressor` as a person writes it: `tree ensemble regressor`.
fn spaced(name: &str) -> String {
    name.chars().flat_map(|c| c.is_uppercase().then_some(' ').into_iter().chain(c.to_lowercase())).collect()
}

/// The number of dimensions of an operand.
fn rank(x: &Value) -> Result<usize, Fault> {
    Ok(x.dims().ok_or("the rank of its operands must be known")?.len())
}

/// `axis` counted from the front, in a tensor of `rank` dimensions.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<i64, Fault> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&counted) {
        Ok(counted)
    } else {
        Err(format!("axis {axis} is out of range for a tensor of rank {rank}").into())
    }
}

/// The number of elements of a constant that a lowering makes by itself; sizes out of a file must not ask for absurd
/// memory.
pub(crate) fn made_count(shape: &[usize]) -> Result<usize, Fault> {
    const LARGEST: usize = 1 << 26;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= LARGEST);
    count.ok_or_else(|| format!("it asks for a constant of shape {shape:?}, which is too large").into())
}

/// Each of `axes` counted from the front, each once.
pub(crate) fn axes(axes: &[i64], rank: usize) -> Result<Vec<i64>, Fault> {
    let mut counted = Vec::with_capacity(axes.len());
    for &one in axes {
        let one = axis(one, rank)?;
        if counted.contains(&one) {
            return Err(format!("axes {axes:?} name axis {one} twice").into());
        }
        counted.push(one);
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_sorted_and_names_are_unique() {
        for family in FAMILIES {
            assert!(family.is_sorted_by_key(|row| row.mil), "{:?}", family.iter().map(|r| r.mil).collect::<Vec<_>>());
        }
        let names = ops();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn every_mil_op_is_lowered_or_excused() {
        let excused: Vec<&str> =
            include_str!("excused.txt").lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        for name in include_str!("mil_ops.txt").lines() {
            assert!(ops().contains(&name) != excused.contains(&name), "{name}");
        }
    }

    #[test]
    fn every_op_has_a_fixture() {
        let cases = include_str!("../../tests/ops/cases.json");
        for name in ops() {
            assert!(cases.contains(&format!("\"op\": \"{name}\"")), "{name}");
        }
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(axes(&[-1, 0], 3).unwrap(), [2, 0]);
        assert_eq!(axis(5, 2).unwrap_err().0, "axis 5 is out of range for a tensor of rank 2");
        assert_eq!(axes(&[1, -1], 2).unwrap_err().0, "axes [1, -1] name axis 1 twice");
    }
}
