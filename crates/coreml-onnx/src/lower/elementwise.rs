//! Element-wise arithmetic, comparison and logic.

use coreml_format::DType;

use super::{Lowering, OpReader, Results};
use crate::onnx::{Element, OnnxBuilder, Source, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "abs", run: |op, onnx| unary(op, onnx, "Abs") },
    Lowering { mil: "acos", run: |op, onnx| unary(op, onnx, "Acos") },
    Lowering { mil: "add", run: |op, onnx| arithmetic(op, onnx, "Add") },
    Lowering { mil: "asin", run: |op, onnx| unary(op, onnx, "Asin") },
    Lowering { mil: "atan", run: |op, onnx| unary(op, onnx, "Atan") },
    Lowering { mil: "atanh", run: |op, onnx| unary(op, onnx, "Atanh") },
    Lowering { mil: "cast", run: cast },
    Lowering { mil: "ceil", run: |op, onnx| rounding(op, onnx, "Ceil") },
    Lowering { mil: "clip", run: clip },
    Lowering { mil: "cos", run: |op, onnx| unary(op, onnx, "Cos") },
    Lowering { mil: "cosh", run: |op, onnx| unary(op, onnx, "Cosh") },
    Lowering { mil: "equal", run: |op, onnx| compare(op, onnx, "Equal") },
    Lowering { mil: "erf", run: |op, onnx| unary(op, onnx, "Erf") },
    Lowering { mil: "exp", run: |op, onnx| unary(op, onnx, "Exp") },
    Lowering { mil: "exp2", run: exp2 },
    Lowering { mil: "floor", run: |op, onnx| rounding(op, onnx, "Floor") },
    Lowering { mil: "floor_div", run: floor_div },
    Lowering { mil: "greater", run: |op, onnx| compare(op, onnx, "Greater") },
    Lowering { mil: "greater_equal", run: |op, onnx| compare(op, onnx, "GreaterOrEqual") },
    Lowering { mil: "inverse", run: inverse },
    Lowering { mil: "less", run: |op, onnx| compare(op, onnx, "Less") },
    Lowering { mil: "less_equal", run: |op, onnx| compare(op, onnx, "LessOrEqual") },
    Lowering { mil: "log", run: log },
    Lowering { mil: "logical_and", run: |op, onnx| logic(op, onnx, "And") },
    Lowering { mil: "logical_not", run: logical_not },
    Lowering { mil: "logical_or", run: |op, onnx| logic(op, onnx, "Or") },
    Lowering { mil: "logical_xor", run: |op, onnx| logic(op, onnx, "Xor") },
    Lowering { mil: "maximum", run: |op, onnx| arithmetic(op, onnx, "Max") },
    Lowering { mil: "minimum", run: |op, onnx| arithmetic(op, onnx, "Min") },
    Lowering { mil: "mod", run: modulo },
    Lowering { mil: "mul", run: |op, onnx| arithmetic(op, onnx, "Mul") },
    Lowering { mil: "not_equal", run: not_equal },
    Lowering { mil: "pow", run: |op, onnx| arithmetic(op, onnx, "Pow") },
    Lowering { mil: "real_div", run: real_div },
    Lowering { mil: "round", run: |op, onnx| rounding(op, onnx, "Round") },
    Lowering { mil: "rsqrt", run: rsqrt },
    Lowering { mil: "select", run: select },
    Lowering { mil: "sign", run: sign },
    Lowering { mil: "sin", run: |op, onnx| unary(op, onnx, "Sin") },
    Lowering { mil: "sinh", run: |op, onnx| unary(op, onnx, "Sinh") },
    Lowering { mil: "sqrt", run: |op, onnx| unary(op, onnx, "Sqrt") },
    Lowering { mil: "square", run: square },
    Lowering { mil: "sub", run: |op, onnx| arithmetic(op, onnx, "Sub") },
    Lowering { mil: "tan", run: |op, onnx| unary(op, onnx, "Tan") },
    Lowering { mil: "tanh", run: |op, onnx| unary(op, onnx, "Tanh") },
    Lowering { mil: "threshold", run: threshold },
];

fn unary(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.unary(onnx_op, &x)])
}

/// Rounding leaves integers alone, which ONNX's operators do not take.
fn rounding(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let x = op.value("x")?;
    Ok(vec![if x.element() == Element::F32 { onnx.unary(onnx_op, &x) } else { x }])
}

fn arithmetic(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    Ok(vec![onnx.binary(onnx_op, &x, &y)])
}

fn compare(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    Ok(vec![onnx.compare(onnx_op, &x, &y)])
}

fn not_equal(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    Ok(vec![onnx.not_equal(&x, &y)])
}

fn logic(op: &OpReader<'_>, onnx: &mut OnnxBuilder, onnx_op: &'static str) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    Ok(vec![onnx.logic(onnx_op, &x, &y)])
}

fn logical_not(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.not(&x)])
}

fn cast(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, dtype) = (op.value("x")?, op.string("dtype")?);
    let to = DType::from_name(&dtype).ok_or_else(|| format!("dtype {dtype:?} is not known"))?;
    let carrier = Element::carrier(to).ok_or_else(|| format!("a cast to {dtype} has no meaning"))?;
    // Narrow integers are carried as int32, so a cast to one must narrow and widen again.
    let narrow = match to {
        DType::Int8 => Element::I8,
        DType::UInt8 => Element::U8,
        DType::Int16 | DType::UInt16 if onnx.is_plain() => {
            let whole = onnx.cast(&x, Element::I32);
            return Ok(vec![wrapped(onnx, &whole, if to == DType::Int16 { 1 << 15 } else { 0 })]);
        }
        DType::Int16 => Element::I16,
        DType::UInt16 => Element::U16,
        _ => carrier,
    };
    let narrowed = onnx.cast(&x, narrow);
    let wide = onnx.cast(&narrowed, carrier);
    Ok(vec![if to == DType::Float16 { onnx.round_half(&wide.with_half(x.is_half())) } else { wide }])
}

/// The last 16 bits of an int32, as numbers from `-below`.
fn wrapped(onnx: &mut OnnxBuilder, x: &Value, below: i64) -> Value {
    let shift = onnx.made(Element::I32, Source::ints(vec![], &[below]));
    let span = onnx.made(Element::I32, Source::ints(vec![], &[1 << 16]));
    let rest = onnx.modulo(x, &span);
    let raised = onnx.binary("Add", &rest, &shift);
    let rest = onnx.modulo(&raised, &span);
    onnx.binary("Sub", &rest, &shift)
}

fn clip(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, low, high) = (op.value("x")?, op.float("alpha")?, op.float("beta")?);
    Ok(vec![onnx.clip(&x, low, high)])
}

fn exp2(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.exp2(&x)])
}

fn floor_div(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    Ok(vec![onnx.floor_div(&x, &y)])
}

fn modulo(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    Ok(vec![onnx.floor_mod(&x, &y)])
}

fn real_div(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, y) = (op.value("x")?, op.value("y")?);
    let to = op.output_element(0)?;
    let (x, y) = (onnx.cast(&x, Element::F32), onnx.cast(&y, Element::F32));
    let quotient = if to == Element::F32 { onnx.binary("Div", &x, &y) } else { onnx.quotient(&x, &y) };
    Ok(vec![onnx.cast(&quotient, to)])
}

/// Defaults of epsilon: coremltools 9.0, `defs/iOS15/elementwise_unary.py`.
fn inverse(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, epsilon) = (op.value("x")?, op.float_or("epsilon", 1e-4)?);
    Ok(vec![onnx.inverse(&x, epsilon)])
}

fn log(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, epsilon) = (op.value("x")?, op.float_or("epsilon", 1e-45)?);
    Ok(vec![onnx.log(&x, epsilon)])
}

fn rsqrt(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, epsilon) = (op.value("x")?, op.float_or("epsilon", 1e-12)?);
    Ok(vec![onnx.rsqrt(&x, epsilon)])
}

/// An epsilon below half of fp32's smallest step at 1 changes only values that are tiny themselves.
fn select(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (condition, a, b) = (op.value("cond")?, op.value("a")?, op.value("b")?);
    Ok(vec![onnx.select(&condition, &a, &b)])
}

fn sign(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.sign(&x)])
}

fn square(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let x = op.value("x")?;
    Ok(vec![onnx.binary("Mul", &x, &x)])
}

fn threshold(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (x, alpha) = (op.value("x")?, op.float("alpha")?);
    let limit = onnx.scalar(alpha, &x);
    Ok(vec![onnx.binary("Max", &x, &limit)])
}
