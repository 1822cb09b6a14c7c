//! What `ane inspect` tells, for people.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write};

use super::report::{FeatureReport, FunctionReport, InterfaceReport, MetadataReport, OpReport, Report, StageReport};
use crate::terminal::{BOLD, DIM, bytes, clean, count, short, table};

pub(super) fn text(report: &Report) -> String {
    let mut text = format!("{BOLD}{}{BOLD:#}\n", clean(&report.path));
    line(&mut text, &heading(report));
    metadata(&mut text, &report.metadata);
    interface(&mut text, &report.interface);
    let several = report.functions.len() > 1;
    for function in &report.functions {
        operations(&mut text, function, several.then_some(report.default_function.as_str()));
    }
    if !report.parts.is_empty() {
        writeln!(text, "\n{BOLD}Made of{BOLD:#}").expect("strings take all");
        line(&mut text, &parts(&report.parts));
    }
    if !report.stages.is_empty() {
        writeln!(text, "\n{BOLD}Stages{BOLD:#}: {}", report.stages.len()).expect("strings take all");
        let mut rows = Vec::new();
        stages(&report.stages, 0, &mut rows);
        text.push_str(&table(&rows));
    }
    weights(&mut text, report);
    text
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "  {content}").expect("strings take all");
}

fn heading(report: &Report) -> String {
    let kind = match report.kind {
        "mlProgram" => "ML Program",
        "neuralNetwork" | "neuralNetworkClassifier" => "neural network",
        "neuralNetworkRegressor" => "neural network, regressor",
        "pipelineClassifier" => "pipeline",
        "pipelineRegressor" => "pipeline, regressor",
        "linkedModel" => "link to a model in a file of its own",
        "compiled" => "compiled model; its operations are Apple's own",
        other => other,
    };
    let kind = match report.classes {
        Some(classes) => format!("{kind}, classifier with {}", count(classes, "label")),
        None => kind.to_owned(),
    };
    match (&report.minimum_os, report.specification_version) {
        (_, 0) => kind,
        (Some(os), version) => {
            format!("{kind}, specification {version}: needs iOS {}, macOS {} or later", os.ios, os.macos)
        }
        (None, version) => format!("{kind}, specification {version}"),
    }
}

fn metadata(text: &mut String, metadata: &MetadataReport) {
    let MetadataReport { description, version, author, license, user_defined } = metadata;
    let known = [("description", description), ("version", version), ("author", author), ("licence", license)];
    let own = user_defined.iter().map(|(key, value)| (key.as_str(), value));
    let rows: Vec<[String; 2]> = (known.into_iter().chain(own))
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| [short(key).into_owned(), clean(value).into_owned()])
        .collect();
    text.push_str(&table(&rows));
}

fn interface(text: &mut String, interface: &InterfaceReport) {
    for (title, features) in
        [("Inputs", &interface.inputs), ("Outputs", &interface.outputs), ("States", &interface.states)]
    {
        if features.is_empty() {
            continue;
        }
        writeln!(text, "\n{BOLD}{title}{BOLD:#}").expect("strings take all");
        let rows: Vec<[String; 3]> = features.iter().map(|feature| row(feature, interface)).collect();
        text.push_str(&table(&rows));
    }
}

fn row(feature: &FeatureReport, interface: &InterfaceReport) -> [String; 3] {
    let is = |name: &Option<String>| name.as_deref() == Some(feature.name.as_str());
    let role = if !feature.description.is_empty() {
        clean(&feature.description).into_owned()
    } else if is(&interface.predicted_feature) {
        // Labels are words or whole numbers; a regressor's value is neither.
        let is_label = ["string", "int64"].contains(&feature.kind);
        format!("the predicted {}", if is_label { "class" } else { "value" })
    } else if is(&interface.predicted_probabilities) {
        "the probability of each class".to_owned()
    } else {
        String::new()
    };
    [short(&feature.name).into_owned(), feature.summary.clone(), role]
}

/// `default` is the name of the default function where there are several.
fn operations(text: &mut String, function: &FunctionReport, default: Option<&str>) {
    let constants = function.operations.get("const").copied().unwrap_or(0);
    let total = function.operations.values().sum::<usize>() - constants;
    let name = short(&function.name);
    let title = match (function.opset, default) {
        (Some(opset), Some(default)) if default == function.name => format!("Function {name} ({opset}, the default)"),
        (Some(opset), _) => format!("Function {name} ({opset})"),
        (None, _) => "Layers".to_owned(),
    };
    let constants = if constants > 0 { format!(" and {}", count(constants, "constant")) } else { String::new() };
    let total = if function.opset.is_some() { count(total, "operation") } else { total.to_string() };
    writeln!(text, "\n{BOLD}{title}{BOLD:#}: {total}{constants}").expect("strings take all");
    if let (Some(own), Some(_)) = (&function.interface, default) {
        line(text, &format!("takes {}; gives {}", names(&own.inputs), names(&own.outputs)));
    }
    match &function.ops {
        Some(ops) => text.push_str(&op_table(ops)),
        None => text.push_str(&histogram(&function.operations)),
    }
}

/// `5 trees, 61 nodes`.
fn parts(parts: &BTreeMap<&'static str, usize>) -> String {
    let mut all: Vec<_> = parts.iter().collect();
    all.sort_by_key(|(_, count)| **count);
    all.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// One row a stage: its type, below those that it is inside of; what it takes and gives; and what it is made of.
fn stages(list: &[StageReport], depth: usize, rows: &mut Vec<[String; 4]>) {
    /// The names of more features would not fit the line.
    const MOST: usize = 3;
    let names = |names: &[String]| match names.len() {
        count if count > MOST => format!("{count} features"),
        _ => names.iter().map(|name| short(name)).collect::<Vec<_>>().join(", "),
    };
    for stage in list {
        rows.push([
            format!("{}{}", "  ".repeat(depth), stage.kind),
            short(&stage.name).into_owned(),
            format!("{} -> {}", names(&stage.inputs), names(&stage.outputs)),
            parts(&stage.parts),
        ]);
        stages(&stage.stages, depth + 1, rows);
    }
}

fn names(features: &[FeatureReport]) -> String {
    features.iter().map(|feature| short(&feature.name)).collect::<Vec<_>>().join(", ")
}

fn op_table(ops: &[OpReport]) -> String {
    let rows: Vec<[String; 3]> = ops
        .iter()
        .map(|op| {
            let kind = format!("{}{}", "  ".repeat(op.depth), short(&op.kind));
            [kind, short(&op.name).into_owned(), clean(&op.outputs.join(", ")).into_owned()]
        })
        .collect();
    table(&rows)
}

/// Kinds with their counts, the most frequent first, in as many columns as fit.
fn histogram(kinds: &BTreeMap<String, usize>) -> String {
    const WIDTH: usize = 96;
    let mut sorted: Vec<_> = kinds.iter().filter(|(kind, _)| *kind != "const").collect();
    sorted.sort_by_key(|(kind, count)| (Reverse(**count), *kind));
    let cells: Vec<String> = sorted.iter().map(|(kind, count)| format!("{count:>5} {}", short(kind))).collect();
    let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0) + 2;
    let columns = (WIDTH / width).clamp(1, 4);
    let mut text = String::new();
    for row in cells.chunks(columns) {
        let row: String = row.iter().map(|cell| format!("{cell:width$}")).collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn weights(text: &mut String, report: &Report) {
    if report.weights.is_empty() {
        return;
    }
    let total: usize = report.weights.iter().map(|row| row.bytes).sum();
    writeln!(text, "\n{BOLD}Weights{BOLD:#}: {}", bytes(total as u64)).expect("strings take all");
    let mut sorted: Vec<_> = report.weights.iter().collect();
    sorted.sort_by_key(|row| Reverse(row.bytes));
    let rows: Vec<[String; 4]> = sorted
        .iter()
        .map(|row| {
            let tensors = count(row.tensors, "tensor");
            [row.dtype.clone(), bytes(row.bytes as u64), tensors, count(row.elements, "element")]
        })
        .collect();
    text.push_str(&table(&rows));
    if !report.compression.is_empty() {
        let list: Vec<String> =
            report.compression.iter().map(|(name, count)| format!("{} x{count}", clean(name))).collect();
        writeln!(text, "  {DIM}compressed: {}{DIM:#}", list.join(", ")).expect("strings take all");
    }
}
