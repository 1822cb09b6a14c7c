//! `ane profile`: what each operation takes on this machine.

use std::{collections::HashMap, num::NonZeroUsize, path::PathBuf};

use apple_silicon::ane::{
    errors::ANEError,
    models::{
        coreml_model::LoadOptions,
        profile::{OpTime, Profile, profile},
    },
};
use clap::Args;
use coreml_explain::{Chip, Target, explain};
use coreml_format::Model;
use coreml_onnx::{LowerOptions, lower};
use serde::Serialize;

use crate::{
    exit::Refusal,
    inputs::Request,
    terminal::{self, BOLD, DIM, Progress, clean, count, short, table},
};

/// How many operations are told, unless --all asks for each.
const TOLD: usize = 15;

/// Measure each operation of a model on this machine, beside the estimate for a chip
///
/// Runs the model on ONNX Runtime and tells what each operation took, under its name in the model. The engine computes some
/// operations together: the time is then that of one of them, and the others are named with it. The estimate is for the
/// Neural Engine of --chip at best, and tells which operations would weigh otherwise there.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane profile model.mlpackage
  ane profile model.mlpackage --inputs x.npz --runs 100 --all
  ane profile model.mlpackage --chip m4 --json | jq '.operations[0]'")]
pub(crate) struct Arguments {
    /// The model: .mlpackage, .mlmodel or .mlmodelc
    model: PathBuf,
    /// The function of a multi-function model; its default function where left out
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Inputs, as for `ane run`; random numbers where left out
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// The seed of random inputs
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    random: u64,
    /// Runs that are measured
    #[arg(long, value_name = "N", default_value = "30")]
    runs: NonZeroUsize,
    /// Threads within one operation
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// The chip of the estimate, such as m1 or a17-pro
    #[arg(long, value_name = "CHIP", default_value = "m1")]
    chip: String,
    /// List every operation, in the order of the model
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Field names are a promise to scripts.
#[derive(Serialize)]
struct Report {
    model: String,
    engine: String,
    runs: usize,
    /// Median time of a prediction, with what measuring costs.
    prediction_us: f64,
    chip: &'static str,
    operations: Vec<Operation>,
    /// What belongs to no operation, by the engine's operator.
    others_us: std::collections::BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct Operation {
    name: String,
    kind: String,
    /// Operations that the engine computes together with it.
    with: Vec<String>,
    measured_us: f64,
    /// Its part of what all operations took, from 0 to 1.
    share: f64,
    flops: u64,
    /// On the chip's Neural Engine at best.
    estimate_us: f64,
    estimate_share: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = Model::open(&arguments.model).map_err(ANEError::from)?;
    let chip = Chip::named(&arguments.chip)
        .ok_or_else(|| Refusal::Usage(format!("there are no figures for a chip {:?}; try m1", arguments.chip)))?;
    let named = arguments.function.as_ref().and_then(|name| model.schema.functions.get(name));
    let files = arguments.inputs.as_slice();
    let random = files.is_empty().then_some(arguments.random);
    let sources = Request { files, named: &[], random }.sources()?;
    let inputs = sources[0].read(named.unwrap_or(&model.schema.interface))?;
    let options = LoadOptions {
        threads: arguments.threads,
        function: arguments.function.clone(),
        max_sessions: NonZeroUsize::MIN,
        ..LoadOptions::default()
    };
    let progress = Progress::spinner("measuring");
    let runs = arguments.runs.get();
    let told = |done: usize| progress.bar().set_message(format!("measuring: {done} of {runs} runs"));
    let measured = profile(&arguments.model, &inputs, &options, runs, told)?;
    drop(progress);
    let report = report(arguments, &model, chip, measured);
    if arguments.json { terminal::print_json(&report) } else { terminal::print(&text(&report, arguments.all)) }
}

fn report(arguments: &Arguments, model: &Model, chip: &'static Chip, measured: Profile) -> Report {
    let options = LowerOptions { function: arguments.function.clone(), ..LowerOptions::default() };
    let lowered = lower(model, &options).ok();
    let target = Target { chip: Some(chip), ..Target::default() };
    let explanation = explain(model, arguments.function.as_deref(), lowered.as_ref(), target);
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, op) in explanation.graph.ops.iter().enumerate() {
        places.entry(op.name).or_insert(place);
    }
    let estimates = explanation.estimate.as_ref().map(|estimate| &estimate.ops[..]).unwrap_or_default();
    let estimated: f64 = estimates.iter().map(|op| op.seconds).sum();
    let all: f64 = measured.ops.iter().map(|op| op.microseconds).sum::<f64>() + measured.others.values().sum::<f64>();
    let operation = |time: OpTime| {
        let place = places.get(time.op.as_str()).copied();
        // What is computed together is estimated together.
        let each =
            std::iter::once(&time.op).chain(&time.with).filter_map(|name| estimates.get(*places.get(name.as_str())?));
        let seconds: f64 = each.clone().map(|op| op.seconds).sum();
        let flops = each.fold(0u64, |sum, op| sum.saturating_add(op.flops));
        Operation {
            kind: place.map_or(String::new(), |place| explanation.graph.ops[place].kind.to_owned()),
            measured_us: time.microseconds,
            share: if all > 0.0 { time.microseconds / all } else { 0.0 },
            flops,
            estimate_us: seconds * 1e6,
            estimate_share: if estimated > 0.0 { seconds / estimated } else { 0.0 },
            name: time.op,
            with: time.with,
        }
    };
    Report {
        model: arguments.model.display().to_string(),
        engine: measured.engine.to_string(),
        runs: measured.runs,
        prediction_us: measured.prediction,
        chip: chip.name,
        operations: measured.ops.into_iter().map(operation).collect(),
        others_us: measured.others,
    }
}

fn text(report: &Report, all: bool) -> String {
    let mut text = format!(
        "{BOLD}{}{BOLD:#}\n  {}\n  {:.3} ms a prediction, median of {}\n\n",
        clean(&report.model),
        clean(&report.engine),
        report.prediction_us / 1e3,
        count(report.runs, "run")
    );
    let mut operations: Vec<&Operation> = report.operations.iter().collect();
    if !all {
        operations.sort_by(|a, b| b.measured_us.total_cmp(&a.measured_us));
        operations.truncate(TOLD);
    }
    let estimate = format!("{} at best", report.chip);
    let heading = ["measured", "share", "GFLOP/s", &estimate, "share", "operation", ""].map(str::to_owned);
    let row = |op: &&Operation| {
        let with = if op.with.is_empty() { String::new() } else { format!("with {}", brief(&op.with)) };
        [
            format!("{:.1} us", op.measured_us),
            format!("{:.1} %", op.share * 100.0),
            if op.flops == 0 {
                String::new()
            } else {
                format!("{:.1}", op.flops as f64 / op.measured_us.max(1e-3) / 1e3)
            },
            format!("{:.2} us", op.estimate_us),
            format!("{:.1} %", op.estimate_share * 100.0),
            format!("{} {}", clean(&op.kind), short(&op.name)),
            with,
        ]
    };
    let rows: Vec<[String; 7]> = std::iter::once(heading).chain(operations.iter().map(row)).collect();
    text.push_str(&table(&rows));
    if report.operations.len() > operations.len() {
        text.push_str(&format!(
            "  {DIM}and {} more; --all lists them{DIM:#}\n",
            report.operations.len() - operations.len()
        ));
    }
    let others: f64 = report.others_us.values().sum();
    if others > 0.0 {
        let names: Vec<&str> = report.others_us.keys().map(String::as_str).collect();
        text.push_str(&format!("  {others:.1} us for what the engine adds: {}\n", clean(&names.join(", "))));
    }
    text
}

/// Two names, and how many more.
fn brief(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(2).map(|name| short(name).into_owned()).collect();
    let more = if names.len() > 2 { format!(" and {} more", names.len() - 2) } else { String::new() };
    format!("{}{more}", first.join(", "))
}
