//! `ane run`: predictions.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use apple_silicon::ane::{
    engines::{self, EngineChoice},
    features::Features,
    limits::Limits,
    models::coreml_model::{CoreMlModel, LoadOptions, State},
};
use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
};
use serde::Serialize;

use crate::{
    answer::{self, Look, Prediction, latency::Latency},
    exit::Refusal,
    inputs::{Named, Request, Source},
    npy,
    terminal::{self, BOLD, DIM, Progress, clean},
};

/// Run a model and show its answer
///
/// Inputs come from pictures, from numpy files, from the command line or from a seed; those of one prediction may be
/// mixed. Several files, or an --input that is given several times, make several predictions, in order. Pictures are
/// stretched to the size that the model takes and converted to its colours. Arrays must have the shape that the model
/// declares; their type is converted where no value is lost but the last digits of floats.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane run classifier.mlpackage cat.jpg dog.png --show      pictures, and their classes beside
  ane run model.mlpackage --random 1 --repeat 100          how fast is it?
  ane run model.mlpackage --inputs x.npz --outputs y.npz   numpy in, numpy out
  ane run bert.mlpackage --input ids=ids.npy --input 'mask=[[1, 1, 0, 0]]'
  ane run llm.mlpackage --state step0.npz step1.npz        state lives from step to step
  ane run model.mlpackage --random 1 --precision fp16      what half precision does to its numbers

Files that --outputs writes:
  Arrays keep their shapes, scalars and labels have the shape [1], and pictures are uint8 of height x
  width x 3 (red, green, blue). A dictionary is its values in the model's order, and NAME_labels beside
  has its keys. With several predictions there is a file for each: y_0.npz, y_1.npz, ...")]
pub(crate) struct Arguments {
    /// The model: .mlpackage or .mlmodel
    model: PathBuf,
    /// Files with the inputs of one prediction each: .png and .jpg pictures for a model that takes one, or .npz
    files: Vec<PathBuf>,
    /// The same, as an option
    #[arg(long, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// One input: a number, text, JSON, a .npy file, or a picture
    #[arg(long, value_name = "NAME=VALUE")]
    input: Vec<Named>,
    /// Make up the inputs that are not given, always the same ones for a seed
    #[arg(long, value_name = "SEED")]
    random: Option<u64>,
    /// Write the outputs as a numpy file
    #[arg(long, value_name = "FILE.npz")]
    outputs: Option<PathBuf>,
    /// The engine; `auto` takes Core ML on a Mac, else onnxruntime where it is found, else rten
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = engine_names())]
    engine: String,
    /// The function of a multi-function model; its default function where left out
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Where it would best run, on Core ML: all, ane, gpu or cpu. The other engines have the CPU alone
    #[arg(long, value_name = "UNITS", default_value = "all", ignore_case = true, value_parser = ["all", "ane", "gpu", "cpu"])]
    compute_units: String,
    /// What to compute in: fp32, or fp16 to round every result as the Neural Engine does. Where left out it is fp32, and
    /// on Core ML what the model was converted for
    #[arg(long, value_name = "PRECISION", value_parser = ["fp32", "fp16"])]
    precision: Option<String>,
    /// Keep the compiled model in this folder, and take it from there the next time
    #[arg(long, value_name = "FOLDER")]
    compiled: Option<PathBuf>,
    /// Keep the model's state from one prediction to the next; it starts at zero
    #[arg(long, conflicts_with = "repeat")]
    state: bool,
    /// Predict N times more, after some runs to warm up, and tell the latency
    #[arg(long, value_name = "N")]
    repeat: Option<NonZeroUsize>,
    /// Threads within one operation; the engine's choice where left out
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// End a prediction that takes longer, with exit code 7
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// Tell this many classes
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
    /// Show input pictures beside the answer, as the model sees them
    #[arg(long, conflicts_with = "json")]
    show: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn engine_names() -> PossibleValuesParser {
    // What needs a Mac is known by name elsewhere too, so that the answer is that it needs one.
    let coreml = |choice| choice == EngineChoice::CoreMl;
    let name = |choice: EngineChoice| {
        let name = PossibleValue::new(choice.name()).hide(coreml(choice) && !cfg!(target_vendor = "apple"));
        if coreml(choice) { name.alias("ane") } else { name }
    };
    PossibleValuesParser::new(EngineChoice::ALL.map(name))
}

/// What `--json` prints. Field names are a promise to scripts.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    engine: Engine<'a>,
    /// Finding and loading the engine, in milliseconds.
    engine_ms: f64,
    /// From opening the file until the model can predict, in milliseconds.
    load_ms: f64,
    predictions: Vec<Prediction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
}

#[derive(Serialize)]
struct Engine<'a> {
    name: &'a str,
    version: &'a str,
    reason: &'a str,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let files: Vec<PathBuf> = arguments.files.iter().chain(&arguments.inputs).cloned().collect();
    let sources = Request { files: &files, named: &arguments.input, random: arguments.random }.sources()?;
    let start = Instant::now();
    engines::start(arguments.engine.parse()?, arguments.threads)?;
    let engine_ms = since(start);
    let start = Instant::now();
    let model = load(arguments)?;
    let load_ms = since(start);
    terminal::note(&format!("{DIM}engine: {}{DIM:#}", clean(&model.engine().to_string())));

    let mut runner = Runner::new(&model, arguments)?;
    let look = Look::of_stdout(sources.len() > 1);
    let mut predictions = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let place = (sources.len() > 1).then_some(index);
        let (inputs, prediction) = runner.predict(source, place)?;
        if arguments.json {
            predictions.push(prediction);
        } else {
            let gap = if index > 0 { "\n" } else { "" };
            let shown = arguments.show.then_some(&inputs);
            terminal::print(&format!("{gap}{}", answer::text(&prediction, shown, look)))?;
        }
    }

    let latency = Latency::of(&runner.latencies);
    if arguments.json {
        let choice = model.engine();
        let engine = Engine { name: choice.engine, version: &choice.version, reason: &choice.reason };
        let model = arguments.model.display().to_string();
        let report = Report { model, engine, engine_ms, load_ms, predictions, latency_ms: latency };
        return terminal::print_json(&report);
    }
    latency.map_or(Ok(()), |latency| terminal::print(&latency_text(&latency)))
}

/// Milliseconds.
fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn load(arguments: &Arguments) -> anyhow::Result<CoreMlModel> {
    let options = LoadOptions {
        engine: arguments.engine.parse()?,
        function: arguments.function.clone(),
        compute_units: arguments.compute_units.parse()?,
        precision: arguments.precision.as_deref().map(str::parse).transpose()?,
        threads: arguments.threads,
        max_sessions: NonZeroUsize::MIN,
        compiled: arguments.compiled.clone(),
        ..LoadOptions::default()
    };
    let _progress = Progress::spinner("loading the model");
    Ok(CoreMlModel::load(&arguments.model, &options)?)
}

/// Makes one prediction after the other.
struct Runner<'a> {
    model: &'a CoreMlModel,
    arguments: &'a Arguments,
    state: Option<State>,
    latencies: Vec<Duration>,
}

impl<'a> Runner<'a> {
    fn new(model: &'a CoreMlModel, arguments: &'a Arguments) -> anyhow::Result<Runner<'a>> {
        if arguments.state && model.interface().states.is_empty() {
            return Err(Refusal::Usage("the model has no state that --state could keep".to_owned()).into());
        }
        let state = if arguments.state { Some(model.new_state()?) } else { None };
        Ok(Runner { model, arguments, state, latencies: Vec::new() })
    }

    /// `place` is the number of the prediction, where there are several.
    fn predict(&mut self, source: &Source<'_>, place: Option<usize>) -> anyhow::Result<(Features, Prediction)> {
        let inputs = source.read(self.model.interface())?;
        let outputs = {
            let _progress = Progress::spinner("predicting");
            let outputs = self.repeat(&inputs).and_then(|()| self.once(&inputs));
            if place.is_some() { outputs.with_context(|| source.label())? } else { outputs? }
        };
        let mut prediction = answer::prediction(source.label(), &outputs, self.arguments.top);
        if let Some(path) = &self.arguments.outputs {
            let path = numbered(path, place);
            npy::write_npz(&path, &answer::arrays(outputs)?)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            prediction.outputs_file = Some(path.display().to_string());
        }
        Ok((inputs, prediction))
    }

    fn once(&mut self, inputs: &Features) -> anyhow::Result<Features> {
        let limits = match self.arguments.timeout {
            Some(ms) => Limits::within(Duration::from_millis(ms)),
            None => Limits::default(),
        };
        Ok(self.model.predict_within(inputs, self.state.as_mut(), &limits)?)
    }

    fn repeat(&mut self, inputs: &Features) -> anyhow::Result<()> {
        const WARM_UP: usize = 3;
        let Some(times) = self.arguments.repeat else { return Ok(()) };
        for _ in 0..WARM_UP {
            self.once(inputs)?;
        }
        for _ in 0..times.get() {
            let start = Instant::now();
            self.once(inputs)?;
            self.latencies.push(start.elapsed());
        }
        Ok(())
    }
}

/// `y.npz`, or `y_2.npz` for prediction 2 of several.
fn numbered(path: &Path, place: Option<usize>) -> PathBuf {
    let Some(place) = place else { return path.to_owned() };
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("_{place}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn latency_text(latency: &Latency) -> String {
    let Latency { runs, p50, p90, p99, min, mean } = latency;
    format!(
        "\n{BOLD}latency{BOLD:#} of {}: p50 {p50:.3} ms, p90 {p90:.3} ms, p99 {p99:.3} ms, min {min:.3} ms, mean {mean:.3} ms\n",
        terminal::count(*runs, "run")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prediction_has_its_file() {
        for (path, place, expected) in
            [("a/y.npz", None, "a/y.npz"), ("a/y.npz", Some(2), "a/y_2.npz"), ("y", Some(0), "y_0")]
        {
            assert_eq!(numbered(Path::new(path), place), Path::new(expected));
        }
    }
}
