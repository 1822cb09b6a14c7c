//! What fp16 does to a model's numbers: two runs on the same inputs, one in fp32 and one with every result rounded to fp16,
//! compared value by value.

use std::{collections::HashMap, path::Path};

use coreml_format::{
    Model, ModelKind,
    schema::{ArrayKind, ArrayType, Feature as Declared, FeatureKind, ShapeFlexibility},
};
use coreml_onnx::{LowerOptions, Lowered, OutputBinding, OutputForm};

use super::coreml_model::{CoreMlModel, LoadOptions, Loading};
use crate::ane::{
    engines,
    errors::{ANEError, Result},
    features::{Dictionary, Feature, Features},
    infer::Precision,
};

/// Bytes of values that are looked at in one run; a model with more is run several times.
const AT_ONCE: usize = 256 << 20;

/// What fp16 does to each value of a model, for one set of inputs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Numerics {
    /// Every floating-point result of an operation outside of blocks, in the order of the model.
    pub values: Vec<Drift>,
    /// The model's outputs of floating-point numbers, by the names of features; of probabilities in the order of the labels.
    pub outputs: Vec<Drift>,
    /// The model's outputs that are a label or a whole number.
    pub answers: Vec<Answer>,
}

/// An output that is one answer, in fp32 and in fp16.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The feature's name.
    pub name: String,
    /// What it is in fp32.
    pub fp32: String,
    /// What it is in fp16.
    pub fp16: String,
}

/// What fp16 does to one value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Drift {
    /// The operation or layer; empty for an output.
    pub op: String,
    /// The value's name.
    pub name: String,
    /// The number of elements.
    pub elements: usize,
    /// Elements that are finite in fp32 and infinite in fp16.
    pub overflow: usize,
    /// Elements that are numbers in fp32 and not in fp16.
    pub invalid: usize,
    /// Elements that are not 0 in fp32, and 0 in fp16.
    pub flushed: usize,
    /// The largest size of a finite element in fp32.
    pub largest: f64,
    /// The root mean square of the differences over that of the values in fp32, of elements that are finite in both. Where
    /// all of those values are 0, that of the differences.
    pub error: f64,
    /// The element that differs most: first what is infinite or no number in fp16 alone, then by difference.
    pub worst: Option<Worst>,
}

/// The element of a value that differs most.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Worst {
    /// Its place in each dimension.
    pub index: Vec<usize>,
    /// The element in fp32.
    pub fp32: f32,
    /// The element in fp16.
    pub fp16: f32,
}

impl Numerics {
    /// The first value with an element that overflows, or is no number, in fp16 alone: what comes after it may only pass
    /// that on.
    pub fn first_failure(&self) -> Option<&Drift> {
        self.values.iter().find(|value| value.overflow + value.invalid > 0)
    }
}

impl Drift {
    /// Compares a value in fp32 with the same one in fp16. They have the same shape.
    fn between(op: &str, name: &str, shape: &[usize], full: &[f32], half: &[f32]) -> Drift {
        let mut drift = Drift {
            op: op.to_owned(),
            name: name.to_owned(),
            elements: full.len(),
            overflow: 0,
            invalid: 0,
            flushed: 0,
            largest: 0.0,
            error: 0.0,
            worst: None,
        };
        let (mut squares, mut errors, mut worst) = (0.0f64, 0.0f64, (0.0f64, None));
        for (place, (&full, &half)) in full.iter().zip(half).enumerate() {
            let (x, y) = (f64::from(full), f64::from(half));
            if full.is_finite() && half.is_finite() {
                squares += x * x;
                errors += (x - y) * (x - y);
                drift.flushed += usize::from(x != 0.0 && y == 0.0);
            }
            if full.is_finite() {
                drift.largest = drift.largest.max(x.abs());
                drift.overflow += usize::from(half.is_infinite());
            }
            drift.invalid += usize::from(half.is_nan() && !full.is_nan());
            let broken = full.is_finite() && !half.is_finite();
            let far = if broken { f64::INFINITY } else { (x - y).abs() };
            if far > worst.0 {
                worst = (far, Some((place, full, half)));
            }
        }
        drift.error = if squares > 0.0 { (errors / squares).sqrt() } else { errors.sqrt() };
        drift.worst = worst.1.map(|(place, fp32, fp16)| Worst { index: index(place, shape), fp32, fp16 });
        drift
    }
}

/// The place of an element in each dimension.
fn index(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = Vec::with_capacity(shape.len());
    for size in shape.iter().rev() {
        index.push(place % (*size).max(1));
        place /= (*size).max(1);
    }
    index.reverse();
    index
}

/// Runs a model on these inputs in fp32 and with fp16's rounding, and compares every result. `progress` is told how much
/// of it is done, from 0 to 1.
///
/// Cost: each operation twice, and more often where results take more than 256 MB; all of these are copied.
///
/// # Errors
/// Those of loading and predicting. [`ANEError::CompilationFailed`] for a model that has no operations: a classic one, a
/// pipeline, a compiled one.
pub fn compare(
    path: impl AsRef<Path>,
    inputs: &Features,
    options: &LoadOptions,
    mut progress: impl FnMut(f64),
) -> Result<Numerics> {
    let path = path.as_ref();
    let model = Model::open(path)?;
    if !matches!(model.kind, ModelKind::Program(_) | ModelKind::NeuralNetwork(_)) {
        return Err(ANEError::CompilationFailed(format!(
            "a model of type {} has no operations whose numbers could be compared; give an ML Program or a neural network",
            model.kind.name()
        )))
        .map_err(|error: ANEError| error.of_model(path));
    }
    let results = results(&model, options);
    let plain = Lowering { model: &model, options, round_to_fp16: false };
    let rounded = Lowering { round_to_fp16: true, ..plain };
    let batches = batches(&plain.lower()?, &results);
    let mut numerics = Numerics { values: Vec::new(), outputs: Vec::new(), answers: Vec::new() };
    let all = batches.len().max(1);
    for (number, batch) in batches.iter().enumerate() {
        let names: Vec<&str> = batch.iter().map(|&place| results[place].1.as_str()).collect();
        let full = plain.run(inputs, &names)?;
        progress((number as f64 + 0.5) / all as f64);
        let half = rounded.run(inputs, &names)?;
        progress((number as f64 + 1.0) / all as f64);
        for &place in batch {
            let (op, name) = &results[place];
            numerics.values.extend(compared(op, name, &full.values, &half.values));
        }
        if number == 0 {
            numerics.outputs = outputs(&full.features, &half.features);
            numerics.answers = answers(&full.features, &half.features);
        }
    }
    Ok(numerics)
}

/// The outputs of floating-point numbers.
fn outputs(full: &Features, half: &Features) -> Vec<Drift> {
    let drift = |(name, feature): (&str, &Feature)| {
        let ((shape, full), (other, half)) = (floats(feature)?, floats(half.get(name)?)?);
        (shape == other).then(|| Drift::between("", name, &shape, &full, &half))
    };
    full.iter().filter_map(drift).collect()
}

/// A feature's floating-point numbers, where it has any, and their shape.
fn floats(feature: &Feature) -> Option<(Vec<usize>, Vec<f32>)> {
    let shape = match feature {
        Feature::Array(array) if !matches!(array.array_type(), Some(ArrayType::Int32 | ArrayType::Int8)) => {
            array.shape().to_vec()
        }
        Feature::Dictionary(Dictionary::Strings(entries)) => vec![entries.len()],
        Feature::Dictionary(Dictionary::Int64s(entries)) => vec![entries.len()],
        Feature::Double(_) => Vec::new(),
        Feature::Array(_) | Feature::Image(_) | Feature::String(_) | Feature::Int64(_) | Feature::Sequence(_) => {
            return None;
        }
    };
    Some((shape, feature.numbers().into_iter().map(|number| number as f32).collect()))
}

/// The outputs that are one answer.
fn answers(full: &Features, half: &Features) -> Vec<Answer> {
    let word = |feature: &Feature| match feature {
        Feature::String(word) => Some(word.clone()),
        Feature::Int64(number) => Some(number.to_string()),
        Feature::Array(_) | Feature::Image(_) | Feature::Double(_) | Feature::Dictionary(_) | Feature::Sequence(_) => {
            None
        }
    };
    let answer = |(name, feature): (&str, &Feature)| {
        Some(Answer { name: name.to_owned(), fp32: word(feature)?, fp16: word(half.get(name)?)? })
    };
    full.iter().filter_map(answer).collect()
}

type Values = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn compared(op: &str, name: &str, full: &Values, half: &Values) -> Option<Drift> {
    let ((shape, full), (other, half)) = (full.get(name)?, half.get(name)?);
    (shape == other).then(|| Drift::between(op, name, shape, full, half))
}

/// The results of each operation outside of blocks: its name and the result's.
fn results(model: &Model, options: &LoadOptions) -> Vec<(String, String)> {
    let graph = coreml_explain::Graph::of(model, options.function.as_deref(), None);
    let outside = graph.ops.iter().filter(|op| op.inside.is_none());
    outside.flat_map(|op| graph.results(op).map(|value| (op.name.to_owned(), value.name.to_owned()))).collect()
}

/// The places of the results that one run shows, for each run.
fn batches(lowered: &Lowered, results: &[(String, String)]) -> Vec<Vec<usize>> {
    let inferred = lowered.model.inferred_values(&coreml_explain::default_shapes(lowered));
    let bytes: HashMap<&str, usize> = (inferred.iter())
        .filter_map(|value| {
            Some((value.name.as_str(), value.shape.as_ref()?.iter().fold(4, |n: usize, &d| n.saturating_mul(d))))
        })
        .collect();
    let mut batches = vec![Vec::new()];
    let mut taken = 0usize;
    for (place, (_, name)) in results.iter().enumerate() {
        let size = bytes.get(lowered.model.value(name)).copied().unwrap_or(0);
        if taken.saturating_add(size) > AT_ONCE && taken > 0 {
            batches.push(Vec::new());
            taken = 0;
        }
        taken = taken.saturating_add(size);
        batches.last_mut().expect("there is one").push(place);
    }
    batches
}

#[derive(Clone, Copy)]
struct Lowering<'a> {
    model: &'a Model,
    options: &'a LoadOptions,
    round_to_fp16: bool,
}

/// What one run gives.
struct Shown {
    features: Features,
    values: Values,
}

impl Lowering<'_> {
    fn lower(&self) -> Result<Lowered> {
        let (engine, _) = engines::select(self.options.engine, self.options.threads)?;
        let lower = LowerOptions {
            function: self.options.function.clone(),
            without_fp16: !engine.has_fp16(),
            round_to_fp16: self.round_to_fp16,
            ..LowerOptions::default()
        };
        coreml_onnx::lower(self.model, &lower).map_err(|error| ANEError::from(error).of_model(&self.model.path))
    }

    /// Predicts, with these values of the model among the results.
    fn run(&self, inputs: &Features, names: &[&str]) -> Result<Shown> {
        let mut lowered = self.lower()?;
        let ports: HashMap<String, &str> =
            names.iter().map(|name| (lowered.model.value(name).to_owned(), *name)).collect();
        let first = lowered.model.outputs().len();
        let wanted: Vec<String> = names.iter().map(|name| lowered.model.value(name).to_owned()).collect();
        let shown: Vec<String> =
            lowered.model.show(wanted.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
        // No feature has such a name, since names from files are not empty and this is one of a port.
        let features = shown.iter().enumerate().map(|(place, _)| format!("\0{place}"));
        for (place, name) in features.enumerate() {
            lowered.outputs.push(OutputBinding { feature: array(name), port: first + place, form: OutputForm::Tensor });
        }
        // An output of the model is shown already.
        let already: Vec<(String, String)> = (lowered.outputs.iter())
            .filter(|binding| matches!(binding.form, OutputForm::Tensor))
            .filter_map(|binding| {
                let port = lowered.model.outputs().get(binding.port)?;
                Some((binding.feature.name.clone(), (*ports.get(&port.name)?).to_owned()))
            })
            .collect();
        let (engine, choice) = engines::select(self.options.engine, self.options.threads)?;
        let loading = Loading {
            engine: &*engine,
            choice,
            path: &self.model.path,
            precision: if self.round_to_fp16 { Precision::Fp16 } else { Precision::Fp32 },
            options: self.options.of_engine(),
        };
        let loaded = CoreMlModel::load_graph(loading, lowered, self.model.schema.clone(), |_, _| Ok(()))?;
        let features = loaded.predict(inputs)?;
        let mut values = HashMap::new();
        for (feature, name) in already {
            if let Some(array) = features.get(&feature).and_then(|feature| feature.as_array()) {
                values.insert(name, (array.shape().to_vec(), array.to_f32s()));
            }
        }
        let own = features.iter().filter(|(name, _)| !name.starts_with('\0'));
        let features = own.map(|(name, feature)| (name.to_owned(), feature.clone())).collect();
        Ok(Shown { features, values })
    }
}

/// A feature that takes any shape.
fn array(name: String) -> Declared {
    let kind = ArrayKind {
        dtype: ArrayType::Float32,
        shape: Vec::new(),
        flexibility: ShapeFlexibility::Ranges(Vec::new()),
        default: None,
    };
    Declared { name, description: String::new(), kind: FeatureKind::MultiArray(kind), optional: false }
}
