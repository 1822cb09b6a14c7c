//! Explains a Core ML model without running it: which operations the Neural Engine takes and why not, how often execution
//! would change units, what a run takes in arithmetic and memory, and how long a chip would need at best.
//!
//! [`explain`] looks at one function with the [`rules`], which are graded and never certain: what Core ML has planned on
//! a Mac overrides them. This crate knows formats and lowered graphs, not engines.

mod chips;
mod estimate;
mod graph;
mod placement;
mod rules;

use coreml_format::Model;
use coreml_onnx::Lowered;

pub use chips::{CHIPS, Chip};
pub use estimate::{Estimate, OpEstimate};
pub use graph::{Dims, Graph, Op, Source, Value, Window, default_shapes};
pub use placement::{Segment, Unit, Verdict};
pub use rules::{Confidence, Effect, Finding, Rule, Target, rule, rules};

/// What is known of one function of a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct Explanation<'a> {
    /// Its operations and values.
    pub graph: Graph<'a>,
    /// The verdict on each operation, by its place in the graph.
    pub verdicts: Vec<Verdict>,
    /// What the rules found, by their numbers.
    pub findings: Vec<Finding>,
    /// The units that execution would go through.
    pub segments: Vec<Segment>,
    /// What a run takes; `None` where the model could not be lowered.
    pub estimate: Option<Estimate>,
}

/// Where the operations of a function would run, with the rules that say so, and the notes on the model: no segments, no
/// estimate, and no look at any weight's elements.
pub fn place<'a>(model: &'a Model, function: Option<&'a str>, target: Target) -> Explanation<'a> {
    let graph = Graph::of(model, function, None);
    let subject = rules::Subject { graph: &graph, target };
    let findings = rules::find(&subject, &[Effect::Off, Effect::Doubtful, Effect::Note]);
    let verdicts = placement::verdicts(&graph, &findings);
    Explanation { graph, verdicts, findings, segments: Vec::new(), estimate: None }
}

/// Explains a function of a model, the default one where `None`. `lowered` is that function's graph, which gives the shapes
/// of a network and the costs of either; without it only what the file says is looked at.
///
/// Cost: linear in the number of operations; of constants those are read that elementwise operations compute with.
///
/// ```no_run
/// use coreml_explain::{Target, Verdict, explain};
///
/// let model = coreml_format::Model::open("net.mlpackage").unwrap();
/// let lowered = coreml_onnx::lower(&model, &Default::default()).ok();
/// let explanation = explain(&model, None, lowered.as_ref(), Target::default());
/// for finding in &explanation.findings {
///     let op = finding.op.map_or("the model", |place| explanation.graph.ops[place].name);
///     println!("{op}: {} [{}]", finding.message, finding.rule);
/// }
/// assert!(!explanation.verdicts.contains(&Verdict::Unlikely));
/// ```
pub fn explain<'a>(
    model: &'a Model,
    function: Option<&'a str>,
    lowered: Option<&Lowered>,
    target: Target,
) -> Explanation<'a> {
    let graph = Graph::of(model, function, lowered);
    let subject = rules::Subject { graph: &graph, target };
    let mut findings = rules::find(&subject, &Effect::ALL);
    let verdicts = placement::verdicts(&graph, &findings);
    let segments = placement::segments(&graph, &verdicts);
    let chip = target.chip.unwrap_or_else(|| Chip::named(chips::DEFAULT).expect("the default chip is listed (tested)"));
    let estimate = lowered.map(|lowered| Estimate::of(&graph, lowered, chip));
    let placed = placement::Placed { verdicts: &verdicts, segments: &segments, estimate: estimate.as_ref() };
    findings.extend(rules::find_placed(&subject, &placed));
    findings.sort_by_key(|finding| (finding.rule, finding.op));
    Explanation { graph, verdicts, findings, segments, estimate }
}
