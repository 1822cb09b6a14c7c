//! Model files: one encoded `Model` message.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{
    Model, ModelKind, ReadError, description, mil, nn,
    pb::{self, Fields},
    schema::Schema,
    source::Source,
    spec,
    weights::WeightFiles,
};

/// Protobuf messages have no more bytes; Core ML reads no larger file either.
const FILE_LIMIT: usize = i32::MAX as usize;

/// First bytes of files that are often taken for a model: offset, bytes, what to say.
const LOOKALIKES: &[(usize, &[u8], &str)] = &[
    (0, b"PK\x03\x04", "a ZIP archive; unpack it and open the .mlpackage folder or the .mlmodel file inside"),
    (0, b"\x1f\x8b", "compressed with gzip; decompress it first"),
    (0, b"\xfd7zXZ\0", "compressed with xz; decompress it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (0, b"\x89HDF", "an HDF5 file, such as Keras writes; convert it with coremltools"),
    (4, b"TFL3", "a TensorFlow Lite model; convert it with coremltools"),
];

/// Reads the model file at `file`. Its weight files must lie within `boundary`; `path` is what the user opened.
pub(crate) fn read(path: &Path, file: &Path, boundary: &Path) -> Result<Model, ReadError> {
    let bytes = Source::open(file)?.bytes().clone();
    let invalid = |reason| ReadError::Invalid { path: file.to_owned(), reason };
    let (number, name, body) = model_type(&bytes).map_err(invalid)?;

    let model: pb::model::Model = pb::decode(bytes, "the model").map_err(invalid)?;
    let spec_version = spec_version(model.specification_version, file)?;
    let description = model.description.ok_or_else(|| invalid("has no description".to_owned()))?;
    let mut schema = description::read(description).map_err(|reason| invalid(format!("description: {reason}")))?;

    let kind = match name {
        "mlProgram" => {
            let mut weights = WeightFiles::new(folder(file), boundary.to_owned());
            let program = mil::read(body, &mut weights).map_err(|flaw| flaw.in_file(file))?;
            mil::validate(&program, &schema).map_err(|flaw| flaw.in_file(file))?;
            schema.class_labels = mil::class_labels(&program, &schema.default_function);
            ModelKind::Program(program)
        }
        "neuralNetwork" | "neuralNetworkClassifier" | "neuralNetworkRegressor" => {
            ModelKind::NeuralNetwork(neural_network(name, body, &mut schema, file)?)
        }
        _ => other(number, name, body).map_err(invalid)?,
    };
    Ok(Model { path: path.to_owned(), spec_version, schema, kind })
}

fn neural_network(name: &str, body: Bytes, schema: &mut Schema, file: &Path) -> Result<nn::NeuralNetwork, ReadError> {
    let network = nn::read(body, name, schema).map_err(|flaw| flaw.in_file(file))?;
    nn::validate(&network, schema).map_err(|flaw| flaw.in_file(file))?;
    schema.class_labels = network.classifier.as_ref().map(|classifier| classifier.labels.clone());
    Ok(network)
}

/// The folder of a file; `.` where its path is a bare name.
pub(crate) fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The number and name of the model's type, and its content.
fn model_type(bytes: &Bytes) -> Result<(u32, &'static str, Bytes), String> {
    if bytes.is_empty() {
        return Err("is empty (0 bytes)".to_owned());
    }
    if bytes.len() > FILE_LIMIT {
        return Err(format!("has {} bytes; a model file has {FILE_LIMIT} at most", bytes.len()));
    }
    let lookalike =
        LOOKALIKES.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, what)) = lookalike {
        return Err(format!("is not a Core ML model but {what}"));
    }
    let member = pb::last_member(bytes, |number| spec::model_type(number).map(|name| (number, name)))
        .map_err(|reason| format!("is not a Core ML model, or damaged: {reason}"))?;
    match member {
        Some(((number, name), body)) => Ok((number, name, body)),
        None if is_onnx(bytes) => {
            Err("is not a Core ML model but an ONNX model; ONNX models run as they are".to_owned())
        }
        None => Err("is not a Core ML model: it has no content of any type of model".to_owned()),
    }
}

/// ONNX models are protobufs too; `graph` is their field 7 and `opset_import` their field 8.
fn is_onnx(bytes: &Bytes) -> bool {
    let has = |number| Fields::new(bytes.clone()).flatten().any(|field| field.number == number && field.body.is_some());
    has(7) && has(8)
}

fn spec_version(version: i32, file: &Path) -> Result<u32, ReadError> {
    match u32::try_from(version) {
        Ok(version @ 1..=spec::NEWEST) => Ok(version),
        Ok(version) if version > spec::NEWEST => Err(ReadError::Unsupported {
            path: file.to_owned(),
            reason: format!("has specification version {version}; up to {} is read", spec::NEWEST),
        }),
        _ => Err(ReadError::Invalid {
            path: file.to_owned(),
            reason: format!("has specification version {version}; they start at 1"),
        }),
    }
}

/// A model of a type whose content is not read; only an empty pipeline is known to be wrong.
fn other(number: u32, name: &'static str, body: Bytes) -> Result<ModelKind, String> {
    let pipeline = match number {
        200 | 201 => pb::decode::<pb::model::WrappedPipeline>(body, name)?.pipeline.unwrap_or_default(),
        202 => pb::decode::<pb::model::Pipeline>(body, name)?,
        _ => return Ok(ModelKind::Other(name)),
    };
    if pipeline.models.is_empty() {
        return Err(format!("is a {name} without any model"));
    }
    Ok(ModelKind::Other(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &'static [u8], expected: &str) {
        let shown =
            match model_type(&Bytes::from_static(bytes)).and_then(|(number, name, body)| other(number, name, body)) {
                Ok(kind) => format!("{kind:?}"),
                Err(reason) => reason,
            };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn types_by_their_field() {
        check(b"\x08\x04\xf2\x12\x00", "Other(\"treeEnsembleRegressor\")");
        check(b"\xd2\x0c\x02\x0a\x00", "Other(\"pipeline\")");
        check(b"\xd2\x0c\x00", "is a pipeline without any model");
        check(b"\xc2\x0c\x02\x0a\x00", "is a pipelineClassifier without any model");
    }

    #[test]
    fn other_files() {
        check(b"", "is empty");
        check(b"PK\x03\x04", "is not a Core ML model but a ZIP archive; unpack it");
        check(b"\x08\x07\x3a\x00\x42\x00", "is not a Core ML model but an ONNX model");
        check(b"\x08\x07\x12\x00", "it has no content of any type of model");
        check(b"\x00\x00", "no protobuf field can be read at byte 0");
    }
}
