//! What runs, one kernel after the other: what it reads, what it writes, and where its result may go.
//!
//! Four fusions are made, which many nets have at their largest tensors. Without them ResNet-50 would be planned at
//! 2.2 times what it takes.

use std::collections::{HashMap, HashSet};

use super::{
    fact::Fact,
    infer::{Inference, graphs},
    ops::{self, Place},
};
use crate::onnx::pb::{GraphProto, NodeProto};

/// One kernel, and the values that it works on. Weights are left out.
pub(super) struct Step<'a> {
    pub(super) node: &'a NodeProto,
    /// What it reads, once for each time; nested graphs included.
    pub(super) reads: Vec<usize>,
    pub(super) writes: Vec<usize>,
    /// Where the first result goes.
    pub(super) target: Target,
    /// Bytes that the kernel takes beside its results.
    pub(super) workspace: usize,
}

/// Where the first result of a step goes.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Fresh,
    /// Onto this value, where that is not read later.
    Over(usize),
    /// It is this value, seen in another shape.
    View(usize),
}

/// The steps of a graph, in the order in which they run.
pub(super) fn of<'a>(graph: &'a GraphProto, values: &Inference<'a>, outputs: &HashSet<usize>) -> Vec<Step<'a>> {
    let steps = graph.node.iter().filter_map(|node| step(node, values)).map(Some).collect();
    depth_first(fused(steps, values, outputs))
}

/// `None` where the results are weights.
fn step<'a>(node: &'a NodeProto, values: &Inference<'a>) -> Option<Step<'a>> {
    let active = |name: &String| values.id(name).filter(|&id| !values.fact(id).constant);
    let writes: Vec<usize> = node.output.iter().filter_map(active).collect();
    if writes.is_empty() {
        return None;
    }
    let mut names = node.input.iter().collect();
    graphs(node).for_each(|graph| read_inside(graph, &mut names));
    let place = ops::find(&node.op_type).map_or(Place::Fresh, |operator| operator.place);
    let target = match (place, node.input.first().and_then(active)) {
        (Place::Fresh, _) | (_, None) => Target::Fresh,
        (Place::Over, Some(x)) => Target::Over(x),
        (Place::View, Some(x)) => Target::View(x),
    };
    let workspace = values.workspace(writes[0]);
    Some(Step { node, reads: names.into_iter().filter_map(active).collect(), writes, target, workspace })
}

fn read_inside<'a>(graph: &'a GraphProto, names: &mut Vec<&'a String>) {
    for node in &graph.node {
        names.extend(&node.input);
        graphs(node).for_each(|inner| read_inside(inner, names));
    }
    names.extend(graph.output.iter().map(|info| &info.name));
}

/// A step that becomes part of a later one.
struct Fusion {
    /// The step that is absorbed.
    part: usize,
    /// Where the result of both goes.
    target: Target,
}

/// A step, and what its fusions have to know of the steps before it.
struct Site<'s, 'a> {
    steps: &'s [Option<Step<'a>>],
    at: &'s Step<'a>,
    values: &'s Inference<'a>,
    outputs: &'s HashSet<usize>,
    makers: &'s HashMap<usize, usize>,
    reads: &'s HashMap<usize, usize>,
}

/// Looks for a fusion that ends at a site with these two operands, given in both orders.
type Find = fn(&Site<'_, '_>, usize, usize) -> Option<Fusion>;

/// What is fused, by the operator that ends it.
const FUSIONS: &[(&str, Find)] = &[("Add", bias), ("Add", sum), ("Mul", gate), ("Mul", hard_swish)];

fn fused<'a>(mut steps: Vec<Option<Step<'a>>>, values: &Inference<'a>, outputs: &HashSet<usize>) -> Vec<Step<'a>> {
    let (mut makers, mut reads) = (HashMap::new(), HashMap::new());
    for (i, step) in steps.iter().enumerate() {
        let step = step.as_ref().expect("nothing is fused yet");
        makers.extend(step.writes.iter().map(|&value| (value, i)));
        step.reads.iter().for_each(|&value| *reads.entry(value).or_insert(0) += 1);
    }
    for i in 0..steps.len() {
        let Some(at) = &steps[i] else { continue };
        let site = Site { steps: &steps, at, values, outputs, makers: &makers, reads: &reads };
        let Some(Fusion { part, target }) = site.fusion() else { continue };
        let part = steps[part].take().expect("a fusion's part is a step");
        let whole = steps[i].as_mut().expect("it was looked at");
        whole.reads.retain(|value| !part.writes.contains(value));
        whole.reads.extend(part.reads);
        whole.target = target;
        whole.workspace = whole.workspace.max(part.workspace);
    }
    steps.into_iter().flatten().collect()
}

impl<'a> Site<'_, 'a> {
    fn fusion(&self) -> Option<Fusion> {
        let names = &self.at.node.input;
        let [x, y] = &names[..] else { return None };
        let (x, y) = (self.values.id(x)?, self.values.id(y)?);
        let ends = FUSIONS.iter().filter(|(op_type, _)| *op_type == self.at.node.op_type);
        ends.into_iter().find_map(|(_, find)| find(self, x, y).or_else(|| find(self, y, x)))
    }

    /// The step that makes a value which this step alone reads.
    fn own(&self, value: usize, op_type: &str) -> Option<(usize, &Step<'a>)> {
        if self.outputs.contains(&value) || self.reads.get(&value) != Some(&1) {
            return None;
        }
        self.maker(value).filter(|(_, step)| step.node.op_type == op_type)
    }

    fn maker(&self, value: usize) -> Option<(usize, &Step<'a>)> {
        let at = *self.makers.get(&value)?;
        Some((at, self.steps[at].as_ref()?))
    }

    fn fact(&self, value: usize) -> &Fact {
        self.values.fact(value)
    }

    fn rank(&self, value: usize) -> Option<usize> {
        Some(self.fact(value).shape.as_ref()?.len())
    }
}

/// A product with a matrix of weights, and a bias of weights: one kernel, the product never stands alone.
fn bias(site: &Site<'_, '_>, product: usize, bias: usize) -> Option<Fusion> {
    let (part, step) = site.own(product, "MatMul")?;
    let matrix = site.values.id(step.node.input.get(1)?)?;
    let weights = site.fact(matrix).constant && site.rank(matrix)? == 2;
    (weights && site.fact(bias).constant && site.rank(bias)? <= 1).then_some(Fusion { part, target: Target::Fresh })
}

/// A convolution of an image, and a sum with what was there before: the convolution adds onto that.
fn sum(site: &Site<'_, '_>, convolved: usize, other: usize) -> Option<Fusion> {
    let (part, _) = site.own(convolved, "Conv")?;
    let same = site.fact(convolved).shape == site.fact(other).shape && site.rank(other)? == 4;
    let before = site.makers.get(&other).is_none_or(|&maker| maker < part);
    (same && before && !site.fact(other).constant).then_some(Fusion { part, target: Target::Over(other) })
}

/// `x * sigmoid(x)`: one kernel, which does not overwrite `x`.
fn gate(site: &Site<'_, '_>, x: usize, gate: usize) -> Option<Fusion> {
    let (part, step) = site.own(gate, "Sigmoid")?;
    (step.reads == [x]).then_some(Fusion { part, target: Target::Fresh })
}

/// `x * hard_sigmoid(x)` with the slope and offset of HardSwish, after a convolution of an image: part of that.
fn hard_swish(site: &Site<'_, '_>, x: usize, gate: usize) -> Option<Fusion> {
    let (part, step) = site.own(gate, "HardSigmoid")?;
    let parameter = |name: &str| step.node.attribute.iter().find(|a| a.name == name).and_then(|a| a.f);
    let near = |value: Option<f32>, wanted: f32| value.is_some_and(|v| (v - wanted).abs() < 1e-3);
    let of_conv = site.maker(x).is_some_and(|(_, step)| step.node.op_type == "Conv") && site.rank(x)? == 4;
    let is_swish = step.reads == [x] && near(parameter("alpha"), 1.0 / 6.0) && near(parameter("beta"), 0.5);
    (of_conv && is_swish).then_some(Fusion { part, target: Target::Over(x) })
}

/// ONNX Runtime's order: depth first from the steps that nobody waits for, the last of them first, and of those that a
/// step waits for the last first.
fn depth_first(steps: Vec<Step<'_>>) -> Vec<Step<'_>> {
    let makers: HashMap<usize, usize> =
        steps.iter().enumerate().flat_map(|(i, step)| step.writes.iter().map(move |&value| (value, i))).collect();
    let before: Vec<Vec<usize>> = steps.iter().map(|step| makers_of(step, &makers)).collect();
    let mut awaited = vec![false; steps.len()];
    before.iter().flatten().for_each(|&maker| awaited[maker] = true);
    let mut stack: Vec<(usize, bool)> = (0..steps.len()).filter(|&i| !awaited[i]).map(|i| (i, false)).collect();
    let (mut seen, mut order) = (vec![false; steps.len()], Vec::with_capacity(steps.len()));
    while let Some((i, ready)) = stack.pop() {
        if ready {
            order.push(i);
        } else if !std::mem::replace(&mut seen[i], true) {
            stack.push((i, true));
            stack.extend(before[i].iter().filter(|&&maker| !seen[maker]).map(|&maker| (maker, false)));
        }
    }
    let mut steps: Vec<Option<Step<'_>>> = steps.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| steps[i].take()).collect()
}

/// The steps that one waits for, sorted.
fn makers_of(step: &Step<'_>, makers: &HashMap<usize, usize>) -> Vec<usize> {
    let mut before: Vec<usize> = step.reads.iter().filter_map(|value| makers.get(value).copied()).collect();
    before.sort_unstable();
    before.dedup();
    before
}
