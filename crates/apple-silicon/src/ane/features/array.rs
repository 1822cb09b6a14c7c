//! Tensors, and how the elements of one type become those of another.

use half::{f16, slice::HalfFloatSliceExt};

use super::ArrayType;
use crate::ane::errors::{ANEError, Result};

/// A tensor: its shape, and its elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    elements: Elements,
}

/// The elements of a tensor.
///
/// Core ML has the first five types; what a model gives is always of one of them. Callers may hold the others, which
/// become what the model declares: [`Array::convert`].
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum Elements {
    Float16(Vec<f16>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Int32(Vec<i32>),
    Int8(Vec<i8>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    Bool(Vec<bool>),
}

/// Runs the same expression over whatever the elements are.
macro_rules! each {
    ($elements:expr, $values:ident => $then:expr) => {
        match $elements {
            Elements::Float16($values) => $then,
            Elements::Float32($values) => $then,
            Elements::Float64($values) => $then,
            Elements::Int32($values) => $then,
            Elements::Int8($values) => $then,
            Elements::Int64($values) => $then,
            Elements::UInt8($values) => $then,
            Elements::Bool($values) => $then,
        }
    };
}

impl Array {
    /// A tensor of this shape; `[]` is a scalar. Elements are moved, not copied.
    ///
    /// ```
    /// use apple_silicon::ane::features::Array;
    ///
    /// assert!(Array::new([2, 3], vec![0i32; 6]).is_ok());
    /// assert!(Array::new([2, 3], vec![0i32; 5]).is_err());
    /// ```
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] unless there are as many elements as the shape asks for.
    pub fn new(shape: impl Into<Vec<usize>>, elements: impl Into<Elements>) -> Result<Array> {
        let (shape, elements) = (shape.into(), elements.into());
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count == Some(elements.len()) {
            return Ok(Array { shape, elements });
        }
        Err(ANEError::InvalidShape(format!("{} elements do not make an array of shape {shape:?}", elements.len())))
    }

    /// A tensor of this type and shape with `value` everywhere.
    ///
    /// # Errors
    /// [`ANEError::UnsupportedPrecision`] where the type does not hold the value, and
    /// [`ANEError::MemoryAllocationFailed`] where there is no memory for the shape.
    pub fn filled(array_type: ArrayType, shape: impl Into<Vec<usize>>, value: f64) -> Result<Array> {
        let shape = shape.into();
        let one = Array { shape: Vec::new(), elements: Elements::Float64(vec![value]) }.cast(array_type)?;
        let elements = match one.elements {
            Elements::Float16(one) => Elements::Float16(repeated(one[0], &shape)?),
            Elements::Float32(one) => Elements::Float32(repeated(one[0], &shape)?),
            Elements::Float64(one) => Elements::Float64(repeated(one[0], &shape)?),
            Elements::Int32(one) => Elements::Int32(repeated(one[0], &shape)?),
            Elements::Int8(one) => Elements::Int8(repeated(one[0], &shape)?),
            other => return Err(ANEError::Internal(format!("{array_type:?} became {}", other.type_name()))),
        };
        Ok(Array { shape, elements })
    }

    /// The size of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, in row-major order.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The elements, moved out.
    pub fn into_elements(self) -> Elements {
        self.elements
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is no element: a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type, where it is one of Core ML's.
    pub fn array_type(&self) -> Option<ArrayType> {
        match self.elements {
            Elements::Float16(_) => Some(ArrayType::Float16),
            Elements::Float32(_) => Some(ArrayType::Float32),
            Elements::Float64(_) => Some(ArrayType::Float64),
            Elements::Int32(_) => Some(ArrayType::Int32),
            Elements::Int8(_) => Some(ArrayType::Int8),
            Elements::Int64(_) | Elements::UInt8(_) | Elements::Bool(_) => None,
        }
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] unless the new shape has as many elements.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Result<Array> {
        Array::new(shape, self.elements)
    }

    /// So many places of the first dimension from `start` on. Cost: a copy of them.
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] where there are not so many, or no dimension at all.
    pub fn rows(&self, start: usize, len: usize) -> Result<Array> {
        let end = start.checked_add(len).filter(|end| self.shape.first().is_some_and(|size| end <= size));
        let wrong = || ANEError::InvalidShape(format!("{} has no rows {start} to {start} + {len}", self.describe()));
        let end = end.ok_or_else(wrong)?;
        let row: usize = self.shape[1..].iter().product();
        let elements = each!(&self.elements, values => values[start * row..end * row].to_vec().into());
        Ok(Array { shape: [&[len], &self.shape[1..]].concat(), elements })
    }

    /// Appends another array along the first dimension.
    ///
    /// # Errors
    /// [`ANEError::InvalidShape`] where they differ in type or in another dimension.
    pub fn append(&mut self, more: Array) -> Result<()> {
        let alike = !self.shape.is_empty()
            && self.shape.get(1..) == more.shape.get(1..)
            && std::mem::discriminant(&self.elements) == std::mem::discriminant(&more.elements);
        if !alike {
            return Err(ANEError::InvalidShape(format!("{} cannot follow {}", more.describe(), self.describe())));
        }
        self.shape[0] += more.shape[0];
        macro_rules! extend {
            ($($variant:ident)*) => {
                match (&mut self.elements, more.elements) {
                    $((Elements::$variant(all), Elements::$variant(more)) => all.extend(more),)*
                    _ => unreachable!("the types were compared"),
                }
            };
        }
        extend!(Float16 Float32 Float64 Int32 Int8 Int64 UInt8 Bool);
        Ok(())
    }

    /// The elements as floats, rounded to them where they are wider. Cost: one copy.
    pub fn to_f32s(&self) -> Vec<f32> {
        self.elements.to_f32s()
    }

    /// The elements as doubles. Cost: one copy.
    pub fn to_f64s(&self) -> Vec<f64> {
        self.elements.to_f64s()
    }

    /// The tensor with the type that a model declares. Any number becomes a float, rounded; only whole-number types
    /// become whole numbers.
    ///
    /// # Errors
    /// [`ANEError::UnsupportedPrecision`] for floats where whole numbers are declared, and for a number that the
    /// type does not hold. The message names the value.
    pub fn convert(&self, to: ArrayType) -> Result<Array> {
        let whole = matches!(to, ArrayType::Int32 | ArrayType::Int8);
        if whole && matches!(self.elements, Elements::Float16(_) | Elements::Float32(_) | Elements::Float64(_)) {
            return Err(ANEError::UnsupportedPrecision(format!(
                "{} elements do not become {to:?} without loss; give whole numbers",
                self.elements.type_name()
            )));
        }
        self.clone().cast(to)
    }

    /// Converts floats to whole numbers too, where they are whole.
    fn cast(self, to: ArrayType) -> Result<Array> {
        if self.array_type() == Some(to) {
            return Ok(self);
        }
        let elements = match to {
            ArrayType::Float16 => Elements::Float16(narrow(&self.elements)?),
            ArrayType::Float32 => Elements::Float32(finite(&self.elements, to, |v| v as f32)?),
            ArrayType::Float64 => Elements::Float64(self.elements.to_f64s()),
            ArrayType::Int32 => Elements::Int32(whole(&self.elements, to)?),
            ArrayType::Int8 => Elements::Int8(whole(&self.elements, to)?),
        };
        Ok(Array { shape: self.shape, elements })
    }

    pub(super) fn describe(&self) -> String {
        format!("a {} array of shape {:?}", self.elements.type_name(), self.shape)
    }
}

impl Elements {
    /// The number of elements.
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the element type: `Float16`, `UInt8`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Elements::Float16(_) => "Float16",
            Elements::Float32(_) => "Float32",
            Elements::Float64(_) => "Float64",
            Elements::Int32(_) => "Int32",
            Elements::Int8(_) => "Int8",
            Elements::Int64(_) => "Int64",
            Elements::UInt8(_) => "UInt8",
            Elements::Bool(_) => "Bool",
        }
    }

    pub(crate) fn to_f32s(&self) -> Vec<f32> {
        match self {
            Elements::Float16(values) => values.to_f32_vec(),
            Elements::Float32(values) => values.clone(),
            Elements::Float64(values) => values.iter().map(|&v| v as f32).collect(),
            Elements::Int32(values) => values.iter().map(|&v| v as f32).collect(),
            Elements::Int8(values) => values.iter().map(|&v| f32::from(v)).collect(),
            Elements::Int64(values) => values.iter().map(|&v| v as f32).collect(),
            Elements::UInt8(values) => values.iter().map(|&v| f32::from(v)).collect(),
            Elements::Bool(values) => values.iter().map(|&v| f32::from(u8::from(v))).collect(),
        }
    }

    pub(crate) fn to_f64s(&self) -> Vec<f64> {
        match self {
            Elements::Float16(values) => values.iter().map(|v| v.to_f64()).collect(),
            Elements::Float32(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Elements::Float64(values) => values.clone(),
            Elements::Int32(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Elements::Int8(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Elements::Int64(values) => values.iter().map(|&v| v as f64).collect(),
            Elements::UInt8(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Elements::Bool(values) => values.iter().map(|&v| f64::from(u8::from(v))).collect(),
        }
    }

    /// The elements as whole numbers; `None` where one is not whole.
    fn to_i64s(&self) -> Option<Vec<i64>> {
        match self {
            Elements::Int32(values) => Some(values.iter().map(|&v| i64::from(v)).collect()),
            Elements::Int8(values) => Some(values.iter().map(|&v| i64::from(v)).collect()),
            Elements::Int64(values) => Some(values.clone()),
            Elements::UInt8(values) => Some(values.iter().map(|&v| i64::from(v)).collect()),
            Elements::Bool(values) => Some(values.iter().map(|&v| i64::from(v)).collect()),
            Elements::Float16(_) | Elements::Float32(_) | Elements::Float64(_) => {
                self.to_f64s().into_iter().map(|v| (v.fract() == 0.0).then_some(v as i64)).collect()
            }
        }
    }
}

/// As many elements as the shape asks for; sizes that no memory holds are an error and not an abort.
pub(crate) fn repeated<T: Clone>(value: T, shape: &[usize]) -> Result<Vec<T>> {
    let failed = || ANEError::MemoryAllocationFailed(format!("there is no memory for an array of shape {shape:?}"));
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(failed)?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| failed())?;
    values.resize(count, value);
    Ok(values)
}

/// fp16 as Core ML rounds: to the nearest, ties to even. What is finite stays so.
fn narrow(elements: &Elements) -> Result<Vec<f16>> {
    finite(elements, ArrayType::Float16, f16::from_f64)
}

/// Floats of a narrower type; a finite value that would become infinite is refused.
fn finite<T: Copy + Into<f64>>(elements: &Elements, to: ArrayType, round: impl Fn(f64) -> T) -> Result<Vec<T>> {
    let values = elements.to_f64s();
    let rounded: Vec<T> = values.iter().map(|&v| round(v)).collect();
    match values.iter().zip(&rounded).find(|&(v, &r)| v.is_finite() && !r.into().is_finite()) {
        Some((value, _)) => Err(out_of_range(*value, to)),
        None => Ok(rounded),
    }
}

fn whole<T: TryFrom<i64>>(elements: &Elements, to: ArrayType) -> Result<Vec<T>> {
    let values = elements.to_i64s().ok_or_else(|| {
        ANEError::UnsupportedPrecision(format!("{} elements are not whole, as {to:?} asks", elements.type_name()))
    })?;
    values.into_iter().map(|v| T::try_from(v).map_err(|_| out_of_range(v, to))).collect()
}

fn out_of_range(value: impl std::fmt::Display, to: ArrayType) -> ANEError {
    ANEError::UnsupportedPrecision(format!("the value {value} is out of the range of {to:?}"))
}

macro_rules! elements_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<Vec<$from>> for Elements {
            fn from(values: Vec<$from>) -> Elements {
                Elements::$variant(values)
            }
        }
    )*};
}

elements_from! {
    f16 => Float16,
    f32 => Float32,
    f64 => Float64,
    i32 => Int32,
    i8 => Int8,
    i64 => Int64,
    u8 => UInt8,
    bool => Bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(elements: impl Into<Elements>, to: ArrayType) -> Result<Elements> {
        let elements = elements.into();
        Array::new([elements.len()], elements).unwrap().convert(to).map(|array| array.elements)
    }

    #[test]
    fn whole_numbers_keep_their_value_or_fail() {
        assert_eq!(convert(vec![1i64, -7], ArrayType::Int32), Ok(Elements::Int32(vec![1, -7])));
        assert_eq!(convert(vec![true, false], ArrayType::Int8), Ok(Elements::Int8(vec![1, 0])));
        assert_eq!(convert(vec![200u8], ArrayType::Float16), Ok(Elements::Float16(vec![f16::from_f32(200.0)])));
        let message = convert(vec![0i64, 1 << 40], ArrayType::Int32).unwrap_err().to_string();
        assert_eq!(message, "the value 1099511627776 is out of the range of Int32");
        assert!(convert(vec![1.0f32], ArrayType::Int32).is_err(), "floats are not whole numbers");
    }

    #[test]
    fn floats_round_but_stay_finite() {
        assert_eq!(convert(vec![2049.0f32], ArrayType::Float16), Ok(Elements::Float16(vec![f16::from_f32(2048.0)])));
        assert_eq!(convert(vec![f64::INFINITY], ArrayType::Float32), Ok(Elements::Float32(vec![f32::INFINITY])));
        let message = convert(vec![70000.0f32], ArrayType::Float16).unwrap_err().to_string();
        assert_eq!(message, "the value 70000 is out of the range of Float16");
        assert!(convert(vec![1e300], ArrayType::Float32).is_err());
    }

    #[test]
    fn rows_are_taken_and_put_together() {
        let array = Array::new([3, 2], vec![0i32, 1, 2, 3, 4, 5]).unwrap();
        let mut first = array.rows(0, 1).unwrap();
        assert_eq!(first, Array::new([1, 2], vec![0i32, 1]).unwrap());
        first.append(array.rows(1, 2).unwrap()).unwrap();
        assert_eq!(first, array);
        assert!(array.rows(2, 2).is_err());
        assert!(array.rows(usize::MAX, 2).is_err());
        assert!(Array::new([], vec![1.0f32]).unwrap().rows(0, 1).is_err());
        assert!(first.append(Array::new([1, 3], vec![0i32; 3]).unwrap()).is_err());
        assert!(first.append(Array::new([1, 2], vec![0.0f32; 2]).unwrap()).is_err());
    }

    #[test]
    fn shapes_must_match() {
        assert!(Array::new([], vec![1.0f32]).is_ok(), "a scalar has one element");
        assert!(Array::new([usize::MAX, 2], vec![1.0f32]).is_err());
        assert!(Array::filled(ArrayType::Int32, [3], 0.5).is_err());
        assert_eq!(Array::filled(ArrayType::Int32, [2], 4.0).unwrap().elements, Elements::Int32(vec![4, 4]));
        for shape in [[usize::MAX, 2], [usize::MAX / 8, 2]] {
            assert!(matches!(Array::filled(ArrayType::Int8, shape, 4.0), Err(ANEError::MemoryAllocationFailed(_))));
        }
    }
}
