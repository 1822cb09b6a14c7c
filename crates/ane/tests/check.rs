//! `ane check` and `ane rule` as their users meet them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use expect_test::{Expect, expect};
use serde_json::Value;

const DIGITS: &str = "examples/digits/digits.mlpackage";
const LSTM: &str = "crates/coreml-onnx/tests/ops/lstm/sequence/model.mlpackage";
const HALVES: &str = "crates/coreml-onnx/tests/ops/add/fp16/model.mlpackage";
const OVERFLOW: &str = "crates/apple-silicon/tests/numerics/overflow/model.mlpackage";

/// The command in the workspace's folder: its exit code, stdout and stderr.
fn ane(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ane"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS"] {
        command.env_remove(variable);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The exit code and what is printed, without blanks at the ends of lines.
fn check(arguments: &[&str], expected: Expect) {
    let (code, stdout, stderr) = ane(arguments);
    let lines = stdout.lines().chain(stderr.lines()).map(|line| line.trim_end().to_owned() + "\n");
    expected.assert_eq(&format!("exit code {code}\n{}", lines.collect::<String>()));
}

fn json(arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = ane(arguments);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_model_is_explained() {
    check(
        &["check", DIGITS],
        expect![[r#"
        exit code 0
        examples/digits/digits.mlpackage
          mlProgram, 15 operations
          On the Neural Engine: 14 likely, 0 possible, 1 unlikely; 99.9 % of the arithmetic is in likely ones
          2 segments, so that it is entered once

        Off the Neural Engine
          ANE001 computes in fp32 (mul image__scaled__) [A]
            convert it with compute_precision=ct.precision.FLOAT16

        Notes
          ANE017 Very small programs may be left on the CPU
          ANE051 With all units allowed, Core ML's choice may be slower than each alone
          ANE052 Calling takes longer than computing

        Cost of one run with default shapes
          arithmetic  669.9 kFLOP
          weights     78.8 kB fp16
          moves       93.0 kB of activations in fp16
          peak        31.4 kB of activations in fp32, at max_pool_0_cast_fp16: relu_0_cast_fp16 25.1 kB, max_pool_0_cast_fp16 6.3 kB
          time        0.16 ms on M1 (0.11 to 0.33): linear 96 %

        Rules are graded, never certain. `ane rule ANE001` explains one; --ops lists every operation.
    "#]],
    );
    check(
        &["check", LSTM, "--ops"],
        expect![[r#"
        exit code 0
        crates/coreml-onnx/tests/ops/lstm/sequence/model.mlpackage
          mlProgram, 1 operation
          On the Neural Engine: 0 likely, 0 possible, 1 unlikely; 0.0 % of the arithmetic is in likely ones
          1 segment, so that it is never entered

        Off the Neural Engine
          ANE001 computes in fp32 (lstm lstm_0) [A]
            convert it with compute_precision=ct.precision.FLOAT16
          ANE019 is recurrent (lstm lstm_0) [A]
            run it on the CPU, or write the recurrence as convolutions or attention

        Notes
          ANE017 Very small programs may be left on the CPU
          ANE052 Calling takes longer than computing

        Cost of one run with default shapes
          arithmetic  2.6 kFLOP
          weights     512 B fp32
          moves       204 B of activations in fp16
          peak        960 B of activations in fp32, at lstm_0: lstm_0/LSTM 736 B, lstm_0/LSTM 160 B
          time        0.16 ms on M1 (0.11 to 0.33): lstm 100 %

        Rules are graded, never certain. `ane rule ANE001` explains one; --ops lists every operation.

        Operations
                    operation  name    gives           rules
          unlikely  lstm       lstm_0  fp32 (5, 2, 4)  ANE001 ANE019
    "#]],
    );
}

#[test]
fn numbers_are_compared() {
    check(
        &["check", OVERFLOW, "--numerics", "--engine", "rten"],
        expect![[r#"
        exit code 0
        crates/apple-silicon/tests/numerics/overflow/model.mlpackage
          mlProgram, 6 operations
          On the Neural Engine: 0 likely, 0 possible, 6 unlikely; 0.0 % of the arithmetic is in likely ones
          1 segment, so that it is never entered

        Off the Neural Engine
          ANE001 computes in fp32 (mul first) and 5 more [A]
            convert it with compute_precision=ct.precision.FLOAT16

        Notes
          ANE017 Very small programs may be left on the CPU
          ANE052 Calling takes longer than computing

        Cost of one run with default shapes
          arithmetic  36 FLOP
          weights     none
          moves       168 B of activations in fp16
          peak        72 B of activations in fp32, at product: bounded 24 B, product 24 B
          time        0.16 ms on M1 (0.11 to 0.33): mul 99 %

        In fp16 (random, seed 1), where fp32 is the truth
          mul third overflows in 6 elements of 6 at [0, 0]: inf for 566561.5
          output y  6 elements are no numbers   at [0, 0]: NaN for 0

        Rules are graded, never certain. `ane rule ANE001` explains one; --ops lists every operation.
    "#]],
    );
    let report = json(&["check", OVERFLOW, "--numerics", "--engine", "rten", "--json"]);
    let numerics = &report["numerics"];
    let first = &numerics["operations"][numerics["first_overflow"].as_u64().unwrap() as usize];
    assert_eq!(report["operations"][first["operation"].as_u64().unwrap() as usize]["name"], "third");
    assert_eq!(first["worst"]["fp16"], "inf");
}

#[test]
fn rules_are_explained() {
    check(
        &["rule", "ANE026"],
        expect![[r#"
        exit code 0
        ANE026 Looking rows up in a table by ids does not run on the Neural Engine (embedding-lookup)
          effect      off the Neural Engine
          confidence  A: Apple says so

          The ids are int32, and the rows of a table of two dimensions make a tensor that the Neural Engine refuses.

          What to do: nothing, at the beginning of a model: it is cheap on the CPU; inside, look up before the model.
          Example: torch.nn.Embedding becomes `gather` on the weights by the model's ids, on the CPU.
          Source: apple/ml-ane-transformers, README: 4 of DistilBERT's 606 operations; apple/coreai-models, common_issues.md
    "#]],
    );
    check(
        &["rule", "Softplus", "--json"],
        expect![[r#"
        exit code 0
        [
          {
            "id": "ANE043",
            "name": "softplus",
            "title": "softplus gives 0 on the Neural Engine from 10.4 on",
            "effect": "numbers",
            "confidence": "B",
            "reason": "It is right below 10.408, and 0 from there on, on the M1 to the M4.",
            "advice": "use where(x > 10, x, softplus(x)), or relu(x) + log(1 + exp(-|x|))",
            "source": "coremltools#2687 (open)",
            "example": "softplus(12) is 12, and 0 on the Neural Engine."
          }
        ]
    "#]],
    );
    check(
        &["rule", "ANE999"],
        expect![[r#"
        exit code 2
        error: there is no rule "ANE999"; `ane rule` lists them
    "#]],
    );
    let (_, all, _) = ane(&["rule"]);
    assert_eq!(all.lines().count(), coreml_explain::rules().count());
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(
        &["check", DIGITS, "--chip", "m0"],
        expect![[r#"
        exit code 2
        error: there are no figures for a chip "m0"; choose one of A14, M1, M1 Pro, M1 Max, M1 Ultra, A15, M2, M2 Max, M2 Ultra, A16, M3, M3 Max, A17 Pro, A18, M4, M4 Pro, M4 Max, M5
    "#]],
    );
    check(
        &["check", DIGITS, "--function", "missing"],
        expect![[r#"
        exit code 2
        error: there is no function "missing"; there are []
    "#]],
    );
    check(
        &["check", DIGITS, "--baseline", "missing.json"],
        expect![[r#"
        exit code 1
        error: cannot read the baseline missing.json; --write-baseline makes one: No such file or directory (os error 2)
    "#]],
    );
    check(
        &["check", "missing.mlpackage"],
        expect![[r#"
        exit code 3
        error: missing.mlpackage: no such file
    "#]],
    );
    check(
        &["check", DIGITS, "--plan", "Cargo.toml"],
        expect![[r#"
        exit code 1
        error: Cargo.toml is no plan of `ane inspect --plan --json`: expected value at line 1 column 2
    "#]],
    );
}

#[test]
fn json_has_all_of_it() {
    let report = json(&["check", LSTM, "--json", "--chip", "M4"]);
    assert_eq!(report["version"], 1);
    assert_eq!(report["verdict"]["unlikely"], report["verdict"]["operations"]);
    assert_eq!(report["estimate"]["chip"], "M4");
    let operation = &report["operations"][0];
    assert_eq!((&operation["kind"], &operation["verdict"]), (&"lstm".into(), &"unlikely".into()));
    assert!(operation["flops"].as_u64().unwrap() > 0);
    let found: Vec<&str> = report["findings"].as_array().unwrap().iter().map(|f| f["rule"].as_str().unwrap()).collect();
    let rules: Vec<&str> = report["rules"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert!(found.contains(&"ANE019") && rules.contains(&"ANE019"));
    assert!(found.iter().all(|rule| rules.contains(rule)));
}

/// Every name of a field in a JSON value.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            fields(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_field_is_documented() {
    let page = include_str!("../../../docs/check.md");
    let mut found = BTreeSet::new();
    for model in [DIGITS, OVERFLOW] {
        fields(&json(&["check", model, "--numerics", "--engine", "rten", "--json"]), &mut found);
    }
    assert!(found.len() > 50, "{found:?}");
    let documented = |name: &str| page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}[]`"));
    let missing: Vec<&String> = found.iter().filter(|name| !documented(name)).collect();
    assert!(missing.is_empty(), "docs/check.md does not have {missing:?}");
}

/// A path in a temporary folder, as an argument.
fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_gate_fails_for_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let known = path(folder.path(), "known.json");
    let code = |arguments: &[&str]| ane(arguments).0;
    assert_eq!(code(&["check", HALVES, "--fail-on", "unlikely", "--fail-on", "possible", "--fail-on", "slow"]), 0);
    assert_eq!(code(&["check", DIGITS, "--fail-on", "unlikely"]), 11);
    assert_eq!(code(&["check", LSTM, "--fail-on", "unlikely"]), 11);
    assert_eq!(code(&["check", LSTM, "--fail-on", "possible"]), 11);
    assert_eq!(code(&["check", LSTM, "--fail-on", "numbers"]), 0);
    assert_eq!(code(&["check", OVERFLOW, "--fail-on", "numbers"]), 0);
    assert_eq!(code(&["check", OVERFLOW, "--numerics", "--engine", "rten", "--fail-on", "numbers"]), 11);
    let (_, _, stderr) = ane(&["check", LSTM, "--fail-on", "unlikely"]);
    assert!(
        stderr.contains("error: the check found 2 findings that keep operations off the Neural Engine"),
        "{stderr}"
    );

    assert_eq!(code(&["check", LSTM, "--write-baseline", &known]), 0);
    assert_eq!(code(&["check", LSTM, "--baseline", &known, "--fail-on", "unlikely"]), 0);
    let fewer = fs::read_to_string(&known).unwrap().replace("ANE019", "ANE020");
    fs::write(&known, fewer).unwrap();
    assert_eq!(code(&["check", LSTM, "--baseline", &known, "--fail-on", "unlikely"]), 11);
}

#[test]
fn sarif_names_rules_and_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "report.sarif");
    let (code, _, stderr) = ane(&["check", LSTM, "--sarif", &file]);
    assert_eq!(code, 0, "{stderr}");
    let sarif: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
        assert!(result["message"]["text"].as_str().unwrap().len() > 10);
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], LSTM);
    }
    let lstm = run["results"].as_array().unwrap().iter().find(|result| result["ruleId"] == "ANE019").unwrap();
    assert_eq!(lstm["level"], "warning");
    assert_eq!(lstm["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "main/lstm_0");
}

#[test]
fn a_page_has_the_report_and_nothing_that_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "report.html");
    let (code, _, stderr) = ane(&["check", DIGITS, "--html", &file]);
    assert_eq!(code, 0, "{stderr}");
    let page = fs::read_to_string(&file).unwrap();
    let (_, data) = page.split_once(r#"id="report">"#).unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let report: Value = serde_json::from_str(data).unwrap();
    assert_eq!(report["model"], DIGITS);
    assert!(!data.contains('<') && !page.contains("__REPORT__") && !page.contains("http"));
}

#[test]
fn a_plan_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "plan.json");
    let report = json(&["check", DIGITS, "--json"]);
    let mut operations = Vec::new();
    for (place, operation) in report["operations"].as_array().unwrap().iter().enumerate() {
        // The first is unlikely, and the second likely.
        let unit = if place <= 1 { "CPU" } else { "ANE" };
        operations.push(serde_json::json!({
            "path": "main", "operator": operation["kind"], "outputs": [operation["results"][0]["name"]],
            "preferred": unit, "supported": [unit], "cost": null
        }));
    }
    let constant = serde_json::json!({
        "path": "main", "operator": "const", "outputs": ["w"], "preferred": null, "supported": [], "cost": null
    });
    let count = operations.len();
    operations.push(constant);
    let plan = serde_json::json!({
        "system": "macOS 15.1", "chip": "Apple M4", "compute_units": "ALL", "operations": operations
    });
    fs::write(&file, plan.to_string()).unwrap();
    let report = json(&["check", DIGITS, "--json", "--plan", &file]);
    assert_eq!(report["plan"]["agree"], count - 1);
    assert_eq!(report["plan"]["disagree"][0]["operation"], 1);
    assert_eq!(report["operations"][0]["planned"], "CPU");
    assert_eq!(ane(&["check", DIGITS, "--plan", &file, "--fail-on", "unlikely"]).0, 11);
    fs::write(&file, plan.to_string().replace("\"CPU\"", "\"ANE\"")).unwrap();
    // Core ML knows better.
    assert_eq!(ane(&["check", DIGITS, "--plan", &file, "--fail-on", "unlikely"]).0, 0);
    let (_, text, _) = ane(&["check", DIGITS, "--plan", &file]);
    assert!(text.contains("on macOS 15.1, Apple M4"), "{text}");
}

#[test]
fn shared_models_are_explained() {
    let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let open = shared.join("models/open");
    if !open.is_dir() {
        println!("skipped: there are no models in models/open");
        return;
    }
    for folder in open.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let files = ["model.mlpackage", "model.mlmodel", "efficientnet.mlmodel"].map(|file| folder.join(file));
        let model = files.iter().find(|file| file.exists()).unwrap().to_str().unwrap();
        let report = json(&["check", model, "--json"]);
        assert!(report["cost"]["flops"].is_u64(), "{model}");
        // One screen: 50 lines.
        let (_, text, _) = ane(&["check", model]);
        assert!(text.lines().count() <= 50, "{model}: {} lines\n{text}", text.lines().count());
    }
}

#[test]
fn a_profile_has_the_models_names() {
    let (code, text, stderr) = ane(&["profile", DIGITS, "--runs", "3", "--json"]);
    if stderr.contains("rten does not measure its operations") {
        assert_eq!(code, 5, "{stderr}");
        println!("skipped: there is no ONNX Runtime, which alone measures");
        return;
    }
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let operations = report["operations"].as_array().unwrap();
    let names =
        |value: &Value| value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let mut told: Vec<String> = Vec::new();
    for operation in operations {
        let with: Vec<String> = names(&operation["with"]);
        told.push(operation["name"].as_str().unwrap().to_owned());
        told.extend(with);
    }
    let checked = json(&["check", DIGITS, "--json"]);
    let all: Vec<&str> =
        checked["operations"].as_array().unwrap().iter().map(|op| op["name"].as_str().unwrap()).collect();
    assert!(told.iter().all(|name| all.contains(&name.as_str())), "{told:?}");
    // A convolution's time is its own, whatever the engine joins with it.
    let convolutions = operations.iter().filter(|operation| operation["kind"] == "conv").count();
    assert_eq!(convolutions, 2, "{operations:?}");
    let shares: f64 = operations.iter().map(|operation| operation["share"].as_f64().unwrap()).sum();
    assert!(shares <= 1.0 + 1e-9, "{shares}");
    assert_eq!(report["runs"], 3);
}
