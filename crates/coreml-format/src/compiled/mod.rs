//! Compiled models (`.mlmodelc`): what their folder says of what they take and give, and the program of an ML Program.
//!
//! The layout is Apple's own and not documented, so all of this is best effort: the description comes from
//! `coremldata.bin` where it can be found there, else from `metadata.json`, which not every compiler writes; the program
//! is the text in `model.mil`. A neural network's is Apple's own.

mod coremldata;
mod metadata;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::{Model, ModelKind, ReadError, mil, schema::Schema, source::io_error, weights::WeightFiles};

const COREMLDATA: &str = "coremldata.bin";
const METADATA: &str = "metadata.json";
const PROGRAM: &str = "model.mil";
/// Programs of thousands of operations have some MiB.
const PROGRAM_LIMIT: u64 = 256 << 20;
/// Either file has some KiB, or a few hundred with many class labels.
const FILE_LIMIT: u64 = 16 << 20;

/// What one of the two files says.
#[derive(Debug)]
struct Found {
    spec_version: Option<u32>,
    schema: Schema,
}

/// Whether a folder is a compiled model.
pub(crate) fn is_compiled(folder: &Path) -> bool {
    folder.join(COREMLDATA).exists() || folder.extension().is_some_and(|extension| extension == "mlmodelc")
}

/// Reads the description of a compiled model.
pub(crate) fn read(folder: &Path) -> Result<Model, ReadError> {
    let coremldata = read_file(folder, COREMLDATA, FILE_LIMIT)?.and_then(|bytes| coremldata::read(&bytes.into()));
    let metadata = match read_file(folder, METADATA, FILE_LIMIT)? {
        None => None,
        Some(text) => Some(metadata::read(&text).map_err(|reason| ReadError::Invalid {
            path: folder.join(METADATA),
            reason: format!("is not what describes a compiled model: {reason}"),
        })?),
    };
    let metadata_version = metadata.as_ref().and_then(|found| found.spec_version);
    let Some(mut found) = coremldata.or(metadata) else {
        return Err(ReadError::Invalid {
            path: folder.to_owned(),
            reason: format!(
                "is a compiled model without a description in {COREMLDATA} or {METADATA}; open the .mlmodel or \
                 .mlpackage that it was compiled from"
            ),
        });
    };
    let kind = kind(folder, &mut found.schema)?;
    Ok(Model {
        path: folder.to_owned(),
        spec_version: metadata_version.or(found.spec_version).unwrap_or(0),
        schema: found.schema,
        kind,
    })
}

/// The program where there is one that can be read; that it cannot is no reason not to tell what the model takes.
fn kind(folder: &Path, schema: &mut Schema) -> Result<ModelKind, ReadError> {
    let Some(text) = read_file(folder, PROGRAM, PROGRAM_LIMIT)? else {
        return Ok(ModelKind::Compiled(format!("it has no {PROGRAM}")));
    };
    let read = || {
        let text = str::from_utf8(&text).map_err(|error| format!("it is no text: {error}"))?;
        let mut weights = WeightFiles::new(folder.to_owned(), folder.to_owned());
        let program = mil::read_text(text, &mut weights)?;
        mil::validate(&program, schema).map_err(|flaw| format!("{}: {}", flaw.place, flaw.reason))?;
        Ok(program)
    };
    match read() {
        Ok(program) => {
            schema.class_labels = mil::class_labels(&program, &schema.default_function);
            Ok(ModelKind::Program(program))
        }
        Err(reason) => {
            let reason: String = reason;
            Ok(ModelKind::Compiled(format!("its {PROGRAM} is not understood: {reason}")))
        }
    }
}

/// A file's content; `None` where there is no such file.
fn read_file(folder: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let path = folder.join(name);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > limit => {
            Err(ReadError::Invalid { path, reason: format!("is larger than {} MiB", limit >> 20) })
        }
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&path, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(files: &[(&str, &[u8])], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let shown = match read(folder.path()) {
            Ok(model) => format!("version {}, {} inputs", model.spec_version, model.schema.interface.inputs.len()),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn either_file_will_do() {
        let json = br#"[{"specificationVersion": 8, "inputSchema": [], "outputSchema": []}]"#;
        check(&[(METADATA, json)], "version 8, 0 inputs");
        check(&[(METADATA, json), (COREMLDATA, &[0; 64])], "version 8, 0 inputs");
        check(&[(COREMLDATA, &[0; 64])], "is a compiled model without a description");
        check(&[(METADATA, b"{")], "metadata.json: is not what describes a compiled model");
        check(&[], "is a compiled model without a description");
    }
}
