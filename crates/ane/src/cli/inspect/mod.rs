//! `ane inspect`: what a model takes and gives, and what is inside.

mod plan;
mod report;
mod text;

use std::path::PathBuf;

use apple_silicon::ane::errors::ANEError;
use clap::Args;
use coreml_format::Model;

use crate::terminal;

/// Tell what a model takes and gives, and what is inside
///
/// Reads the description and the program, never the weights, so that large models are told as fast as small ones.
/// Compiled models (.mlmodelc) tell their inputs and outputs only.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane inspect model.mlpackage
  ane inspect model.mlpackage --ops | less
  ane inspect model.mlpackage --json | jq .weights
  ane inspect model.mlpackage --plan --json > plan.json     on a Mac: what runs on the Neural Engine?")]
pub(crate) struct Arguments {
    /// The model: .mlpackage, .mlmodel or .mlmodelc
    model: PathBuf,
    /// List every operation
    #[arg(long)]
    ops: bool,
    /// Tell where Core ML plans to run each operation, and where it could; on a Mac with macOS 14.4 or later
    #[arg(long, conflicts_with = "ops")]
    plan: bool,
    /// What the plan may use: all, ane, gpu or cpu
    #[arg(long, value_name = "UNITS", default_value = "all", requires = "plan", ignore_case = true)]
    #[arg(value_parser = ["all", "ane", "gpu", "cpu"])]
    compute_units: String,
    /// The function that is planned, of a model with several
    #[arg(long, value_name = "NAME", requires = "plan")]
    function: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.plan {
        return plan::run(arguments);
    }
    let model = Model::open(&arguments.model).map_err(ANEError::from)?;
    let report = report::report(&model, arguments.ops);
    if arguments.json { terminal::print_json(&report) } else { terminal::print(&text::text(&report)) }
}
