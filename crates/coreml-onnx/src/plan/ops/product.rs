//! Products of matrices.

use super::{Inferred, Operands, Operator, elementwise::broadcast, one};
use crate::plan::fact::Fact;

pub(super) const OPS: &[Operator] =
    &[Operator::new("Einsum", einsum).workspace(einsum_workspace), Operator::new("MatMul", mat_mul)];

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
