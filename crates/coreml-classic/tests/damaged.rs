//! Damaged models: the fixtures with bytes flipped, cut out and cut off, and what the fuzzer found worth keeping. Each is
//! opened and evaluated, and gives an error or an answer.

#[path = "../../../fuzz/src/evaluate.rs"]
mod evaluate;

use std::{
    fs,
    path::{Path, PathBuf},
};

use evaluate::evaluate_file;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder with this extension; all of them where there is none.
fn files(folder: &Path, extension: Option<&str>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    let mut all: Vec<PathBuf> = Vec::new();
    for path in entries.unwrap_or_default() {
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if extension.is_none_or(|extension| path.extension().is_some_and(|e| e == extension)) {
            all.push(path);
        }
    }
    all
}

#[test]
fn damaged_fixtures_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodel");
    let fixtures = files(&root().join("tests/classic"), Some("mlmodel"));
    assert!(fixtures.len() >= 85, "there are {} fixtures", fixtures.len());
    for fixture in fixtures {
        let good = fs::read(&fixture).unwrap();
        evaluate_file(&path, &good);
        // Some places of each file, the same ones each time.
        let step = (good.len() / 24).max(1);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            evaluate_file(&path, &bad);
            bad[at] = 0xff;
            evaluate_file(&path, &bad);
            bad.remove(at);
            evaluate_file(&path, &bad);
            evaluate_file(&path, &good[..at]);
        }
    }
}

#[test]
fn every_file_of_the_corpus_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodel");
    let corpus = files(&root().join("../../fuzz/corpus/classic"), None);
    assert!(corpus.len() >= 10, "the corpus has {} files", corpus.len());
    for file in corpus {
        evaluate_file(&path, &fs::read(file).unwrap());
    }
}
