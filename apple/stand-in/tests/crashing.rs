//! Models that crash or hang their process at their first prediction on the Neural Engine: the command's children die, the
//! parent does not, and loads go by what became of them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use apple_silicon::ane::{
    engines::EngineChoice,
    infer::{ComputeUnit, ComputeUnits},
    models::{
        coreml_model::{CoreMlModel, LoadOptions},
        probe::{Probe, Verdict},
    },
};
use coreml_stand_in::StandIn;

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

/// The command, which `../../test.sh` has built.
fn ane() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../debug/ane")
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/coreml-onnx/tests/ops/identity/fp32/model.mlpackage")
}

/// Runs the command with its own cache. It must do nothing that Core ML does not allow.
fn command(cache: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(ane());
    command.args(arguments).env("XDG_CACHE_HOME", cache).env_remove("CARGO_TERM_COLOR");
    variables.iter().for_each(|(name, value)| {
        command.env(name, value);
    });
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("stand-in:") && !said.contains("without pool"), "{said}");
    output
}

fn run(cache: &Path, variables: &[(&str, &str)], units: &str) -> Output {
    let model = model();
    let model = model.to_str().unwrap();
    command(
        cache,
        variables,
        &["run", model, "--random", "1", "--engine", "coreml", "--compute-units", units, "--json"],
    )
}

#[test]
fn the_command_predicts_through_core_ml() {
    let cache = tempfile::tempdir().unwrap();
    for system in ["11.0", "12.3", "13.0", "14.0", "14.4", "15.0", "26.0"] {
        for units in ["all", "ane", "gpu", "cpu"] {
            let output = run(cache.path(), &[("STAND_IN_SYSTEM", system)], units);
            assert!(output.status.success(), "{system} {units}: {output:?}");
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(told.to_string().contains("coreml"), "{told}");
        }
    }
    assert!(cache.path().join("ane/coreml").is_dir(), "compiled models are kept");
}

#[test]
fn a_model_crashes_its_process() {
    let cache = tempfile::tempdir().unwrap();
    for signal in [SIGABRT, SIGSEGV] {
        let raises = [("STAND_IN_RAISES", &*signal.to_string())];
        for units in ["all", "ane"] {
            assert_eq!(run(cache.path(), &raises, units).status.signal(), Some(signal), "{units}");
        }
        assert!(run(cache.path(), &raises, "gpu").status.success());
        assert!(run(cache.path(), &raises, "cpu").status.success());
    }
}

/// `ane probe` says this and ends with this code; and knows it afterwards, whatever would happen then.
fn check_probe(variables: &[(&str, &str)], verdict: &str, code: i32) {
    let cache = tempfile::tempdir().unwrap();
    let model = model();
    let probe = |variables: &[(&str, &str)], more: &[&str]| {
        let arguments = ["probe", model.to_str().unwrap(), "--engine", "coreml", "--timeout", "2", "--json"];
        let output = command(cache.path(), variables, &[&arguments, more].concat());
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (told["verdict"].as_str().unwrap().to_owned(), told["tried_now"].as_bool().unwrap(), output.status.code())
    };
    assert_eq!(probe(variables, &[]), (verdict.to_owned(), true, Some(code)));
    assert_eq!(probe(&[], &[]), (verdict.to_owned(), false, Some(code)));
    assert_eq!(probe(&[], &["--again"]), ("runs".to_owned(), true, Some(0)));
    // Another system is another verdict.
    assert!(probe(&[("STAND_IN_SYSTEM", "15.1")], &[]).1);
}

#[test]
fn the_parent_survives() {
    check_probe(&[], "runs", 0);
    check_probe(&[("STAND_IN_RAISES", "6")], "crashes", 6);
    check_probe(&[("STAND_IN_RAISES", "11")], "crashes", 6);
    check_probe(&[("STAND_IN_TAKES", "-1")], "hangs", 7);
}

#[test]
fn loads_go_by_the_verdict() {
    let check = |variable: &str, allowed: ComputeUnits, known: Option<ComputeUnit>| {
        let _stand_in = StandIn::new();
        let folder = tempfile::tempdir().unwrap();
        // Only the children are told to crash.
        let child = folder.path().join("ane");
        fs::write(&child, format!("#!/bin/sh\n{variable} exec {} \"$@\"\n", ane().display())).unwrap();
        fs::set_permissions(&child, fs::Permissions::from_mode(0o755)).unwrap();
        let options = LoadOptions {
            engine: EngineChoice::CoreMl,
            compiled: Some(folder.path().join("store")),
            probe: Some(Probe {
                command: Some(child),
                verdicts: Some(folder.path().join("verdicts")),
                timeout: Duration::from_secs(5),
            }),
            ..LoadOptions::default()
        };
        let placement = CoreMlModel::load(model(), &options).unwrap().placement();
        assert_eq!((placement.asked, placement.allowed, placement.known), (ComputeUnits::All, allowed, known));
        assert_eq!(placement.fallbacks.is_empty(), allowed == ComputeUnits::All, "{placement:?}");
        let probe = options.probe.as_ref().unwrap().run(model(), &options).unwrap();
        assert_eq!((probe.verdict == Verdict::Runs, probe.now), (allowed == ComputeUnits::All, false));
    };
    check("", ComputeUnits::All, None);
    check("STAND_IN_RAISES=6", ComputeUnits::Gpu, None);
    check("STAND_IN_RAISES=11", ComputeUnits::Gpu, None);
    // Every child hangs.
    check("STAND_IN_TAKES=-1", ComputeUnits::Cpu, Some(ComputeUnit::Cpu));
}

#[test]
fn plans_are_shown() {
    let cache = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
    let inspect = ["inspect", digits.to_str().unwrap(), "--plan", "--json"];
    let output = command(cache.path(), &[], &inspect);
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stdout);
    for words in ["ios16.classify", "macOS 26", "ANE"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let output = command(cache.path(), &[("STAND_IN_SYSTEM", "14.3")], &inspect);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("14.4"), "{output:?}");
}

#[test]
fn the_machine_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let output = command(cache.path(), &[("STAND_IN_CORES", "0")], &["engines"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("coreml"), "{output:?}");
}
