//! Element types of Core ML values.

use std::fmt;

/// The type of one element of a tensor, as MIL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each name is its own description")]
pub enum DType {
    Bool,
    String,
    Float16,
    Float32,
    Float64,
    BFloat16,
    Float8E4M3FN,
    Float8E5M2,
    Int4,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt1,
    UInt2,
    UInt3,
    UInt4,
    UInt6,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
}

/// One row a type: name in MIL text, bits an element, number in `MIL.proto`, number in weight.bin.
const TABLE: &[(DType, &str, usize, i32, Option<u32>)] = &[
    (DType::Bool, "bool", 8, 1, None),
    (DType::String, "string", 0, 2, None),
    (DType::Float16, "fp16", 16, 10, Some(1)),
    (DType::Float32, "fp32", 32, 11, Some(2)),
    (DType::Float64, "fp64", 64, 12, None),
    (DType::BFloat16, "bf16", 16, 13, Some(5)),
    (DType::Float8E4M3FN, "fp8e4m3fn", 8, 40, Some(16)),
    (DType::Float8E5M2, "fp8e5m2", 8, 41, Some(17)),
    (DType::Int4, "int4", 4, 25, Some(8)),
    (DType::Int8, "int8", 8, 21, Some(4)),
    (DType::Int16, "int16", 16, 22, Some(6)),
    (DType::Int32, "int32", 32, 23, Some(14)),
    (DType::Int64, "int64", 64, 24, None),
    (DType::UInt1, "uint1", 1, 37, Some(9)),
    (DType::UInt2, "uint2", 2, 36, Some(10)),
    (DType::UInt3, "uint3", 3, 39, Some(12)),
    (DType::UInt4, "uint4", 4, 35, Some(11)),
    (DType::UInt6, "uint6", 6, 38, Some(13)),
    (DType::UInt8, "uint8", 8, 31, Some(3)),
    (DType::UInt16, "uint16", 16, 32, Some(7)),
    (DType::UInt32, "uint32", 32, 33, Some(15)),
    (DType::UInt64, "uint64", 64, 34, None),
];

impl DType {
    /// The type with this number in `MIL.proto`'s `DataType`.
    pub(crate) fn from_mil(number: i32) -> Option<DType> {
        TABLE.iter().find(|row| row.3 == number).map(|row| row.0)
    }

    /// The type with this number in a weight file's blob metadata.
    pub(crate) fn from_blob(number: u32) -> Option<DType> {
        TABLE.iter().find(|row| row.4 == Some(number)).map(|row| row.0)
    }

    /// The type with this MIL name, such as `fp16`.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (DType, &'static str, usize, i32, Option<u32>) {
        TABLE.iter().find(|row| row.0 == self).expect("every type has a row (tested)")
    }

    /// The name in MIL text: `fp16`, `int32`, `uint4`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bits that one element takes in storage. Strings, which have no fixed size, give 0.
    pub fn bits(self) -> usize {
        self.row().2
    }

    /// Bytes that `count` elements take, sub-byte types packed. `None` where that overflows.
    pub fn bytes(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(self, Float16 | Float32 | Float64 | BFloat16 | Float8E4M3FN | Float8E5M2)
    }

    /// Whether this is an integer type. Booleans are not.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool | DType::String)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (i, a) in TABLE.iter().enumerate() {
            for b in &TABLE[i + 1..] {
                assert!(a.0 != b.0 && a.1 != b.1 && a.3 != b.3, "{a:?} {b:?}");
                assert!(a.4.is_none() || a.4 != b.4, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn sub_byte_elements_are_packed() {
        for (dtype, count, bytes) in
            [(DType::UInt3, 3, 2), (DType::UInt1, 9, 2), (DType::Int4, 4, 2), (DType::Float16, 3, 6)]
        {
            assert_eq!(dtype.bytes(count), Some(bytes), "{count} {dtype}");
        }
        assert_eq!(DType::Float64.bytes(usize::MAX / 2), None);
    }
}
