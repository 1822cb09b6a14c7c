//! What is known of a value before anything runs: its type, its size, and a few numbers.

use crate::onnx::{
    Element,
    pb::{TensorProto, ValueInfoProto},
};

/// Values with more elements than this are not followed: shapes, axes and bounds have fewer.
pub(super) const MAX_NUMBERS: usize = 64;

/// Ranks beyond this are not followed: no engine takes them, and they would cost memory.
const MAX_RANK: usize = 32;

/// How sure an inferred size is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The size at run time.
    Exact,
    /// It depends on data; this is the largest that it can be.
    AtMost,
    /// It could not be inferred; a shape, where there is one, is a guess.
    Unknown,
}

/// What is known of one value.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) element: Element,
    pub(super) shape: Option<Vec<usize>>,
    pub(super) certainty: Certainty,
    /// Whether it is a weight, or made of weights alone.
    pub(super) constant: bool,
    /// The elements in row-major order, where they are few and follow from shapes and constants. An f64 holds every
    /// size that memory has room for; integers beyond 2^53 are only bounds that mean "to the end".
    pub(super) numbers: Option<Vec<f64>>,
}

impl Fact {
    pub(super) fn new(element: Element, shape: Vec<usize>) -> Fact {
        Fact { element, shape: Some(shape), certainty: Certainty::Exact, constant: false, numbers: None }
    }

    pub(super) fn unknown(element: Element) -> Fact {
        Fact { element, shape: None, certainty: Certainty::Unknown, constant: false, numbers: None }
    }

    pub(super) fn with_numbers(mut self, numbers: Option<Vec<f64>>) -> Fact {
        self.numbers = numbers;
        self
    }

    /// The same, at best as sure as `certainty`.
    pub(super) fn at_best(mut self, certainty: Certainty) -> Fact {
        self.certainty = self.certainty.max(certainty);
        self
    }

    pub(super) fn constant(mut self) -> Fact {
        self.constant = true;
        self
    }

    /// An initializer that is inside the graph.
    pub(super) fn of_initializer(tensor: &TensorProto) -> Fact {
        let Some(element) = Element::from_number(tensor.data_type) else {
            return Fact::unknown(Element::F32).constant();
        };
        let shape = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        let numbers = tensor.raw_data.as_deref().and_then(|bytes| numbers_in(element, bytes));
        Fact::new(element, shape).with_numbers(numbers).constant()
    }

    /// The element type that a nested graph declares for an input or output.
    pub(super) fn declared_element(info: &ValueInfoProto) -> Option<Element> {
        Element::from_number(info.r#type.as_ref()?.tensor_type.as_ref()?.elem_type)
    }

    /// Bytes of the value; 0 where nothing is known. Saturates, since files may declare any size.
    pub(super) fn bytes(&self) -> usize {
        let Some(shape) = &self.shape else { return 0 };
        count(shape).saturating_mul(self.element.size())
    }

    /// Leaves out what is too large to follow.
    pub(super) fn bounded(mut self) -> Fact {
        self.numbers = self.numbers.filter(|numbers| numbers.len() <= MAX_NUMBERS);
        if self.shape.as_ref().is_some_and(|shape| shape.len() > MAX_RANK) {
            return Fact { constant: self.constant, ..Fact::unknown(self.element) };
        }
        self
    }

    /// Takes what depends on data as the model declares it. What follows from the inputs' sizes stays as it is: files
    /// may declare anything.
    pub(super) fn within(self, declared: &[Option<usize>]) -> Fact {
        let whole: Option<Vec<usize>> = declared.iter().copied().collect();
        match (self.certainty, &self.shape, whole) {
            (Certainty::AtMost, Some(shape), _) if shape.len() == declared.len() => {
                let least = shape.iter().zip(declared).map(|(&d, limit)| limit.map_or(d, |limit| d.min(limit)));
                Fact { shape: Some(least.collect()), ..self }
            }
            (Certainty::Unknown, _, Some(shape)) => {
                Fact { certainty: Certainty::AtMost, shape: Some(shape), numbers: None, ..self }
            }
            _ => self,
        }
    }

    /// Of two values that may take the same place, the larger in each dimension. Equal ones stay as sure as they are;
    /// for others the caller says what the size then is.
    pub(super) fn larger(&self, other: &Fact, otherwise: Certainty) -> Fact {
        let both = self.certainty.max(other.certainty);
        match (&self.shape, &other.shape) {
            (Some(x), Some(y)) if x == y => Fact::new(self.element, x.clone()).at_best(both),
            (Some(x), Some(y)) if x.len() == y.len() => {
                let shape = x.iter().zip(y).map(|(x, y)| *x.max(y)).collect();
                Fact::new(self.element, shape).at_best(both.max(otherwise))
            }
            (Some(_), Some(_)) => {
                let larger = if self.bytes() >= other.bytes() { self } else { other };
                Fact { constant: false, numbers: None, ..larger.clone() }.at_best(both.max(otherwise))
            }
            (None, _) | (_, None) => Fact::unknown(self.element),
        }
    }
}

/// The number of elements; saturates.
pub(super) fn count(shape: &[usize]) -> usize {
    // A 0 makes a value empty, however large the other dimensions are.
    if shape.contains(&0) { 0 } else { shape.iter().fold(1, |n, &d| n.saturating_mul(d)) }
}

/// A result of an operation on numbers as its type holds it; `None` where that type has no such number.
pub(super) fn as_element(element: Element, value: f64) -> Option<f64> {
    match element {
        Element::F32 => Some(f64::from(value as f32)),
        Element::F16 => Some(half::f16::from_f64(value).to_f64()),
        Element::Bool => Some(f64::from(u8::from(value != 0.0))),
        _ => value.is_finite().then(|| value.trunc()),
    }
}

/// The elements in these bytes, little endian, where they are few.
pub(super) fn numbers_in(element: Element, bytes: &[u8]) -> Option<Vec<f64>> {
    fn read<const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect()
    }
    (bytes.len() <= MAX_NUMBERS * element.size()).then(|| match element {
        Element::F32 => read(bytes, |b| f32::from_le_bytes(b).into()),
        Element::F16 => read(bytes, |b| half::f16::from_le_bytes(b).into()),
        Element::I64 => read(bytes, |b| i64::from_le_bytes(b) as f64),
        Element::I32 => read(bytes, |b| i32::from_le_bytes(b).into()),
        Element::I16 => read(bytes, |b| i16::from_le_bytes(b).into()),
        Element::U16 => read(bytes, |b| u16::from_le_bytes(b).into()),
        Element::I8 => read(bytes, |b| i8::from_le_bytes(b).into()),
        Element::U8 | Element::Bool => read(bytes, |b: [u8; 1]| b[0].into()),
    })
}
