//! Compiled models that are kept: the next load finds them, and they give the same bits.
//!
//! On every engine that is there. Open models are found through `ANE_SHARED` or beside the workspace; without them, and
//! without ONNX Runtime, the tests say so and pass.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    fs::File,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
};

use apple_silicon::ane::{
    engines::EngineChoice,
    errors::ANEError,
    features::{Array, ArrayType, Feature, Features, Image, Pixels},
    infer::Precision,
    models::coreml_model::{Compiled, CoreMlModel, LoadOptions},
};
use serde_json::Value;
use support::network;

const GRAPH: &str = "graph.onnx";
const WEIGHTS: &str = "weights.data";
const BINDINGS: &str = "bindings.json";

fn engines() -> impl Iterator<Item = EngineChoice> {
    [EngineChoice::OnnxRuntime, EngineChoice::Rten].into_iter().filter(|&engine| support::is_there(engine))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn digits() -> PathBuf {
    repository().join("examples/digits/digits.mlpackage")
}

/// A picture for the model of digits.
fn picture() -> Vec<Features> {
    let pixels = (0..28 * 28).map(|i| (i * 7 % 256) as u8).collect();
    let image = Image::new(28, 28, Pixels::Gray(pixels)).unwrap();
    vec![Features::from_iter([("image", Feature::Image(image))])]
}

fn options(engine: EngineChoice, store: &Path) -> LoadOptions {
    LoadOptions { engine, compiled: Some(store.to_owned()), ..LoadOptions::default() }
}

/// What a model gives for inputs in turn, on one state. Numbers are shown in full, NaN and the sign of zero, too.
fn outputs(model: &CoreMlModel, inputs: &[Features]) -> String {
    try_outputs(model, inputs).unwrap()
}

fn try_outputs(model: &CoreMlModel, inputs: &[Features]) -> Result<String, ANEError> {
    let mut state = model.new_state()?;
    let outputs = inputs.iter().map(|input| model.predict_with_state(input, &mut state));
    Ok(format!("{:?}", outputs.collect::<Result<Vec<_>, _>>()?))
}

/// Loads a model and says whether it was found.
fn load(path: &Path, options: &LoadOptions) -> (CoreMlModel, bool, PathBuf) {
    let model = CoreMlModel::load(path, options).unwrap();
    let (found, entry) = match model.compiled().clone() {
        Compiled::Stored(entry) => (false, entry),
        Compiled::Found(entry) => (true, entry),
        Compiled::Fresh => panic!("{} was not kept", path.display()),
    };
    (model, found, entry)
}

/// Names of what a store holds.
fn entries(store: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Loads a model without a store, through an empty one, and from it. An engine may refuse the model.
fn check(path: &Path, function: Option<&str>, inputs: &[Features], engine: EngineChoice) {
    let store = tempfile::tempdir().unwrap();
    let kept = LoadOptions { function: function.map(str::to_owned), ..options(engine, store.path()) };
    let fresh = match CoreMlModel::load(path, &LoadOptions { compiled: None, ..kept.clone() }) {
        Ok(model) => model,
        Err(ANEError::CompilationFailed(why)) => {
            assert_eq!(CoreMlModel::load(path, &kept).unwrap_err(), ANEError::CompilationFailed(why));
            assert_eq!(entries(store.path()), Vec::<String>::new(), "{}", path.display());
            return;
        }
        Err(other) => panic!("{}: {other}", path.display()),
    };
    assert_eq!(fresh.compiled(), &Compiled::Fresh);
    let (stored, found, entry) = load(path, &kept);
    assert!(!found, "{} was found in an empty store", path.display());
    let (again, found, place) = load(path, &kept);
    assert!(found && place == entry, "{} is at {place:?}, not {entry:?}", path.display());
    assert_eq!(entry.parent(), Some(store.path()));
    // What has no seed gives other numbers in each session.
    let draws = path.ends_with("defaults/model.mlpackage") && path.to_string_lossy().contains("random_");
    for model in [&stored, &again] {
        assert_eq!(model.interface(), fresh.interface());
        assert_eq!(model.weight_bytes(), fresh.weight_bytes());
        assert_eq!(model.memory_bytes(), fresh.memory_bytes());
        if !draws {
            assert_eq!(outputs(model, inputs), outputs(&fresh, inputs), "{} on {engine}", path.display());
        }
    }
}

#[test]
fn the_example_gives_the_same_bits() {
    engines().for_each(|engine| check(&digits(), None, &picture(), engine));
}

/// One fixture of each op and layer: with states, labels, loops and whatever else a graph may hold.
#[test]
fn fixtures_give_the_same_bits() {
    let tests = repository().join("crates/coreml-onnx/tests");
    for (folder, kind) in [("ops", "op"), ("layers", "layer")] {
        let cases: Value = serde_json::from_reader(File::open(tests.join(folder).join("cases.json")).unwrap()).unwrap();
        let mut last = "";
        for case in cases.as_array().unwrap() {
            let name = case[kind].as_str().unwrap();
            if name != std::mem::replace(&mut last, name) {
                let case = tests.join(folder).join(name).join(case["case"].as_str().unwrap());
                let path = ["model.mlpackage", "model.mlmodel"].map(|file| case.join(file));
                let path = path.iter().find(|path| path.exists()).unwrap();
                engines().for_each(|engine| check(path, None, &inputs_in(&case), engine));
            }
        }
    }
}

fn inputs_in(folder: &Path) -> Vec<Features> {
    let names = entries(folder);
    let inputs = names.iter().filter(|name| name.starts_with("inputs"));
    inputs.map(|name| support::read_features(&folder.join(name))).collect()
}

#[test]
fn open_models_give_the_same_bits() {
    let Some(open) = support::shared("models/open") else {
        println!("skipped: there is no folder shared/models/open; ANE_SHARED names `shared`");
        return;
    };
    for name in [
        "bert_6x384",
        "efficientnet_b0_nn",
        "lstm_fp16",
        "mobilenet_v2_w035_classifier",
        "mobilenet_v2_w035_pal4_grouped_ios18",
        "multifunction",
        "stateful_kv_attention",
    ] {
        let folder = open.join(name);
        let meta: Value = serde_json::from_reader(File::open(folder.join("meta.json")).unwrap()).unwrap();
        let path = folder.join(meta["file"].as_str().unwrap());
        let mut inputs: BTreeMap<Option<&str>, Vec<Features>> = BTreeMap::new();
        for case in meta["cases"].as_array().unwrap() {
            let features = support::read_features(&folder.join(case["inputs"].as_str().unwrap()));
            inputs.entry(case["function"].as_str()).or_default().push(features);
        }
        for (function, inputs) in inputs {
            engines().for_each(|engine| check(&path, function, &inputs, engine));
        }
    }
}

/// A nested graph with a weight of its own, which sessions cannot share.
#[test]
fn nested_weights_are_kept() {
    let path = repository().join("crates/apple-silicon/tests/models/nested_weights.mlpackage");
    let values: Vec<f32> = (0..32 * 16).map(|i| i as f32).collect();
    let array = Array::new([32, 16], values).unwrap();
    let inputs = [Features::from_iter([("x", array)])];
    for engine in engines() {
        check(&path, None, &inputs, engine);
        let store = tempfile::tempdir().unwrap();
        let (_, _, entry) = load(&path, &options(engine, store.path()));
        let has_weights = entry.join(WEIGHTS).exists();
        assert_eq!(has_weights, engine == EngineChoice::OnnxRuntime, "which computes the rows once");
        let (model, found, _) = load(&path, &options(engine, store.path()));
        assert!(found);
        check_side_by_side(&model, &inputs, store);
    }
}

/// Predicts from several threads at once, for which ONNX Runtime needs several sessions. The entry has gone by then.
fn check_side_by_side(model: &CoreMlModel, inputs: &[Features], store: tempfile::TempDir) {
    let alone = outputs(model, inputs);
    if cfg!(unix) {
        store.close().unwrap();
    }
    let barrier = Barrier::new(3);
    // Nobody fails before the end, since the others would wait.
    let run = || (0..12).map(|_| (barrier.wait(), try_outputs(model, inputs)).1).collect::<Vec<_>>();
    let results = thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(run));
        threads.map(|thread| thread.join().unwrap())
    });
    results.iter().flatten().for_each(|result| assert_eq!(result.as_ref(), Ok(&alone)));
}

#[test]
fn a_found_model_predicts_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.mlmodel");
    let layers: Vec<Vec<u8>> = (0..4).map(|n| network::convolution(n, 32)).collect();
    let shape = [1, 32, 48, 48];
    fs::write(&path, network::neural_network(&shape, &layers)).unwrap();
    let inputs = [Features::from_iter([("x0", Array::filled(ArrayType::Float32, shape, 0.5).unwrap())])];
    for engine in engines() {
        let store = tempfile::tempdir().unwrap();
        load(&path, &options(engine, store.path()));
        let (model, found, _) = load(&path, &options(engine, store.path()));
        assert!(found);
        check_side_by_side(&model, &inputs, store);
    }
}

/// Sessions of a found model share its weights as others do; see the test `sessions`, which says why it runs in a process
/// of its own.
#[test]
#[cfg(target_os = "linux")]
fn sessions_of_a_found_model_share_weights() {
    const GIVE_BACK: &str = "MALLOC_MMAP_THRESHOLD_";
    if std::env::var_os(GIVE_BACK).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "sessions_of_a_found_model_share_weights", "--nocapture"]).env(GIVE_BACK, "65536");
        assert!(child.status().unwrap().success());
        return;
    }
    if !support::is_there(EngineChoice::OnnxRuntime) {
        return;
    }
    const CHANNELS: usize = 512;
    let (folder, shape) = (tempfile::tempdir().unwrap(), [1, CHANNELS, 8, 8]);
    let path = folder.path().join("network.mlmodel");
    let layers: Vec<Vec<u8>> = (0..3).map(|n| network::convolution(n, CHANNELS)).collect();
    fs::write(&path, network::neural_network(&shape, &layers)).unwrap();
    let weights = 3 * 9 * CHANNELS * CHANNELS * size_of::<f32>();
    let options = LoadOptions { threads: NonZeroUsize::new(1), ..options(EngineChoice::OnnxRuntime, folder.path()) };
    load(&path, &options);
    let (model, found, _) = load(&path, &options);
    assert!(found);
    let input = Features::from_iter([("x0", Array::filled(ArrayType::Float32, shape, 0.5).unwrap())]);
    let resident: Vec<usize> = (1..=4)
        .map(|sessions| {
            let barrier = Barrier::new(sessions);
            let run =
                || (0..12).map(|_| (barrier.wait(), model.predict(&input).map(drop)).1).collect::<Result<Vec<_>, _>>();
            thread::scope(|scope| {
                let threads: Vec<_> = (0..sessions).map(|_| scope.spawn(run)).collect();
                threads.into_iter().for_each(|thread| drop(thread.join().unwrap().unwrap()));
            });
            let pages = fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        })
        .collect();
    println!("{weights} bytes of weights, resident with 1 to 4 sessions: {resident:?}");
    for (sessions, pair) in resident.windows(2).enumerate() {
        let more = pair[1].saturating_sub(pair[0]);
        assert!(more < weights / 3, "session {} costs {more} bytes", sessions + 2);
    }
}

#[test]
fn other_options_are_other_entries() {
    let store = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for engine in engines() {
        for precision in [None, Some(Precision::Fp16)] {
            let options = LoadOptions { precision, ..options(engine, store.path()) };
            assert!(!load(&digits(), &options).1, "{engine} {precision:?}");
            assert!(load(&digits(), &options).1, "{engine} {precision:?}");
            expected += 1;
        }
        let fp32 = LoadOptions { precision: Some(Precision::Fp32), ..options(engine, store.path()) };
        assert!(load(&digits(), &fp32).1, "fp32 is what is computed in anyway");
        let threads = LoadOptions { threads: NonZeroUsize::new(2), ..options(engine, store.path()) };
        assert!(load(&digits(), &threads).1, "threads do not matter");
    }
    assert_eq!(entries(store.path()).len(), expected);
}

#[test]
fn functions_are_entries_of_their_own() {
    let Some(open) = support::shared("models/open") else { return println!("skipped: there is no shared/models/open") };
    let path = open.join("multifunction/model.mlpackage");
    for engine in engines() {
        let store = tempfile::tempdir().unwrap();
        let functions: Vec<String> =
            load(&path, &options(engine, store.path())).0.schema().functions.keys().cloned().collect();
        assert!(functions.len() > 1);
        for function in &functions {
            load(&path, &LoadOptions { function: Some(function.clone()), ..options(engine, store.path()) });
        }
        assert_eq!(entries(store.path()).len(), functions.len(), "the default one has a name, too");
    }
}

#[test]
fn content_counts_and_names_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = (folder.path().join("a/store"), folder.path().join("another name.mlpackage"));
    copy_folder(&digits(), &copy);
    for engine in engines() {
        let (_, found, entry) = load(&digits(), &options(engine, &store));
        assert!(!found);
        let (_, found, place) = load(&copy, &options(engine, &store));
        assert!(found && place == entry, "the copy has the same content");
    }
    let weights = copy.join("Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // A model's files are replaced, never changed in place: others may have them open.
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, bytes).unwrap();
    for engine in engines() {
        let (_, found, entry) = load(&copy, &options(engine, &store));
        assert!(!found, "one byte of the weights is another");
        assert!(entry.file_name().unwrap().to_str().unwrap().starts_with("another_name-"), "{entry:?}");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() { copy_folder(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
    }
}

#[test]
fn damaged_entries_are_made_anew() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("half of it is gone", |path| {
            fs::write(path, &fs::read(path).unwrap()[..fs::read(path).unwrap().len() / 2]).unwrap()
        }),
        ("one bit is another", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("there is more of it", |path| fs::write(path, [fs::read(path).unwrap(), vec![0]].concat()).unwrap()),
        ("it is empty", |path| fs::write(path, "").unwrap()),
        ("it is gone", |path| fs::remove_file(path).unwrap()),
        ("it is a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for engine in engines() {
        let store = tempfile::tempdir().unwrap();
        let options = options(engine, store.path());
        let (fresh, _, entry) = load(&digits(), &options);
        let expected = outputs(&fresh, &picture());
        drop(fresh);
        for file in [GRAPH, WEIGHTS, BINDINGS] {
            for (what, damage) in damages {
                damage(&entry.join(file));
                let (model, found, place) = load(&digits(), &options);
                assert_eq!((found, &place), (false, &entry), "{file} on {engine}: {what}");
                assert_eq!(outputs(&model, &picture()), expected, "{file} on {engine}: {what}");
                let (model, found, _) = load(&digits(), &options);
                assert!(found, "{file} on {engine}: {what}");
                assert_eq!(outputs(&model, &picture()), expected);
            }
        }
        fs::remove_dir_all(&entry).unwrap();
        fs::write(&entry, "a file").unwrap();
        assert_eq!(load(&digits(), &options).2, entry);
        assert_eq!(entries(store.path()).len(), 1, "nothing else is left");
    }
}

/// An entry that belongs to something else, put in the place of this one.
#[test]
fn an_entry_of_something_else_is_not_taken() {
    for engine in engines() {
        let store = tempfile::tempdir().unwrap();
        let fp16 = LoadOptions { precision: Some(Precision::Fp16), ..options(engine, store.path()) };
        let (other, (model, _, entry)) = (load(&digits(), &fp16).2, load(&digits(), &options(engine, store.path())));
        let expected = outputs(&model, &picture());
        drop(model);
        fs::remove_dir_all(&entry).unwrap();
        fs::rename(&other, &entry).unwrap();
        let (model, found, _) = load(&digits(), &options(engine, store.path()));
        assert!(!found);
        assert_eq!(outputs(&model, &picture()), expected);
    }
}

#[test]
fn a_model_can_be_compiled_twice_at_once() {
    for engine in engines() {
        let store = tempfile::tempdir().unwrap();
        let options = options(engine, &store.path().join("new"));
        let expected = outputs(
            &CoreMlModel::load(digits(), &LoadOptions { compiled: None, ..options.clone() }).unwrap(),
            &picture(),
        );
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let (model, _, _) = load(&digits(), &options);
                    assert_eq!(outputs(&model, &picture()), expected);
                });
            }
        });
        assert_eq!(entries(options.compiled.as_ref().unwrap()).len(), 1);
        assert!(load(&digits(), &options).1);
    }
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for engine in engines() {
        for store in [file.clone(), file.join("store")] {
            match CoreMlModel::load(digits(), &options(engine, &store)) {
                Err(ANEError::CompilationFailed(why)) => assert!(why.contains(store.to_str().unwrap()), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
