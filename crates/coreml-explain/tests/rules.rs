//! Each rule fires at its case, and not at one next to it.

mod text;

use std::{collections::BTreeSet, path::Path};

use coreml_explain::{Chip, Explanation, Finding, Target, Verdict, explain, rules};
use coreml_format::{
    Model, ModelKind,
    nn::{
        Activation, ArrayMapping, Elementwise, ImageMapping, Layer, LayerKind, NeuralNetwork, Operation, Sampling,
        ScatterMode, Upsample, Weight,
    },
};
use coreml_onnx::{LowerOptions, lower};

/// What a rule finds, without the name of its operation.
fn found(explanation: &Explanation<'_>, rule: &str) -> Vec<String> {
    let of = |finding: &&Finding| finding.rule == rule;
    explanation.findings.iter().filter(of).map(|finding| finding.message.clone()).collect()
}

/// The rule says `message` of the first model, and nothing of the second.
fn check(rule: &str, message: &str, case: &str, near: &str) {
    let of = |text: &str| found(&explain(&text::model(text), None, None, Target::default()), rule);
    assert!(of(case).iter().any(|found| found == message), "{rule} finds {:?} in {case}", of(case));
    assert!(of(near).is_empty(), "{rule} finds {:?} in {near}", of(near));
}

/// The rule, what it says, a model in which it says so, and a near miss.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "ANE001",
        "computes in fp32",
        "x: fp32[1,4]\ny = relu x=x -> fp32[1,4]",
        "x: fp16[1,4]\ny = relu x=x -> fp16[1,4]",
    ),
    (
        "ANE001",
        "computes in fp32",
        "x: fp32[1,4]\ny = relu x=x -> fp32[1,4]",
        "x: fp16[1,4]\ny = cast x=x -> fp32[1,4]",
    ),
    ("ANE002", "gives int32", "x: int32[4]\ny = add x=x y=1 -> int32[4]", "x: int32[4]\ny = cast x=x -> fp16[4]"),
    (
        "ANE002",
        "gives int32",
        "x: int32[9]\ni: int32[4]\ny = gather x=x indices=i axis=0 -> int32[4]",
        "x: fp16[9]\ni: int32[4]\ny = gather x=x indices=i axis=0 -> fp16[4]",
    ),
    (
        "ANE003",
        "has a tensor of 6 dimensions (5 at most)",
        "x: fp16[1,2,2,2,2,2]\ny = relu x=x -> fp16[1,2,2,2,2,2]",
        "x: fp16[1,2,2,2,2]\ny = relu x=x -> fp16[1,2,2,2,2]",
    ),
    (
        "ANE004",
        "has a dimension of 20000 (16384 at most)",
        "x: fp16[1,20000]\ny = relu x=x -> fp16[1,20000]",
        "x: fp16[1,16384]\ny = relu x=x -> fp16[1,16384]",
    ),
    (
        "ANE004",
        "has a dimension of 20000 (16384 at most)",
        "x: fp16[1,8|1,20000]\ny = relu x=x -> fp16[1,?]",
        "x: fp16[1,8|1,16384]\ny = relu x=x -> fp16[1,?]",
    ),
    (
        "ANE005",
        "gives (1, 512, 128, 1), whose last axis is padded from 1 to 32",
        "x: fp16[1,512,128,1]\ny = relu x=x -> fp16[1,512,128,1]",
        "x: fp16[1,512,1,128]\ny = relu x=x -> fp16[1,512,1,128]",
    ),
    (
        "ANE005",
        "gives (1, 64, 64, 1), whose last axis is padded from 1 to 32",
        "x: fp16[1,64,64,1]\ny = relu x=x -> fp16[1,64,64,1]",
        "x: fp16[1,2048,1,1]\ny = relu x=x -> fp16[1,2048,1,1]",
    ),
    (
        "ANE006",
        "gives (1, ?), whose size is open",
        "x: fp16[1,1..512]\ny = relu x=x -> fp16[1,?]",
        "x: fp16[1,128|1,512]\ny = relu x=x -> fp16[1,?]",
    ),
    (
        "ANE007",
        "the dimension 1 of the input \"x\" is a range (1 to 512)",
        "x: fp16[1,1..512]\ny = relu x=x -> fp16[1,?]",
        "x: fp16[1,128|1,512]\ny = relu x=x -> fp16[1,?]",
    ),
    (
        "ANE008",
        "2 inputs have several shapes",
        "x: fp16[1|2]\ny: fp16[1|2]\nz = add x=x y=y -> fp16[?]",
        "x: fp16[1|2]\ny: fp16[1]\nz = add x=x y=y -> fp16[?]",
    ),
    (
        "ANE009",
        "the input \"x\" has 2 shapes",
        "x: fp16[1|2]\ny = relu x=x -> fp16[?]",
        "x: fp16[1..2]\ny = relu x=x -> fp16[?]",
    ),
    (
        "ANE010",
        "has a state whose last dimension is 270, no multiple of 32",
        "s: fp16[1,8,270]\ny = read_state input=s -> fp16[1,8,270]",
        "s: fp16[1,8,288]\ny = read_state input=s -> fp16[1,8,288]",
    ),
    (
        "ANE011",
        "has a plane of 5568 x 5568",
        "x: fp16[1,3,5568,5568]\ny = relu x=x -> fp16[1,3,5568,5568]",
        "x: fp16[1,3,5567,5567]\ny = relu x=x -> fp16[1,3,5567,5567]",
    ),
    (
        "ANE012",
        "quantises activations, which chips before the A17 Pro and the M4 do not gain from",
        "x: fp16[4]\ny = quantize input=x scale=0.5 -> int8[4]",
        "x: fp16[4]\ny = mul x=x y=0.5 -> fp16[4]",
    ),
    ("ANE017", "it has 64 parameters", "x: fp16[8]\nw = fp16[8,8]\ny = linear x=x weight=w -> fp16[8]", ""),
    (
        "ANE013",
        "has a weight with scales of [8, 2] for [8, 64]",
        "x: fp16[64]\nw = constexpr_blockwise_shift_scale data=int4[8,64] scale=fp16[8,2] -> fp16[8,64]\n\
         y = linear x=x weight=w -> fp16[8]",
        "x: fp16[64]\nw = constexpr_blockwise_shift_scale data=int4[8,64] scale=fp16[8,1] -> fp16[8,64]\n\
         y = linear x=x weight=w -> fp16[8]",
    ),
    (
        "ANE014",
        "has a weight with a palette for each 2 of [8, 64]",
        "x: fp16[64]\nw = constexpr_lut_to_dense indices=uint4[8,64] lut=fp16[4,1,16,1] -> fp16[8,64]\n\
         y = linear x=x weight=w -> fp16[8]",
        "x: fp16[64]\nw = constexpr_lut_to_dense indices=uint4[8,64] lut=fp16[2,1,16,1] -> fp16[8,64]\n\
         y = linear x=x weight=w -> fp16[8]",
    ),
    (
        "ANE014",
        "has a weight with a palette for each 1 of [8, 64]",
        "x: fp16[64]\nw = constexpr_lut_to_dense indices=uint4[8,64] lut=fp16[8,1,16,1] -> fp16[8,64]\n\
         y = linear x=x weight=w -> fp16[8]",
        "x: fp16[64]\nw = constexpr_lut_to_dense indices=uint8[256] lut=fp16[16] shape=8,64 -> fp16[8,64]\n\
         y = linear x=x weight=w -> fp16[8]",
    ),
    (
        "ANE015",
        "its weights take 1.0 GB",
        "x: fp16[50001]\nw = fp16[10000,50001]\ny = linear x=x weight=w -> fp16[10000]",
        "x: fp16[50000]\nw = fp16[10000,50000]\ny = linear x=x weight=w -> fp16[10000]",
    ),
    (
        "ANE016",
        "its weights take 0.7 GB",
        "x: fp16[33350]\nw = fp16[10000,33350]\ny = linear x=x weight=w -> fp16[10000]",
        "x: fp16[33349]\nw = fp16[10000,33349]\ny = linear x=x weight=w -> fp16[10000]",
    ),
    (
        "ANE017",
        "it has 4997500 parameters",
        "x: fp16[4,2500]\nw = fp16[1999,2500]\ny = linear x=x weight=w -> fp16[4,1999]",
        "x: fp16[4,2500]\nw = fp16[2000,2500]\ny = linear x=x weight=w -> fp16[4,2000]",
    ),
    (
        "ANE018",
        "its weights take 100 MB",
        "x: fp16[5000]\nw = fp16[10000,5000]\ny = linear x=x weight=w -> fp16[10000]",
        "x: fp16[5000]\nw = fp16[9999,5000]\ny = linear x=x weight=w -> fp16[9999]",
    ),
    (
        "ANE019",
        "is recurrent",
        "x: fp16[5,1,3]\ny = lstm x=x -> fp16[5,1,4]",
        "x: fp16[1,3,5]\nw = fp16[4,3,3]\ny = conv x=x weight=w -> fp16[1,4,3]",
    ),
    (
        "ANE020",
        "is control flow",
        "x: fp16[4]\ny = make_list -> fp16[4]",
        "x: fp16[4]\ny = select cond=x a=x b=x -> fp16[4]",
    ),
    (
        "ANE020",
        "is control flow",
        "x: fp16[4]\ny = while_loop loop_vars=x -> fp16[4]",
        "x: fp16[4]\ny = mul x=x y=x -> fp16[4]\nz = mul x=y y=y -> fp16[4]",
    ),
    (
        "ANE021",
        "depends on values",
        "x: fp16[4]\ny = shape x=x -> int32[1]",
        "x: fp16[4]\ny = reshape x=x shape=2,2 -> fp16[2,2]",
    ),
    (
        "ANE021",
        "takes its shape at run time",
        "x: fp16[4]\ns: int32[2]\ny = reshape x=x shape=s -> fp16[?,?]",
        "x: fp16[4]\ny = reshape x=x shape=2,2 -> fp16[2,2]",
    ),
    ("ANE022", "draws random numbers", "y = random_normal shape=4, -> fp16[4]", "y: fp16[4]\nz = relu x=y -> fp16[4]"),
    (
        "ANE023",
        "has its code in the app",
        "x: fp16[4]\ny = custom_layer x=x -> fp16[4]",
        "x: fp16[4]\ny = relu x=x -> fp16[4]",
    ),
    (
        "ANE024",
        "scatters",
        "x: fp16[4]\ni: int32[1,1]\nu: fp16[1]\ny = scatter_nd data=x indices=i updates=u -> fp16[4]",
        "x: fp16[4]\nu: fp16[1]\ny = slice_update x=x update=u begin=0, end=1, -> fp16[4]",
    ),
    (
        "ANE025",
        "gathers by several axes into an open shape",
        "x: fp16[4,4]\ni: int32[1..9,2]\ny = gather_nd x=x indices=i -> fp16[?]",
        "x: fp16[4,4]\ni: int32[3,2]\ny = gather_nd x=x indices=i -> fp16[3]",
    ),
    (
        "ANE026",
        "looks up rows in a table of 100 x 8",
        "i: int32[1,5]\nw = fp16[100,8]\ny = gather x=w indices=i axis=0 -> fp16[1,5,8]",
        "w = fp16[100,8]\ny = gather x=w indices=1,2 axis=0 -> fp16[2,8]",
    ),
    (
        "ANE028",
        "has strides of 14 x 14",
        "x: fp16[1,3,224,224]\nw = fp16[8,3,14,14]\ny = conv x=x weight=w strides=14,14 -> fp16[1,8,16,16]",
        "x: fp16[1,3,224,224]\nw = fp16[8,3,16,16]\ny = conv x=x weight=w strides=16,16 -> fp16[1,8,14,14]",
    ),
    (
        "ANE028",
        "has strides of 2 x 5",
        "x: fp16[1,3,20,20]\nw = fp16[8,3,1,1]\ny = conv x=x weight=w strides=2,5 -> fp16[1,8,10,4]",
        "x: fp16[1,3,20,20]\nw = fp16[8,3,1,1]\ny = conv x=x weight=w strides=2,4 -> fp16[1,8,10,5]",
    ),
    (
        "ANE029",
        "has a palette and strides of 4 x 4",
        "x: fp16[1,3,8,8]\nw = constexpr_lut_to_dense indices=uint4[8,3,4,4] lut=fp16[1,1,1,1,16,1] -> fp16[8,3,4,4]\n\
         y = conv x=x weight=w strides=4,4 -> fp16[1,8,2,2]",
        "x: fp16[1,3,8,8]\nw = fp16[8,3,4,4]\ny = conv x=x weight=w strides=4,4 -> fp16[1,8,2,2]",
    ),
    (
        "ANE030",
        "has a kernel of 9 x 9",
        "x: fp16[1,3,16,16]\nw = fp16[8,3,9,9]\ny = conv x=x weight=w -> fp16[1,8,8,8]",
        "x: fp16[1,3,16,16]\nw = fp16[8,3,8,8]\ny = conv x=x weight=w -> fp16[1,8,9,9]",
    ),
    (
        "ANE031",
        "has a kernel of 17 x 1 (16 at most)",
        "x: fp16[1,3,32,32]\nw = fp16[8,3,17,1]\ny = conv x=x weight=w -> fp16[1,8,16,32]",
        "x: fp16[1,3,32,32]\nw = fp16[8,3,16,1]\ny = conv x=x weight=w -> fp16[1,8,17,32]",
    ),
    (
        "ANE031",
        "has a kernel of 14 x 14 (13 at most)",
        "x: fp16[1,3,14,14]\ny = avg_pool x=x kernel_sizes=14,14 -> fp16[1,3,1,1]",
        "x: fp16[1,3,13,13]\ny = avg_pool x=x kernel_sizes=13,13 -> fp16[1,3,1,1]",
    ),
    (
        "ANE032",
        "has dilations of 4 x 4",
        "x: fp16[1,3,16,16]\nw = fp16[8,3,3,3]\ny = conv x=x weight=w dilations=4,4 -> fp16[1,8,8,8]",
        "x: fp16[1,3,16,16]\nw = fp16[8,3,3,3]\ny = conv x=x weight=w dilations=3,2 -> fp16[1,8,10,12]",
    ),
    (
        "ANE033",
        "has strides of 3 x 3",
        "x: fp16[1,3,9,9]\ny = max_pool x=x kernel_sizes=3,3 strides=3,3 -> fp16[1,3,3,3]",
        "x: fp16[1,3,9,9]\ny = max_pool x=x kernel_sizes=3,3 strides=2,2 -> fp16[1,3,4,4]",
    ),
    (
        "ANE033",
        "has strides of 3 x 3",
        "x: fp16[1,3,9,9]\ny = max_pool x=x kernel_sizes=3,3 strides=3,3 -> fp16[1,3,3,3]",
        "x: fp16[1,3,7,7]\ny = avg_pool x=x kernel_sizes=7,7 strides=7,7 -> fp16[1,3,1,1]",
    ),
    (
        "ANE034",
        "makes planes 4 x 4 times as large",
        "x: fp16[1,3,8,8]\ny = upsample_bilinear x=x -> fp16[1,3,32,32]",
        "x: fp16[1,3,8,8]\ny = upsample_bilinear x=x -> fp16[1,3,16,16]",
    ),
    (
        "ANE035",
        "is a product with a matrix at each position",
        "x: fp16[1,128,8]\nw = fp16[8,8]\ny = linear x=x weight=w -> fp16[1,128,8]",
        "x: fp16[1,8]\nw = fp16[8,8]\ny = linear x=x weight=w -> fp16[1,8]",
    ),
    (
        "ANE036",
        "goes over the axis 3 of [1, 8, 512, 512]",
        "x: fp16[1,8,512,512]\ny = softmax x=x axis=-1 -> fp16[1,8,512,512]",
        "x: fp16[1,512,8,512]\ny = softmax x=x axis=1 -> fp16[1,512,8,512]",
    ),
    (
        "ANE036",
        "goes over the axis 3 of [1, 8, 512, 512]",
        "x: fp16[1,8,512,512]\ny = softmax x=x axis=3 -> fp16[1,8,512,512]",
        "x: fp16[1,8,128,128]\ny = softmax x=x axis=3 -> fp16[1,8,128,128]",
    ),
    (
        "ANE037",
        "multiplies the matrices of 12 heads at once",
        "x: fp16[1,12,8,4]\ny: fp16[1,12,4,8]\nz = matmul x=x y=y -> fp16[1,12,8,8]",
        "x: fp16[1,1,8,4]\ny: fp16[1,1,4,8]\nz = matmul x=x y=y -> fp16[1,1,8,8]",
    ),
    (
        "ANE038",
        "puts the axis 1 last",
        "x: fp16[20,30,40]\ny = transpose x=x perm=0,2,1 -> fp16[20,40,30]",
        "x: fp16[20,30,40]\ny = transpose x=x perm=1,0,2 -> fp16[30,20,40]",
    ),
    (
        "ANE038",
        "changes the last axis from 1200 to 40",
        "x: fp16[20,1200]\ny = reshape x=x shape=20,30,40 -> fp16[20,30,40]",
        "x: fp16[1,1280,1,1]\ny = reshape x=x shape=1,1280 -> fp16[1,1280]",
    ),
    (
        "ANE039",
        "is a part of a normalisation in pieces",
        "x: fp16[1,8]\nm = reduce_mean x=x axes=-1, -> fp16[1,1]\nd = sub x=x y=m -> fp16[1,8]\ns = square x=d -> fp16[1,8]",
        "x: fp16[1,8]\nm = reduce_mean x=x axes=-1, -> fp16[1,1]\nd = sub x=x y=m -> fp16[1,8]\ns = abs x=d -> fp16[1,8]",
    ),
    (
        "ANE040",
        "is a part of a group normalisation",
        "a: fp16[1,8,2,2]\nx = reshape x=a shape=1,4,2,2,2 -> fp16[1,4,2,2,2]\nm = reduce_mean x=x axes=2,3,4 -> fp16[1,4,1,1,1]\n\
         d = sub x=x y=m -> fp16[1,4,2,2,2]\ns = square x=d -> fp16[1,4,2,2,2]",
        "x: fp16[1,8]\nm = reduce_mean x=x axes=-1, -> fp16[1,1]\nd = sub x=x y=m -> fp16[1,8]\ns = square x=d -> fp16[1,8]",
    ),
    (
        "ANE041",
        "takes the mean of squares",
        "x: fp16[1,8]\ns = mul x=x y=x -> fp16[1,8]\nm = reduce_mean x=s axes=-1, -> fp16[1,1]\n\
         e = add x=m y=0.001 -> fp16[1,1]\nr = rsqrt x=e -> fp16[1,1]",
        "x: fp16[1,8]\nn = reduce_mean x=x axes=-1, -> fp16[1,1]\nd = sub x=x y=n -> fp16[1,8]\ns = mul x=d y=d -> fp16[1,8]\n\
         m = reduce_mean x=s axes=-1, -> fp16[1,1]\ne = add x=m y=0.001 -> fp16[1,1]\nr = rsqrt x=e -> fp16[1,1]",
    ),
    (
        "ANE042",
        "computes with -1e9, which is infinite in fp16",
        "x: fp16[1,8]\ny = add x=x y=-1e9 -> fp16[1,8]",
        "x: fp16[1,8]\ny = add x=x y=-1e4 -> fp16[1,8]",
    ),
    (
        "ANE042",
        "computes with -inf",
        "x: fp16[1,8]\ny = select cond=x a=x b=-inf -> fp16[1,8]",
        "x: fp16[1,8]\ny = clip x=x alpha=-inf beta=inf -> fp16[1,8]",
    ),
    ("ANE043", "is softplus", "x: fp16[4]\ny = softplus x=x -> fp16[4]", "x: fp16[4]\ny = softsign x=x -> fp16[4]"),
    (
        "ANE044",
        "is a log-sum-exp",
        "x: fp16[4]\ny = reduce_log_sum_exp x=x axes=0, -> fp16[1]",
        "x: fp16[4]\ny = reduce_log_sum x=x axes=0, -> fp16[1]",
    ),
    (
        "ANE045",
        "is the softplus of Mish",
        "x: fp16[4]\ns = softplus x=x -> fp16[4]\ny = tanh x=s -> fp16[4]",
        "x: fp16[4]\ns = softplus x=x -> fp16[4]\ny = tanh x=x -> fp16[4]",
    ),
    (
        "ANE046",
        "squares",
        "x: fp16[4]\ny = reduce_sum_square x=x axes=0, -> fp16[1]",
        "x: fp16[4]\ny = reduce_l1_norm x=x axes=0, -> fp16[1]",
    ),
    ("ANE046", "squares", "x: fp16[4]\ny = mul x=x y=x -> fp16[4]", "x: fp32[4]\ny = mul x=x y=x -> fp32[4]"),
    (
        "ANE047",
        "has an epsilon of 1e-12, which is 0 in fp16",
        "x: fp16[1,8]\ny = layer_norm x=x axes=1, epsilon=1e-12 -> fp16[1,8]",
        "x: fp16[1,8]\ny = layer_norm x=x axes=1, epsilon=1e-4 -> fp16[1,8]",
    ),
    (
        "ANE047",
        "has an epsilon of 1e-5, which has fewer digits in fp16, or is taken for 0",
        "x: fp16[1,8]\ny = add x=x y=1e-5 -> fp16[1,8]\nz = rsqrt x=y -> fp16[1,8]",
        "x: fp16[1,8]\ny = add x=x y=1e-5 -> fp16[1,8]\nz = relu x=y -> fp16[1,8]",
    ),
    (
        "ANE048",
        "multiplies by 1e-5",
        "x: fp16[4]\ny = mul x=x y=1e-5 -> fp16[4]",
        "x: fp16[4]\ny = mul x=x y=0.01 -> fp16[4]",
    ),
];

#[test]
fn rules_fire_where_they_should() {
    for (rule, message, case, near) in CASES {
        check(rule, message, case, near);
    }
}

/// As [`check`], for rules that look at what a run takes.
fn check_lowered(rule: &str, message: &str, case: &str, near: &str) {
    let of = |text: &str| {
        let model = text::model(text);
        let lowered = lower(&model, &LowerOptions::default()).unwrap();
        found(&explain(&model, None, Some(&lowered), Target::default()), rule)
    };
    assert_eq!(of(case), [message], "{case}");
    assert!(of(near).is_empty(), "{rule} finds {:?} in {near}", of(near));
}

const CASES_OF_RUNS: &[(&str, &str, &str, &str)] = &[
    (
        "ANE052",
        "its work takes about 0.000 ms",
        "x: fp16[8]\ny = relu x=x -> fp16[8]",
        "x: fp16[2048,2048]\ny: fp16[2048,2048]\nz = matmul x=x y=y transpose_x=bool[] transpose_y=bool[] -> fp16[2048,2048]",
    ),
    (
        "ANE053",
        "matmul \"z\" moves 101 MB of activations",
        "x: fp16[4096,4096]\ny: fp16[4096,4096]\nz = matmul x=x y=y transpose_x=bool[] transpose_y=bool[] -> fp16[4096,4096]",
        "x: fp16[2048,2048]\ny: fp16[2048,2048]\nz = matmul x=x y=y transpose_x=bool[] transpose_y=bool[] -> fp16[2048,2048]",
    ),
    (
        "ANE054",
        "arithmetic takes 100 % of its time",
        "x: fp16[4096,64]\nw = constexpr_lut_to_dense indices=uint4[64,64] lut=fp16[1,1,16,1] -> fp16[64,64]\n\
         y = linear x=x weight=w -> fp16[4096,64]",
        "x: fp16[1,64]\nw = constexpr_lut_to_dense indices=uint4[64,64] lut=fp16[1,1,16,1] -> fp16[64,64]\n\
         y = linear x=x weight=w -> fp16[1,64]",
    ),
];

#[test]
fn rules_about_runs_fire_where_they_should() {
    for (rule, message, case, near) in CASES_OF_RUNS {
        check_lowered(rule, message, case, near);
    }
}

/// A chain of operations, `r` for one that runs on the Neural Engine and `s` for one that does not.
fn chain(kinds: &str) -> String {
    let mut text = "x: fp16[4]\ni: int32[1,1]\nu: fp16[1]".to_owned();
    let mut last = "x".to_owned();
    for (place, kind) in kinds.chars().enumerate() {
        let call = match kind {
            'r' => format!("relu x={last}"),
            _ => format!("scatter_nd data={last} indices=i updates=u"),
        };
        last = format!("y{place}");
        text += &format!("\n{last} = {call} -> fp16[4]");
    }
    text
}

#[test]
fn rules_about_placement_fire_where_they_should() {
    check("ANE050", "execution would enter the Neural Engine 4 times", &chain("rsrsrsr"), &chain("rrsrrsrr"));
    check("ANE051", "1 of 3 operations run elsewhere", &chain("rsr"), &chain("rrr"));
    let segments = |text: &str| explain(&text::model(text), None, None, Target::default()).segments.len();
    assert_eq!([segments(&chain("rrr")), segments(&chain("rsr")), segments(&chain("sss"))], [1, 3, 1]);
    // Two chains side by side are run so that the unit changes once: all of the one kind, then all of the other.
    let text = "x: fp16[4]\ni: int32[1,1]\nu: fp16[1]\na = relu x=x -> fp16[4]\nb = scatter_nd data=a indices=i updates=u -> \
                fp16[4]\nc = relu x=x -> fp16[4]\nd = scatter_nd data=c indices=i updates=u -> fp16[4]";
    assert_eq!(segments(text), 2);
}

fn network(kinds: Vec<LayerKind>) -> Model {
    let layers = kinds.into_iter().enumerate().map(|(place, kind)| Layer {
        name: format!("l{place}"),
        inputs: vec![format!("b{place}"), format!("b{place}")],
        outputs: vec![format!("b{}", place + 1)],
        kind,
    });
    let network = NeuralNetwork {
        layers: layers.collect(),
        preprocessing: Default::default(),
        array_mapping: ArrayMapping::Exact,
        image_mapping: ImageMapping::Rank4,
        classifier: None,
        regressor: false,
    };
    let mut model = text::model("b0: fp16[1,4,8,8]");
    model.kind = ModelKind::NeuralNetwork(network);
    model
}

/// The rule says so of a network of the first layers, and nothing of one of the second.
fn check_network(rule: &str, message: &str, case: Vec<LayerKind>, near: Vec<LayerKind>) {
    let (case, near) = (network(case), network(near));
    assert_eq!(found(&explain(&case, None, None, Target::default()), rule), [message]);
    assert!(found(&explain(&near, None, None, Target::default()), rule).is_empty(), "{rule}");
}

#[test]
fn layers_have_rules_too() {
    let operation = |operation| LayerKind::Operation { operation, alpha: 0.0 };
    let add = |alpha| LayerKind::Add { alpha };
    let upsample = |factor| LayerKind::Upsample(Upsample { factors: [factor, 2.0], sampling: Sampling::Nearest });
    let custom = || LayerKind::Custom { class_name: "C".to_owned(), weights: Vec::new() };
    let tanh = || LayerKind::Activation(Activation::Tanh);
    let softplus = || LayerKind::Activation(Activation::Softplus);
    let mvn = |epsilon| LayerKind::Mvn { across_channels: true, normalize_variance: true, epsilon };
    let embedding = LayerKind::EmbeddingNd {
        vocabulary: 30,
        size: 4,
        weights: Weight::Table { packed: Vec::new().into(), bits: 4, table: Vec::new() },
        bias: None,
    };
    check_network("ANE019", "is recurrent", vec![gru()], vec![custom()]);
    check_network("ANE020", "is control flow", vec![LayerKind::LoopBreak], vec![LayerKind::Copy]);
    check_network("ANE021", "depends on values", vec![LayerKind::GetShape], vec![LayerKind::Copy]);
    let categories =
        LayerKind::CategoricalDistribution { seed: 0, num_samples: 1, is_logits: true, epsilon: 0.0, temperature: 1.0 };
    check_network("ANE022", "draws random numbers", vec![categories], vec![LayerKind::Copy]);
    check_network("ANE023", "has its code in the app", vec![custom()], vec![LayerKind::Copy]);
    check_network(
        "ANE024",
        "scatters",
        vec![LayerKind::ScatterNd { mode: ScatterMode::Add }],
        vec![LayerKind::GatherNd],
    );
    check_network("ANE026", "looks up rows in a table of 30 x 4", vec![embedding], vec![LayerKind::Gather { axis: 0 }]);
    check_network("ANE027", "is a layer of Core ML 3", vec![operation(Operation::Add)], vec![add(0.0)]);
    check_network("ANE034", "makes planes 4 x 2 times as large", vec![upsample(4.0)], vec![upsample(2.0)]);
    check_network("ANE042", "computes with -1e9, which is infinite in fp16", vec![add(-1e9)], vec![add(-1e4)]);
    check_network("ANE043", "is softplus", vec![softplus()], vec![tanh()]);
    check_network("ANE045", "is the softplus of Mish", vec![softplus(), tanh()], vec![softplus(), softplus()]);
    let erf = vec![softplus(), LayerKind::Elementwise(Elementwise::Erf)];
    check_network(
        "ANE045",
        "is the softplus of Mish",
        vec![softplus(), LayerKind::Elementwise(Elementwise::Tanh)],
        erf,
    );
    let message = "has an epsilon of 1e-5, which has fewer digits in fp16, or is taken for 0";
    check_network("ANE047", message, vec![mvn(1e-5)], vec![mvn(1e-4)]);
}

fn gru() -> LayerKind {
    LayerKind::Gru(coreml_format::nn::Recurrent {
        input_size: 1,
        output_size: 1,
        activations: Vec::new(),
        sequence_output: false,
        reverse_input: false,
        forget_bias: false,
        coupled: false,
        cell_clip: 0.0,
        directions: Vec::new(),
    })
}

#[test]
fn models_of_other_kinds() {
    let mut tree = text::model("x: fp16[1]");
    tree.kind = ModelKind::Other("treeEnsembleClassifier");
    let message = "it is of type treeEnsembleClassifier, which Core ML runs on the CPU";
    assert_eq!(found(&explain(&tree, None, None, Target::default()), "ANE049"), [message]);
    tree.kind = ModelKind::Other("visionFeaturePrint");
    assert!(explain(&tree, None, None, Target::default()).findings.is_empty());

    let mut several = text::model("x: fp16[1]\ny = relu x=x -> fp16[1]");
    for name in ["a", "b", "c"] {
        several.schema.functions.insert(name.to_owned(), several.schema.interface.clone());
    }
    assert!(found(&explain(&several, None, None, Target::default()), "ANE055").is_empty());
    several.schema.functions.insert("main".to_owned(), several.schema.interface.clone());
    assert_eq!(found(&explain(&several, None, None, Target::default()), "ANE055"), ["it has 4 functions"]);
}

#[test]
fn the_target_counts() {
    let of =
        |text: &str, target: Target, rule: &str| found(&explain(&text::model(text), None, None, target), rule).len();
    let quantised = "x: fp16[4]\ny = quantize input=x scale=0.5 -> int8[4]";
    for (chip, expected) in [("M1", 1), ("A16", 1), ("M4", 0), ("A17 Pro", 0)] {
        let target = Target { chip: Chip::named(chip), ..Target::default() };
        assert_eq!(of(quantised, target, "ANE012"), expected, "{chip}");
    }
    let pairs = "x: fp16[1|2]\ny: fp16[1|2]\nz = add x=x y=y -> fp16[?]";
    for (ios, expected) in [(None, 1), (Some(17), 1), (Some(18), 0)] {
        assert_eq!(of(pairs, Target { ios, ..Target::default() }, "ANE008"), expected, "{ios:?}");
    }
    let unequal = "x: fp16[1|2]\ny: fp16[1|2|3]\nz = add x=x y=y -> fp16[?]";
    assert_eq!(of(unequal, Target { ios: Some(18), ..Target::default() }, "ANE008"), 1);
}

#[test]
fn blocks_go_with_their_operation() {
    let open = |case: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coreml-onnx/tests/ops").join(case);
        Model::open(folder.join("model.mlpackage")).unwrap()
    };
    let model = open("while_loop/nested");
    let explanation = explain(&model, None, None, Target::default());
    // A loop, and one in its body.
    assert_eq!(found(&explanation, "ANE020"), ["is control flow", "is control flow"]);
    let inside = explanation.graph.ops.iter().zip(&explanation.verdicts).filter(|(op, _)| op.inside.is_some());
    assert!(inside.clone().count() > 3 && inside.clone().all(|(_, verdict)| *verdict == Verdict::Unlikely));
    let model = open("lstm/sequence");
    assert_eq!(found(&explain(&model, None, None, Target::default()), "ANE019"), ["is recurrent"]);
}

#[test]
fn every_rule_has_a_case() {
    let elsewhere = ["ANE027", "ANE049", "ANE050", "ANE051", "ANE055"];
    let tables = CASES.iter().chain(CASES_OF_RUNS).map(|case| case.0);
    let tried: BTreeSet<&str> = tables.chain(elsewhere).collect();
    let all: BTreeSet<&str> = rules().map(|rule| rule.id).collect();
    assert_eq!(tried, all);
}
