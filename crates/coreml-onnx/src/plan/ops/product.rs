//! Products of matrices.

use std::collections::BTreeMap;

use super::{Inferred, Operands, Operator, elements, elementwise::broadcast, one};
use crate::plan::fact::Fact;

pub(super) const OPS: &[Operator] = &[
    Operator::new("Einsum", einsum).workspace(einsum_workspace).flops(einsum_flops),
    Operator::new("MatMul", mat_mul).flops(mat_mul_flops),
];

fn mat_mul(op: &Operands<'_>) -> Inferred {
    let (x, y) = (op.shape(0)?, op.shape(1)?);
    // A vector is a row on the left and a column on the right, and leaves no axis behind.
    let (batch_x, rows) = match x {
        [] => return None,
        [_] => (&[][..], None),
        [batch @ .., rows, _] => (batch, Some(*rows)),
    };
    let (batch_y, columns) = match y {
        [] => return None,
        [_] => (&[][..], None),
        [batch @ .., _, columns] => (batch, Some(*columns)),
    };
    let mut shape = broadcast(batch_x, batch_y)?;
    shape.extend(rows);
    shape.extend(columns);
    one(Fact::new(op.element(0)?, shape))
}

/// A product and a sum for each result and each place of the inner axis.
fn mat_mul_flops(op: &Operands<'_>, results: &[Fact]) -> u64 {
    let inner = op.shape(0).and_then(|shape| shape.last().copied()).unwrap_or(0) as u64;
    elements(results.first()).saturating_mul(inner).saturating_mul(2)
}

/// A product and a sum for every place of every letter.
fn einsum_flops(op: &Operands<'_>, _: &[Fact]) -> u64 {
    let Some((operands, _)) = op.string("equation").and_then(|equation| equation.split_once("->")) else { return 0 };
    let terms = operands.split(',').zip(op.inputs());
    let sizes = terms.flat_map(|(term, fact)| term.trim().chars().zip(fact.shape.iter().flatten()));
    let mut largest = BTreeMap::new();
    for (letter, &size) in sizes {
        let known = largest.entry(letter).or_insert(size);
        *known = size.max(*known);
    }
    largest.values().fold(2u64, |all, &size| all.saturating_mul(size as u64))
}

fn einsum(op: &Operands<'_>) -> Inferred {
    let (operands, result) = op.string("equation")?.split_once("->")?;
    let terms: Vec<(&str, &[usize])> = operands
        .split(',')
        .zip(op.inputs())
        .map(|(term, fact)| Some((term.trim(), fact.shape.as_deref()?)))
        .collect::<Option<_>>()?;
    let size = |letter: char| {
        let axis = |(term, shape): &(&str, &[usize])| shape.get(term.chars().position(|c| c == letter)?).copied();
        terms.iter().filter_map(axis).max()
    };
    one(Fact::new(op.element(0)?, result.trim().chars().map(size).collect::<Option<_>>()?))
}

/// ONNX Runtime lays each operand out with an axis for every letter, turns the right one so that the last two axes
/// can be multiplied, and turns the product into the result's order: copies of each, for the equations that lowering
/// writes.
fn einsum_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    let bytes = |index| op.input(index).map_or(0, Fact::bytes);
    let result = results.first().map_or(0, Fact::bytes);
    bytes(0).saturating_add(bytes(1).saturating_mul(2)).saturating_add(result.saturating_mul(2))
}
