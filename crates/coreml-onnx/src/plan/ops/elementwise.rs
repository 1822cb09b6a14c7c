//! Element by element: results have the shape of the operands, broadcast.

use super::{Inferred, Operands, Operator, elements, one};
use crate::{
    Element,
    plan::fact::{Certainty, Fact, MAX_NUMBERS, as_element, count},
};

pub(super) const OPS: &[Operator] = &[
    each("Abs", |op| number(op, f64::abs)),
    each("Acos", same),
    each("Acosh", same),
    each("Add", |op| arithmetic(op, |x, y| x + y)),
    each("And", |op| compare(op, |x, y| x != 0.0 && y != 0.0)),
    each("Asin", same),
    each("Asinh", same),
    each("Atan", same),
    each("Atanh", same),
    each("BatchNormalization", same).flops(|_, results| elements(results.first()).saturating_mul(2)),
    Operator::new("Cast", cast).in_place(),
    each("Ceil", |op| number(op, f64::ceil)),
    each("Clip", clip).in_place(),
    each("Cos", same),
    each("Cosh", same),
    each("CumSum", same),
    each("Div", |op| falling(op, |x, y| x / y)),
    each("Elu", same).in_place(),
    each("Equal", |op| compare(op, |x, y| x == y)),
    each("Erf", same),
    each("Exp", same),
    each("Floor", |op| number(op, f64::floor)),
    each("Gelu", same),
    each("Greater", |op| compare(op, |x, y| x > y)),
    each("GreaterOrEqual", |op| compare(op, |x, y| x >= y)),
    each("HardSigmoid", same).in_place(),
    each("InstanceNormalization", same).flops(|_, results| elements(results.first()).saturating_mul(8)),
    each("LRN", same).workspace(lrn_workspace).flops(lrn_flops),
    each("LayerNormalization", same).flops(|_, results| elements(results.first()).saturating_mul(8)),
    each("LeakyRelu", same).in_place(),
    each("Less", |op| compare(op, |x, y| x < y)),
    each("LessOrEqual", |op| compare(op, |x, y| x <= y)),
    each("Log", same),
    each("Max", |op| arithmetic(op, f64::max)),
    each("Min", |op| arithmetic(op, f64::min)),
    each("Mod", |op| falling(op, |x, y| x - y * (x / y).floor())),
    each("Mul", |op| arithmetic(op, |x, y| x * y)),
    each("Neg", negated),
    each("Not", |op| number(op, |x| if x == 0.0 { 1.0 } else { 0.0 })),
    each("Or", |op| compare(op, |x, y| x != 0.0 || y != 0.0)),
    each("PRelu", |op| arithmetic(op, |x, y| if x < 0.0 { x * y } else { x })),
    each("Pow", |op| arithmetic(op, f64::powf)),
    each("Reciprocal", same),
    each("Relu", |op| number(op, |x| x.max(0.0))).in_place(),
    each("Round", |op| number(op, f64::round_ties_even)),
    each("Sigmoid", same).in_place(),
    each("Sin", same),
    each("Sinh", same),
    each("Softmax", same)
        .in_place()
        .workspace(softmax_workspace)
        .flops(|_, results| elements(results.first()).saturating_mul(5)),
    each("Softplus", same).in_place(),
    each("Softsign", same).in_place(),
    each("Sqrt", |op| number(op, f64::sqrt)),
    each("Sub", |op| falling(op, |x, y| x - y)),
    each("Tan", same),
    each("Tanh", same).in_place(),
    Operator::new("Trilu", same).in_place(),
    Operator::new("Where", select).workspace(select_workspace),
    each("Xor", |op| compare(op, |x, y| (x != 0.0) != (y != 0.0))),
];

/// One operation for each element of the result.
const fn each(onnx: &'static str, infer: fn(&Operands<'_>) -> Inferred) -> Operator {
    Operator::new(onnx, infer).flops(|_, results| elements(results.first()))
}

/// The first operand's shape and type.
fn same(op: &Operands<'_>) -> Inferred {
    one(Fact::new(op.element(0)?, op.shape(0)?.to_vec()))
}

/// As [`same`], and the numbers follow.
fn number(op: &Operands<'_>, f: fn(f64) -> f64) -> Inferred {
    let x = op.input(0)?;
    let numbers = x.numbers.as_ref().and_then(|all| all.iter().map(|&v| as_element(x.element, f(v))).collect());
    one(Fact::new(x.element, x.shape.clone()?).with_numbers(numbers))
}

/// A larger operand gives a smaller number, so what was a bound is none any more.
fn negated(op: &Operands<'_>) -> Inferred {
    unsure(op, number(op, |x| -x))
}

fn clip(op: &Operands<'_>) -> Inferred {
    let bound = |index: usize, none: f64| match op.input(index) {
        None => Some(none),
        Some(fact) => fact.numbers.as_ref()?.first().copied(),
    };
    let x = op.input(0)?;
    let (low, high) = (bound(1, f64::NEG_INFINITY), bound(2, f64::INFINITY));
    let numbers = match (&x.numbers, low, high) {
        (Some(all), Some(low), Some(high)) => Some(all.iter().map(|v| v.max(low).min(high)).collect()),
        _ => None,
    };
    one(Fact::new(x.element, x.shape.clone()?).with_numbers(numbers))
}

fn cast(op: &Operands<'_>) -> Inferred {
    let x = op.input(0)?;
    let to = Element::from_number(i32::try_from(op.int("to")?).ok()?)?;
    let numbers = x.numbers.as_ref().and_then(|all| all.iter().map(|&v| as_element(to, v)).collect());
    one(Fact::new(to, x.shape.clone()?).with_numbers(numbers))
}

/// Two operands of one type, and a result of it. The numbers grow with the operands'.
fn arithmetic(op: &Operands<'_>, f: fn(f64, f64) -> f64) -> Inferred {
    broadcast_pair(op, op.element(0)?, f)
}

/// As [`arithmetic`], but the result does not grow with both operands.
fn falling(op: &Operands<'_>, f: fn(f64, f64) -> f64) -> Inferred {
    unsure(op, broadcast_pair(op, op.element(0)?, f))
}

/// Two operands of one type, and a boolean result.
fn compare(op: &Operands<'_>, f: fn(f64, f64) -> bool) -> Inferred {
    unsure(op, broadcast_pair(op, Element::Bool, |x, y| f64::from(u8::from(f(x, y)))))
}

/// Numbers that were computed from upper bounds, and bound nothing.
fn unsure(op: &Operands<'_>, result: Inferred) -> Inferred {
    let bounds = op.inputs().any(|fact| fact.certainty != Certainty::Exact);
    let mark = |fact: Fact| if bounds && fact.numbers.is_some() { fact.at_best(Certainty::Unknown) } else { fact };
    Some(result?.into_iter().map(mark).collect())
}

fn broadcast_pair(op: &Operands<'_>, element: Element, f: impl Fn(f64, f64) -> f64) -> Inferred {
    let (x, y) = (op.shape(0)?, op.shape(1)?);
    let shape = broadcast(x, y)?;
    let numbers = op.numbers(0).zip(op.numbers(1)).and_then(|(p, q)| {
        let at = |i| as_element(element, f(*p.get(source(i, &shape, x))?, *q.get(source(i, &shape, y))?));
        few(&shape)?.map(at).collect()
    });
    one(Fact::new(element, shape).with_numbers(numbers))
}

fn select(op: &Operands<'_>) -> Inferred {
    let (condition, x, y) = (op.shape(0)?, op.shape(1)?, op.shape(2)?);
    let shape = broadcast(&broadcast(condition, x)?, y)?;
    let numbers = op.numbers(0).zip(op.numbers(1)).zip(op.numbers(2)).and_then(|((c, p), q)| {
        let at = |i| {
            let chosen = *c.get(source(i, &shape, condition))? != 0.0;
            if chosen { p.get(source(i, &shape, x)) } else { q.get(source(i, &shape, y)) }.copied()
        };
        few(&shape)?.map(at).collect()
    });
    unsure(op, one(Fact::new(op.element(1)?, shape).with_numbers(numbers)))
}

/// The shape of two operands that broadcast.
pub(super) fn broadcast(x: &[usize], y: &[usize]) -> Option<Vec<usize>> {
    let (long, short) = if x.len() >= y.len() { (x, y) } else { (y, x) };
    let mut shape = long.to_vec();
    for (d, &other) in shape[long.len() - short.len()..].iter_mut().zip(short) {
        match (*d, other) {
            (1, n) => *d = n,
            (_, 1) => {}
            (n, m) if n == m => {}
            _ => return None,
        }
    }
    Some(shape)
}

/// The indices of a value that is small enough to be followed.
fn few(shape: &[usize]) -> Option<std::ops::Range<usize>> {
    let n = count(shape);
    (n <= MAX_NUMBERS).then_some(0..n)
}

/// The index in an operand of shape `from` that goes to index `i` of a result of shape `to`.
fn source(mut i: usize, to: &[usize], from: &[usize]) -> usize {
    let (mut index, mut stride) = (0, 1);
    let skipped = to.len() - from.len();
    for (axis, &size) in to.iter().enumerate().rev() {
        let position = i % size.max(1);
        i /= size.max(1);
        if axis >= skipped {
            let own = from[axis - skipped];
            index += if own == 1 { 0 } else { position * stride };
            stride *= own;
        }
    }
    index
}

/// Along any axis but the last, ONNX Runtime computes on a transposed copy and transposes its result back.
fn softmax_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    let rank = op.shape(0).map_or(0, <[_]>::len);
    let last = op.axis("axis", -1, rank).is_none_or(|axis| axis + 1 == rank);
    if last { 0 } else { results.first().map_or(0, Fact::bytes).saturating_mul(2) }
}

/// ONNX Runtime picks from each of the two operands into a tensor of its own, and then merges these.
fn select_workspace(_: &Operands<'_>, results: &[Fact]) -> usize {
    results.first().map_or(0, Fact::bytes).saturating_mul(2)
}

/// The scale of each element, and the squares of one image with a border of zeros in between the channels' ends.
/// A square of each neighbour and their sum, a power and a quotient.
fn lrn_flops(op: &Operands<'_>, results: &[Fact]) -> u64 {
    let neighbours = u64::try_from(op.int("size").unwrap_or(1)).unwrap_or(1);
    elements(results.first()).saturating_mul(neighbours.saturating_mul(2).saturating_add(4))
}

fn lrn_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    let (Some([_, channels, space @ ..]), Some(result)) = (op.shape(0), results.first()) else { return 0 };
    let window = usize::try_from(op.int("size").unwrap_or(1)).unwrap_or(1);
    let padded = channels.saturating_add(window.saturating_sub(1)).saturating_mul(count(space));
    result.bytes().saturating_add(padded.saturating_mul(result.element.size()))
}
