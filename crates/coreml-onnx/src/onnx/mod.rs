//! Writing ONNX: the model that lowering makes, and the builder that makes it.
//!
//! Nothing here knows MIL's operations.

mod builder;
mod element;
mod math;
mod model;
pub(crate) mod pb;
mod verbs;
mod weight;

pub(crate) use builder::{OnnxBuilder, Value};
pub use element::Element;
pub use model::{Node, OnnxModel, Port, Storage};
pub(crate) use verbs::{Activation, PadMode, Recurrent, Resize, Window};
pub use weight::Weight;
pub(crate) use weight::{Constexpr, Identity, Source};
