//! Reductions.

use super::{Inferred, Operands, Operator, elements, one};
use crate::{
    Element,
    plan::{
        fact::{Fact, as_element},
        reader::axis,
    },
};

pub(super) const OPS: &[Operator] = &[
    each("ArgMax", arg),
    each("ArgMin", arg),
    each("ReduceL1", reduce),
    each("ReduceL2", reduce).flops(|op, _| elements(op.input(0)).saturating_mul(2)),
    each("ReduceLogSum", reduce),
    each("ReduceLogSumExp", reduce).flops(|op, _| elements(op.input(0)).saturating_mul(3)),
    each("ReduceMax", |op| folded(op, f64::max)),
    each("ReduceMean", reduce),
    each("ReduceMin", |op| folded(op, f64::min)),
    each("ReduceProd", |op| folded(op, |x, y| x * y)),
    each("ReduceSum", |op| folded(op, |x, y| x + y)),
    each("ReduceSumSquare", reduce).flops(|op, _| elements(op.input(0)).saturating_mul(2)),
];

/// One operation for each element that is reduced.
const fn each(onnx: &'static str, infer: fn(&Operands<'_>) -> Inferred) -> Operator {
    Operator::new(onnx, infer).flops(|op, _| elements(op.input(0)))
}

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
