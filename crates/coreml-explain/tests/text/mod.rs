//! Models written as text, for tests: a line for each input, constant and operation.
//!
//! ```text
//! x: fp16[1,3,8,8]                                        an input; `1..9` is a range, `1,8|1,16` are enumerated shapes
//! w = fp16[8,3,3,3]                                       a constant of zeros
//! y = conv x=x weight=w strides=2,2 -> fp16[1,8,3,3]      an operation; numbers and types (zeros) are constants in place
//! ```

use std::{collections::BTreeMap, path::PathBuf};

use coreml_format::{
    DType, Model, ModelKind, Tensor,
    mil::{Argument, Block, Dim, Function, Named, Op, Opset, Program, TensorType, Type, Value},
    schema::{ArrayKind, ArrayType, Feature, FeatureKind, Interface, Schema, ShapeFlexibility, SizeRange},
};

pub(crate) fn model(text: &str) -> Model {
    let mut interface = Interface::default();
    let (mut inputs, mut ops) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((name, ty)) = line.split_once(": ") {
            interface.inputs.push(feature(name, ty));
            inputs.push(Named { name: name.to_owned(), ty: ty_of(ty) });
        } else {
            let (name, what) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            ops.push(match what.split_once(" -> ") {
                Some((call, ty)) => {
                    // The last one is the model's output.
                    interface.outputs = vec![feature(name, &ty.split(' ').next().unwrap().replace('?', "1"))];
                    operation(name, call, ty)
                }
                None => constant(name, what),
            });
        }
    }
    let outputs = ops.last().map(|op: &Op| op.name.clone()).into_iter().collect();
    let block = Block { ops, outputs, ..Block::default() };
    let function = Function { inputs, opset: Opset::IOS18, block };
    let schema = Schema { interface, default_function: "main".to_owned(), ..Schema::default() };
    let kind = ModelKind::Program(Program { functions: [("main".to_owned(), function)].into() });
    Model { path: PathBuf::new(), spec_version: 6, schema, kind }
}

/// `fp16[1,3,8,8]`: the type and what stands in brackets.
fn split(ty: &str) -> (DType, &str) {
    let (dtype, dims) = ty.strip_suffix(']').and_then(|ty| ty.split_once('[')).unwrap_or_else(|| panic!("{ty}"));
    (DType::from_name(dtype).unwrap_or_else(|| panic!("{ty}")), dims)
}

fn ty_of(ty: &str) -> Type {
    let (dtype, dims) = split(ty);
    // The sizes that enumerated shapes have in common are fixed.
    let shapes: Vec<Vec<&str>> =
        dims.split('|').map(|dims| dims.split(',').filter(|d| !d.is_empty()).collect()).collect();
    let dim = |axis: usize| match shapes[0][axis].parse() {
        Ok(size) if shapes.iter().all(|shape| shape[axis] == shapes[0][axis]) => Dim::Fixed(size),
        _ => Dim::Unknown,
    };
    Type::Tensor(TensorType { dtype, dims: Some((0..shapes[0].len()).map(dim).collect()) })
}

fn feature(name: &str, ty: &str) -> Feature {
    let (dtype, dims) = split(ty);
    let range = |dim: &str| match dim.split_once("..") {
        Some((lower, upper)) => SizeRange { lower: lower.parse().unwrap(), upper: upper.parse().ok() },
        None => SizeRange { lower: dim.parse().unwrap(), upper: dim.parse().ok() },
    };
    let shapes: Vec<Vec<SizeRange>> = dims.split('|').map(|dims| dims.split(',').map(range).collect()).collect();
    let sizes = |shape: &Vec<SizeRange>| shape.iter().map(|range| range.lower).collect::<Vec<_>>();
    let flexibility = match &shapes[..] {
        [shape] if shape.iter().all(|range| range.upper == Some(range.lower)) => ShapeFlexibility::Fixed,
        [shape] => ShapeFlexibility::Ranges(shape.clone()),
        several => ShapeFlexibility::Enumerated(several.iter().map(sizes).collect()),
    };
    let array = ArrayKind {
        dtype: if dtype == DType::Int32 { ArrayType::Int32 } else { ArrayType::Float16 },
        shape: sizes(&shapes[0]),
        flexibility,
        default: None,
    };
    Feature { name: name.to_owned(), description: String::new(), kind: FeatureKind::MultiArray(array), optional: false }
}

fn zeros(ty: &str) -> Tensor {
    let ty = ty_of(ty);
    let tensor = ty.as_tensor().unwrap();
    let shape = tensor.fixed().unwrap();
    let bytes = tensor.dtype.bytes(shape.iter().product()).unwrap();
    // Zeros that nobody looks at take no memory.
    Tensor::new(tensor.dtype, shape, vec![0; bytes].into()).unwrap()
}

fn constant(name: &str, ty: &str) -> Op {
    let attributes = [("val".to_owned(), Value::Tensor(zeros(ty)))].into();
    let outputs = vec![Named { name: name.to_owned(), ty: ty_of(ty) }];
    let (kind, name) = ("const".to_owned(), name.to_owned());
    Op { kind, name, inputs: BTreeMap::new(), outputs, blocks: Vec::new(), attributes }
}

fn operation(name: &str, call: &str, types: &str) -> Op {
    let mut words = call.split(' ');
    let kind = words.next().unwrap().to_owned();
    let mut inputs: BTreeMap<String, Vec<Argument>> = BTreeMap::new();
    for word in words {
        let (parameter, value) = word.split_once('=').unwrap_or_else(|| panic!("{call}"));
        inputs.entry(parameter.to_owned()).or_default().push(argument(value));
    }
    let outputs = types.split(' ').enumerate().map(|(place, ty)| {
        let name = if place == 0 { name.to_owned() } else { format!("{name}.{place}") };
        Named { name, ty: ty_of(ty) }
    });
    let (name, outputs) = (name.to_owned(), outputs.collect());
    Op { kind, name, inputs, outputs, blocks: Vec::new(), attributes: BTreeMap::new() }
}

/// A name, a type, a 'word', numbers that are whole (`2,2`; `2` alone is a scalar), or one that is not (`-1e9`, `0.5`).
fn argument(word: &str) -> Argument {
    let numbers: Result<Vec<i32>, _> = word.split(',').map(str::parse).collect();
    let tensor = if let Ok(numbers) = numbers {
        let shape = if numbers.len() == 1 && !word.ends_with(',') { Vec::new() } else { vec![numbers.len()] };
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        Tensor::new(DType::Int32, shape, bytes.into())
    } else if let Ok(number) = word.parse::<f32>() {
        Tensor::new(DType::Float32, Vec::new(), number.to_le_bytes().to_vec().into())
    } else if let Some(text) = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
        Tensor::strings(Vec::new(), vec![text.to_owned()])
    } else if word.ends_with(']') {
        Some(zeros(word))
    } else {
        return Argument::Name(word.to_owned());
    };
    Argument::Value(Value::Tensor(tensor.unwrap()))
}
