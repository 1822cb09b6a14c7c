//! Element by element: functions of one operand, sums and products, comparisons.

use coreml_format::{
    mil::Dim,
    nn::{Elementwise, Operation, UnaryFunction, UnaryOperation, Weight},
};

use super::{
    blob::{Blob, broadcast, show},
    reader::LayerReader,
};
use crate::{
    lower::Fault,
    onnx::{Element, OnnxBuilder, Value},
};

/// The sum or product of all inputs; that of the input and `alpha` where there is one only.
pub(super) fn fold(
    layer: &LayerReader<'_>,
    op_type: &'static str,
    alpha: f32,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    match layer.inputs() {
        [x] => Ok(x.same(onnx.with_scalar(op_type, x.value(), alpha))),
        _ => fold_all(layer, op_type, onnx),
    }
}

/// `op_type` of all inputs.
pub(super) fn fold_all(layer: &LayerReader<'_>, op_type: &'static str, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    match layer.inputs() {
        [] => Err("it has no input".into()),
        [first, rest @ ..] => rest.iter().try_fold(first.clone(), |sum, x| sum.broadcast(op_type, x, onnx)),
    }
}

pub(super) fn average(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let sum = fold_all(layer, "Add", onnx)?;
    Ok(sum.same(onnx.with_scalar("Div", sum.value(), layer.inputs().len() as f32)))
}

/// An operation on two inputs; a comparison may have one, and compares it with `alpha`.
pub(super) fn operation(
    layer: &LayerReader<'_>,
    operation: Operation,
    alpha: f32,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    use Operation as Op;
    let compares = matches!(
        operation,
        Op::Equal | Op::NotEqual | Op::LessThan | Op::LessEqual | Op::GreaterThan | Op::GreaterEqual
    );
    let ([x], more) = layer.first_of(1)?;
    let y = match more {
        [y] => y.clone(),
        _ if compares => Blob::exact(onnx.floats(&[1], vec![alpha]), vec![Dim::Fixed(1)]),
        _ => return Err("expected two inputs, and it has 1".into()),
    };
    x.joined(&y, |x, y| {
        let truth = match operation {
            Op::Add => return onnx.binary("Add", x, y),
            Op::Subtract => return onnx.binary("Sub", x, y),
            Op::Multiply => return onnx.binary("Mul", x, y),
            Op::Divide => return onnx.binary("Div", x, y),
            Op::FloorDiv => return onnx.floor_div(x, y),
            Op::Mod => return onnx.floor_mod(x, y),
            Op::Pow => return onnx.binary("Pow", x, y),
            Op::Min => return onnx.binary("Min", x, y),
            Op::Max => return onnx.binary("Max", x, y),
            Op::Equal => onnx.compare("Equal", x, y),
            Op::NotEqual => onnx.not_equal(x, y),
            Op::LessThan => onnx.compare("Less", x, y),
            Op::LessEqual => onnx.compare("LessOrEqual", x, y),
            Op::GreaterThan => onnx.compare("Greater", x, y),
            Op::GreaterEqual => onnx.compare("GreaterOrEqual", x, y),
            Op::LogicalAnd => onnx.logic("And", x, y),
            Op::LogicalOr => onnx.logic("Or", x, y),
            Op::LogicalXor => onnx.logic("Xor", x, y),
        };
        // Networks compute with floats alone.
        onnx.cast(&truth, Element::F32)
    })
}

/// The second input where the first one is not 0, otherwise the third.
pub(super) fn where_broadcastable(layer: &LayerReader<'_>, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let ([condition, x, y], _) = layer.first_of(0)?;
    let dims = broadcast(&broadcast(condition.dims(), x.dims())?, y.dims())?;
    let widest = [condition, x, y].into_iter().max_by_key(|blob| blob.rank()).expect("there are three");
    let chosen = onnx.select(condition.value(), x.value(), y.value());
    // The widest one says whether a first dimension is left out.
    Ok(if widest.rank() > dims.len() { widest.with(chosen, dims) } else { Blob::exact(chosen, dims) })
}

/// The layer `unary`: a function of `scale * x + shift`.
pub(super) fn unary(layer: &LayerReader<'_>, params: &UnaryFunction, onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let mut x = blob.value().clone();
    if params.scale != 1.0 {
        x = onnx.with_scalar("Mul", &x, params.scale);
    }
    if params.shift != 0.0 {
        x = onnx.with_scalar("Add", &x, params.shift);
    }
    Ok(blob.same(match params.operation {
        UnaryOperation::Sqrt => onnx.unary("Sqrt", &x),
        UnaryOperation::Rsqrt => onnx.rsqrt(&x, params.epsilon),
        UnaryOperation::Inverse => onnx.inverse(&x, params.epsilon),
        UnaryOperation::Power => onnx.with_scalar("Pow", &x, params.alpha),
        UnaryOperation::Exp => onnx.unary("Exp", &x),
        UnaryOperation::Log => onnx.log(&x, params.epsilon),
        UnaryOperation::Abs => onnx.unary("Abs", &x),
        UnaryOperation::Threshold => onnx.with_scalar("Max", &x, params.alpha),
    }))
}

pub(super) fn elementwise(
    layer: &LayerReader<'_>,
    function: Elementwise,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let blob = layer.input()?;
    let x = blob.value();
    Ok(blob.same(match function {
        Elementwise::Ceil => onnx.unary("Ceil", x),
        Elementwise::Floor => onnx.unary("Floor", x),
        Elementwise::Sign => onnx.sign(x),
        Elementwise::Round => onnx.unary("Round", x),
        Elementwise::Exp2 => onnx.exp2(x),
        Elementwise::Sin => onnx.unary("Sin", x),
        Elementwise::Cos => onnx.unary("Cos", x),
        Elementwise::Tan => onnx.unary("Tan", x),
        Elementwise::Asin => onnx.unary("Asin", x),
        Elementwise::Acos => onnx.unary("Acos", x),
        Elementwise::Atan => onnx.unary("Atan", x),
        Elementwise::Sinh => onnx.unary("Sinh", x),
        Elementwise::Cosh => onnx.unary("Cosh", x),
        Elementwise::Tanh => onnx.unary("Tanh", x),
        Elementwise::Asinh => onnx.unary("Asinh", x),
        Elementwise::Acosh => onnx.unary("Acosh", x),
        Elementwise::Atanh => onnx.unary("Atanh", x),
        Elementwise::Erf => onnx.unary("Erf", x),
        Elementwise::LogicalNot => {
            let opposite = onnx.not(x);
            onnx.cast(&opposite, Element::F32)
        }
    }))
}

pub(super) fn clip(layer: &LayerReader<'_>, [low, high]: [f32; 2], onnx: &mut OnnxBuilder) -> Result<Blob, Fault> {
    let x = layer.input()?;
    Ok(x.same(onnx.clip(x.value(), low, high)))
}

/// `x * scale + bias`, each with its shape: `[1]`, `[C]`, `[1, H, W]` or `[C, H, W]`.
pub(super) fn scale(
    layer: &LayerReader<'_>,
    scale: (&[u64], &Weight),
    bias: Option<(&[u64], &Weight)>,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let scale = last_three(layer, "scale", scale, x, onnx)?;
    let scaled = onnx.binary("Mul", x.value(), &scale);
    Ok(x.same(match bias {
        Some(bias) => {
            let bias = last_three(layer, "bias", bias, x, onnx)?;
            onnx.binary("Add", &scaled, &bias)
        }
        None => scaled,
    }))
}

/// `x + bias`, with a shape as [`scale`] has.
pub(super) fn bias(
    layer: &LayerReader<'_>,
    shape: &[u64],
    bias: &Weight,
    onnx: &mut OnnxBuilder,
) -> Result<Blob, Fault> {
    let x = layer.input()?;
    let bias = last_three(layer, "bias", (shape, bias), x, onnx)?;
    Ok(x.same(onnx.binary("Add", x.value(), &bias)))
}

/// A constant that goes along the last three dimensions of `x` and leaves its shape as it is.
fn last_three(
    layer: &LayerReader<'_>,
    role: &str,
    (shape, weight): (&[u64], &Weight),
    x: &Blob,
    onnx: &mut OnnxBuilder,
) -> Result<Value, Fault> {
    let shape = match shape {
        [1] | [_, _, _] => shape.to_vec(),
        [channels] => vec![*channels, 1, 1],
        other => return Err(format!("{role} has shape {other:?}, expected one or three sizes").into()),
    };
    let value = layer.weight(role, weight, &shape, onnx)?;
    let dims = value.dims().expect("a constant has a shape");
    let fits = |(before, after): (&Dim, &Dim)| before == after || *before == Dim::Unknown;
    match broadcast(x.dims(), dims)? {
        after if after.len() == x.dims().len() && x.dims().iter().zip(&after).all(fits) => Ok(value),
        _ => Err(format!("{role} of shape {} does not fit an input of shape {}", show(dims), show(x.dims())).into()),
    }
}
