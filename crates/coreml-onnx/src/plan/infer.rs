//! Infers sizes, node by node, from the graph's inputs on. Nested graphs are looked at once, whatever runs them.

use std::collections::HashMap;

use super::{
    fact::{Certainty, Fact},
    ops::{self, Operator},
    reader::Operands,
};
use crate::onnx::{
    Element, OnnxModel, Port,
    pb::{GraphProto, NodeProto},
};

/// What is known of every value of a model, nested graphs included. Names are unique in the whole model.
pub(super) struct Inference<'a> {
    declared: &'a HashMap<String, Vec<Option<usize>>>,
    ids: HashMap<&'a str, usize>,
    names: Vec<&'a str>,
    facts: Vec<Fact>,
    /// What each kernel takes beside its results, by the first of these.
    workspaces: HashMap<usize, usize>,
}

impl<'a> Inference<'a> {
    /// `shapes` are those of the graph's inputs, in order. A missing one is taken from the port.
    ///
    /// Cost: linear in the number of nodes.
    pub(super) fn of(model: &'a OnnxModel, shapes: &[Vec<usize>]) -> Inference<'a> {
        let mut inference = Inference {
            declared: &model.declared,
            ids: HashMap::new(),
            names: Vec::new(),
            facts: Vec::new(),
            workspaces: HashMap::new(),
        };
        for weight in &model.weights {
            inference.define(weight.name(), Fact::new(weight.element(), weight.shape()).constant());
        }
        for (i, port) in model.inputs.iter().enumerate() {
            inference.define(&port.name, input(port, shapes.get(i)));
        }
        inference.graph(&model.graph);
        inference
    }

    pub(super) fn id(&self, name: &str) -> Option<usize> {
        self.ids.get(name).copied()
    }

    pub(super) fn name(&self, id: usize) -> &'a str {
        self.names[id]
    }

    pub(super) fn fact(&self, id: usize) -> &Fact {
        &self.facts[id]
    }

    /// Every value, in the order of definition.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, &Fact)> {
        self.names.iter().copied().zip(&self.facts)
    }

    /// What the kernel with this first result takes beside its results, in bytes.
    pub(super) fn workspace(&self, result: usize) -> usize {
        self.workspaces.get(&result).copied().unwrap_or(0)
    }

    fn named(&self, name: &str) -> Option<&Fact> {
        self.facts.get(self.id(name)?)
    }

    fn define(&mut self, name: &'a str, fact: Fact) -> usize {
        let id = *self.ids.entry(name).or_insert(self.names.len());
        if id == self.names.len() {
            self.names.push(name);
            self.facts.push(fact);
        } else {
            self.facts[id] = fact;
        }
        id
    }

    /// Defines what a node gives.
    fn result(&mut self, name: &'a str, fact: Fact) -> usize {
        let fact = match self.declared.get(name) {
            Some(dims) => fact.within(dims),
            None => fact,
        };
        self.define(name, fact.bounded())
    }

    fn graph(&mut self, graph: &'a GraphProto) {
        for tensor in &graph.initializer {
            self.define(&tensor.name, Fact::of_initializer(tensor));
        }
        for node in &graph.node {
            match node.op_type.as_str() {
                "If" => self.branches(node),
                "Loop" => self.repeated(node),
                name => self.operator(node, ops::find(name)),
            }
        }
    }

    fn operator(&mut self, node: &'a NodeProto, operator: Option<&Operator>) {
        let operands = Operands::new(node, |name| self.named(name));
        let inferred = operator.and_then(|operator| (operator.infer)(&operands)).unwrap_or_default();
        let certainty = operands.inputs().map(|fact| fact.certainty).max().unwrap_or(Certainty::Exact);
        // Engines compute what depends on weights alone when they load the model.
        let constant = operands.inputs().all(|fact| fact.constant);
        let element = operands.element(0).unwrap_or(Element::F32);
        let bytes = operator.map_or(0, |operator| (operator.workspace)(&operands, &inferred));
        let mut facts = inferred.into_iter();
        for (i, name) in node.output.iter().enumerate() {
            let fact = facts.next().map_or(Fact::unknown(element), |fact| fact.at_best(certainty));
            let id = self.result(name, Fact { constant, ..fact });
            if i == 0 && bytes > 0 && !constant {
                self.workspaces.insert(id, bytes);
            }
        }
    }

    /// An If: a result is as large as the larger branch's.
    fn branches(&mut self, node: &'a NodeProto) {
        let graphs: Vec<&GraphProto> = graphs(node).collect();
        graphs.iter().for_each(|graph| self.graph(graph));
        for (i, name) in node.output.iter().enumerate() {
            let given = |graph: &&GraphProto| self.named(&graph.output.get(i)?.name).cloned();
            let mut given = graphs.iter().map(|graph| given(graph).unwrap_or(Fact::unknown(Element::F32)));
            let first = given.next().unwrap_or(Fact::unknown(Element::F32));
            let fact = given.fold(first, |x, y| x.larger(&y, Certainty::AtMost));
            self.result(name, Fact { constant: false, numbers: None, ..fact });
        }
    }

    /// A Loop: its variables keep their sizes, or nobody knows how large they become.
    fn repeated(&mut self, node: &'a NodeProto) {
        let Some(body) = graphs(node).next() else { return };
        for (i, info) in body.input.iter().enumerate() {
            let element = Fact::declared_element(info).unwrap_or(Element::F32);
            let fact = match (i, node.input.get(i).and_then(|name| self.named(name))) {
                // The trip count and the condition.
                (0 | 1, _) => Fact::new(element, Vec::new()),
                (_, Some(start)) => Fact { constant: false, numbers: None, ..start.clone() },
                (_, None) => Fact::unknown(element),
            };
            self.define(&info.name, fact);
        }
        self.graph(body);
        let steps = node.input.first().and_then(|name| self.named(name)).and_then(|fact| fact.numbers.clone());
        let steps = steps.and_then(|steps| steps.first().map(|&steps| steps.max(0.0) as usize));
        for (i, name) in node.output.iter().enumerate() {
            // The body takes two values before the variables and gives one.
            let start = body.input.get(i + 2).and_then(|info| self.named(&info.name));
            let next = body.output.get(i + 1).and_then(|info| self.named(&info.name));
            let fact = match (start, next) {
                (Some(start), Some(next)) => start.larger(next, Certainty::Unknown),
                (None, Some(next)) => stacked(next, steps),
                _ => Fact::unknown(Element::F32),
            };
            self.result(name, fact);
        }
    }
}

/// What a Loop collects: one of these each step, and at most as many as it may have steps.
fn stacked(one: &Fact, steps: Option<usize>) -> Fact {
    match (&one.shape, steps) {
        (Some(shape), Some(steps)) => {
            Fact::new(one.element, [&[steps], &shape[..]].concat()).at_best(one.certainty.max(Certainty::AtMost))
        }
        _ => Fact::unknown(one.element),
    }
}

fn input(port: &Port, shape: Option<&Vec<usize>>) -> Fact {
    let declared = || port.dims.iter().copied().collect::<Option<Vec<usize>>>();
    match shape.cloned().or_else(declared) {
        Some(shape) => Fact::new(port.element, shape).bounded(),
        None => Fact::unknown(port.element),
    }
}

/// The nested graphs of a node.
pub(super) fn graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().filter_map(|attribute| attribute.g.as_ref())
}
