"""Convolutions and deconvolutions, with every way to store their weights."""

import numpy as np
from op_cases.convolution import conv, conv_transpose

from .network import Network, case


def add(net: Network, weight: np.ndarray, bias: np.ndarray | None = None, **options):
    """Adds a convolution whose weight is [output, input, height, width], as the format has it."""
    names = options.pop("input_name", "x")
    outputs = options.pop("output_channels", weight.shape[0])
    return net.builder.add_convolution(
        name="conv",
        kernel_channels=options.pop("kernel_channels", weight.shape[1]),
        output_channels=outputs,
        height=weight.shape[2],
        width=weight.shape[3],
        stride_height=options.pop("stride", (1, 1))[0],
        stride_width=options.pop("stride_width", 1),
        border_mode=options.pop("border_mode", "valid"),
        groups=options.pop("groups", 1),
        W=weight.transpose(2, 3, 1, 0),
        b=bias,
        has_bias=bias is not None,
        input_name=names,
        output_name="out",
        **options,
    )


@case("convolution", "bias")
def _(net: Network):
    x, w, b = net.array(2, 3, 6, 5), net.normal(4, 3, 3, 2), net.normal(4)
    add(net, w, b)
    return conv(x, w, b)


@case("convolution", "defaults")
def _(net: Network):
    x, w = net.array(1, 2, 5, 6), net.normal(3, 2, 3, 3)
    add(net, w)
    for unset in ("kernelSize", "stride", "dilationFactor", "nGroups"):
        net.layer.ClearField(unset)
    net.layer.valid.Clear()
    return conv(x, w)


@case("convolution", "strides")
def _(net: Network):
    x, w = net.array(1, 2, 8, 9), net.normal(3, 2, 3, 2)
    add(net, w, stride=(2, 3), stride_width=3)
    return conv(x, w, strides=[2, 3])


@case("convolution", "dilations")
def _(net: Network):
    x, w = net.array(1, 2, 8, 9), net.normal(3, 2, 3, 2)
    add(net, w, dilation_factors=[2, 3])
    return conv(x, w, dilations=[2, 3])


@case("convolution", "padding")
def _(net: Network):
    x, w = net.array(1, 2, 4, 5), net.normal(3, 2, 3, 3)
    add(net, w, padding_top=2, padding_bottom=0, padding_left=1, padding_right=3)
    return conv(x, w, pad_type="custom", pad=[2, 0, 1, 3])


@case("convolution", "same")
def _(net: Network):
    x, w = net.array(1, 2, 7, 6), net.normal(3, 2, 4, 3)
    add(net, w, border_mode="same", stride=(2, 2), stride_width=2)
    return conv(x, w, pad_type="same", strides=[2, 2])


@case("convolution", "same_top_left_heavy")
def _(net: Network):
    x, w = net.array(1, 2, 7, 6), net.normal(3, 2, 4, 3)
    add(net, w, border_mode="same", same_padding_asymmetry_mode="TOP_LEFT_HEAVY", stride=(1, 2), stride_width=2)
    return conv(x, w, pad_type="same_lower", strides=[1, 2])


@case("convolution", "same_dilations")
def _(net: Network):
    x, w = net.array(1, 2, 7, 6), net.normal(2, 2, 2, 3)
    add(net, w, border_mode="same", dilation_factors=[3, 2])
    return conv(x, w, pad_type="same", dilations=[3, 2])


@case("convolution", "groups")
def _(net: Network):
    x, w, b = net.array(2, 4, 5, 5), net.normal(6, 2, 3, 3), net.normal(6)
    add(net, w, b, groups=2)
    return conv(x, w, b, groups=2)


@case("convolution", "depthwise")
def _(net: Network):
    x, w = net.array(1, 3, 5, 5), net.normal(6, 1, 3, 3)
    add(net, w, groups=3, border_mode="same")
    return conv(x, w, groups=3, pad_type="same")


@case("convolution", "rank5")
def _(net: Network):
    x, w, b = net.array(2, 3, 2, 4, 5), net.normal(4, 2, 2, 2), net.normal(4)
    add(net, w, b)
    return conv(x.reshape(6, 2, 4, 5), w, b).reshape(2, 3, 4, 3, 4)


@case("convolution", "legacy", legacy=True)
def _(net: Network):
    x, w, b = net.array(2, 5, 4), net.normal(3, 2, 3, 3), net.normal(3)
    add(net, w, b)
    return conv(x[None], w, b)[0]


@case("convolution", "weight_from_input")
def _(net: Network):
    x, w = net.array(1, 3, 5, 5), net.array(4, 3, 3, 2, name="w")
    add(net, w, input_name=["x", "w"])
    return conv(x, w)


@case("convolution", "flexible_size")
def _(net: Network):
    x, w = net.array(1, 2, 7, 6), net.normal(3, 2, 3, 2)
    add(net, w, border_mode="same", stride=(2, 2), stride_width=2)
    ranges = net.spec.description.input[0].type.multiArrayType.shapeRange
    for lower, upper in [(1, 4), (2, 2), (5, 20), (5, -1)]:
        ranges.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return conv(x, w, pad_type="same", strides=[2, 2])


@case("convolution", "float16")
def _(net: Network):
    x, w, b = net.array(1, 2, 5, 4), net.normal(3, 2, 3, 3), net.normal(3)
    add(net, w, b)
    return conv(x, net.half(net.layer.weights, w), net.half(net.layer.bias, b))


@case("convolution", "quantized_bias")
def _(net: Network):
    x, w, b = net.array(1, 2, 5, 4), net.normal(3, 2, 3, 3), net.normal(3)
    add(net, w, b)
    return conv(x, net.linear(net.layer.weights, w.shape, 8, None), net.linear(net.layer.bias, b.shape, 8, None))


def quantized(bits: int, how: str) -> None:
    @case("convolution", f"{how}_{bits}_bits")
    def _(net: Network):
        x, w = net.array(1, 3, 5, 4), net.normal(4, 3, 3, 3)
        add(net, w)
        weights = net.layer.weights
        axis = None if bits % 2 else 0
        w = net.table(weights, w.shape, bits) if how == "table" else net.linear(weights, w.shape, bits, axis)
        return conv(x, w)


for bits in range(1, 9):
    quantized(bits, "linear")
    quantized(bits, "table")


# --- deconvolutions ---------------------------------------------------------------------------------


def add_transposed(net: Network, weight: np.ndarray, bias: np.ndarray | None = None, groups: int = 1, **options):
    """Adds a deconvolution whose weight is [input, output / groups, height, width], as the format has it."""
    net.builder.add_convolution(
        name="deconv",
        kernel_channels=weight.shape[0],
        output_channels=weight.shape[1] * groups,
        height=weight.shape[2],
        width=weight.shape[3],
        stride_height=options.pop("stride", (2, 2))[0],
        stride_width=options.pop("stride_width", 2),
        border_mode=options.pop("border_mode", "valid"),
        groups=groups,
        W=weight.transpose(2, 3, 0, 1),
        b=bias,
        has_bias=bias is not None,
        is_deconv=True,
        input_name="x",
        output_name="out",
        **options,
    )


@case("convolution", "deconvolution")
def _(net: Network):
    x, w, b = net.array(2, 3, 4, 3), net.normal(3, 2, 3, 2), net.normal(2)
    add_transposed(net, w, b)
    return conv_transpose(x, w, b, strides=[2, 2])


@case("convolution", "deconvolution_padding")
def _(net: Network):
    x, w = net.array(1, 2, 4, 5), net.normal(2, 3, 3, 4)
    add_transposed(net, w, padding_top=1, padding_bottom=2, padding_left=0, padding_right=1)
    return conv_transpose(x, w, strides=[2, 2], pad_type="custom", pad=[1, 2, 0, 1])


@case("convolution", "deconvolution_same")
def _(net: Network):
    x, w = net.array(1, 2, 4, 3), net.normal(2, 2, 3, 5)
    add_transposed(net, w, border_mode="same")
    return conv_transpose(x, w, strides=[2, 2], pad_type="same")


@case("convolution", "deconvolution_same_top_left_heavy")
def _(net: Network):
    x, w = net.array(1, 2, 4, 3), net.normal(2, 2, 3, 5)
    add_transposed(net, w, border_mode="same", same_padding_asymmetry_mode="TOP_LEFT_HEAVY")
    whole = conv_transpose(x, w, strides=[2, 2])  # 9 x 9; 8 x 6 are left.
    return whole[:, :, 1:9, 2:8]


@case("convolution", "deconvolution_output_shape")
def _(net: Network):
    x, w = net.array(1, 2, 4, 4), net.normal(2, 3, 4, 3)
    add_transposed(net, w, border_mode="same", output_shape=(7, 8))
    return conv_transpose(x, w, strides=[2, 2], pad_type="same", output_shape=[1, 3, 7, 8])


@case("convolution", "deconvolution_output_shape_padding")
def _(net: Network):
    # coremltools writes the output shape along with the padding that leads to it.
    x, w = net.array(1, 2, 4, 4), net.normal(2, 3, 4, 3)
    padding = {"padding_top": 0, "padding_bottom": 2, "padding_left": 1, "padding_right": 0}
    add_transposed(net, w, output_shape=(8, 8), **padding)
    return conv_transpose(x, w, strides=[2, 2], pad_type="custom", pad=[0, 2, 1, 0])


@case("convolution", "deconvolution_output_shape_beyond")
def _(net: Network):
    x, w, b = net.array(1, 2, 3, 3), net.normal(2, 2, 2, 2), net.normal(2)
    add_transposed(net, w, b, stride=(3, 3), stride_width=3, output_shape=(9, 8))
    whole = conv_transpose(x, w, strides=[3, 3])  # 8 x 8
    return np.pad(whole, [(0, 0), (0, 0), (0, 1), (0, 0)]) + b.reshape(1, 2, 1, 1)


@case("convolution", "deconvolution_groups")
def _(net: Network):
    x, w, b = net.array(1, 4, 3, 3), net.normal(4, 3, 2, 2), net.normal(6)
    add_transposed(net, w, b, groups=2)
    return conv_transpose(x, w, b, strides=[2, 2], groups=2)


@case("convolution", "deconvolution_dilations")
def _(net: Network):
    x, w = net.array(1, 2, 3, 4), net.normal(2, 2, 3, 2)
    add_transposed(net, w, stride=(1, 2), dilation_factors=[2, 3])
    return conv_transpose(x, w, strides=[1, 2], dilations=[2, 3])


@case("convolution", "deconvolution_legacy", legacy=True)
def _(net: Network):
    x, w = net.array(2, 3, 3), net.normal(2, 2, 3, 3)
    add_transposed(net, w)
    return conv_transpose(x[None], w, strides=[2, 2])[0]


@case("convolution", "deconvolution_linear_6_bits")
def _(net: Network):
    x, w = net.array(1, 2, 3, 3), net.normal(2, 3, 2, 2)
    add_transposed(net, w)
    return conv_transpose(x, net.linear(net.layer.weights, w.shape, 6, 1), strides=[2, 2])


@case("convolution", "deconvolution_table_3_bits")
def _(net: Network):
    x, w = net.array(1, 2, 3, 3), net.normal(2, 3, 2, 2)
    add_transposed(net, w)
    return conv_transpose(x, net.table(net.layer.weights, w.shape, 3), strides=[2, 2])
