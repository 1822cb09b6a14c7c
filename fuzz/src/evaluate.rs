//! Opens classic models and evaluates them on made-up inputs.

use std::{fs, path::Path};

use coreml_classic::{Array, Dictionary, Evaluator, Sequence, Value};
use coreml_format::{
    Model, ModelKind,
    schema::{Feature, FeatureKind, KeyKind},
};

/// Arrays past this size are not made up: a damaged description may declare any.
const LARGEST: usize = 1 << 16;

/// Opens a `.mlmodel` of these bytes, laid at `path`, and evaluates it and, in a pipeline, each of its stages.
/// Whatever the bytes are: an error or an answer, within bounds, and no panic.
pub(crate) fn evaluate_file(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("storage");
    if let Ok(model) = Model::open(path) {
        evaluate(model);
    }
}

fn evaluate(model: Model) {
    match model.kind {
        ModelKind::Pipeline(pipeline) => pipeline.stages.into_iter().for_each(|stage| evaluate(stage.model)),
        ModelKind::Classic(classic) => {
            let interface = model.schema.interface;
            let inputs = |seed| interface.inputs.iter().map(|input| value(input, seed)).collect::<Option<Vec<_>>>();
            let Some(all) = (0..3).map(inputs).collect::<Option<Vec<_>>>() else { return };
            let outputs = interface.outputs.len();
            let evaluator = Evaluator::new(*classic, interface);
            for values in all {
                if let Ok(values) = evaluator.evaluate(&values) {
                    assert_eq!(values.len(), outputs);
                }
            }
        }
        _ => {}
    }
}

/// A value of the declared kind; `None` for one that is too large, or that these models do not take.
fn value(input: &Feature, seed: usize) -> Option<Option<Value>> {
    let number = [0.0, f64::NAN, -2.5][seed];
    let words = || vec!["a".to_owned(), String::new()];
    Some(Some(match &input.kind {
        _ if input.optional && seed == 1 => return Some(None),
        FeatureKind::Int64 => Value::Int64(seed as i64 - 1),
        FeatureKind::Double => Value::Double(number),
        FeatureKind::String => Value::String(words().swap_remove(seed % 2)),
        FeatureKind::MultiArray(kind) => {
            let count = kind.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= LARGEST)?;
            Value::Array(Array { shape: kind.shape.clone(), values: vec![number; count] })
        }
        FeatureKind::Dictionary(KeyKind::String) => {
            Value::Dictionary(Dictionary::Strings(words().into_iter().map(|word| (word, number)).collect()))
        }
        FeatureKind::Dictionary(KeyKind::Int64) => Value::Dictionary(Dictionary::Int64s(vec![(-1, 1.0), (1, number)])),
        FeatureKind::Sequence(KeyKind::String, _) => Value::Sequence(Sequence::Strings(words())),
        FeatureKind::Sequence(KeyKind::Int64, _) => Value::Sequence(Sequence::Int64s(vec![0, -1])),
        FeatureKind::Image(_) | FeatureKind::State(_) => return None,
    }))
}
