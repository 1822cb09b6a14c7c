//! Compiled models: what their folder says of them.

use std::path::Path;

use crate::{Model, ReadError};

/// Whether a folder is a compiled model.
pub(crate) fn is_compiled(folder: &Path) -> bool {
    folder.join("coremldata.bin").exists()
}

/// Reads the description of a compiled model.
pub(crate) fn read(folder: &Path) -> Result<Model, ReadError> {
    Err(ReadError::Unsupported { path: folder.to_owned(), reason: "is a compiled model".to_owned() })
}
