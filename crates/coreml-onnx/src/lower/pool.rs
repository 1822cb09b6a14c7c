//! Poolings.

use super::{
    Lowering, OpReader, Results,
    window::{Rounding, check_output, spatial, window},
};
use crate::onnx::{OnnxBuilder, Value, Window};

pub(super) const OPS: &[Lowering] =
    &[Lowering { mil: "avg_pool", run: avg_pool }, Lowering { mil: "max_pool", run: max_pool }];

fn avg_pool(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let exclude = op.bool_or("exclude_padding_from_average", false)?;
    let (x, window, rounding) = pooling(op)?;
    Ok(vec![onnx.average_pool(&x, &window, rounding == Rounding::Ceil, !exclude)])
}

fn max_pool(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, window, rounding) = pooling(op)?;
    Ok(vec![onnx.max_pool(&x, &window, rounding == Rounding::Ceil)])
}

fn pooling(op: &OpReader<'_>) -> Result<(Value, Window, Rounding), super::Fault> {
    let (x, kernel) = (op.value("x")?, op.ints("kernel_sizes")?);
    let rounding = if op.bool_or("ceil_mode", false)? { Rounding::Ceil } else { Rounding::Floor };
    let spatial = spatial(&x)?;
    let window = window(op, &spatial, kernel)?;
    check_output(op, &spatial, &window, rounding)?;
    Ok((x, window, rounding))
}
