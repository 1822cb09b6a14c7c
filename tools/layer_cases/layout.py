"""Shapes and layout, and constants that are made."""

import numpy as np

from .network import Network, case


def reshape(name: str, shape: tuple[int, ...], target: list[int], expected: tuple[int, ...]) -> None:
    @case("reshape", name, legacy=True)
    def _(net: Network):
        x = net.array(*shape)
        net.add("reshape", "x", targetShape=target)
        return x.reshape(expected)


reshape("flat", (1, 2, 5), [10, 1, 1], (10, 1, 1))
reshape("vector", (12,), [2, 3, 2], (2, 3, 2))
reshape("four_sizes", (1, 2, 5), [1, 10, 1, 1], (10, 1, 1))


@case("reshape", "into_steps", legacy=True)
def _(net: Network):
    x = net.array(2, 3, 4)
    net.add("reshape", "x", targetShape=[3, 4, 2, 1])
    return x.reshape(3, 1, 4, 2, 1)


@case("reshape", "channel_last", legacy=True)
def _(net: Network):
    x = net.array(2, 3, 4)
    net.add("reshape", "x", targetShape=[6, 2, 2], mode=1)
    # Rows, columns, channels in memory, before and after.
    return x.transpose(1, 2, 0).reshape(2, 2, 6).transpose(2, 0, 1)


@case("reshape", "channel_last_with_batch")
def _(net: Network):
    x = net.array(1, 2, 2, 3, 4)
    net.add("reshape", "x", targetShape=[6, 2, 2], mode=1)
    return x.transpose(0, 1, 3, 4, 2).reshape(1, 2, 2, 2, 6).transpose(0, 1, 4, 2, 3)


def flatten(name: str, mode: int, *shape: int, legacy: bool = False) -> None:
    @case("flatten", name, legacy=legacy)
    def _(net: Network):
        x = net.array(*shape)
        net.add("flatten", "x", mode=mode)
        ordered = np.moveaxis(x, -3, -1) if mode else x
        return ordered.reshape(*shape[:-3], -1, 1, 1)


flatten("channel_first", 0, 2, 3, 4, 5)
flatten("channel_last", 1, 2, 3, 4, 5)
flatten("channel_last_legacy", 1, 3, 4, 5, legacy=True)
flatten("rank3", 0, 3, 4, 5)


def flatten_to_2d(name: str, axis: int, rows: int) -> None:
    @case("flattenTo2D", name)
    def _(net: Network):
        x = net.array(2, 3, 4)
        net.add("flattenTo2D", "x", axis=axis)
        return x.reshape(rows, -1)


flatten_to_2d("front", 0, 1)
flatten_to_2d("middle", -2, 2)
flatten_to_2d("end", 3, 24)


def permute(name: str, axis: list[int], *shape: int) -> None:
    @case("permute", name)
    def _(net: Network):
        x = net.array(*shape)
        net.add("permute", "x", axis=axis)
        # The batch, axis 1 of five, has no number.
        places = [at + (at > 0) for at in axis]
        return x.transpose(places[0], 1, *places[1:])


permute("same", [0, 1, 2, 3], 2, 1, 3, 4, 5)
permute("channels_last", [0, 2, 3, 1], 2, 2, 3, 4, 5)
permute("sequence", [3, 1, 2, 0], 2, 3, 4, 5, 6)


@case("permute", "legacy", legacy=True)
def _(net: Network):
    x = net.array(3, 4, 5)
    net.add("permute", "x", axis=[0, 3, 1, 2])
    return x.transpose(2, 0, 1)


@case("permute", "sequence_legacy", legacy=True)
def _(net: Network):
    x = net.sequence(4, 3, 2, 2)
    net.add("permute", "x", axis=[2, 1, 0, 3])
    return x.transpose(3, 1, 2, 0, 4)


def squeeze(name: str, shape: tuple[int, ...], expected: tuple[int, ...], **options: object) -> None:
    @case("squeeze", name)
    def _(net: Network):
        x = net.array(*shape)
        net.add("squeeze", "x", **options)
        return x.reshape(expected)


squeeze("two", (1, 4, 1, 5), (4, 5), axes=[0, -2])
squeeze("one_of_two", (1, 4, 1), (1, 4), axes=[2])
squeeze("all", (1, 4, 1, 5, 1), (4, 5), squeezeAll=True)
squeeze("nothing", (4, 5), (4, 5), squeezeAll=True)
squeeze("last_one_stays", (1,), (1,), axes=[0])


@case("rankPreservingReshape", "zeros_keep")
def _(net: Network):
    x = net.array(6, 3, 4)
    net.add("rankPreservingReshape", "x", targetShape=[2, 0, -1])
    return x.reshape(2, 3, 12)


@case("rankPreservingReshape", "flexible")
def _(net: Network):
    x = net.array(5, 3, 4)
    net.add("rankPreservingReshape", "x", targetShape=[0, -1, 2])
    ranges = net.spec.description.input[0].type.multiArrayType.shapeRange
    for lower, upper in [(1, 8), (3, 3), (4, 4)]:
        ranges.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return x.reshape(5, 6, 2)


@case("reshapeDynamic", "given")
def _(net: Network):
    x = net.array(2, 6)
    net.given([3, -1, 2], name="shape")
    net.add("reshapeDynamic", "x shape")
    return x.reshape(3, 2, 2)


@case("reshapeDynamic", "from_a_shape")
def _(net: Network):
    x, y = net.array(2, 6), net.array(3, 4, name="y")
    net.add("getShape", "y", "shape")
    net.add("reshapeDynamic", "x shape", "reshaped")
    net.add("addBroadcastable", "reshaped y")
    return x.reshape(3, 4) + y


@case("reshapeLike", "other_rank")
def _(net: Network):
    x, y = net.array(2, 6), net.array(3, 2, 2, name="y")
    net.add("reshapeLike", "x y", "reshaped")
    net.add("multiplyBroadcastable", "reshaped y")
    return x.reshape(3, 2, 2) * y


@case("reshapeLike", "flexible")
def _(net: Network):
    x, y = net.array(4, 6), net.array(4, 3, 2, name="y")
    net.add("reshapeLike", "x y", "reshaped")
    net.add("addBroadcastable", "reshaped y")
    for feature, sizes in zip(net.spec.description.input, [(6,), (3, 2)]):
        ranges = feature.type.multiArrayType.shapeRange
        ranges.sizeRanges.add(lowerBound=1, upperBound=-1)
        for size in sizes:
            ranges.sizeRanges.add(lowerBound=size, upperBound=size)
    return x.reshape(4, 3, 2) + y


@case("getShape", "fixed")
def _(net: Network):
    net.array(2, 3, 4)
    net.add("getShape", "x")
    return np.array([2.0, 3.0, 4.0])


@case("getShape", "flexible")
def _(net: Network):
    net.array(5, 3)
    net.add("getShape", "x")
    ranges = net.spec.description.input[0].type.multiArrayType.shapeRange
    for lower, upper in [(1, -1), (3, 3)]:
        ranges.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return np.array([5.0, 3.0])


@case("broadcastToStatic", "more_dimensions")
def _(net: Network):
    x = net.array(3, 1)
    net.add("broadcastToStatic", "x", targetShape=[2, 3, 4])
    return np.broadcast_to(x, (2, 3, 4))


@case("broadcastToLike", "same_rank")
def _(net: Network):
    x, y = net.array(1, 3, 1), net.array(2, 3, 4, name="y")
    net.add("broadcastToLike", "x y", "wide")
    net.add("addBroadcastable", "wide y")
    return x + y


@case("broadcastToDynamic", "given")
def _(net: Network):
    x = net.array(1, 3)
    net.given([2, 4, 3], name="shape")
    net.add("broadcastToDynamic", "x shape")
    return np.broadcast_to(x, (2, 4, 3))


# The example of the comments in NeuralNetwork.proto.
DEEP = np.arange(1.0, 17).reshape(8, 1, 2)
DEPTH_TO_SPACE = [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]
PIXEL_SHUFFLE = [[[1, 3, 2, 4], [5, 7, 6, 8]], [[9, 11, 10, 12], [13, 15, 14, 16]]]


def reorganize(name: str, mode: int, x: np.ndarray, expected: np.ndarray, legacy: bool = False) -> None:
    @case("reorganizeData", name, legacy=legacy)
    def _(net: Network):
        net.given(x)
        net.add("reorganizeData", "x", mode=mode, blockSize=2)
        return np.asarray(expected, np.float64)


reorganize("depth_to_space", 1, DEEP, DEPTH_TO_SPACE)
reorganize("depth_to_space_legacy", 1, DEEP, DEPTH_TO_SPACE, legacy=True)
reorganize("depth_to_space_rank5", 1, np.stack([[DEEP], [2 * DEEP]]), np.stack([[DEPTH_TO_SPACE], [np.multiply(DEPTH_TO_SPACE, 2)]]))
reorganize("pixel_shuffle", 2, DEEP, PIXEL_SHUFFLE)
reorganize("pixel_shuffle_batch", 2, np.stack([DEEP, -DEEP]), np.stack([PIXEL_SHUFFLE, np.negative(PIXEL_SHUFFLE)]))
reorganize("space_to_depth", 0, np.array(DEPTH_TO_SPACE), DEEP)


# --- constants --------------------------------------------------------------------------------------


@case("loadConstant", "legacy", legacy=True)
def _(net: Network):
    x, data = net.array(3, 2, 4), net.normal(1, 2, 4)
    net.add("loadConstant", "", "data", shape=[1, 2, 4], data=data)
    net.add("add", "x data")
    return x + data


@case("loadConstant", "float16", legacy=True)
def _(net: Network):
    x, data = net.array(3, 1, 1), net.normal(3, 1, 1)
    layer = net.add("loadConstant", "", "data", shape=[3, 1, 1])
    data = net.half(layer.data, data)
    net.add("multiply", "x data")
    return x * data


@case("loadConstant", "rank5")
def _(net: Network):
    x, data = net.array(2, 1, 3, 2, 4), net.normal(3, 2, 4)
    net.add("loadConstant", "", "data", shape=[3, 2, 4], data=data)
    net.add("addBroadcastable", "x data")
    return x + data


@case("fillStatic", "rank3")
def _(net: Network):
    x = net.array(2, 3, 4)
    net.add("fillStatic", "", "filled", value=2.5, targetShape=[3, 1])
    net.add("addBroadcastable", "x filled")
    return x + np.full((3, 1), 2.5)


@case("fillLike", "rank2")
def _(net: Network):
    net.array(2, 3)
    net.add("fillLike", "x", value=-1.5)
    return np.full((2, 3), -1.5)


@case("fillDynamic", "given")
def _(net: Network):
    net.given([3, 2], name="x")
    net.add("fillDynamic", "x", value=0.5)
    return np.full((3, 2), 0.5)


def range_static(name: str, start: float, end: float, step: float) -> None:
    @case("rangeStatic", name)
    def _(net: Network):
        x = net.array(1)
        net.add("rangeStatic", "", "range", startValue=start, endValue=end, stepSizeValue=step)
        net.add("addBroadcastable", "range x")
        return np.arange(start, end, step) + x


range_static("up", 0.5, 6.0, 1.5)
range_static("down", 24, -65, -20)
range_static("one", 5, 8, 98)


def range_dynamic(name: str, given: tuple[str, ...]) -> None:
    numbers = {"end": 8.5, "start": 1.5, "step": 2.0}

    @case("rangeDynamic", name)
    def _(net: Network):
        for which in given:
            net.given([numbers[which]], name=which)
        stored = {f"{which}Value": numbers[which] for which in ("start",) if which not in given}
        if "step" not in given:
            stored["stepSizeValue"] = numbers["step"]
        net.add("rangeDynamic", " ".join(given), **stored)
        return np.arange(1.5, 8.5, 2.0)


range_dynamic("end", ("end",))
range_dynamic("end_and_start", ("end", "start"))
range_dynamic("all", ("end", "start", "step"))


def tile(name: str, repeats: list[int], given: bool, *shape: int) -> None:
    @case("tile", name)
    def _(net: Network):
        x = net.array(*shape)
        if given:
            net.given(repeats, name="repeats")
            net.add("tile", "x repeats")
        else:
            net.add("tile", "x", reps=repeats)
        return np.tile(x, repeats)


tile("every_axis", [2, 1, 3], False, 2, 3, 2)
tile("last_axis", [3], False, 2, 2)
tile("given", [3, 2], True, 2, 3)
tile("given_for_last_axis", [2], True, 2, 1, 3)
