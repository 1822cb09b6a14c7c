//! ML Programs (MIL): functions, blocks, operations and their types.
//!
//! These types are plain data. A [`Program`] that comes out of [`Model::open`](crate::Model::open) is valid: names
//! resolve, weights are in range, sizes agree.

mod classes;
mod interface;
mod read;
mod text;
mod validate;
mod value;

use std::{collections::BTreeMap, fmt};

pub(crate) use classes::class_labels;
pub(crate) use read::read;
pub(crate) use text::read as read_text;
pub(crate) use validate::validate;

use crate::{DType, Tensor};

/// A MIL program: functions by name.
#[derive(Clone, Debug)]
pub struct Program {
    /// Every function, by name. The default one is named in the model's description, or is `main`.
    pub functions: BTreeMap<String, Function>,
}

/// One function: typed inputs and the block that runs in the file's opset.
#[derive(Clone, Debug)]
pub struct Function {
    /// Inputs in order, states among them (type [`Type::State`]).
    pub inputs: Vec<Named>,
    /// The opset of the active block.
    pub opset: Opset,
    /// The active block. Its outputs are the function's.
    pub block: Block,
}

/// The version of the operation set that a function is written in.
///
/// Ordered: `Opset::IOS15 < Opset::IOS18`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opset {
    /// `CoreML5`: iOS 15, macOS 12.
    IOS15,
    /// `CoreML6`: iOS 16, macOS 13.
    IOS16,
    /// `CoreML7`: iOS 17, macOS 14.
    IOS17,
    /// `CoreML8`: iOS 18, macOS 15.
    IOS18,
    /// `CoreML9`: iOS 26, macOS 26.
    IOS26,
}

impl Opset {
    const NAMES: [(&str, Opset); 5] = [
        ("CoreML5", Opset::IOS15),
        ("CoreML6", Opset::IOS16),
        ("CoreML7", Opset::IOS17),
        ("CoreML8", Opset::IOS18),
        ("CoreML9", Opset::IOS26),
    ];

    /// The opset with this name in the file, such as `CoreML7`.
    pub fn from_name(name: &str) -> Option<Opset> {
        Opset::NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// The name in the file, such as `CoreML7`.
    pub fn name(self) -> &'static str {
        Opset::NAMES.iter().find(|row| row.1 == self).expect("every opset is listed").0
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A list of operations with block inputs (loop variables) and the names of what it gives back.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Values that the enclosing operation hands in; only loops have them.
    pub inputs: Vec<Named>,
    /// Names of the values given back, in order. Never empty in a valid program.
    pub outputs: Vec<String>,
    /// Operations in the order of execution. Each reads only what stands before it or in an outer block.
    pub ops: Vec<Op>,
}

/// A name with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The value's name, unique among the names that can be seen at its place. Blocks side by side may each use it.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// The kind: `conv`, `const`, `while_loop`.
    pub kind: String,
    /// The operation's own name, or that of its first output where it has none.
    pub name: String,
    /// Operands by parameter name. A variadic parameter has several arguments, any other exactly one.
    pub inputs: BTreeMap<String, Vec<Argument>>,
    /// What the operation defines.
    pub outputs: Vec<Named>,
    /// Nested blocks: branches of `cond`, condition and body of `while_loop`.
    pub blocks: Vec<Block>,
    /// Compile-time attributes: `val` of a `const`, the parameters of an iOS 16 `constexpr_*`. The attribute `name` is
    /// `name` above.
    pub attributes: BTreeMap<String, Value>,
}

/// An operand: the name of a value, or a constant in place.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A value that an operation or a function input defines.
    Name(String),
    /// A constant written into the argument, as iOS 18 `constexpr_*` operations do.
    Value(Value),
}

/// A constant value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor; scalars have rank 0.
    Tensor(Tensor),
    /// A list, such as class labels or the element shape of `make_list`.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dictionary, in file order.
    Dictionary(Vec<(Value, Value)>),
}

impl Value {
    /// The tensor, where this is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(tensor) => Some(tensor),
            Value::List(_) | Value::Tuple(_) | Value::Dictionary(_) => None,
        }
    }

    /// Every string in a string tensor, or in a list of string scalars, in order.
    pub fn as_strings(&self) -> Option<Vec<String>> {
        match self {
            Value::Tensor(tensor) => tensor.as_strings().map(<[String]>::to_vec),
            Value::List(items) => {
                let mut all = Vec::with_capacity(items.len());
                for item in items {
                    all.extend_from_slice(item.as_tensor()?.as_strings()?);
                }
                Some(all)
            }
            Value::Tuple(_) | Value::Dictionary(_) => None,
        }
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A list of `element`; its length where it is fixed.
    List(Box<Type>, Option<usize>),
    /// A tuple.
    Tuple(Vec<Type>),
    /// A dictionary: key and value.
    Dictionary(Box<Type>, Box<Type>),
    /// State that outlives a prediction.
    State(Box<Type>),
}

impl Type {
    /// The tensor's type, that of a state's tensor too.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(tensor) => Some(tensor),
            Type::State(inner) => inner.as_tensor(),
            Type::List(..) | Type::Tuple(_) | Type::Dictionary(..) => None,
        }
    }
}

/// The type of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The dimensions, outermost first; `None` where even the rank is unknown.
    pub dims: Option<Vec<Dim>>,
}

/// One dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Fixed(usize),
    /// A size that is known at run time only.
    Unknown,
}

impl TensorType {
    /// The shape, where every dimension is fixed.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.dims.as_ref()?.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect()
    }
}

/// As MIL text writes it: `tensor<fp16, [1, 3, ?, 224]>`.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(dims) = &self.dims else { return write!(f, "tensor<{}, ?>", self.dtype) };
        let dims: Vec<String> = dims
            .iter()
            .map(|d| match d {
                Dim::Fixed(n) => n.to_string(),
                Dim::Unknown => "?".to_owned(),
            })
            .collect();
        write!(f, "tensor<{}, [{}]>", self.dtype, dims.join(", "))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(tensor) => tensor.fmt(f),
            Type::List(element, Some(length)) => write!(f, "list<{element}, {length}>"),
            Type::List(element, None) => write!(f, "list<{element}, ?>"),
            Type::Tuple(items) => {
                f.write_str("tuple<")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(">")
            }
            Type::Dictionary(key, value) => write!(f, "dict<{key}, {value}>"),
            Type::State(inner) => write!(f, "state<{inner}>"),
        }
    }
}

impl Program {
    /// Visits every operation of a function, nested blocks included, in order.
    pub fn visit<'a>(block: &'a Block, f: &mut impl FnMut(&'a Op)) {
        for op in &block.ops {
            f(op);
            for inner in &op.blocks {
                Program::visit(inner, f);
            }
        }
    }
}
