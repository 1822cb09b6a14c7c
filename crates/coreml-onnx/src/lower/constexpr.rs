//! Compressed weights. Nothing is decompressed here: the results are constants that know how.

use std::sync::Arc;

use coreml_format::{DType, Tensor, mil::Opset};

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{Constexpr, Element, OnnxBuilder, Source, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "constexpr_affine_dequantize", run: constexpr_affine_dequantize },
    Lowering { mil: "constexpr_blockwise_shift_scale", run: constexpr_blockwise_shift_scale },
    Lowering { mil: "constexpr_cast", run: constexpr_cast },
    Lowering { mil: "constexpr_lut_to_dense", run: constexpr_lut_to_dense },
    Lowering { mil: "constexpr_lut_to_sparse", run: constexpr_lut_to_sparse },
    Lowering { mil: "constexpr_sparse_blockwise_shift_scale", run: constexpr_sparse_blockwise_shift_scale },
    Lowering { mil: "constexpr_sparse_to_dense", run: constexpr_sparse_to_dense },
];

/// The constant result, after a check against the declared shape.
fn result(op: &OpReader<'_>, onnx: &mut OnnxBuilder, index: usize, source: Source) -> Result<Value, Fault> {
    let shape = source.shape();
    if let Some(declared) = op.output_shape(index)
        && declared != shape
    {
        return Err(format!("its data gives a weight of shape {shape:?} where {declared:?} is declared").into());
    }
    let name = op.outputs().get(index).map_or("weight", |out| &out.name);
    Ok(onnx.weight(name, op.output_element(index)?, Arc::new(source)))
}

/// `(data - zero_point) * scale`, scalars or one a slice along `axis`.
fn constexpr_affine_dequantize(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (data, zero, scale) = (op.source("quantized_data")?, op.source("zero_point")?, op.source("scale")?);
    let shape = data.shape();
    let along = super::axis(op.int("axis")?, shape.len())? as usize;
    let by_slice = |source: Arc<Source>, parameter: &str| -> Result<Arc<Source>, Fault> {
        let n = source.shape().iter().product::<usize>();
        if n != 1 && n != shape[along] {
            return Err(
                format!("{parameter} has {n} elements, and axis {along} of the data has {}", shape[along]).into()
            );
        }
        let mut spread = vec![1; shape.len()];
        spread[along] = n;
        Ok(Arc::new(Source::Reshaped { source, shape: spread }))
    };
    let (offset, scale) = (by_slice(zero, "zero_point")?, by_slice(scale, "scale")?);
    let dense = Constexpr::ShiftScale { data, scale, offset: Some(offset) };
    Ok(vec![result(op, onnx, 0, Source::Constexpr(dense))?])
}

fn constexpr_blockwise_shift_scale(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (data, scale, offset) = (op.source("data")?, op.source("scale")?, op.maybe_source("offset")?);
    let shape = data.shape();
    blocks(&shape, &scale.shape(), "scale")?;
    if let Some(offset) = &offset {
        blocks(&shape, &offset.shape(), "offset")?;
    }
    Ok(vec![result(op, onnx, 0, Source::Constexpr(Constexpr::ShiftScale { data, scale, offset }))?])
}

/// One entry must serve a whole number of elements in each dimension.
fn blocks(shape: &[usize], entries: &[usize], parameter: &str) -> Result<(), Fault> {
    let fits = shape.len() == entries.len() && shape.iter().zip(entries).all(|(&n, &e)| e > 0 && n % e == 0);
    let scalar = entries.iter().product::<usize>() == 1;
    if fits || scalar {
        Ok(())
    } else {
        Err(format!("{parameter} of shape {entries:?} does not divide data of shape {shape:?} into blocks").into())
    }
}

fn constexpr_cast(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (source, _) = (op.source("source_val")?, op.string("output_dtype")?);
    let name = op.outputs().first().map_or("weight", |out| &out.name);
    Ok(vec![onnx.weight(name, op.output_element(0)?, source)])
}

fn constexpr_lut_to_dense(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (indices, lut) = (op.source("indices")?, op.source("lut")?);
    let (indices, lut, vector_axis) = if op.opset() < Opset::IOS18 {
        // Indices are bytes of packed bits, as many as the table needs; the shape stands beside.
        let shape = sizes(&op.ints("shape")?)?;
        let entries = lut.shape().iter().product::<usize>();
        let indices = packed(&indices, index_type(entries)?, shape)?;
        let mut table = vec![1; indices.shape().len()];
        table.extend([entries, 1]);
        (indices, Arc::new(Source::Reshaped { source: lut, shape: table }), 0)
    } else {
        let vector_axis = vector_axis(op, &indices, &lut)?;
        (indices, lut, vector_axis)
    };
    look_up(&indices.shape(), &lut.shape())?;
    Ok(vec![result(op, onnx, 0, Source::Constexpr(Constexpr::Lut { indices, lut, vector_axis }))?])
}

/// The axis along which vectors of the table lie.
fn vector_axis(op: &OpReader<'_>, indices: &Source, lut: &Source) -> Result<usize, Fault> {
    let given = op.maybe_ints("vector_axis")?;
    let vector = lut.shape().last().copied().unwrap_or(1);
    match given.as_deref() {
        Some([one]) => Ok(super::axis(*one, indices.shape().len())? as usize),
        _ if vector == 1 => Ok(0),
        _ => Err("operand vector_axis is missing".into()),
    }
}

/// A table has the rank of the indices, one entry a block, then palette and vector.
fn look_up(shape: &[usize], lut: &[usize]) -> Result<(), Fault> {
    match lut {
        [entries @ .., palette, vector] if *palette > 0 && *vector > 0 => blocks(shape, entries, "lut"),
        _ => Err(format!("lut has shape {lut:?}, expected two dimensions more than the indices have").into()),
    }
}

fn index_type(entries: usize) -> Result<DType, Fault> {
    match entries {
        2 => Ok(DType::UInt1),
        4 => Ok(DType::UInt2),
        8 => Ok(DType::UInt3),
        16 => Ok(DType::UInt4),
        64 => Ok(DType::UInt6),
        256 => Ok(DType::UInt8),
        _ => Err(format!("lut has {entries} entries, expected 2, 4, 8, 16, 64 or 256").into()),
    }
}

/// Bytes seen as packed elements of `dtype`.
fn packed(source: &Source, dtype: DType, shape: Vec<usize>) -> Result<Arc<Source>, Fault> {
    let bytes = source.stored().ok_or("packed data must be stored as it is")?.bytes();
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("its shape is too large")?;
    let size = dtype.bytes(count).ok_or("its shape is too large")?;
    if bytes.len() < size {
        return Err(format!("a shape of {shape:?} in {dtype} needs {size} bytes, and there are {}", bytes.len()).into());
    }
    let tensor = Tensor::new(dtype, shape, bytes.slice(..size)).ok_or("its shape does not fit its data")?;
    Ok(Arc::new(Source::Stored(tensor)))
}

fn sizes(shape: &[i64]) -> Result<Vec<usize>, Fault> {
    shape.iter().map(|&d| usize::try_from(d).map_err(|_| Fault(format!("shape {shape:?} is not a shape")))).collect()
}

fn constexpr_lut_to_sparse(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (mask, nonzero, lut) = (op.source("indices_mask")?, op.source("indices_nonzero_data")?, op.source("lut")?);
    let vector_axis = vector_axis(op, &mask, &lut)?;
    look_up(&mask.shape(), &lut.shape())?;
    count_bits(&mask, &nonzero)?;
    let vector = lut.shape().last().copied().unwrap_or(1);
    let indices = Arc::new(Source::Constexpr(Constexpr::Dense { nonzero, mask: mask.clone() }));
    let dense = Arc::new(Source::Constexpr(Constexpr::Lut { indices, lut, vector_axis }));
    let mask = if vector == 1 { mask } else { Arc::new(repeated(&mask, vector_axis, vector)) };
    sparse(op, onnx, dense, mask)
}

fn constexpr_sparse_blockwise_shift_scale(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (mask, nonzero) = (op.source("data_mask")?, op.source("nonzero_data")?);
    let (scale, offset) = (op.source("scale")?, op.maybe_source("offset")?);
    blocks(&mask.shape(), &scale.shape(), "scale")?;
    if let Some(offset) = &offset {
        blocks(&mask.shape(), &offset.shape(), "offset")?;
    }
    count_bits(&mask, &nonzero)?;
    let data = Arc::new(Source::Constexpr(Constexpr::Dense { nonzero, mask: mask.clone() }));
    let dense = Arc::new(Source::Constexpr(Constexpr::ShiftScale { data, scale, offset }));
    sparse(op, onnx, dense, mask)
}

/// The two results of a sparse operation: the mask, and the non-zeros in order.
fn sparse(op: &OpReader<'_>, onnx: &mut OnnxBuilder, dense: Arc<Source>, mask: Arc<Source>) -> Results {
    let nonzero = Constexpr::Sparse { dense, mask: mask.clone() };
    let name = op.outputs().first().map_or("mask", |out| &out.name);
    let mask = onnx.weight(name, Element::I32, mask);
    Ok(vec![mask, result(op, onnx, 1, Source::Constexpr(nonzero))?])
}

/// A mask with each bit repeated along an axis.
fn repeated(mask: &Source, axis: usize, times: usize) -> Source {
    let mut shape = mask.shape();
    let inner: usize = shape[axis + 1..].iter().product();
    let bits = mask.i64s();
    shape[axis] *= times;
    let values: Vec<i64> =
        bits.chunks(inner.max(1)).flat_map(|row| std::iter::repeat_n(row, times).flatten().copied()).collect();
    Source::ints(shape, &values)
}

fn constexpr_sparse_to_dense(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (nonzero, mut mask) = (op.source("nonzero_data")?, op.source("mask")?);
    if op.opset() < Opset::IOS18 {
        mask = packed(&mask, DType::UInt1, sizes(&op.ints("shape")?)?)?;
    }
    count_bits(&mask, &nonzero)?;
    Ok(vec![result(op, onnx, 0, Source::Constexpr(Constexpr::Dense { nonzero, mask }))?])
}

fn count_bits(mask: &Source, nonzero: &Source) -> Result<(), Fault> {
    let bits = mask.i64s().into_iter().filter(|&bit| bit != 0).count();
    let values: usize = nonzero.shape().iter().product();
    if bits == values {
        Ok(())
    } else {
        Err(format!("its mask has {bits} bits set, and there are {values} non-zeros").into())
    }
}
