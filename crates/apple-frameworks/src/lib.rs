//! Core ML, and what Apple's systems tell of themselves, as a small safe interface.
//!
//! All of ANE Manager's `unsafe` code is here; every other crate forbids it. On other systems this crate is empty, but
//! for tests that set `cfg(gnustep)`: those run this code on Linux, against a stand-in for Core ML.
//!
//! It calls public interfaces alone, each behind a check of the system's version where the oldest supported one, macOS
//! 11 and iOS 14, does not have it. It knows no model format, no pool and no policy.
//!
//! Rules that every `unsafe` block here relies on:
//! - Calls happen within an autorelease pool, and so does the drop of what keeps an object. Completion blocks open their own,
//!   and no panic leaves a block.
//! - Memory that Core ML is given to read is owned by a block that Core ML frees, never borrowed from a caller.
//! - Results are read by their strides: through `getBytesWithHandler:`, or where the system lacks it, at `dataPointer`.
//! - Objects go between threads where Apple says that their class allows it, or that one thread at a time uses them.

#![cfg(any(target_vendor = "apple", gnustep))]

mod array;
mod configuration;
mod device;
mod failure;
mod kept;
mod lend;
mod model;
mod os;
mod pixels;
pub mod plan;
pub mod system;
mod value;

pub use array::{Array, ElementType, Elements, Memory};
pub use configuration::{Configuration, Units};
pub use device::{Device, devices};
pub use failure::Failure;
pub use model::{Backings, Inputs, Model, Outputs, Prediction, Request, State, compile};
pub use pixels::{PixelFormat, Pixels};
pub use value::Value;
