//! The command line: one file for each command.

mod check;
mod completions;
mod engine;
mod engines;
mod export;
mod inspect;
mod probe;
mod profile;
mod rule;
mod run;

use clap::{Parser, Subcommand};

use crate::{exit, terminal};

/// Run Core ML models on any machine.
///
/// Takes the files that apps ship (.mlpackage, .mlmodel), on Linux, Windows and macOS: runs them on ONNX Runtime or on
/// the built-in engine rten, tells what is inside and what the Neural Engine would take of it, and exports them to ONNX.
#[derive(Parser)]
#[command(name = "ane", version, styles = terminal::HELP, max_term_width = 100, after_long_help = after_help())]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Arguments>),
    Inspect(inspect::Arguments),
    Check(Box<check::Arguments>),
    Rule(rule::Arguments),
    Probe(probe::Arguments),
    Profile(profile::Arguments),
    Export(export::Arguments),
    Engines(engines::Arguments),
    Engine(engine::Arguments),
    Completions(completions::Arguments),
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Inspect(arguments) => inspect::run(&arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Rule(arguments) => rule::run(&arguments),
            Command::Profile(arguments) => profile::run(&arguments),
            Command::Probe(arguments) => probe::run(&arguments),
            Command::Export(arguments) => export::run(&arguments),
            Command::Engines(arguments) => engines::run(&arguments),
            Command::Engine(arguments) => engine::run(&arguments),
            Command::Completions(arguments) => completions::run(&arguments),
        }
    }
}

fn after_help() -> String {
    let bold = terminal::BOLD;
    format!(
        "{bold}Start here:{bold:#}
  ane inspect model.mlpackage                   what it takes and gives, and what is inside
  ane check model.mlpackage                     what keeps it off the Neural Engine, and its costs
  ane run model.mlpackage photo.jpg             the answer for a picture
  ane run model.mlpackage --random 1            a first try of any model
  ane run model.mlpackage --inputs x.npz --outputs y.npz
  ane export model.mlpackage -o model.onnx      the same network for other tools
  ane engine install                            the faster engine, ONNX Runtime

Answers go to stdout, everything else to stderr. Colour is for terminals only; NO_COLOR=1 turns it off.

{bold}Exit codes:{bold:#}
{}",
        exit::TABLE
    )
}
