//! `ane engine`: changes what can run models here.

use apple_silicon::ane::engines::{self, Progress as Step};
use clap::{Args, Subcommand};

use crate::terminal::{self, GOOD, Progress, clean};

/// Install an engine
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install ONNX Runtime for this user
    ///
    /// pip downloads the package `onnxruntime` of a pinned version, checked against its hash. Its library goes to the
    /// user's data folder; nothing else is changed. Needs Python 3 with pip, and a network.
    Install,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Install => install(),
    }
}

fn install() -> anyhow::Result<()> {
    let installed = {
        let progress = Progress::spinner("starting");
        engines::install(&mut |step| {
            progress.bar().set_message(match step {
                Step::Downloading => "downloading ONNX Runtime (pip)",
                Step::Unpacking => "unpacking",
                Step::Checking => "checking that it loads",
            });
        })?
    };
    let version = installed.version.map(|version| format!(" {version}")).unwrap_or_default();
    let path = installed.path.map(|path| format!(": {}", path.display())).unwrap_or_default();
    let what = if installed.origin == "installed before" { "already there:" } else { "installed" };
    terminal::print(&format!("{GOOD}{what}{GOOD:#} {}{version}{}\n", installed.engine, clean(&path)))
}
