"""Shapes, layout and constants."""

import numpy as np

from .network import Network, case


def reshape(name: str, shape: tuple[int, ...], target: list[int]) -> None:
    @case("reshapeStatic", name)
    def _(net: Network):
        x = net.array(*shape)
        net.builder.add_reshape_static("reshape", "x", "out", target)
        return x.reshape(target)


reshape("same_rank", (2, 6), [3, 4])
reshape("raise", (12,), [2, 1, 3, 2])
reshape("inferred", (2, 3, 4), [-1, 6])
reshape("inferred_in_the_middle", (2, 3, 4), [4, -1, 2])
reshape("flat", (1, 3, 2, 2), [12])


@case("reshapeStatic", "flexible_batch")
def _(net: Network):
    x = net.array(2, 3, 4)
    net.builder.add_reshape_static("reshape", "x", "out", [-1, 12])
    ranges = net.spec.description.input[0].type.multiArrayType.shapeRange
    for lower, upper in [(1, 8), (3, 3), (4, 4)]:
        ranges.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return x.reshape(-1, 12)


def transpose(name: str, axes: list[int], *shape: int) -> None:
    @case("transpose", name)
    def _(net: Network):
        x = net.array(*shape)
        net.builder.add_transpose("transpose", axes, "x", "out")
        return x.transpose(axes)


transpose("matrix", [1, 0], 3, 4)
transpose("rank4", [3, 1, 2, 0], 2, 3, 4, 5)
transpose("rank5", [0, 2, 4, 1, 3], 1, 2, 3, 4, 2)
transpose("rank1", [0], 3)


def expand_dims(name: str, axes: list[int], result: tuple[int, ...], *shape: int) -> None:
    @case("expandDims", name)
    def _(net: Network):
        x = net.array(*shape)
        net.builder.add_expand_dims("expand", "x", "out", axes)
        return x.reshape(result)


expand_dims("front", [0, 1], (1, 1, 4, 5), 4, 5)
expand_dims("apart", [0, 2], (1, 4, 1, 5), 4, 5)
expand_dims("negative", [-2, -1], (4, 5, 1, 1), 4, 5)
expand_dims("one", [-1], (3, 1), 3)


def constant(name: str, *shape: int) -> None:
    @case("loadConstantND", name)
    def _(net: Network):
        x, data = net.array(*shape), net.normal(*shape)
        net.builder.add_load_constant_nd("constant", "data", data, shape)
        stored = net.layer.data
        if name == "float16":
            data = net.half(stored, data)
        elif name == "linear_3_bits":
            data = net.linear(stored, shape, 3, 0)
        elif name == "table_1_bit":
            data = net.table(stored, shape, 1)
        net.builder.add_add_broadcastable("sum", ["x", "data"], "out")
        return x + data


constant("float32", 2, 3)
constant("float16", 2, 1, 3)
constant("linear_3_bits", 4, 3)
constant("table_1_bit", 11)


@case("loadConstantND", "output", outputs=("out", "data"))
def _(net: Network):
    x, data = net.array(2), net.normal(2, 2)
    net.builder.add_load_constant_nd("constant", "data", data, (2, 2))
    net.builder.add_activation("relu", "RELU", "x", "out")
    return {"out": np.maximum(x, 0), "data": data}


@case("transpose", "fewer_axes_than_dimensions")
def _(net: Network):
    # What coremltools' `make_image_input` writes for an input of (height, width, channel).
    x = net.image(3, 2, "RGB")
    net.builder.add_transpose("transpose", [1, 2, 0], "image", "out")
    return x[0].transpose(1, 2, 0)
