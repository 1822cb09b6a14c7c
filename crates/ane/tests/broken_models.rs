//! Damaged models end in an error that helps, not in a panic, a hang or all of the memory.
//!
//! The models are in `../shared` beside the workspace, or where `ANE_SHARED` says; without them nothing is checked.

#![cfg(unix)]

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::Deserialize;
use wait4::Wait4;

/// The most processor time, which a busy machine does not stretch.
const TIME: Duration = Duration::from_secs(10);
/// When a run is taken to hang.
const HANG: Duration = Duration::from_secs(60);
const MEMORY: u64 = 1 << 30;

/// What `expected.json` says of a case.
#[derive(Deserialize)]
struct Expected {
    must: Must,
    mentions: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Must {
    Error,
    ErrorOrOk,
    Ok,
}

/// How a run ended.
struct Run {
    /// `None` where a signal ended it.
    code: Option<i32>,
    stderr: String,
    time: Duration,
    memory: u64,
}

#[test]
fn rten() {
    check_all("rten");
}

#[test]
fn onnxruntime() {
    let engines = Command::new(env!("CARGO_BIN_EXE_ane")).args(["engines", "--json"]).output().unwrap();
    let engines: Vec<serde_json::Value> = serde_json::from_slice(&engines.stdout).unwrap();
    if engines.iter().any(|engine| engine["name"] == "onnxruntime" && engine["status"] == "chosen") {
        check_all("onnxruntime");
    } else {
        println!("skipped: ONNX Runtime is not on this machine");
    }
}

fn check_all(engine: &str) {
    let Some(folder) = shared() else {
        return println!("skipped: there are no shared models; ANE_SHARED may name them");
    };
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder.join("models/broken")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut failures = Vec::new();
    let (mut time, mut memory) = (Duration::ZERO, 0);
    for case in &cases {
        let outputs = tempfile::tempdir().unwrap();
        let run = run(case, engine, &outputs.path().join("outputs.npz"));
        (time, memory) = (time.max(run.time), memory.max(run.memory));
        if let Err(why) = judge(case, &run, outputs.path()) {
            failures.push(format!("{}: {why}\n  exit code {:?}: {}", case.display(), run.code, run.stderr.trim_end()));
        }
    }
    println!("{engine}: {} cases, longest {time:?}, at most {} MB", cases.len(), memory / 1_000_000);
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = env::var_os("ANE_SHARED").map_or(beside, PathBuf::from);
    folder.join("models/broken").is_dir().then_some(folder)
}

fn run(case: &Path, engine: &str, outputs: &Path) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ane"));
    command.arg("run").arg(model(case)).args(["--engine", engine, "--outputs"]).arg(outputs);
    command.env_remove("RUST_BACKTRACE"); // panics that an engine's guard catches are not printed then
    match case.join("inputs.npz") {
        inputs if inputs.exists() => command.arg("--inputs").arg(inputs),
        _ => command.args(["--random", "1"]),
    };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let (ended, wait) = mpsc::channel::<()>();
    let pid = child.id().to_string();
    let watchdog = thread::spawn(move || {
        if wait.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
            Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        }
    });
    let used = child.wait4().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    let time = used.rusage.utime + used.rusage.stime;
    Run { code: used.status.code(), stderr: stderr.join().unwrap().unwrap(), time, memory: used.rusage.maxrss }
}

/// The case's model; a path where nothing is for the case that has none.
fn model(case: &Path) -> PathBuf {
    let known = ["model.mlpackage", "model.mlmodel", "model.mlmodelc"].map(|name| case.join(name));
    known.iter().find(|path| path.exists()).unwrap_or(&known[0]).clone()
}

fn judge(case: &Path, run: &Run, outputs: &Path) -> Result<(), String> {
    let Expected { must, mentions } = serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
    let failed = |what: &str| Err(what.to_owned());
    let message = run.stderr.lines().filter(|line| !line.starts_with("engine: ")).collect::<Vec<_>>().join("\n");
    if run.code.is_none() {
        return failed("was killed");
    }
    if run.time >= TIME {
        return Err(format!("took {:?}", run.time));
    }
    if run.memory >= MEMORY {
        return Err(format!("took {} MB", run.memory / 1_000_000));
    }
    if message.contains("panicked") || message.contains("a fault of this program") {
        return failed("panicked");
    }
    match (must, run.code) {
        (Must::Ok | Must::ErrorOrOk, Some(0)) => numbers(case, outputs),
        (Must::Ok, _) => failed("must be fine"),
        (Must::Error, Some(0)) => failed("must be an error"),
        (Must::Error | Must::ErrorOrOk, _) => {
            if !message.starts_with("error: ") || message.lines().count() != 1 {
                return failed("is not told in one line");
            }
            let lower = message.to_lowercase();
            match mentions.iter().find(|word| !lower.contains(&word.to_lowercase())) {
                Some(word) if must == Must::Error => Err(format!("does not mention {word:?}")),
                _ => Ok(()),
            }
        }
    }
}

/// Compares with `expected_0.npz`, where there is one.
fn numbers(case: &Path, outputs: &Path) -> Result<(), String> {
    let expected = case.join("expected_0.npz");
    if !expected.exists() {
        return Ok(());
    }
    let given = npz(&outputs.join("outputs.npz"));
    for (name, expected) in npz(&expected) {
        let given = given.iter().find(|(known, _)| *known == name).map(|(_, values)| values);
        let given = given.ok_or_else(|| format!("has no output {name}"))?;
        let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs() + 1e-3 * largest;
        if given.len() != expected.len() || !given.iter().zip(&expected).all(near) {
            return Err(format!("has other numbers in {name}"));
        }
    }
    Ok(())
}

fn npz(path: &Path) -> Vec<(String, Vec<f32>)> {
    let mut archive = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    (0..archive.len())
        .map(|index| {
            let entry = archive.by_index(index).unwrap();
            let name = entry.name().unwrap().into_owned();
            let file = npyz::NpyFile::new(entry).unwrap();
            let values = match file.dtype().descr().as_str() {
                "'<f2'" => file.into_vec::<half::f16>().unwrap().into_iter().map(f32::from).collect(),
                "'<f8'" => file.into_vec::<f64>().unwrap().into_iter().map(|value| value as f32).collect(),
                _ => file.into_vec::<f32>().unwrap(),
            };
            (name, values)
        })
        .collect()
}
