//! Every model and case of `shared/models/open`, on every engine: data x engines.
//!
//! What comes out must agree with what PyTorch and others computed, within each model's tolerance, and tightly with
//! the package's own weights in fp32 where there is such a file. The folder is found through `ANE_SHARED` or beside
//! the workspace; without it, and without ONNX Runtime, the tests say so and pass.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    features::{Array, Dictionary, Elements, Feature, Features, Image, Pixels},
    models::coreml_model::{CoreMlModel, LoadOptions, State},
};
use half::f16;
use npyz::{DType, NpyFile, TypeChar};
use serde_json::Value;

/// Models that rten has to run at least; it may refuse the others.
const RTEN_RUNS: usize = 24;

#[test]
fn onnxruntime_agrees_on_every_model() {
    let report = run_all(EngineChoice::OnnxRuntime);
    assert!(report.refused.is_empty(), "refused:\n{}", report.refused.join("\n"));
    assert!(report.failed.is_empty(), "failed:\n{}", report.failed.join("\n"));
}

#[test]
fn rten_agrees_or_refuses() {
    let report = run_all(EngineChoice::Rten);
    assert!(report.failed.is_empty(), "failed:\n{}", report.failed.join("\n"));
    assert!(report.refused.iter().all(|why| why.contains("ane engine install")), "{}", report.refused.join("\n"));
    assert!(report.passed >= RTEN_RUNS || report.total == 0, "{} of {} passed", report.passed, report.total);
}

#[derive(Default)]
struct Report {
    total: usize,
    passed: usize,
    refused: Vec<String>,
    failed: Vec<String>,
}

fn run_all(engine: EngineChoice) -> Report {
    let mut report = Report::default();
    let Some(open) = open_models() else {
        println!("skipped: there is no folder shared/models/open; ANE_SHARED names `shared`");
        return report;
    };
    if engine == EngineChoice::OnnxRuntime && !has_onnxruntime() {
        println!("skipped: ONNX Runtime was not found");
        return report;
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(open).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        report.total += 1;
        match run_model(&folder, engine) {
            Ok(()) => report.passed += 1,
            Err(Trouble::Refused(why)) => report.refused.push(format!("{name}: {why}")),
            Err(Trouble::Wrong(why)) => report.failed.push(format!("{name}: {why}")),
        }
    }
    let Report { total, passed, refused, failed } = &report;
    println!("{engine}: {passed} of {total} pass, {} refused, {} fail", refused.len(), failed.len());
    refused.iter().for_each(|why| println!("  refused: {why}"));
    report
}

enum Trouble {
    Refused(String),
    Wrong(String),
}

impl From<ANEError> for Trouble {
    fn from(error: ANEError) -> Trouble {
        Trouble::Wrong(error.to_string())
    }
}

fn run_model(folder: &Path, engine: EngineChoice) -> Result<(), Trouble> {
    let meta: Value = serde_json::from_reader(File::open(folder.join("meta.json")).unwrap()).unwrap();
    let mut models: BTreeMap<Option<&str>, (CoreMlModel, State)> = BTreeMap::new();
    for case in meta["cases"].as_array().unwrap() {
        let function = case["function"].as_str();
        if !models.contains_key(&function) {
            let model = load(&folder.join(meta["file"].as_str().unwrap()), function, engine)?;
            let state = model.new_state()?;
            models.insert(function, (model, state));
        }
        let (model, state) = models.get_mut(&function).unwrap();
        if meta["sequence"] != true {
            *state = model.new_state()?;
        }
        let inputs = read_npz(&folder.join(case["inputs"].as_str().unwrap()));
        let features: Features = inputs.into_iter().map(|(name, npy)| (name, npy.into_feature())).collect();
        let outputs = model.predict_with_state(&features, state)?;
        check_labels(&outputs, &case["labels"])?;
        let tolerance = &meta["tolerance"];
        let loose = (tolerance["rtol"].as_f64().unwrap(), tolerance["atol"].as_f64().unwrap());
        compare(folder, &case["expected"], &outputs, |_| loose)?;
        compare(folder, &case["stored_weights"], &outputs, |largest| (1e-3, 1e-4 * largest))?;
    }
    Ok(())
}

fn load(path: &Path, function: Option<&str>, engine: EngineChoice) -> Result<CoreMlModel, Trouble> {
    let options = LoadOptions { engine, function: function.map(str::to_owned), ..LoadOptions::default() };
    CoreMlModel::load(path, &options).map_err(|error| match error {
        ANEError::CompilationFailed(why) if why.contains("ane engine install") => Trouble::Refused(why),
        other => other.into(),
    })
}

/// Compares every numeric output with the one in the file; `tolerance` is told the largest value.
fn compare(
    folder: &Path,
    file: &Value,
    outputs: &Features,
    tolerance: impl Fn(f64) -> (f64, f64),
) -> Result<(), Trouble> {
    let Some(file) = file.as_str() else { return Ok(()) };
    for (name, expected) in read_npz(&folder.join(file)) {
        let Npy::Numbers { shape, values } = expected else { continue };
        let (got_shape, got) = numbers(outputs.get(&name).ok_or(Trouble::Wrong(format!("no output {name}")))?);
        if got_shape != shape {
            return Err(Trouble::Wrong(format!("{file}: {name} has shape {got_shape:?}, not {shape:?}")));
        }
        let (rtol, atol) = tolerance(values.iter().fold(0.0, |largest, v| v.abs().max(largest)));
        let wrong = values.iter().zip(&got).filter(|&(e, g)| !((e - g).abs() <= atol + rtol * e.abs())).count();
        if wrong > 0 {
            let worst = values.iter().zip(&got).map(|(e, g)| (e - g).abs()).fold(0.0, f64::max);
            return Err(Trouble::Wrong(format!(
                "{file}: {wrong} of {} values of {name} are off, by up to {worst:.2e} (rtol {rtol:.1e}, atol {atol:.1e})",
                values.len()
            )));
        }
    }
    Ok(())
}

fn numbers(feature: &Feature) -> (Vec<usize>, Vec<f64>) {
    match feature {
        Feature::Array(array) => (array.shape().to_vec(), array.to_f64s()),
        Feature::Dictionary(Dictionary::Strings(entries)) => {
            (vec![entries.len()], entries.iter().map(|(_, value)| *value).collect())
        }
        Feature::Dictionary(Dictionary::Int64s(entries)) => {
            (vec![entries.len()], entries.iter().map(|(_, value)| *value).collect())
        }
        Feature::Int64(value) => (vec![1], vec![*value as f64]),
        Feature::Double(value) => (vec![1], vec![*value]),
        other => panic!("{} has no numbers", other.describe()),
    }
}

/// The labels of a case: the predicted class by the output's name.
fn check_labels(outputs: &Features, labels: &Value) -> Result<(), Trouble> {
    for (name, label) in labels.as_object().into_iter().flatten() {
        let Some(label) = label.as_str() else { continue };
        if outputs.get(name) != Some(&Feature::String(label.to_owned())) {
            return Err(Trouble::Wrong(format!("{name} is {:?}, not {label}", outputs.get(name))));
        }
    }
    Ok(())
}

fn open_models() -> Option<PathBuf> {
    let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    Some(shared.join("models/open")).filter(|open| open.is_dir())
}

fn has_onnxruntime() -> bool {
    use apple_silicon::ane::engines::{Status, installed};
    installed().iter().any(|engine| engine.engine == "onnxruntime" && engine.status == Status::Chosen)
}

/// One array of an npz file.
enum Npy {
    /// Floats and whole numbers, as doubles.
    Numbers { shape: Vec<usize>, values: Vec<f64> },
    /// Numbers as they are typed in the file, for inputs.
    Typed(Array),
    /// Height x width x (red, green, blue).
    Picture(Image),
    /// Words, which are in `meta.json` as well.
    Words,
}

impl Npy {
    fn into_feature(self) -> Feature {
        match self {
            Npy::Numbers { shape, values } => Feature::Array(Array::new(shape, values).unwrap()),
            Npy::Typed(array) => Feature::Array(array),
            Npy::Picture(image) => Feature::Image(image),
            Npy::Words => panic!("words are no input"),
        }
    }
}

fn read_npz(path: &Path) -> Vec<(String, Npy)> {
    let typed = path.file_name().unwrap().to_string_lossy().starts_with("inputs");
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut read = |name: &str| read_npy(NpyFile::new(archive.by_name(name).unwrap()).unwrap(), typed);
    names.iter().map(|name| (name.trim_end_matches(".npy").to_owned(), read(name))).collect()
}

fn read_npy(npy: NpyFile<impl Read>, typed: bool) -> Npy {
    let shape: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
    let DType::Plain(dtype) = npy.dtype() else { panic!("a structured array") };
    let elements = match (dtype.type_char(), dtype.size_field()) {
        (TypeChar::Float, 2) => Elements::Float16(npy.into_vec::<f16>().unwrap()),
        (TypeChar::Float, 4) => Elements::Float32(npy.into_vec().unwrap()),
        (TypeChar::Float, 8) => Elements::Float64(npy.into_vec().unwrap()),
        (TypeChar::Int, 4) => Elements::Int32(npy.into_vec().unwrap()),
        (TypeChar::Int, 8) => Elements::Int64(npy.into_vec().unwrap()),
        (TypeChar::Uint, 1) => {
            let [height, width, 3] = shape[..] else { panic!("no picture has shape {shape:?}") };
            return Npy::Picture(Image::new(width, height, Pixels::Rgb(npy.into_vec().unwrap())).unwrap());
        }
        (TypeChar::UnicodeStr, _) => return Npy::Words,
        other => panic!("{other:?} is not read here"),
    };
    let array = Array::new(shape.clone(), elements).unwrap();
    if typed { Npy::Typed(array) } else { Npy::Numbers { shape, values: array.to_f64s() } }
}
