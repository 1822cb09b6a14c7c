//! `ane completions`: scripts that complete the command line.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print a script that completes `ane` in a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane completions bash > ~/.local/share/bash-completion/completions/ane
  ane completions zsh  > \"${fpath[1]}/_ane\"
  ane completions fish > ~/.config/fish/completions/ane.fish
  ane completions powershell >> $PROFILE")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut script = Vec::new(); // a closed pipe is met below, not inside the generator, which would panic
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ane", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}
