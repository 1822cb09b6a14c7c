//! Reductions.

use super::{Fault, Lowering, OpReader, Results, axes, axis};
use crate::onnx::{Element, OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "reduce_argmax", run: |op, onnx| arg(op, onnx, "ArgMax") },
    Lowering { mil: "reduce_argmin", run: |op, onnx| arg(op, onnx, "ArgMin") },
    Lowering { mil: "reduce_l1_norm", run: |op, onnx| reduce(op, onnx, "ReduceL1") },
    Lowering { mil: "reduce_l2_norm", run: |op, onnx| reduce(op, onnx, "ReduceL2") },
    Lowering { mil: "reduce_log_sum", run: |op, onnx| reduce(op, onnx, "ReduceLogSum") },
    Lowering { mil: "reduce_log_sum_exp", run: |op, onnx| reduce(op, onnx, "ReduceLogSumExp") },
    Lowering { mil: "reduce_max", run: |op, onnx| reduce(op, onnx, "ReduceMax") },
    Lowering { mil: "reduce_mean", run: |op, onnx| reduce(op, onnx, "ReduceMean") },
    Lowering { mil: "reduce_min", run: |op, onnx| reduce(op, onnx, "ReduceMin") },
    Lowering { mil: "reduce_prod", run: |op, onnx| reduce(op, onnx, "ReduceProd") },
    Lowering { mil: "reduce_sum", run: |op, onnx| reduce(op, onnx, "ReduceSum") },
    Lowering { mil: "reduce_sum_square", run: |op, onnx| reduce(op, onnx, "ReduceSumSquare") },
];

fn reduce(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let (x, along, keep) =
        (op.value("x")?, op.maybe_ints("axes")?.unwrap_or_default(), op.bool_or("keep_dims", false)?);
    let along = match x.dims() {
        Some(dims) => axes(&along, dims.len())?,
        None => along,
    };
    Ok(vec![reduced(onnx, onnx_op, &x, &along, keep)])
}

/// A mean over all spatial axes is written as the global pooling that engines are fastest at.
pub(crate) fn reduced(onnx: &mut OnnxBuilder, onnx_op: &'static str, x: &Value, along: &[i64], keep: bool) -> Value {
    let spatial = x.dims().is_some_and(|dims| dims.len() == 4) && {
        let mut sorted = along.to_vec();
        sorted.sort_unstable();
        sorted == [2, 3]
    };
    match onnx_op {
        "ReduceMean" if spatial && x.element() == Element::F32 => {
            let pooled = onnx.unary("GlobalAveragePool", x);
            if keep { pooled } else { onnx.squeeze(&pooled, &[2, 3]) }
        }
        _ => onnx.reduce(onnx_op, x, along, keep),
    }
}

fn arg(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let (x, along, keep) = (op.value("x")?, op.int_or("axis", -1)?, op.bool_or("keep_dims", false)?);
    if let Some(dims) = x.dims() {
        axis(along, dims.len())?;
    }
    if op.maybe_source("output_dtype").is_ok_and(|dtype| dtype.is_some()) {
        return Err(Fault::from("output_dtype must be a string"));
    }
    Ok(vec![onnx.arg(onnx_op, &x, along, keep)])
}
