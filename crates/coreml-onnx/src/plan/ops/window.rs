//! Convolutions, pooling and resizing.

use super::{Inferred, Operands, Operator, elements, one};
use crate::plan::fact::{Fact, count};

pub(super) const OPS: &[Operator] = &[
    Operator::new("AveragePool", pool).flops(pool_flops),
    Operator::new("Conv", conv).workspace(conv_workspace).flops(conv_flops),
    Operator::new("ConvTranspose", conv_transpose).workspace(conv_transpose_workspace).flops(conv_transpose_flops),
    Operator::new("GlobalAveragePool", global_pool).flops(|op, _| elements(op.input(0))),
    Operator::new("GlobalMaxPool", global_pool).flops(|op, _| elements(op.input(0))),
    Operator::new("MaxPool", pool).flops(pool_flops),
    Operator::new("Resize", resize).flops(resize_flops),
];

/// What a window does along one axis.
struct Window {
    kernel: i128,
    stride: i128,
    dilation: i128,
    pads: i128,
    begin: i128,
}

impl Window {
    fn along(op: &Operands<'_>, axis: usize, axes: usize) -> Option<Window> {
        let at = |name, index: usize, default| op.ints(name).get(index).map_or(default, |&v| i128::from(v));
        let (begin, end) = (at("pads", axis, 0), at("pads", axis + axes, 0));
        let kernel = i128::from(*op.ints("kernel_shape").get(axis)?);
        let window = Window {
            kernel,
            stride: at("strides", axis, 1),
            dilation: at("dilations", axis, 1),
            pads: begin + end,
            begin,
        };
        (window.stride > 0 && window.kernel > 0 && window.dilation > 0).then_some(window)
    }

    /// From the first to the last element that the window sees.
    fn extent(&self) -> i128 {
        (self.kernel - 1) * self.dilation + 1
    }

    /// The number of places for the window in `size` elements.
    fn places(&self, size: usize, same: bool, ceil: bool) -> Option<usize> {
        let size = signed(size)?;
        if same {
            return usize::try_from((size + self.stride - 1) / self.stride).ok();
        }
        let room = size + self.pads - self.extent();
        if room < 0 {
            return None;
        }
        let mut places = if ceil { (room + self.stride - 1) / self.stride } else { room / self.stride } + 1;
        // The last window must not begin in the padding at the end.
        if ceil && (places - 1) * self.stride >= size + self.begin {
            places -= 1;
        }
        usize::try_from(places).ok()
    }
}

/// Sizes below 2^63 times strides below 2^63 stay within an i128.
fn signed(size: usize) -> Option<i128> {
    i64::try_from(size).ok().map(i128::from)
}

fn is_same(op: &Operands<'_>) -> bool {
    op.string("auto_pad").is_some_and(|auto| auto.starts_with("SAME"))
}

/// The space that a window leaves of `space`.
fn windowed(op: &Operands<'_>, space: &[usize], ceil: bool) -> Option<Vec<usize>> {
    let places = |(axis, &size): (usize, &usize)| Window::along(op, axis, space.len())?.places(size, is_same(op), ceil);
    space.iter().enumerate().map(places).collect()
}

/// A product and a sum for each result and weight of its filter, and the bias.
fn conv_flops(op: &Operands<'_>, results: &[Fact]) -> u64 {
    let filter = op.shape(1).map_or(0, |shape| count(shape.get(1..).unwrap_or_default())) as u64;
    let bias = u64::from(op.input(2).is_some());
    elements(results.first()).saturating_mul(filter.saturating_mul(2).saturating_add(bias))
}

/// A product and a sum for each element and weight of its filters, and the bias of each result.
fn conv_transpose_flops(op: &Operands<'_>, results: &[Fact]) -> u64 {
    let filter = op.shape(1).map_or(0, |shape| count(shape.get(1..).unwrap_or_default())) as u64;
    let bias = if op.input(2).is_some() { elements(results.first()) } else { 0 };
    elements(op.input(0)).saturating_mul(filter).saturating_mul(2).saturating_add(bias)
}

/// One operation for each result and place of its window.
fn pool_flops(op: &Operands<'_>, results: &[Fact]) -> u64 {
    let window = op.ints("kernel_shape").iter().fold(1u64, |n, &k| n.saturating_mul(u64::try_from(k).unwrap_or(1)));
    elements(results.first()).saturating_mul(window)
}

/// Three operations for each result and axis between two neighbours.
fn resize_flops(op: &Operands<'_>, results: &[Fact]) -> u64 {
    if op.string("mode") == Some("nearest") { 0 } else { elements(results.first()).saturating_mul(6) }
}

fn conv(op: &Operands<'_>) -> Inferred {
    let ([batch, _, space @ ..], [filters, ..]) = (op.shape(0)?, op.shape(1)?) else { return None };
    one(Fact::new(op.element(0)?, [&[*batch, *filters][..], &windowed(op, space, false)?].concat()))
}

/// Where a layer has more filters than places, the windows of all places are copied out, one image and group at a time.
fn conv_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    let (Some([filters, filter @ ..]), Some(result)) = (op.shape(1), results.first()) else { return 0 };
    let Some([_, _, places @ ..]) = result.shape.as_deref() else { return 0 };
    let groups = usize::try_from(op.int("group").unwrap_or(1)).unwrap_or(1).max(1);
    let pointwise = op.ints("kernel_shape").iter().chain(op.ints("strides")).all(|&n| n == 1);
    if pointwise || filters / groups <= count(places) {
        return 0;
    }
    count(places).saturating_mul(count(filter)).saturating_mul(result.element.size())
}

fn pool(op: &Operands<'_>) -> Inferred {
    let [batch, channels, space @ ..] = op.shape(0)? else { return None };
    let ceil = op.int("ceil_mode").unwrap_or(0) != 0;
    one(Fact::new(op.element(0)?, [&[*batch, *channels][..], &windowed(op, space, ceil)?].concat()))
}

fn global_pool(op: &Operands<'_>) -> Inferred {
    let [batch, channels, space @ ..] = op.shape(0)? else { return None };
    one(Fact::new(op.element(0)?, [&[*batch, *channels][..], &vec![1; space.len()]].concat()))
}

fn conv_transpose(op: &Operands<'_>) -> Inferred {
    let ([batch, _, space @ ..], [_, filters, ..]) = (op.shape(0)?, op.shape(1)?) else { return None };
    let groups = usize::try_from(op.int("group").unwrap_or(1)).ok()?;
    let spread = |(axis, &size): (usize, &usize)| {
        let window = Window::along(op, axis, space.len())?;
        let more = op.ints("output_padding").get(axis).map_or(0, |&v| i128::from(v));
        let size = signed(size)?;
        let spread = if is_same(op) {
            size * window.stride
        } else {
            (size - 1) * window.stride + more + window.extent() - window.pads
        };
        usize::try_from(spread).ok()
    };
    let space: Option<Vec<usize>> = space.iter().enumerate().map(spread).collect();
    one(Fact::new(op.element(0)?, [&[*batch, filters.checked_mul(groups)?][..], &space?].concat()))
}

/// For one image and group, every product of an element and a filter, before they are summed where they overlap.
fn conv_transpose_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    let (Some([_, _, space @ ..]), Some([_, filter @ ..]), Some(result)) = (op.shape(0), op.shape(1), results.first())
    else {
        return 0;
    };
    count(space).saturating_mul(count(filter)).saturating_mul(result.element.size())
}

fn resize(op: &Operands<'_>) -> Inferred {
    let from = op.shape(0)?;
    let shape: Option<Vec<usize>> = if op.input(3).is_some() {
        op.list(3)?.iter().map(|&size| usize::try_from(size).ok()).collect()
    } else {
        // As ONNX Runtime computes it, in fp32.
        let scaled = |(&d, &scale): (&usize, &f64)| {
            let size = d as f32 * scale as f32;
            (size.is_finite() && size >= 0.0).then_some(size as usize)
        };
        from.iter().zip(op.numbers(2)?).map(scaled).collect()
    };
    one(Fact::new(op.element(0)?, shape.filter(|shape| shape.len() == from.len())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Element,
        onnx::pb::{AttributeProto, NodeProto},
    };

    /// Infers from an image of one side and attributes with the same numbers for both axes.
    fn check(
        onnx: &str,
        side: usize,
        attributes: &[(&str, &[i64])],
        strings: &[(&str, &str)],
        expected: Option<usize>,
    ) {
        let ints = attributes.iter().map(|(name, ints)| AttributeProto {
            name: name.to_string(),
            ints: ints.to_vec(),
            i: ints.first().copied(),
            ..AttributeProto::default()
        });
        let strings = strings.iter().map(|(name, value)| AttributeProto {
            name: name.to_string(),
            s: Some(value.as_bytes().to_vec()),
            ..AttributeProto::default()
        });
        let attribute = ints.chain(strings).collect();
        let node = NodeProto { input: vec!["x".into(), "w".into()], attribute, ..NodeProto::default() };
        let (x, w) = (Fact::new(Element::F32, vec![1, 1, side, side]), Fact::new(Element::F32, vec![1, 1, 3, 3]));
        let operands = Operands::new(&node, |name| Some(if name == "x" { &x } else { &w }));
        let row = OPS.iter().find(|row| row.onnx == onnx).unwrap();
        let sides = |facts: Vec<Fact>| facts[0].shape.as_ref().map(|shape| (shape[2], shape[3]));
        let got = (row.infer)(&operands).and_then(sides);
        assert_eq!(got, expected.map(|side| (side, side)), "{onnx} of {side}");
    }

    #[test]
    fn windows_fit_as_often_as_in_onnx() {
        let (kernel, strides): (&[i64], &[i64]) = (&[3, 3], &[2, 2]);
        let pads = |n: i64| [n; 4];
        check("Conv", 7, &[("kernel_shape", kernel), ("pads", &pads(1))], &[], Some(7));
        check("Conv", 7, &[("kernel_shape", kernel), ("strides", strides)], &[("auto_pad", "SAME_LOWER")], Some(4));
        check("Conv", 9, &[("kernel_shape", kernel), ("dilations", &[4, 4])], &[], Some(1));
        check("Conv", 8, &[("kernel_shape", kernel), ("dilations", &[4, 4])], &[], None);
        let pool = [("kernel_shape", kernel), ("strides", strides)];
        check("MaxPool", 8, &pool, &[], Some(3));
        check("MaxPool", 8, &[pool[0], pool[1], ("ceil_mode", &[1])], &[], Some(4));
        // The fourth window would begin in the padding.
        let ceil = [("kernel_shape", &[1, 1][..]), ("strides", &[3, 3]), ("pads", &[0, 0, 2, 2]), ("ceil_mode", &[1])];
        check("AveragePool", 7, &ceil, &[], Some(3));
        let spread =
            [("kernel_shape", kernel), ("strides", strides), ("pads", &pads(1)[..]), ("output_padding", &[1, 1])];
        check("ConvTranspose", 7, &spread, &[], Some(14));
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let most: &[i64] = &[i64::MAX; 4];
        let attributes = ["kernel_shape", "strides", "dilations", "output_padding"].map(|name| (name, most));
        let padded = [attributes[0], attributes[1], ("pads", most), ("ceil_mode", &[1])];
        for (side, pooled) in [(usize::MAX, None), (i64::MAX as usize, Some(2))] {
            check("ConvTranspose", side, &attributes, &[], None);
            check("Conv", side, &attributes[..3], &[], None);
            check("MaxPool", side, &padded, &[], pooled);
        }
        check("Conv", 5, &[("kernel_shape", &[1, 1]), ("strides", &[0, 0])], &[], None);
    }
}
