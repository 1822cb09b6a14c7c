//! Files: mapped into memory, and read at a position without touching the map.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use bytes::Bytes;
use mmap_io::{MemoryMappedFile, MmapMode};

use crate::ReadError;

/// One file that is open.
///
/// The map shows what the file holds now: who changes a model's files while it is open gets wrong numbers, and who
/// cuts them short may end the process. Replace the files by others (as every package manager does) instead.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    bytes: Bytes,
}

impl Source {
    /// Opens and maps a file. Folders, pipes and devices are refused.
    pub(crate) fn open(path: &Path) -> Result<Source, ReadError> {
        // A pipe must not be opened to find out that it is one: that would wait for its writer.
        let is_file = fs::metadata(path).map_err(|error| io_error(path, error))?.is_file();
        if !is_file {
            return Err(ReadError::Invalid { path: path.to_owned(), reason: "is not a regular file".to_owned() });
        }
        let file = File::open(path).map_err(|error| io_error(path, error))?;
        let bytes = map(&file, path).map_err(|error| io_error(path, error))?;
        Ok(Source { file, bytes })
    }

    /// The whole file, mapped: looking at one byte reads a neighbourhood of tens of KiB into memory.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Reads `buffer.len()` bytes from `offset` on, not through the map.
    #[cfg(unix)]
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    /// Reads `buffer.len()` bytes from `offset` on, not through the map.
    #[cfg(not(unix))]
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

/// The error of a file that the system could not give us.
pub(crate) fn io_error(path: &Path, error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::NotFound { path: path.to_owned(), hint: String::new() },
        _ => ReadError::Io { path: path.to_owned(), error },
    }
}

fn map(file: &File, path: &Path) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // no system maps an empty file
    }
    let map = MemoryMappedFile::from_file(file.try_clone()?, MmapMode::ReadOnly, path).map_err(io::Error::other)?;
    Ok(Bytes::from_owner(Mapping(map)))
}

struct Mapping(MemoryMappedFile);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice_bytes(0, self.0.len()).expect("a read-only map gives all that it maps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"hello world").unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(source.bytes(), "hello world");
        let mut word = [0; 5];
        source.read_at(&mut word, 6).unwrap();
        assert_eq!(&word, b"world");
        assert_eq!(source.read_at(&mut word, 7).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_empty_file_is_empty_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(Source::open(&path).unwrap().bytes().is_empty());
        assert!(matches!(Source::open(folder.path()), Err(ReadError::Invalid { .. })));
        assert!(matches!(Source::open(&folder.path().join("none")), Err(ReadError::NotFound { .. })));
    }
}
