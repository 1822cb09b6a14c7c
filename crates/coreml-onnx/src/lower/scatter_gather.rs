//! Picking and placing by index.
//!
//! An index outside of its axis is an error of the engine: Core ML leaves the result open.

use super::{
    Fault, Lowering, OpReader, Results, axis, rank,
    transform::{inverse, to_front},
};
use crate::onnx::{Element, OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "gather", run: gather },
    Lowering { mil: "gather_along_axis", run: gather_along_axis },
    Lowering { mil: "gather_nd", run: gather_nd },
    Lowering { mil: "scatter", run: scatter },
    Lowering { mil: "scatter_along_axis", run: scatter_along_axis },
    Lowering { mil: "scatter_nd", run: scatter_nd },
];

/// Those below 0 count from the end, unless they are to be validated: then they are as wrong as those behind the end.
fn indices(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Result<Value, Fault> {
    let indices = op.value("indices")?;
    if !op.bool_or("validate_indices", false)? || indices.constant().is_some() {
        return Ok(indices);
    }
    let indices = onnx.cast(&indices, Element::I32);
    let (zero, outside) = (onnx.scalar(0.0, &indices), onnx.scalar(1e9, &indices));
    let below = onnx.compare("Less", &indices, &zero);
    let dims = indices.dims().map(<[_]>::to_vec);
    Ok(onnx.select(&below, &outside, &indices).with_dims(dims))
}

fn gather(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, indices, along) = (op.value("x")?, indices(op, onnx)?, op.int_or("axis", 0)?);
    let batch = op.int_or("batch_dims", 0)?;
    let rank = rank(&x)?;
    let along = axis(along, rank)?;
    if batch == 0 {
        return Ok(vec![onnx.gather(&x, &indices, along)]);
    }
    batched_gather(onnx, &x, &indices, along as usize, batch)
}

/// Brings the axis right after the batch, gathers there, and brings what was picked back.
fn batched_gather(onnx: &mut OnnxBuilder, x: &Value, indices: &Value, along: usize, batch: i64) -> Results {
    let (rank, picked) = (rank(x)?, rank(indices)?);
    let b = batch as usize;
    if batch < 0 || b > along || b > picked {
        return Err(format!("batch_dims is {batch}, expected at most the axis and the rank of indices").into());
    }
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    let moved = perm.remove(along);
    perm.insert(b, moved);
    let turned = onnx.transpose(x, &perm);
    let columns = onnx.unsqueeze(indices, &[-1]);
    let found = onnx.gather_nd(&turned, &columns, batch);
    // Now (batch, picked, between, after); between belongs in front of picked.
    let (new, between) = (picked - b, along - b);
    let order =
        (0..b).chain((b + new)..(b + new + between)).chain(b..(b + new)).chain((b + new + between)..(rank + new - 1));
    let order: Vec<i64> = order.map(|a| a as i64).collect();
    Ok(vec![onnx.transpose(&found, &order)])
}

fn gather_along_axis(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, indices, along) = (op.value("x")?, indices(op, onnx)?, op.int_or("axis", 0)?);
    axis(along, rank(&x)?)?;
    Ok(vec![onnx.gather_elements(&x, &indices, along)])
}

fn gather_nd(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, indices, batch) = (op.value("x")?, indices(op, onnx)?, op.int_or("batch_dims", 0)?);
    Ok(vec![onnx.gather_nd(&x, &indices, batch)])
}

/// How an update meets what is there: ONNX's reduction, and the update to use with it.
fn mode(op: &OpReader<'_>, onnx: &mut OnnxBuilder, updates: Value) -> Result<(&'static str, Value), Fault> {
    Ok(match op.string_or("mode", "add")?.as_str() {
        "update" => ("none", updates),
        "add" => ("add", updates),
        "sub" => ("add", onnx.unary("Neg", &updates)),
        "mul" => ("mul", updates),
        "div" => ("mul", onnx.unary("Reciprocal", &updates)),
        "max" => ("max", updates),
        "min" => ("min", updates),
        other => return Err(format!("mode {other:?} is not known").into()),
    })
}

/// `data[..., indices[i], ...] = updates[..., i, ...]` along `axis`.
fn scatter(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (data, indices, updates) = (op.value("data")?, indices(op, onnx)?, op.value("updates")?);
    let along = axis(op.int_or("axis", 0)?, rank(&data)?)? as usize;
    let (reduction, updates) = mode(op, onnx, updates)?;
    let columns = onnx.unsqueeze(&indices, &[-1]);
    if along == 0 {
        return Ok(vec![onnx.scatter_nd(&data, &columns, &updates, reduction)]);
    }
    if rank(&indices)? != 1 {
        return Err("indices must be a list where axis is not 0".into());
    }
    let perm = to_front(along, rank(&data)?);
    let (turned, updates) = (onnx.transpose(&data, &perm), onnx.transpose(&updates, &perm));
    let placed = onnx.scatter_nd(&turned, &columns, &updates, reduction);
    Ok(vec![onnx.transpose(&placed, &inverse(&perm))])
}

fn scatter_along_axis(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (data, indices, updates) = (op.value("data")?, indices(op, onnx)?, op.value("updates")?);
    let along = axis(op.int_or("axis", 0)?, rank(&data)?)?;
    let (reduction, updates) = mode(op, onnx, updates)?;
    Ok(vec![onnx.scatter_elements(&data, &indices, &updates, along, reduction)])
}

fn scatter_nd(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (data, indices, updates) = (op.value("data")?, indices(op, onnx)?, op.value("updates")?);
    let (reduction, updates) = mode(op, onnx, updates)?;
    Ok(vec![onnx.scatter_nd(&data, &indices, &updates, reduction)])
}
