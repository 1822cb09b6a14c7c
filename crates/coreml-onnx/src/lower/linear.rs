//! Matrix products and attention.

use std::sync::Arc;

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{Element, OnnxBuilder, Source, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "einsum", run: einsum },
    Lowering { mil: "linear", run: linear },
    Lowering { mil: "matmul", run: matmul },
    Lowering { mil: "scaled_dot_product_attention", run: scaled_dot_product_attention },
];

fn einsum(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (values, equation) = (op.values("values")?, op.string("equation")?);
    Ok(vec![onnx.einsum(&values, &equation)])
}

/// `x · weight^T + bias`.
fn linear(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, weight, bias) = (op.value("x")?, op.value("weight")?, op.maybe("bias")?);
    floats("x", &x)?;
    inner(x.dims().and_then(<[_]>::last), weight.dims().and_then(<[_]>::last))?;
    // From iOS 17 on, constants may have a type of their own.
    let weight = onnx.cast(&weight, Element::F32);
    let bias = bias.map(|bias| onnx.cast(&bias, Element::F32));
    Ok(vec![product_with_weight(onnx, &x, &weight, bias.as_ref())?])
}

/// `x · weight^T + bias` for a weight of shape (outputs, inputs).
pub(crate) fn product_with_weight(
    onnx: &mut OnnxBuilder,
    x: &Value,
    weight: &Value,
    bias: Option<&Value>,
) -> Result<Value, Fault> {
    // Engines pack a constant right operand once, and only in this orientation.
    let turned = turn(onnx, weight);
    let product = onnx.mat_mul(x, &turned);
    Ok(match bias {
        Some(bias) if !all_zero(bias) => onnx.binary("Add", &product, bias),
        _ => product,
    })
}

/// coremltools writes a zero bias where a layer has none.
fn all_zero(bias: &Value) -> bool {
    bias.constant().is_some_and(|source| source.f32s().iter().all(|&v| v == 0.0))
}

/// The transpose of a matrix; of a constant without a node.
fn turn(onnx: &mut OnnxBuilder, matrix: &Value) -> Value {
    match matrix.constant() {
        Some(source) if source.shape().len() == 2 => {
            let turned = Source::Permuted { source: source.clone(), perm: vec![1, 0] };
            onnx.weight(matrix.name(), matrix.element(), Arc::new(turned))
        }
        _ => swap_last(onnx, matrix, matrix.dims().map_or(2, <[_]>::len)),
    }
}

fn swap_last(onnx: &mut OnnxBuilder, x: &Value, rank: usize) -> Value {
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    if rank > 1 {
        perm.swap(rank - 1, rank - 2);
    }
    onnx.transpose(x, &perm)
}

fn matmul(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (mut x, mut y) = (op.value("x")?, op.value("y")?);
    let (turn_x, turn_y) = (op.bool_or("transpose_x", false)?, op.bool_or("transpose_y", false)?);
    if let (Some(a), Some(b)) = (x.dims(), y.dims()) {
        let from_end = |dims: &[Dim], turned: bool, near: usize| {
            let back = if turned { 3 - near } else { near };
            (dims.len() >= 2).then(|| dims[dims.len() - back])
        };
        let columns = if a.len() == 1 { a.first().copied() } else { from_end(a, turn_x, 1) };
        let rows = if b.len() == 1 { b.first().copied() } else { from_end(b, turn_y, 2) };
        inner(columns.as_ref(), rows.as_ref())?;
    }
    let rank = |v: &Value| v.dims().map(<[_]>::len).ok_or(Fault::from("the ranks of x and y must be known"));
    if turn_x && rank(&x)? > 1 {
        x = swap_last(onnx, &x, rank(&x)?);
    }
    if turn_y && rank(&y)? > 1 {
        y = if y.constant().is_some() && rank(&y)? == 2 { turn(onnx, &y) } else { swap_last(onnx, &y, rank(&y)?) };
    }
    // Of a constant and another operand, the other says what comes out.
    let element = if x.constant().is_some() { y.element() } else { x.element() };
    // Engines multiply floats; MIL's integer products are small enough for fp32 to hold.
    let (x, y) = (onnx.cast(&x, Element::F32), onnx.cast(&y, Element::F32));
    let product = onnx.mat_mul(&x, &y);
    Ok(vec![onnx.cast(&product, element)])
}

/// `softmax(q k^T / sqrt(E) + mask) v`, with a mask that is added, or true where attention is allowed.
fn scaled_dot_product_attention(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (query, key, value) = (op.value("query")?, op.value("key")?, op.value("value")?);
    let mask = op.maybe("attn_mask")?;
    let dims = query.dims().ok_or("the rank of query must be known")?;
    let (rank, Some(Dim::Fixed(width))) = (dims.len(), dims.last().copied()) else {
        return Err("the last dimension of query must be fixed".into());
    };
    let turned = swap_last(onnx, &key, rank);
    // Scaling the query is cheaper than scaling the scores.
    let scaled = onnx.with_scalar("Mul", &query, 1.0 / (width as f32).sqrt());
    let mut scores = onnx.mat_mul(&scaled, &turned);
    if let Some(mask) = mask {
        scores = match mask.element() {
            Element::Bool => {
                let never = onnx.scalar(f32::MIN, &scores);
                onnx.select(&mask, &scores, &never)
            }
            _ => onnx.binary("Add", &scores, &mask),
        };
    }
    let weights = onnx.softmax(&scores, -1);
    Ok(vec![onnx.mat_mul(&weights, &value)])
}

fn floats(parameter: &str, value: &Value) -> Result<(), Fault> {
    match value.element() {
        Element::F32 => Ok(()),
        other => Err(format!("operand {parameter} must hold floats, and holds {other:?}").into()),
    }
}

fn inner(columns: Option<&Dim>, rows: Option<&Dim>) -> Result<(), Fault> {
    match (columns, rows) {
        (Some(Dim::Fixed(a)), Some(Dim::Fixed(b))) if a != b => {
            Err(format!("the inner sizes of the product differ: {a} and {b}").into())
        }
        _ => Ok(()),
    }
}
