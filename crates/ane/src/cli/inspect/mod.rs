//! `ane inspect`: what a model takes and gives, and what is inside.

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
  ane inspect model.mlpackage --json | jq .weights")]
pub(crate) struct Arguments {
    /// The model: .mlpackage, .mlmodel or .mlmodelc
    model: PathBuf,
    /// List every operation
    #[arg(long)]
    ops: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = Model::open(&arguments.model).map_err(ANEError::from)?;
    let report = report::report(&model, arguments.ops);
    if arguments.json { terminal::print_json(&report) } else { terminal::print(&text::text(&report)) }
}
