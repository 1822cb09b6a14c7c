//! `ane engines`: what can run models here.

use apple_silicon::ane::engines::{self, Installed, Status};
use clap::Args;
use serde::Serialize;

use crate::terminal::{self, BOLD, GOOD, clean, table};

/// List the engines on this machine, and which one a model would get
///
/// ONNX Runtime is looked for in this order: the file that ORT_DYLIB_PATH names, what `ane engine install` installed,
/// the system's library path, and the active Python. rten is compiled in.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An engine as `--json` prints it. Field names are a promise to scripts.
#[derive(Serialize)]
struct Report {
    name: &'static str,
    version: Option<String>,
    /// `chosen`, `available` or `unusable`.
    status: &'static str,
    reason: Option<String>,
    origin: String,
    path: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let installed = engines::installed();
    if arguments.json {
        return terminal::print_json(&installed.iter().map(report).collect::<Vec<_>>());
    }
    terminal::print(&text(&installed))
}

fn report(engine: &Installed) -> Report {
    let (status, reason) = match &engine.status {
        Status::Chosen => ("chosen", None),
        Status::Available => ("available", None),
        Status::Unusable(why) => ("unusable", Some(why.clone())),
    };
    Report {
        name: engine.engine,
        version: engine.version.clone(),
        status,
        reason,
        origin: engine.origin.clone(),
        path: engine.path.as_ref().map(|path| path.display().to_string()),
    }
}

fn text(installed: &[Installed]) -> String {
    let rows: Vec<[String; 5]> = installed
        .iter()
        .map(|engine| {
            let report = report(engine);
            let status =
                report.reason.map_or(report.status.to_owned(), |why| format!("{}: {}", report.status, clean(&why)));
            let path = report.path.map(|path| clean(&path).into_owned()).unwrap_or_default();
            [report.name.to_owned(), report.version.unwrap_or_default(), status, report.origin, path]
        })
        .collect();
    let mut text = format!("{BOLD}Engines{BOLD:#}, in the order in which `auto` takes them\n");
    for (line, engine) in table(&rows).lines().zip(installed) {
        let style = if engine.status == Status::Chosen { GOOD } else { anstyle::Style::new() };
        text.push_str(&format!("{style}{line}{style:#}\n"));
    }
    if !installed.iter().any(|engine| engine.engine != "rten" && engine.status == Status::Chosen) {
        text.push_str(
            "\n`ane engine install` gets ONNX Runtime, which runs every operation and is faster on most models.\n",
        );
    }
    text
}
