//! The kernel's files: small, and each a word, a number or a short table.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// What a file is read up to. A file of sysfs has at most a page, and of `/proc/cpuinfo` the first processor is enough.
const LONGEST: u64 = 16 * 1024;

/// The file's text without the white space around it; `None` where there is no such file, the kernel refuses to read
/// it, or it is empty.
pub(super) fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    // A driver may fail in the middle of a file; what came before is as good as nothing.
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|text| !text.is_empty())
}

/// The file's only number.
pub(super) fn number(path: &Path) -> Option<i64> {
    text(path)?.parse().ok()
}

/// What follows `key` in a table of lines, as `/proc/meminfo` and `memory.stat` are.
pub(super) fn value<'a>(table: &'a str, key: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == key).then(|| words.next())?
    })
}

/// What a folder holds whose name starts with `prefix`, sorted. Links are followed when read: sysfs is made of them.
pub(super) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let starts = |path: &PathBuf| name(path).starts_with(prefix);
    let mut found: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).filter(starts).collect();
    found.sort_unstable();
    found
}

/// The last part of a path, to show.
pub(super) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine of these files, each with its content.
    pub(in super::super) fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn files_are_read_or_not_there() {
        let root = machine(&[("a", " 12\n"), ("b", "\n"), ("c", "0x1"), ("d", "99999999999999999999"), ("e/f", "1")]);
        fs::write(root.path().join("g"), [0xff, 0xfe, b'1']).unwrap();
        let number = |name: &str| number(&root.path().join(name));
        assert_eq!(
            ["a", "b", "c", "d", "e", "g", "missing"].map(number),
            [Some(12), None, None, None, None, None, None]
        );
        assert_eq!(entries(root.path(), "").len(), 6);
        assert_eq!(entries(&root.path().join("a"), ""), Vec::<PathBuf>::new());
    }

    #[test]
    fn endless_files_are_cut() {
        assert_eq!(text(Path::new("/dev/zero")).unwrap().len() as u64, LONGEST);
    }

    #[test]
    fn values_follow_their_keys() {
        let table = "MemTotal:       24684092 kB\nMemFree: \n\ninactive_file 5\n";
        assert_eq!(value(table, "MemTotal:"), Some("24684092"));
        assert_eq!(value(table, "inactive_file"), Some("5"));
        assert_eq!((value(table, "MemFree:"), value(table, "Mem")), (None, None));
    }
}
