//! Shapes and layout.

use super::{Inferred, Operands, Operator, elementwise::broadcast, one};
use crate::{
    Element,
    plan::{
        fact::{Certainty, Fact, MAX_NUMBERS, as_element, count, numbers_in},
        reader::axis,
    },
};

pub(super) const OPS: &[Operator] = &[
    Operator::new("Concat", concat),
    Operator::new("ConstantOfShape", constant_of_shape),
    Operator::new("DepthToSpace", depth_to_space),
    Operator::new("Expand", expand),
    Operator::new("Identity", identity).view(),
    Operator::new("Pad", pad),
    Operator::new("RandomUniform", random_uniform),
    Operator::new("Range", range),
    Operator::new("Reshape", reshape).view(),
    Operator::new("Shape", shape),
    Operator::new("Slice", slice),
    Operator::new("SpaceToDepth", space_to_depth),
    Operator::new("Split", split),
    Operator::new("Squeeze", squeeze).view(),
    Operator::new("Tile", tile),
    Operator::new("Transpose", transpose),
    Operator::new("Unsqueeze", unsqueeze).view(),
];

fn identity(op: &Operands<'_>) -> Inferred {
    Some(vec![Fact { constant: false, ..op.input(0)?.clone() }])
}

fn shape(op: &Operands<'_>) -> Inferred {
    let dims = op.shape(0)?;
    let numbers = dims.iter().map(|&d| d as f64).collect();
    one(Fact::new(Element::I64, vec![dims.len()]).with_numbers(Some(numbers)))
}

/// The same elements in another shape.
fn reshaped(x: &Fact, shape: Vec<usize>) -> Inferred {
    one(Fact::new(x.element, shape).with_numbers(x.numbers.clone()))
}

fn reshape(op: &Operands<'_>) -> Inferred {
    let (x, target) = (op.input(0)?, op.list(1)?);
    let from = x.shape.as_deref()?;
    let zero_is_zero = op.int("allowzero").unwrap_or(0) != 0;
    let mut open = None;
    let mut shape = Vec::with_capacity(target.len());
    for (axis, &size) in target.iter().enumerate() {
        shape.push(match size {
            0 if !zero_is_zero => *from.get(axis)?,
            -1 => {
                open = Some(axis);
                1
            }
            size => usize::try_from(size).ok()?,
        });
    }
    if let Some(axis) = open {
        shape[axis] = count(from).checked_div(count(&shape))?;
    }
    // A shape that was computed from bounds may ask for another number of elements; the elements stay as many.
    if count(&shape) == count(from) { reshaped(x, shape) } else { None }
}

fn squeeze(op: &Operands<'_>) -> Inferred {
    let x = op.input(0)?;
    let from = x.shape.as_deref()?;
    let axes = axes_of(&op.list(1)?, from.len())?;
    let kept = from.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &d)| d);
    reshaped(x, kept.collect())
}

fn unsqueeze(op: &Operands<'_>) -> Inferred {
    let x = op.input(0)?;
    let (from, axes) = (x.shape.as_deref()?, op.list(1)?);
    let rank = from.len() + axes.len();
    let axes = axes_of(&axes, rank)?;
    let mut rest = from.iter();
    let shape = (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next().copied() });
    reshaped(x, shape.collect::<Option<_>>()?)
}

fn axes_of(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    axes.iter().map(|&a| axis(a, rank)).collect()
}

fn transpose(op: &Operands<'_>) -> Inferred {
    let x = op.input(0)?;
    let from = x.shape.as_deref()?;
    let shape: Option<Vec<usize>> =
        op.ints("perm").iter().map(|&a| from.get(usize::try_from(a).ok()?).copied()).collect();
    let shape = shape.filter(|shape| shape.len() == from.len())?;
    let numbers = x.numbers.clone().filter(|_| from.len() <= 1);
    one(Fact::new(x.element, shape).with_numbers(numbers))
}

fn concat(op: &Operands<'_>) -> Inferred {
    let mut shape = op.shape(0)?.to_vec();
    let axis = op.axis("axis", 0, shape.len())?;
    shape[axis] = 0;
    let mut numbers = Some(Vec::new()).filter(|_| shape.len() == 1);
    for fact in op.inputs() {
        shape[axis] = shape[axis].checked_add(*fact.shape.as_ref()?.get(axis)?)?;
        numbers = numbers.zip(fact.numbers.as_ref()).map(|(mut all, more)| {
            all.extend(more);
            all
        });
        numbers = numbers.filter(|all| all.len() <= MAX_NUMBERS);
    }
    one(Fact::new(op.element(0)?, shape).with_numbers(numbers))
}

fn split(op: &Operands<'_>) -> Inferred {
    let x = op.input(0)?;
    let from = x.shape.as_deref()?;
    let axis = op.axis("axis", 0, from.len())?;
    let pieces: Vec<usize> = match op.list(1) {
        Some(sizes) => sizes.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<_>>()?,
        None => {
            // The last piece is the smaller one where they cannot be equal.
            let size = from[axis].div_ceil(op.results().max(1));
            (0..op.results()).map(|i| from[axis].saturating_sub(i.saturating_mul(size)).min(size)).collect()
        }
    };
    let mut results = Vec::with_capacity(pieces.len());
    let mut start = 0usize;
    for size in pieces.into_iter().take(op.results()) {
        let mut shape = from.to_vec();
        shape[axis] = size;
        let end = start.checked_add(size)?;
        let numbers = x.numbers.as_ref().filter(|_| from.len() == 1).and_then(|all| all.get(start..end));
        results.push(Fact::new(x.element, shape).with_numbers(numbers.map(<[_]>::to_vec)));
        start = end;
    }
    Some(results)
}

/// Where a bound is known at run time only, the result may be as large as the operand.
fn slice(op: &Operands<'_>) -> Inferred {
    let x = op.input(0)?;
    let mut shape = x.shape.clone()?;
    let all = (0..shape.len()).map(|axis| axis as i64).collect();
    let axes = if op.input(3).is_some() { op.list(3) } else { Some(all) };
    let Some(axes) = axes.and_then(|axes| axes_of(&axes, shape.len())) else {
        return one(Fact::new(x.element, shape).at_best(Certainty::AtMost));
    };
    let (starts, ends) = (op.list(1), op.list(2));
    let steps = if op.input(4).is_some() { op.list(4) } else { Some(vec![1; axes.len()]) };
    let (Some(starts), Some(ends), Some(steps), Certainty::Exact) = (starts, ends, steps, op.certainty(1)) else {
        return one(Fact::new(x.element, shape).at_best(Certainty::AtMost));
    };
    let mut numbers = x.numbers.clone().filter(|_| shape.len() == 1);
    for (i, axis) in axes.into_iter().enumerate() {
        let picked = picked(shape[axis], *starts.get(i)?, *ends.get(i)?, *steps.get(i)?)?;
        shape[axis] = picked.count;
        numbers = numbers.map(|all| picked.of(&all));
    }
    one(Fact::new(x.element, shape).with_numbers(numbers))
}

/// The indices of a slice along one axis.
struct Picked {
    first: i128,
    step: i128,
    count: usize,
}

impl Picked {
    fn of(&self, all: &[f64]) -> Vec<f64> {
        let at = |i: usize| usize::try_from(self.first + self.step * i as i128).ok().and_then(|i| all.get(i).copied());
        (0..self.count.min(all.len())).filter_map(at).collect()
    }
}

/// Bounds count from the end where negative, and are clamped, as ONNX's Slice has them.
fn picked(size: usize, start: i64, end: i64, step: i64) -> Option<Picked> {
    let (size, step) = (size as i128, i128::from(step));
    let from_start = |bound: i64| if bound < 0 { i128::from(bound) + size } else { i128::from(bound) };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let first = from_start(start).clamp(low.max(0), high.max(0));
    let end = from_start(end).clamp(low, high.max(low));
    let span = if step > 0 { end - first } else { first - end };
    let span = if size == 0 { 0 } else { span };
    let count = span.max(0).checked_add(step.abs() - 1)?.checked_div(step.abs())?;
    Some(Picked { first, step, count: usize::try_from(count).ok()? })
}

fn expand(op: &Operands<'_>) -> Inferred {
    let target: Vec<usize> = op.list(1)?.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    one(Fact::new(op.element(0)?, broadcast(op.shape(0)?, &target)?))
}

fn tile(op: &Operands<'_>) -> Inferred {
    let (from, repeats) = (op.shape(0)?, op.list(1)?);
    let times = |(&d, &n): (&usize, &i64)| d.checked_mul(usize::try_from(n).ok()?);
    let shape: Option<Vec<usize>> = from.iter().zip(&repeats).map(times).collect();
    one(Fact::new(op.element(0)?, shape.filter(|shape| shape.len() == from.len())?))
}

fn pad(op: &Operands<'_>) -> Inferred {
    let (from, pads) = (op.shape(0)?, op.list(1)?);
    let rank = from.len();
    if pads.len() != 2 * rank {
        return None;
    }
    let padded = |axis: usize| {
        let size = from[axis] as i128 + i128::from(pads[axis]) + i128::from(pads[axis + rank]);
        usize::try_from(size).ok()
    };
    one(Fact::new(op.element(0)?, (0..rank).map(padded).collect::<Option<_>>()?))
}

fn depth_to_space(op: &Operands<'_>) -> Inferred {
    let (&[n, c, h, w], b) = (op.shape(0)?, block(op)?) else { return None };
    let channels = c.checked_div(b.checked_mul(b)?)?;
    one(Fact::new(op.element(0)?, vec![n, channels, h.checked_mul(b)?, w.checked_mul(b)?]))
}

fn space_to_depth(op: &Operands<'_>) -> Inferred {
    let (&[n, c, h, w], b) = (op.shape(0)?, block(op)?) else { return None };
    let channels = c.checked_mul(b.checked_mul(b)?)?;
    one(Fact::new(op.element(0)?, vec![n, channels, h.checked_div(b)?, w.checked_div(b)?]))
}

fn block(op: &Operands<'_>) -> Option<usize> {
    usize::try_from(op.int("blocksize")?).ok()
}

fn constant_of_shape(op: &Operands<'_>) -> Inferred {
    let value = op.tensor("value")?;
    let element = Element::from_number(value.data_type)?;
    let sizes = op.list(0).and_then(|sizes| sizes.iter().map(|&d| usize::try_from(d).ok()).collect());
    let Some(shape): Option<Vec<usize>> = sizes else { return one(Fact::unknown(element)) };
    let number = numbers_in(element, value.raw_data.as_deref()?).and_then(|all| all.first().copied());
    let numbers = number.filter(|_| count(&shape) <= MAX_NUMBERS).map(|number| vec![number; count(&shape)]);
    one(Fact::new(element, shape).with_numbers(numbers))
}

fn random_uniform(op: &Operands<'_>) -> Inferred {
    let shape: Option<Vec<usize>> = op.ints("shape").iter().map(|&d| usize::try_from(d).ok()).collect();
    one(Fact::new(Element::F32, shape?))
}

fn range(op: &Operands<'_>) -> Inferred {
    let number = |index| op.numbers(index)?.first().copied();
    let (start, limit, step) = (number(0)?, number(1)?, number(2)?);
    let element = op.element(0)?;
    let steps = ((limit - start) / step).ceil();
    // A step of 0 gives no number of steps.
    if !steps.is_finite() {
        return None;
    }
    let count = steps.max(0.0) as usize;
    let all = |count: usize| (0..count).map(|i| as_element(element, start + step * i as f64)).collect::<Option<_>>();
    let numbers = if count <= MAX_NUMBERS { all(count) } else { None };
    one(Fact::new(element, vec![count]).with_numbers(numbers))
}
