//! Where ONNX Runtime's shared library may be.
//!
//! The order is fixed: what the user says, what the program around us says, what this program installed, what the system
//! has, what the active Python has. Looks into folders only; Python itself is asked last of all, since starting it takes
//! time.

use std::{
    env,
    ffi::OsString,
    fs, iter,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use etcetera::BaseStrategy;

/// The variable that names the library.
pub(super) const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The folder that the program around us knows, since it is a Python with the package `onnxruntime`.
static OFFERED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Looks into the package `onnxruntime` of the Python that this runs in before it looks anywhere but at [`VARIABLE`].
pub(super) fn offer(package: &Path) {
    *OFFERED.lock().unwrap_or_else(PoisonError::into_inner) = Some(package.join("capi"));
}

/// A library that was found, but not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) origin: Origin,
}

/// Why a library was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// [`VARIABLE`] names it.
    Variable,
    /// `ane engine install` put it there.
    Installed,
    /// It is in a folder where the system looks for libraries.
    System,
    /// The active Python has the package `onnxruntime`.
    Python,
}

impl Origin {
    /// Half a sentence: "found ...".
    pub(super) fn describe(self) -> &'static str {
        match self {
            Origin::Variable => "through ORT_DYLIB_PATH",
            Origin::Installed => "where `ane engine install` put it",
            Origin::System => "in the system's library path",
            Origin::Python => "in the active Python",
        }
    }
}

impl Found {
    /// The version, from the file's name or from the Python package around it.
    pub(super) fn version(&self) -> Option<String> {
        let real = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        version_in(&real.file_name()?.to_string_lossy()).or_else(|| package_version(real.parent()?.parent()?))
    }
}

/// Every library that there is, best first. Python is asked only when the iterator comes to it.
pub(super) fn candidates() -> impl Iterator<Item = Found> {
    let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let offered = OFFERED.lock().unwrap_or_else(PoisonError::into_inner).clone().and_then(|folder| library_in(&folder));
    let installed = data_folder().and_then(|folder| library_in(&folder));
    let system = system_folders().into_iter().filter_map(|folder| library_in(&folder));
    let python = python_packages().into_iter().filter_map(|folder| library_in(&folder));
    let asked = iter::once_with(ask_python).flatten().filter_map(|folder| library_in(&folder));
    let mut seen = Vec::new();
    (variable.into_iter().map(|path| (path, Origin::Variable)))
        .chain(offered.into_iter().map(|path| (path, Origin::Python)))
        .chain(installed.into_iter().map(|path| (path, Origin::Installed)))
        .chain(system.map(|path| (path, Origin::System)))
        .chain(python.chain(asked).map(|path| (path, Origin::Python)))
        .filter(move |(path, _)| {
            let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let new = !seen.contains(&real);
            seen.push(real);
            new
        })
        .map(|(path, origin)| Found { path, origin })
}

/// Where `ane engine install` puts the library. `None` where the user has no home.
pub(in crate::ane::engines) fn data_folder() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.data_dir().join("ane").join("onnxruntime"))
}

/// The library in `folder`: the plain name, or else the one with the highest version.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| library_name(name))
        .collect();
    names.sort_by_key(|name| (version_in(name).is_none(), version_numbers(name)));
    names.pop().map(|name| folder.join(name))
}

/// Whether this is ONNX Runtime's own library: `libonnxruntime.so.1.32.0`, and not one of its providers'.
pub(in crate::ane::engines) fn library_name(name: &str) -> bool {
    let rest = if cfg!(windows) {
        return name.eq_ignore_ascii_case("onnxruntime.dll");
    } else if cfg!(target_vendor = "apple") {
        name.strip_prefix("libonnxruntime").and_then(|rest| rest.strip_suffix(".dylib"))
    } else {
        name.strip_prefix("libonnxruntime.so")
    };
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && rest[1..].starts_with(char::is_numeric)))
}

/// The dotted number in a file's name.
fn version_in(name: &str) -> Option<String> {
    let start = name.find(|c: char| c.is_ascii_digit())?;
    let end = name[start..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(name.len(), |n| start + n);
    let version = name[start..end].trim_end_matches('.');
    version.contains('.').then(|| version.to_owned())
}

fn version_numbers(name: &str) -> Vec<u64> {
    version_in(name).iter().flat_map(|v| v.split('.')).filter_map(|n| n.parse().ok()).collect()
}

/// The version of the Python package `onnxruntime` in this folder, from the folder of its metadata.
fn package_version(package: &Path) -> Option<String> {
    let entries = fs::read_dir(package.parent()?).ok()?;
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find_map(|name| Some(name.strip_prefix("onnxruntime-")?.strip_suffix(".dist-info")?.to_owned()))
}

/// Folders where the dynamic linker looks, and those of common package managers.
fn system_folders() -> Vec<PathBuf> {
    const VARIABLES: &[&str] = if cfg!(windows) {
        &["PATH"]
    } else if cfg!(target_vendor = "apple") {
        &["DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"]
    } else {
        &["LD_LIBRARY_PATH"]
    };
    const FOLDERS: &[&str] = if cfg!(windows) {
        &[]
    } else if cfg!(target_vendor = "apple") {
        &["/opt/homebrew/lib", "/usr/local/lib", "/opt/local/lib"]
    } else {
        &["/usr/local/lib", "/usr/local/lib64", "/usr/lib64", "/usr/lib", "/lib64", "/lib"]
    };
    // Debian puts libraries into a folder named after the architecture.
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let named = VARIABLES.iter().filter_map(env::var_os).flat_map(|value| split_paths(&value));
    let fixed = FOLDERS.iter().flat_map(|folder| [PathBuf::from(folder), Path::new(folder).join(&triplet)]);
    named.chain(fixed).collect()
}

/// Folders of the package `onnxruntime` in the environments that are active or whose `python3` is on the path.
fn python_packages() -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let on_path = env::var_os("PATH").into_iter().flat_map(|value| split_paths(&value)).filter_map(|folder| {
        let has_python = ["python3", "python", "python.exe"].iter().any(|name| folder.join(name).is_file());
        has_python.then(|| if cfg!(windows) { folder.clone() } else { folder.join("..") })
    });
    active.chain(on_path).flat_map(|prefix| site_packages(&prefix)).map(|site| site.join("onnxruntime/capi")).collect()
}

/// `site-packages` and Debian's `dist-packages` below a Python installation or environment.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![prefix.join("Lib/site-packages")];
    }
    let lib = prefix.join("lib");
    let versions =
        fs::read_dir(&lib).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    versions
        .filter(|name| name.starts_with("python3"))
        .flat_map(|name| ["site-packages", "dist-packages"].map(|packages| lib.join(&name).join(packages)))
        .collect()
}

fn split_paths(value: &OsString) -> Vec<PathBuf> {
    env::split_paths(value).filter(|path| path.is_absolute()).collect()
}

/// Asks `python3` where its `onnxruntime` is: shims of version managers hide it. Once a process.
fn ask_python() -> Option<PathBuf> {
    // The current folder is taken off the path, so that nothing there is imported.
    const QUESTION: &str = "import sys; sys.path = [p for p in sys.path if p]; import importlib.util as u; \
                            s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0] if s else '')";
    static ANSWER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let ask = || {
        let answer = Command::new("python3").args(["-c", QUESTION]).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let folder = String::from_utf8(answer.ok()?.stdout).ok()?;
        let folder = folder.trim();
        (!folder.is_empty()).then(|| Path::new(folder).join("capi"))
    };
    ANSWER.get_or_init(ask).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_runtime_itself_is_taken() {
        for (name, taken) in [
            ("libonnxruntime.so", true),
            ("libonnxruntime.so.1.32.0", true),
            ("libonnxruntime_providers_shared.so", false),
            ("libonnxruntime.so.debug", false),
            ("onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so", false),
        ] {
            assert_eq!(library_name(name), taken, "{name}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_plain_name_goes_before_the_newest_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let library = library_in(folder.path()).unwrap();
        assert_eq!(library, folder.path().join("libonnxruntime.so.1.32.0"));
        let found = Found { path: library, origin: Origin::System };
        assert_eq!(found.version().as_deref(), Some("1.32.0"));
        fs::write(folder.path().join("libonnxruntime.so"), "").unwrap();
        assert_eq!(library_in(folder.path()), Some(folder.path().join("libonnxruntime.so")));
    }

    #[test]
    fn a_package_tells_its_version() {
        let site = tempfile::tempdir().unwrap();
        let capi = site.path().join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        fs::create_dir(site.path().join("onnxruntime-1.32.0.dist-info")).unwrap();
        let found = Found { path: capi.join("onnxruntime.dll"), origin: Origin::Python };
        fs::write(&found.path, "").unwrap();
        assert_eq!(found.version().as_deref(), Some("1.32.0"));
    }

    #[test]
    #[cfg(not(windows))]
    fn environments_are_looked_into() {
        let prefix = tempfile::tempdir().unwrap();
        fs::create_dir_all(prefix.path().join("lib/python3.11")).unwrap();
        let packages = prefix.path().join("lib/python3.11/site-packages");
        assert!(site_packages(prefix.path()).contains(&packages));
        assert!(site_packages(&prefix.path().join("none")).is_empty());
    }
}
