//! Matrix products and embeddings.

use std::sync::Arc;

use coreml_format::{mil::Dim, nn::Weight};

use super::{
    blob::{Blob, broadcast, count, show, target},
    reader::LayerReader,
};
use crate::{
    lower::{Fault, linear::product_with_weight},
    onnx::{Element, OnnxBuilder, Source, Value},
};

/// `x · weight^T + bias` for a weight of (outputs, inputs). Up to rank 3 the last dimension is the vector, from rank 4
/// on the last three are, and the result has its elements in the first of them.
pub(super) fn inner_product(
    layer: &LayerReader<'_>,
    [outputs, inputs]: [u64; 2],
    weights: &Weight,
    bias: Option<&Weight>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    if x.rank() < 4 {
        return by_weight(layer, x, [outputs, inputs], weights, bias, onnx);
    }
    let (outer, vector) = x.dims().split_at(x.dims().len() - 3);
    check_inner(count(vector), inputs, x)?;
    let rows = count(outer).map_or(Dim::Unknown, Dim::Fixed);
    let matrix = [rows, Dim::Fixed(inputs as usize)];
    let flat = onnx.reshape(x.value(), &target(&matrix)?).with_dims(Some(matrix.to_vec()));
    let product = by_weight(layer, &Blob::exact(flat, matrix.to_vec()), [outputs, inputs], weights, bias, onnx)?;
    let dims = [outer, &[Dim::Fixed(outputs as usize), Dim::Fixed(1), Dim::Fixed(1)]].concat();
    Ok(x.with(onnx.reshape(product.value(), &target(&dims)?), dims))
}

/// `x · weight + bias` for a weight of (inputs, outputs) that is stored by columns, as an inner product's is.
pub(super) fn matmul_by_weight(
    layer: &LayerReader<'_>,
    [inputs, outputs]: [u64; 2],
    weights: &Weight,
    bias: Option<&Weight>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    by_weight(layer, layer.input()?, [outputs, inputs], weights, bias, onnx)
}

fn by_weight(
    layer: &LayerReader<'_>,
    x: &Blob,
    shape: [u64; 2],
    weights: &Weight,
    bias: Option<&Weight>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let [outputs, inputs] = shape;
    let Some((last, outer)) = x.dims().split_last() else { return Err("its input has no dimension".into()) };
    check_inner(count(&[*last]), inputs, x)?;
    let weight = layer.weight("weight", weights, &shape, onnx)?;
    let bias = bias.map(|bias| layer.weight("bias", bias, &[outputs], onnx)).transpose()?;
    let product = product_with_weight(onnx, x.value(), &weight, bias.as_ref())?;
    Ok(x.with(product, [outer, &[Dim::Fixed(outputs as usize)]].concat()))
}

fn check_inner(given: Option<usize>, inputs: u64, x: &Blob) -> Result<(), Fault> {
    match given {
        Some(given) if given as u64 != inputs => Err(format!(
            "its weight asks for {inputs} input channels, and its input of shape {} has {given}",
            show(x.dims())
        )
        .into()),
        _ => Ok(()),
    }
}

/// The product of matrices in the last two dimensions. A vector on the left is a row, one on the right a column.
pub(super) fn matmul(
    layer: &LayerReader<'_>,
    transpose_a: bool,
    transpose_b: bool,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let (a, b) = layer.pair()?;
    let (a, b) = (matrix(a, 0, transpose_a, onnx)?, matrix(b, 1, transpose_b, onnx)?);
    let ([outer_a @ .., rows, inner], [outer_b @ .., inner_b, columns]) = (a.dims(), b.dims()) else {
        return Err("its inputs must be matrices".into());
    };
    if let (Dim::Fixed(a), Dim::Fixed(b)) = (inner, inner_b)
        && a != b
    {
        return Err(format!("the inner sizes of the product differ: {a} and {b}").into());
    }
    let dims = [&broadcast(outer_a, outer_b)?[..], &[*rows, *columns]].concat();
    Ok(Blob::exact(onnx.mat_mul(a.value(), b.value()), dims))
}

/// A blob with at least two dimensions: a vector gets one at `new_axis`.
fn matrix(x: &Blob, new_axis: usize, turned: bool, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let value = x.whole(onnx);
    let mut dims = value.dims().unwrap_or_default().to_vec();
    match dims.len() {
        0 => Err("its input has no dimension".into()),
        1 if turned => Err("a vector cannot be transposed".into()),
        1 => {
            dims.insert(new_axis, Dim::Fixed(1));
            Ok(Blob::exact(onnx.unsqueeze(&value, &[new_axis as i64]), dims))
        }
        rank if turned => {
            let mut perm: Vec<i64> = (0..rank as i64).collect();
            perm.swap(rank - 1, rank - 2);
            dims.swap(rank - 1, rank - 2);
            Ok(Blob::exact(onnx.transpose(&value, &perm), dims))
        }
        _ => Ok(Blob::exact(value, dims)),
    }
}

/// The row of a table that each element of `x` names, whose last dimension is 1. The table is stored by columns.
pub(super) fn embedding_nd(
    layer: &LayerReader<'_>,
    [size, vocabulary]: [u64; 2],
    weights: &Weight,
    bias: Option<&Weight>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let [outer @ .., Dim::Fixed(1)] = x.dims() else {
        return Err(format!("its input has shape {}, expected 1 as the last size", show(x.dims())).into());
    };
    if outer.is_empty() {
        return Err("its input has rank 1, expected at least 2".into());
    }
    let flat = onnx.squeeze(x.value(), &[-1]);
    let rows = looked_up(layer, &flat, [size, vocabulary], weights, bias, onnx)?;
    Ok(x.with(rows, [outer, &[Dim::Fixed(size as usize)]].concat()))
}

/// The row of a table that each element of `x` names, whose last three dimensions are 1. The table is stored by
/// columns.
pub(super) fn embedding(
    layer: &LayerReader<'_>,
    [size, inputs]: [u64; 2],
    weights: &Weight,
    bias: Option<&Weight>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let [outer @ .., Dim::Fixed(1), Dim::Fixed(1), Dim::Fixed(1)] = x.dims() else {
        return Err(format!("its input has shape {}, expected 1 as the last three sizes", show(x.dims())).into());
    };
    let flat = onnx.squeeze(x.value(), &[-3, -2, -1]);
    let rows = looked_up(layer, &flat, [size, inputs], weights, bias, onnx)?;
    let dims = [outer, &[Dim::Fixed(size as usize), Dim::Fixed(1), Dim::Fixed(1)]].concat();
    Ok(x.with(onnx.unsqueeze(&rows, &[-2, -1]), dims))
}

/// The product of two vectors of channels, or the cosine of the angle between them.
pub(super) fn dot(layer: &LayerReader<'_>, cosine: bool, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (x, y) = layer.pair()?;
    if x.dims().len() < 3 || y.dims().len() < 3 {
        return Err("its inputs must have at least rank 3".into());
    }
    let unit = |blob: &Blob, onnx: &mut OnnxBuilder| {
        if cosine { blob.same(onnx.l2_normalised(blob.value(), &[-3], 0.0)) } else { blob.clone() }
    };
    let (x, y) = (unit(x, onnx), unit(y, onnx));
    let products = x.broadcast("Mul", &y, onnx)?;
    let mut dims = products.dims().to_vec();
    let channels = dims.len() - 3;
    dims[channels] = Dim::Fixed(1);
    Ok(products.with(onnx.reduce("ReduceSum", products.value(), &[-3], true), dims))
}

/// The rows of a table, which is stored by columns, that the elements of `at` name.
fn looked_up(
    layer: &LayerReader<'_>,
    at: &Value,
    shape: [u64; 2],
    weights: &Weight,
    bias: Option<&Weight>,
    onnx: &mut OnnxBuilder,
) -> Result<Value, Fault> {
    let table = turned(&layer.weight("weight", weights, &shape, onnx)?, onnx);
    let indices = onnx.cast(at, Element::I64);
    let rows = onnx.gather(&table, &indices, 0);
    let Some(bias) = bias else { return Ok(rows) };
    let bias = layer.weight("bias", bias, &shape[..1], onnx)?;
    Ok(onnx.binary("Add", &rows, &bias))
}

/// The transpose of a constant matrix.
fn turned(matrix: &Value, onnx: &mut OnnxBuilder) -> Value {
    let source = matrix.constant().expect("a weight is a constant").clone();
    onnx.weight(matrix.name(), matrix.element(), Arc::new(Source::Permuted { source, perm: vec![1, 0] }))
}
