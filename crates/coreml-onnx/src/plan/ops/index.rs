//! Picking and placing.

use super::{Inferred, Operands, Operator, one};
use crate::{
    Element,
    plan::fact::{Certainty, Fact, count},
};

pub(super) const OPS: &[Operator] = &[
    Operator::new("Gather", gather),
    Operator::new("GatherElements", gather_elements),
    Operator::new("GatherND", gather_nd),
    Operator::new("NonZero", non_zero).workspace(non_zero_workspace),
    Operator::new("OneHot", one_hot),
    Operator::new("ReverseSequence", scattered),
    Operator::new("ScatterElements", scattered).in_place(),
    Operator::new("ScatterND", scattered),
    Operator::new("TopK", top_k),
];

fn gather(op: &Operands<'_>) -> Inferred {
    let (x, indices) = (op.input(0)?, op.input(1)?);
    let (from, picked) = (x.shape.as_deref()?, indices.shape.as_deref()?);
    let axis = op.axis("axis", 0, from.len())?;
    let shape = [&from[..axis], picked, &from[axis + 1..]].concat();
    let numbers = x.numbers.as_ref().zip(indices.numbers.as_ref()).filter(|_| from.len() == 1);
    let at = |all: &[f64], i: f64| {
        let i = if i < 0.0 { i + all.len() as f64 } else { i };
        if i >= 0.0 { all.get(i as usize).copied() } else { None }
    };
    let numbers = numbers.and_then(|(all, picked)| picked.iter().map(|&i| at(all, i)).collect());
    one(Fact::new(x.element, shape).with_numbers(numbers))
}

fn gather_elements(op: &Operands<'_>) -> Inferred {
    one(Fact::new(op.element(0)?, op.shape(1)?.to_vec()))
}

fn gather_nd(op: &Operands<'_>) -> Inferred {
    let (from, [places @ .., depth]) = (op.shape(0)?, op.shape(1)?) else { return None };
    let batch = usize::try_from(op.int("batch_dims").unwrap_or(0)).ok()?;
    let rest = from.get(batch.checked_add(*depth)?..)?;
    one(Fact::new(op.element(0)?, [places, rest].concat()))
}

fn scattered(op: &Operands<'_>) -> Inferred {
    one(Fact::new(op.element(0)?, op.shape(0)?.to_vec()))
}

/// Values and indices; all of them where `k` is known at run time only.
fn top_k(op: &Operands<'_>) -> Inferred {
    let mut shape = op.shape(0)?.to_vec();
    let axis = op.axis("axis", -1, shape.len())?;
    let k = op.list(1).and_then(|k| usize::try_from(*k.first()?).ok());
    let certainty = if k.is_some() { Certainty::Exact } else { Certainty::AtMost };
    shape[axis] = k.unwrap_or(shape[axis]).min(shape[axis]);
    let of = |element| Fact::new(element, shape.clone()).at_best(certainty);
    Some(vec![of(op.element(0)?), of(Element::I64)])
}

fn one_hot(op: &Operands<'_>) -> Inferred {
    let mut shape = op.shape(0)?.to_vec();
    let depth = usize::try_from(*op.list(1)?.first()?).ok()?;
    let axis = op.axis("axis", -1, shape.len() + 1)?;
    shape.insert(axis, depth);
    one(Fact::new(op.element(2)?, shape))
}

/// One column for each element that is not zero: at most all.
fn non_zero(op: &Operands<'_>) -> Inferred {
    let from = op.shape(0)?;
    one(Fact::new(Element::I64, vec![from.len(), count(from)]).at_best(Certainty::AtMost))
}

/// Indices are listed first, and then written out axis by axis.
fn non_zero_workspace(_: &Operands<'_>, results: &[Fact]) -> usize {
    results.first().map_or(0, Fact::bytes)
}
