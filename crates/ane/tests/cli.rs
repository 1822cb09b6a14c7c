//! The command as its users meet it: what it prints, where, and how it ends.
//!
//! Predictions run on rten, which is on every machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use expect_test::{Expect, expect};
use serde_json::Value;

const DIGITS: &str = "examples/digits/digits.mlpackage";

/// The workspace's folder, where all commands run.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The command with these arguments and nothing in its environment that would change what it prints.
fn ane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ane"));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the command: its exit code, stdout, and stderr without the line about the engine, all without blanks at the
/// ends of lines. `temporary` is shown as `[TMP]`.
fn run(arguments: &[&str], temporary: Option<&Path>) -> String {
    let Output { status, stdout, stderr } = ane(arguments).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let messages = stderr.lines().filter(|line| !line.starts_with("engine: "));
    let mut shown = format!("exit code {}\n", status.code().unwrap());
    for line in stdout.lines().chain(messages) {
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
    temporary.map_or(shown.clone(), |path| shown.replace(path.to_str().unwrap(), "[TMP]"))
}

fn check(arguments: &[&str], expected: Expect) {
    expected.assert_eq(&run(arguments, None));
}

fn check_in(folder: &Path, arguments: &[&str], expected: Expect) {
    expected.assert_eq(&run(arguments, Some(folder)));
}

fn json(arguments: &[&str]) -> Value {
    let output = ane(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The example with all `from` in its program replaced by `to`, which is as long.
fn damaged(folder: &Path, from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    let inner = "Data/com.apple.CoreML";
    let package = folder.join("damaged.mlpackage");
    fs::create_dir_all(package.join(inner).join("weights")).unwrap();
    for file in ["Manifest.json", &format!("{inner}/weights/weight.bin")] {
        fs::copy(root().join(DIGITS).join(file), package.join(file)).unwrap();
    }
    let mut model = fs::read(root().join(DIGITS).join(inner).join("model.mlmodel")).unwrap();
    let places: Vec<usize> =
        model.windows(from.len()).enumerate().filter(|(_, w)| *w == from.as_bytes()).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| model[at..at + to.len()].copy_from_slice(to.as_bytes()));
    fs::write(package.join(inner).join("model.mlmodel"), model).unwrap();
    package.to_str().unwrap().to_owned()
}

#[test]
fn help() {
    check(
        &["--help"],
        expect![[r#"
            exit code 0
            Run Core ML models on any machine.

            Takes the files that apps ship (.mlpackage, .mlmodel), on Linux, Windows and macOS: runs them on
            ONNX Runtime or on the built-in engine rten, tells what is inside and what the Neural Engine would
            take of it, and exports them to ONNX.

            Usage: ane <COMMAND>

            Commands:
              run          Run a model and show its answer
              inspect      Tell what a model takes and gives, and what is inside
              check        Explain a model: does it run on the Neural Engine, why not, what does it cost, does
                           fp16 break it?
              rule         Explain a rule of `ane check`, or list all of them
              probe        Try a model in a child process, which it may crash
              profile      Measure each operation of a model on this machine, beside the estimate for a chip
              export       Write a model as an ONNX file
              engines      List the engines on this machine, and which one a model would get
              engine       Install an engine
              completions  Print a script that completes `ane` in a shell

            Options:
              -h, --help
                      Print help (see a summary with '-h')

              -V, --version
                      Print version

            Start here:
              ane inspect model.mlpackage                   what it takes and gives, and what is inside
              ane check model.mlpackage                     what keeps it off the Neural Engine, and its costs
              ane run model.mlpackage photo.jpg             the answer for a picture
              ane run model.mlpackage --random 1            a first try of any model
              ane run model.mlpackage --inputs x.npz --outputs y.npz
              ane export model.mlpackage -o model.onnx      the same network for other tools
              ane engine install                            the faster engine, ONNX Runtime

            Answers go to stdout, everything else to stderr. Colour is for terminals only; NO_COLOR=1 turns it
            off.

            Exit codes:
               0  done
               1  something else failed: a file could not be written, or a fault of this program
               2  the command line is wrong
               3  there is no model at the path
               4  the model's file is damaged, or is no Core ML model
               5  the model is sound, but no engine here takes it
               6  the prediction failed
               7  the prediction did not end in time
               8  out of memory, or over a limit
               9  the engine is not available here
              10  an input is missing, unknown, or of the wrong kind, shape or type
              11  `ane check` found what --fail-on names
             130  interrupted by Ctrl-C (143 by a request to terminate)
        "#]],
    );
    check(
        &["run", "--help"],
        expect![[r#"
            exit code 0
            Run a model and show its answer

            Inputs come from pictures, from numpy files, from the command line or from a seed; those of one
            prediction may be mixed. Several files, or an --input that is given several times, make several
            predictions, in order. Pictures are stretched to the size that the model takes and converted to its
            colours. Arrays must have the shape that the model declares; their type is converted where no value
            is lost but the last digits of floats.

            Usage: ane run [OPTIONS] <MODEL> [FILES]...

            Arguments:
              <MODEL>
                      The model: .mlpackage or .mlmodel

              [FILES]...
                      Files with the inputs of one prediction each: .png and .jpg pictures for a model that
                      takes one, or .npz

            Options:
                  --inputs <FILE>
                      The same, as an option

                  --input <NAME=VALUE>
                      One input: a number, text, JSON, a .npy file, or a picture

                  --random <SEED>
                      Make up the inputs that are not given, always the same ones for a seed

                  --outputs <FILE.npz>
                      Write the outputs as a numpy file

                  --engine <ENGINE>
                      The engine; `auto` takes Core ML on a Mac, else onnxruntime where it is found, else rten

                      [default: auto]
                      [possible values: auto, onnxruntime, rten]

                  --function <NAME>
                      The function of a multi-function model; its default function where left out

                  --compute-units <UNITS>
                      Where it would best run, on Core ML: all, ane, gpu or cpu. The other engines have the CPU
                      alone

                      [default: all]
                      [possible values: all, ane, gpu, cpu]

                  --precision <PRECISION>
                      What to compute in: fp32, or fp16 to round every result as the Neural Engine does. Where
                      left out it is fp32, and on Core ML what the model was converted for

                      [possible values: fp32, fp16]

                  --compiled <FOLDER>
                      Keep the compiled model in this folder, and take it from there the next time

                  --state
                      Keep the model's state from one prediction to the next; it starts at zero

                  --repeat <N>
                      Predict N times more, after some runs to warm up, and tell the latency

                  --threads <N>
                      Threads within one operation; the engine's choice where left out

                  --timeout <MS>
                      End a prediction that takes longer, with exit code 7

                  --top <K>
                      Tell this many classes

                      [default: 5]

                  --show
                      Show input pictures beside the answer, as the model sees them

                  --json
                      Print JSON

              -h, --help
                      Print help (see a summary with '-h')

            Examples:
              ane run classifier.mlpackage cat.jpg dog.png --show      pictures, and their classes beside
              ane run model.mlpackage --random 1 --repeat 100          how fast is it?
              ane run model.mlpackage --inputs x.npz --outputs y.npz   numpy in, numpy out
              ane run bert.mlpackage --input ids=ids.npy --input 'mask=[[1, 1, 0, 0]]'
              ane run llm.mlpackage --state step0.npz step1.npz        state lives from step to step
              ane run model.mlpackage --random 1 --precision fp16      what half precision does to its numbers

            Files that --outputs writes:
              Arrays keep their shapes, scalars and labels have the shape [1], and pictures are uint8 of height
              x
              width x 3 (red, green, blue). A dictionary is its values in the model's order, and NAME_labels
              beside
              has its keys. With several predictions there is a file for each: y_0.npz, y_1.npz, ...
        "#]],
    );
}

#[test]
fn usage() {
    check(
        &["run"],
        expect![[r#"
        exit code 2
        error: the following required arguments were not provided:
          <MODEL>

        Usage: ane run <MODEL> [FILES]...

        For more information, try '--help'.
    "#]],
    );
    check(
        &["run", DIGITS, "--input", "image"],
        expect![[r#"
        exit code 2
        error: invalid value 'image' for '--input <NAME=VALUE>': expected NAME=VALUE, such as image=photo.jpg

        For more information, try '--help'.
    "#]],
    );
    check(
        &["run", DIGITS, "--engine", "tpu"],
        expect![[r#"
        exit code 2
        error: invalid value 'tpu' for '--engine <ENGINE>'
          [possible values: auto, onnxruntime, rten]

        For more information, try '--help'.
    "#]],
    );
    check(
        &["run", DIGITS, "--engine", "coreml", "--random", "1"],
        expect![[r#"
        exit code 9
        error: there is no Apple Neural Engine on this machine; choose the engine `auto`, `onnxruntime` or `rten`
    "#]],
    );
}

#[test]
fn models_that_cannot_be_read() {
    check(
        &["inspect", "examples/digits/digits"],
        expect![[r#"
        exit code 3
        error: examples/digits/digits: no such file; examples/digits/digits.mlpackage is there
    "#]],
    );
    check(
        &["run", "none.mlmodel", "--random", "1"],
        expect![[r#"
        exit code 3
        error: none.mlmodel: no such file
    "#]],
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.mlpackage");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("Manifest.json"), "{").unwrap();
    check_in(
        folder.path(),
        &["inspect", path.to_str().unwrap()],
        expect![[r#"
        exit code 4
        error: [TMP]/broken.mlpackage/Manifest.json: is not the manifest of a package: EOF while parsing an object at line 1 column 1
    "#]],
    );
    check_in(
        folder.path(),
        &["run", path.to_str().unwrap()],
        expect![[r#"
        exit code 4
        error: [TMP]/broken.mlpackage/Manifest.json: is not the manifest of a package: EOF while parsing an object at line 1 column 1
    "#]],
    );
}

#[test]
fn operations_that_are_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let model = damaged(folder.path(), "max_pool", "fax_pool");
    check_in(
        folder.path(),
        &["run", &model, "--random", "1", "--engine", "rten"],
        expect![[r#"
        exit code 5
        error: [TMP]/damaged.mlpackage: 1 kind of operation has no lowering to ONNX yet: fax_pool x2 (fax_pool_0_cast_fp16, fax_pool_1_cast_fp16)
    "#]],
    );
    check_in(
        folder.path(),
        &["export", &model, "-o", "never.onnx"],
        expect![[r#"
        exit code 5
        error: [TMP]/damaged.mlpackage: 1 kind of operation has no lowering to ONNX yet: fax_pool x2 (fax_pool_0_cast_fp16, fax_pool_1_cast_fp16)
    "#]],
    );
}

#[test]
fn inputs_that_do_not_fit() {
    let rten = |arguments: &[&'static str]| [&["run", DIGITS, "--engine", "rten"], arguments].concat();
    check(
        &rten(&[]),
        expect![[r#"
        exit code 10
        error: the input "image" (grayscale image, 28x28) is missing; give --input image=PICTURE.png, or --inputs FILE.npz with every input, or --random SEED
    "#]],
    );
    check(
        &rten(&["--input", "picture=a.png"]),
        expect![[r#"
        exit code 10
        error: the model has no input "picture"; it takes "image" (grayscale image, 28x28)
    "#]],
    );
    check(
        &rten(&["--input", "image=none.png"]),
        expect![[r#"
        exit code 10
        error: --input image=none.png: cannot be read: No such file or directory (os error 2)
    "#]],
    );
    check(
        &rten(&["--input", "image=3"]),
        expect![[r#"
        exit code 10
        error: --input image=3: expected grayscale image, 28x28 (a .png or .jpg file, or a .npy file of uint8 height x width x 3)
    "#]],
    );
    check(
        &rten(&["--inputs", "Cargo.toml"]),
        expect![[r#"
        exit code 10
        error: Cargo.toml: is not an .npz file of numpy's: invalid Zip archive: Could not find EOCD
    "#]],
    );
    check(
        &rten(&["--random", "1", "--state"]),
        expect![[r#"
        exit code 2
        error: the model has no state that --state could keep
    "#]],
    );
    check(
        &rten(&["--random", "1", "--function", "other"]),
        expect![[r#"
        exit code 5
        error: examples/digits/digits.mlpackage: it has no function "other"; it has main
    "#]],
    );
    check(
        &rten(&["--random", "1", "--timeout", "0"]),
        expect![[r#"
        exit code 7
        error: there was no answer within 0 ms; give it more time, a smaller input or a larger pool
    "#]],
    );
    let two = ["--input", "image=examples/digits/digit_1.png", "--input", "image=examples/digits/digit_2.png"];
    check(
        &rten(&[&two[..], &["a.png", "b.png", "c.png"]].concat()),
        expect![[r#"
        exit code 2
        error: --input image= is given 2 times for 3 predictions; give it once or 3 times
    "#]],
    );

    let add = "crates/coreml-onnx/tests/ops/add/constant/model.mlpackage";
    check(
        &["run", add, "--engine", "rten"],
        expect![[r#"
        exit code 10
        error: the input "x" (float32 [2, 3, 2]) is missing; give --input x=ARRAY.npy, or --inputs FILE.npz with every input, or --random SEED
    "#]],
    );
    check(
        &["run", add, "--engine", "rten", "--input", "x=[1, 2]"],
        expect![[r#"
        exit code 10
        error: the input "x" takes a Float32 array of shape [2, 3, 2], not a Int64 array of shape [2]
    "#]],
    );
    check(
        &["run", add, "--engine", "rten", "examples/digits/digit_1.png"],
        expect![[r#"
        exit code 10
        error: examples/digits/digit_1.png: is a picture, but the model takes none; it takes "x" (float32 [2, 3, 2])
    "#]],
    );
}

#[test]
fn inspect() {
    check(
        &["inspect", DIGITS],
        expect![[r#"
            exit code 0
            examples/digits/digits.mlpackage
              ML Program, classifier with 10 labels, specification 7: needs iOS 16, macOS 13 or later
              description                           Recognises one handwritten digit in a 28x28 picture.
              version                               1.0
              author                                ANE Manager
              licence                               MIT OR Apache-2.0
              com.github.apple.coremltools.source   milinternal
              com.github.apple.coremltools.version  9.0

            Inputs
              image  grayscale image, 28x28  28x28 grayscale picture, a white digit on black.

            Outputs
              classLabel        string                            The most likely digit.
              classLabel_probs  dictionary from string to double  The probability of each digit.

            Function main (CoreML6): 15 operations and 33 constants
                3 relu          2 cast          2 conv          2 linear
                2 max_pool      1 classify      1 mul           1 reshape
                1 softmax

            Weights: 78.8 kB
              fp16  78.8 kB  7 tensors  39410 elements
        "#]],
    );
    let told = json(&["inspect", DIGITS, "--json", "--ops"]);
    assert_eq!(told["type"], "mlProgram");
    assert_eq!(told["interface"]["inputs"][0]["shape"], serde_json::json!([28, 28]));
    assert_eq!(told["functions"][0]["operations"]["conv"], 2);
    assert!(told["functions"][0]["ops"].as_array().unwrap().iter().any(|op| op["kind"] == "softmax"));
}

#[test]
fn pictures_are_shown_beside_their_classes() {
    check(
        &[
            "run",
            DIGITS,
            "--engine",
            "rten",
            "--show",
            "--top",
            "3",
            "examples/digits/digit_4.png",
            "examples/digits/digit_7.png",
        ],
        expect![[r#"
            exit code 0
            examples/digits/digit_4.png
                    ░▒▓▓▒░
                   ░▒▓██▓▒░      classLabel  4
                  ░▒▓███▒▒       4  ████████████████████████  99.9%
                ░░▓▓▓▓█▓▒░░      7                             0.1%
               ░▒▒▓██████▓▒▒░    1                             0.0%
                ░▒▒▓▓▓██▓▒░░     7 more in classLabel_probs
                    ░░▓▓░░
                    ░░▓▒░

            examples/digits/digit_7.png
                 ░▒▒▓▓███▓▒░
                 ░▒▒▒░░▒▓▓░░     classLabel  7
                     ░░▒▓▓░      7  ████████████████████████  99.8%
                    ░░▓▓▓▓▒░     3                             0.2%
                   ░▒▓▓▓▓▒▒░     2                             0.0%
                   ░▒▓▒░░        7 more in classLabel_probs
                  ░▒▓▓░
                 ░▓▓▒▒
        "#]],
    );
}

#[test]
fn every_digit_is_recognised() {
    let pictures: Vec<String> = (0..10).map(|digit| format!("image=examples/digits/digit_{digit}.png")).collect();
    let inputs = pictures.iter().flat_map(|picture| ["--input", picture.as_str()]);
    let told = json(&["run", DIGITS, "--engine", "rten", "--json"].into_iter().chain(inputs).collect::<Vec<_>>());
    let expected: Value =
        serde_json::from_slice(&fs::read(root().join("examples/digits/expected.json")).unwrap()).unwrap();
    for (digit, prediction) in told["predictions"].as_array().unwrap().iter().enumerate() {
        let [label, probabilities] = &prediction["outputs"].as_array().unwrap()[..] else { panic!("{prediction}") };
        assert_eq!(label["value"], digit.to_string());
        let expected = &expected[format!("digit_{digit}.png")]["classLabel_probs"];
        for entry in probabilities["top"].as_array().unwrap() {
            let expected = expected[entry["key"].as_str().unwrap()].as_f64().unwrap();
            assert!((entry["value"].as_f64().unwrap() - expected).abs() < 1e-3, "{entry} {expected}");
        }
    }
    assert_eq!(told["engine"]["name"], "rten");
}

#[test]
fn outputs_are_files_of_numpys() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("y.npz");
    let case = "crates/coreml-onnx/tests/ops/add/constant";
    let inputs = format!("{case}/inputs.npz");
    let arguments = ["run", &format!("{case}/model.mlpackage"), "--engine", "rten", &inputs, &inputs];
    run(&[&arguments[..], &["--outputs", outputs.to_str().unwrap()]].concat(), None);
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["y_0.npz", "y_1.npz"]);
    let given = npz(&folder.path().join("y_1.npz"));
    let expected = npz(&root().join(case).join("expected.npz"));
    assert_eq!(given, expected);
}

/// Names and numbers of the arrays of a file.
fn npz(path: &Path) -> Vec<(String, Vec<f32>)> {
    let mut archive = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    (0..archive.len())
        .map(|index| {
            let entry = archive.by_index(index).unwrap();
            let name = entry.name().unwrap().into_owned();
            (name, npyz::NpyFile::new(entry).unwrap().into_vec::<f32>().unwrap())
        })
        .collect()
}

#[test]
fn compiled_models_are_found_and_half_precision_shows() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join("compiled");
    let compiled = compiled.to_str().unwrap();
    let scores = |arguments: &[&str]| {
        let arguments = [&["run", DIGITS, "--random", "1", "--json"], arguments].concat();
        json(&arguments)["predictions"][0]["outputs"].clone()
    };
    let fresh = scores(&[]);
    assert_eq!(scores(&["--compiled", compiled]), fresh);
    assert_eq!(fs::read_dir(compiled).unwrap().count(), 1);
    assert_eq!(scores(&["--compiled", compiled]), fresh);
    assert_eq!(fs::read_dir(compiled).unwrap().count(), 1, "it was found");
    let half = scores(&["--precision", "fp16"]);
    assert_ne!(half, fresh, "its numbers are rounded");
    assert_ne!(half, Value::Null);
}

#[test]
fn latency() {
    let told = json(&["run", DIGITS, "--engine", "rten", "--random", "1", "--repeat", "5", "--threads", "1", "--json"]);
    let latency = &told["latency_ms"];
    assert_eq!(latency["runs"], 5);
    assert!(latency["min"].as_f64() <= latency["p50"].as_f64() && latency["p50"].as_f64() <= latency["p99"].as_f64());
}

#[test]
fn export() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.onnx");
    let onnx = path.to_str().unwrap();
    check_in(
        folder.path(),
        &["export", DIGITS, "-o", onnx],
        expect![[r#"
            exit code 0
            wrote [TMP]/digits.onnx: 15 operations -> 16 ONNX nodes, 157.1 kB of weights inside
        "#]],
    );
    let inside = fs::metadata(&path).unwrap().len();
    check_in(
        folder.path(),
        &["export", DIGITS, "-o", onnx, "--external-data", "--io", "float"],
        expect![[r#"
            exit code 0
            wrote [TMP]/digits.onnx: 15 operations -> 16 ONNX nodes, 157.1 kB of weights in [TMP]/digits.onnx.data
        "#]],
    );
    assert!(fs::metadata(&path).unwrap().len() < inside, "the file is replaced");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing but the model and its weights is left");
    check(
        &["export", DIGITS, "-o", "none/digits.onnx"],
        expect![[r#"
        exit code 1
        error: none/digits.onnx cannot be written: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn engines() {
    let told = json(&["engines", "--json"]);
    let engines = told.as_array().unwrap();
    assert_eq!(engines.last().unwrap()["name"], "rten");
    assert_eq!(engines.iter().filter(|engine| engine["status"] == "chosen").count(), 1);
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(&["completions", shell], None);
        assert!(script.starts_with("exit code 0") && script.contains("inspect"), "{script}");
    }
}

#[test]
fn colour_is_for_terminals() {
    let colored = |variables: &[(&str, &str)]| {
        let output = ane(&["inspect", DIGITS]).envs(variables.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(!colored(&[]));
    assert!(colored(&[("CLICOLOR_FORCE", "1")]));
    assert!(!colored(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn a_closed_pipe_is_no_error() {
    for arguments in
        [&["inspect", DIGITS, "--ops"][..], &["inspect", DIGITS, "--json"], &["completions", "bash"], &["--help"]]
    {
        let mut child = ane(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
    }
    // The same for what goes to stderr.
    let mut child = ane(&["run", "none.mlmodel"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it() {
    use std::io::{BufRead, BufReader};

    let mut child = ane(&["run", DIGITS, "--engine", "rten", "--random", "1", "--repeat", "1000000000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("engine: rten"), "{line}");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_model_is_tried_in_a_child() {
    let folder = tempfile::tempdir().unwrap();
    let probe = |arguments: &[&str]| {
        let mut command = ane(&[&["probe"], arguments].concat());
        let output = command.env("XDG_CACHE_HOME", folder.path()).env("HOME", folder.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        format!("exit code {}\n{said}", output.status.code().unwrap())
    };
    let rten = [DIGITS, "--engine", "rten"];
    expect![[r#"
        exit code 0
        examples/digits/digits.mlpackage: it runs
    "#]]
    .assert_eq(&probe(&rten));
    expect![[r#"
        exit code 0
        examples/digits/digits.mlpackage: it runs; this was known, and --again tries it again
    "#]]
    .assert_eq(&probe(&rten));
    expect![[r#"
        exit code 0
        {
          "model": "examples/digits/digits.mlpackage",
          "verdict": "runs",
          "tried_now": true
        }
    "#]]
    .assert_eq(&probe(&[&rten[..], &["--again", "--json"]].concat()));
    expect![[r#"
        exit code 3
        error: nothing.mlpackage: no such file
    "#]]
    .assert_eq(&probe(&["nothing.mlpackage"]));
    #[cfg(not(target_vendor = "apple"))]
    expect![[r#"
        exit code 9
        error: there is no Apple Neural Engine on this machine; choose the engine `auto`, `onnxruntime` or `rten`
    "#]]
    .assert_eq(&probe(&[DIGITS, "--engine", "ane"]));
}
