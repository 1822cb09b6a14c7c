//! Getting ONNX Runtime: its Python package has the library, and pip knows where packages come from.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::{Installed, Status, onnxruntime};
use crate::ane::errors::{ANEError, Result};

/// The version of the package that is installed.
const VERSION: &str = "1.32.0";

/// One package a platform: operating system, architecture, the platform's tag in pip, and the SHA-256 of the wheel
/// for CPython 3.12. Which Python it is for does not matter, since only the library inside is used.
const WHEELS: &[(&str, &str, &str, &str)] = &[
    ("linux", "aarch64", "manylinux_2_28_aarch64", "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054"),
    ("linux", "x86_64", "manylinux_2_28_x86_64", "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8"),
    ("macos", "aarch64", "macosx_14_0_arm64", "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e"),
    ("windows", "aarch64", "win_arm64", "64d394c69d561af3efd4d4f49dcac8f11d0ce135a20701c16d53b74056cd4cf8"),
    ("windows", "x86_64", "win_amd64", "efe7456952c243a05a53d5b8732953625144642c2f3989094277f6217f0c0c40"),
];

/// How far an installation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// pip downloads the package: about 30 MB.
    Downloading,
    /// The library is taken out of the package.
    Unpacking,
    /// The library is loaded and makes a session.
    Checking,
}

/// Installs ONNX Runtime for this user: pip downloads a pinned version of its Python package, checked against a
/// hash, and the library inside goes to the user's data folder. Nothing else is changed, and a failure leaves things
/// as they were. Where that version is there already and works, nothing is done.
///
/// # Errors
/// [`ANEError::CompilationFailed`] says what is missing: Python, pip, a network, a platform that has the package.
pub fn install(progress: &mut dyn FnMut(Progress)) -> Result<Installed> {
    let (platform, hash) = wheel_for(std::env::consts::OS, std::env::consts::ARCH)?;
    let folder = onnxruntime::data_folder().ok_or_else(|| failed("the user has no home folder to install it to"))?;
    fs::create_dir_all(&folder).map_err(|e| failed(format!("{} cannot be made: {e}", folder.display())))?;
    if let Some(path) = installed_before(&folder) {
        return Ok(installed(path, "installed before"));
    }
    // On the same file system, so that the library appears whole or not at all.
    let scratch = tempfile::Builder::new().prefix(".install-").tempdir_in(&folder);
    let scratch = scratch.map_err(|e| failed(format!("{} cannot be written: {e}", folder.display())))?;

    progress(Progress::Downloading);
    let wheel = download(scratch.path(), platform, hash)?;
    progress(Progress::Unpacking);
    let unpacked = unpack(&wheel, scratch.path())?;
    let name = unpacked.file_name().expect("it was unpacked under a name");
    let path = folder.join(name);
    remove_libraries(&folder);
    fs::rename(&unpacked, &path).map_err(|e| failed(format!("{} cannot be written: {e}", path.display())))?;

    progress(Progress::Checking);
    if let Err(why) = onnxruntime::check_library(&path) {
        let _ = fs::remove_file(&path);
        return Err(failed(format!("the library from the package does not work here: {why}")));
    }
    Ok(installed(path, "installed now"))
}

fn installed(path: PathBuf, origin: &str) -> Installed {
    Installed {
        engine: onnxruntime::NAME,
        path: Some(path),
        origin: origin.to_owned(),
        version: Some(VERSION.to_owned()),
        status: Status::Available,
    }
}

/// A library of this very version that is there and works. Where file names carry no version, none is trusted.
fn installed_before(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let this_version = |name: &str| onnxruntime::library_name(name) && name.contains(VERSION);
    let path = entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(this_version))?;
    onnxruntime::check_library(&path).is_ok().then_some(path)
}

fn wheel_for(os: &str, arch: &str) -> Result<(&'static str, &'static str)> {
    let row = WHEELS.iter().find(|row| (row.0, row.1) == (os, arch));
    row.map(|row| (row.2, row.3)).ok_or_else(|| {
        failed(format!("there is no package of it for {os} on {arch}; name a library of your own in ORT_DYLIB_PATH"))
    })
}

/// Lets pip download the package. Gives the wheel's path.
fn download(folder: &Path, platform: &str, hash: &str) -> Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, format!("onnxruntime=={VERSION} --hash=sha256:{hash}\n"))
        .map_err(|e| failed(format!("{} cannot be written: {e}", requirements.display())))?;
    let fixed = ["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"];
    let wanted = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"];
    let files = [OsStr::new("--requirement"), requirements.as_ref(), OsStr::new("--dest"), folder.as_ref()];
    let arguments: Vec<&OsStr> = fixed
        .into_iter()
        .chain(["--require-hashes"])
        .chain(wanted)
        .chain(["--platform", platform])
        .map(OsStr::new)
        .chain(files)
        .collect();
    let output = python(&arguments)?;
    if !output.status.success() {
        return Err(pip_failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let files = fs::read_dir(folder).map_err(|e| failed(format!("{} cannot be read: {e}", folder.display())))?;
    let wheel =
        files.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.extension() == Some("whl".as_ref()));
    wheel.ok_or_else(|| failed("pip ended well, but left no package"))
}

/// Runs the first Python that there is.
fn python(arguments: &[&OsStr]) -> Result<Output> {
    for name in ["python3", "python"] {
        match Command::new(name).args(arguments).stdin(Stdio::null()).output() {
            Ok(output) => return Ok(output),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(format!("{name} does not start: {e}"))),
        }
    }
    Err(failed("it comes as a Python package, and there is no `python3` on the path; install Python 3 with pip"))
}

fn pip_failed(stderr: &str) -> ANEError {
    if stderr.contains("No module named pip") {
        return failed("Python has no pip; install it, for example with `python3 -m ensurepip`");
    }
    if stderr.contains("DO NOT MATCH") {
        return failed("the package that pip found has another hash than the one this version trusts");
    }
    let last =
        stderr.lines().rev().find(|line| line.contains("ERROR")).or(stderr.lines().last()).unwrap_or("no reason given");
    failed(format!("pip found no package (is there a network?): {}", last.trim_start_matches("ERROR: ").trim()))
}

/// Takes the library out of the wheel, which is a zip archive.
fn unpack(wheel: &Path, folder: &Path) -> Result<PathBuf> {
    let unreadable = |e: &dyn std::fmt::Display| failed(format!("the package cannot be read: {e}"));
    let file = File::open(wheel).map_err(|e| unreadable(&e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| unreadable(&e))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| unreadable(&e))?;
        // Only the last part of the entry's path is used, so nothing is written outside the folder.
        let name = entry.name().map_err(|e| unreadable(&e))?.into_owned();
        let name = name.rsplit('/').next().unwrap_or_default();
        if onnxruntime::library_name(name) {
            let path = folder.join(name);
            let mut out = File::create(&path).map_err(|e| unreadable(&e))?;
            io::copy(&mut entry, &mut out).and_then(|_| out.sync_all()).map_err(|e| unreadable(&e))?;
            return Ok(path);
        }
    }
    Err(failed("the package has no library of ONNX Runtime in it"))
}

/// Removes what an earlier installation left.
fn remove_libraries(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if onnxruntime::library_name(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn failed(why: impl std::fmt::Display) -> ANEError {
    ANEError::CompilationFailed(format!("ONNX Runtime was not installed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_one_wheel() {
        assert!(WHEELS.is_sorted_by_key(|row| (row.0, row.1)));
        assert!(WHEELS.iter().all(|row| row.3.len() == 64));
        assert_eq!(wheel_for("linux", "x86_64").unwrap().0, "manylinux_2_28_x86_64");
        assert!(wheel_for("linux", "riscv64").unwrap_err().to_string().contains("ORT_DYLIB_PATH"));
    }

    #[test]
    fn what_pip_says_becomes_advice() {
        for (stderr, advice) in [
            ("/usr/bin/python3: No module named pip", "ensurepip"),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "another hash"),
            ("WARNING: Retrying\nERROR: No matching distribution found", "is there a network?): No matching"),
        ] {
            assert!(pip_failed(stderr).to_string().contains(advice), "{stderr}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_library_is_taken_out_of_the_wheel() {
        use std::io::Write;

        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("onnxruntime.whl");
        let mut archive = zip::ZipWriter::new(File::create(&wheel).unwrap());
        for name in ["onnxruntime/__init__.py", "../../onnxruntime/capi/libonnxruntime.so.1.32.0"] {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(name.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let path = unpack(&wheel, folder.path()).unwrap();
        assert_eq!(path, folder.path().join("libonnxruntime.so.1.32.0"));
        remove_libraries(folder.path());
        assert!(!path.exists() && wheel.exists());
    }
}
