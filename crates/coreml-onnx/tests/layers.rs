//! Layers of neural networks: the shapes of what each fixture is lowered to, and which networks are refused.
//!
//! The fixtures come from `tools/layer_fixtures.py`; their numbers are compared where the engines are. After a change
//! that is meant, `UPDATE_EXPECT=1 cargo test` rewrites `layers/shapes.txt`.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use coreml_format::{
    DType, Model, ModelKind, Tensor,
    nn::{
        Activation, ArrayMapping, Bias, Classifier, Convolution, ImageMapping, Layer, LayerKind, NeuralNetwork,
        Padding, Pooling, PoolingKind, Preprocessing, Weight,
    },
    schema::{
        ArrayKind, ArrayType, ClassLabels, Feature, FeatureKind, Interface, KeyKind, Schema, ShapeFlexibility,
        SizeRange,
    },
};
use coreml_onnx::{Element, LowerError, LowerOptions, OutputForm, Port, Storage, lower};
use expect_test::{Expect, expect, expect_file};

#[test]
fn shapes_of_every_fixture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layers");
    let mut lines = String::new();
    for layer in sorted(&folder) {
        for case in sorted(&folder.join(&layer)) {
            let model = Model::open(folder.join(&layer).join(&case).join("model.mlmodel")).unwrap();
            let lowered = lower(&model, &LowerOptions::default()).unwrap_or_else(|e| panic!("{layer}/{case}: {e}"));
            let (inputs, outputs) = (ports(lowered.model.inputs()), ports(lowered.model.outputs()));
            writeln!(lines, "{layer}/{case}: {inputs} -> {outputs}").unwrap();
        }
    }
    expect_file!["layers/shapes.txt"].assert_eq(&lines);
}

fn sorted(folder: &Path) -> Vec<String> {
    let folders = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ports(ports: &[Port]) -> String {
    let all: Vec<String> = ports.iter().map(|p| format!("{} {:?}{}", p.name, p.element, shape(&p.dims))).collect();
    all.join(", ")
}

fn shape(dims: &[Option<usize>]) -> String {
    let dims: Vec<String> = dims.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(","))
}

/// A network with one layer from `x` of this shape to `y`.
fn network(shape: &[usize], kind: LayerKind) -> Model {
    let layer = Layer { name: "one".to_owned(), inputs: vec!["x".to_owned()], outputs: vec!["y".to_owned()], kind };
    let network = NeuralNetwork {
        layers: vec![layer],
        preprocessing: BTreeMap::new(),
        array_mapping: ArrayMapping::Exact,
        image_mapping: ImageMapping::Rank4,
        classifier: None,
        regressor: false,
    };
    let interface =
        Interface { inputs: vec![array("x", shape)], outputs: vec![array("y", &[])], ..Interface::default() };
    Model {
        path: "test.mlmodel".into(),
        spec_version: 4,
        schema: Schema { interface, ..Schema::default() },
        kind: ModelKind::NeuralNetwork(network),
    }
}

fn array(name: &str, shape: &[usize]) -> Feature {
    let kind = ArrayKind {
        dtype: ArrayType::Float32,
        shape: shape.to_vec(),
        flexibility: ShapeFlexibility::Fixed,
        default: None,
    };
    feature(name, FeatureKind::MultiArray(kind))
}

fn feature(name: &str, kind: FeatureKind) -> Feature {
    Feature { name: name.to_owned(), description: String::new(), kind, optional: false }
}

/// The network of a model, and its interface.
fn parts(model: &mut Model) -> (&mut NeuralNetwork, &mut Interface) {
    match &mut model.kind {
        ModelKind::NeuralNetwork(network) => (network, &mut model.schema.interface),
        other => panic!("{other:?}"),
    }
}

fn floats(n: usize) -> Weight {
    Weight::Float(Tensor::new(DType::Float32, vec![n], vec![0; 4 * n].into()).unwrap())
}

fn convolution() -> Convolution<2> {
    Convolution {
        output_channels: 4,
        kernel_channels: 2,
        groups: 1,
        kernel_size: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding::Valid([[0; 2]; 2]),
        is_deconvolution: false,
        output_shape: vec![],
        weights: floats(72),
        bias: None,
    }
}

fn pooling() -> Pooling<2> {
    Pooling {
        kind: PoolingKind::Max,
        kernel_size: [2, 2],
        stride: [1, 1],
        padding: Padding::Valid([[0; 2]; 2]),
        average_excludes_padding: false,
        global: false,
    }
}

fn check_model(model: &Model, expected: Expect) {
    let shown = match lower(model, &LowerOptions::default()) {
        Ok(lowered) => ports(lowered.model.outputs()),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

fn check(shape: &[usize], kind: LayerKind, expected: Expect) {
    check_model(&network(shape, kind), expected);
}

#[test]
fn convolutions_that_do_not_fit() {
    let conv = |c| LayerKind::Convolution(c);
    let x: &[usize] = &[1, 2, 5, 5];
    check(x, conv(convolution()), expect!["y F32[1,4,3,3]"]);
    check(
        &[5, 5],
        conv(convolution()),
        expect![[r#"convolution "one": its input has shape [5, 5], expected rank 4 or more"#]],
    );
    check(
        &[1, 3, 5, 5],
        conv(convolution()),
        expect![[r#"convolution "one": its input has 3 channels, and its weight asks for 2"#]],
    );
    check(
        &[1, 2, 2, 5],
        conv(convolution()),
        expect![[r#"convolution "one": its window reaches over 3 elements, more than the padded input of 2 has"#]],
    );
    let huge = Convolution { dilation: [1 << 30, 1], ..convolution() };
    check(
        x,
        conv(huge),
        expect![[
            r#"convolution "one": its window reaches over 2147483649 elements, more than the padded input of 5 has"#
        ]],
    );
    let huge = Convolution { stride: [u64::MAX, 1], ..convolution() };
    check(x, conv(huge), expect![[r#"convolution "one": one of its sizes is 0 or too large"#]]);
    let huge = Convolution { padding: Padding::Valid([[u64::MAX; 2]; 2]), ..convolution() };
    check(x, conv(huge), expect![[r#"convolution "one": its padding is too large"#]]);
    let huge = Convolution { padding: Padding::Valid([[1 << 30; 2]; 2]), ..convolution() };
    check(
        x,
        conv(huge),
        expect![[r#"convolution "one": its result of shape [1, 4, 2147483651, 2147483651] is too large"#]],
    );
    let lying = Convolution { weights: floats(71), ..convolution() };
    check(x, conv(lying), expect![[r#"convolution "one": weight is not stored in the size that the layer has"#]]);
}

#[test]
fn deconvolutions_that_do_not_fit() {
    let transposed = || Convolution { is_deconvolution: true, ..convolution() };
    let conv = |c| LayerKind::Convolution(c);
    let x: &[usize] = &[1, 2, 5, 5];
    check(x, conv(transposed()), expect!["y F32[1,4,7,7]"]);
    let cropped = Convolution { padding: Padding::Valid([[4, 3], [0, 0]]), ..transposed() };
    check(x, conv(cropped), expect![[r#"convolution "one": its padding leaves 0 elements of axis 2"#]]);
    let grouped = Convolution { groups: 4, ..transposed() };
    check(x, conv(grouped), expect![[r#"convolution "one": its 2 input channels cannot be divided into 4 groups"#]]);
    let endless = Convolution { output_shape: vec![1 << 30, 1 << 30], ..transposed() };
    check(
        x,
        conv(endless),
        expect![[r#"convolution "one": its result of shape [1, 4, 1073741824, 1073741824] is too large"#]],
    );
}

#[test]
fn poolings_that_do_not_fit() {
    let pool = |p| LayerKind::Pooling(p);
    let x: &[usize] = &[1, 2, 5, 5];
    check(x, pool(pooling()), expect!["y F32[1,2,4,4]"]);
    let padded = Pooling { padding: Padding::Valid([[2, 0], [0, 0]]), ..pooling() };
    check(x, pool(padded), expect![[r#"pooling "one": its padding of 2 and 0 is not smaller than its window of 2"#]]);
    let outside =
        Pooling { kernel_size: [1, 1], stride: [3, 1], padding: Padding::IncludeLastPixel([0, 0]), ..pooling() };
    check(x, pool(outside), expect![[r#"pooling "one": its last window lies outside its input of 5 elements"#]]);
    let padded = Pooling { global: true, padding: Padding::Valid([[1, 0], [0, 0]]), ..pooling() };
    check(x, pool(padded), expect![[r#"pooling "one": a global pooling cannot have padding"#]]);
}

#[test]
fn other_layers_that_do_not_fit() {
    let product = || LayerKind::InnerProduct {
        input_channels: 6,
        output_channels: 2,
        weights: floats(12),
        bias: None,
        int8_dynamic: false,
    };
    check(&[1, 6, 1, 1], product(), expect!["y F32[1,2,1,1]"]);
    check(
        &[1, 6, 2, 1],
        product(),
        expect![[
            r#"innerProduct "one": its weight asks for 6 input channels, and its input of shape [1, 6, 2, 1] has 12"#
        ]],
    );
    let reshape = |target_shape: &[i64]| LayerKind::ReshapeStatic { target_shape: target_shape.to_vec() };
    check(&[4], reshape(&[3, -1]), expect![[r#"reshapeStatic "one": [4] cannot be reshaped to [3, -1]"#]]);
    check(
        &[4],
        reshape(&[0, 4]),
        expect![[r#"reshapeStatic "one": its target shape is [0, 4], expected sizes of at least 1, or -1 once"#]],
    );
    check(
        &[4],
        reshape(&[i64::MAX, 4]),
        expect![[r#"reshapeStatic "one": its target shape [9223372036854775807, 4] is too large"#]],
    );
    let transpose = |axes: &[u64]| LayerKind::Transpose { axes: axes.to_vec() };
    check(&[2, 3], transpose(&[0]), expect![[r#"transpose "one": axes [0] do not name every dimension of [2, 3]"#]]);
    check(
        &[2, 3],
        transpose(&[1, u64::MAX]),
        expect![[r#"transpose "one": axis 9223372036854775807 is out of range for a tensor of rank 2"#]],
    );
    check(
        &[2],
        LayerKind::SoftmaxNd { axis: 1 },
        expect![[r#"softmaxND "one": axis 1 is out of range for a tensor of rank 1"#]],
    );
    check(&[2, 3], LayerKind::Softmax, expect![[r#"softmax "one": its input has rank 2, expected at least 3"#]]);
    check(
        &[2],
        LayerKind::ExpandDims { axes: vec![3] },
        expect![[r#"expandDims "one": axis 3 is out of range for a tensor of rank 2"#]],
    );
    let slopes = || LayerKind::Activation(Activation::Prelu { alpha: floats(2) });
    check(&[3, 4, 5], slopes(), expect![[r#"activation "one": alpha has 2 elements, expected one, or one a channel"#]]);
    check(&[2, 4, 5], slopes(), expect!["y F32[2,4,5]"]);
    let scale =
        || LayerKind::Scale { shape_scale: vec![3], scale: floats(3), has_bias: false, shape_bias: vec![], bias: None };
    check(
        &[1, 4, 5],
        scale(),
        expect![[r#"scale "one": scale of shape [3, 1, 1] does not fit an input of shape [1, 4, 5]"#]],
    );
    check(&[3], scale(), expect![[r#"scale "one": scale of shape [3, 1, 1] does not fit an input of shape [3]"#]]);
    check(
        &[3],
        LayerKind::BatchedMatmul {
            transpose_a: false,
            transpose_b: false,
            weights: None,
            bias: None,
            int8_dynamic: false,
        },
        expect![[r#"batchedMatmul "one": expected two inputs, and it has 1"#]],
    );
    let embedding = LayerKind::EmbeddingNd { vocabulary: 4, size: 2, weights: floats(8), bias: None };
    check(
        &[3, 2],
        embedding,
        expect![[r#"embeddingND "one": its input has shape [3, 2], expected 1 as the last size"#]],
    );
}

#[test]
fn unsupported_layers_are_reported_at_once() {
    let custom = || LayerKind::Custom { class_name: "Swish".to_owned(), weights: Vec::new() };
    let mut model = network(&[4], custom());
    let (network, _) = parts(&mut model);
    let more = [custom(), LayerKind::Copy].map(|kind| Layer { kind, ..network.layers[0].clone() });
    network.layers.extend(more);
    let Err(LowerError::Unsupported(missing)) = lower(&model, &LowerOptions::default()) else { panic!() };
    let shown: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["custom layer Swish x2 (one, one)"]);
}

#[test]
fn inputs_that_cannot_be_blobs() {
    let relu = || LayerKind::Activation(Activation::Relu);
    let mut legacy = network(&[2, 3], relu());
    parts(&mut legacy).0.array_mapping = ArrayMapping::Rank5;
    check_model(&legacy, expect![[r#"input "x": its shape is [2, 3], and this network takes arrays of rank 1 and 3"#]]);
    check(&[], relu(), expect![[r#"input "x": it has no shape"#]]);

    let mut ranks = network(&[2], relu());
    if let FeatureKind::MultiArray(kind) = &mut parts(&mut ranks).1.inputs[0].kind {
        kind.flexibility = ShapeFlexibility::Enumerated(vec![vec![2], vec![2, 2]]);
    }
    check_model(&ranks, expect![[r#"input "x": its shapes have different ranks"#]]);

    let mut number = network(&[2], relu());
    parts(&mut number).1.inputs[0].kind = FeatureKind::Double;
    check_model(&number, expect![[r#"input "x": it is neither an array nor an image"#]]);

    let mut scaled = network(&[2], relu());
    parts(&mut scaled)
        .0
        .preprocessing
        .insert("x".to_owned(), Preprocessing::Scaler { scale: 1.0, bias: Bias::default() });
    check_model(&scaled, expect![[r#"there is preprocessing of "x", which is no image input"#]]);
}

#[test]
fn sizes_known_at_run_time() {
    let flexible = |shape: &[usize], kind| {
        let mut model = network(shape, kind);
        if let FeatureKind::MultiArray(array) = &mut parts(&mut model).1.inputs[0].kind {
            let any = SizeRange { lower: 1, upper: None };
            let range = |&d: &usize| if d == 0 { any } else { SizeRange { lower: d, upper: Some(d) } };
            array.flexibility = ShapeFlexibility::Ranges(shape.iter().map(range).collect());
        }
        model
    };
    let conv = |padding| LayerKind::Convolution(Convolution { padding, ..convolution() });
    check_model(&flexible(&[0, 2, 0, 0], conv(Padding::Valid([[0; 2]; 2]))), expect!["y F32[?,4,?,?]"]);
    check_model(&flexible(&[1, 2, 0, 5], conv(Padding::Same { top_left: true })), expect!["y F32[1,4,?,5]"]);
    check_model(
        &flexible(&[0, 0, 2, 5, 5], conv(Padding::Valid([[0; 2]; 2]))),
        expect![[
            r#"convolution "one": of its shape [?, ?, 4, 3, 3] more than one dimension is known at run time only"#
        ]],
    );
    let transposed =
        Convolution { is_deconvolution: true, padding: Padding::Same { top_left: false }, ..convolution() };
    check_model(
        &flexible(&[1, 2, 0, 5], LayerKind::Convolution(transposed)),
        expect![[r#"convolution "one": its spatial sizes must be fixed for this padding"#]],
    );
    check_model(&flexible(&[0, 3], LayerKind::ReshapeStatic { target_shape: vec![-1, 1, 3] }), expect!["y F32[?,1,3]"]);
}

#[test]
fn a_classifier_binds_its_scores_twice() {
    let mut model = network(&[2], LayerKind::Activation(Activation::Relu));
    let (network, interface) = parts(&mut model);
    let labels = ClassLabels::Strings(vec!["cat".to_owned(), "dog".to_owned()]);
    network.classifier = Some(Classifier { labels, probabilities: String::new() });
    interface.outputs = vec![
        feature("label", FeatureKind::String),
        feature("odds", FeatureKind::Dictionary(KeyKind::String)),
        array("y", &[]),
    ];
    interface.predicted_feature = Some("label".to_owned());
    let lowered = lower(&model, &LowerOptions::default()).unwrap();
    assert_eq!(lowered.outputs.iter().map(|o| o.port).collect::<Vec<_>>(), [0, 0, 1]);
    assert!(matches!(lowered.outputs[0].form, OutputForm::Label(_)));
    assert!(matches!(lowered.outputs[1].form, OutputForm::Probabilities(_)));
    assert!(!lowered.model.encode(Storage::Inside).is_empty());

    let (network, _) = parts(&mut model);
    network.classifier = Some(Classifier { labels: ClassLabels::Int64s(vec![1, 2, 3]), probabilities: "y".to_owned() });
    check_model(&model, expect![[r#"output "label": the classifier has 3 labels, and the network gives 2 scores"#]]);
}

#[test]
fn fp16_features_are_fp16_ports_where_asked_for() {
    let mut model = network(&[2], LayerKind::Activation(Activation::Relu));
    let (_, interface) = parts(&mut model);
    for feature in interface.inputs.iter_mut().chain(&mut interface.outputs) {
        if let FeatureKind::MultiArray(kind) = &mut feature.kind {
            kind.dtype = ArrayType::Float16;
        }
    }
    let lowered = lower(&model, &LowerOptions { half_io: true, ..LowerOptions::default() }).unwrap();
    let elements = (lowered.model.inputs()[0].element, lowered.model.outputs()[0].element);
    assert_eq!(elements, (Element::F16, Element::F16));
}
