//! Poolings.

use super::{
    Lowering, OpReader, Results,
    window::{Rounding, check_output, spatial, window},
};
use crate::onnx::{OnnxBuilder, Value, Window};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "avg_pool", run: avg_pool },
    Lowering { mil: "l2_pool", run: l2_pool },
    Lowering { mil: "max_pool", run: max_pool },
];

fn avg_pool(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let exclude = op.bool_or("exclude_padding_from_average", false)?;
    let (x, window, rounding) = pooling(op)?;
    Ok(vec![onnx.average_pool(&x, &window, rounding == Rounding::Ceil, !exclude)])
}

/// The root of a window's sum of squares, as an average in which padding counts, times the size of the window.
fn l2_pool(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, window, rounding) = pooling(op)?;
    let squares = onnx.binary("Mul", &x, &x);
    let squares = squares.with_dims(x.dims().map(<[_]>::to_vec));
    let mean = onnx.average_pool(&squares, &window, rounding == Rounding::Ceil, true);
    let sum = onnx.with_scalar("Mul", &mean, window.kernel.iter().product::<i64>() as f32);
    Ok(vec![onnx.unary("Sqrt", &sum)])
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
