//! What goes in and comes out.

/// The value of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Int64(i64),
    /// A real number.
    Double(f64),
    /// Text.
    String(String),
    /// Numbers in a shape.
    Array(Array),
    /// Numbers by key.
    Dictionary(Dictionary),
    /// A list.
    Sequence(Sequence),
}

/// Numbers in a shape, in row-major order. Doubles hold every type of element that Core ML has.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// As many as the shape asks for.
    pub values: Vec<f64>,
}

/// Numbers by key. No key is there twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Dictionary {
    /// Keys are words.
    Strings(Vec<(String, f64)>),
    /// Keys are numbers.
    Int64s(Vec<(i64, f64)>),
}

/// A list of words or of whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Sequence {
    /// Words.
    Strings(Vec<String>),
    /// Whole numbers.
    Int64s(Vec<i64>),
}

impl Value {
    /// An array of one dimension.
    pub(crate) fn vector(values: Vec<f64>) -> Value {
        Value::Array(Array { shape: vec![values.len()], values })
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Value::Int64(_) => "an integer",
            Value::Double(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Dictionary(_) => "a dictionary",
            Value::Sequence(_) => "a sequence",
        }
    }
}
