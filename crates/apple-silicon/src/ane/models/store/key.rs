//! What a compiled model is kept under: all that it was made from.

use std::{
    collections::HashSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use blake3::{Hash, Hasher};
use coreml_format::{
    Model, ModelKind, Tensor,
    mil::{Argument, Program, Value},
};
use coreml_onnx::LowerOptions;

use crate::ane::engines::{Engine, compiled::open_file};

/// The layout of an entry.
const FORMAT: &str = "3";

/// What lowering makes of every fixture, so that a model that was lowered in another way is not taken for what this
/// version makes. A test computes it. Where lowering, decompression, bindings or rten's refusals change, the test
/// fails and says the new value, which belongs here; a change that no fixture shows needs a fixture first.
const LOWERING: &str = "27cc6a710b8df2cd";

/// A hash of the model's content, the options, the engine, the machine where it matters, and this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(Hash);

impl Key {
    /// The key of an open model. Cost: reads its files, a piece at a time.
    ///
    /// # Errors
    /// Those of the files.
    pub(super) fn of(model: &Model, options: &LowerOptions, engine: &dyn Engine) -> io::Result<Key> {
        // An option that is added has to be part of the key.
        let LowerOptions { function, half_io, without_fp16, round_to_fp16 } = options;
        let function = function.as_ref().unwrap_or(&model.schema.default_function);
        let flags = [half_io, without_fp16, round_to_fp16].map(|&flag| u8::from(flag));
        let mut key = Fields(Hasher::new());
        for field in [FORMAT, env!("CARGO_PKG_VERSION"), LOWERING, function] {
            key.add(field.as_bytes());
        }
        key.add(&flags);
        for field in [engine.name(), &engine.version(), &engine.fingerprint()] {
            key.add(field.as_bytes());
        }
        add_content(&mut key, model)?;
        Ok(Key(key.0.finalize()))
    }

    /// Enough of it to tell entries apart in a listing; the whole key is inside.
    pub(super) fn prefix(&self) -> String {
        self.0.to_hex()[..16].to_owned()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hashes fields so that no two lists of them are the same bytes.
struct Fields(Hasher);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_le_bytes()).update(field);
    }
}

/// A hash of the content of a model's files. Cost: reads them, a piece at a time.
pub(super) fn content(model: &Model) -> io::Result<String> {
    let mut content = Fields(Hasher::new());
    add_content(&mut content, model)?;
    Ok(content.0.finalize().to_hex().to_string())
}

/// Adds everything in the model's folder; or its file, and the weights that its program has elsewhere.
fn add_content(key: &mut Fields, model: &Model) -> io::Result<()> {
    if model.path.is_dir() {
        return add_folder(key, &model.path);
    }
    key.add(hash_file(&model.path)?.as_bytes());
    add_elsewhere(key, model)
}

/// Adds what lies outside of the model's file: weights of programs, and the files of linked models.
fn add_elsewhere(key: &mut Fields, model: &Model) -> io::Result<()> {
    match &model.kind {
        ModelKind::Program(program) => add_tensors(key, program),
        ModelKind::Pipeline(pipeline) => {
            for stage in &pipeline.stages {
                let is_inside = stage.model.path == model.path;
                if is_inside { add_elsewhere(key, &stage.model) } else { add_content(key, &stage.model) }?;
            }
        }
        ModelKind::NeuralNetwork(_) | ModelKind::Classic(_) | ModelKind::Compiled(_) | ModelKind::Other(_) => {}
    }
    Ok(())
}

/// Adds what lies in a folder, in the order of the names. Links are not followed: what one leads to is in the folder
/// too, or else no part of the model.
fn add_folder(key: &mut Fields, root: &Path) -> io::Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut names = fs::read_dir(root.join(&folder))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let relative = folder.join(name);
            let path = root.join(&relative);
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                folders.push(relative);
                continue;
            }
            key.add(relative.as_os_str().as_encoded_bytes());
            if kind.is_file() {
                key.add(hash_file(&path)?.as_bytes());
            } else if kind.is_symlink() {
                key.add(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
            }
        }
    }
    Ok(())
}

/// The hash of a file, read a piece at a time.
fn hash_file(path: &Path) -> io::Result<Hash> {
    Ok(Hasher::new().update_reader(open_file(path)?)?.finalize())
}

/// Adds the elements of every tensor, each once where tensors share them.
fn add_tensors(key: &mut Fields, program: &Program) {
    let mut seen = HashSet::new();
    let mut add = |tensor: &Tensor| {
        let bytes = tensor.bytes();
        if seen.insert((bytes.as_ptr(), bytes.len())) {
            key.add(bytes);
        }
    };
    for function in program.functions.values() {
        Program::visit(&function.block, &mut |op| {
            let arguments = op.inputs.values().flatten().filter_map(|argument| match argument {
                Argument::Value(value) => Some(value),
                Argument::Name(_) => None,
            });
            op.attributes.values().chain(arguments).for_each(|value| each_tensor(value, &mut add));
        });
    }
}

fn each_tensor(value: &Value, f: &mut impl FnMut(&Tensor)) {
    match value {
        Value::Tensor(tensor) => f(tensor),
        Value::List(values) | Value::Tuple(values) => values.iter().for_each(|value| each_tensor(value, f)),
        Value::Dictionary(pairs) => pairs.iter().for_each(|(name, value)| {
            each_tensor(name, f);
            each_tensor(value, f);
        }),
    }
}

/// Every model that lowering is tested with.
#[cfg(test)]
pub(super) fn fixtures() -> Vec<Model> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = vec![root.join("examples/digits/digits.mlpackage")];
    for folder in ["ops", "layers"] {
        let folder = root.join("crates/coreml-onnx/tests").join(folder);
        let cases: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let kind = case["op"].as_str().or(case["layer"].as_str()).unwrap();
            let folder = folder.join(kind).join(case["case"].as_str().unwrap());
            paths.extend(
                ["model.mlpackage", "model.mlmodel"].map(|name| folder.join(name)).into_iter().find(|p| p.exists()),
            );
        }
    }
    paths.iter().map(|path| Model::open(path).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use coreml_onnx::Storage;

    use super::*;
    use crate::ane::{
        engines::{EngineChoice, fake::Fake, select},
        models::bound::Bound,
    };

    #[test]
    fn lowering_is_what_the_key_says() {
        let (rten, _) = select(EngineChoice::Rten, None).unwrap();
        let mut lowering = Fields(Hasher::new());
        for model in fixtures() {
            for (without_fp16, round_to_fp16) in [(false, false), (true, false), (false, true), (true, true)] {
                let options = LowerOptions { without_fp16, round_to_fp16, ..LowerOptions::default() };
                match coreml_onnx::lower(&model, &options) {
                    Ok(lowered) => {
                        lowering.add(format!("{:?}", rten.check(&lowered.model)).as_bytes());
                        let (graph, bound) = Bound::of(&*rten, lowered);
                        lowering.add(format!("{bound:?}").as_bytes());
                        lowering.add(&without_version(graph.encode(Storage::Inside)));
                    }
                    Err(error) => lowering.add(error.to_string().as_bytes()),
                }
            }
        }
        assert_eq!(lowering.0.finalize().to_hex()[..16], *LOWERING, "lowering has changed; LOWERING has to follow");
    }

    /// The version that wrote a graph stands in it, and is part of the key by itself.
    fn without_version(mut graph: Vec<u8>) -> Vec<u8> {
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        let at = graph.windows(version.len()).position(|text| text == version).unwrap();
        // Its length is the byte before.
        graph.drain(at - 1..at + version.len());
        graph
    }

    /// Changes a copy of a package by `change` and says whether its key is another one.
    fn check(change: impl Fn(&Path), is_another: bool) {
        let folder = tempfile::tempdir().unwrap();
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
        let copy = folder.path().join("copy.mlpackage");
        copy_folder(&package, &copy);
        let key = |path: &Path| key_of(path, &LowerOptions::default());
        assert_eq!(key(&package), key(&copy), "the path does not matter");
        change(&copy);
        assert_eq!(key(&package) != key(&copy), is_another);
    }

    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() { copy_folder(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
        }
    }

    fn key_of(path: &Path, options: &LowerOptions) -> Key {
        Key::of(&Model::open(path).unwrap(), options, &Fake::new(|_| Ok(Vec::new()))).unwrap()
    }

    const DATA: &str = "Data/com.apple.CoreML";

    #[test]
    fn content_is_part_of_the_key() {
        check(|_| (), false);
        let weights = |package: &Path| package.join(DATA).join("weights/weight.bin");
        check(
            |package| {
                let mut bytes = fs::read(weights(package)).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(weights(package), bytes).unwrap();
            },
            true,
        );
        check(|package| fs::write(package.join(DATA).join("more"), "").unwrap(), true);
        #[cfg(unix)]
        check(
            |package| {
                fs::rename(weights(package), package.join("weights")).unwrap();
                std::os::unix::fs::symlink(package.join("weights"), weights(package)).unwrap();
            },
            true,
        );
    }

    /// A model's file that is opened without its package has weights outside of it all the same.
    #[test]
    fn weights_beside_a_file_are_part_of_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
        copy_folder(&package.join(DATA), &folder.path().join("data"));
        let (file, weights) = (folder.path().join("data/model.mlmodel"), folder.path().join("data/weights/weight.bin"));
        let key = key_of(&file, &LowerOptions::default());
        assert_eq!(key, key_of(&file, &LowerOptions::default()));
        let mut bytes = fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&weights, bytes).unwrap();
        assert_ne!(key, key_of(&file, &LowerOptions::default()));
    }

    #[test]
    fn options_are_part_of_the_key() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/digits.mlpackage");
        let plain = key_of(&path, &LowerOptions::default());
        let by_name = LowerOptions { function: Some("main".to_owned()), ..LowerOptions::default() };
        assert_eq!(key_of(&path, &by_name), plain, "the default function has a name, too");
        for options in [
            LowerOptions { function: Some("other".to_owned()), ..LowerOptions::default() },
            LowerOptions { half_io: true, ..LowerOptions::default() },
            LowerOptions { without_fp16: true, ..LowerOptions::default() },
            LowerOptions { round_to_fp16: true, ..LowerOptions::default() },
        ] {
            assert_ne!(key_of(&path, &options), plain, "{options:?}");
        }
        let (rten, _) = select(EngineChoice::Rten, None).unwrap();
        assert_ne!(Key::of(&Model::open(&path).unwrap(), &LowerOptions::default(), &*rten).unwrap(), plain);
    }
}
