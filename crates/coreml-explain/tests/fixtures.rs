//! Every operation and layer there is a fixture of is explained, and what is said of it hangs together.

use std::path::{Path, PathBuf};

use coreml_explain::{Target, Unit, Verdict, explain, rule};
use coreml_format::Model;
use coreml_onnx::{LowerOptions, lower};

/// The models in the folders below these, and in the folders of broken models where they are.
fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests");
    let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let broken = shared.join("models/broken");
    let mut found = Vec::new();
    for kind in ["ops", "layers"].map(|folder| root.join(folder)) {
        for cases in kind.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            found.extend(cases.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.extend(broken.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()));
    let files = |folder: PathBuf| ["model.mlpackage", "model.mlmodel"].map(|file| folder.join(file));
    found.into_iter().flat_map(files).filter(|file| file.exists()).collect()
}

#[test]
fn every_fixture_is_explained() {
    let (mut seen, mut off) = (0, 0);
    for path in models() {
        // What is damaged is refused here, or by lowering, or is sound as far as this looks.
        let Ok(model) = Model::open(&path) else { continue };
        let lowered = lower(&model, &LowerOptions::default()).ok();
        let explanation = explain(&model, None, lowered.as_ref(), Target::default());
        let path = path.display();
        let ops = &explanation.graph.ops;
        assert_eq!(explanation.verdicts.len(), ops.len(), "{path}");
        for finding in &explanation.findings {
            assert!(
                rule(finding.rule).is_some() && finding.op.is_none_or(|place| place < ops.len()),
                "{path}: {finding:?}"
            );
            assert!(!finding.message.is_empty() && !finding.message.contains("NaN"), "{path}: {finding:?}");
        }
        // Each operation outside of blocks is in one segment, on the unit of its verdict, after what it reads.
        let mut order = vec![None; ops.len()];
        for (number, place) in explanation.segments.iter().flat_map(|segment| &segment.ops).enumerate() {
            assert_eq!(order[*place].replace(number), None, "{path}: {place} twice");
        }
        for (place, op) in ops.iter().enumerate() {
            assert_eq!(order[place].is_some(), op.inside.is_none(), "{path}: {}", op.name);
            let makers = explanation.graph.operands(op).filter_map(|value| value.maker);
            for maker in makers.filter(|&maker| op.inside.is_none() && ops[maker].inside.is_none()) {
                assert!(order[maker] < order[place], "{path}: {} before {}", op.name, ops[maker].name);
            }
        }
        for segment in &explanation.segments {
            let elsewhere = segment.unit == Unit::Other;
            let fits = |place: &usize| (explanation.verdicts[*place] == Verdict::Unlikely) == elsewhere;
            assert!(segment.ops.iter().all(fits), "{path}");
        }
        if let Some(estimate) = &explanation.estimate {
            assert!(estimate.seconds.is_finite() && estimate.seconds > 0.0, "{path}");
        }
        seen += 1;
        off += usize::from(explanation.verdicts.contains(&Verdict::Unlikely));
    }
    println!("{seen} models, {off} with operations off the Neural Engine");
    assert!(seen > 1600, "{seen}");
}
