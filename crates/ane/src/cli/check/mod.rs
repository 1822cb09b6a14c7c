//! `ane check`: whether a model would run on the Neural Engine, what it costs, and what fp16 does to it.

mod baseline;
mod html;
mod numerics;
mod plan;
mod report;
mod sarif;
mod text;

use std::{fs, path::PathBuf};

use anyhow::Context;
use apple_silicon::ane::errors::ANEError;
use clap::{Args, ValueEnum};
use coreml_explain::{CHIPS, Chip, Effect, Target, Verdict, explain};
use coreml_format::{Model, ModelKind};
use coreml_onnx::{LowerOptions, lower};

pub(super) use self::report::RuleReport;
use self::report::{Report, TargetReport};
use crate::{
    exit::{Found, Refusal},
    terminal::{self, Progress},
};

/// Explain a model: does it run on the Neural Engine, why not, what does it cost, does fp16 break it?
///
/// Looks at every operation with rules that say where they come from and how sure they are, on any machine. Core ML decides
/// on each device: what it has planned there (--plan) overrides the rules. Nothing is run but with --numerics.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ane check model.mlpackage                         what keeps it off the Neural Engine, and what to do
  ane check model.mlpackage --chip m4 --ops         each operation, for an M4
  ane check model.mlpackage --numerics              run it in fp32 and fp16, and compare each result
  ane check model.mlpackage --html report.html      the same as a page: graph, costs, reasons
  ane check model.mlpackage --fail-on unlikely --baseline known.json     a gate for CI
  ane rule ANE026                                   explains a rule

--fail-on ends with exit code 11 where it finds such an operation. With --baseline, what is in the file is known and does
not count; --write-baseline writes it.")]
pub(crate) struct Arguments {
    /// The model: .mlpackage, .mlmodel or .mlmodelc
    model: PathBuf,
    /// The function of a multi-function model; its default function where left out
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// The chip that it is for, such as m1, a17-pro or m4-max; estimates are for an M1 where left out
    #[arg(long, value_name = "CHIP")]
    chip: Option<String>,
    /// The oldest iOS that it is for (macOS 14 is iOS 17, macOS 15 is iOS 18)
    #[arg(long, value_name = "VERSION")]
    ios: Option<u32>,
    /// List every operation
    #[arg(long)]
    ops: bool,
    /// Run it in fp32 and in fp16, on --inputs or on random numbers, and report where they part
    #[arg(long)]
    numerics: bool,
    /// The inputs of --numerics, as for `ane run`
    #[arg(long, value_name = "FILE", requires = "numerics")]
    inputs: Option<PathBuf>,
    /// The seed of --numerics' random inputs
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    random: u64,
    /// The engine of --numerics
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = ["auto", "onnxruntime", "rten"])]
    engine: String,
    /// Compare with Core ML's plan, saved on a Mac by `ane inspect --plan --json`
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// End with exit code 11 where something is found: unlikely, possible, numbers or slow
    #[arg(long, value_name = "WHAT", value_enum)]
    fail_on: Vec<FailOn>,
    /// Findings in this file are known
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write all findings to this file, for --baseline
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// Write a page with all of it, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write SARIF 2.1.0, for code review tools
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What makes a check fail.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// An operation that is unlikely to run on the Neural Engine
    Unlikely,
    /// An operation that may not run there, or is unlikely to
    Possible,
    /// A rule about numbers, or with --numerics an overflow in fp16
    Numbers,
    /// A rule about what is slow
    Slow,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Progress::spinner("looking at the model");
    let model = Model::open(&arguments.model).map_err(ANEError::from)?;
    let mut report = explained(arguments, &model)?;
    drop(progress);
    if arguments.numerics && report.operations.is_empty() {
        let kind = report.kind;
        return Err(Refusal::Usage(format!(
            "a model of type {kind} has no operations whose numbers --numerics could compare"
        ))
        .into());
    }
    if arguments.numerics {
        report.numerics = Some(numerics::run(arguments, &model, &report)?);
    }
    if let Some(file) = &arguments.plan {
        report.plan = Some(plan::compare(file, &mut report)?);
    }
    if let Some(file) = &arguments.baseline {
        baseline::apply(file, &mut report)?;
    }
    if let Some(file) = &arguments.write_baseline {
        write(file, &baseline::of(&report)?)?;
    }
    if let Some(file) = &arguments.sarif {
        write(file, &sarif::of(&report)?)?;
    }
    if let Some(file) = &arguments.html {
        write(file, &html::of(&report)?)?;
    }
    if arguments.json {
        terminal::print_json(&report)?;
    } else {
        let operations = if arguments.ops { text::operations(&report) } else { String::new() };
        terminal::print(&(text::text(&report) + &operations))?;
    }
    gate(&report, &arguments.fail_on)
}

fn explained(arguments: &Arguments, model: &Model) -> anyhow::Result<Report> {
    let chip = match &arguments.chip {
        None => None,
        Some(name) => Some(Chip::named(name).ok_or_else(|| {
            let names: Vec<&str> = CHIPS.iter().map(|chip| chip.name).collect();
            Refusal::Usage(format!("there are no figures for a chip {name:?}; choose one of {}", names.join(", ")))
        })?),
    };
    let target = Target { chip, ios: arguments.ios };
    let (stage, model) = stage(model);
    let function = arguments.function.as_deref();
    if let Some(name) = function.filter(|name| !has_function(model, name)) {
        let names: Vec<&String> = model.schema.functions.keys().collect();
        return Err(Refusal::Usage(format!("there is no function {name:?}; there are {names:?}")).into());
    }
    let options = LowerOptions { function: arguments.function.clone(), ..LowerOptions::default() };
    let lowered = match model.kind {
        ModelKind::Program(_) | ModelKind::NeuralNetwork(_) => {
            lower(model, &options).map_err(|error| error.to_string())
        }
        ModelKind::Classic(_) | ModelKind::Pipeline(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => {
            Err(format!("a model of type {} has no operations", model.kind.name()))
        }
    };
    let explanation = explain(model, function, lowered.as_ref().ok(), target);
    let path = arguments.model.display().to_string();
    let target = TargetReport { chip: chip.map(|chip| chip.name), ios: arguments.ios };
    let mut report = Report::of(path, &explanation, lowered.as_ref().map_err(Clone::clone), target);
    report.stage = stage;
    Ok(report)
}

fn has_function(model: &Model, name: &str) -> bool {
    model.schema.functions.contains_key(name) || model.schema.default_function == name
}

/// Of a pipeline the stage with the most operations, and its name.
fn stage(model: &Model) -> (Option<String>, &Model) {
    let ModelKind::Pipeline(pipeline) = &model.kind else { return (None, model) };
    let operations = |model: &Model| -> usize {
        coreml_format::stats::operations(model).values().flat_map(|kinds| kinds.values()).sum()
    };
    let most = pipeline.stages.iter().max_by_key(|stage| operations(&stage.model));
    match most {
        Some(most) => (Some(most.name.clone()), self::stage(&most.model).1),
        None => (None, model),
    }
}

fn write(file: &PathBuf, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Fails where the report has what shall not be.
fn gate(report: &Report, fail_on: &[FailOn]) -> anyhow::Result<()> {
    let fresh = |effects: &[Effect]| {
        let of = |id: &str| {
            report.rules.iter().find(|rule| rule.id == id).is_some_and(|rule| effects.contains(&rule.effect))
        };
        report.findings.iter().filter(|finding| !finding.known && of(finding.rule)).count()
    };
    let mut found = Vec::new();
    for what in fail_on {
        let (count, name) = match what {
            FailOn::Unlikely => (unlikely(report), "that keep operations off the Neural Engine"),
            FailOn::Possible => {
                (unlikely(report) + fresh(&[Effect::Doubtful]), "that make operations doubtful or unlikely there")
            }
            FailOn::Numbers => {
                let overflows =
                    report.numerics.as_ref().map_or(0, |numerics| usize::from(numerics.first_overflow.is_some()));
                (fresh(&[Effect::Numbers]) + overflows, "about numbers")
            }
            FailOn::Slow => (fresh(&[Effect::Slow]), "about what is slow"),
        };
        if count > 0 {
            found.push(format!("{} {name}", terminal::count(count, "finding")));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Found(found.join(", ")).into()) }
}

/// Findings that make their operation unlikely, and are not known. What Core ML has planned for the Neural Engine runs there,
/// whatever the rules say.
fn unlikely(report: &Report) -> usize {
    let off = |id: &str| report.rules.iter().any(|rule| rule.id == id && rule.effect == Effect::Off);
    let count = report.findings.iter().filter(|finding| !finding.known && off(finding.rule));
    let unlikely = |place: usize| {
        let operation = &report.operations[place];
        operation.verdict == Verdict::Unlikely && operation.planned.as_deref() != Some("ANE")
    };
    count.filter(|finding| finding.operation.is_none_or(unlikely)).count()
}
