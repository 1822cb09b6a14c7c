//! What `ane check` tells, as data. Field names are those of the JSON: a promise to scripts, written down in
//! `docs/check.md`.

use std::collections::{BTreeMap, HashMap};

use coreml_explain::{Confidence, Effect, Explanation, Op, OpEstimate, Segment, Unit, Verdict, rule};
use coreml_format::stats;
use coreml_onnx::{Lowered, Role};
use serde::Serialize;

use super::{numerics, plan::PlanReport};

/// Goes up when a field changes its meaning.
const VERSION: u32 = 1;

/// A model, explained.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    pub(super) model: String,
    pub(super) kind: &'static str,
    /// The stage of a pipeline that is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<String>,
    pub(super) function: String,
    pub(super) target: TargetReport,
    pub(super) verdict: VerdictReport,
    pub(super) operations: Vec<OperationReport>,
    pub(super) findings: Vec<FindingReport>,
    /// The rules that found something.
    pub(super) rules: Vec<RuleReport>,
    pub(super) segments: Vec<SegmentReport>,
    pub(super) cost: Option<CostReport>,
    pub(super) weights: Vec<WeightsReport>,
    pub(super) memory: Option<MemoryReport>,
    pub(super) estimate: Option<EstimateReport>,
    pub(super) numerics: Option<numerics::Report>,
    pub(super) plan: Option<PlanReport>,
    /// Why there are no costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_lowered: Option<String>,
}

#[derive(Serialize)]
pub(super) struct TargetReport {
    /// Any chip where there is none.
    pub(super) chip: Option<&'static str>,
    pub(super) ios: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct VerdictReport {
    pub(super) operations: usize,
    pub(super) likely: usize,
    pub(super) possible: usize,
    pub(super) unlikely: usize,
    /// The part of the floating-point operations in likely operations, from 0 to 1.
    pub(super) arithmetic_likely: Option<f64>,
    /// How often execution would enter the Neural Engine.
    pub(super) entries: usize,
    pub(super) segments: usize,
}

#[derive(Serialize)]
pub(super) struct OperationReport {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) verdict: Verdict,
    pub(super) rules: Vec<&'static str>,
    /// The operation in whose block it is.
    pub(super) inside: Option<usize>,
    pub(super) segment: Option<usize>,
    /// The operations whose results it reads.
    pub(super) reads: Vec<usize>,
    pub(super) results: Vec<ResultReport>,
    pub(super) flops: u64,
    pub(super) activation_bytes: u64,
    pub(super) weight_bytes: u64,
    pub(super) microseconds: f64,
    /// Where Core ML plans to run it, by `--plan`.
    pub(super) planned: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ResultReport {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
}

#[derive(Serialize)]
pub(super) struct FindingReport {
    pub(super) rule: &'static str,
    /// The operation's place in `operations`; none for the model as a whole.
    pub(super) operation: Option<usize>,
    pub(super) message: String,
    /// Whether the baseline has it.
    pub(super) known: bool,
}

#[derive(Serialize)]
pub(crate) struct RuleReport {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) effect: Effect,
    pub(crate) confidence: Confidence,
    pub(crate) reason: &'static str,
    pub(crate) advice: &'static str,
    pub(crate) source: &'static str,
    pub(crate) example: &'static str,
}

#[derive(Serialize)]
pub(super) struct SegmentReport {
    pub(super) unit: Unit,
    pub(super) operations: Vec<usize>,
}

#[derive(Serialize)]
pub(super) struct CostReport {
    pub(super) flops: u64,
    pub(super) activation_bytes: u64,
    pub(super) weight_bytes: u64,
    /// Whether all sizes are those at run time; otherwise some are bounds, or guesses.
    pub(super) certain: bool,
}

#[derive(Serialize)]
pub(super) struct WeightsReport {
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) tensors: usize,
    pub(super) elements: usize,
    pub(super) bytes: usize,
}

#[derive(Serialize)]
pub(super) struct MemoryReport {
    /// Activations at the worst moment of a run on a CPU engine, which computes in fp32.
    pub(super) peak_bytes: usize,
    pub(super) at: String,
    pub(super) tensors: Vec<TensorReport>,
    pub(super) input_bytes: usize,
    pub(super) output_bytes: usize,
}

#[derive(Serialize)]
pub(super) struct TensorReport {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: usize,
}

#[derive(Serialize)]
pub(super) struct EstimateReport {
    pub(super) chip: &'static str,
    /// At best, if all of it ran on the Neural Engine.
    pub(super) milliseconds: f64,
    /// What other models' published times make of that.
    pub(super) range: [f64; 2],
    /// The kinds of operations that take most of it.
    pub(super) dominant: Vec<DominantReport>,
}

#[derive(Serialize)]
pub(super) struct DominantReport {
    pub(super) kind: String,
    pub(super) operations: usize,
    pub(super) share: f64,
}

impl Report {
    pub(super) fn of(
        model: String,
        explanation: &Explanation<'_>,
        lowered: Result<&Lowered, String>,
        target: TargetReport,
    ) -> Report {
        let graph = &explanation.graph;
        let operations = operations(explanation);
        let finding = |finding: &coreml_explain::Finding| FindingReport {
            rule: finding.rule,
            operation: finding.op,
            message: finding.message.clone(),
            known: false,
        };
        let mut fired: Vec<&'static str> = explanation.findings.iter().map(|finding| finding.rule).collect();
        fired.sort_unstable();
        fired.dedup();
        Report {
            version: VERSION,
            model,
            kind: graph.model.kind.name(),
            stage: None,
            function: graph.function.to_owned(),
            target,
            verdict: verdict(explanation),
            findings: explanation.findings.iter().map(finding).collect(),
            rules: fired.into_iter().filter_map(rule).map(RuleReport::of).collect(),
            segments: explanation.segments.iter().map(segment).collect(),
            cost: explanation.estimate.as_ref().map(|estimate| CostReport {
                flops: estimate.flops,
                activation_bytes: estimate.ops.iter().map(|op| op.activation_bytes).sum::<f64>() as u64,
                weight_bytes: estimate.weight_bytes as u64,
                certain: estimate.certain,
            }),
            weights: weights(graph.model),
            memory: lowered.as_ref().ok().map(|lowered| memory(lowered)),
            estimate: explanation.estimate.as_ref().map(|estimate| EstimateReport {
                chip: estimate.chip.name,
                milliseconds: estimate.seconds * 1e3,
                range: estimate.range.map(|seconds| seconds * 1e3),
                dominant: dominant(&operations),
            }),
            operations,
            numerics: None,
            plan: None,
            not_lowered: lowered.err(),
        }
    }
}

impl RuleReport {
    pub(crate) fn of(rule: &'static coreml_explain::Rule) -> RuleReport {
        RuleReport {
            id: rule.id,
            name: rule.name,
            title: rule.title,
            effect: rule.effect,
            confidence: rule.confidence,
            reason: rule.reason,
            advice: rule.advice,
            source: rule.source,
            example: rule.example,
        }
    }
}

/// Each operation with what the rules and the estimate say of it.
fn operations(explanation: &Explanation<'_>) -> Vec<OperationReport> {
    let graph = &explanation.graph;
    let segments = segment_of_each(&explanation.segments, graph.ops.len());
    let mut rules: Vec<Vec<&'static str>> = vec![Vec::new(); graph.ops.len()];
    for finding in &explanation.findings {
        if let Some(place) = finding.op {
            rules[place].push(finding.rule);
        }
    }
    let none = OpEstimate::default();
    let one = |(place, (op, rules)): (usize, (&Op<'_>, Vec<&'static str>))| {
        let estimate = explanation.estimate.as_ref().map_or(&none, |estimate| &estimate.ops[place]);
        let mut reads: Vec<usize> = graph.operands(op).filter_map(|value| value.maker).collect();
        reads.sort_unstable();
        reads.dedup();
        OperationReport {
            name: op.name.to_owned(),
            kind: op.kind.to_owned(),
            verdict: explanation.verdicts[place],
            rules,
            inside: op.inside,
            segment: segments[outermost(explanation, place)],
            reads,
            results: graph.results(op).map(result).collect(),
            flops: estimate.flops,
            activation_bytes: estimate.activation_bytes as u64,
            weight_bytes: estimate.weight_bytes as u64,
            microseconds: estimate.seconds * 1e6,
            planned: None,
        }
    };
    graph.ops.iter().zip(rules).enumerate().map(one).collect()
}

fn outermost(explanation: &Explanation<'_>, mut place: usize) -> usize {
    while let Some(owner) = explanation.graph.ops[place].inside {
        place = owner;
    }
    place
}

fn segment_of_each(segments: &[Segment], operations: usize) -> Vec<Option<usize>> {
    let mut of = vec![None; operations];
    for (number, segment) in segments.iter().enumerate() {
        segment.ops.iter().for_each(|&place| of[place] = Some(number));
    }
    of
}

fn segment(segment: &Segment) -> SegmentReport {
    SegmentReport { unit: segment.unit, operations: segment.ops.clone() }
}

fn result(value: &coreml_explain::Value<'_>) -> ResultReport {
    let dims = value.dims.as_ref().map_or("?".to_owned(), |dims| {
        let sizes: Vec<String> = dims.iter().map(|dim| dim.map_or("?".to_owned(), |size| size.to_string())).collect();
        format!("({})", sizes.join(", "))
    });
    let ty = value.dtype.map_or(dims.clone(), |dtype| format!("{dtype} {dims}"));
    ResultReport { name: value.name.to_owned(), ty }
}

fn verdict(explanation: &Explanation<'_>) -> VerdictReport {
    let count = |verdict| explanation.verdicts.iter().filter(|one| **one == verdict).count();
    let likely = |ops: &[OpEstimate]| -> f64 {
        let each = ops.iter().zip(&explanation.verdicts).filter(|(_, verdict)| **verdict == Verdict::Likely);
        each.fold(0.0, |sum, (op, _)| sum + op.flops as f64)
    };
    let share = explanation.estimate.as_ref().filter(|estimate| estimate.flops > 0);
    VerdictReport {
        operations: explanation.verdicts.len(),
        likely: count(Verdict::Likely),
        possible: count(Verdict::Possible),
        unlikely: count(Verdict::Unlikely),
        arithmetic_likely: share.map(|estimate| likely(&estimate.ops) / estimate.flops as f64),
        entries: explanation.segments.iter().filter(|segment| segment.unit == Unit::Ane).count(),
        segments: explanation.segments.len(),
    }
}

fn weights(model: &coreml_format::Model) -> Vec<WeightsReport> {
    let row = |(ty, amount): (String, stats::Amount)| WeightsReport {
        ty,
        tensors: amount.tensors,
        elements: amount.elements,
        bytes: amount.bytes,
    };
    stats::weights(model).into_iter().map(row).collect()
}

fn memory(lowered: &Lowered) -> MemoryReport {
    let plan = lowered.model.memory_plan(&coreml_explain::default_shapes(lowered));
    let tensors = plan.tensors.into_iter().map(|tensor| TensorReport {
        name: tensor.name,
        role: match tensor.role {
            Role::Live => "live",
            Role::Kept => "kept",
            Role::Workspace => "workspace",
        },
        shape: tensor.shape,
        bytes: tensor.bytes,
    });
    MemoryReport {
        peak_bytes: plan.peak_bytes,
        at: lowered.model.origin(&plan.at).to_owned(),
        tensors: tensors.collect(),
        input_bytes: plan.input_bytes,
        output_bytes: plan.output_bytes,
    }
}

/// Kinds of operations by their part of the time, as far as they make 95 % of it.
fn dominant(operations: &[OperationReport]) -> Vec<DominantReport> {
    let all: f64 = operations.iter().map(|op| op.microseconds).sum();
    let mut kinds: HashMap<&str, (usize, f64)> = HashMap::new();
    for op in operations.iter().filter(|op| op.microseconds > 0.0) {
        let kind = kinds.entry(&op.kind).or_default();
        *kind = (kind.0 + 1, kind.1 + op.microseconds);
    }
    let sorted: BTreeMap<&str, (usize, f64)> = kinds.into_iter().collect();
    let mut rows: Vec<(&str, (usize, f64))> = sorted.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut told = 0.0;
    let mut dominant = Vec::new();
    for (kind, (operations, time)) in rows {
        if told > 0.95 * all {
            break;
        }
        told += time;
        dominant.push(DominantReport { kind: kind.to_owned(), operations, share: time / all });
    }
    dominant
}
