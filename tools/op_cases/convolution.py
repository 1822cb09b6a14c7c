"""Convolutions and pooling."""

import math
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .case import case, const, given, integers, normal, uniform


def spatial_padding(
    size: int, kernel: int, stride: int, pad_type: str, custom: tuple[int, int]
) -> tuple[int, int]:
    """Padding before and after one dimension, for a kernel that is already dilated."""
    if pad_type == "custom":
        return custom
    if pad_type == "valid":
        return 0, 0
    # The documentation also has a formula without the stride. It contradicts its own output size for strides
    # above one; TensorFlow's rule fits both.
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    less, more = total // 2, total - total // 2
    return (more, less) if pad_type == "same_lower" else (less, more)


def pairs(pad: list[int] | None, count: int) -> list[tuple[int, int]]:
    pad = [0] * (2 * count) if pad is None else pad
    return list(zip(pad[0::2], pad[1::2]))


def conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1):
    rank = x.ndim - 2
    strides = strides or [1] * rank
    dilations = dilations or [1] * rank
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations)]
    padding = [
        spatial_padding(size, k, s, pad_type, custom)
        for size, k, s, custom in zip(x.shape[2:], kernel, strides, pairs(pad, rank))
    ]
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    windows = sliding_window_view(x, kernel, axis=tuple(range(2, x.ndim)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    taps = tuple(slice(None, None, d) for d in dilations)
    windows = windows[steps + taps]

    n, channels, out = x.shape[0], x.shape[1], weight.shape[0]
    sizes = windows.shape[2 : 2 + rank]
    result = np.empty((n, out, *sizes))
    for g in range(groups):
        inputs = slice(g * channels // groups, (g + 1) * channels // groups)
        outputs = slice(g * out // groups, (g + 1) * out // groups)
        contracted = [1, *range(2 + rank, 2 + 2 * rank)]
        part = np.tensordot(windows[:, inputs], weight[outputs], (contracted, range(1, 2 + rank)))
        result[:, outputs] = np.moveaxis(part, -1, 1)
    if bias is not None:
        result += bias.reshape(1, -1, *[1] * rank)
    return result


def conv_quantized(x, weight, quant_scale, quant_bias, quantization_type="linear", nbits=8, **options):
    spread = (-1, *[1] * (weight.ndim - 1))
    return conv(x, weight * np.reshape(quant_scale, spread) + np.reshape(quant_bias, spread), **options)


def conv_transpose(
    x, weight, bias=None, pad=None, output_shape=None, pad_type="valid", strides=None, dilations=None, groups=1
):
    rank = x.ndim - 2
    strides = strides or [1] * rank
    dilations = dilations or [1] * rank
    n, channels = x.shape[:2]
    per_group = weight.shape[1]
    kernel = weight.shape[2:]
    full = [
        (size - 1) * s + (k - 1) * d + 1 for size, s, k, d in zip(x.shape[2:], strides, kernel, dilations)
    ]
    result = np.zeros((n, per_group * groups, *full))
    for c in range(channels):
        outputs = slice(c * groups // channels * per_group, (c * groups // channels + 1) * per_group)
        for tap in product(*(range(k) for k in kernel)):
            place = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, size, s in zip(tap, dilations, x.shape[2:], strides)
            )
            result[(slice(None), outputs, *place)] += (
                x[:, None, c] * weight[(c, slice(None), *tap)].reshape(1, -1, *[1] * rank)
            )
    if pad_type == "same":
        wanted = output_shape[2:] if output_shape else [n * s for n, s in zip(x.shape[2:], strides)]
        crops = [((f - w) // 2, f - w - (f - w) // 2) for f, w in zip(full, wanted)]
    else:
        crops = pairs(pad if pad_type == "custom" else None, rank)
    result = result[(..., *(slice(a, f - b) for (a, b), f in zip(crops, full)))]
    if bias is not None:
        result += bias.reshape(1, -1, *[1] * rank)
    return result


def pool_windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode):
    """For every output position, the slices of x under its window and the size of the window with padding."""
    rank = x.ndim - 2
    strides = strides or [1] * rank
    axes = []
    for size, k, s, custom in zip(x.shape[2:], kernel_sizes, strides, pairs(pad, rank)):
        before, after = spatial_padding(size, k, s, pad_type, custom)
        room = size + before + after - k
        count = (math.ceil(room / s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= size + before and before + after > 0:
            count -= 1
        axis = []
        for i in range(count):
            start = i * s - before
            covered = slice(max(start, 0), min(start + k, size))
            # As in PyTorch, what ceil_mode adds beyond the padding is never counted.
            axis.append((covered, min(start + k, size + after) - start))
        axes.append(axis)
    return axes


def pool(x, axes, reduce):
    result = np.empty((*x.shape[:2], *(len(axis) for axis in axes)))
    for index in np.ndindex(*result.shape[2:]):
        cells = [axis[i] for axis, i in zip(axes, index)]
        window = x[(..., *(covered for covered, _ in cells))]
        over = tuple(range(2, x.ndim))
        result[(..., *index)] = reduce(window, over, math.prod(padded for _, padded in cells))
    return result


def max_pool(x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    axes = pool_windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return pool(x, axes, lambda window, over, _: window.max(over))


def l2_pool(x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    axes = pool_windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return pool(x, axes, lambda window, over, _: np.sqrt(np.square(window).sum(over)))


def avg_pool(
    x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False, exclude_padding_from_average=False
):
    axes = pool_windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    if exclude_padding_from_average:
        return pool(x, axes, lambda window, over, _: window.mean(over))
    return pool(x, axes, lambda window, over, count: window.sum(over) / count)


IMAGE = normal(2, 3, 7, 6)

CONV = [
    case("conv", "defaults", conv, bare=True, x=normal(1, 3, 6, 5), weight=const(normal(4, 3, 3, 2))),
    case("conv", "bias", conv, x=IMAGE, weight=const(normal(4, 3, 3, 3)), bias=const(normal(4))),
    case("conv", "pointwise", conv, x=IMAGE, weight=const(normal(5, 3, 1, 1)), bias=const(normal(5))),
    case("conv", "strides", conv, x=IMAGE, weight=const(normal(4, 3, 3, 2)), strides=[2, 3], pad_type="valid"),
    case("conv", "dilations", conv, x=IMAGE, weight=const(normal(2, 3, 3, 2)), dilations=[2, 3]),
    case("conv", "custom_asymmetric", conv, x=IMAGE, weight=const(normal(2, 3, 3, 3)),
         pad_type="custom", pad=[2, 0, 1, 3]),
    case("conv", "same_odd_kernel", conv, x=IMAGE, weight=const(normal(2, 3, 3, 5)), pad_type="same"),
    case("conv", "same_even_kernel", conv, x=IMAGE, weight=const(normal(2, 3, 2, 4)), pad_type="same"),
    case("conv", "same_strides", conv, x=IMAGE, weight=const(normal(2, 3, 3, 3)),
         pad_type="same", strides=[2, 2]),
    case("conv", "same_strides_dilations", conv, x=normal(1, 2, 9, 8), weight=const(normal(2, 2, 2, 3)),
         pad_type="same", strides=[2, 1], dilations=[3, 2]),
    case("conv", "same_kernel_below_stride", conv, x=IMAGE, weight=const(normal(2, 3, 1, 2)),
         pad_type="same", strides=[3, 3]),
    case("conv", "same_lower_even_kernel", conv, opset="iOS16", x=IMAGE, weight=const(normal(2, 3, 2, 4)),
         pad_type="same_lower"),
    case("conv", "same_lower_strides", conv, opset="iOS16", x=IMAGE, weight=const(normal(2, 3, 4, 3)),
         pad_type="same_lower", strides=[2, 2]),
    case("conv", "groups", conv, x=normal(2, 4, 5, 5), weight=const(normal(6, 2, 3, 3)),
         bias=const(normal(6)), groups=2),
    case("conv", "depthwise", conv, x=normal(1, 4, 5, 6), weight=const(normal(4, 1, 3, 3)),
         groups=4, pad_type="same", strides=[1, 2]),
    case("conv", "depthwise_multiplier", conv, x=normal(1, 3, 5, 5), weight=const(normal(6, 1, 2, 2)), groups=3),
    case("conv", "conv1d", conv, x=normal(2, 3, 11), weight=const(normal(4, 3, 4)), bias=const(normal(4)),
         strides=[2], pad_type="custom", pad=[3, 1]),
    case("conv", "conv1d_causal", conv, x=normal(1, 2, 9), weight=const(normal(3, 2, 3)),
         dilations=[2], pad_type="custom", pad=[4, 0]),
    case("conv", "conv1d_same", conv, x=normal(1, 2, 10), weight=const(normal(3, 2, 4)),
         pad_type="same", strides=[3]),
    case("conv", "conv3d", conv, x=normal(1, 2, 4, 5, 6), weight=const(normal(3, 2, 2, 3, 2)),
         bias=const(normal(3)), strides=[1, 2, 2], pad_type="custom", pad=[1, 0, 0, 1, 2, 1]),
    case("conv", "conv3d_same", conv, x=normal(1, 1, 4, 5, 3), weight=const(normal(2, 1, 2, 3, 2)),
         pad_type="same", strides=[2, 1, 1]),
    case("conv", "dynamic_weight", conv, x=normal(1, 2, 5, 5), weight=normal(3, 2, 3, 3), pad_type="same"),
    case("conv", "ios17", conv, opset="iOS17", x=IMAGE, weight=const(normal(4, 3, 3, 3)),
         bias=const(normal(4)), strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
    case("conv", "fp16", conv, opset="iOS17", rtol=5e-3, atol=5e-3, x=normal(1, 3, 5, 4, dtype="fp16"),
         weight=const(normal(4, 3, 3, 3, dtype="fp16")), bias=const(normal(4, dtype="fp16"))),
]  # fmt: skip

CONV_TRANSPOSE = [
    case("conv_quantized", "one_scale", conv_quantized, x=IMAGE, weight=const(integers(0, 255, 4, 3, 3, 2, dtype="uint8")),
         quantization_type="linear", quant_scale=np.float32(0.02), quant_bias=np.float32(-2.5), pad_type="same"),
    case("conv_quantized", "channel_scales", conv_quantized, x=IMAGE,
         weight=const(integers(0, 15, 4, 3, 2, 2, dtype="uint8")), quantization_type="linear", nbits=4,
         quant_scale=const(uniform(0.05, 0.2, 4)), quant_bias=const(normal(4)), strides=[2, 1]),
    case("conv_transpose", "defaults", conv_transpose, bare=True, x=normal(1, 3, 4, 5),
         weight=const(normal(3, 2, 3, 2))),
    case("conv_transpose", "bias_strides", conv_transpose, x=normal(2, 3, 3, 4),
         weight=const(normal(3, 2, 3, 3)), bias=const(normal(2)), strides=[2, 3]),
    case("conv_transpose", "custom_asymmetric", conv_transpose, x=normal(1, 2, 4, 4),
         weight=const(normal(2, 3, 4, 3)), strides=[2, 2], pad_type="custom", pad=[1, 2, 0, 1]),
    case("conv_transpose", "same", conv_transpose, x=normal(1, 2, 4, 3),
         weight=const(normal(2, 2, 4, 4)), strides=[2, 2], pad_type="same"),
    # An odd amount is cropped less at the start, as in TensorFlow.
    case("conv_transpose", "same_odd_crop", conv_transpose, x=normal(1, 2, 4, 3),
         weight=const(normal(2, 2, 3, 2)), strides=[2, 1], pad_type="same"),
    case("conv_transpose", "same_output_shape", conv_transpose, x=normal(1, 2, 4, 4),
         weight=const(normal(2, 3, 4, 3)), strides=[2, 2], pad_type="same", output_shape=[1, 3, 7, 8]),
    case("conv_transpose", "dilations", conv_transpose, x=normal(1, 2, 3, 4),
         weight=const(normal(2, 2, 3, 2)), dilations=[2, 3], strides=[1, 2]),
    case("conv_transpose", "groups", conv_transpose, x=normal(1, 4, 3, 3),
         weight=const(normal(4, 3, 2, 2)), bias=const(normal(6)), groups=2, strides=[2, 2]),
    case("conv_transpose", "depthwise", conv_transpose, x=normal(1, 3, 4, 3),
         weight=const(normal(3, 1, 3, 3)), groups=3, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
    case("conv_transpose", "conv1d", conv_transpose, x=normal(2, 3, 5),
         weight=const(normal(3, 2, 4)), bias=const(normal(2)), strides=[3], pad_type="custom", pad=[1, 2]),
    case("conv_transpose", "conv3d", conv_transpose, x=normal(1, 2, 2, 3, 2),
         weight=const(normal(2, 2, 2, 3, 2)), strides=[2, 1, 2], pad_type="custom", pad=[0, 1, 1, 1, 0, 0]),
    case("conv_transpose", "ios17", conv_transpose, opset="iOS17", x=normal(1, 2, 4, 4),
         weight=const(normal(2, 3, 2, 2)), bias=const(normal(3)), strides=[2, 2]),
]  # fmt: skip

POOL = [
    case("max_pool", "defaults", max_pool, bare=True, x=IMAGE, kernel_sizes=[2, 3], pad_type="valid"),
    case("max_pool", "strides", max_pool, x=IMAGE, kernel_sizes=[3, 2], strides=[2, 3], pad_type="valid"),
    # All values are negative: padding must never win.
    case("max_pool", "custom_asymmetric", max_pool, x=given(-np.arange(1.0, 43).reshape(1, 1, 7, 6)),
         kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 0, 0, 2]),
    case("max_pool", "same", max_pool, x=IMAGE, kernel_sizes=[3, 2], strides=[2, 2], pad_type="same"),
    case("max_pool", "same_stride_1", max_pool, x=IMAGE, kernel_sizes=[5, 4], pad_type="same"),
    case("max_pool", "same_lower", max_pool, opset="iOS16", x=IMAGE, kernel_sizes=[2, 3], strides=[1, 2],
         pad_type="same_lower"),
    case("max_pool", "ceil_mode", max_pool, x=IMAGE, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
         pad=[1, 1, 1, 1], ceil_mode=True),
    case("max_pool", "ceil_mode_drops_last", max_pool, x=normal(1, 2, 5, 5), kernel_sizes=[2, 2],
         strides=[3, 3], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True),
    case("max_pool", "ceil_mode_valid", max_pool, x=normal(1, 2, 6, 7), kernel_sizes=[3, 2], strides=[2, 2],
         pad_type="valid", ceil_mode=True),
    case("max_pool", "pool1d", max_pool, x=normal(2, 3, 9), kernel_sizes=[4], strides=[2], pad_type="custom",
         pad=[2, 1]),
    case("max_pool", "pool3d", max_pool, x=normal(1, 2, 4, 5, 6), kernel_sizes=[2, 3, 2], strides=[2, 1, 2],
         pad_type="custom", pad=[1, 0, 1, 1, 0, 0]),
    case("avg_pool", "defaults", avg_pool, bare=True, x=IMAGE, kernel_sizes=[2, 3], pad_type="valid"),
    case("avg_pool", "strides", avg_pool, x=IMAGE, kernel_sizes=[3, 2], strides=[2, 3], pad_type="valid"),
    case("avg_pool", "custom_counts_padding", avg_pool, x=IMAGE, kernel_sizes=[3, 3], strides=[2, 2],
         pad_type="custom", pad=[1, 0, 0, 2]),
    case("avg_pool", "custom_excludes_padding", avg_pool, x=IMAGE, kernel_sizes=[3, 3], strides=[2, 2],
         pad_type="custom", pad=[1, 0, 0, 2], exclude_padding_from_average=True),
    case("avg_pool", "same_counts_padding", avg_pool, x=IMAGE, kernel_sizes=[3, 2], strides=[2, 1],
         pad_type="same", exclude_padding_from_average=False),
    case("avg_pool", "same_excludes_padding", avg_pool, x=IMAGE, kernel_sizes=[3, 2], strides=[2, 1],
         pad_type="same", exclude_padding_from_average=True),
    case("avg_pool", "same_lower", avg_pool, opset="iOS16", x=IMAGE, kernel_sizes=[2, 4],
         pad_type="same_lower", exclude_padding_from_average=True),
    case("avg_pool", "ceil_mode", avg_pool, x=IMAGE, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
         pad=[1, 1, 1, 1], ceil_mode=True),
    case("avg_pool", "ceil_mode_excludes_padding", avg_pool, x=IMAGE, kernel_sizes=[3, 3], strides=[2, 2],
         pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True, exclude_padding_from_average=True),
    case("avg_pool", "ceil_mode_valid", avg_pool, x=normal(1, 2, 6, 7), kernel_sizes=[3, 2], strides=[2, 2],
         pad_type="valid", ceil_mode=True),
    case("avg_pool", "pool1d", avg_pool, x=normal(2, 3, 9), kernel_sizes=[4], strides=[3], pad_type="custom",
         pad=[2, 1], exclude_padding_from_average=True),
    case("avg_pool", "pool3d", avg_pool, x=normal(1, 2, 4, 5, 6), kernel_sizes=[2, 3, 2], strides=[2, 1, 2],
         pad_type="custom", pad=[1, 0, 1, 1, 0, 0]),
    case("l2_pool", "valid", l2_pool, x=IMAGE, kernel_sizes=[2, 3], strides=[2, 2], pad_type="valid"),
    case("l2_pool", "custom", l2_pool, x=IMAGE, kernel_sizes=[3, 3], strides=[1, 2], pad_type="custom",
         pad=[1, 0, 2, 1]),
    case("l2_pool", "pool1d", l2_pool, x=normal(1, 2, 8), kernel_sizes=[3], strides=[2], pad_type="same"),
]  # fmt: skip

CASES = CONV + CONV_TRANSPOSE + POOL
