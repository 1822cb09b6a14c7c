//! What the fuzzer found worth keeping, as a test: each file is opened and lowered, and gives an error or a model.
//!
//! `fuzz/corpus/<target>` is made by `make fuzz`; the targets are in `fuzz/fuzz_targets`.

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library of its own for the fuzz targets")]
mod ane_fuzz;

use std::{fs, path::Path};

use ane_fuzz::Parts;

#[test]
fn every_file_of_the_corpus_is_survived() {
    check("mlmodel", ane_fuzz::open_file);
    check("package", |data| ane_fuzz::open_package(Parts { model: Some(data), ..Parts::default() }));
    check("manifest", |data| ane_fuzz::open_package(Parts { manifest: Some(data), ..Parts::default() }));
    check("weights", |data| ane_fuzz::open_package(Parts { weights: Some(data), ..Parts::default() }));
    check("compiled", ane_fuzz::open_compiled);
    ane_fuzz::clean();
}

fn check(target: &str, open: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        open(&fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 10, "{target} has {files} files");
}
