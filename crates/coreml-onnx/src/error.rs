//! Why a model could not be lowered.

use std::fmt;

/// Why a model could not be lowered. Messages name the operation; which model it is, the caller knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// Operations that have no lowering, all of them.
    #[error("{}", unsupported(.0))]
    Unsupported(Vec<UnsupportedOp>),
    /// An operation whose parameters make no sense, or use what its lowering does not offer.
    #[error("{kind} {name:?}: {reason}")]
    Op {
        /// The kind of the operation or layer.
        kind: String,
        /// Its name.
        name: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The model is of a type that cannot be lowered.
    #[error("{0}")]
    Model(String),
}

/// A kind of operation that has no lowering, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedOp {
    /// The kind: a MIL operation or a layer.
    pub kind: String,
    /// How many there are.
    pub count: usize,
    /// The names of the first few.
    pub places: Vec<String>,
}

impl fmt::Display for UnsupportedOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.places.iter().map(|name| shorten(name)).collect();
        let more = if self.count > places.len() { ", ..." } else { "" };
        write!(f, "{} x{} ({}{more})", self.kind, self.count, places.join(", "))
    }
}

fn unsupported(ops: &[UnsupportedOp]) -> String {
    let list: Vec<String> = ops.iter().map(UnsupportedOp::to_string).collect();
    let kinds = if ops.len() == 1 {
        "1 kind of operation has".to_owned()
    } else {
        format!("{} kinds of operation have", ops.len())
    };
    format!("{kinds} no lowering to ONNX yet: {}", list.join("; "))
}

/// A name fit for a message.
pub(crate) fn shorten(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}
