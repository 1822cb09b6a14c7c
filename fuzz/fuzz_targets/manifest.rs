//! A package whose manifest is these bytes.
#![no_main]

use ane_fuzz::{Parts, open_package};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| open_package(Parts { manifest: Some(data), ..Parts::default() }));
