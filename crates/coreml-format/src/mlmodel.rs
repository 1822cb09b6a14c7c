//! Model files: one encoded `Model` message.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    Model, ModelKind, ReadError,
    classic::{self, Pipeline, PipelineKind, Stage},
    description,
    error::{Flaw, quote},
    mil, nn, package,
    pb::{self, Fields},
    schema::Schema,
    source::{Source, io_error},
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

/// Models inside of models: pipelines in pipelines, and files that link to files.
const DEEPEST: usize = 8;

/// Reads the model file at `file`. Its weight files must lie within `boundary`; `path` is what the user opened.
pub(crate) fn read(path: &Path, file: &Path, boundary: &Path) -> Result<Model, ReadError> {
    let place = Place { path, file, boundary, depth: 0, parent_version: None };
    place.read(Source::open(file)?.bytes().clone())
}

/// Where an encoded model stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    file: &'a Path,
    boundary: &'a Path,
    /// How many models it is inside of.
    depth: usize,
    /// The version of the model that it is inside of, for one that has none of its own.
    parent_version: Option<u32>,
}

impl Place<'_> {
    fn read(self, bytes: Bytes) -> Result<Model, ReadError> {
        let (name, body) = model_type(&bytes).map_err(|reason| self.invalid(reason))?;
        let model: pb::model::Model = pb::decode(bytes, "the model").map_err(|reason| self.invalid(reason))?;
        let spec_version = match (model.specification_version, self.parent_version) {
            (0, Some(version)) => version,
            (version, _) => spec_version(version, self.file)?,
        };
        let description = model.description.ok_or_else(|| self.invalid("has no description".to_owned()))?;
        let schema = description::read(description).map_err(|reason| self.invalid(format!("description: {reason}")))?;
        let mut model = Model { path: self.path.to_owned(), spec_version, schema, kind: ModelKind::Other(name) };
        model.kind = self.kind(name, body, &mut model)?;
        Ok(model)
    }

    /// What a model of this type is, checked against the schema, which gets the class labels.
    fn kind(self, name: &'static str, body: Bytes, model: &mut Model) -> Result<ModelKind, ReadError> {
        let schema = &mut model.schema;
        match name {
            "mlProgram" => {
                let mut weights = WeightFiles::new(folder(self.file), self.boundary.to_owned());
                let program = mil::read(body, &mut weights).map_err(|flaw| flaw.in_file(self.file))?;
                mil::validate(&program, schema).map_err(|flaw| flaw.in_file(self.file))?;
                schema.class_labels = mil::class_labels(&program, &schema.default_function);
                Ok(ModelKind::Program(program))
            }
            "neuralNetwork" | "neuralNetworkClassifier" | "neuralNetworkRegressor" => {
                Ok(ModelKind::NeuralNetwork(neural_network(name, body, schema, self.file)?))
            }
            "pipeline" => self.pipeline(PipelineKind::Plain, body, model),
            "pipelineClassifier" => self.pipeline(PipelineKind::Classifier, body, model),
            "pipelineRegressor" => self.pipeline(PipelineKind::Regressor, body, model),
            "linkedModel" => self.linked(body, model),
            "serializedModel" => {
                let (name, body) = serialized(body).map_err(|reason| self.invalid(reason))?;
                match name {
                    Some(name) => self.kind(name, body, model),
                    None => Ok(ModelKind::Other("serializedModel")),
                }
            }
            _ => {
                let classic = classic::read(name, body, &schema.interface);
                match classic.map_err(|reason| self.flaw(name, reason))? {
                    Some(classic) => {
                        schema.class_labels = classic.class_labels();
                        Ok(ModelKind::Classic(Box::new(classic)))
                    }
                    None => Ok(ModelKind::Other(name)),
                }
            }
        }
    }

    fn pipeline(self, kind: PipelineKind, body: Bytes, model: &mut Model) -> Result<ModelKind, ReadError> {
        let inside = self.inside(model)?;
        let mut stages = Vec::new();
        for (index, (name, bytes)) in classic::stages(body, kind).map_err(|r| self.invalid(r))?.into_iter().enumerate()
        {
            let model =
                inside.read(bytes).map_err(|error| in_stage(error, &format!("stage {index} {}", quote(&name))))?;
            stages.push(Stage { name, model });
        }
        self.checked(Pipeline { kind, stages }, model)
    }

    fn linked(self, body: Bytes, model: &mut Model) -> Result<ModelKind, ReadError> {
        let inside = self.inside(model)?;
        let link = classic::link(body).map_err(|reason| self.invalid(reason))?;
        let folder = folder(self.file);
        let found = link.paths.iter().map(|path| (path, folder.join(path))).find(|(_, file)| file.exists());
        let Some((name, path)) = found else {
            let hint = format!(", but {} links to it", self.file.display());
            return Err(ReadError::NotFound { path: folder.join(link.paths.first().map_or("", String::as_str)), hint });
        };
        // What the link leads to must lie beside this file even where it is a symbolic link.
        let resolved = |path: &Path| fs::canonicalize(path).map_err(|error| io_error(path, error));
        if !resolved(&path)?.starts_with(resolved(&folder)?) {
            return Err(self.invalid(format!("links to {}, which leads out of the model's own folder", quote(name))));
        }
        let linked =
            package::open_linked(&path, |file| Place { path: &path, file, boundary: &folder, ..inside }.open())?;
        self.checked(
            Pipeline { kind: PipelineKind::Linked, stages: vec![Stage { name: name.clone(), model: linked }] },
            model,
        )
    }

    fn open(self) -> Result<Model, ReadError> {
        self.read(Source::open(self.file)?.bytes().clone())
    }

    /// The same place, one model deeper.
    fn inside(self, model: &Model) -> Result<Self, ReadError> {
        match self.depth {
            DEEPEST.. => Err(self.invalid(format!("has models inside of models, more than {DEEPEST} deep"))),
            depth => Ok(Place { depth: depth + 1, parent_version: Some(model.spec_version), ..self }),
        }
    }

    fn checked(self, pipeline: Pipeline, model: &mut Model) -> Result<ModelKind, ReadError> {
        pipeline.check(&model.schema.interface).map_err(|reason| self.flaw(pipeline.kind.name(), reason))?;
        model.schema.class_labels = pipeline.class_labels(&model.schema.interface);
        Ok(ModelKind::Pipeline(pipeline))
    }

    fn invalid(self, reason: String) -> ReadError {
        ReadError::Invalid { path: self.file.to_owned(), reason }
    }

    fn flaw(self, name: &str, reason: String) -> ReadError {
        Flaw::new(format!("the {name}"), reason).in_file(self.file)
    }
}

/// Says in which stage of a pipeline something is wrong.
fn in_stage(error: ReadError, stage: &str) -> ReadError {
    match error {
        ReadError::Invalid { path, reason } => ReadError::Invalid { path, reason: format!("{stage}: {reason}") },
        ReadError::InvalidProgram { path, place, reason } => {
            ReadError::InvalidProgram { path, place: format!("{stage}: {place}"), reason }
        }
        ReadError::Unsupported { path, reason } => {
            ReadError::Unsupported { path, reason: format!("{stage}: {reason}") }
        }
        other @ (ReadError::NotFound { .. } | ReadError::Io { .. }) => other,
    }
}

/// The type that a serialised model is of, where its identifier says so, and its content.
fn serialized(body: Bytes) -> Result<(Option<&'static str>, Bytes), String> {
    let model: pb::classic::SerializedModel = pb::decode(body, "the serializedModel")?;
    let last = model.identifier.rsplit('.').next().unwrap_or_default();
    let same = |(_, name): &&(u32, &'static str)| name.eq_ignore_ascii_case(last) && *name != "serializedModel";
    Ok((spec::MODEL_TYPES.iter().find(same).map(|(_, name)| *name), model.model))
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

/// The name of the model's type, and its content.
fn model_type(bytes: &Bytes) -> Result<(&'static str, Bytes), String> {
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
    let member = pb::last_member(bytes, spec::model_type)
        .map_err(|reason| format!("is not a Core ML model, or damaged: {reason}"))?;
    match member {
        Some(member) => Ok(member),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &'static [u8], expected: &str) {
        let place = Place {
            path: Path::new("m"),
            file: Path::new("m"),
            boundary: Path::new("."),
            depth: 0,
            parent_version: None,
        };
        let shown = match place.read(Bytes::from_static(bytes)) {
            Ok(model) => format!("{:?}", model.kind),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn types_by_their_field() {
        check(b"\x08\x04\x12\x00\xa2\x38\x00", "Classic(Identity)");
        check(b"\x08\x04\x12\x00\x82\x7d\x00", "Other(\"textClassifier\")");
        check(b"\x08\x04\x12\x00\xf2\x12\x00", "the treeEnsembleRegressor: gives no values");
        check(b"\x08\x04\x12\x00\xd2\x0c\x00", "is a pipeline without any model");
        check(b"\x08\x04\x12\x00\xc2\x0c\x02\x0a\x00", "is a pipelineClassifier without any model");
        check(b"\x08\x04\x12\x00\xd2\x0c\x02\x0a\x00", "stage 0 \"model0\": is empty");
    }

    #[test]
    fn stages_have_their_parent_s_version() {
        check(b"\x08\x04\x12\x00\xd2\x0c\x07\x0a\x05\x12\x00\xa2\x38\x00", "spec_version: 4");
    }

    #[test]
    fn models_are_not_nested_forever() {
        let mut model = b"\x12\x00\xa2\x38\x00".to_vec();
        for _ in 0..DEEPEST + 1 {
            let mut pipeline = Vec::new();
            pipeline.extend(b"\x08\x04\x12\x00\xd2\x0c");
            prost::encoding::encode_varint(model.len() as u64 + 2, &mut pipeline);
            pipeline.push(0x0a);
            prost::encoding::encode_varint(model.len() as u64, &mut pipeline);
            pipeline.extend(model);
            model = pipeline;
        }
        check(model.leak(), "more than 8 deep");
    }

    #[test]
    fn serialised_models_are_read_by_their_identifier() {
        let with = |identifier: &str| {
            let model = pb::classic::SerializedModel { identifier: identifier.to_owned(), model: Bytes::new() };
            serialized(prost::Message::encode_to_vec(&model).into()).unwrap().0
        };
        assert_eq!(with("CoreML.Specification.GLMRegressor"), Some("glmRegressor"));
        assert_eq!(with("CoreML.Specification.SerializedModel"), None);
        assert_eq!(with("com.apple.something"), None);
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
