//! The Python package `ane`: Core ML models on any machine, for Python.
//!
//! This crate turns Python's values into features and back, and says which Python exception an error is; everything
//! else is `apple_silicon`'s. What is easier said in Python is in `python/ane`.

mod errors;
mod interrupt;
mod model;
mod schema;
mod values;

use pyo3::prelude::*;

/// The compiled half of the package `ane`.
#[pymodule]
mod _ane {
    use std::path::PathBuf;

    use apple_silicon::ane::engines::{self, Status};
    use pyo3::{prelude::*, types::PyDict};

    /// Finds NumPy now: at its first use, a Ctrl-C on the way would be a panic.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.py().import("numpy")?;
        numpy::dtype::<f32>(module.py());
        Ok(())
    }

    #[pymodule_export]
    use super::model::{Model, State};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Names the folder of the package `onnxruntime`, whose library is then used.
    #[pyfunction]
    fn offer_onnxruntime_package(folder: PathBuf) {
        engines::offer_onnxruntime_package(folder);
    }

    /// The fields of each engine on this machine, in the order in which `auto` looks at them.
    #[pyfunction]
    fn installed_engines(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
        let fields = |engine: engines::Installed| {
            let (status, problem) = match engine.status {
                Status::Chosen => ("chosen", None),
                Status::Available => ("available", None),
                Status::Unusable(why) => ("unusable", Some(why)),
            };
            let fields = PyDict::new(py);
            fields.set_item("name", engine.engine)?;
            fields.set_item("version", engine.version)?;
            fields.set_item("path", engine.path.map(|path| path.display().to_string()))?;
            fields.set_item("origin", engine.origin)?;
            fields.set_item("status", status)?;
            fields.set_item("problem", problem)?;
            Ok(fields)
        };
        py.detach(engines::installed).into_iter().map(fields).collect()
    }
}
