//! Every program of the op fixtures, written as text and read again.

use std::{fmt::Write, fs, path::Path};

use super::*;
use crate::{Model, ModelKind};

#[test]
fn programs_come_back_as_they_were() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/ops");
    let (mut same, mut blocks, mut packed) = (0, 0, 0);
    for case in fs::read_dir(ops).unwrap().filter_map(|op| fs::read_dir(op.unwrap().path()).ok()).flatten() {
        let path = case.unwrap().path().join("model.mlpackage");
        let ModelKind::Program(program) = Model::open(&path).unwrap().kind else { continue };
        match written(&program) {
            Ok(text) => {
                let mut weights = WeightFiles::new("none".into(), "none".into());
                let again = read(&text, &mut weights).unwrap_or_else(|why| panic!("{}: {why}\n{text}", path.display()));
                assert_eq!(format!("{:?}", again.functions), format!("{:?}", program.functions), "{}", path.display());
                same += 1;
            }
            Err(Unwritten::Blocks) => blocks += 1,
            Err(Unwritten::Packed) => packed += 1,
        }
    }
    assert!(same > 700 && same > 10 * (blocks + packed), "{same} came back, {blocks} have blocks, {packed} are packed");
}

/// What the text does not hold.
enum Unwritten {
    Blocks,
    /// Elements of less than a byte, or of a type without a written form.
    Packed,
}

fn written(program: &Program) -> Result<String, Unwritten> {
    let mut text = "program(1.3)\n[buildInfo = dict<string, string>({{\"a\", \"b\"}})]\n{\n".to_owned();
    for (name, function) in &program.functions {
        let inputs: Vec<String> = function.inputs.iter().map(|input| format!("{} {}", input.ty, input.name)).collect();
        writeln!(text, "func {name}<{}>({}) {{", function.opset, inputs.join(", ")).unwrap();
        for op in &function.block.ops {
            if !op.blocks.is_empty() {
                return Err(Unwritten::Blocks);
            }
            let outputs: Vec<String> =
                op.outputs.iter().map(|output| format!("{} {}", output.ty, output.name)).collect();
            let gives = if outputs.is_empty() { String::new() } else { format!("{} = ", outputs.join(", ")) };
            let inputs: Result<Vec<String>, Unwritten> = op.inputs.iter().map(operand).collect();
            let mut attributes = vec![format!("name = string({:?})", op.name)];
            for (name, value) in &op.attributes {
                attributes.push(format!("{name} = {}", typed(value)?));
            }
            let (inputs, attributes) = (inputs?.join(", "), attributes.join(", "));
            writeln!(text, "{gives}{}({inputs})[{attributes}];", op.kind).unwrap();
        }
        writeln!(text, "}} -> ({});", function.block.outputs.join(", ")).unwrap();
    }
    Ok(text + "}\n")
}

fn operand((parameter, arguments): (&String, &Vec<Argument>)) -> Result<String, Unwritten> {
    let written = |argument: &Argument| match argument {
        Argument::Name(name) => Ok(name.clone()),
        Argument::Value(value) => typed(value),
    };
    let arguments: Vec<String> = arguments.iter().map(written).collect::<Result<_, Unwritten>>()?;
    Ok(match &arguments[..] {
        [one] => format!("{parameter} = {one}"),
        several => format!("{parameter} = ({})", several.join(", ")),
    })
}

/// A value after its type.
fn typed(value: &Value) -> Result<String, Unwritten> {
    Ok(format!("{}({})", type_of(value), bare(value)?))
}

fn type_of(value: &Value) -> String {
    let all = |values: &[Value]| values.iter().map(type_of).collect::<Vec<_>>().join(", ");
    match value {
        Value::Tensor(tensor) => format!("tensor<{}, {:?}>", tensor.dtype(), tensor.shape()),
        Value::List(items) => format!("list<{}, {}>", type_of(&items[0]), items.len()),
        Value::Tuple(items) => format!("tuple<{}>", all(items)),
        Value::Dictionary(pairs) => format!("dict<{}, {}>", type_of(&pairs[0].0), type_of(&pairs[0].1)),
    }
}

fn bare(value: &Value) -> Result<String, Unwritten> {
    let all = |values: &[Value]| -> Result<String, Unwritten> {
        Ok(values.iter().map(bare).collect::<Result<Vec<_>, _>>()?.join(", "))
    };
    Ok(match value {
        Value::Tensor(tensor) => elements(tensor)?,
        Value::List(items) => format!("[{}]", all(items)?),
        Value::Tuple(items) => format!("({})", all(items)?),
        Value::Dictionary(pairs) => {
            let pair = |(key, value): &(Value, Value)| Ok(format!("{{{}, {}}}", bare(key)?, bare(value)?));
            format!("{{{}}}", pairs.iter().map(pair).collect::<Result<Vec<_>, Unwritten>>()?.join(", "))
        }
    })
}

fn elements(tensor: &Tensor) -> Result<String, Unwritten> {
    macro_rules! numbers {
        ($type:ty) => {
            tensor
                .bytes()
                .chunks_exact(size_of::<$type>())
                .map(|b| <$type>::from_le_bytes(b.try_into().unwrap()))
                .map(|v| v.to_string())
                .collect()
        };
    }
    let words: Vec<String> = match tensor.dtype() {
        DType::String => tensor.as_strings().unwrap_or_default().iter().map(|text| format!("{text:?}")).collect(),
        DType::Bool => tensor.bytes().iter().map(|&b| (b != 0).to_string()).collect(),
        DType::Float16 => tensor.bytes().as_chunks::<2>().0.iter().map(|&b| half(u16::from_le_bytes(b))).collect(),
        DType::Float32 => numbers!(f32),
        DType::Int8 => numbers!(i8),
        DType::Int16 => numbers!(i16),
        DType::Int32 => numbers!(i32),
        DType::UInt8 => numbers!(u8),
        DType::UInt16 => numbers!(u16),
        DType::UInt32 => numbers!(u32),
        DType::UInt64 => numbers!(u64),
        _ => return Err(Unwritten::Packed),
    };
    Ok(if tensor.shape().is_empty() { words.join("") } else { format!("[{}]", words.join(", ")) })
}

/// fp16 as a hexadecimal number, as Apple's compiler writes it.
fn half(bits: u16) -> String {
    let (sign, exponent, fraction) = (if bits >> 15 == 1 { "-" } else { "" }, (bits >> 10) & 31, bits & 1023);
    match (exponent, fraction) {
        (31, 0) => format!("{sign}inf"),
        (31, _) => format!("{sign}nan"),
        (0, _) => format!("{sign}0x{fraction:x}p-24"),
        _ => format!("{sign}0x1.{:03x}p{}", fraction << 2, i32::from(exponent) - 15),
    }
}
