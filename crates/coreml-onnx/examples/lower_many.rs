use std::{fs, path::Path, panic};
use coreml_onnx::{LowerOptions, Storage, lower};
fn main() {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (m, o) = line.split_once(' ').unwrap();
        let r = panic::catch_unwind(|| -> Result<(), Box<dyn std::error::Error>> {
            let model = coreml_format::Model::open(m)?;
            let l = lower(&model, &LowerOptions { function: None, half_io: false, ..LowerOptions::default() })?;
            fs::create_dir_all(o)?;
            fs::write(Path::new(o).join("model.onnx"), l.model.encode(Storage::Inside))?;
            Ok(())
        });
        match r { Ok(Ok(())) => println!("ok"), Ok(Err(e)) => println!("ERR {}", e.to_string().replace('\n', " ")), Err(_) => println!("PANIC") }
    }
}
