//! A `.mlmodel` file of these bytes, evaluated where it is a classic model or a pipeline of them.
#![no_main]

#[path = "../src/evaluate.rs"]
mod evaluate;

use ane_fuzz::folder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| evaluate::evaluate_file(&folder("classic.mlmodel"), data));
