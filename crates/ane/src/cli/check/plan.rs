//! A plan that Core ML has made on a Mac, beside the rules' verdicts.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context;
use apple_silicon::ane::{infer::ComputeUnit, models::plan::ComputePlan};
use coreml_explain::Verdict;
use serde::Serialize;

use super::report::Report;
use crate::terminal::{BOLD, clean, count, short, table};

/// How many differences are told to people.
const TOLD: usize = 10;

#[derive(Serialize)]
pub(super) struct PlanReport {
    system: String,
    chip: Option<String>,
    /// Operations that are planned where their verdict says: likely on the Neural Engine, unlikely elsewhere.
    agree: usize,
    disagree: Vec<Difference>,
    /// Planned operations that are not in the model.
    unknown: usize,
}

#[derive(Serialize)]
struct Difference {
    operation: usize,
    verdict: Verdict,
    planned: String,
}

/// Sets where each operation is planned, by the names of its results.
pub(super) fn compare(file: &Path, report: &mut Report) -> anyhow::Result<PlanReport> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the plan {}", file.display()))?;
    let plan: ComputePlan = serde_json::from_str(&text)
        .with_context(|| format!("{} is no plan of `ane inspect --plan --json`", file.display()))?;
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, operation) in report.operations.iter().enumerate() {
        // A layer's plan has its own name.
        places.insert(operation.name.clone(), place);
    }
    for (place, operation) in report.operations.iter().enumerate() {
        places.extend(operation.results.iter().map(|result| (result.name.clone(), place)));
    }
    let (mut agree, mut unknown, mut disagree) = (0, 0, Vec::new());
    for planned in &plan.operations {
        let Some(unit) = planned.preferred else { continue };
        let place = planned.outputs.iter().find_map(|name| places.get(name)).copied();
        let Some(place) = place else {
            unknown += 1;
            continue;
        };
        let operation = &mut report.operations[place];
        operation.planned = Some(unit.to_string());
        let fits = match operation.verdict {
            Verdict::Likely => unit == ComputeUnit::Ane,
            Verdict::Possible => true,
            Verdict::Unlikely => unit != ComputeUnit::Ane,
        };
        if fits {
            agree += 1;
        } else {
            disagree.push(Difference { operation: place, verdict: operation.verdict, planned: unit.to_string() });
        }
    }
    Ok(PlanReport { system: plan.system, chip: plan.chip, agree, disagree, unknown })
}

pub(super) fn text(plan: &PlanReport, report: &Report) -> String {
    let chip = plan.chip.as_ref().map_or(String::new(), |chip| format!(", {}", clean(chip)));
    let mut text = format!(
        "\n{BOLD}Core ML's plan{BOLD:#} on {}{chip}: {} as expected, {} otherwise\n",
        clean(&plan.system),
        count(plan.agree, "operation"),
        plan.disagree.len()
    );
    let row = |difference: &Difference| {
        let operation = &report.operations[difference.operation];
        let name = format!("{} {}", clean(&operation.kind), short(&operation.name));
        [name, difference.verdict.name().to_owned(), format!("planned for {}", difference.planned)]
    };
    text.push_str(&table(&plan.disagree.iter().take(TOLD).map(row).collect::<Vec<_>>()));
    if plan.disagree.len() > TOLD {
        text.push_str(&format!("  and {} more\n", plan.disagree.len() - TOLD));
    }
    if plan.unknown > 0 {
        text.push_str(&format!("  {} of the plan are not in this model\n", count(plan.unknown, "operation")));
    }
    text
}
