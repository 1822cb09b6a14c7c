"""Convolutions and poolings of three dimensions."""

from typing import Any

import numpy as np
from op_cases.convolution import avg_pool, conv, conv_transpose, max_pool

from .network import Network, case

SIDES = ("Depth", "Height", "Width")
# In the order of the fields: front, back, top, bottom, left, right.
EDGES = ("Front", "Back", "Top", "Bottom", "Left", "Right")
PADDING = {"custom": 0, "valid": 1, "same": 2}


def sizes(what: str, numbers: Any) -> dict[str, int]:
    return {f"{what}{side}": number for side, number in zip(SIDES, numbers)}


def padded(kind: str, amounts: list[int] | None) -> dict[str, int]:
    """Amounts are there and count for nothing where the padding is of another kind."""
    given = [1] * 6 if amounts is None else amounts
    return {"paddingType": PADDING[kind]} | {f"customPadding{edge}": n for edge, n in zip(EDGES, given)}


def add_convolution(
    net: Network, weight: np.ndarray, bias: np.ndarray | None, inputs: int, outputs: int, **options: Any
) -> Any:
    fields = sizes("kernel", weight.shape[2:]) | sizes("stride", options.get("strides", [1] * 3))
    fields |= sizes("dilation", options.get("dilations", [1] * 3))
    fields |= padded(options.get("pad_type", "valid"), options.get("pad"))
    fields |= {"hasBias": bias is not None} | ({} if bias is None else {"bias": bias})
    fields |= {"inputChannels": inputs, "outputChannels": outputs, "nGroups": options.get("groups", 1)}
    return net.add("convolution3d", "x", weights=weight, **fields)


def convolution(name: str, kernel: tuple[int, ...] = (2, 3, 2), bias: bool = False, **options: Any) -> None:
    @case("convolution3d", name)
    def _(net: Network):
        groups = options.get("groups", 1)
        x, w = net.array(2, 2 * groups, 5, 4, 6), net.normal(2 * groups, 2, *kernel)
        b = net.normal(2 * groups) if bias else None
        add_convolution(net, w, b, 2 * groups, 2 * groups, **options)
        return conv(x, w, b, **options)


convolution("plain")
convolution("bias", bias=True)
convolution("strides", strides=[2, 1, 3])
convolution("dilations", dilations=[2, 1, 3])
convolution("padding", pad_type="custom", pad=[1, 0, 2, 1, 0, 3])
convolution("same", pad_type="same")
convolution("same_strides", pad_type="same", strides=[2, 3, 2], kernel=(3, 4, 3))
convolution("groups", groups=2, bias=True)


@case("convolution3d", "float16")
def _(net: Network):
    x, w = net.array(1, 2, 3, 4, 3), net.normal(3, 2, 2, 2, 2)
    layer = add_convolution(net, w, None, 2, 3)
    return conv(x, net.half(layer.weights, w))


@case("convolution3d", "linear_8_bits")
def _(net: Network):
    x, w = net.array(1, 2, 3, 4, 3), net.normal(3, 2, 2, 2, 2)
    layer = add_convolution(net, w, None, 2, 3)
    return conv(x, net.linear(layer.weights, w.shape, 8, 0))


def deconvolution(name: str, bias: bool = False, output_shape: list[int] | None = None, **options: Any) -> None:
    @case("convolution3d", f"deconvolution_{name}")
    def _(net: Network):
        groups = options.get("groups", 1)
        x, w = net.array(1, 2 * groups, 3, 2, 4), net.normal(2 * groups, 3, 2, 3, 2)
        b = net.normal(3 * groups) if bias else None
        layer = add_convolution(net, w, b, 2 * groups, 3 * groups, **options)
        layer.isDeconvolution = True
        layer.outputShape.extend(output_shape or [])
        whole = None if output_shape is None else [1, 3 * groups, *output_shape]
        return conv_transpose(x, w, b, output_shape=whole, **options)


deconvolution("plain")
deconvolution("bias", bias=True)
deconvolution("strides", strides=[2, 1, 3])
deconvolution("dilations", dilations=[1, 2, 3])
deconvolution("padding", pad_type="custom", pad=[1, 0, 0, 1, 2, 0])
deconvolution("same", pad_type="same", strides=[2, 1, 2])
deconvolution("output_shape", pad_type="same", strides=[2, 2, 2], output_shape=[5, 4, 7])
deconvolution("groups", groups=2, strides=[2, 2, 2])

KINDS = {"max": (0, max_pool), "average": (1, avg_pool)}


def pooling(kind: str, name: str, kernel: tuple[int, ...] = (2, 3, 2), **options: Any) -> None:
    number, of = KINDS[kind]

    @case("pooling3d", f"{kind}_{name}")
    def _(net: Network):
        # All values are negative: padding must never win.
        x = net.given(net.rng.uniform(-3, -1, (2, 2, 5, 4, 6)))
        fields = sizes("kernel", kernel) | sizes("stride", options.get("strides", [1] * 3))
        fields |= padded(options.get("pad_type", "valid"), options.get("pad"))
        fields["countExcludePadding"] = options.get("exclude_padding_from_average", False)
        net.add("pooling3d", "x", type=number, **fields)
        return of(x, list(kernel), **{"pad_type": "valid", **options})


for kind in KINDS:
    pooling(kind, "valid")
    pooling(kind, "strides", strides=[2, 1, 3])
    pooling(kind, "padding", kernel=(3, 3, 4), pad_type="custom", pad=[1, 0, 2, 1, 0, 3], strides=[1, 2, 2])
    pooling(kind, "same", pad_type="same", strides=[2, 2, 2])
EXCLUDING = {"exclude_padding_from_average": True}
pooling("average", "same_excludes_padding", pad_type="same", **EXCLUDING)
pooling("average", "padding_excluded", kernel=(3, 3, 4), pad_type="custom", pad=[1, 0, 2, 1, 0, 3], **EXCLUDING)


def pooled(kind: str, number: int, of: Any) -> None:
    @case("globalPooling3d", kind)
    def _(net: Network):
        x = net.array(2, 3, 2, 3, 4)
        net.add("globalPooling3d", "x", type=number)
        return of(x, (2, 3, 4), keepdims=True)


pooled("max", 0, np.max)
pooled("average", 1, np.mean)
