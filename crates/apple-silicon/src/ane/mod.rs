//! Loading and running Core ML models.
//!
//! ```no_run
//! use apple_silicon::ane::{features::{Array, Features}, models::coreml_model::{CoreMlModel, LoadOptions}};
//!
//! # fn main() -> apple_silicon::ane::errors::Result<()> {
//! let model = CoreMlModel::load("mobilenet.mlpackage", &LoadOptions::default())?;
//! println!("runs on {}", model.engine());
//! let input = Features::from_iter([("input", Array::new([1, 3, 224, 224], vec![0.5f32; 3 * 224 * 224])?)]);
//! let output = model.predict(&input)?;
//! # Ok(())
//! # }
//! ```

mod blocking;
pub mod compat;
mod deadlines;
pub mod engines;
pub mod errors;
pub mod features;
pub mod health;
pub mod infer;
mod ledger;
pub mod limits;
pub mod manager;
pub mod metrics;
pub mod models;
pub mod resource_pool;
mod status;
mod sync;
