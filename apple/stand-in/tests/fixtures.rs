//! The fixtures of every MIL operation and every layer, through Core ML's engine: what comes out must agree with what
//! numpy computed, on units whose rows are padded and on others, and on systems of several ages.

#[path = "../../../crates/apple-silicon/tests/support/mod.rs"]
mod support;

use std::{fs, fs::File, path::Path};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    infer::ComputeUnits,
    models::coreml_model::{CoreMlModel, LoadOptions},
};
use coreml_stand_in::StandIn;
use serde_json::Value;

#[test]
fn operations_on_the_neural_engine() {
    check("ops", (26, 0), ComputeUnits::All, 80);
}

#[test]
fn operations_on_the_cpu() {
    check("ops", (13, 0), ComputeUnits::Cpu, 80);
}

#[test]
fn layers_on_the_neural_engine() {
    check("layers", (14, 4), ComputeUnits::Ane, 20);
}

#[test]
fn layers_on_the_gpu() {
    check("layers", (11, 0), ComputeUnits::Gpu, 20);
}

/// Runs every case of a folder. At most `refusals` may be refused by the stand-in's own engine, where that is rten alone.
/// Models with states need macOS 15, and those with fp16 features macOS 12.
fn check(folder: &str, macos: (i64, i64), units: ComputeUnits, refusals: usize) {
    let stand_in = StandIn::new();
    stand_in.macos(macos.0, macos.1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/coreml-onnx/tests").join(folder);
    let cases: Value = serde_json::from_reader(File::open(folder.join("cases.json")).unwrap()).unwrap();
    let (mut passed, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for case in cases.as_array().unwrap() {
        let op = case["op"].as_str().or(case["layer"].as_str()).unwrap();
        let name = format!("{op}/{}", case["case"].as_str().unwrap());
        match run(&folder.join(&name), units, &case["tolerance"]) {
            Ok(()) => passed += 1,
            Err(why) if why.contains("ane engine install") || why.contains("no lowering") => refused.push(name),
            Err(why) if macos < (15, 0) && why.contains("macOS 15") => {}
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    println!("{passed} pass, {} are refused", refused.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused.len() <= refusals, "{} refused: {refused:?}", refused.len());
    stand_in.wait_for_none_of(&["MLModel", "MLMultiArray", "MLState", "MLFeatureValue", "block"]);
}

/// Runs a case's inputs in order, on one state.
fn run(folder: &Path, compute_units: ComputeUnits, tolerance: &Value) -> Result<(), String> {
    let store = tempfile::tempdir().unwrap();
    let compiled = Some(store.path().to_owned());
    let options = LoadOptions { engine: EngineChoice::CoreMl, compute_units, compiled, ..LoadOptions::default() };
    let file = ["model.mlpackage", "model.mlmodel"].map(|name| folder.join(name)).into_iter().find(|f| f.exists());
    let model = CoreMlModel::load(file.expect("a model"), &options).map_err(|e: ANEError| e.to_string())?;
    assert_eq!(model.engine().engine, "coreml");
    let tolerance = (tolerance["rtol"].as_f64().unwrap(), tolerance["atol"].as_f64().unwrap());
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("inputs"));
    names.sort();
    let mut state = model.new_state().map_err(|e| e.to_string())?;
    for name in names {
        let features = support::read_features(&folder.join(&name));
        let outputs = model.predict_with_state(&features, &mut state).map_err(|e| e.to_string())?;
        support::compare(&folder.join(name.replace("inputs", "expected")), &outputs, |_| tolerance)?;
    }
    Ok(())
}
