//! Why a model could not be read.

use std::path::{Path, PathBuf};

/// Why a model could not be read. Every message names the file and says what was expected there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no file or folder at the path, or inside the package where its manifest points.
    #[error("{}: no such file{hint}", path.display())]
    NotFound {
        /// The path that is missing.
        path: PathBuf,
        /// What to do about it; empty or starting with a colon or a comma.
        hint: String,
    },
    /// The operating system could not read the file.
    #[error("{}: cannot be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is something else, or damaged.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A part of the program is damaged.
    #[error("{}: {place}: {reason}", path.display())]
    InvalidProgram {
        /// The file.
        path: PathBuf,
        /// Function and operation, or layer.
        place: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The file is sound but made by a newer format than this version reads.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        reason: String,
    },
}

/// What is wrong with a part of a program or a network, before it is known in which file.
#[derive(Debug, PartialEq)]
pub(crate) struct Flaw {
    /// Function and operation, or layer.
    pub(crate) place: String,
    /// What is wrong, and what was expected.
    pub(crate) reason: String,
}

impl Flaw {
    pub(crate) fn new(place: impl Into<String>, reason: impl Into<String>) -> Flaw {
        Flaw { place: place.into(), reason: reason.into() }
    }

    /// The error for a reader of the file at `path`.
    pub(crate) fn in_file(self, path: &Path) -> ReadError {
        ReadError::InvalidProgram { path: path.to_owned(), place: self.place, reason: self.reason }
    }
}

/// A name from a file as messages show it: quoted, on one line, cut beyond 80 characters.
pub(crate) fn quote(name: &str) -> String {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}... ({} bytes)", &name[..end], name.len()),
    }
}

/// [`quote`] without quotes, where the name is a short identifier anyway.
pub(crate) fn brief(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@.".contains(c);
    if name.len() <= 80 && !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { quote(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut() {
        assert_eq!(quote("conv_0"), "\"conv_0\"");
        assert_eq!((brief("conv_0"), brief("a b")), ("conv_0".to_owned(), quote("a b")));
        assert_eq!(quote("a\n\0"), "\"a\\n\\0\"");
        assert_eq!(quote(&"\u{fc}".repeat(1000)), format!("\"{}\"... (2000 bytes)", "\u{fc}".repeat(80)));
    }
}
