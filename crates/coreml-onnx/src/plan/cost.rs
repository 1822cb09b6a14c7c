//! What each operation of a model computes and moves: counted on the lowered graph, told by the names of the model.

use std::collections::{HashMap, HashSet};

use super::{
    fact::{Certainty, Fact, count},
    infer::{Inference, graphs},
    ops::{self, Place},
    reader::Operands,
};
use crate::onnx::{
    OnnxModel,
    pb::{GraphProto, NodeProto},
};

/// What one operation or layer of a model takes in a run, those in its blocks included.
///
/// Numbers of elements, and not of bytes: how many bytes an element has is the engine's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpCost {
    /// Its name in the model.
    pub op: String,
    /// Floating-point operations: a multiplication and an addition are two, any function of one number is one, and
    /// what only moves numbers is none. Saturates.
    pub flops: u64,
    /// Elements of activations that it reads, each value once.
    pub read: usize,
    /// Elements of weights that it reads.
    pub weights: usize,
    /// Elements of the values that it leaves to others. A change of shape leaves none.
    pub written: usize,
    /// Whether all sizes are those at run time; otherwise these are bounds, or guesses.
    pub certainty: Certainty,
}

impl OnnxModel {
    /// What each operation computes and moves in a run with inputs of these shapes, as for [`OnnxModel::memory_plan`],
    /// in the order of the graph. What is computed of weights alone is computed when the model is loaded, and is not
    /// in here. The body of a loop counts as often as it runs at most, or once where nobody knows; of two branches
    /// the dearer counts.
    ///
    /// Cost: linear in the number of nodes.
    pub fn costs(&self, inputs: &[Vec<usize>]) -> Vec<OpCost> {
        let inference = Inference::of(self, inputs);
        let counting = Counting { model: self, inference: &inference };
        counting.graph(&self.graph, None)
    }
}

struct Counting<'a> {
    model: &'a OnnxModel,
    inference: &'a Inference<'a>,
}

impl<'a> Counting<'a> {
    /// The operations of a graph; those of a nested one belong to `owner`.
    fn graph(&self, graph: &'a GraphProto, owner: Option<&'a str>) -> Vec<OpCost> {
        let mut costs: Vec<OpCost> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut nodes: Vec<Vec<&NodeProto>> = Vec::new();
        for node in graph.node.iter().filter(|node| !self.is_constant(node)) {
            let op = owner.unwrap_or_else(|| self.model.origin(&node.name));
            let place = *places.entry(op).or_insert_with(|| {
                let (op, certainty) = (op.to_owned(), Certainty::Exact);
                costs.push(OpCost { op, flops: 0, read: 0, weights: 0, written: 0, certainty });
                nodes.push(Vec::new());
                costs.len() - 1
            });
            nodes[place].push(node);
            let (flops, certainty) = self.flops(node);
            costs[place].flops = costs[place].flops.saturating_add(flops);
            costs[place].certainty = costs[place].certainty.max(certainty);
        }
        if owner.is_none() {
            let kept = self.kept(graph);
            costs.iter_mut().zip(&nodes).for_each(|(cost, nodes)| self.moved(nodes, &kept, cost));
        }
        costs
    }

    fn fact(&self, name: &str) -> Option<&'a Fact> {
        self.inference.id(name).map(|id| self.inference.fact(id))
    }

    fn is_constant(&self, node: &NodeProto) -> bool {
        let mut results = node.output.iter().filter_map(|name| self.fact(name));
        results.next().is_some_and(|first| first.constant) && results.all(|fact| fact.constant)
    }

    fn flops(&self, node: &'a NodeProto) -> (u64, Certainty) {
        let results: Vec<Fact> = node.output.iter().filter_map(|name| self.fact(name)).cloned().collect();
        let certainty = results.iter().map(|fact| fact.certainty).max().unwrap_or(Certainty::Exact);
        let inner: Vec<(u64, Certainty)> = graphs(node).map(|graph| self.nested(graph, node)).collect();
        match node.op_type.as_str() {
            "If" => {
                let dearest = inner.iter().map(|one| one.0).max().unwrap_or(0);
                (dearest, certainty.max(if inner.is_empty() { certainty } else { Certainty::AtMost }))
            }
            "Loop" => {
                let (once, sure) = inner.first().copied().unwrap_or((0, Certainty::Exact));
                // A loop that a condition ends has the largest number for its trips.
                let trips = node.input.first().and_then(|name| self.fact(name)).and_then(|fact| fact.numbers.as_ref());
                match trips.and_then(|trips| trips.first()) {
                    Some(&trips) if (0.0..1e9).contains(&trips) => {
                        (once.saturating_mul(trips as u64), certainty.max(sure).max(Certainty::AtMost))
                    }
                    _ => (once, Certainty::Unknown),
                }
            }
            name => {
                let operands = Operands::new(node, |name| self.fact(name));
                (ops::find(name).map_or(0, |operator| (operator.flops)(&operands, &results)), certainty)
            }
        }
    }

    fn nested(&self, graph: &'a GraphProto, owner: &'a NodeProto) -> (u64, Certainty) {
        let costs = self.graph(graph, Some(&owner.name));
        let flops = costs.iter().fold(0u64, |sum, cost| sum.saturating_add(cost.flops));
        (flops, costs.iter().map(|cost| cost.certainty).max().unwrap_or(Certainty::Exact))
    }

    /// Of every value its operation, where another operation reads it or it leaves the graph.
    fn kept(&self, graph: &'a GraphProto) -> HashSet<&'a str> {
        let mut made = HashMap::new();
        for node in &graph.node {
            made.extend(node.output.iter().map(|name| (name.as_str(), self.model.origin(&node.name))));
        }
        let mut kept: HashSet<&str> = graph.output.iter().map(|info| info.name.as_str()).collect();
        for node in &graph.node {
            let op = self.model.origin(&node.name);
            let read = reads(node).into_iter();
            kept.extend(read.filter(|name| made.get(name).is_some_and(|maker| *maker != op)));
        }
        kept
    }

    /// Adds what an operation reads from others and leaves to them. A change of shape is the value that it shows.
    fn moved(&self, nodes: &[&'a NodeProto], kept: &HashSet<&str>, cost: &mut OpCost) {
        let is_view = |node: &NodeProto| ops::find(&node.op_type).is_some_and(|o| o.place == Place::View);
        let mut shown: HashMap<&str, &str> = HashMap::new();
        let mut own: HashSet<&str> = HashSet::new();
        for node in nodes {
            match (node.input.first(), node.output.first()) {
                (Some(x), Some(y)) if is_view(node) => {
                    shown.insert(y, shown.get(x.as_str()).copied().unwrap_or(x));
                }
                _ => own.extend(node.output.iter().map(String::as_str)),
            }
        }
        let source = |name: &'a str| shown.get(name).copied().unwrap_or(name);
        let size = |name: &str| self.fact(name).and_then(|fact| fact.shape.as_deref()).map_or(0, count);
        let mut seen = HashSet::new();
        let computing = nodes.iter().filter(|node| !is_view(node));
        for name in computing.flat_map(|node| reads(node)).map(source).filter(|name| !own.contains(name)) {
            if seen.insert(name) {
                let constant = self.fact(name).is_some_and(|fact| fact.constant);
                let sum = if constant { &mut cost.weights } else { &mut cost.read };
                *sum = sum.saturating_add(size(name));
            }
        }
        for name in nodes.iter().flat_map(|node| &node.output).filter(|name| kept.contains(name.as_str())) {
            if own.contains(source(name)) {
                cost.written = cost.written.saturating_add(size(name));
            }
        }
    }
}

/// What a node reads, its nested graphs included.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in graphs(node) {
        let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let inner = graph.node.iter().flat_map(reads);
        names.extend(inner.filter(|name| !made.contains(name)));
    }
    names
}
