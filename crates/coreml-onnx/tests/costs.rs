//! What operations compute and move: by hand on fixtures, and on open models as another counter has it.

use std::path::Path;

use coreml_format::Model;
use coreml_onnx::{Certainty, LowerOptions, OpCost, lower};

/// The costs of a model. Its inputs have their default shapes.
fn costs(file: &Path) -> Vec<OpCost> {
    let model = Model::open(file).unwrap();
    lower(&model, &LowerOptions::default()).unwrap().model.costs(&[])
}

/// A fixture's operations: floating-point operations, and elements that are read, of weights, and written.
fn check(case: &str, expected: &[(u64, usize, usize, usize)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(case);
    let file = ["model.mlpackage", "model.mlmodel"].map(|name| folder.join(name)).into_iter().find(|f| f.exists());
    let costs = costs(&file.expect("a model"));
    let found: Vec<_> = costs.iter().map(|cost| (cost.flops, cost.read, cost.weights, cost.written)).collect();
    assert_eq!(found, expected, "{case}: {costs:?}");
    assert!(costs.iter().all(|cost| cost.certainty == Certainty::Exact), "{case}: {costs:?}");
}

#[test]
fn fixtures_cost_what_their_formulas_say() {
    // (3, 4) by (5, 4) transposed, and a bias of 5.
    check("ops/linear/rank2", &[(3 * 5 * 4 * 2 + 3 * 5, 3 * 4, 5 * 4 + 5, 3 * 5)]);
    check("ops/conv/defaults", &[(64 * 18 * 2, 90, 72, 64)]);
    check("ops/conv/groups", &[(108 * (18 * 2 + 1), 200, 108 + 6, 108)]);
    check("ops/lstm/sequence", &[(2 * 5 * 2 * 4 * 4 * (3 + 4 + 1), 30 + 2 * 8, 4 * 4 * (3 + 4 + 2), 40 + 2 * 8)]);
    check("ops/max_pool/strides", &[(36 * 6, 252, 0, 36)]);
    check("ops/reduce_sum/one_axis", &[(24, 24, 1, 8)]);
    check("ops/softmax/axis_1", &[(30 * 5, 30, 0, 30)]);
    check("layers/innerProduct/float16", &[(3 * 5 * (4 * 2 + 1), 12, 4 * 5 + 5, 15)]);
    check("ops/matmul/batch", &[(2 * 3 * 4 * 2 * 5 * 2, 2 * 3 * 4 * 5 + 2 * 3 * 5 * 2, 0, 2 * 3 * 4 * 2)]);
}

#[test]
fn blocks_belong_to_their_operation() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ops");
    let last = |case: &str| costs(&ops.join(case).join("model.mlpackage")).pop().unwrap();
    let cond = last("cond/nested");
    assert_eq!((cond.op.as_str(), cond.flops, cond.certainty), ("cond_0", 3, Certainty::AtMost));
    // Nobody knows how often it runs.
    let scan = last("while_loop/scan");
    assert_eq!((scan.op.as_str(), scan.certainty), ("while_loop_0", Certainty::Unknown));
}

/// Products that are summed, as onnx-tool 1.0.1 counts them in the nodes Conv, Gemm and MatMul of `reference.onnx`. It
/// counts the biases of these nodes as products; that of a MatMul is another node.
#[test]
fn open_models_cost_what_another_counter_says() {
    let open = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/open");
    if !open.exists() {
        println!("skipped: there are no models in models/open");
        return;
    }
    for (name, expected, with_bias) in [
        ("mobilenet_v2_fp16", 307_453_384u64, true),
        ("efficientnet_b0_fp16", 392_562_788, true),
        ("bert_6x384", 1_434_451_968, false),
        ("basic_pitch", 525_642_423, true),
    ] {
        let costs = costs(&open.join(name).join("model.mlpackage"));
        // Nothing else takes as many operations for each result. Here all of them have a bias, but for attention's.
        let products = costs.iter().filter(|cost| cost.flops > 16 * cost.written as u64);
        let biased = |cost: &OpCost| if cost.weights > 0 { cost.written as u64 } else { 0 };
        let count = |cost: &OpCost| (cost.flops - biased(cost)) / 2 + if with_bias { biased(cost) } else { 0 };
        let ratio = products.map(count).sum::<u64>() as f64 / expected as f64;
        println!("{name}: {ratio:.6} of onnx-tool's count");
        assert!((0.99..1.01).contains(&ratio), "{name}: {ratio}");
    }
}
