//! The labels of a classifier that is an ML Program.

use super::{Argument, Block, Op, Program, Value};
use crate::{DType, schema::ClassLabels};

/// The labels that the function's `classify` operation hands out, in the order of the scores.
pub(crate) fn class_labels(program: &Program, function: &str) -> Option<ClassLabels> {
    let block = &program.functions.get(function)?.block;
    let classify = block.ops.iter().find(|op| op.kind == "classify")?;
    labels(classes(classify, block)?)
}

/// The constant that `classify` reads as `classes`.
fn classes<'a>(classify: &'a Op, block: &'a Block) -> Option<&'a Value> {
    match classify.inputs.get("classes")?.first()? {
        Argument::Value(value) => Some(value),
        Argument::Name(name) => {
            let defines = |op: &&Op| op.outputs.first().is_some_and(|output| output.name == *name);
            block.ops.iter().find(defines)?.attributes.get("val")
        }
    }
}

fn labels(value: &Value) -> Option<ClassLabels> {
    if let Some(strings) = value.as_strings() {
        return Some(ClassLabels::Strings(strings));
    }
    let items = match value {
        Value::List(items) => items.as_slice(),
        value => std::slice::from_ref(value),
    };
    let mut numbers = Vec::new();
    for item in items {
        let tensor = item.as_tensor()?;
        let bytes = tensor.bytes();
        match tensor.dtype() {
            DType::Int64 => {
                numbers.extend(bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))))
            }
            DType::Int32 => {
                numbers.extend(
                    bytes.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes(b.try_into().expect("4 bytes")))),
                );
            }
            _ => return None,
        }
    }
    Some(ClassLabels::Int64s(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn check(value: Value, expected: Option<ClassLabels>) {
        assert_eq!(labels(&value), expected);
    }

    #[test]
    fn words_and_numbers() {
        let word = |word: &str| Value::Tensor(Tensor::strings(vec![], vec![word.to_owned()]).unwrap());
        let words = ClassLabels::Strings(vec!["cat".to_owned(), "dog".to_owned()]);
        check(Value::List(vec![word("cat"), word("dog")]), Some(words));
        let numbers = Tensor::new(DType::Int64, vec![2], [[7, 0, 0, 0, 0, 0, 0, 0], [255; 8]].concat().into()).unwrap();
        check(Value::Tensor(numbers.clone()), Some(ClassLabels::Int64s(vec![7, -1])));
        check(Value::List(vec![Value::Tensor(numbers)]), Some(ClassLabels::Int64s(vec![7, -1])));
        let floats = Tensor::new(DType::Float32, vec![1], vec![0; 4].into()).unwrap();
        check(Value::Tensor(floats), None);
    }
}
