//! Lowers a model and writes `model.onnx` and `model.onnx.data` into a folder: a tool for working on lowerings.
//!
//! `cargo run --example lower -- MODEL FOLDER [FUNCTION]`

use std::{error::Error, fs, path::Path};

use coreml_onnx::{LowerOptions, Storage, lower};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: lower MODEL FOLDER [FUNCTION]".into());
    };
    let model = coreml_format::Model::open(model)?;
    let lowered =
        lower(&model, &LowerOptions { function: arguments.next(), half_io: true, ..LowerOptions::default() })?;
    fs::create_dir_all(&folder)?;
    let folder = Path::new(&folder);
    fs::write(folder.join("model.onnx"), lowered.model.encode(Storage::Beside("model.onnx.data")))?;
    lowered.model.write_weights(&mut fs::File::create(folder.join("model.onnx.data"))?)?;
    for (op, count) in lowered.model.histogram() {
        println!("{op} {count}");
    }
    Ok(())
}
