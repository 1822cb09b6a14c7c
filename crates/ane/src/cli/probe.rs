//! `ane probe`: a first prediction in a child process.

use std::{path::PathBuf, time::Duration};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    models::{
        coreml_model::LoadOptions,
        probe::{Probe, Probed, Verdict},
    },
};
use clap::Args;
use serde::Serialize;

use crate::terminal::{self, Progress, clean};

/// Try a model in a child process, which it may crash
///
/// Some models end their process at the first prediction on the Neural Engine. This loads the model and predicts once, on
/// made-up inputs, in a process of its own, and keeps the verdict for this model, machine, system and engine. Loads that ask
/// for a probe go by it: they leave out units on which the model did not run.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane probe model.mlpackage --compute-units ane    on a Mac: does it survive the Neural Engine?
  ane probe model.mlpackage --again                after an update of the system

Exit codes: 0 it runs; 6 it fails or crashes; 7 it hangs; as for other commands where it cannot be tried.")]
pub(crate) struct Arguments {
    /// The model: .mlpackage, .mlmodel or .mlmodelc
    model: PathBuf,
    /// The engine
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = super::run::engine_names())]
    engine: String,
    /// Where it runs, on Core ML: all, ane, gpu or cpu
    #[arg(long, value_name = "UNITS", default_value = "all", ignore_case = true, value_parser = ["all", "ane", "gpu", "cpu"])]
    compute_units: String,
    /// The function of a multi-function model; its default function where left out
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// A child that takes longer hangs, and is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Try it even where the verdict is known
    #[arg(long)]
    again: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Field names are a promise to scripts.
#[derive(Serialize)]
struct Report {
    model: String,
    #[serde(flatten)]
    verdict: Verdict,
    tried_now: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = LoadOptions {
        engine: arguments.engine.parse::<EngineChoice>()?,
        compute_units: arguments.compute_units.parse()?,
        function: arguments.function.clone(),
        ..LoadOptions::default()
    };
    let probe = Probe {
        command: std::env::current_exe().ok(),
        timeout: Duration::from_secs(arguments.timeout),
        ..Probe::default()
    };
    if arguments.again {
        probe.forget(&arguments.model, &options)?;
    }
    let progress = Progress::spinner("trying the model");
    let Probed { verdict, now } = probe.run(&arguments.model, &options)?;
    drop(progress);
    let model = arguments.model.display().to_string();
    if arguments.json {
        terminal::print_json(&Report { model: model.clone(), verdict: verdict.clone(), tried_now: now })?;
    }
    match verdict {
        Verdict::Runs if arguments.json => Ok(()),
        Verdict::Runs => {
            let when = if now { "" } else { "; this was known, and --again tries it again" };
            terminal::print(&format!("{}: it runs{when}\n", clean(&model)))
        }
        Verdict::Hangs(_) => Err(ANEError::Timeout(arguments.timeout.saturating_mul(1000)).into()),
        bad => Err(ANEError::InferenceFailed(format!("{model}: {bad}")).into()),
    }
}
