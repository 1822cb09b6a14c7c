//! What fp16 does to the model's numbers, as part of the report.

use std::collections::HashMap;

use apple_silicon::ane::models::{
    coreml_model::LoadOptions,
    numerics::{self, Answer, Drift},
};
use coreml_format::Model;
use serde::Serialize;

use super::{Arguments, report};
use crate::{
    inputs::Request,
    terminal::{BAD, BOLD, GOOD, Progress, clean, count, short, table},
};

/// How many results are told to people, the worst ones.
const TOLD: usize = 5;
/// Errors below this are those of rounding alone.
const QUIET: f64 = 0.01;

#[derive(Serialize)]
pub(super) struct Report {
    inputs: String,
    operations: Vec<OperationReport>,
    /// The place among `operations` of the first that overflows, or gives what is no number, in fp16 alone.
    pub(super) first_overflow: Option<usize>,
    outputs: Vec<OutputReport>,
    answers: Vec<AnswerReport>,
}

/// An output that is a label or a whole number.
#[derive(Serialize)]
struct AnswerReport {
    name: String,
    fp32: String,
    fp16: String,
}

#[derive(Serialize)]
struct OperationReport {
    /// Its place in the report's operations.
    operation: usize,
    result: String,
    elements: usize,
    overflow: usize,
    invalid: usize,
    flushed: usize,
    largest: f64,
    error: f64,
    worst: Option<WorstReport>,
}

/// JSON has no infinity, so that numbers are words where they are none.
#[derive(Serialize)]
struct WorstReport {
    index: Vec<usize>,
    fp32: Number,
    fp16: Number,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Finite(f32),
    Word(String),
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    error: f64,
    overflow: usize,
    invalid: usize,
    worst: Option<WorstReport>,
}

fn number(value: f32) -> Number {
    if value.is_finite() { Number::Finite(value) } else { Number::Word(value.to_string()) }
}

fn worst(drift: &Drift) -> Option<WorstReport> {
    let worst = drift.worst.as_ref()?;
    Some(WorstReport { index: worst.index.clone(), fp32: number(worst.fp32), fp16: number(worst.fp16) })
}

pub(super) fn run(arguments: &Arguments, model: &Model, report: &report::Report) -> anyhow::Result<Report> {
    let schema = &model.schema;
    let named = arguments.function.as_ref().and_then(|name| schema.functions.get(name));
    let files = arguments.inputs.as_slice();
    let random = files.is_empty().then_some(arguments.random);
    let sources = Request { files, named: &[], random }.sources()?;
    let inputs = sources[0].read(named.unwrap_or(&schema.interface))?;
    let options = LoadOptions {
        engine: arguments.engine.parse()?,
        function: arguments.function.clone(),
        ..LoadOptions::default()
    };
    let progress = Progress::spinner("running it in fp32 and fp16");
    let told = |part: f64| progress.bar().set_message(format!("running it in fp32 and fp16: {:.0} %", part * 100.0));
    let found = numerics::compare(&arguments.model, &inputs, &options, told)?;
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, operation) in report.operations.iter().enumerate() {
        places.entry(&operation.name).or_insert(place);
    }
    let operations: Vec<OperationReport> = (found.values.iter())
        .filter_map(|drift| {
            Some(OperationReport {
                operation: *places.get(drift.op.as_str())?,
                result: drift.name.clone(),
                elements: drift.elements,
                overflow: drift.overflow,
                invalid: drift.invalid,
                flushed: drift.flushed,
                largest: drift.largest,
                error: drift.error,
                worst: worst(drift),
            })
        })
        .collect();
    let output = |drift: &Drift| OutputReport {
        name: drift.name.clone(),
        error: drift.error,
        overflow: drift.overflow,
        invalid: drift.invalid,
        worst: worst(drift),
    };
    Ok(Report {
        inputs: match &arguments.inputs {
            Some(file) => file.display().to_string(),
            None => format!("random, seed {}", arguments.random),
        },
        first_overflow: operations.iter().position(|one| one.overflow + one.invalid > 0),
        operations,
        outputs: found.outputs.iter().map(output).collect(),
        answers: (found.answers.into_iter())
            .map(|Answer { name, fp32, fp16, .. }| AnswerReport { name, fp32, fp16 })
            .collect(),
    })
}

pub(super) fn text(numerics: &Report, report: &report::Report) -> String {
    let mut text = format!("\n{BOLD}In fp16{BOLD:#} ({}), where fp32 is the truth\n", clean(&numerics.inputs));
    let name = |one: &OperationReport| {
        let operation = &report.operations[one.operation];
        format!("{} {}", clean(&operation.kind), short(&operation.name))
    };
    match numerics.first_overflow.map(|place| &numerics.operations[place]) {
        None => text.push_str(&format!("  {GOOD}no value overflows{GOOD:#}\n")),
        Some(first) => {
            let what = if first.overflow > 0 {
                format!("overflows in {} of {}", count(first.overflow, "element"), first.elements)
            } else {
                format!("is no number in {} of {}", count(first.invalid, "element"), first.elements)
            };
            text.push_str(&format!("  {BAD}{} {what}{BAD:#}{}\n", name(first), at(first.worst.as_ref())));
        }
    }
    let vanishing: usize = numerics.operations.iter().filter(|one| one.flushed > 0).count();
    if vanishing > 0 {
        let most = numerics.operations.iter().max_by_key(|one| one.flushed).expect("there is one");
        text.push_str(&format!(
            "  {} give 0 for numbers that are none; most {}, {} of {}\n",
            count(vanishing, "operation"),
            name(most),
            most.flushed,
            most.elements
        ));
    }
    let mut drifting: Vec<&OperationReport> = numerics.operations.iter().filter(|one| one.error >= QUIET).collect();
    drifting.sort_by(|a, b| b.error.total_cmp(&a.error));
    let row = |one: &&OperationReport| [name(one), format!("off by {}", percent(one.error)), at(one.worst.as_ref())];
    text.push_str(&table(&drifting.iter().take(TOLD).map(row).collect::<Vec<_>>()));
    let row = |output: &OutputReport| {
        let broken = output.overflow + output.invalid;
        let what = if broken > 0 {
            format!("{broken} elements are no numbers")
        } else {
            format!("off by {}", percent(output.error))
        };
        [format!("output {}", short(&output.name)), what, at(output.worst.as_ref())]
    };
    text.push_str(&table(&numerics.outputs.iter().map(row).collect::<Vec<_>>()));
    for AnswerReport { name, fp32, fp16 } in &numerics.answers {
        let (name, fp32, fp16) = (short(name), short(fp32), short(fp16));
        let what = if fp32 == fp16 { format!("{fp32} in both") } else { format!("{BAD}{fp16} for {fp32}{BAD:#}") };
        text.push_str(&format!("  output {name}  {what}\n"));
    }
    text
}

fn percent(error: f64) -> String {
    format!("{:.2} %", error * 100.0)
}

fn at(worst: Option<&WorstReport>) -> String {
    let shown = |number: &Number| match number {
        Number::Finite(value) => value.to_string(),
        Number::Word(word) => word.clone(),
    };
    worst.map_or(String::new(), |worst| {
        format!(" at {:?}: {} for {}", worst.index, shown(&worst.fp16), shown(&worst.fp32))
    })
}
