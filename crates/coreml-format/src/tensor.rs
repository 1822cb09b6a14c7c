//! Constant tensors, by reference.

use bytes::Bytes;

use crate::DType;

/// A constant: element type, shape and elements.
///
/// Elements are little endian in row-major order, sub-byte types packed from the least significant bit on. They are
/// a view of the mapped file wherever the file stores them that way, so cloning a tensor copies nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    elements: Elements,
}

#[derive(Clone, Debug, PartialEq)]
enum Elements {
    Packed(Bytes),
    Strings(Vec<String>),
}

impl Tensor {
    /// A tensor over packed little-endian elements. `None` unless `bytes` has just the size that `dtype` and `shape`
    /// ask for.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Option<Tensor> {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (dtype != DType::String && dtype.bytes(count)? == bytes.len()).then_some(Tensor {
            dtype,
            shape,
            elements: Elements::Packed(bytes),
        })
    }

    /// A tensor of strings. `None` unless there are as many as `shape` asks for.
    pub fn strings(shape: Vec<usize>, strings: Vec<String>) -> Option<Tensor> {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (count == strings.len()).then_some(Tensor { dtype: DType::String, shape, elements: Elements::Strings(strings) })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The packed elements; empty for strings.
    pub fn bytes(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        match &self.elements {
            Elements::Packed(bytes) => bytes,
            Elements::Strings(_) => &NONE,
        }
    }

    /// The strings of a string tensor.
    pub fn as_strings(&self) -> Option<&[String]> {
        match &self.elements {
            Elements::Packed(_) => None,
            Elements::Strings(strings) => Some(strings),
        }
    }
}
