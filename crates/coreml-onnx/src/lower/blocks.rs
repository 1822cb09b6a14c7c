//! Blocks of pixels that become channels or images, and back.

use coreml_format::mil::Dim;

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{OnnxBuilder, PadMode, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "batch_to_space", run: batch_to_space },
    Lowering { mil: "depth_to_space", run: depth_to_space },
    Lowering { mil: "pixel_shuffle", run: pixel_shuffle },
    Lowering { mil: "pixel_unshuffle", run: pixel_unshuffle },
    Lowering { mil: "space_to_batch", run: space_to_batch },
    Lowering { mil: "space_to_depth", run: space_to_depth },
];

fn depth_to_space(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, block) = (op.value("x")?, block(op, "block_size")?);
    Ok(vec![onnx.depth_to_space(&x, block, false)])
}

fn space_to_depth(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, block) = (op.value("x")?, block(op, "block_size")?);
    Ok(vec![into_depth(onnx, &x, block)?])
}

/// The pixels of each block as channels, one pixel's behind the other's.
pub(crate) fn into_depth(onnx: &mut OnnxBuilder, x: &Value, block: i64) -> Result<Value, Fault> {
    if onnx.is_plain() { unshuffled(onnx, x, block, &[0, 3, 5, 1, 2, 4]) } else { Ok(onnx.space_to_depth(x, block)) }
}

fn pixel_shuffle(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, block) = (op.value("x")?, block(op, "upscale_factor")?);
    Ok(vec![onnx.depth_to_space(&x, block, true)])
}

fn pixel_unshuffle(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, block) = (op.value("x")?, block(op, "downscale_factor")?);
    Ok(vec![unshuffled(onnx, &x, block, &[0, 1, 3, 5, 2, 4])?])
}

/// Rows and columns become images: the image of a block's first pixels first (docs of `space_to_batch`).
fn space_to_batch(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, (block, [top, bottom, left, right])) = (op.value("x")?, blocks(op, "paddings")?);
    let mut dims = sized(&x)?;
    let mut padded = x;
    if [top, bottom, left, right] != [0; 4] {
        let pads = onnx.ints(&[0, 0, top, left, 0, 0, bottom, right]);
        padded = onnx.pad(&padded, &pads, PadMode::Constant, None);
    }
    for (dim, more) in dims[2..].iter_mut().zip([top + bottom, left + right]) {
        if let Dim::Fixed(size) = dim {
            *size += more as usize;
        }
    }
    let split = split_spatial(onnx, &padded, dims, block)?;
    let turned = onnx.transpose(&split, &[3, 5, 0, 1, 2, 4]);
    let [_, c, h, w] = dims.map(|d| if let Dim::Fixed(d) = d { d as i64 } else { -1 });
    Ok(vec![onnx.reshape(&turned, &[-1, c, h / block[0], w / block[1]])])
}

fn batch_to_space(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, (block, [top, bottom, left, right])) = (op.value("x")?, blocks(op, "crops")?);
    let [_, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] = sized(&x)? else {
        return Err("all dimensions of x but the batch must be fixed".into());
    };
    let [c, h, w] = [c, h, w].map(|d| d as i64);
    let split = onnx.reshape(&x, &[block[0], block[1], -1, c, h, w]);
    let turned = onnx.transpose(&split, &[2, 3, 4, 0, 5, 1]);
    let (tall, wide) = (h * block[0], w * block[1]);
    let whole = onnx.reshape(&turned, &[-1, c, tall, wide]);
    if tall < top + bottom || wide < left + right {
        return Err(format!("crops take more than the {tall} x {wide} that there are").into());
    }
    Ok(vec![onnx.slice(&whole, &[top, left], &[tall - bottom, wide - right], &[2, 3], &[1, 1])])
}

fn block(op: &OpReader<'_>, parameter: &str) -> Result<i64, Fault> {
    let block = op.int(parameter)?;
    if (1..1 << 16).contains(&block) {
        Ok(block)
    } else {
        Err(format!("{parameter} is {block}, expected at least 1").into())
    }
}

/// Blocks and, for each, what is added or taken away at either end.
fn blocks(op: &OpReader<'_>, edges: &str) -> Result<([i64; 2], [i64; 4]), Fault> {
    let (blocks, edges) = (op.ints("block_shape")?, op.ints(edges)?);
    let sizes = <[i64; 2]>::try_from(blocks).ok().filter(|b| b.iter().all(|b| (1..1 << 16).contains(b)));
    let edges = <[i64; 4]>::try_from(edges).ok().filter(|e| e.iter().all(|e| (0..1 << 31).contains(e)));
    sizes.zip(edges).ok_or_else(|| "block_shape needs two sizes, and each of these two numbers for its ends".into())
}

/// A shape of fixed sizes and products of dimensions of `x`: a `Dim::Unknown` is the one that follows from the others.
fn sized(x: &Value) -> Result<[Dim; 4], Fault> {
    let dims = x.dims().and_then(|dims| <[Dim; 4]>::try_from(dims).ok());
    dims.ok_or_else(|| "x must have rank 4".into())
}

/// Splits `x` of shape (n, c, h, w) as (n, c, h / rows, rows, w / columns, columns). At most the batch may be unknown.
fn split_spatial(onnx: &mut OnnxBuilder, x: &Value, dims: [Dim; 4], [rows, columns]: [i64; 2]) -> Result<Value, Fault> {
    let [n, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] = dims else {
        return Err("all dimensions of x but the batch must be fixed".into());
    };
    let n = if let Dim::Fixed(n) = n { n as i64 } else { -1 };
    let [c, h, w] = [c, h, w].map(|d| d as i64);
    if h % rows != 0 || w % columns != 0 {
        return Err(format!("blocks of {rows} x {columns} do not divide {h} x {w}").into());
    }
    Ok(onnx.reshape(x, &[n, c, h / rows, rows, w / columns, columns]))
}

/// Rows and columns of blocks become channels. `order` is that of (n, c, h / block, block, w / block, block).
fn unshuffled(onnx: &mut OnnxBuilder, x: &Value, block: i64, order: &[i64]) -> Result<Value, Fault> {
    let dims = sized(x)?;
    let split = split_spatial(onnx, x, dims, [block; 2])?;
    let turned = onnx.transpose(&split, order);
    let [n, c, h, w] = dims.map(|d| if let Dim::Fixed(d) = d { d as i64 } else { -1 });
    let deep = c.checked_mul(block * block).ok_or("its channels are too many")?;
    Ok(onnx.reshape(&turned, &[n, deep, h / block, w / block]))
}
