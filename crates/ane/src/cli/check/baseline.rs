//! What is known of a model already, so that only what is new makes a check fail.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::report::Report;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Baseline {
    version: u32,
    findings: Vec<Known>,
}

/// A finding by what stays the same while a model changes: its message has sizes in it.
#[derive(Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Known {
    rule: String,
    /// The operation's name; empty for the model as a whole.
    operation: String,
}

fn known(report: &Report) -> Vec<Known> {
    let name = |place: Option<usize>| place.map_or(String::new(), |place| report.operations[place].name.clone());
    let of = |finding: &super::report::FindingReport| Known {
        rule: finding.rule.to_owned(),
        operation: name(finding.operation),
    };
    report.findings.iter().map(of).collect()
}

pub(super) fn of(report: &Report) -> anyhow::Result<String> {
    let mut findings = known(report);
    findings.sort();
    Ok(serde_json::to_string_pretty(&Baseline { version: VERSION, findings })? + "\n")
}

/// Marks the findings that the file has.
pub(super) fn apply(file: &Path, report: &mut Report) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the baseline {}; --write-baseline makes one", file.display()))?;
    let baseline: Baseline = serde_json::from_str(&text)
        .with_context(|| format!("{} is no baseline of `ane check --write-baseline`", file.display()))?;
    anyhow::ensure!(
        baseline.version == VERSION,
        "{} has version {}, and not {VERSION}",
        file.display(),
        baseline.version
    );
    // Operations may share a name; each entry accounts for one finding.
    let mut counts: HashMap<Known, usize> = HashMap::new();
    baseline.findings.into_iter().for_each(|finding| *counts.entry(finding).or_default() += 1);
    for (finding, key) in known(report).into_iter().enumerate() {
        if let Some(count) = counts.get_mut(&key).filter(|count| **count > 0) {
            *count -= 1;
            report.findings[finding].known = true;
        }
    }
    Ok(())
}
