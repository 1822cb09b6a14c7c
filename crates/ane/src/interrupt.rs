//! Ctrl-C, and files that are whole or not there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Files that are being written; Ctrl-C removes them.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Makes Ctrl-C (and a request to terminate) remove unfinished files and end the process.
#[cfg(unix)]
pub(crate) fn install() {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
        low_level,
    };
    // Without a handler the signal still ends the process, and only leaves unfinished files behind.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        let signal = signals.forever().next().unwrap_or(SIGINT);
        let unfinished = lock(); // held until the process ends, so that nothing is begun or finished any more
        unfinished.iter().for_each(|path| drop(fs::remove_file(path)));
        // At once: an orderly exit would take an engine's globals away while its threads run.
        low_level::exit(128 + signal);
    });
}

/// Elsewhere Ctrl-C ends the process by itself; an unfinished file keeps its temporary name.
#[cfg(not(unix))]
pub(crate) fn install() {}

fn lock() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that takes its place only when [`WholeFile::finish`] is called; until then it has another name beside it,
/// and what was there stays.
#[must_use = "dropping the file throws it away"]
pub(crate) struct WholeFile {
    file: BufWriter<File>,
    temporary: PathBuf,
    target: PathBuf,
}

impl WholeFile {
    pub(crate) fn create(target: &Path) -> io::Result<WholeFile> {
        let name = target.file_name().ok_or_else(|| io::Error::other("is not the name of a file"))?;
        let temporary = target.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), process::id()));
        let mut unfinished = lock();
        let file = BufWriter::new(File::create_new(&temporary)?);
        unfinished.insert(temporary.clone());
        Ok(WholeFile { file, temporary, target: target.to_owned() })
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let mut unfinished = lock();
        fs::rename(&self.temporary, &self.target)?;
        unfinished.remove(&self.temporary);
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if lock().remove(&self.temporary) {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let mut dropped = WholeFile::create(&target).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut finished = WholeFile::create(&target).unwrap();
        finished.write_all(b"whole").unwrap();
        finished.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
