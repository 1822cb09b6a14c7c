//! Rules about windows: convolutions, poolings and what changes the size of planes.

use coreml_format::nn::LayerKind;

use super::{Confidence, Effect, Find, Rule, Subject};
use crate::graph::{Op, Source};

/// Equal strides above 2 that are fast.
const FAST_STRIDES: &[usize] = &[4, 6, 8, 9, 12, 16, 24, 32];
/// Kernels from here on are split.
const LARGE_KERNEL: usize = 9;
const LARGEST_KERNEL: usize = 16;
const LARGEST_POOL: usize = 13;
const LARGEST_DILATION: usize = 3;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ANE028",
        name: "convolution-strides",
        title: "Strides above 2 are fast for some sizes only",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The Neural Engine moves its windows by 1 and 2, by 4, 6, 8, 9, 12, 16, 24 and 32 in both dimensions, and by 2 in \
                 one and 3, 4, 8 or 9 in the other.",
        advice: "use one of these strides, or several convolutions",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "A patch embedding with stride 14 is slow; with stride 16 it is not.",
        find: Find::Op(|subject, op| {
            let window = subject.graph.window(op).filter(|window| !window.pools)?;
            let fast = match window.strides[..] {
                [stride] => stride <= 2 || FAST_STRIDES.contains(&stride),
                [rows, columns] if rows == columns => rows <= 2 || FAST_STRIDES.contains(&rows),
                [rows, columns] => {
                    let (least, most) = (rows.min(columns), rows.max(columns));
                    most <= 2
                        || (least == 2 && matches!(most, 3 | 4 | 8 | 9))
                        || least == 1 && FAST_STRIDES.contains(&most)
                }
                _ => true,
            };
            (!fast).then(|| format!("has strides of {}", by(&window.strides)))
        }),
    },
    Rule {
        id: "ANE029",
        name: "palette-with-strides",
        title: "Convolutions with palettes are fast for strides up to 2",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "Palettes are read while the Neural Engine computes only where windows move by 1 or 2.",
        advice: "leave the weights of convolutions with larger strides as they are",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "A patch embedding of stride 16 keeps its fp16 weights; all other layers take palettes.",
        find: Find::Op(|subject, op| {
            let window = subject.graph.window(op).filter(|window| !window.pools)?;
            let weight = subject.graph.operand(op, "weight", 1)?;
            let palette = weight.compressed.is_some_and(|op| op.kind.starts_with("constexpr_lut"));
            let wide = window.strides.iter().any(|&stride| stride > 2);
            (palette && wide).then(|| format!("has a palette and strides of {}", by(&window.strides)))
        }),
    },
    Rule {
        id: "ANE030",
        name: "large-kernel",
        title: "Large kernels are slow",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "The Neural Engine is made for windows of up to 8.",
        advice: "split the kernel: 9 is 5 and then 5",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "A convolution of 9 x 9 is slow; two of 5 x 5 see as much.",
        find: Find::Op(|subject, op| {
            let window = subject.graph.window(op).filter(|window| !window.pools)?;
            // A patch embedding moves by its kernel and is a matrix product.
            let overlaps = window.kernel.iter().zip(&window.strides).any(|(kernel, stride)| kernel > stride);
            let largest = *window.kernel.iter().max()?;
            let slow = (LARGE_KERNEL..=LARGEST_KERNEL).contains(&largest) && overlaps;
            slow.then(|| format!("has a kernel of {}", by(&window.kernel)))
        }),
    },
    Rule {
        id: "ANE031",
        name: "huge-kernel",
        title: "Very large kernels may leave the Neural Engine",
        effect: Effect::Doubtful,
        confidence: Confidence::C,
        reason: "Kernels above 16 in convolutions and above 13 in poolings were refused.",
        advice: "split the kernel, or reduce along the axes instead of pooling",
        source: "ironmill (convolutions); hollance/neural-engine (poolings)",
        example: "Average pooling of 14 x 14 over all of a plane is reduce_mean.",
        find: Find::Op(|subject, op| {
            let window = subject.graph.window(op)?;
            let limit = if window.pools { LARGEST_POOL } else { LARGEST_KERNEL };
            let largest = *window.kernel.iter().max()?;
            (largest > limit).then(|| format!("has a kernel of {} ({limit} at most)", by(&window.kernel)))
        }),
    },
    Rule {
        id: "ANE032",
        name: "wide-dilation",
        title: "Dilations are fast when they are made of 2 and 3",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "Larger dilations are carried out as larger kernels. An older source says that dilated convolutions leave the \
                 Neural Engine altogether (hollance/neural-engine, confidence C).",
        advice: "write dilations as products of 2 and 3, by space_to_depth before and depth_to_space after",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "A dilation of 8 is slow; three steps of 2 are not.",
        find: Find::Op(|subject, op| {
            let window = subject.graph.window(op)?;
            let widest = *window.dilations.iter().max()?;
            (widest > LARGEST_DILATION).then(|| format!("has dilations of {}", by(&window.dilations)))
        }),
    },
    Rule {
        id: "ANE033",
        name: "pooling-strides",
        title: "Poolings are fast with strides of 2 and 4",
        effect: Effect::Slow,
        confidence: Confidence::A,
        reason: "Strides of 3 and 5 are slow. An older source says that strides above 2 leave the Neural Engine altogether \
                 (hollance/neural-engine, confidence C).",
        advice: "pool by 2 or 4",
        source: "apple/coreai-models, neural_engine_rules.md",
        example: "max_pool with stride 3 is slow; with stride 2 it is not.",
        find: Find::Op(|subject, op| {
            let window = subject.graph.window(op).filter(|window| window.pools)?;
            // A window that does not move has any stride.
            let planes = subject.graph.results(op).next().and_then(|value| value.shape.as_ref());
            let moves = |axis: usize| planes.and_then(|shape| shape.get(axis + 2)).is_none_or(|&size| size > 1);
            let strides = window.strides.iter().enumerate();
            let slow = strides.clone().any(|(axis, stride)| !matches!(stride, 1 | 2 | 4) && moves(axis));
            slow.then(|| format!("has strides of {}", by(&window.strides)))
        }),
    },
    Rule {
        id: "ANE034",
        name: "wide-upsampling",
        title: "Upsampling by more than 2 may leave the Neural Engine",
        effect: Effect::Doubtful,
        confidence: Confidence::C,
        reason: "Factors above 2 were refused by the Neural Engines of Core ML 3's time.",
        advice: "upsample by 2 several times",
        source: "hollance/neural-engine, unsupported layers",
        example: "upsample_bilinear by 4 is two of 2.",
        find: Find::Op(|subject, op| {
            let (rows, columns) = factors(subject, op)?;
            (rows > 2.0 || columns > 2.0).then(|| format!("makes planes {rows} x {columns} times as large"))
        }),
    },
];

fn factors(subject: &Subject<'_>, op: &Op<'_>) -> Option<(f64, f64)> {
    if let Source::Network(layer) = op.source {
        return match &layer.kind {
            LayerKind::Upsample(upsample) => Some((upsample.factors[0].into(), upsample.factors[1].into())),
            _ => None,
        };
    }
    if !op.kind.starts_with("upsample_") && !op.kind.starts_with("resize_") && op.kind != "resize" {
        return None;
    }
    let plane = |shape: &Vec<usize>| match shape[..] {
        [.., rows, columns] if shape.len() >= 3 && rows > 0 && columns > 0 => Some([rows as f64, columns as f64]),
        _ => None,
    };
    let before = plane(subject.graph.operand(op, "x", 0)?.shape.as_ref()?)?;
    let after = plane(subject.graph.results(op).next()?.shape.as_ref()?)?;
    Some((after[0] / before[0], after[1] / before[1]))
}

fn by(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}
