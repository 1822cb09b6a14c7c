//! Compiled models, kept in a folder and found again by what they were made from.
//!
//! An entry is a folder `<model>-<key>.anemodel` with the graph and the weights as the engine reads them, and
//! `bindings.json` with the rest. It is written beside and renamed, so that there is no half of one, and never changed:
//! processes and machines may share a store. What an entry holds is checked by hash whenever it is opened; a damaged one
//! is made anew.

mod key;
mod record;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use coreml_format::{Model, schema::Schema};
use coreml_onnx::LowerOptions;
use tempfile::TempDir;

use self::{key::Key, record::Record};
use super::bound::Bound;
use crate::ane::{
    engines::{Engine, EngineOptions, LoadedEngineModel, compiled::CompiledFiles},
    errors::{ANEError, Result},
};

/// A hash of the content of a model's files.
///
/// # Errors
/// Those of the files.
pub(super) fn content(model: &Model) -> io::Result<String> {
    key::content(model)
}

/// Where the compiled form of a loaded model came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// It was compiled for this load alone: it is not to be kept, or the engine does not take back what it wrote.
    Fresh,
    /// It was compiled, and is kept at this path from now on.
    Stored(PathBuf),
    /// It was found at this path.
    Found(PathBuf),
}

/// A model to load through a store.
pub(super) struct Request<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) lower: &'a LowerOptions,
    pub(super) options: &'a EngineOptions,
    /// The store.
    pub(super) folder: &'a Path,
}

/// A model that an engine has loaded.
pub(super) struct Ready {
    pub(super) schema: Schema,
    pub(super) bound: Bound,
    pub(super) engine: Box<dyn LoadedEngineModel>,
    pub(super) compiled: Compiled,
}

/// Loads a model from the store, or compiles it and keeps it there. `admit` is asked before weights come into memory.
///
/// # Errors
/// [`ANEError::CompilationFailed`] as for lowering and loading without a store, and for a store that cannot be
/// written where there is something to write.
pub(super) fn load(request: &Request<'_>, model: Model, admit: impl FnOnce(&Bound) -> Result<()>) -> Result<Ready> {
    let Request { engine, lower, options, folder } = *request;
    let store = Store::open(folder)?;
    let key_of = |model: &Model| {
        Key::of(model, lower, engine)
            .map_err(|e| ANEError::CompilationFailed(format!("{}: it cannot be read: {e}", model.path.display())))
    };
    let key = key_of(&model)?;
    let mut admit = Some(admit);
    if let Some(Kept { path, bound, files }) = store.find(&key, &model, lower.function.as_deref()) {
        admit.take().map_or(Ok(()), |admit| admit(&bound))?;
        match engine.open(files, &bound.signature, options) {
            Ok(engine) => return Ok(Ready { schema: model.schema, bound, engine, compiled: Compiled::Found(path) }),
            Err(error) => warn_of_damage(&path, &error.to_string()),
        }
    }
    let lowered = coreml_onnx::lower(&model, lower).map_err(|e| ANEError::from(e).of_model(&model.path))?;
    engine.check(&lowered.model).map_err(|refusal| ANEError::from(refusal).of_model(&model.path))?;
    let (graph, bound) = Bound::of(engine, lowered);
    admit.take().map_or(Ok(()), |admit| admit(&bound))?;
    let partial = store.begin()?;
    engine.compile(&graph, partial.path(), options).map_err(|e| e.of_model(folder).of_model(&model.path))?;
    record::write(partial.path(), key.to_string(), format!("{} {}", engine.name(), engine.version()), &bound)
        .map_err(|e| store.unwritable(&e))?;
    if key_of(&model)? == key {
        let path = store.publish(partial, &key, &model.path)?;
        let opened = CompiledFiles::open(&path).map_err(|e| store.unwritable(&e));
        match opened.and_then(|files| engine.open(files, &bound.signature, options)) {
            Ok(engine) => return Ok(Ready { schema: model.schema, bound, engine, compiled: Compiled::Stored(path) }),
            Err(error) => {
                tracing::warn!("{} is not kept compiled: {error}", model.path.display());
                store.discard(&path).map_err(|e| store.unwritable(&e))?;
            }
        }
    } else {
        tracing::warn!("{} is not kept compiled: its files have changed in the meantime", model.path.display());
    }
    let engine = engine.load(graph, options).map_err(|e| e.of_model(&model.path))?;
    Ok(Ready { schema: model.schema, bound, engine, compiled: Compiled::Fresh })
}

/// A folder of compiled models.
struct Store {
    folder: PathBuf,
}

/// An entry that is whole.
struct Kept {
    path: PathBuf,
    bound: Bound,
    files: CompiledFiles,
}

impl Store {
    /// What the names of entries end in.
    const SUFFIX: &str = ".anemodel";

    /// What the names of folders begin with that become entries, or were some.
    const PARTIAL: &str = ".partial-";

    /// The store in `folder`, which is made where it is missing.
    fn open(folder: &Path) -> Result<Store> {
        let store = Store { folder: folder.to_owned() };
        fs::create_dir_all(folder).map_err(|e| store.unwritable(&e))?;
        Ok(store)
    }

    fn unwritable(&self, error: &io::Error) -> ANEError {
        ANEError::CompilationFailed(format!(
            "the compiled model cannot be kept in {}: {error}; choose a folder that can be written, or none",
            self.folder.display()
        ))
    }

    /// The entry with this key, under whatever name the model had when it was compiled. Cost: reads its files.
    fn find(&self, key: &Key, model: &Model, function: Option<&str>) -> Option<Kept> {
        let ending = format!("-{}{}", key.prefix(), Store::SUFFIX);
        let mut names: Vec<_> =
            fs::read_dir(&self.folder).ok()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.retain(|name| name.to_str().is_some_and(|name| name.ends_with(&ending)));
        // What lies where this model's entry belongs comes first: that is what is replaced where it is damaged.
        let own = self.place(key, &model.path);
        names.sort_by_key(|name| self.folder.join(name) != own);
        names.into_iter().find_map(|name| {
            let path = self.folder.join(name);
            Store::read(&path, key, &model.schema, function).map_err(|why| warn_of_damage(&path, &why)).ok()
        })
    }

    fn read(path: &Path, key: &Key, schema: &Schema, function: Option<&str>) -> Result<Kept, String> {
        let (record, files) = whole(path, key)?;
        let function = function.unwrap_or(&schema.default_function);
        let bound = record.bind(schema.functions.get(function).unwrap_or(&schema.interface))?;
        Ok(Kept { path: path.to_owned(), bound, files })
    }

    /// Where the entry of a model belongs.
    fn place(&self, key: &Key, model: &Path) -> PathBuf {
        let name = model.file_stem().map(|name| name.to_string_lossy()).unwrap_or_default();
        let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = name.chars().take(64).map(plain).collect();
        self.folder.join(format!("{name}-{}{}", key.prefix(), Store::SUFFIX))
    }

    /// An empty folder for an entry to be written to. What crashed processes have left is removed.
    fn begin(&self) -> Result<TempDir> {
        remove_leftovers(&self.folder, SystemTime::now());
        self.partial().map_err(|e| self.unwritable(&e))
    }

    fn partial(&self) -> io::Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(Store::PARTIAL);
        // Temporary folders are private; an entry is for whom the store is for.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        builder.tempdir_in(&self.folder)
    }

    /// Makes an entry of a folder that is complete. Where another process was faster, its entry stays.
    fn publish(&self, partial: TempDir, key: &Key, model: &Path) -> Result<PathBuf> {
        let place = self.place(key, model);
        // Somebody else's entry may come in between the look and the renaming.
        for _ in 0..3 {
            if place.exists() {
                if whole(&place, key).is_ok() {
                    return Ok(place);
                }
                self.discard(&place).map_err(|e| self.unwritable(&e))?;
            }
            match fs::rename(partial.path(), &place) {
                Ok(()) => {
                    // Nothing is left of it to be removed.
                    let _ = partial.keep();
                    return Ok(place);
                }
                Err(_) if place.exists() => {}
                Err(error) => return Err(self.unwritable(&error)),
            }
        }
        Err(self.unwritable(&io::Error::other(format!("{} does not give way", place.display()))))
    }

    /// Removes an entry: at once as far as others can see. Who has it open keeps it.
    fn discard(&self, path: &Path) -> io::Result<()> {
        let grave = self.partial()?;
        match fs::rename(path, grave.path().join("discarded")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Opens an entry and checks all that is in it, but for what the model has to say of it.
fn whole(path: &Path, key: &Key) -> Result<(Record, CompiledFiles), String> {
    let record = record::read(path, &key.to_string())?;
    let files = CompiledFiles::open(path).map_err(|e| e.to_string())?;
    record.check_files(&files)?;
    Ok((record, files))
}

fn warn_of_damage(path: &Path, why: &str) {
    tracing::warn!("the compiled model {} is damaged and is made anew: {why}", path.display());
}

/// Removes folders of more than a day that never became entries.
fn remove_leftovers(store: &Path, now: SystemTime) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let Ok(entries) = fs::read_dir(store) else { return };
    for entry in entries.flatten() {
        let is_partial = entry.file_name().to_string_lossy().starts_with(Store::PARTIAL);
        // Links are no folders here.
        let modified = entry.metadata().ok().filter(fs::Metadata::is_dir).and_then(|metadata| metadata.modified().ok());
        let is_old = modified.is_some_and(|modified| now.duration_since(modified).is_ok_and(|age| age > DAY));
        if is_partial && is_old {
            // Another process may be at it, too; what cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use coreml_onnx::OnnxModel;

    use super::*;
    use crate::ane::engines::{Refusal, compiled::Signature, fake::Fake};

    /// An engine during whose work something happens.
    struct Disturbed {
        fake: Fake,
        /// Is given the folder to which it compiles.
        meanwhile: Box<dyn Fn(&Path)>,
        takes_back: bool,
    }

    impl Engine for Disturbed {
        fn name(&self) -> &'static str {
            "disturbed"
        }

        fn version(&self) -> String {
            String::new()
        }

        fn has_fp16(&self) -> bool {
            true
        }

        fn check(&self, _: &OnnxModel) -> Result<(), Refusal> {
            Ok(())
        }

        fn load(&self, model: OnnxModel, options: &EngineOptions) -> Result<Box<dyn LoadedEngineModel>> {
            self.fake.load(model, options)
        }

        fn fingerprint(&self) -> String {
            String::new()
        }

        fn compile(&self, model: &OnnxModel, folder: &Path, options: &EngineOptions) -> Result<()> {
            (self.meanwhile)(folder);
            self.fake.compile(model, folder, options)
        }

        fn open(
            &self,
            files: CompiledFiles,
            signature: &Signature,
            options: &EngineOptions,
        ) -> Result<Box<dyn LoadedEngineModel>> {
            match self.takes_back {
                true => self.fake.open(files, signature, options),
                false => Err(ANEError::Internal("it does not take that back".to_owned())),
            }
        }
    }

    /// Loads a model through an empty store, and says where it came from and what the store holds then.
    fn check(model: &Path, takes_back: bool, meanwhile: impl Fn(&Path) + 'static) -> (Result<Compiled>, Vec<String>) {
        let store = tempfile::tempdir().unwrap();
        let engine = Disturbed { fake: Fake::new(|_| Ok(Vec::new())), meanwhile: Box::new(meanwhile), takes_back };
        let lower = LowerOptions::default();
        let options = EngineOptions { threads: None, max_sessions: NonZeroUsize::MIN, profile: false };
        let request = Request { engine: &engine, lower: &lower, options: &options, folder: store.path() };
        let mut admitted = 0;
        let ready = load(&request, Model::open(model).unwrap(), |_| {
            admitted += 1;
            Ok(())
        });
        assert_eq!(admitted, 1);
        (ready.map(|ready| ready.compiled), names(store.path()))
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A copy of a small model.
    fn small_model(folder: &Path) -> PathBuf {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/layers/softmax/rank3/model.mlmodel");
        let copy = folder.join("small.mlmodel");
        fs::copy(fixture, &copy).unwrap();
        copy
    }

    #[test]
    fn what_is_undisturbed_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (result, names) = check(&small_model(folder.path()), true, |_| ());
        let Ok(Compiled::Stored(path)) = result else { panic!("{result:?}") };
        assert_eq!(path.file_name().unwrap().to_str(), Some(&*names[0]));
    }

    #[test]
    fn what_the_engine_does_not_take_back_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&small_model(folder.path()), false, |_| ()), (Ok(Compiled::Fresh), Vec::new()));
    }

    #[test]
    fn a_model_that_is_replaced_meanwhile_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let model = small_model(folder.path());
        let replaced = model.clone();
        let replace = move |_: &Path| {
            let bytes = fs::read(&replaced).unwrap();
            fs::remove_file(&replaced).unwrap();
            fs::write(&replaced, [bytes, vec![0]].concat()).unwrap();
        };
        assert_eq!(check(&model, true, replace), (Ok(Compiled::Fresh), Vec::new()));
    }

    #[test]
    fn a_store_that_cannot_be_written_meanwhile_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (result, names) = check(&small_model(folder.path()), true, |partial| fs::remove_dir(partial).unwrap());
        assert!(
            matches!(&result, Err(ANEError::CompilationFailed(why)) if why.contains("small.mlmodel: /")),
            "{result:?}"
        );
        assert_eq!(names, Vec::<String>::new());
    }

    #[test]
    fn leftovers_are_removed_after_a_day() {
        let store = Store { folder: tempfile::tempdir().unwrap().keep() };
        let partial = store.partial().unwrap().keep();
        fs::write(partial.join("graph.onnx"), "half of").unwrap();
        fs::create_dir(store.folder.join("entry.anemodel")).unwrap();
        fs::write(store.folder.join(".partial-file"), "").unwrap();
        let now = SystemTime::now();
        let hours = |hours: u64| now + Duration::from_secs(hours * 60 * 60);
        for (at, left) in [(hours(0), 3), (hours(23), 3), (now - Duration::from_secs(60), 3), (hours(25), 2)] {
            remove_leftovers(&store.folder, at);
            assert_eq!(names(&store.folder).len(), left);
        }
        assert!(!partial.exists());
        fs::remove_dir_all(&store.folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn entries_are_for_whom_the_store_is_for() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (store, plain) = (Store { folder: folder.path().to_owned() }, folder.path().join("plain"));
        fs::create_dir(&plain).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(store.partial().unwrap().path()), mode(&plain));
    }
}
