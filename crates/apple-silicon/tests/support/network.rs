//! A small writer of neural networks, for tests whose models are too big to check in. Numbers are those of `Model.proto`
//! and `NeuralNetwork.proto`.

/// A network of layers that were made with their places, 0, 1, and so on. It takes "x0" and gives "x" and the number of
/// layers.
pub(crate) fn neural_network(shape: &[usize], layers: &[Vec<u8>]) -> Vec<u8> {
    network(shape, &[], layers)
}

/// A network whose first dimension may be anything from 1 to `most`.
pub(crate) fn flexible_network(shape: &[usize], most: usize, layers: &[Vec<u8>]) -> Vec<u8> {
    let range = |lower: usize, upper: usize| bytes(1, &[number(1, lower as u64), number(2, upper as u64)].concat());
    let ranges: Vec<u8> = shape[1..].iter().flat_map(|&size| range(size, size)).collect();
    network(shape, &bytes(31, &[range(1, most), ranges].concat()), layers)
}

fn network(shape: &[usize], flexibility: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    const FLOAT32: u64 = 65568;
    let array = [&packed(1, shape), &number(2, FLOAT32), flexibility].concat();
    let feature = |tag, name: &str| bytes(tag, &[bytes(1, name.as_bytes()), bytes(3, &bytes(5, &array))].concat());
    let description = [feature(1, "x0"), feature(10, &format!("x{}", layers.len()))].concat();
    const EXACT_ARRAY_MAPPING: u64 = 1;
    let network = [layers.concat(), number(5, EXACT_ARRAY_MAPPING)].concat();
    [number(1, 4), bytes(2, &description), bytes(500, &network)].concat()
}

/// Zero for what is below it.
pub(crate) fn relu(n: usize) -> Vec<u8> {
    layer(n, 130, &bytes(10, &[]))
}

/// A convolution of 3 x 3 with as many channels on both sides.
pub(crate) fn convolution(n: usize, channels: usize) -> Vec<u8> {
    let same = bytes(51, &[]);
    let sizes = [number(1, channels as u64), number(2, channels as u64), number(10, 1)].concat();
    let windows = [packed(20, &[3, 3]), packed(30, &[1, 1]), packed(40, &[1, 1])].concat();
    layer(n, 100, &[sizes, windows, same, bytes(90, &weights(n, channels * channels * 9))].concat())
}

/// Makes numbers along an axis add up to one.
pub(crate) fn softmax(n: usize, axis: usize) -> Vec<u8> {
    layer(n, 950, &number(1, axis as u64))
}

/// A matrix product by as many rows as columns, with the last dimension.
pub(crate) fn inner_product(n: usize, width: usize) -> Vec<u8> {
    let sizes = [number(1, width as u64), number(2, width as u64)].concat();
    layer(n, 140, &[sizes, bytes(20, &weights(n, width * width))].concat())
}

fn layer(n: usize, kind: u64, parameters: &[u8]) -> Vec<u8> {
    let name = |n| format!("x{n}").into_bytes();
    bytes(1, &[bytes(1, &name(n)), bytes(2, &name(n)), bytes(3, &name(n + 1)), bytes(kind, parameters)].concat())
}

/// Packed floats, different for each layer, since ONNX Runtime merges constants that are equal.
fn weights(n: usize, count: usize) -> Vec<u8> {
    let mut state = 12345 + n as u32;
    let values = (0..count).flat_map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 24) as f32 * 0.02 - 0.01).to_le_bytes()
    });
    bytes(1, &values.collect::<Vec<u8>>())
}

fn bytes(tag: u64, content: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn packed(tag: u64, values: &[usize]) -> Vec<u8> {
    bytes(tag, &values.iter().flat_map(|&v| varint(v as u64)).collect::<Vec<u8>>())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
