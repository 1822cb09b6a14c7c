//! Finding the model file: a file, a package with a manifest, or a compiled folder.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use crate::{Model, ReadError, compiled, error::quote, mlmodel, source::io_error};

const MANIFEST: &str = "Manifest.json";
const MANIFEST_LIMIT: u64 = 16 << 20;

/// Opens whatever lies at `path`.
pub(crate) fn open(path: &Path) -> Result<Model, ReadError> {
    let metadata = fs::metadata(path).map_err(|error| match io_error(path, error) {
        ReadError::NotFound { path, .. } => ReadError::NotFound { hint: hint(&path), path },
        other => other,
    })?;
    if !metadata.is_dir() {
        return mlmodel::read(path, path, &mlmodel::folder(path));
    }
    if path.join(MANIFEST).exists() {
        return mlmodel::read(path, &root_model(path)?, path);
    }
    if compiled::is_compiled(path) {
        return compiled::read(path);
    }
    Err(ReadError::Invalid {
        path: path.to_owned(),
        reason: format!("is a folder without {MANIFEST}, so it is not a model package"),
    })
}

/// Opens what a model links to: `read` reads a file, or the model in a package.
pub(crate) fn open_linked(
    path: &Path,
    read: impl FnOnce(&Path) -> Result<Model, ReadError>,
) -> Result<Model, ReadError> {
    match path {
        path if path.join(MANIFEST).exists() => read(&root_model(path)?),
        path if path.is_dir() => compiled::read(path),
        path => read(path),
    }
}

/// What the user may have meant by a path where nothing is.
fn hint(path: &Path) -> String {
    let like = |extension| {
        let mut name = path.as_os_str().to_owned();
        name.push(extension);
        PathBuf::from(name)
    };
    match [".mlpackage", ".mlmodel", ".mlmodelc"].map(like).iter().find(|path| path.exists()) {
        Some(found) => format!("; {} is there", found.display()),
        None => String::new(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    file_format_version: String,
    root_model_identifier: String,
    item_info_entries: BTreeMap<String, Item>,
}

#[derive(Deserialize)]
struct Item {
    path: String,
}

/// The model file that a package's manifest names.
fn root_model(package: &Path) -> Result<PathBuf, ReadError> {
    let manifest_path = package.join(MANIFEST);
    let invalid = |reason: String| ReadError::Invalid { path: manifest_path.clone(), reason };

    let manifest = read_manifest(&manifest_path)?;
    let version = &manifest.file_format_version;
    if version.split('.').next() != Some("1") {
        let reason = format!("has fileFormatVersion {}; 1.x is read", quote(version));
        return Err(ReadError::Unsupported { path: manifest_path, reason });
    }
    let id = &manifest.root_model_identifier;
    let item = manifest
        .item_info_entries
        .get(id)
        .ok_or_else(|| invalid(format!("rootModelIdentifier {} is not among itemInfoEntries", quote(id))))?;

    let relative = Path::new(&item.path);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || item.path.is_empty() || item.path.contains('\0') {
        return Err(invalid(format!("the root model's path {} does not stay in the package", quote(&item.path))));
    }
    let data = package.join("Data");
    let file = data.join(relative);
    let resolved = fs::canonicalize(&file).map_err(|error| match io_error(&file, error) {
        ReadError::NotFound { path, .. } => {
            ReadError::NotFound { path, hint: format!(", but {MANIFEST} names it as the package's model") }
        }
        other => other,
    })?;
    let boundary = fs::canonicalize(package).map_err(|error| io_error(package, error))?.join("Data");
    if !resolved.starts_with(&boundary) {
        let reason = format!(
            "the root model's path {} leads out of the package to {} through a symbolic link; copy the package with \
             its links resolved (cp -RL)",
            quote(&item.path),
            resolved.display()
        );
        return Err(invalid(reason));
    }
    Ok(file)
}

fn read_manifest(path: &Path) -> Result<Manifest, ReadError> {
    let invalid = |reason: String| ReadError::Invalid { path: path.to_owned(), reason };
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Err(invalid("is not a regular file".to_owned()));
    }
    let text = read_limited(path).map_err(|error| io_error(path, error))?;
    if text.len() as u64 > MANIFEST_LIMIT {
        return Err(invalid(format!("is larger than {} MiB", MANIFEST_LIMIT >> 20)));
    }
    serde_json::from_slice(&text).map_err(|error| invalid(format!("is not the manifest of a package: {error}")))
}

/// At most one byte more than the limit.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MANIFEST_LIMIT + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves the manifest of a package that holds one file, `Data/a/m.mlmodel`.
    fn check(manifest: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("Data/a")).unwrap();
        fs::write(folder.path().join("Data/a/m.mlmodel"), b"").unwrap();
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/", folder.path().join("Data/link")).unwrap();
        let shown = match root_model(folder.path()) {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn with_path(path: &str) -> String {
        serde_json::json!({
            "fileFormatVersion": "1.0.0",
            "rootModelIdentifier": "1",
            "itemInfoEntries": { "1": { "path": path, "name": "m", "author": "a" } },
        })
        .to_string()
    }

    #[test]
    fn resolves_the_root_model() {
        check(&with_path("a/m.mlmodel"), "Data/a/m.mlmodel");
        check(&with_path("a/none.mlmodel"), "Data/a/none.mlmodel: no such file, but Manifest.json names it");
    }

    #[test]
    fn refuses_paths_that_leave() {
        for path in ["/etc/passwd", "../Manifest.json", "a/../../x", "", "a\0b", "./a/m.mlmodel"] {
            check(&with_path(path), "does not stay in the package");
        }
        #[cfg(unix)]
        check(&with_path("link/etc/passwd"), "leads out of the package");
    }

    #[test]
    fn refuses_other_manifests() {
        check("", "Manifest.json: is not the manifest of a package: EOF");
        check("null", "Manifest.json: is not the manifest");
        check(&"[".repeat(100_000), "Manifest.json: is not the manifest");
        check(&with_path("a").replace("1.0.0", "2.0.0"), "has fileFormatVersion \"2.0.0\"; 1.x is read");
        check(&with_path("a").replace("\"1\":", "\"2\":"), "rootModelIdentifier \"1\" is not among");
    }
}
