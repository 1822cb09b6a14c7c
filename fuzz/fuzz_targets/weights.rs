//! A package whose weight file is these bytes.
#![no_main]

use ane_fuzz::{Parts, open_package};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| open_package(Parts { weights: Some(data), ..Parts::default() }));
