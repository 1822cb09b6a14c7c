//! Weight files ("blob v2"): a header of 64 bytes, then blobs, each with 64 bytes of metadata before its data.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use crate::{DType, Tensor, error::quote, source::Source};

const HEADER: usize = 64;
const VERSION: u32 = 2;
const SENTINEL: u32 = 0xDEAD_BEEF;
const MODEL_PATH: &str = "@model_path/";

/// The weight files of one model, each opened when it is first asked for.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    folder: PathBuf,
    boundary: PathBuf,
    open: BTreeMap<String, WeightFile>,
}

impl WeightFiles {
    /// `folder` holds the model file: `@model_path` means it. No file outside of `boundary` (the package) is opened.
    pub(crate) fn new(folder: PathBuf, boundary: PathBuf) -> WeightFiles {
        WeightFiles { folder, boundary, open: BTreeMap::new() }
    }

    /// The tensor whose metadata stands at `offset` of the file with this name. Reads the metadata alone.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        offset: u64,
        dtype: DType,
        shape: Vec<usize>,
    ) -> Result<Tensor, String> {
        let file = match self.open.entry(name.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(WeightFile::open(name, &self.folder, &self.boundary)?),
        };
        file.tensor(offset, dtype, shape)
    }
}

#[derive(Debug)]
struct WeightFile {
    /// Its path from the model's folder, for messages.
    name: String,
    source: Source,
}

impl WeightFile {
    fn open(name: &str, folder: &Path, boundary: &Path) -> Result<WeightFile, String> {
        let relative = relative_path(name)?;
        let path = folder.join(relative);
        let shown = relative.display();
        let resolved =
            fs::canonicalize(&path).map_err(|error| format!("weight file {shown} cannot be opened: {error}"))?;
        let boundary = fs::canonicalize(boundary).map_err(|error| format!("{}: {error}", boundary.display()))?;
        if !resolved.starts_with(&boundary) {
            return Err(format!(
                "the path of weight file {shown} leads out of the model to {} through a symbolic link; \
                 copy the model with its links resolved (cp -RL)",
                resolved.display()
            ));
        }
        let source = Source::open(&resolved).map_err(|error| format!("weight file {error}"))?;
        let file = WeightFile { name: shown.to_string(), source };
        file.check_header()?;
        Ok(file)
    }

    fn check_header(&self) -> Result<(), String> {
        let mut header = [0; HEADER];
        if self.source.read_at(&mut header, 0).is_err() {
            let len = self.source.bytes().len();
            return Err(format!("weight file {} has {len} bytes, less than its header of {HEADER}", self.name));
        }
        // The number of blobs stands before the version; blobs are found by their offsets, so nothing relies on it.
        match u32_at(&header, 4) {
            VERSION => Ok(()),
            version => Err(format!("weight file {} has version {version}; version {VERSION} is read", self.name)),
        }
    }

    fn tensor(&self, offset: u64, dtype: DType, shape: Vec<usize>) -> Result<Tensor, String> {
        let blob = self.blob(offset)?;
        let place = format!("weight blob at offset {offset} of {}", self.name);
        let stored =
            DType::from_blob(blob.dtype).ok_or_else(|| format!("{place} has unknown data type {}", blob.dtype))?;
        if stored != dtype {
            return Err(format!("{place} holds {stored}, but {dtype} is declared"));
        }
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let expected = count.and_then(|n| dtype.bytes(n)).ok_or_else(|| format!("{dtype} {shape:?} is too large"))?;
        let found = blob.data.len();
        let declared = format!("{dtype} {shape:?}");
        Tensor::new(dtype, shape, blob.data)
            .ok_or_else(|| format!("{place} holds {found} bytes, but {declared} takes {expected}"))
    }

    fn blob(&self, offset: u64) -> Result<Blob, String> {
        let (name, len) = (&self.name, self.source.bytes().len());
        if !offset.is_multiple_of(HEADER as u64) {
            return Err(format!("weight blob offset {offset} in {name} is not a multiple of {HEADER}"));
        }
        let mut metadata = [0; HEADER];
        if self.source.read_at(&mut metadata, offset).is_err() {
            return Err(format!("weight blob at offset {offset} lies past the end of {name} ({len} bytes)"));
        }
        if u32_at(&metadata, 0) != SENTINEL {
            return Err(format!("no weight blob starts at offset {offset} of {name}: its mark is missing"));
        }
        let (size, start) = (u64_at(&metadata, 8), u64_at(&metadata, 16));
        let past_end = || {
            let data = format!("its {size} bytes from {start} on lie past the end of {name} ({len} bytes)");
            format!("weight blob at offset {offset}: {data}")
        };
        let end = start.checked_add(size).ok_or_else(past_end)?;
        match (usize::try_from(start), usize::try_from(end)) {
            (Ok(start), Ok(end)) if end <= len => {
                Ok(Blob { dtype: u32_at(&metadata, 4), data: self.source.bytes().slice(start..end) })
            }
            _ => Err(past_end()),
        }
    }
}

/// What the metadata of one blob says: where it lies is checked, its type and size are not.
struct Blob {
    dtype: u32,
    data: Bytes,
}

/// The part of a blob's file name after `@model_path/`: names of folders and of a file, nothing else.
fn relative_path(name: &str) -> Result<&Path, String> {
    let refused = |why: &str| Err(format!("weight file path {} {why}", quote(name)));
    let Some(relative) = name.strip_prefix(MODEL_PATH) else { return refused("does not start with @model_path/") };
    if relative.contains('\0') {
        return refused("has a NUL byte");
    }
    let path = Path::new(relative);
    if relative.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return refused("does not stay in the model's folder");
    }
    Ok(path)
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one blob of 8 bytes at 128, after `edit`.
    fn weight_file(edit: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, WeightFiles) {
        let mut bytes = vec![0; 136];
        bytes[0] = 1;
        bytes[4] = VERSION as u8;
        bytes[64..68].copy_from_slice(&SENTINEL.to_le_bytes());
        bytes[68] = 1;
        bytes[72] = 8;
        bytes[80] = 128;
        bytes[128..].copy_from_slice(b"abcdefgh");
        edit(&mut bytes);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("weights")).unwrap();
        fs::write(folder.path().join("weights/weight.bin"), bytes).unwrap();
        let files = WeightFiles::new(folder.path().to_owned(), folder.path().to_owned());
        (folder, files)
    }

    fn check(edit: impl FnOnce(&mut Vec<u8>), name: &str, offset: u64, dtype: DType, shape: &[usize], expected: &str) {
        let (_folder, mut files) = weight_file(edit);
        let shown = match files.tensor(name, offset, dtype, shape.to_vec()) {
            Ok(tensor) => format!("{:?}", tensor.bytes()),
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{shown}");
    }

    const NAME: &str = "@model_path/weights/weight.bin";

    #[test]
    fn reads_a_blob() {
        check(|_| (), NAME, 64, DType::Float16, &[2, 2], "b\"abcdefgh\"");
        check(|b| b[68] = 9, NAME, 64, DType::UInt1, &[8, 8], "b\"abcdefgh\"");
        check(|b| b[68] = 12, NAME, 64, DType::UInt3, &[21], "b\"abcdefgh\"");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let fp16 = DType::Float16;
        check(|_| (), NAME, 64, fp16, &[5], "holds 8 bytes, but fp16 [5] takes 10");
        check(|_| (), NAME, 64, DType::Float32, &[2], "holds fp16, but fp32 is declared");
        check(|_| (), NAME, 64, fp16, &[usize::MAX, 2], "too large");
        check(|_| (), NAME, 67, fp16, &[4], "not a multiple of 64");
        check(|_| (), NAME, 0, fp16, &[4], "no weight blob starts at offset 0");
        check(
            |_| (),
            NAME,
            1 << 40,
            fp16,
            &[4],
            "at offset 1099511627776 lies past the end of weights/weight.bin (136 bytes)",
        );
        check(|_| (), NAME, u64::MAX - 63, fp16, &[4], "lies past the end");
        check(|b| b[72] = 9, NAME, 64, fp16, &[4], "its 9 bytes from 128 on lie past the end");
        check(|b| b[80..88].fill(0xff), NAME, 64, fp16, &[4], "lie past the end");
        check(|b| b[68] = 99, NAME, 64, fp16, &[4], "unknown data type 99");
        check(|b| b[4] = 77, NAME, 64, fp16, &[4], "version 77");
        check(|b| b.clear(), NAME, 64, fp16, &[4], "has 0 bytes");
    }

    #[test]
    fn refuses_paths_that_leave() {
        for name in [
            "@model_path/../secret",
            "@model_path//etc/passwd",
            "/etc/passwd",
            "weights/weight.bin",
            "@model_path/",
            "@model_path/a\0b",
        ] {
            check(|_| (), name, 64, DType::Float16, &[4], "weight file path");
        }
        check(|_| (), "@model_path/none.bin", 64, DType::Float16, &[4], "weight file none.bin cannot be opened");
    }

    #[cfg(unix)]
    #[test]
    fn refuses_links_that_leave() {
        let (folder, mut files) = weight_file(|_| ());
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.bin")).unwrap();
        let error = files.tensor("@model_path/link.bin", 64, DType::Float16, vec![4]).unwrap_err();
        assert!(error.contains("leads out of the model"), "{error}");
    }
}
