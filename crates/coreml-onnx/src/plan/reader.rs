//! What a rule reads of a node: facts about its operands, and its attributes.

use super::fact::{Certainty, Fact};
use crate::onnx::{
    Element,
    pb::{AttributeProto, NodeProto, TensorProto},
};

/// A node whose operands are known.
pub(super) struct Operands<'a> {
    node: &'a NodeProto,
    inputs: Vec<Option<&'a Fact>>,
}

impl<'a> Operands<'a> {
    /// `fact` gives what is known of a value by its name.
    pub(super) fn new(node: &'a NodeProto, fact: impl Fn(&str) -> Option<&'a Fact>) -> Operands<'a> {
        let inputs = node.input.iter().map(|name| fact(name)).collect();
        Operands { node, inputs }
    }

    /// An operand; `None` where it is left out.
    pub(super) fn input(&self, index: usize) -> Option<&'a Fact> {
        self.inputs.get(index).copied().flatten()
    }

    /// Every operand that is there.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &'a Fact> {
        self.inputs.iter().flatten().copied()
    }

    pub(super) fn element(&self, index: usize) -> Option<Element> {
        Some(self.input(index)?.element)
    }

    pub(super) fn shape(&self, index: usize) -> Option<&'a [usize]> {
        self.input(index)?.shape.as_deref()
    }

    pub(super) fn numbers(&self, index: usize) -> Option<&'a [f64]> {
        self.input(index)?.numbers.as_deref()
    }

    /// The numbers of an operand that lists integers.
    pub(super) fn list(&self, index: usize) -> Option<Vec<i64>> {
        Some(self.numbers(index)?.iter().map(|&v| v as i64).collect())
    }

    /// How sure the numbers of an operand are.
    pub(super) fn certainty(&self, index: usize) -> Certainty {
        self.input(index).map_or(Certainty::Exact, |fact| fact.certainty)
    }

    /// How many results the node has.
    pub(super) fn results(&self) -> usize {
        self.node.output.len()
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    /// A list of integers; empty where there is none.
    pub(super) fn ints(&self, name: &str) -> &'a [i64] {
        self.attribute(name).map_or(&[], |a| &a.ints)
    }

    pub(super) fn string(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.attribute(name)?.s.as_deref()?).ok()
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// An axis of a value of this rank, from an attribute that may count from the end.
    pub(super) fn axis(&self, name: &str, default: i64, rank: usize) -> Option<usize> {
        axis(self.int(name).unwrap_or(default), rank)
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }
}

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let from_start = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(from_start).ok().filter(|&axis| axis < rank)
}
