//! Memory plans of whole models: every fixture is inferred, and the open models' worst moments stay as they are.
//!
//! `tools/check_plan.py` compares both with what ONNX Runtime computes and takes.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use coreml_format::Model;
use coreml_onnx::{Certainty, LowerOptions, MemoryPlan, OnnxModel, PlannedTensor, Role, lower};
use expect_test::expect;

#[test]
fn every_fixture_is_inferred() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (mut unknown, mut bounds, mut planned) = (String::new(), 0, 0);
    for case in ["ops", "layers"].iter().flat_map(|family| folders(&tests.join(family))).flat_map(|op| folders(&op)) {
        // Operations that are not lowered yet have fixtures, too.
        let Some(model) = lowered(&case, None) else { continue };
        let plan = sound(&model, &sizes(&model), &case);
        planned += 1;
        // No shape does harm, whatever the model declares.
        for odd in [0, 2, 1 << 33, usize::MAX] {
            let all =
                |extra: usize| model.inputs().iter().map(|port| vec![odd; port.dims.len() + extra]).collect::<Vec<_>>();
            sound(&model, &all(0), &case);
            model.memory_plan(&all(1));
        }
        bounds += model.inferred_values(&sizes(&model)).iter().filter(|v| v.certainty == Certainty::AtMost).count();
        if plan.unknown > 0 {
            writeln!(unknown, "{}: {}", case.strip_prefix(&tests).unwrap().display(), plan.unknown).unwrap();
        }
    }
    assert!(planned > 700, "only {planned} fixtures were planned");
    assert!(bounds > 20, "only {bounds} values are bounds");
    // Each of these takes a shape, or how often to repeat, as an input.
    expect![[r#"
        ops/fill/defaults: 1
        ops/fill/int32: 1
        ops/fill/value: 1
        ops/pad/dynamic: 1
        ops/range_1d/constant_start: 2
        ops/range_1d/falling: 2
        ops/range_1d/fp32: 1
        ops/range_1d/int32: 2
        ops/reshape/dynamic: 1
        ops/resize/dynamic: 39
        ops/resize/dynamic_inherited: 37
        ops/resize/dynamic_nearest: 22
        ops/resize/dynamic_nearest_halved: 11
        ops/resize/dynamic_one_align_corners: 39
        ops/resize/dynamic_one_default: 37
        ops/resize/dynamic_one_offset_corners: 39
        ops/resize/dynamic_one_strict_align_corners: 37
        ops/resize/dynamic_one_unalign_corners: 41
        ops/resize/dynamic_up_align_corners: 39
        ops/resize/dynamic_up_default: 37
        ops/resize/dynamic_up_offset_corners: 39
        ops/resize/dynamic_up_strict_align_corners: 37
        ops/resize/dynamic_up_unalign_corners: 41
        ops/tile/dynamic: 1
        ops/while_loop/growing_list: 8
        layers/NonMaximumSuppression/number_given: 14
        layers/broadcastToDynamic/given: 1
        layers/constantPad/given: 1
        layers/constantPad/up_to_given: 1
        layers/fillDynamic/given: 1
        layers/oneHot/size_from_input: 3
        layers/randomUniformDynamic/shape_from_a_run: 17
        layers/rangeDynamic/all: 1
        layers/rangeDynamic/end: 1
        layers/rangeDynamic/end_and_start: 1
        layers/reshapeDynamic/given: 1
        layers/tile/given: 1
        layers/tile/given_for_last_axis: 1
        layers/uniDirectionalLSTM/states_of_more_samples: 9
    "#]]
    .assert_eq(&unknown);
}

#[test]
fn open_models_keep_their_worst_moment() {
    let Some(models) = shared("models/open") else {
        println!("skipped: the open models are not here");
        return;
    };
    let mut lines = String::new();
    for folder in folders(&models) {
        let model = lowered(&folder, None).expect("open models are lowered");
        let plan = sound(&model, &sizes(&model), &folder);
        let name = folder.file_name().unwrap().to_string_lossy();
        writeln!(lines, "{name}: {} at {}, {} unknown", plan.peak_bytes, plan.at, plan.unknown).unwrap();
    }
    expect![[r#"
        basic_pitch: 4177536 at StatefulPartitionedCall_model_1_concat_concat, 0 unknown
        bert_6x384: 4522496 at input_13_cast_fp16, 0 unknown
        bilstm_fp16: 231040 at input_batch_first/LSTM, 0 unknown
        bilstm_fp32: 231040 at input_batch_first/LSTM, 0 unknown
        efficientnet_b0_fp16: 9633792 at input_31_cast_fp16, 0 unknown
        efficientnet_b0_nn: 9633792 at input.31, 0 unknown
        gru_fp16: 67162 at scatter_1_cast_fp16, 0 unknown
        gru_fp32: 66774 at while_loop_0, 0 unknown
        lstm_explicit_state_fp16io: 10240 at input/LSTM, 0 unknown
        lstm_fp16: 105920 at input_batch_first/LSTM, 0 unknown
        lstm_fp32: 105920 at input_batch_first/LSTM, 0 unknown
        mobilenet_v2_fp16: 6021120 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_classifier: 3010560 at input_27_cast_fp16, 0 unknown
        mobilenet_v2_w035_enumshapes: 10240 at x_cast_fp16, 0 unknown
        mobilenet_v2_w035_flexbatch: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_image: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_int8_asymmetric: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_int8_channel_ios18: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_pal4_grouped_ios18: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_pal6_uniform: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_sparse50_int8_ios18: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w035_sparse50_pal4_ios18: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w050_fp32: 3010560 at input_25, 0 unknown
        mobilenet_v2_w050_int4_block: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w050_int8_symmetric: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w050_pal4_kmeans: 3010560 at input_25_cast_fp16, 0 unknown
        mobilenet_v2_w050_sparse50: 3010560 at input_25_cast_fp16, 0 unknown
        multifunction: 196608 at input_5_cast_fp16, 0 unknown
        stateful_accumulator: 80 at op_25_cast_fp16, 0 unknown
        stateful_kv_attention: 20736 at kn_cast_fp16, 0 unknown
        tiny_cnn_fp16io: 196608 at input_5_cast_fp16, 0 unknown
    "#]]
    .assert_eq(&lines);
}

#[test]
fn a_broken_model_is_planned_where_it_is_lowered() {
    let Some(models) = shared("models/broken") else {
        println!("skipped: the broken models are not here");
        return;
    };
    let mut planned = 0;
    for folder in folders(&models) {
        if let Some(model) = lowered(&folder, None) {
            sound(&model, &sizes(&model), &folder);
            planned += 1;
        }
    }
    assert!(planned > 5, "only {planned} broken models were lowered");
}

/// A plan whose parts fit together.
fn sound(model: &OnnxModel, inputs: &[Vec<usize>], path: &Path) -> MemoryPlan {
    let plan = model.memory_plan(inputs);
    let sum = plan.tensors.iter().fold(0usize, |sum, tensor| sum.saturating_add(tensor.bytes));
    assert_eq!(sum, plan.peak_bytes, "{}: the tensors make the peak", path.display());
    assert!(plan.peak_bytes >= plan.output_bytes, "{}: outputs are all there at the end", path.display());
    assert!(plan.tensors.is_sorted_by(|x, y| x.bytes >= y.bytes), "{}: the largest is first", path.display());
    let sizes_fit =
        |t: &PlannedTensor| t.role == Role::Workspace || t.bytes >= t.shape.iter().fold(1, |n, &d| d.saturating_mul(n));
    let odd = plan.tensors.iter().find(|t| !sizes_fit(t));
    assert!(odd.is_none(), "{}: each element has a byte, not so {odd:?}", path.display());
    plan
}

/// The sizes of the inputs, where open as 1.
fn sizes(model: &OnnxModel) -> Vec<Vec<usize>> {
    model.inputs().iter().map(|port| port.dims.iter().map(|d| d.unwrap_or(1)).collect()).collect()
}

/// `None` where the model cannot be read or lowered.
fn lowered(folder: &Path, function: Option<String>) -> Option<OnnxModel> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_model = |path: &&PathBuf| path.extension().is_some_and(|e| e == "mlpackage" || e == "mlmodel");
    let model = Model::open(files.iter().find(is_model)?).ok()?;
    Some(lower(&model, &LowerOptions { function, ..LowerOptions::default() }).ok()?.model)
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The folder `shared`, which is not part of this repository; `None` where it is absent.
fn shared(folder: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    Some(shared.join(folder)).filter(|folder| folder.is_dir())
}
