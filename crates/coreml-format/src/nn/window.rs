//! Reads convolutions and poolings.

use bytes::Bytes;

use super::{
    Convolution, Padding, Pooling, PoolingKind, Weight,
    weight::{count, optional_weight, read_weight},
};
use crate::{DType, Tensor, pb::nn as message};

/// `inputs` counts the layer's inputs.
pub(super) fn convolution(params: message::Convolution, inputs: usize) -> Result<Convolution<2>, String> {
    let message::Convolution { kernel_size, stride, dilation_factor, padding, output_shape, .. } = params;
    let sizes = Sizes {
        output_channels: params.output_channels,
        kernel_channels: params.kernel_channels,
        groups: params.n_groups.max(1),
        kernel_size: pair(kernel_size, 3, "kernelSize")?,
        is_deconvolution: params.is_deconvolution,
    };
    let padding = match padding {
        None => Padding::Valid([[0; 2]; 2]),
        Some(message::ConvolutionPadding::Valid(valid)) => valid_padding(valid)?,
        Some(message::ConvolutionPadding::Same(same)) => same_padding(same)?,
    };
    let (stride, dilation) = (pair(stride, 1, "stride")?, pair(dilation_factor, 1, "dilationFactor")?);
    // Since specification 4 a second input may bring the weights.
    let weights = if inputs < 2 { Some(params.weights) } else { None };
    let bias = params.has_bias.then_some(params.bias);
    sizes.read([stride, dilation], padding, output_shape, weights, bias)
}

pub(super) fn convolution_3d(params: message::Convolution3d) -> Result<Convolution<3>, String> {
    let kernel_channels = match params.is_deconvolution {
        true => params.input_channels,
        false => params.input_channels / params.n_groups.max(1),
    };
    let sizes = Sizes {
        output_channels: positive(params.output_channels, "outputChannels")?,
        kernel_channels: positive(kernel_channels, "the number of input channels of a group")?,
        groups: params.n_groups.max(1) as u64,
        kernel_size: triple([params.kernel_depth, params.kernel_height, params.kernel_width], "kernel")?,
        is_deconvolution: params.is_deconvolution,
    };
    let stride = triple([params.stride_depth, params.stride_height, params.stride_width], "stride")?;
    let dilation = triple([params.dilation_depth, params.dilation_height, params.dilation_width], "dilation")?;
    let custom = [
        [params.custom_padding_front, params.custom_padding_back],
        [params.custom_padding_top, params.custom_padding_bottom],
        [params.custom_padding_left, params.custom_padding_right],
    ];
    let padding = padding_3d(params.padding_type, custom)?;
    let bias = params.has_bias.then_some(params.bias);
    sizes.read([stride, dilation], padding, params.output_shape, Some(params.weights), bias)
}

/// What a convolution's weights depend on.
struct Sizes<const N: usize> {
    output_channels: u64,
    kernel_channels: u64,
    groups: u64,
    kernel_size: [u64; N],
    is_deconvolution: bool,
}

impl<const N: usize> Sizes<N> {
    /// With weights where no input brings them, and a bias where there is one.
    fn read(
        self,
        [stride, dilation]: [[u64; N]; 2],
        padding: Padding<N>,
        output_shape: Vec<u64>,
        weights: Option<Option<message::WeightParams>>,
        bias: Option<Option<message::WeightParams>>,
    ) -> Result<Convolution<N>, String> {
        let Sizes { output_channels: outputs, kernel_channels, groups, kernel_size, is_deconvolution } = self;
        if outputs % groups != 0 {
            return Err(format!("its {outputs} output channels can't be divided into {groups} groups"));
        }
        let first = match is_deconvolution {
            false => [outputs, kernel_channels],
            true => [kernel_channels, outputs / groups],
        };
        let scales = if is_deconvolution { outputs / groups } else { outputs };
        let weights = match weights {
            Some(weights) => {
                read_weight(weights, count(&[&first[..], &kernel_size[..]].concat())?.with_scales(scales), "weights")?
            }
            None => none(),
        };
        if !output_shape.is_empty() && output_shape.len() != N {
            return Err(format!("outputShape has {} sizes; expected {N}", output_shape.len()));
        }
        Ok(Convolution {
            output_channels: outputs,
            kernel_channels,
            groups,
            kernel_size,
            stride,
            dilation,
            padding,
            is_deconvolution,
            output_shape,
            weights,
            bias: optional_weight(bias.is_some(), bias.flatten(), count(&[outputs])?, "bias")?,
        })
    }
}

/// A weight without elements.
fn none() -> Weight {
    Weight::Float(Tensor::new(DType::Float32, vec![0], Bytes::new()).expect("no element takes no byte"))
}

pub(super) fn pooling(params: message::Pooling) -> Result<Pooling<2>, String> {
    let padding = match params.padding {
        None => Padding::Valid([[0; 2]; 2]),
        Some(message::PoolingPadding::Valid(valid)) => valid_padding(valid)?,
        Some(message::PoolingPadding::Same(same)) => same_padding(same)?,
        Some(message::PoolingPadding::IncludeLastPixel(complete)) => match complete.padding_amounts[..] {
            [] => Padding::IncludeLastPixel([0; 2]),
            [height, width] => Padding::IncludeLastPixel([height, width]),
            ref other => return Err(format!("has padding amounts {other:?}; expected height and width")),
        },
    };
    // Writers leave zeros where the whole plane is pooled.
    let (kernel_size, stride) = match params.global_pooling {
        true => ([1; 2], [1; 2]),
        false => (pair(params.kernel_size, 3, "kernelSize")?, pair(params.stride, 1, "stride")?),
    };
    Ok(Pooling {
        kind: pooling_kind(params.r#type)?,
        kernel_size,
        stride,
        padding,
        average_excludes_padding: params.avg_pool_exclude_padding,
        global: params.global_pooling,
    })
}

pub(super) fn pooling_3d(params: message::Pooling3d) -> Result<Pooling<3>, String> {
    let custom = [
        [params.custom_padding_front, params.custom_padding_back],
        [params.custom_padding_top, params.custom_padding_bottom],
        [params.custom_padding_left, params.custom_padding_right],
    ];
    Ok(Pooling {
        kind: pooling_3d_kind(params.r#type)?,
        kernel_size: triple([params.kernel_depth, params.kernel_height, params.kernel_width], "kernel")?,
        stride: triple([params.stride_depth, params.stride_height, params.stride_width], "stride")?,
        padding: padding_3d(params.padding_type, custom)?,
        average_excludes_padding: params.count_exclude_padding,
        global: false,
    })
}

pub(super) fn global_pooling_3d(params: message::Mode) -> Result<Pooling<3>, String> {
    Ok(Pooling {
        kind: pooling_3d_kind(params.mode)?,
        kernel_size: [1; 3],
        stride: [1; 3],
        padding: Padding::Valid([[0; 2]; 3]),
        average_excludes_padding: false,
        global: true,
    })
}

fn pooling_kind(kind: i32) -> Result<PoolingKind, String> {
    match kind {
        0 => Ok(PoolingKind::Max),
        1 => Ok(PoolingKind::Average),
        2 => Ok(PoolingKind::L2),
        other => Err(format!("has unknown pooling type {other}")),
    }
}

fn pooling_3d_kind(kind: i32) -> Result<PoolingKind, String> {
    match pooling_kind(kind)? {
        PoolingKind::L2 => Err(format!("has unknown pooling type {kind}")),
        known => Ok(known),
    }
}

/// Two sizes, height and width; `default` each where none is given. None is 0.
pub(super) fn pair(sizes: Vec<u64>, default: u64, what: &str) -> Result<[u64; 2], String> {
    match sizes[..] {
        [] => Ok([default; 2]),
        [height, width] if height > 0 && width > 0 => Ok([height, width]),
        _ => Err(format!("{what} is {sizes:?}; expected height and width, each at least 1")),
    }
}

fn triple(sizes: [i32; 3], what: &str) -> Result<[u64; 3], String> {
    match sizes.map(u64::try_from) {
        [Ok(depth @ 1..), Ok(height @ 1..), Ok(width @ 1..)] => Ok([depth, height, width]),
        _ => Err(format!("{what} is {sizes:?}; expected depth, height and width, each at least 1")),
    }
}

fn positive(value: i32, what: &str) -> Result<u64, String> {
    u64::try_from(value).ok().filter(|&v| v > 0).ok_or_else(|| format!("{what} is {value}; expected at least 1"))
}

fn padding_3d(kind: i32, custom: [[i32; 2]; 3]) -> Result<Padding<3>, String> {
    match kind {
        0 => {
            let mut amounts = [[0; 2]; 3];
            for (to, from) in amounts.iter_mut().flatten().zip(custom.iter().flatten()) {
                *to = u64::try_from(*from).map_err(|_| format!("has a padding of {from}"))?;
            }
            Ok(Padding::Valid(amounts))
        }
        1 => Ok(Padding::Valid([[0; 2]; 3])),
        2 => Ok(Padding::Same { top_left: false }),
        other => Err(format!("has unknown padding type {other}")),
    }
}

fn valid_padding(valid: message::ValidPadding) -> Result<Padding<2>, String> {
    let [top, bottom, left, right] = borders(valid.padding_amounts)?;
    Ok(Padding::Valid([[top, bottom], [left, right]]))
}

/// Top, bottom, left and right.
pub(super) fn borders(amounts: Option<message::BorderAmounts>) -> Result<[u64; 4], String> {
    match amounts.unwrap_or_default().border_amounts[..] {
        [] => Ok([0; 4]),
        [rows, columns] => {
            Ok([rows.start_edge_size, rows.end_edge_size, columns.start_edge_size, columns.end_edge_size])
        }
        ref other => Err(format!("has border amounts for {} dimensions; expected height and width", other.len())),
    }
}

fn same_padding(same: message::SamePadding) -> Result<Padding<2>, String> {
    match same.asymmetry_mode {
        0 => Ok(Padding::Same { top_left: false }),
        1 => Ok(Padding::Same { top_left: true }),
        other => Err(format!("has unknown padding mode {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(read: Result<T, String>, expected: &str) {
        let shown = read.map_or_else(|error| error, |kind| format!("{kind:?}"));
        assert!(shown.contains(expected), "{shown}");
    }

    fn floats(n: usize) -> Option<message::WeightParams> {
        Some(message::WeightParams { float_value: vec![0; 4 * n].into(), ..Default::default() })
    }

    fn conv() -> message::Convolution {
        message::Convolution { output_channels: 4, kernel_channels: 2, weights: floats(72), ..Default::default() }
    }

    #[test]
    fn convolutions() {
        let defaults =
            "groups: 1, kernel_size: [3, 3], stride: [1, 1], dilation: [1, 1], padding: Valid([[0, 0], [0, 0]])";
        check(convolution(conv(), 1), defaults);
        check(convolution(message::Convolution { weights: None, ..conv() }, 2), "shape: [0]");
        let deconvolution = message::Convolution { is_deconvolution: true, n_groups: 2, weights: floats(36), ..conv() };
        check(convolution(deconvolution, 1), "is_deconvolution: true");
        let biased = message::Convolution { has_bias: true, bias: floats(3), ..conv() };
        check(convolution(biased, 1), "bias: expected 4 values, but 3");
        check(convolution(message::Convolution { n_groups: 3, ..conv() }, 1), "into 3 groups");
        check(convolution(message::Convolution { stride: vec![0, 1], ..conv() }, 1), "stride is [0, 1]");
        check(convolution(message::Convolution { kernel_size: vec![u64::MAX, 2], ..conv() }, 1), "too large");
        check(convolution(message::Convolution { output_shape: vec![1], ..conv() }, 1), "outputShape has 1 sizes");
    }

    #[test]
    fn convolutions_in_three_dimensions() {
        let conv = || message::Convolution3d {
            output_channels: 4,
            input_channels: 2,
            kernel_depth: 1,
            kernel_height: 2,
            kernel_width: 3,
            stride_depth: 1,
            stride_height: 1,
            stride_width: 1,
            dilation_depth: 1,
            dilation_height: 1,
            dilation_width: 1,
            weights: floats(48),
            custom_padding_right: 1,
            ..Default::default()
        };
        check(convolution_3d(conv()), "padding: Valid([[0, 0], [0, 0], [0, 1]])");
        check(convolution_3d(message::Convolution3d { padding_type: 1, ..conv() }), "Valid([[0, 0], [0, 0], [0, 0]])");
        check(convolution_3d(message::Convolution3d { n_groups: 2, weights: floats(24), ..conv() }), "groups: 2");
        check(convolution_3d(message::Convolution3d { kernel_width: -3, ..conv() }), "kernel is [1, 2, -3]");
        check(convolution_3d(message::Convolution3d { output_channels: 0, ..conv() }), "outputChannels is 0");
        check(convolution_3d(message::Convolution3d { custom_padding_top: -1, ..conv() }), "has a padding of -1");
        check(convolution_3d(message::Convolution3d { padding_type: 3, ..conv() }), "unknown padding type 3");
    }

    #[test]
    fn poolings() {
        let empty = || message::Pooling { kernel_size: vec![0, 0], ..Default::default() };
        check(pooling(message::Pooling { global_pooling: true, ..empty() }), "global: true");
        check(pooling(empty()), "kernelSize is [0, 0]");
        check(pooling(message::Pooling { r#type: 7, ..Default::default() }), "unknown pooling type 7");
        check(pooling_3d(message::Pooling3d { r#type: 2, ..Default::default() }), "unknown pooling type 2");
        check(pooling_3d(message::Pooling3d::default()), "kernel is [0, 0, 0]");
        check(global_pooling_3d(message::Mode { mode: 1 }), "kind: Average");
    }
}
