//! Classic models on the command line: numbers, words, dictionaries and lists go in, and come out as text and as JSON.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

/// Runs the command on a fixture of `crates/coreml-classic`: its exit code, stdout and stderr.
fn ane(command: &str, fixture: &str, arguments: &[&str]) -> (i32, String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-classic/tests/classic");
    let output = Command::new(env!("CARGO_BIN_EXE_ane"))
        .args([command, fixture])
        .args(arguments)
        .current_dir(root)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs a model on `NAME=VALUE` inputs and compares its outputs, as JSON.
fn check(fixture: &str, inputs: &[&str], expected: Value) {
    let inputs: Vec<&str> = inputs.iter().flat_map(|input| ["--input", *input]).collect();
    let (code, stdout, stderr) = ane("run", &format!("{fixture}/model.mlmodel"), &[&inputs[..], &["--json"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["predictions"][0]["outputs"], expected, "{fixture}");
    assert_eq!(report["engine"]["name"], "classic");
}

#[test]
fn every_kind_of_input_and_output() {
    check("scaler/number", &["x=3"], json!([{"name": "y", "kind": "double", "value": 2.0}]));
    check("scaler/whole", &["x=3"], json!([{"name": "y", "kind": "int64", "value": 6}]));
    check("imputer/word", &["x="], json!([{"name": "y", "kind": "string", "value": "unknown"}]));
    check("imputer/number", &[], json!([{"name": "y", "kind": "double", "value": 7.5}]));
    let top = json!([{"key": "1", "value": 8.0}, {"key": "0", "value": 4.0}]);
    check(
        "dictVectorizer/words",
        &["x={\"a\": 4, \"c\": 8}"],
        json!([{"name": "y", "kind": "dictionary", "len": 2, "top": top}]),
    );
    check(
        "categoricalMapping/sequence",
        &["x=[2, 1, 3]"],
        json!([{"name": "y", "kind": "sequence", "len": 3, "first": ["two", "one", "?"]}]),
    );
}

#[test]
fn stages_and_parts_are_told() {
    let (code, stdout, _) = ane("inspect", "pipeline/nested_classifier/model.mlmodel", &[]);
    assert_eq!(code, 0);
    for line in
        ["Stages: 2", "  pipelineClassifier  model1  v -> c, p", "    glmClassifier     model1  w -> c, p  2 weights"]
    {
        assert!(stdout.contains(line), "{stdout}");
    }
    let (_, stdout, _) = ane("inspect", "treeEnsembleRegressor/valueequal/model.mlmodel", &["--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["type"], "treeEnsembleRegressor");
    assert_eq!(report["parts"], json!({"nodes": 60, "trees": 4}));
}

#[test]
fn what_goes_wrong_has_its_exit_code() {
    for (fixture, arguments, code, message) in [
        ("oneHotEncoder/words", &["--input", "x=pink"][..], 6, "it has no category \"pink\""),
        ("scaler/array", &["--input", "x=[1, 2]"], 10, "takes a Float64 array of shape [3]"),
        ("scaler/array", &["--random", "1", "--precision", "fp16"], 10, "a scaler computes in double precision"),
    ] {
        let (got, _, stderr) = ane("run", &format!("{fixture}/model.mlmodel"), arguments);
        assert_eq!(got, code, "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
}
