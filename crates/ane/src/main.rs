//! The command `ane`: runs, inspects and exports Core ML models on any machine.

mod answer;
mod cli;
mod exit;
mod inputs;
mod interrupt;
mod npy;
mod schema;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    interrupt::install();
    match exit::guarded(|| cli::Cli::parse().run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
