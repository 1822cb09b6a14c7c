//! Counts and estimates beside what others have published for the same networks.

mod text;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use coreml_explain::{Chip, Estimate, Target, explain};
use coreml_format::Model;
use coreml_onnx::{LowerOptions, lower};

fn estimate(model: &Model, chip: &str) -> Estimate {
    let lowered = lower(model, &LowerOptions::default()).unwrap();
    let target = Target { chip: Chip::named(chip), ..Target::default() };
    explain(model, None, Some(&lowered), target).estimate.unwrap()
}

/// The lines of a network, and the channels and size of its last planes.
struct Net {
    text: String,
    last: String,
    channels: usize,
    size: usize,
    count: usize,
}

impl Net {
    fn op(&mut self, call: &str, ty: &str) -> String {
        self.count += 1;
        let name = format!("v{}", self.count);
        write!(self.text, "\n{name} = {call} -> {ty}").unwrap();
        self.last.clone_from(&name);
        name
    }

    fn weight(&mut self, shape: &str) -> String {
        self.count += 1;
        write!(self.text, "\nw{} = fp16[{shape}]", self.count).unwrap();
        format!("w{}", self.count)
    }

    fn planes(&self) -> String {
        format!("fp16[1,{},{1},{1}]", self.channels, self.size)
    }

    /// A convolution with padding that keeps the size but for its stride.
    fn conv(&mut self, channels: usize, kernel: usize, stride: usize) -> String {
        let (x, pad) = (self.last.clone(), kernel / 2);
        let (w, b) = (
            self.weight(&format!("{channels},{},{kernel},{kernel}", self.channels)),
            self.weight(&format!("{channels}")),
        );
        (self.channels, self.size) = (channels, self.size / stride);
        let call = format!(
            "conv x={x} weight={w} bias={b} strides={stride},{stride} pad_type='custom' pad={pad},{pad},{pad},{pad} dilations=1,1 \
             groups=1"
        );
        self.op(&call, &self.planes())
    }

    fn unary(&mut self, kind: &str) -> String {
        let call = format!("{kind} x={}", self.last);
        self.op(&call, &self.planes())
    }

    fn linear(&mut self, x: &str, rows: usize, from: usize, to: usize) -> String {
        let (w, b) = (self.weight(&format!("{to},{from}")), self.weight(&format!("{to}")));
        self.op(&format!("linear x={x} weight={w} bias={b}"), &format!("fp16[1,{rows},{to}]"))
    }
}

/// ResNet50 v1.5, as torchvision has it, with its normalisations in the convolutions.
fn resnet50() -> Model {
    let mut net =
        Net { text: "x: fp16[1,3,224,224]".to_owned(), last: "x".to_owned(), channels: 3, size: 224, count: 0 };
    net.conv(64, 7, 2);
    net.unary("relu");
    net.size = 56;
    let pool =
        format!("max_pool x={} kernel_sizes=3,3 strides=2,2 pad_type='custom' pad=1,1,1,1 ceil_mode=bool[]", net.last);
    net.op(&pool, "fp16[1,64,56,56]");
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let (x, channels, size) = (net.last.clone(), net.channels, net.size);
            net.conv(64 << stage, 1, 1);
            net.unary("relu");
            net.conv(64 << stage, 3, stride);
            net.unary("relu");
            let main = net.conv(256 << stage, 1, 1);
            let mut beside = x.clone();
            if block == 0 {
                (net.last, net.channels, net.size) = (x, channels, size);
                beside = net.conv(256 << stage, 1, stride);
            }
            net.op(&format!("add x={main} y={beside}"), &net.planes());
            net.unary("relu");
        }
    }
    let mean = format!("reduce_mean x={} axes=2,3 keep_dims=bool[]", net.last);
    net.op(&mean, "fp16[1,2048]");
    let (w, b, x) = (net.weight("1000,2048"), net.weight("1000"), net.last.clone());
    net.op(&format!("linear x={x} weight={w} bias={b}"), "fp16[1,1000]");
    text::model(&net.text)
}

/// The six layers of DistilBERT on 128 tokens, without its embeddings, which are looked up on the CPU.
fn distilbert() -> Model {
    const LENGTH: usize = 128;
    let mut net = Net { text: "x: fp16[1,128,768]".to_owned(), last: "x".to_owned(), channels: 0, size: 0, count: 0 };
    for _ in 0..6 {
        let x = net.last.clone();
        let heads = |net: &mut Net| {
            let flat = net.linear(&x, LENGTH, 768, 768);
            let split = net.op(&format!("reshape x={flat} shape=1,128,12,64"), "fp16[1,128,12,64]");
            net.op(&format!("transpose x={split} perm=0,2,1,3"), "fp16[1,12,128,64]")
        };
        let (q, k, v) = (heads(&mut net), heads(&mut net), heads(&mut net));
        let k = net.op(&format!("transpose x={k} perm=0,1,3,2"), "fp16[1,12,64,128]");
        let flags = "transpose_x=bool[] transpose_y=bool[]";
        let scores = net.op(&format!("matmul x={q} y={k} {flags}"), "fp16[1,12,128,128]");
        let weights = net.op(&format!("softmax x={scores} axis=-1"), "fp16[1,12,128,128]");
        let mixed = net.op(&format!("matmul x={weights} y={v} {flags}"), "fp16[1,12,128,64]");
        let joined = net.op(&format!("transpose x={mixed} perm=0,2,1,3"), "fp16[1,128,12,64]");
        let joined = net.op(&format!("reshape x={joined} shape=1,128,768"), "fp16[1,128,768]");
        let out = net.linear(&joined, LENGTH, 768, 768);
        let x = net.op(&format!("add x={x} y={out}"), "fp16[1,128,768]");
        let inner = net.linear(&x, LENGTH, 768, 3072);
        let inner = net.op(&format!("gelu x={inner} mode='EXACT'"), "fp16[1,128,3072]");
        let out = net.linear(&inner, LENGTH, 3072, 768);
        net.op(&format!("add x={x} y={out}"), "fp16[1,128,768]");
    }
    text::model(&net.text)
}

/// torchvision gives 4.09 GFLOPS for ResNet50, where a multiplication and an addition are one.
#[test]
fn resnet50_takes_what_torchvision_says() {
    let estimate = estimate(&resnet50(), "A16");
    let ratio = estimate.flops as f64 / (2.0 * 4.09e9);
    println!(
        "ResNet50: {} FLOP, {ratio:.4} of torchvision's; {} bytes of weights",
        estimate.flops, estimate.weight_bytes
    );
    assert!((0.99..1.01).contains(&ratio), "{ratio}");
    // 25.6 million parameters, those of the normalisations aside.
    assert!((50.8e6..51.3e6).contains(&estimate.weight_bytes), "{}", estimate.weight_bytes);
}

/// Published times are in the range that estimates give. Sources: coremltools' guide (performance of quantised and of other
/// models), and Apple's Deploying Transformers on the Apple Neural Engine. ResNet50's time is what the bandwidth of the A16
/// and the A17 Pro is derived from.
#[test]
fn estimates_are_near_published_times() {
    let shared = std::env::var_os("ANE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let mobilenet = shared.join("models/open/mobilenet_v2_fp16/model.mlpackage");
    let mut rows = vec![
        ("ResNet50", "A16", 1.52, resnet50()),
        ("ResNet50", "A17 Pro", 1.38, resnet50()),
        ("DistilBERT, 128 tokens", "A15", 3.47, distilbert()),
    ];
    if mobilenet.exists() {
        rows.push(("MobileNetV2", "A16", 0.48, Model::open(&mobilenet).unwrap()));
        rows.push(("MobileNetV2", "A17 Pro", 0.49, Model::open(&mobilenet).unwrap()));
    } else {
        println!("skipped: there is no MobileNetV2 in models/open");
    }
    for (name, chip, published, model) in rows {
        let estimate = estimate(&model, chip);
        let [low, high] = estimate.range.map(|seconds| seconds * 1e3);
        let at_best = estimate.seconds * 1e3;
        let error = (at_best / published - 1.0) * 100.0;
        println!("{name} on {chip}: {at_best:.2} ms ({low:.2} to {high:.2}), published {published}: {error:+.0} %");
        assert!((low..high).contains(&published), "{name} on {chip}: {published} is not in {low}..{high}");
    }
}
