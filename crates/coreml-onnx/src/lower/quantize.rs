//! Quantisation of activations.

use super::{Fault, Lowering, OpReader, Results, axis};
use crate::onnx::{Element, OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] =
    &[Lowering { mil: "dequantize", run: dequantize }, Lowering { mil: "quantize", run: quantize }];

/// `clip(round(input / scale) + zero_point)` to the range of `output_dtype`.
fn quantize(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let input = op.value("input")?;
    let (low, high) = match op.string("output_dtype")?.as_str() {
        "int8" => (-128.0, 127.0),
        "uint8" => (0.0, 255.0),
        other => return Err(format!("output_dtype {other:?} is not known, expected int8 or uint8").into()),
    };
    let (scale, zero) = parameters(op, onnx, &input)?;
    let scaled = onnx.quotient(&input, &scale);
    let mut whole = onnx.unary("Round", &scaled);
    if let Some(zero) = zero {
        whole = onnx.binary("Add", &whole, &zero);
    }
    let clipped = onnx.clip(&whole, low, high);
    Ok(vec![onnx.cast(&clipped, Element::I32)])
}

/// `(input - zero_point) * scale`.
fn dequantize(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let input = op.value("input")?;
    let (scale, zero) = parameters(op, onnx, &input)?;
    let mut wide = onnx.cast(&input, Element::F32);
    if let Some(zero) = zero {
        wide = onnx.binary("Sub", &wide, &zero);
    }
    Ok(vec![onnx.binary("Mul", &wide, &scale)])
}

/// Scale and zero point: scalars, or one a slice along `axis`.
fn parameters(op: &OpReader<'_>, onnx: &mut OnnxBuilder, input: &Value) -> Result<(Value, Option<Value>), Fault> {
    let (scale, zero, along) = (op.floats("scale")?, op.maybe_source("zero_point")?, op.maybe_ints("axis")?);
    let rank = input.dims().ok_or("the rank of input must be known")?.len();
    let along = along.and_then(|axes| axes.first().copied()).map(|one| axis(one, rank)).transpose()?;
    let spread = |onnx: &mut OnnxBuilder, values: Vec<f32>| {
        let mut shape = vec![1; rank];
        if let Some(along) = along {
            shape[along as usize] = values.len();
        }
        let fits = values.len() == shape.iter().product::<usize>();
        fits.then(|| onnx.floats(&shape, values)).ok_or(Fault::from("scale and zero_point need an axis"))
    };
    let scale = spread(onnx, scale)?;
    Ok((scale, zero.map(|zero| spread(onnx, zero.f32s())).transpose()?))
}
