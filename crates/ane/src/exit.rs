//! How the command ends: its exit codes, and the one line that says why.

use std::{
    env, io,
    panic::{self, PanicHookInfo, UnwindSafe},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use apple_silicon::ane::errors::ANEError;

use crate::terminal::{BAD, clean, note};

/// The exit codes, as `ane --help` prints them.
pub(crate) const TABLE: &str = "   0  done
   1  something else failed: a file could not be written, or a fault of this program
   2  the command line is wrong
   3  there is no model at the path
   4  the model's file is damaged, or is no Core ML model
   5  the model is sound, but no engine here takes it
   6  the prediction failed
   7  the prediction did not end in time
   8  out of memory, or over a limit
   9  the engine is not available here
  10  an input is missing, unknown, or of the wrong kind, shape or type
  11  `ane check` found what --fail-on names
 130  interrupted by Ctrl-C (143 by a request to terminate)";

const OTHER: u8 = 1;
const USAGE: u8 = 2;
const MODEL_NOT_FOUND: u8 = 3;
const INVALID_MODEL: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const INFERENCE_FAILED: u8 = 6;
const TIMEOUT: u8 = 7;
const LIMIT: u8 = 8;
const ENGINE_UNAVAILABLE: u8 = 9;
const INVALID_INPUT: u8 = 10;
const FOUND: u8 = 11;

/// What a check found that shall not be.
#[derive(Debug, thiserror::Error)]
#[error("the check found {0}")]
pub(crate) struct Found(pub(crate) String);

/// What this command finds wrong before the library is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The command line makes no sense for this model.
    #[error("{0}")]
    Usage(String),
    /// An input cannot be read, or is not what the model takes.
    #[error("{0}")]
    Input(String),
}

/// Runs the command; a panic in it becomes an error like any other. With `RUST_BACKTRACE` set it is printed, too.
pub(crate) fn guarded(command: impl FnOnce() -> anyhow::Result<()> + UnwindSafe) -> anyhow::Result<()> {
    // Engines may panic inside and be caught there, so nothing is printed before it is known to have ended the run.
    static LAST: Mutex<String> = Mutex::new(String::new());
    if env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0") {
        panic::set_hook(Box::new(|info| *LAST.lock().unwrap_or_else(PoisonError::into_inner) = describe(info)));
    }
    panic::catch_unwind(command).unwrap_or_else(|_| {
        let panic = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        Err(anyhow::anyhow!("a fault of this program; please report it: {panic}"))
    })
}

/// Message and place of a panic.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    info.location().map_or(message.to_owned(), |place| format!("{message} ({place})"))
}

/// Prints why the command failed, and gives its exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS; // whoever reads has seen enough: `ane inspect MODEL | head`
    }
    note(&format!("{BAD}error{BAD:#}: {}", clean(&format!("{error:#}"))));
    ExitCode::from(code(error))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    let refusal = error.chain().find_map(|e| e.downcast_ref::<Refusal>()).map(|refusal| match refusal {
        Refusal::Usage(_) => USAGE,
        Refusal::Input(_) => INVALID_INPUT,
    });
    let library = || error.chain().find_map(|e| e.downcast_ref::<ANEError>()).map(library_code);
    let found = || error.chain().find_map(|e| e.downcast_ref::<Found>()).map(|_| FOUND);
    refusal.or_else(library).or_else(found).unwrap_or(OTHER)
}

fn library_code(error: &ANEError) -> u8 {
    match error {
        ANEError::Unavailable => ENGINE_UNAVAILABLE,
        ANEError::ModelNotFound(_) => MODEL_NOT_FOUND,
        ANEError::InvalidModelFormat(_) => INVALID_MODEL,
        ANEError::CompilationFailed(_) => NOT_SUPPORTED,
        ANEError::InferenceFailed(_) => INFERENCE_FAILED,
        ANEError::Timeout(_) => TIMEOUT,
        ANEError::ResourceLimit(_) | ANEError::MemoryAllocationFailed(_) => LIMIT,
        ANEError::InvalidShape(_) | ANEError::UnsupportedPrecision(_) => INVALID_INPUT,
        ANEError::ModelAlreadyLoaded(_) | ANEError::Internal(_) => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn codes_survive_context() {
        let timeout: anyhow::Result<()> = Err(ANEError::Timeout(5).into());
        assert_eq!(code(&timeout.context("a.npz").unwrap_err()), TIMEOUT);
        let refusal: anyhow::Result<()> = Err(Refusal::Input("no such input".to_owned()).into());
        assert_eq!(code(&refusal.context("a.npz").unwrap_err()), INVALID_INPUT);
        assert_eq!(code(&anyhow::anyhow!("disk full")), OTHER);
    }
}
