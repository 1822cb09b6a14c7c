//! The library's errors as Python exceptions.

use apple_silicon::ane::errors::ANEError;
use pyo3::{prelude::*, types::PyType};

/// The exception that an error is: the class in `ane._errors` with the variant's name.
pub(crate) fn exception(py: Python<'_>, error: &ANEError) -> PyErr {
    let name = match error {
        ANEError::Unavailable => "Unavailable",
        ANEError::ModelNotFound(_) => "ModelNotFound",
        ANEError::InvalidModelFormat(_) => "InvalidModelFormat",
        ANEError::CompilationFailed(_) => "CompilationFailed",
        ANEError::InferenceFailed(_) => "InferenceFailed",
        ANEError::Timeout(_) => "Timeout",
        ANEError::ResourceLimit(_) => "ResourceLimit",
        ANEError::MemoryAllocationFailed(_) => "MemoryAllocationFailed",
        ANEError::InvalidShape(_) => "InvalidShape",
        ANEError::UnsupportedPrecision(_) => "UnsupportedPrecision",
        ANEError::ModelAlreadyLoaded(_) => "ModelAlreadyLoaded",
        ANEError::Internal(_) => "Internal",
    };
    let class = py.import("ane._errors").and_then(|module| module.getattr(name));
    match class.and_then(|class| class.cast_into::<PyType>().map_err(PyErr::from)) {
        Ok(class) => PyErr::from_type(class, error.to_string()),
        Err(missing) => missing,
    }
}
