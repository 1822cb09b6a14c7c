//! Where operations would run, by the rules that fired, and how often execution would change units.

use std::collections::VecDeque;

use serde::Serialize;

use crate::{
    estimate::Estimate,
    graph::Graph,
    rules::{Confidence, Effect, Finding, rule},
};

/// Whether an operation would run on the Neural Engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No rule is against it.
    Likely,
    /// A rule is against it that one source has, or that holds at times.
    Possible,
    /// Apple says, or several have measured, that it does not.
    Unlikely,
}

/// Where an operation would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The Neural Engine.
    Ane,
    /// The GPU or the CPU.
    Other,
}

/// Operations that run one after the other on one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Segment {
    /// Where they run.
    pub unit: Unit,
    /// Their places in [`Graph::ops`], in an order in which they may run.
    pub ops: Vec<usize>,
}

/// Operations with their verdicts, for the rules that look at all of them.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) verdicts: &'a [Verdict],
    pub(crate) segments: &'a [Segment],
    pub(crate) estimate: Option<&'a Estimate>,
}

impl Verdict {
    /// Its name: `likely`, `possible` or `unlikely`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Likely => "likely",
            Verdict::Possible => "possible",
            Verdict::Unlikely => "unlikely",
        }
    }
}

/// The verdict on each operation. An operation in the block of one that does not run on the Neural Engine does not either.
pub(crate) fn verdicts(graph: &Graph<'_>, findings: &[Finding]) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::Likely; graph.ops.len()];
    for finding in findings {
        let rule = rule(finding.rule).expect("findings come from rules");
        let verdict = match (rule.effect, rule.confidence) {
            (Effect::Off, Confidence::A | Confidence::B) => Verdict::Unlikely,
            (Effect::Off, Confidence::C) | (Effect::Doubtful, _) => Verdict::Possible,
            (Effect::Numbers | Effect::Slow | Effect::Note, _) => continue,
        };
        if let Some(place) = finding.op {
            verdicts[place] = verdicts[place].max(verdict);
        }
    }
    for place in 0..verdicts.len() {
        if let Some(owner) = graph.ops[place].inside {
            verdicts[place] = verdicts[place].max(verdicts[owner]);
        }
    }
    verdicts
}

/// The operations in an order that changes units seldom: one goes on with what is ready for the unit before it changes.
/// Those in blocks run with the operation that has the blocks.
pub(crate) fn segments(graph: &Graph<'_>, verdicts: &[Verdict]) -> Vec<Segment> {
    let from = |first| schedule(graph, verdicts, first);
    let (ane, other) = (from(Unit::Ane), from(Unit::Other));
    if ane.len() <= other.len() { ane } else { other }
}

fn schedule(graph: &Graph<'_>, verdicts: &[Verdict], first: Unit) -> Vec<Segment> {
    let unit = |place: usize| match verdicts[place] {
        Verdict::Likely | Verdict::Possible => Unit::Ane,
        Verdict::Unlikely => Unit::Other,
    };
    // The operation outside of all blocks that runs this one.
    let mut outermost: Vec<usize> = (0..graph.ops.len()).collect();
    for place in 0..graph.ops.len() {
        if let Some(owner) = graph.ops[place].inside {
            outermost[place] = outermost[owner];
        }
    }
    let mut waits = vec![0usize; graph.ops.len()];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); graph.ops.len()];
    for (place, op) in graph.ops.iter().enumerate() {
        let makers = graph.operands(op).filter_map(|value| value.maker).map(|maker| outermost[maker]);
        for maker in makers.filter(|&maker| maker != outermost[place]) {
            next[maker].push(outermost[place]);
            waits[outermost[place]] += 1;
        }
    }
    let mut ready: [VecDeque<usize>; 2] = Default::default();
    let queue = |place: usize| usize::from(unit(place) == Unit::Other);
    for place in (0..graph.ops.len()).filter(|&place| outermost[place] == place && waits[place] == 0) {
        ready[queue(place)].push_back(place);
    }
    let mut now = usize::from(first == Unit::Other);
    let mut segments: Vec<Segment> = Vec::new();
    while ready.iter().any(|queue| !queue.is_empty()) {
        let mut ops = Vec::new();
        while let Some(place) = ready[now].pop_front() {
            ops.push(place);
            for &reader in &next[place] {
                waits[reader] -= 1;
                if waits[reader] == 0 {
                    ready[queue(reader)].push_back(reader);
                }
            }
        }
        if !ops.is_empty() {
            segments.push(Segment { unit: if now == 0 { Unit::Ane } else { Unit::Other }, ops });
        }
        now = 1 - now;
    }
    segments
}
