//! The fields of an encoded message, without knowing its type.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::reason;

/// One field of an encoded message.
#[derive(Debug)]
pub(crate) struct Field {
    /// The field's number.
    pub(crate) number: u32,
    /// The content of a string, a message or packed numbers; `None` for a single number.
    pub(crate) body: Option<Bytes>,
}

/// The fields of an encoded message in file order. Ends after the first error.
#[derive(Debug)]
pub(crate) struct Fields {
    rest: Bytes,
    total: usize,
}

impl Fields {
    /// Over the whole of `message`.
    pub(crate) fn new(message: Bytes) -> Fields {
        Fields { total: message.len(), rest: message }
    }

    fn read(&mut self) -> Result<Field, String> {
        let at = self.total - self.rest.len();
        let damaged = |error| format!("no protobuf field can be read at byte {at}: {}", reason(&error));
        let (number, wire_type) = decode_key(&mut self.rest).map_err(damaged)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, number, &mut self.rest, DecodeContext::default()).map_err(damaged)?;
            return Ok(Field { number, body: None });
        }
        let len = decode_varint(&mut self.rest).map_err(damaged)?;
        match usize::try_from(len) {
            Ok(len) if len <= self.rest.len() => Ok(Field { number, body: Some(self.rest.split_to(len)) }),
            _ => Err(format!(
                "field {number} at byte {at} claims {len} bytes, but only {} follow: the file is damaged or cut short",
                self.rest.len()
            )),
        }
    }
}

impl Iterator for Fields {
    type Item = Result<Field, String>;

    fn next(&mut self) -> Option<Result<Field, String>> {
        if !self.rest.has_remaining() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest.clear();
        }
        Some(field)
    }
}

/// The member of a `oneof` that an encoded message holds: the last one there is, as protobuf rules.
///
/// Only messages can be members. `name` gives the member's name by its number.
pub(crate) fn last_member<T>(message: &Bytes, name: impl Fn(u32) -> Option<T>) -> Result<Option<(T, Bytes)>, String> {
    let mut member = None;
    for field in Fields::new(message.clone()) {
        let field = field?;
        if let (Some(name), Some(body)) = (name(field.number), field.body) {
            member = Some((name, body));
        }
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &'static [u8], expected: &str) {
        let fields: Result<Vec<_>, _> = Fields::new(Bytes::from_static(bytes)).collect();
        let shown = match fields {
            Ok(fields) => {
                fields.iter().map(|f| format!("{}:{} ", f.number, f.body.as_ref().map_or(0, Bytes::len))).collect()
            }
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn fields_of_every_wire_type() {
        check(b"\x08\x07\x12\x02ab\x1d1234\x2112345678", "1:0 2:2 3:0 4:0 ");
    }

    #[test]
    fn damage_is_told_with_its_place() {
        check(b"\x08\x07\x12\x05ab", "field 2 at byte 2 claims 5 bytes, but only 2 follow");
        check(b"\x08\x07\x00\x00", "at byte 2");
        check(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "claims 9223372036854775807 bytes");
        check(&[0x0b; 1000], "at byte 0");
    }

    #[test]
    fn the_last_member_counts() {
        let message = Bytes::from_static(b"\x0a\x01a\x12\x01b\x0a\x01c\x1a\x01d");
        let member = last_member(&message, |n| (n < 3).then_some(n)).unwrap();
        assert_eq!(member, Some((1, Bytes::from_static(b"c"))));
    }
}
