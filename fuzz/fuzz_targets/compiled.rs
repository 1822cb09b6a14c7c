//! A compiled model whose description is these bytes.
#![no_main]

use ane_fuzz::open_compiled;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| open_compiled(data));
