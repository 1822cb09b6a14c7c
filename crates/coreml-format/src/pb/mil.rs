//! `MIL.proto`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Program {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) functions: BTreeMap<String, Function>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<NamedValueType>,
    #[prost(string, tag = "2")]
    pub(crate) opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub(crate) block_specializations: BTreeMap<String, Block>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Block {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<NamedValueType>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    /// `Operation` messages, left encoded.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) operations: Vec<Bytes>,
}

/// Its maps are declared as what they are on the wire, repeated entries: most have one entry or two.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operation {
    #[prost(string, tag = "1")]
    pub(crate) r#type: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) inputs: Vec<InputEntry>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) outputs: Vec<NamedValueType>,
    /// `Block` messages, left encoded: however deep they nest, decoding one level goes one level deep.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(crate) blocks: Vec<Bytes>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attributes: Vec<AttributeEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InputEntry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<Argument>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeEntry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub(crate) arguments: Vec<ArgumentBinding>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArgumentBinding {
    #[prost(oneof = "Binding", tags = "1, 2")]
    pub(crate) binding: Option<Binding>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Binding {
    #[prost(string, tag = "1")]
    Name(String),
    #[prost(message, tag = "2")]
    Value(Value),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamedValueType {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueType {
    #[prost(oneof = "TypeKind", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<TypeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TypeKind {
    #[prost(message, tag = "1")]
    Tensor(TensorType),
    #[prost(message, boxed, tag = "2")]
    List(Box<ListType>),
    #[prost(message, tag = "3")]
    Tuple(TupleType),
    #[prost(message, boxed, tag = "4")]
    Dictionary(Box<DictionaryType>),
    #[prost(message, boxed, tag = "5")]
    State(Box<StateType>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(crate) data_type: i32,
    /// -1 where the rank is unknown.
    #[prost(int64, tag = "2")]
    pub(crate) rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListType {
    #[prost(message, optional, tag = "1")]
    pub(crate) r#type: Option<ValueType>,
    #[prost(message, optional, tag = "2")]
    pub(crate) length: Option<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TupleType {
    #[prost(message, repeated, tag = "1")]
    pub(crate) types: Vec<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryType {
    #[prost(message, optional, tag = "1")]
    pub(crate) key_type: Option<ValueType>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value_type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StateType {
    #[prost(message, optional, tag = "1")]
    pub(crate) wrapped_type: Option<ValueType>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(oneof = "DimensionKind", tags = "1, 2")]
    pub(crate) kind: Option<DimensionKind>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum DimensionKind {
    #[prost(message, tag = "1")]
    Constant(ConstantDimension),
    #[prost(message, tag = "2")]
    Unknown(UnknownDimension),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ConstantDimension {
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct UnknownDimension {
    /// Stands for any number of dimensions.
    #[prost(bool, tag = "1")]
    pub(crate) variadic: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<ValueType>,
    #[prost(oneof = "ValueKind", tags = "3, 5")]
    pub(crate) kind: Option<ValueKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ValueKind {
    #[prost(message, tag = "3")]
    Immediate(ImmediateValue),
    #[prost(message, tag = "5")]
    Blob(BlobFileValue),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlobFileValue {
    #[prost(string, tag = "1")]
    pub(crate) file_name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImmediateValue {
    #[prost(oneof = "Immediate", tags = "1, 2, 3, 4")]
    pub(crate) value: Option<Immediate>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Immediate {
    #[prost(message, tag = "1")]
    Tensor(TensorValue),
    #[prost(message, tag = "2")]
    Tuple(Values),
    #[prost(message, tag = "3")]
    List(Values),
    #[prost(message, tag = "4")]
    Dictionary(DictionaryValue),
}

/// `TupleValue` and `ListValue`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Values {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<KeyValuePair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValuePair {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<Value>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorValue {
    #[prost(oneof = "Elements", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) elements: Option<Elements>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Elements {
    /// Packed floats, see the module above.
    #[prost(message, tag = "1")]
    Floats(RawValues),
    #[prost(message, tag = "2")]
    Ints(RepeatedInts),
    #[prost(message, tag = "3")]
    Bools(RepeatedBools),
    #[prost(message, tag = "4")]
    Strings(RepeatedStrings),
    #[prost(message, tag = "5")]
    LongInts(RepeatedLongInts),
    /// Packed doubles, see the module above.
    #[prost(message, tag = "6")]
    Doubles(RawValues),
    #[prost(message, tag = "7")]
    Bytes(RawValues),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RawValues {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) values: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedInts {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) values: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedLongInts {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedBools {
    #[prost(bool, repeated, tag = "1")]
    pub(crate) values: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedStrings {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}
