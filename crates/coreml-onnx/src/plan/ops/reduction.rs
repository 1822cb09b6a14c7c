//! Reductions.

use super::{Inferred, Operands, Operator, one};
use crate::{
    Element,
    plan::{
        fact::{Fact, as_element},
        reader::axis,
    },
};

pub(super) const OPS: &[Operator] = &[
    Operator::new("ArgMax", arg),
    Operator::new("ArgMin", arg),
    Operator::new("ReduceL1", reduce),
    Operator::new("ReduceL2", reduce),
    Operator::new("ReduceLogSum", reduce),
    Operator::new("ReduceLogSumExp", reduce),
    Operator::new("ReduceMax", |op| folded(op, f64::max)),
    Operator::new("ReduceMean", reduce),
    Operator::new("ReduceMin", |op| folded(op, f64::min)),
    Operator::new("ReduceProd", |op| folded(op, |x, y| x * y)),
    Operator::new("ReduceSum", |op| folded(op, |x, y| x + y)),
    Operator::new("ReduceSumSquare", reduce),
];

fn reduce(op: &Operands<'_>) -> Inferred {
    let from = op.shape(0)?;
    let axes = match op.input(1) {
        None => (0..from.len()).collect(),
        Some(_) => op.list(1)?.iter().map(|&a| axis(a, from.len())).collect::<Option<Vec<_>>>()?,
    };
    one(Fact::new(op.element(0)?, without(from, &axes, op)))
}

/// As [`reduce`], and the number follows where a list becomes one.
fn folded(op: &Operands<'_>, f: fn(f64, f64) -> f64) -> Inferred {
    let result = reduce(op)?.pop()?;
    let whole = op.shape(0)?.len() == 1 && super::super::fact::count(result.shape.as_deref()?) == 1;
    let all = op.numbers(0).filter(|_| whole);
    let number = all.and_then(|all| as_element(result.element, all.iter().copied().reduce(f)?));
    one(result.with_numbers(number.map(|number| vec![number])))
}

fn arg(op: &Operands<'_>) -> Inferred {
    let from = op.shape(0)?;
    let axis = op.axis("axis", 0, from.len())?;
    one(Fact::new(Element::I64, without(from, &[axis], op)))
}

/// The shape without these axes, or with size 1 there.
fn without(from: &[usize], axes: &[usize], op: &Operands<'_>) -> Vec<usize> {
    let keep = op.int("keepdims").unwrap_or(1) != 0;
    let size = |(axis, &d): (usize, &usize)| match axes.contains(&axis) {
        false => Some(d),
        true => keep.then_some(1),
    };
    from.iter().enumerate().filter_map(size).collect()
}
