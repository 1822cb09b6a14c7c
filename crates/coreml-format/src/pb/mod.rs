//! Core ML's protobuf messages, as far as this crate reads them. Nothing outside of the crate sees them.
//!
//! Every name and number is Core ML's own. Two habits keep decoding cheap and bounded:
//! - what is large or nested (weights, the layers of a network, the operations of a block) is declared as `bytes`:
//!   a message on the wire looks the same as `bytes`, so it stays a view of the mapped file until it is asked for;
//! - a packed `repeated float` or `double` that holds weights is declared as `bytes` too: packed numbers have the
//!   wire type of `bytes`, and are little endian already.

pub(crate) mod classic;
pub(crate) mod mil;
pub(crate) mod model;
pub(crate) mod nn;
mod wire;

pub(crate) use wire::{Fields, last_member};

use std::fmt::Display;

use bytes::Bytes;
use prost::Message;

/// Decodes a message of a kind that `what` names.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes, what: impl Display) -> Result<M, String> {
    let len = bytes.len();
    M::decode(bytes).map_err(|error| format!("{what} ({len} bytes) is damaged or cut short: {}", reason(&error)))
}

/// What prost found, without its preamble.
fn reason(error: &prost::DecodeError) -> String {
    error.to_string().replace("failed to decode Protobuf message: ", "")
}
