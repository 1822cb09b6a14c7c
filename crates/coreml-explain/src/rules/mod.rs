//! What keeps operations off the Neural Engine, slows them there or spoils their numbers: one row and one function a rule.
//!
//! Apple publishes no table of what the Neural Engine takes, and Core ML decides for each device. So each rule says
//! where it comes from and how sure it is, and none is certain. What Core ML itself has planned overrides them.

mod moves;
mod numbers;
mod operations;
mod tensors;
mod weights;
mod whole;
mod windows;

use std::sync::LazyLock;

use serde::Serialize;

use crate::{
    chips::Chip,
    graph::{Graph, Op},
    placement::Placed,
};

/// A rule.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rule {
    /// Its number, such as `ANE014`, which stays the same.
    pub id: &'static str,
    /// Its name, such as `fp32-operation`.
    pub name: &'static str,
    /// What it says, in a line.
    pub title: &'static str,
    /// What comes of it.
    pub effect: Effect,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why that is so.
    pub reason: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// A case of it, and what to write instead.
    pub example: &'static str,
    pub(crate) find: Find,
}

/// What comes of a rule that fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Does not run on the Neural Engine.
    Off,
    /// Does not always run there.
    Doubtful,
    /// Computes other numbers there.
    Numbers,
    /// Runs there, but slowly.
    Slow,
    /// Good to know.
    Note,
}

/// How sure a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Confidence {
    /// Apple says so.
    A,
    /// Several have measured it.
    B,
    /// One source says so.
    C,
}

/// How a rule looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Find {
    /// At one operation: half a sentence with what it found.
    Op(fn(&Subject<'_>, &Op<'_>) -> Option<String>),
    /// At the model as a whole.
    Model(fn(&Subject<'_>) -> Option<String>),
    /// At the model after its operations have been placed.
    Placed(fn(&Subject<'_>, &Placed<'_>) -> Option<String>),
}

/// What a rule has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The rule's number.
    pub rule: &'static str,
    /// The place of the operation in [`Graph::ops`]; `None` for the model as a whole.
    pub op: Option<usize>,
    /// What it found, as half a sentence with the value.
    pub message: String,
}

/// What rules look at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) graph: &'a Graph<'a>,
    pub(crate) target: Target,
}

/// Where the model is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    /// The chip; any where `None`.
    pub chip: Option<&'static Chip>,
    /// The number of the oldest iOS that it is for; where `None`, the oldest that reads the model.
    pub ios: Option<u32>,
}

/// The rules by topic. A new one is the last of its topic and has the next number of all.
const TOPICS: &[&[Rule]] =
    &[tensors::RULES, weights::RULES, operations::RULES, windows::RULES, moves::RULES, numbers::RULES, whole::RULES];

/// Every rule, in the order of their numbers.
///
/// ```
/// let first = coreml_explain::rules().next().unwrap();
/// assert_eq!(first.id, "ANE001");
/// ```
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    static SORTED: LazyLock<Vec<&'static Rule>> = LazyLock::new(|| {
        let mut rules: Vec<&'static Rule> = TOPICS.iter().copied().flatten().collect();
        rules.sort_by_key(|rule| rule.id);
        rules
    });
    SORTED.iter().copied()
}

/// The rule with this number or name, in any case.
pub fn rule(id: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.id.eq_ignore_ascii_case(id) || rule.name.eq_ignore_ascii_case(id))
}

impl Effect {
    /// Every effect, the most serious first.
    pub const ALL: [Effect; 5] = [Effect::Off, Effect::Doubtful, Effect::Numbers, Effect::Slow, Effect::Note];

    /// Its name, in words.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Off => "off the Neural Engine",
            Effect::Doubtful => "doubtful on the Neural Engine",
            Effect::Numbers => "other numbers",
            Effect::Slow => "slow",
            Effect::Note => "note",
        }
    }
}

impl Confidence {
    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Confidence::A => "Apple says so",
            Confidence::B => "several have measured it",
            Confidence::C => "one source says so",
        }
    }
}

impl Target {
    /// Whether no system that the model is for is older than this iOS. What reads the model is no older than its
    /// specification asks for.
    pub(crate) fn since_ios(&self, version: u32, graph: &Graph<'_>) -> bool {
        let oldest = coreml_format::spec::minimum_os(graph.model.spec_version)
            .and_then(|os| os.ios.split('.').next()?.parse().ok())
            .unwrap_or(0);
        self.ios.unwrap_or(0).max(oldest) >= version
    }
}

/// What the rules of some effects find in each operation and in the model as a whole.
pub(crate) fn find(subject: &Subject<'_>, effects: &[Effect]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules().filter(|rule| effects.contains(&rule.effect)) {
        match rule.find {
            Find::Op(find) => {
                for (place, op) in subject.graph.ops.iter().enumerate() {
                    let found = find(subject, op);
                    findings.extend(found.map(|message| Finding { rule: rule.id, op: Some(place), message }));
                }
            }
            Find::Model(find) => {
                findings.extend(find(subject).map(|message| Finding { rule: rule.id, op: None, message }));
            }
            Find::Placed(_) => {}
        }
    }
    findings
}

/// What the rules find that look at how operations are placed.
pub(crate) fn find_placed(subject: &Subject<'_>, placed: &Placed<'_>) -> Vec<Finding> {
    let looking = rules().filter_map(|rule| match rule.find {
        Find::Placed(find) => Some((rule, find)),
        Find::Op(_) | Find::Model(_) => None,
    });
    let found = looking
        .filter_map(|(rule, find)| find(subject, placed).map(|message| Finding { rule: rule.id, op: None, message }));
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_numbered_and_whole() {
        for (place, rule) in rules().enumerate() {
            assert_eq!(rule.id, format!("ANE{:03}", place + 1), "{}", rule.name);
            let texts = [rule.name, rule.title, rule.reason, rule.advice, rule.source, rule.example];
            assert!(texts.iter().all(|text| !text.is_empty()), "{}", rule.id);
            assert!(
                rule.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                rule.id
            );
            assert_eq!(rules().filter(|other| other.name == rule.name).count(), 1, "{}", rule.name);
        }
    }
}
