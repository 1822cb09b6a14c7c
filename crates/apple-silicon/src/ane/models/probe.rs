//! Trying a model in a child process, since some crash the process at their first prediction on the Neural Engine.
//!
//! The child is the command `ane run` on made-up inputs. What became of it is a [`Verdict`], which is kept for this model,
//! machine, system and engine, so that a model is tried once.

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use coreml_format::Model;
use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use super::{coreml_model::LoadOptions, store};
use crate::ane::{
    compat::coreml::detect_coreml_capabilities,
    engines,
    errors::{ANEError, Result},
    infer::ComputeUnits,
};

/// How a model is tried before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The command `ane`; the one beside this program, else the one on the path, where `None`.
    pub command: Option<PathBuf>,
    /// The folder where verdicts are kept; one in the user's cache where `None`.
    pub verdicts: Option<PathBuf>,
    /// A child that takes longer hangs. First loads for the Neural Engine take minutes, for large models.
    pub timeout: Duration,
}

impl Default for Probe {
    /// Five minutes.
    fn default() -> Probe {
        Probe { command: None, verdicts: None, timeout: Duration::from_secs(300) }
    }
}

/// What became of a model in a child process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why", rename_all = "lowercase")]
pub enum Verdict {
    /// It loaded and predicted.
    Runs,
    /// It did not load or predict, and said why.
    Fails(String),
    /// It ended its process, and how.
    Crashes(String),
    /// It did not end in time, and how long it had.
    Hangs(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Runs => f.write_str("it runs"),
            Verdict::Fails(why) => write!(f, "it fails: {why}"),
            Verdict::Crashes(how) => write!(f, "it crashes its process: {how}"),
            Verdict::Hangs(time) => write!(f, "it does not end within {time}"),
        }
    }
}

/// A verdict, and whether it was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What became of the model.
    pub verdict: Verdict,
    /// Whether it was tried now. What is known is not tried again.
    pub now: bool,
}

/// A kept verdict. The rest is for people.
#[derive(Serialize, Deserialize)]
struct Record {
    model: String,
    machine: String,
    engine: String,
    compute_units: ComputeUnits,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Probe {
    /// Tries a model as it would be loaded with these options, or finds what became of it before.
    ///
    /// Cost: reads the model's files for their hash; and a load and a prediction in a child, where it is not known.
    ///
    /// # Errors
    /// As [`CoreMlModel::load`](super::coreml_model::CoreMlModel::load) for a file that is no model;
    /// [`ANEError::CompilationFailed`] where the child cannot be started, or the model has inputs that cannot be made up.
    pub fn run(&self, model: impl AsRef<Path>, options: &LoadOptions) -> Result<Probed> {
        self.of(&Model::open(model.as_ref())?, options)
    }

    pub(super) fn of(&self, model: &Model, options: &LoadOptions) -> Result<Probed> {
        let machine = machine();
        let engine = engines::start(options.engine, options.threads)?;
        let engine = format!("{} {}", engine.engine, engine.version);
        let kept = self.place(model, options, &machine, &engine)?;
        if let Some(verdict) = known(&kept) {
            return Ok(Probed { verdict, now: false });
        }
        let verdict = self.tried(&model.path, options)?;
        let record = Record {
            model: model.path.display().to_string(),
            machine,
            engine,
            compute_units: options.compute_units,
            verdict: verdict.clone(),
        };
        if let Err(error) = keep(&kept, &record) {
            tracing::warn!("{}: the verdict is not kept: {error}", kept.display());
        }
        Ok(Probed { verdict, now: true })
    }

    /// Forgets what is known of a model with these options, so that it is tried again.
    ///
    /// # Errors
    /// As [`Probe::run`], and [`ANEError::Internal`] for a verdict that cannot be removed.
    pub fn forget(&self, model: impl AsRef<Path>, options: &LoadOptions) -> Result<()> {
        let model = Model::open(model.as_ref())?;
        let engine = engines::start(options.engine, options.threads)?;
        let engine = format!("{} {}", engine.engine, engine.version);
        match fs::remove_file(self.place(&model, options, &machine(), &engine)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ANEError::Internal(format!("a verdict cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Where the verdict is kept.
    fn place(&self, model: &Model, options: &LoadOptions, machine: &str, engine: &str) -> Result<PathBuf> {
        let content = store::content(model)
            .map_err(|e| ANEError::CompilationFailed(format!("{}: it cannot be read: {e}", model.path.display())))?;
        let (units, function) = (format!("{:?}", options.compute_units), options.function.as_deref().unwrap_or(""));
        let precision = format!("{:?}", options.precision);
        let mut key = blake3::Hasher::new();
        for field in [&content, machine, engine, &units, function, &precision] {
            key.update(&(field.len() as u64).to_le_bytes()).update(field.as_bytes());
        }
        let folder = match &self.verdicts {
            Some(folder) => folder.clone(),
            None => etcetera::choose_base_strategy()
                .map_err(|e| ANEError::CompilationFailed(format!("there is no folder for verdicts: {e}; name one")))?
                .cache_dir()
                .join("ane")
                .join("verdicts"),
        };
        Ok(folder.join(format!("{}.json", &key.finalize().to_hex()[..32])))
    }

    fn tried(&self, model: &Path, options: &LoadOptions) -> Result<Verdict> {
        let command = self.command.clone().unwrap_or_else(own_command);
        let failed = |what: &str, error: io::Error| {
            ANEError::CompilationFailed(format!(
                "the model is not tried: {} {what}: {error}; name the command `ane` in the probe, or load without one",
                command.display()
            ))
        };
        let child = Command::new(&command)
            .args(arguments(model, options))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|e| failed("does not start", e))?;
        let said = child.stderr.take();
        let reader = thread::spawn(move || said.map_or_else(String::new, last_words));
        let ended = wait(&mut child, self.timeout).map_err(|e| failed("cannot be waited for", e))?;
        let Some(status) = ended else {
            return Ok(Verdict::Hangs(format!("{} s", self.timeout.as_secs_f64())));
        };
        let said = reader.join().unwrap_or_default();
        match status.code() {
            Some(0) => Ok(Verdict::Runs),
            // Inputs that are not made up say nothing about the model.
            Some(10) => Err(ANEError::CompilationFailed(format!("the model is not tried: {said}"))),
            Some(_) => Ok(Verdict::Fails(said)),
            None => Ok(Verdict::Crashes(status.to_string())),
        }
    }
}

/// The verdict for a load that is to be refused where it is bad.
pub(super) fn refusal(probed: &Probed) -> Option<ANEError> {
    let why = match &probed.verdict {
        Verdict::Runs => return None,
        bad => format!("in a child process {bad}"),
    };
    Some(ANEError::CompilationFailed(why))
}

/// The machine and its system, as far as verdicts depend on them.
fn machine() -> String {
    let capabilities = detect_coreml_capabilities();
    let known = [capabilities.chip, capabilities.os_version, engines::coreml::system_build()];
    known.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The command beside this program, else the one on the path.
fn own_command() -> PathBuf {
    let name = format!("ane{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join(&name)));
    beside.filter(|command| command.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

fn arguments(model: &Path, options: &LoadOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["run".into(), model.into()];
    let units = format!("{:?}", options.compute_units).to_lowercase();
    for (option, value) in [("--random", "1"), ("--engine", options.engine.name()), ("--compute-units", &units)] {
        arguments.extend([option.into(), value.into()]);
    }
    let optional: [(&str, Option<OsString>); 3] = [
        ("--function", options.function.as_ref().map(OsString::from)),
        ("--precision", options.precision.map(|precision| precision.to_string().into())),
        ("--compiled", options.compiled.as_ref().map(OsString::from)),
    ];
    for (option, value) in optional {
        arguments.extend(value.into_iter().flat_map(|value| [option.into(), value]));
    }
    arguments
}

/// How the child ended; it is killed where it takes too long.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    const LOOK: Duration = Duration::from_millis(10);
    let end = Instant::now().checked_add(timeout);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// The last line that a child has written, without its heading. All is read, so that the child never waits.
fn last_words(mut said: impl Read) -> String {
    const MOST: usize = 64 << 10;
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = said.read(&mut buffer) {
        all.extend_from_slice(&buffer[..len]);
        all.drain(..all.len().saturating_sub(MOST));
    }
    let text = String::from_utf8_lossy(&all);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A verdict that was kept. One that cannot be read is none.
fn known(place: &Path) -> Option<Verdict> {
    let text = fs::read(place).ok()?;
    serde_json::from_slice::<Record>(&text).ok().map(|record| record.verdict)
}

/// Writes a verdict beside its place and renames it.
fn keep(place: &Path, record: &Record) -> io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&file, record)?;
    file.persist(place).map(drop).map_err(|e| e.error)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ane::engines::EngineChoice;

    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../coreml-onnx/tests/ops/relu/rank1/model.mlpackage");

    /// A probe whose child is a script.
    fn probe(folder: &Path, script: &str) -> Probe {
        let command = folder.join("ane");
        // Renamed into its place, so that no other test's child holds it open for writing.
        let written = folder.join("new");
        fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(written, &command).unwrap();
        Probe { command: Some(command), verdicts: Some(folder.join("verdicts")), timeout: Duration::from_secs(60) }
    }

    fn options() -> LoadOptions {
        LoadOptions { engine: EngineChoice::Rten, ..LoadOptions::default() }
    }

    fn check(script: &str, timeout: Duration, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let probe = Probe { timeout, ..probe(folder.path(), script) };
        let shown = probe.run(MODEL, &options()).map_or_else(|e| format!("error: {e}"), |p| p.verdict.to_string());
        assert!(shown.starts_with(expected), "{shown}");
    }

    #[test]
    fn children_end_in_many_ways() {
        let long = Duration::from_secs(60);
        check("exit 0", long, "it runs");
        check("echo working >&2; echo 'error: no room' >&2; exit 8", long, "it fails: no room");
        check("exit 5", long, "it fails: it said nothing");
        check("kill -SEGV $$", long, "it crashes its process: signal: 11");
        check("kill -ABRT $$", long, "it crashes its process: signal: 6");
        check("exec sleep 100", Duration::from_millis(100), "it does not end within 0.1 s");
        check("yes words | head -n 200000 >&2; exit 1", long, "it fails: words");
        check(
            "echo 'error: the input is not made up' >&2; exit 10",
            long,
            "error: the model is not tried: the input is",
        );
    }

    #[test]
    fn the_child_is_asked_for_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let probe = probe(folder.path(), &format!("echo \"$@\" > {}", said.display()));
        let options = LoadOptions {
            compute_units: ComputeUnits::Ane,
            function: Some("f".to_owned()),
            compiled: Some("kept".into()),
            ..options()
        };
        probe.run(MODEL, &options).unwrap();
        let expected =
            format!("run {MODEL} --random 1 --engine rten --compute-units ane --function f --compiled kept\n");
        assert_eq!(fs::read_to_string(said).unwrap(), expected);
    }

    #[test]
    fn a_model_is_tried_once() {
        let folder = tempfile::tempdir().unwrap();
        let crashing = probe(folder.path(), "kill -ABRT $$");
        assert!(crashing.run(MODEL, &options()).unwrap().now);
        let running = probe(folder.path(), "exit 0");
        let again = running.run(MODEL, &options()).unwrap();
        assert!(!again.now && matches!(again.verdict, Verdict::Crashes(_)), "{again:?}");
        let other = LoadOptions { compute_units: ComputeUnits::Cpu, ..options() };
        assert_eq!(running.run(MODEL, &other), Ok(Probed { verdict: Verdict::Runs, now: true }), "other units");
        for kept in fs::read_dir(folder.path().join("verdicts")).unwrap() {
            fs::write(kept.unwrap().path(), "{").unwrap();
        }
        assert_eq!(running.run(MODEL, &options()), Ok(Probed { verdict: Verdict::Runs, now: true }), "damaged");
        running.forget(MODEL, &options()).unwrap();
        assert!(running.run(MODEL, &options()).unwrap().now);
    }

    #[test]
    fn a_load_goes_by_the_verdict() {
        use super::super::coreml_model::CoreMlModel;
        let folder = tempfile::tempdir().unwrap();
        let load = |script| {
            let probe = Some(probe(&tempfile::tempdir_in(&folder).unwrap().keep(), script));
            CoreMlModel::load(MODEL, &LoadOptions { probe, ..options() }).map(drop)
        };
        assert_eq!(load("exit 0"), Ok(()));
        let error = load("kill -SEGV $$").unwrap_err().to_string();
        assert!(error.contains("in a child process it crashes its process: signal: 11"), "{error}");
        let probe = Some(Probe { command: Some("/no/such/ane".into()), ..probe(folder.path(), "") });
        let error = CoreMlModel::load(MODEL, &LoadOptions { probe, ..options() }).unwrap_err().to_string();
        assert!(error.contains("/no/such/ane does not start") && error.contains("load without one"), "{error}");
    }
}
