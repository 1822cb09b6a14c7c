//! Runs models for the stand-in for Core ML, on this project's own CPU engines.
//!
//! The functions are those of `struct Engine` in `../framework/stand_in.h`, which says what they do.
//!
//! # Safety
//! They are called by that library alone. Its pointers are valid or null as the header says; a handle is what the
//! function that makes such handles gave, is not freed yet, and is used by one thread at a time but for models.
#![allow(clippy::missing_safety_doc, reason = "the same for all: see above")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "the same for all: see above")]
#![allow(missing_docs, reason = "the header says what the functions do")]

mod plain;
mod structure;

use std::{
    ffi::{CStr, CString, c_char, c_double, c_long, c_longlong, c_uint, c_void},
    ptr, slice,
};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    models::coreml_model::{CoreMlModel, LoadOptions, State},
};
use coreml_format::Model;
use serde_json::{Value, json};

pub use self::plain::Features;
use self::plain::{Failed, Plain};

/// rten is always there; ONNX Runtime, where it is found, runs what rten does not.
const ENGINES: [EngineChoice; 2] = [EngineChoice::Rten, EngineChoice::OnnxRuntime];

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_check(path: *const c_char) -> *mut c_char {
    match Model::open(unsafe { string(path) }) {
        Ok(_) => ptr::null_mut(),
        Err(error) => text(error),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_structure(path: *const c_char, message: *mut *mut c_char) -> *mut c_char {
    match Model::open(unsafe { string(path) }) {
        Ok(model) => text(structure::of(&model)),
        Err(error) => {
            unsafe { message.write(text(error)) };
            ptr::null_mut()
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_load(
    path: *const c_char,
    function: *const c_char,
    message: *mut *mut c_char,
) -> *mut CoreMlModel {
    let function = (!function.is_null()).then(|| unsafe { string(function) });
    match load(unsafe { string(path) }, function) {
        Ok(model) => Box::into_raw(Box::new(model)),
        Err(error) => {
            unsafe { message.write(text(error)) };
            ptr::null_mut()
        }
    }
}

fn load(path: &str, function: Option<&str>) -> Result<CoreMlModel, ANEError> {
    let load = |engine| {
        let options = LoadOptions { engine, function: function.map(str::to_owned), ..LoadOptions::default() };
        CoreMlModel::load(path, &options)
    };
    let [first, second] = ENGINES;
    load(first).or_else(|why| load(second).map_err(|_| why))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_unload(model: *mut CoreMlModel) {
    drop(unsafe { Box::from_raw(model) });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_describe(model: *const CoreMlModel) -> *mut c_char {
    let interface = unsafe { &*model }.interface();
    let inputs = interface.inputs.iter().map(|input| json!({ "name": input.name, "optional": input.optional }));
    let states = interface.states.iter().map(plain::describe_state);
    text(json!({ "inputs": inputs.collect::<Value>(), "states": states.collect::<Value>() }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_new_state(model: *const CoreMlModel) -> *mut State {
    let state = unsafe { &*model }.new_state();
    Box::into_raw(Box::new(state.expect("the states of models that are loaded have a size")))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_free_state(state: *mut State) {
    drop(unsafe { Box::from_raw(state) });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_predict(
    model: *const CoreMlModel,
    features: *const Features,
    state: *mut State,
    code: *mut c_long,
    message: *mut *mut c_char,
) -> *mut Features {
    let (model, features, state) = unsafe { (&*model, &*features, state.as_mut()) };
    match plain::predict(model, features, state) {
        Ok(results) => Box::into_raw(Box::new(results)),
        Err(Failed { code: number, message: why }) => {
            unsafe { code.write(number) };
            unsafe { message.write(text(why)) };
            ptr::null_mut()
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn engine_new_features() -> *mut Features {
    Box::into_raw(Box::default())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_free_features(features: *mut Features) {
    drop(unsafe { Box::from_raw(features) });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_put_array(
    features: *mut Features,
    name: *const c_char,
    kind: c_long,
    shape: *const c_long,
    rank: c_long,
    elements: *const c_void,
) {
    let shape = unsafe { slice::from_raw_parts(shape, rank as usize) }.to_vec();
    let count: c_long = shape.iter().product();
    let bytes = count as usize * plain::element_size(kind);
    let bytes = unsafe { slice::from_raw_parts(elements.cast::<u8>(), bytes) }.to_vec();
    unsafe { put(features, name, Plain::Array { kind, shape, bytes }) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_put_image(
    features: *mut Features,
    name: *const c_char,
    width: c_long,
    height: c_long,
    format: c_uint,
    pixels: *const c_void,
) {
    let bytes = (width * height) as usize * plain::pixel_size(format);
    let bytes = unsafe { slice::from_raw_parts(pixels.cast::<u8>(), bytes) }.to_vec();
    unsafe { put(features, name, Plain::Image { width, height, format, bytes }) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_put_int64(features: *mut Features, name: *const c_char, value: c_longlong) {
    unsafe { put(features, name, Plain::Int64(value)) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_put_double(features: *mut Features, name: *const c_char, value: c_double) {
    unsafe { put(features, name, Plain::Double(value)) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_put_string(features: *mut Features, name: *const c_char, value: *const c_char) {
    unsafe { put(features, name, Plain::String(CStr::from_ptr(value).to_owned())) };
}

unsafe fn put(features: *mut Features, name: *const c_char, value: Plain) {
    unsafe { &mut *features }.0.push((unsafe { CStr::from_ptr(name) }.to_owned(), value));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_count(features: *const Features) -> c_long {
    unsafe { &*features }.0.len() as c_long
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_feature(features: *const Features, index: c_long, kind: *mut c_long) -> *const c_char {
    let (name, value) = unsafe { &(&(*features).0)[index as usize] };
    unsafe { kind.write(value.kind()) };
    name.as_ptr()
}

unsafe fn at<'a>(features: *const Features, index: c_long) -> &'a Plain {
    unsafe { &(&(*features).0)[index as usize].1 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_array(
    features: *const Features,
    index: c_long,
    kind: *mut c_long,
    rank: *mut c_long,
    shape: *mut *const c_long,
) -> *const c_void {
    let Plain::Array { kind: of, shape: sizes, bytes } = (unsafe { at(features, index) }) else { return ptr::null() };
    unsafe { kind.write(*of) };
    unsafe { rank.write(sizes.len() as c_long) };
    unsafe { shape.write(sizes.as_ptr()) };
    bytes.as_ptr().cast()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_image(
    features: *const Features,
    index: c_long,
    width: *mut c_long,
    height: *mut c_long,
    format: *mut c_uint,
) -> *const c_void {
    let Plain::Image { width: w, height: h, format: f, bytes } = (unsafe { at(features, index) }) else {
        return ptr::null();
    };
    unsafe { width.write(*w) };
    unsafe { height.write(*h) };
    unsafe { format.write(*f) };
    bytes.as_ptr().cast()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_int64(features: *const Features, index: c_long) -> c_longlong {
    if let Plain::Int64(value) = unsafe { at(features, index) } { *value } else { 0 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_real(features: *const Features, index: c_long) -> c_double {
    if let Plain::Double(value) = unsafe { at(features, index) } { *value } else { 0.0 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_string(features: *const Features, index: c_long) -> *const c_char {
    if let Plain::String(value) = unsafe { at(features, index) } { value.as_ptr() } else { ptr::null() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_entries(features: *const Features, index: c_long) -> c_long {
    match unsafe { at(features, index) } {
        Plain::Dictionary(entries) | Plain::Sequence(entries) => entries.len() as c_long,
        _ => 0,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_entry(
    features: *const Features,
    index: c_long,
    place: c_long,
    key: *mut c_longlong,
    value: *mut c_double,
) -> *const c_char {
    let (Plain::Dictionary(entries) | Plain::Sequence(entries)) = (unsafe { at(features, index) }) else {
        return ptr::null();
    };
    let entry = &entries[place as usize];
    unsafe { key.write(entry.number) };
    unsafe { value.write(entry.value) };
    entry.word.as_ref().map_or(ptr::null(), |word| word.as_ptr())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_free_text(text: *mut c_char) {
    if !text.is_null() {
        drop(unsafe { CString::from_raw(text) });
    }
}

/// A string for the other side.
fn text(text: impl ToString) -> *mut c_char {
    plain::c_string(&text.to_string()).into_raw()
}

unsafe fn string<'a>(pointer: *const c_char) -> &'a str {
    unsafe { CStr::from_ptr(pointer) }.to_str().expect("Foundation's strings are UTF-8")
}
