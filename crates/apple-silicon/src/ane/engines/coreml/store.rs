//! Models that Core ML has compiled, kept so that they are compiled once.
//!
//! An entry is a folder `<model>-<key>.mlmodelc`. Its path stays the same, since the system keys what it prepares for the
//! Neural Engine by it. It is written beside and renamed, so that there is no half of one. A file beside it tells by its
//! time when the entry was last used; where the store grows over its bound, the entry used longest ago goes first.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use apple_frameworks::{compile, system};
use etcetera::BaseStrategy;
use tempfile::TempDir;

use super::not_loaded;
use crate::ane::{
    engines::native::{Found, NativeRequest},
    errors::{ANEError, Result},
};

/// Bytes that a store holds at most, as long as it has more than one entry.
const BOUND: u64 = 8 << 30;

/// A folder of compiled models.
pub(super) struct Store {
    folder: PathBuf,
    bound: u64,
}

impl Store {
    const SUFFIX: &str = ".mlmodelc";
    const USED: &str = ".used";
    const PARTIAL: &str = ".partial-";

    /// The store in `folder`, or the user's own. It is made where it is missing.
    pub(super) fn open(folder: Option<&Path>) -> Result<Store> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => own_folder()?,
        };
        let store = Store { folder, bound: BOUND };
        fs::create_dir_all(&store.folder).map_err(|e| store.unwritable(&e))?;
        Ok(store)
    }

    /// The compiled form of a model. Cost: reads the model's files; compiles it where it is not there.
    pub(super) fn compiled(&self, request: &NativeRequest<'_>) -> Result<(PathBuf, Found)> {
        let model = &request.model.path;
        let unreadable = |e: io::Error| ANEError::CompilationFailed(format!("it cannot be read: {e}"));
        let key = key(&(request.content)().map_err(unreadable)?);
        let name = model.file_stem().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        let entry = self.find(&key).unwrap_or_else(|| self.folder.join(format!("{name}-{key}{}", Store::SUFFIX)));
        let found = if entry.is_dir() { Found::Already } else { Found::MadeNow };
        if found == Found::MadeNow {
            self.keep(&entry, |folder| {
                let compiled = compile(model).map_err(|e| not_loaded(&e))?;
                let moved = move_folder(&compiled, folder);
                moved.map_err(|e| self.unwritable(&e))
            })?;
        }
        self.touch(&entry);
        self.shrink(&entry);
        Ok((entry, found))
    }

    /// The entry with this key, under whatever name the model had when it was compiled.
    fn find(&self, key: &str) -> Option<PathBuf> {
        let ending = format!("-{key}{}", Store::SUFFIX);
        let mut entries = self.entries();
        entries.retain(|path| path.to_str().is_some_and(|path| path.ends_with(&ending)));
        entries.pop()
    }

    /// Fills a folder beside and renames it. Where another process was faster, its entry stays.
    fn keep(&self, entry: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let partial = tempfile::Builder::new().prefix(Store::PARTIAL).tempdir_in(&self.folder);
        let partial: TempDir = partial.map_err(|e| self.unwritable(&e))?;
        let content = partial.path().join("content");
        fill(&content)?;
        match fs::rename(&content, entry) {
            Err(_) if entry.is_dir() => Ok(()),
            renamed => renamed.map_err(|e| self.unwritable(&e)),
        }
    }

    /// Notes that an entry is used. An entry whose note cannot be written is taken for old, and no more.
    fn touch(&self, entry: &Path) {
        let note = File::create(used(entry)).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = note {
            tracing::debug!("{}: {error}", entry.display());
        }
    }

    /// Removes entries until the store is within its bound; never `kept`.
    fn shrink(&self, kept: &Path) {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in self.entries() {
            let last = fs::metadata(used(&entry)).and_then(|note| note.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push((last, size(&entry), entry));
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, entry) in entries {
            if total <= self.bound {
                break;
            }
            if entry != kept && self.discard(&entry).is_ok() {
                total -= size;
            }
        }
    }

    /// Removes an entry, whole at once for whoever looks.
    pub(super) fn discard(&self, entry: &Path) -> io::Result<()> {
        let partial = tempfile::Builder::new().prefix(Store::PARTIAL).tempdir_in(&self.folder)?;
        fs::rename(entry, partial.path().join("content"))?;
        // A note without an entry does no harm.
        let _ = fs::remove_file(used(entry));
        partial.close()
    }

    fn entries(&self) -> Vec<PathBuf> {
        let Ok(listing) = fs::read_dir(&self.folder) else { return Vec::new() };
        let is_entry = |path: &PathBuf| path.extension().is_some_and(|suffix| *suffix == Store::SUFFIX[1..]);
        listing.filter_map(|entry| Some(entry.ok()?.path())).filter(is_entry).collect()
    }

    pub(super) fn unwritable(&self, error: &io::Error) -> ANEError {
        ANEError::CompilationFailed(format!(
            "the compiled model cannot be kept in {}: {error}; choose a folder that can be written",
            self.folder.display()
        ))
    }
}

/// What a compiled model is kept under: its content, and the system and the chip that it was compiled for.
fn key(content: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    let (build, chip) = (system::build(), system::chip());
    for field in [content, build.as_deref().unwrap_or(""), chip.as_deref().unwrap_or("")] {
        hasher.update(&(field.len() as u64).to_le_bytes()).update(field.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The user's own store.
fn own_folder() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy()
        .map_err(|e| ANEError::CompilationFailed(format!("there is no folder for compiled models: {e}; name one")))?;
    Ok(strategy.cache_dir().join("ane").join("coreml"))
}

/// The note of an entry's last use.
fn used(entry: &Path) -> PathBuf {
    let mut name = entry.as_os_str().to_owned();
    name.push(Store::USED);
    PathBuf::from(name)
}

/// Moves a folder to where nothing is; it is copied where that is another disk.
fn move_folder(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_folder(from, to)?;
            fs::remove_dir_all(from)
        }
        renamed => renamed,
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(folder) else { return 0 };
    let sizes = listing.filter_map(|entry| {
        let entry = entry.ok()?;
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { size(&entry.path()) } else { metadata.len() })
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn filled(store: &Store, name: &str, bytes: usize) -> PathBuf {
        let entry = store.folder.join(format!("{name}{}", Store::SUFFIX));
        let fill = |folder: &Path| {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("model"), vec![0; bytes]).unwrap();
            Ok(())
        };
        store.keep(&entry, fill).unwrap();
        entry
    }

    #[test]
    fn the_entry_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { folder: folder.path().to_owned(), bound: 250 };
        let entries = ["a", "b", "c"].map(|name| filled(&store, name, 100));
        for (entry, age) in entries.iter().zip([20, 30, 10]) {
            let file = File::create(used(entry)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        store.shrink(&entries[0]);
        assert_eq!(entries.each_ref().map(|entry| entry.is_dir()), [true, false, true]);
        let store = Store { bound: 1, ..store };
        store.shrink(&entries[0]);
        assert_eq!(entries.each_ref().map(|entry| entry.is_dir()), [true, false, false], "the one in use stays");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_failed_compilation_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { folder: folder.path().to_owned(), bound: 250 };
        let entry = store.folder.join("a.mlmodelc");
        let failed = store.keep(&entry, |half| {
            fs::create_dir(half).unwrap();
            Err(ANEError::Unavailable)
        });
        assert_eq!(failed, Err(ANEError::Unavailable));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
