//! Picking and placing by index, and what is where.

use coreml_format::{mil::Dim, nn::ScatterMode};

use super::{
    blob::{Blob, fixed, show},
    reader::LayerReader,
};
use crate::{
    lower::{
        Fault, axis,
        transform::{inverse, to_front},
    },
    onnx::{Element, OnnxBuilder, Value},
};

pub(super) fn gather(layer: &LayerReader<'_>, along: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (x, at) = layer.pair()?;
    let (x, at) = (x.unfolded(onnx), at.unfolded(onnx));
    let along = axis(along, x.dims().len())?;
    let mut dims = x.dims().to_vec();
    dims.splice(along as usize..=along as usize, at.dims().iter().copied());
    let indices = at.whole_numbers(onnx);
    Ok(Blob::exact(onnx.gather(x.value(), &indices, along), dims))
}

pub(super) fn gather_nd(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (x, at) = layer.pair()?;
    let (x, at) = (x.unfolded(onnx), at.unfolded(onnx));
    let (outer, depth) = points(&at, &x)?;
    let dims = [outer, &x.dims()[depth..]].concat();
    let indices = at.whole_numbers(onnx);
    let picked = onnx.gather_nd(x.value(), &indices, 0);
    // No blob is without dimensions.
    if dims.is_empty() {
        return Ok(Blob::exact(onnx.reshape(&picked, &[1]), vec![Dim::Fixed(1)]));
    }
    Ok(Blob::exact(picked, dims))
}

/// The dimensions of a blob of points, and how many leading dimensions of `x` a point names.
fn points<'a>(at: &'a Blob, x: &Blob) -> Result<(&'a [Dim], usize), Fault> {
    let (last, outer) = at.dims().split_last().ok_or("its indices have no dimension")?;
    match fixed(last) {
        Some(depth) if depth <= x.dims().len() => Ok((outer, depth)),
        Some(depth) => Err(format!("its indices have {depth} numbers for a blob of shape {}", show(x.dims())).into()),
        None => Err("the last size of its indices must be fixed".into()),
    }
}

pub(super) fn gather_along_axis(layer: &LayerReader<'_>, along: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let (x, at) = layer.pair()?;
    let (x, at) = (x.unfolded(onnx), at.unfolded(onnx));
    let along = axis(along, x.dims().len())?;
    same_rank(&at, &x)?;
    let indices = onnx.cast(at.value(), Element::I64);
    Ok(at.same(onnx.gather_elements(x.value(), &indices, along)))
}

fn same_rank(at: &Blob, x: &Blob) -> Result<(), Fault> {
    if at.rank() == x.rank() {
        return Ok(());
    }
    Err(format!("its indices of shape {} must have the rank of {}", show(at.dims()), show(x.dims())).into())
}

/// ONNX's reduction for a mode, and the updates to use with it.
fn reduction(mode: ScatterMode, updates: &Value, onnx: &mut OnnxBuilder) -> (&'static str, Value) {
    match mode {
        ScatterMode::Update => ("none", updates.clone()),
        ScatterMode::Add => ("add", updates.clone()),
        ScatterMode::Sub => ("add", onnx.unary("Neg", updates)),
        ScatterMode::Mul => ("mul", updates.clone()),
        ScatterMode::Div => ("mul", onnx.unary("Reciprocal", updates)),
        ScatterMode::Max => ("max", updates.clone()),
        ScatterMode::Min => ("min", updates.clone()),
    }
}

/// A container, indices and updates with all their dimensions.
fn three(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<[Blob; 3], Fault> {
    let (three, _) = layer.first_of::<3>(0)?;
    Ok(three.map(|blob| blob.unfolded(onnx)))
}

/// `x[..., at[i...], ...] = updates[..., i..., ...]` along an axis.
pub(super) fn scatter(
    layer: &LayerReader<'_>,
    along: i64,
    mode: ScatterMode,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let [x, at, updates] = three(layer, onnx)?;
    let (rank, places) = (x.dims().len(), at.dims().len());
    let along = axis(along, rank)? as usize;
    if updates.dims().len() != rank - 1 + places {
        return Err(format!("its updates have rank {}, expected {}", updates.dims().len(), rank - 1 + places).into());
    }
    let (reduction, updates) = reduction(mode, updates.value(), onnx);
    let indices = at.whole_numbers(onnx);
    let indices = onnx.unsqueeze(&indices, &[-1]);
    if along == 0 {
        return Ok(x.same(onnx.scatter_nd(x.value(), &indices, &updates, reduction)));
    }
    // The axis comes first, and with it the dimensions that stand for it among the updates.
    let perm = to_front(along, rank);
    let new = along..along + places;
    let order = new.clone().chain((0..rank - 1 + places).filter(|axis| !new.contains(axis)));
    let order: Vec<i64> = order.map(|axis| axis as i64).collect();
    let (turned, updates) = (onnx.transpose(x.value(), &perm), onnx.transpose(&updates, &order));
    let placed = onnx.scatter_nd(&turned, &indices, &updates, reduction);
    Ok(x.same(onnx.transpose(&placed, &inverse(&perm))))
}

pub(super) fn scatter_nd(layer: &LayerReader<'_>, mode: ScatterMode, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let [x, at, updates] = three(layer, onnx)?;
    let (outer, depth) = points(&at, &x)?;
    if updates.dims().len() != outer.len() + x.dims().len() - depth
        // One number for one point is a vector of one.
        && !(outer.len() + x.dims().len() == depth && updates.dims() == [Dim::Fixed(1)])
    {
        return Err(format!("its updates of shape {} do not fit its indices", show(updates.dims())).into());
    }
    let (reduction, updates) = reduction(mode, updates.value(), onnx);
    let indices = at.whole_numbers(onnx);
    Ok(x.same(onnx.scatter_nd(x.value(), &indices, &updates, reduction)))
}

pub(super) fn scatter_along_axis(
    layer: &LayerReader<'_>,
    along: i64,
    mode: ScatterMode,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let [x, at, updates] = three(layer, onnx)?;
    let along = axis(along, x.dims().len())?;
    same_rank(&at, &x)?;
    let (reduction, updates) = reduction(mode, updates.value(), onnx);
    let indices = onnx.cast(at.value(), Element::I64);
    Ok(x.same(onnx.scatter_elements(x.value(), &indices, &updates, along, reduction)))
}

/// A row of indices for each element that is not 0.
pub(super) fn where_non_zero(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?.unfolded(onnx);
    let columns = onnx.non_zero(x.value());
    let rows = onnx.transpose(&columns, &[1, 0]);
    Ok(Blob::exact(onnx.cast(&rows, Element::F32), vec![Dim::Unknown, Dim::Fixed(x.dims().len())]))
}

/// `on` where the index along a new axis is the input's element, otherwise `off`. A second input may give the size of
/// that axis.
pub(super) fn one_hot(
    layer: &LayerReader<'_>,
    size: u64,
    along: i64,
    [on, off]: [f32; 2],
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let ([x], more) = layer.first_of(1)?;
    let x = x.unfolded(onnx);
    let rank = x.dims().len() + 1;
    let along = axis(along, rank)?;
    let size = match more {
        [given] => given.list(onnx)?.known.and_then(|known| u64::try_from(*known.first()?).ok()),
        _ => Some(size),
    };
    let dim = size.map_or(Dim::Unknown, |size| Dim::Fixed(size as usize));
    let places = match size {
        Some(size) => {
            let size = crate::lower::made_count(&[usize::try_from(size).unwrap_or(usize::MAX)])?;
            onnx.floats(&[size], (0..size).map(|i| i as f32).collect())
        }
        None => {
            let (zero, one) = (onnx.floats(&[], vec![0.0]), onnx.floats(&[], vec![1.0]));
            let size = more[0].scalar(onnx)?;
            onnx.range(&zero, &size, &one)
        }
    };
    // Each place stands at its index along the new axis; no index outside of it equals one.
    let behind: Vec<i64> = (1..rank as i64 - along).collect();
    let places = if behind.is_empty() { places } else { onnx.unsqueeze(&places, &behind) };
    let raised = onnx.unsqueeze(x.value(), &[along]);
    let hot = onnx.compare("Equal", &raised, &places);
    let (on, off) = (onnx.floats(&[], vec![on]), onnx.floats(&[], vec![off]));
    let mut dims = x.dims().to_vec();
    dims.insert(along as usize, dim);
    Ok(Blob::exact(onnx.select(&hot, &on, &off), dims))
}

/// The last two dimensions with everything but some diagonals set to 0; a negative number keeps all.
pub(super) fn band(layer: &LayerReader<'_>, lower: i64, upper: i64, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = matrices(layer)?;
    Ok(x.same(onnx.band(x.value(), lower, upper)))
}

pub(super) fn triangle(layer: &LayerReader<'_>, k: i64, upper: bool, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = matrices(layer)?;
    Ok(x.same(onnx.trilu(x.value(), k, upper)))
}

fn matrices<'l>(layer: &'l LayerReader<'_>) -> Result<&'l Blob, Fault> {
    match layer.input()? {
        x if x.dims().len() >= 2 => Ok(x),
        _ => Err("its input must be a matrix".into()),
    }
}
