//! Element types of the ONNX graphs that we write.

use coreml_format::DType;

/// An element type of an ONNX value.
///
/// Compute off Apple is fp32: MIL's floating-point types all become [`Element::F32`]. Its narrow integers are carried
/// as [`Element::I32`], which holds every value of theirs; `cast`, `quantize` and the interface narrow where MIL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Element {
    F32,
    F16,
    I64,
    I32,
    I8,
    U8,
    I16,
    U16,
    Bool,
}

impl Element {
    /// What a MIL value of type `dtype` is carried as. `None` for strings.
    pub fn carrier(dtype: DType) -> Option<Element> {
        match dtype {
            DType::Bool => Some(Element::Bool),
            DType::String => None,
            _ if dtype.is_float() => Some(Element::F32),
            _ => Some(Element::I32),
        }
    }

    /// The number in `TensorProto.DataType`.
    pub(crate) fn number(self) -> i32 {
        match self {
            Element::F32 => 1,
            Element::U8 => 2,
            Element::I8 => 3,
            Element::U16 => 4,
            Element::I16 => 5,
            Element::I32 => 6,
            Element::I64 => 7,
            Element::Bool => 9,
            Element::F16 => 10,
        }
    }

    /// The type of this number in `TensorProto.DataType`, where we write it.
    pub(crate) fn from_number(number: i32) -> Option<Element> {
        use Element::*;
        [F32, F16, I64, I32, I8, U8, I16, U16, Bool].into_iter().find(|element| element.number() == number)
    }

    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Element::I64 => 8,
            Element::F32 | Element::I32 => 4,
            Element::F16 | Element::I16 | Element::U16 => 2,
            Element::I8 | Element::U8 | Element::Bool => 1,
        }
    }
}
