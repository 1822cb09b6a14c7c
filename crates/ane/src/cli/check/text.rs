//! What `ane check` tells, for people: what fits one screen.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use coreml_explain::{Effect, Verdict};

use super::report::{FindingReport, OperationReport, Report, RuleReport};
use crate::terminal::{BAD, BOLD, DIM, GOOD, NAME, bytes, clean, count, short, table};

const DOUBT: Style = AnsiColor::Yellow.on_default();
/// Rules that are told with what to do; the others are counted.
const TOLD: usize = 5;

pub(super) fn text(report: &Report) -> String {
    let mut text = format!("{BOLD}{}{BOLD:#}\n", clean(&report.model));
    heading(&mut text, report);
    for effect in [Effect::Off, Effect::Doubtful, Effect::Numbers, Effect::Slow] {
        rules(&mut text, report, effect);
    }
    notes(&mut text, report);
    cost(&mut text, report);
    if let Some(numerics) = &report.numerics {
        text.push_str(&super::numerics::text(numerics, report));
    }
    if let Some(plan) = &report.plan {
        text.push_str(&super::plan::text(plan, report));
    }
    if !report.rules.is_empty() {
        let first = report.rules[0].id;
        line(
            &mut text,
            &format!(
                "\n{DIM}Rules are graded, never certain. `ane rule {first}` explains one; --ops lists every operation.{DIM:#}"
            ),
        );
    }
    text
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "{content}").expect("strings take all");
}

fn heading(text: &mut String, report: &Report) {
    let verdict = &report.verdict;
    let stage = report.stage.as_ref().map_or(String::new(), |stage| format!(", stage {}", short(stage)));
    line(text, &format!("  {}{stage}, {}", report.kind, count(verdict.operations, "operation")));
    if verdict.operations == 0 {
        return;
    }
    line(
        text,
        &format!(
            "  On the Neural Engine: {GOOD}{} likely{GOOD:#}, {DOUBT}{} possible{DOUBT:#}, {BAD}{} unlikely{BAD:#}{}",
            verdict.likely,
            verdict.possible,
            verdict.unlikely,
            verdict
                .arithmetic_likely
                .map_or(String::new(), |share| format!("; {:.1} % of the arithmetic is in likely ones", share * 100.0))
        ),
    );
    let entries = match verdict.entries {
        0 => "never entered".to_owned(),
        1 => "entered once".to_owned(),
        n => format!("entered {n} times"),
    };
    line(text, &format!("  {}, so that it is {entries}", count(verdict.segments, "segment")));
}

fn title(effect: Effect) -> String {
    match effect {
        Effect::Off => format!("{BAD}Off the Neural Engine{BAD:#}"),
        Effect::Doubtful => format!("{DOUBT}Doubtful{DOUBT:#}"),
        Effect::Numbers => format!("{BOLD}Other numbers{BOLD:#}"),
        Effect::Slow => format!("{BOLD}Slow{BOLD:#}"),
        Effect::Note => format!("{BOLD}Notes{BOLD:#}"),
    }
}

/// The rules of one effect, those that found most first, and what each found.
fn by_rule(report: &Report, effect: Effect) -> Vec<(&RuleReport, Vec<&FindingReport>)> {
    let rules = report.rules.iter().filter(|rule| rule.effect == effect);
    let found = |rule: &RuleReport| -> Vec<&FindingReport> {
        report.findings.iter().filter(|finding| finding.rule == rule.id && !finding.known).collect()
    };
    let mut all: Vec<_> = rules.map(|rule| (rule, found(rule))).filter(|(_, found)| !found.is_empty()).collect();
    all.sort_by_key(|(_, found)| std::cmp::Reverse(found.len()));
    all
}

fn rules(text: &mut String, report: &Report, effect: Effect) {
    let all = by_rule(report, effect);
    if all.is_empty() {
        return;
    }
    line(text, &format!("\n{}", title(effect)));
    for (rule, found) in all.iter().take(TOLD) {
        let of = found[0].operation.map(|place| &report.operations[place]);
        let example = of.map_or(String::new(), |op| format!(" ({} {})", op.kind, short(&op.name)));
        let more = if found.len() > 1 { format!(" and {} more", found.len() - 1) } else { String::new() };
        line(
            text,
            &format!(
                "  {NAME}{}{NAME:#} {}{}{more} {DIM}[{:?}]{DIM:#}",
                rule.id,
                clean(&found[0].message),
                clean(&example),
                rule.confidence
            ),
        );
        line(text, &format!("    {DIM}{}{DIM:#}", rule.advice));
    }
    if all.len() > TOLD {
        let ids: Vec<&str> = all[TOLD..].iter().map(|(rule, _)| rule.id).collect();
        line(text, &format!("  and {}", ids.join(", ")));
    }
}

fn notes(text: &mut String, report: &Report) {
    let all = by_rule(report, Effect::Note);
    if all.is_empty() {
        return;
    }
    line(text, &format!("\n{}", title(Effect::Note)));
    for (rule, found) in &all {
        let often = if found.len() > 1 { format!(" ({} operations)", found.len()) } else { String::new() };
        line(text, &format!("  {NAME}{}{NAME:#} {}{often}", rule.id, rule.title));
    }
}

fn cost(text: &mut String, report: &Report) {
    let Some(cost) = &report.cost else {
        if let Some(reason) = &report.not_lowered {
            line(text, &format!("\n{BOLD}Costs{BOLD:#} are not known: {}", clean(reason)));
        }
        return;
    };
    let guess = if cost.certain { "" } else { " (some sizes are bounds)" };
    line(text, &format!("\n{BOLD}Cost{BOLD:#} of one run with default shapes{guess}"));
    let weights: Vec<String> = report.weights.iter().map(|w| format!("{} {}", bytes(w.bytes as u64), w.ty)).collect();
    let mut rows = vec![
        ["arithmetic".to_owned(), flops(cost.flops)],
        [
            "weights".to_owned(),
            if weights.is_empty() { "none".to_owned() } else { clean(&weights.join(", ")).into_owned() },
        ],
        ["moves".to_owned(), format!("{} of activations in fp16", bytes(cost.activation_bytes))],
    ];
    if let Some(memory) = &report.memory {
        let largest: Vec<String> =
            memory.tensors.iter().take(2).map(|t| format!("{} {}", short(&t.name), bytes(t.bytes as u64))).collect();
        let of = if largest.is_empty() { String::new() } else { format!(": {}", largest.join(", ")) };
        let peak = bytes(memory.peak_bytes as u64);
        rows.push(["peak".to_owned(), format!("{peak} of activations in fp32, at {}{of}", short(&memory.at))]);
    }
    if let Some(estimate) = &report.estimate {
        let [low, high] = estimate.range;
        let kinds: Vec<String> =
            (estimate.dominant.iter().take(3)).map(|d| format!("{} {:.0} %", d.kind, d.share * 100.0)).collect();
        let time =
            format!("{} ms on {} ({} to {})", digits(estimate.milliseconds), estimate.chip, digits(low), digits(high));
        rows.push(["time".to_owned(), format!("{time}: {}", clean(&kinds.join(", ")))]);
    }
    text.push_str(&table(&rows));
}

/// Every operation, in order.
pub(super) fn operations(report: &Report) -> String {
    let heading = ["", "operation", "name", "gives", "rules"].map(str::to_owned);
    let row = |op: &OperationReport| {
        let verdict = match op.verdict {
            Verdict::Likely => "likely",
            Verdict::Possible => "possible",
            Verdict::Unlikely => "unlikely",
        };
        let gives = op.results.first().map_or(String::new(), |result| result.ty.clone());
        [verdict.to_owned(), clean(&op.kind).into_owned(), short(&op.name).into_owned(), gives, op.rules.join(" ")]
    };
    let rows: Vec<[String; 5]> = std::iter::once(heading).chain(report.operations.iter().map(row)).collect();
    format!("\n{BOLD}Operations{BOLD:#}\n{}", table(&rows))
}

/// `1.2 GFLOP`.
fn flops(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "");
    for next in ["k", "M", "G", "T", "P"] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit.is_empty() { format!("{count} FLOP") } else { format!("{value:.1} {unit}FLOP") }
}

/// Two digits that say something.
fn digits(value: f64) -> String {
    match value {
        v if v >= 10.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
