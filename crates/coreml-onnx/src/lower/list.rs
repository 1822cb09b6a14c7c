//! Lists of tensors of one shape. A list is a tensor with an axis of elements in front.
//!
//! A type has the length that a list begins with, whether or not it grows, so every list may.

use coreml_format::mil::{Dim, TensorType, Type};

use super::{Fault, Lowering, OpReader, Results};
use crate::onnx::{Element, OnnxBuilder, PadMode, Value};

pub(super) const OPS: &[Lowering] = &[
    Lowering { mil: "list_gather", run: list_gather },
    Lowering { mil: "list_length", run: list_length },
    Lowering { mil: "list_read", run: list_read },
    Lowering { mil: "list_scatter", run: list_scatter },
    Lowering { mil: "list_write", run: list_write },
    Lowering { mil: "make_list", run: make_list },
];

/// The tensor that a value of this type is carried as: itself, or all elements of a list.
pub(super) fn carried(ty: &Type) -> Option<TensorType> {
    let Type::List(element, _) = ty else { return ty.as_tensor().cloned() };
    let element = element.as_tensor()?;
    let dims = element.dims.as_ref().map(|dims| [&[Dim::Unknown], &dims[..]].concat());
    Some(TensorType { dtype: element.dtype, dims })
}

/// A list of zeros.
fn make_list(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let length = op.maybe("init_length")?;
    // What a list is made of and whether it grows is in the type of the result.
    op.bool_or("dynamic_length", true)?;
    op.string_or("dtype", "fp32")?;
    op.declared("elem_shape");
    let element = op.output_element(0)?;
    let dims = op.output_dims(0).ok_or("the rank of its elements must be known")?;
    let length = match length {
        Some(length) => {
            let length = onnx.cast(&length, Element::I64);
            onnx.reshape(&length, &[1])
        }
        None => onnx.ints(&[1]),
    };
    // A size that is not known yet is 1, and is made larger by the first write.
    let dims: Vec<i64> = dims.iter().skip(1).map(|dim| if let Dim::Fixed(n) = dim { *n as i64 } else { 1 }).collect();
    let dims = onnx.ints(&dims);
    let shape = onnx.concat(&[length, dims], 0);
    Ok(vec![onnx.constant_of_shape(&shape, 0.0, element)])
}

fn list_length(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let list = op.value("ls")?;
    let (shape, zero) = (onnx.shape(&list), onnx.int(0));
    Ok(vec![onnx.gather(&shape, &zero, 0)])
}

fn list_read(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (list, index) = (op.value("ls")?, op.value("index")?);
    let index = onnx.reshape(&index, &[]);
    Ok(vec![onnx.gather(&list, &index, 0)])
}

fn list_gather(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (list, indices) = (op.value("ls")?, op.value("indices")?);
    Ok(vec![onnx.gather(&list, &indices, 0)])
}

fn list_write(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (list, index, value) = (op.value("ls")?, op.value("index")?, op.value("value")?);
    let index = onnx.reshape(&index, &[1]);
    let value = onnx.unsqueeze(&value, &[0]);
    Ok(vec![placed(onnx, &list, &index, &value)?])
}

fn list_scatter(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (list, indices, value) = (op.value("ls")?, op.value("indices")?, op.value("value")?);
    Ok(vec![placed(onnx, &list, &indices, &value)?])
}

/// The list with `values` at `indices`.
fn placed(onnx: &mut OnnxBuilder, list: &Value, indices: &Value, values: &Value) -> Result<Value, Fault> {
    let [_, dims @ ..] = list.dims().ok_or("the rank of its elements must be known")? else {
        return Err("operand ls must be a list".into());
    };
    let rank = dims.len() + 1;
    let mut list = list.clone();
    if dims.contains(&Dim::Unknown) {
        let shape = onnx.shape(values);
        let element = onnx.slice(&shape, &[1], &[rank as i64], &[0], &[1]);
        let one = onnx.ints(&[1]);
        let shape = onnx.concat(&[one, element], 0);
        list = onnx.expand(&list, &shape);
    }
    let indices = onnx.cast(indices, Element::I64);
    let list = grown(onnx, &list, &indices, rank);
    let values = onnx.cast(values, list.element());
    let places = onnx.unsqueeze(&indices, &[-1]);
    Ok(onnx.scatter_nd(&list, &places, &values, "none"))
}

/// The list with as many elements as the largest index asks for.
fn grown(onnx: &mut OnnxBuilder, list: &Value, indices: &Value, rank: usize) -> Value {
    let shape = onnx.shape(list);
    let length = onnx.slice(&shape, &[0], &[1], &[0], &[1]);
    let largest = onnx.reduce("ReduceMax", indices, &[0], true);
    let missing = onnx.binary("Sub", &largest, &length);
    let one = onnx.ints(&[1]);
    let missing = onnx.binary("Add", &missing, &one);
    let zero = onnx.ints(&[0]);
    let missing = onnx.binary("Max", &missing, &zero);
    let (before, after) = (onnx.ints(&vec![0; rank]), onnx.ints(&vec![0; rank - 1]));
    let pads = if rank == 1 { onnx.concat(&[before, missing], 0) } else { onnx.concat(&[before, missing, after], 0) };
    onnx.pad(list, &pads, PadMode::Constant, None)
}
