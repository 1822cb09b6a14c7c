//! Choosing an engine: what `auto` does with a library that does not load, and without one.
//!
//! A process loads ONNX Runtime once, so each case runs this file's own test again in a process of its own.

use std::{env, fs, path::Path, process::Command};

use apple_silicon::ane::{
    engines::{EngineChoice, Status, installed},
    errors::ANEError,
    models::coreml_model::{CoreMlModel, LoadOptions},
};

/// Set in the processes that this test starts: what they have to find.
const CASE: &str = "ANE_TEST_CASE";

#[test]
fn auto_falls_back_and_says_why() {
    if let Ok(case) = env::var(CASE) {
        return in_the_child(&case);
    }
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("libonnxruntime.so");
    fs::write(&broken, "no library").unwrap();
    for (case, library) in [("broken", &*broken), ("missing", Path::new("/nonexistent/libonnxruntime.so"))] {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "auto_falls_back_and_says_why", "--nocapture"])
            .env("ORT_DYLIB_PATH", library)
            .env(CASE, case)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{case}: {said}");
    }
}

fn in_the_child(case: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/ops/relu/rank1/model.mlpackage");
    let load = |engine| CoreMlModel::load(&path, &LoadOptions { engine, ..LoadOptions::default() });
    let model = load(EngineChoice::Auto).unwrap();
    let choice = model.engine().to_string();
    assert!(choice.starts_with("rten 0.27 (the ONNX Runtime that ORT_DYLIB_PATH names does not load: "), "{choice}");
    assert!(choice.ends_with("; `ane engine install` gets it)"), "{choice}");
    match load(EngineChoice::OnnxRuntime) {
        Err(ANEError::CompilationFailed(why)) => assert!(why.contains("does not load"), "{case}: {why}"),
        other => panic!("{case}: {other:?}"),
    }
    let engines = installed();
    assert!(matches!(&engines[0].status, Status::Unusable(why) if why.contains("libonnxruntime.so")), "{engines:?}");
    assert_eq!((engines.last().unwrap().engine, &engines.last().unwrap().status), ("rten", &Status::Chosen));
}

#[test]
fn names_are_taken_and_others_are_told() {
    assert_eq!("onnxruntime".parse(), Ok(EngineChoice::OnnxRuntime));
    assert_eq!(["coreml", "ane"].map(str::parse), [Ok(EngineChoice::CoreMl), Ok(EngineChoice::CoreMl)]);
    let error = "tract".parse::<EngineChoice>().unwrap_err().to_string();
    assert_eq!(error, "there is no engine \"tract\"; choose `auto`, `coreml`, `onnxruntime` or `rten`");
}
