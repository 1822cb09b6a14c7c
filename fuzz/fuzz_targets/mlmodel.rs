//! A `.mlmodel` file of these bytes.
#![no_main]

use ane_fuzz::open_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| open_file(data));
