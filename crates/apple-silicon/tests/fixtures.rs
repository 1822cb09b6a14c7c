//! The fixtures of every MIL op and every layer, on every engine: cases x engines.
//!
//! What they must give was computed by numpy (`tools/op_fixtures.py`, `tools/layer_fixtures.py`). An op that has no
//! lowering yet must be refused by name, and rten may refuse an operator, with the sentence that says what would help.

mod support;

use std::{collections::BTreeSet, fs, fs::File, path::Path};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    models::coreml_model::{CoreMlModel, LoadOptions},
};
use serde_json::Value;

#[test]
fn ops_on_onnxruntime() {
    check("ops", EngineChoice::OnnxRuntime, 0);
}

#[test]
fn ops_on_rten() {
    check("ops", EngineChoice::Rten, 40);
}

#[test]
fn layers_on_onnxruntime() {
    check("layers", EngineChoice::OnnxRuntime, 0);
}

#[test]
fn layers_on_rten() {
    // The convolutions of three dimensions: rten has those of one and two.
    check("layers", EngineChoice::Rten, 18);
}

/// What happened to one case.
enum Outcome {
    Passed,
    /// The op has no lowering, and the error says so.
    NotLowered,
    /// The engine refuses an operator.
    Refused(String),
    Wrong(String),
}

/// Runs every case of a folder; at most `refusals` may be refused. What each gave is written to the folder that
/// `ANE_FIXTURES_RECORD` names, for `tools/coverage.py`.
fn check(name: &str, engine: EngineChoice, refusals: usize) {
    if !support::is_there(engine) {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests").join(name);
    let cases: Value = serde_json::from_reader(File::open(folder.join("cases.json")).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    let (mut passed, mut not_lowered, mut refused, mut wrong) = (0, BTreeSet::new(), Vec::new(), Vec::new());
    for case in cases {
        let op = case["op"].as_str().or(case["layer"].as_str()).unwrap();
        let case_name = format!("{op}/{}", case["case"].as_str().unwrap());
        match run(&folder.join(&case_name), op, engine, &case["tolerance"]) {
            Outcome::Passed => passed += 1,
            Outcome::NotLowered => {
                not_lowered.insert(op);
            }
            Outcome::Refused(why) => refused.push(format!("{case_name}: {why}")),
            Outcome::Wrong(why) => wrong.push(format!("{case_name}: {why}")),
        }
    }
    if let Some(record) = std::env::var_os("ANE_FIXTURES_RECORD") {
        let told = serde_json::json!({ "engine": engine.to_string(), "refused": refused, "wrong": wrong });
        fs::write(Path::new(&record).join(format!("{name}-{engine}.json")), told.to_string()).unwrap();
    }
    println!("{engine}: {passed} of {} cases pass; not lowered yet: {not_lowered:?}", cases.len());
    refused.iter().for_each(|why| println!("  refused: {why}"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused.len() <= refusals, "{} refused:\n{}", refused.len(), refused.join("\n"));
    let excused: Vec<&str> = include_str!("../../coreml-onnx/src/lower/excused.txt").lines().collect();
    for op in not_lowered {
        assert!(excused.iter().any(|line| line.starts_with(&format!("{op}:"))), "{op} should have a lowering");
    }
}

fn run(folder: &Path, op: &str, engine: EngineChoice, tolerance: &Value) -> Outcome {
    let file = ["model.mlpackage", "model.mlmodel"].map(|name| folder.join(name)).into_iter().find(|f| f.exists());
    let options = LoadOptions { engine, ..LoadOptions::default() };
    let model = match CoreMlModel::load(file.expect("a model"), &options) {
        Ok(model) => model,
        Err(ANEError::CompilationFailed(why)) if why.contains("no lowering") && why.contains(op) => {
            return Outcome::NotLowered;
        }
        Err(ANEError::CompilationFailed(why)) if why.contains("ane engine install") => return Outcome::Refused(why),
        Err(other) => return Outcome::Wrong(other.to_string()),
    };
    match sequence(folder, &model, tolerance) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Wrong(why),
    }
}

/// Runs a case's inputs in order, on one state.
fn sequence(folder: &Path, model: &CoreMlModel, tolerance: &Value) -> Result<(), String> {
    let mut state = model.new_state().map_err(|e| e.to_string())?;
    let tolerance = (tolerance["rtol"].as_f64().unwrap(), tolerance["atol"].as_f64().unwrap());
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("inputs"));
    names.sort();
    assert!(!names.is_empty(), "{} has no inputs", folder.display());
    for name in names {
        let features = support::read_features(&folder.join(&name));
        let outputs = model.predict_with_state(&features, &mut state).map_err(|e| e.to_string())?;
        support::compare(&folder.join(name.replace("inputs", "expected")), &outputs, |_| tolerance)?;
    }
    Ok(())
}
