"""Poolings."""

from typing import Any

import numpy as np
from op_cases.convolution import avg_pool, l2_pool, max_pool

from .network import Network, case

KINDS = {"MAX": max_pool, "AVERAGE": avg_pool, "L2": l2_pool}


def add(net: Network, kind: str, kernel: tuple[int, int], stride: tuple[int, int], **options: Any) -> None:
    net.builder.add_pooling(
        name="pool",
        height=kernel[0],
        width=kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
        layer_type=kind,
        padding_type=options.pop("padding_type", "VALID"),
        input_name="x",
        output_name="out",
        **options,
    )


def padded(top: int, bottom: int, left: int, right: int) -> dict[str, int]:
    return {"padding_top": top, "padding_bottom": bottom, "padding_left": left, "padding_right": right}


def with_kind(kind: str) -> None:
    pool, name = KINDS[kind], kind.lower()

    @case("pooling", f"{name}_valid")
    def _(net: Network):
        x = net.array(2, 3, 7, 6)
        add(net, kind, (3, 2), (2, 3))
        return pool(x, [3, 2], "valid", strides=[2, 3])

    @case("pooling", f"{name}_padding")
    def _(net: Network):
        # All values are negative: padding must never win.
        x = net.given(-np.arange(1.0, 43).reshape(1, 1, 7, 6))
        add(net, kind, (3, 3), (2, 2), exclude_pad_area=True, **padded(1, 0, 0, 2))
        options = {"exclude_padding_from_average": True} if kind == "AVERAGE" else {}
        return pool(x, [3, 3], "custom", strides=[2, 2], pad=[1, 0, 0, 2], **options)

    @case("pooling", f"{name}_same")
    def _(net: Network):
        x = net.array(1, 2, 7, 6)
        add(net, kind, (3, 2), (2, 2), padding_type="SAME", exclude_pad_area=False)
        return pool(x, [3, 2], "same", strides=[2, 2])

    @case("pooling", f"{name}_same_top_left_heavy")
    def _(net: Network):
        x = net.array(1, 2, 7, 6)
        options = {"padding_type": "SAME", "same_padding_asymmetry_mode": "TOP_LEFT_HEAVY"}
        add(net, kind, (2, 4), (1, 2), exclude_pad_area=False, **options)
        return pool(x, [2, 4], "same_lower", strides=[1, 2])

    @case("pooling", f"{name}_include_last_pixel")
    def _(net: Network):
        x = net.array(1, 2, 8, 7)
        add(net, kind, (3, 3), (2, 3), padding_type="INCLUDE_LAST_PIXEL", exclude_pad_area=False, **padded(1, 1, 1, 1))
        return pool(x, [3, 3], "custom", strides=[2, 3], pad=[1] * 4, ceil_mode=True)

    @case("pooling", f"{name}_include_last_pixel_without_padding")
    def _(net: Network):
        x = net.array(1, 2, 8, 7)
        add(net, kind, (3, 2), (2, 2), padding_type="INCLUDE_LAST_PIXEL", exclude_pad_area=True)
        options = {"exclude_padding_from_average": True} if kind == "AVERAGE" else {}
        return pool(x, [3, 2], "valid", strides=[2, 2], ceil_mode=True, **options)

    @case("pooling", f"{name}_global")
    def _(net: Network):
        x = net.array(2, 3, 4, 5)
        add(net, kind, (0, 0), (0, 0), is_global=True)
        return pool(x, [4, 5], "valid")

    @case("pooling", f"{name}_global_rank5")
    def _(net: Network):
        x = net.array(2, 2, 3, 4, 5)
        add(net, kind, (0, 0), (0, 0), is_global=True)
        return pool(x.reshape(4, 3, 4, 5), [4, 5], "valid").reshape(2, 2, 3, 1, 1)


for kind in KINDS:
    with_kind(kind)


@case("pooling", "average_counts_padding")
def _(net: Network):
    x = net.array(1, 2, 5, 6)
    add(net, "AVERAGE", (3, 4), (1, 2), exclude_pad_area=False, **padded(2, 1, 0, 3))
    return avg_pool(x, [3, 4], "custom", strides=[1, 2], pad=[2, 1, 0, 3])


@case("pooling", "average_same_excludes_padding")
def _(net: Network):
    x = net.array(1, 2, 5, 6)
    add(net, "AVERAGE", (3, 4), (2, 2), padding_type="SAME", exclude_pad_area=True)
    return avg_pool(x, [3, 4], "same", strides=[2, 2], exclude_padding_from_average=True)


@case("pooling", "average_include_last_pixel_excludes_padding")
def _(net: Network):
    x = net.array(1, 2, 8, 7)
    padding = {"padding_type": "INCLUDE_LAST_PIXEL", **padded(1, 1, 1, 1)}
    add(net, "AVERAGE", (4, 3), (3, 3), exclude_pad_area=True, **padding)
    return avg_pool(
        x, [4, 3], "custom", strides=[3, 3], pad=[1] * 4, ceil_mode=True, exclude_padding_from_average=True
    )


@case("pooling", "defaults")
def _(net: Network):
    x = net.array(1, 2, 5, 6)
    add(net, "MAX", (3, 3), (1, 1))
    for unset in ("kernelSize", "stride"):
        net.layer.ClearField(unset)
    net.layer.valid.Clear()
    return max_pool(x, [3, 3], "valid")


@case("pooling", "rank5")
def _(net: Network):
    x = net.array(2, 2, 3, 5, 4)
    add(net, "MAX", (2, 2), (2, 1))
    return max_pool(x.reshape(4, 3, 5, 4), [2, 2], "valid", strides=[2, 1]).reshape(2, 2, 3, 2, 3)


@case("pooling", "legacy", legacy=True)
def _(net: Network):
    x = net.array(3, 5, 4)
    add(net, "AVERAGE", (2, 2), (1, 2))
    return avg_pool(x[None], [2, 2], "valid", strides=[1, 2])[0]


@case("pooling", "flexible_size")
def _(net: Network):
    x = net.array(1, 2, 8, 7)
    add(net, "MAX", (3, 3), (2, 2), padding_type="INCLUDE_LAST_PIXEL", **padded(1, 1, 1, 1))
    ranges = net.spec.description.input[0].type.multiArrayType.shapeRange
    for lower, upper in [(1, 1), (2, 2), (4, 20), (4, -1)]:
        ranges.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return max_pool(x, [3, 3], "custom", strides=[2, 2], pad=[1] * 4, ceil_mode=True)
