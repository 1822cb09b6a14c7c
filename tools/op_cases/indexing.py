"""Gather, scatter, and other ops that pick elements by position."""

from collections.abc import Callable

import numpy as np
from coremltools.converters.mil import Builder as mb

from .case import Case, booleans, case, const, given, integers, normal, uniform


def gather(x, indices, axis=0, batch_dims=0, validate_indices=False):
    if batch_dims == 0:
        return np.take(x, indices, axis)
    parts = [gather(a, i, axis % x.ndim - 1, batch_dims - 1) for a, i in zip(x, indices)]
    return np.stack(parts)


def gather_along_axis(x, indices, axis=0, validate_indices=False):
    return np.take_along_axis(x, indices, axis)


def gather_nd(x, indices, batch_dims=0, validate_indices=False):
    if batch_dims > 0:
        return np.stack([gather_nd(a, i, batch_dims - 1) for a, i in zip(x, indices)])
    return x[tuple(np.moveaxis(indices, -1, 0))]


# How a value in the data and an update become the new value.
MODES: dict[str, Callable] = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": np.maximum,
    "min": np.minimum,
}


def scatter(data, indices, updates, axis=0, mode="update", validate_indices=False):
    result = data.copy()
    target, source = np.moveaxis(result, axis, 0), np.moveaxis(updates, axis, 0)
    for i, update in zip(indices, source):
        target[i] = MODES[mode](target[i], update)
    return result


def scatter_along_axis(data, indices, updates, axis=0, mode="add", validate_indices=False):
    # coremltools' value_inference ignores the mode.
    result = data.copy()
    for position in np.ndindex(*indices.shape):
        target = list(position)
        target[axis] = indices[position]
        result[tuple(target)] = MODES[mode](result[tuple(target)], updates[position])
    return result


def scatter_nd(data, indices, updates, mode="add", validate_indices=False):
    result = data.copy()
    for position in np.ndindex(*indices.shape[:-1]):
        target = tuple(indices[position])
        result[target] = MODES[mode](result[target], updates[position])
    return result


def as_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask) -> tuple:
    slices = []
    for i in range(x.ndim):
        if squeeze_mask and squeeze_mask[i]:
            slices.append(0 if begin_mask and begin_mask[i] else int(begin[i]))
            continue
        start = None if begin_mask and begin_mask[i] else int(begin[i])
        stop = None if end_mask and end_mask[i] else int(end[i])
        slices.append(slice(start, stop, int(stride[i]) if stride else 1))
    return tuple(slices)


def slice_by_index(x, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    # A masked begin or end means the far end in the direction of the stride, as None does in numpy.
    return x[as_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def slice_update(x, update, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    result = x.copy()
    result[as_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return result


def slice_by_size(x, begin, size):
    begin = [b % n for b, n in zip(begin, x.shape)]
    return x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size))]


def select(cond, a, b):
    return np.where(cond, a, b)


def one_hot(indices, one_hot_vector_size, axis=-1, on_value=1, off_value=0):
    hits = np.arange(one_hot_vector_size) == indices[..., None]
    return np.moveaxis(np.where(hits, on_value, off_value), -1, axis)


def non_zero(x):
    return np.argwhere(x)


X = normal(4, 3, 5)

GATHER = [
    case("gather", "defaults", gather, bare=True, x=X, indices=integers(0, 3, 6)),
    case("gather", "axis_1", gather, x=X, indices=integers(0, 2, 2, 4), axis=1),
    case("gather", "negative_axis", gather, x=X, indices=integers(0, 4, 3), axis=-1),
    case("gather", "negative_indices", gather, x=X, indices=given([-1, 0, -4, 2], "int32")),
    case("gather", "constant_indices", gather, x=X, indices=const(given([2, 0, 2], "int32")), axis=1),
    case("gather", "scalar_index", gather, x=X, indices=2, axis=1),
    case("gather", "scalar_from_input", lambda x, indices, axis: np.take(x, indices[0], axis),
         build=lambda x, indices, axis: mb.gather(x=x, indices=mb.squeeze(x=indices), axis=axis),
         x=X, indices=given([3], "int32"), axis=0),
    case("gather", "embedding", gather, x=const(normal(11, 4)), indices=integers(0, 10, 2, 5)),
    case("gather", "int32", gather, x=integers(-50, 50, 6, 2), indices=integers(0, 5, 4)),
    case("gather", "int8", gather, opset="iOS17", x=integers(-9, 9, 6, 2, dtype="int8"), indices=integers(0, 5, 4)),
    case("gather", "ios16_batch_dims", gather, opset="iOS16", x=normal(2, 5, 3), indices=integers(0, 4, 2, 4),
         axis=1, batch_dims=1),
    case("gather", "ios16_batch_dims_last_axis", gather, opset="iOS16", x=normal(2, 3, 6),
         indices=integers(0, 5, 2, 4), axis=2, batch_dims=1),
    case("gather", "ios16_two_batch_dims", gather, opset="iOS16", x=normal(2, 3, 4, 2),
         indices=integers(0, 3, 2, 3, 2), axis=2, batch_dims=2),
    case("gather", "ios16_int16_indices", gather, opset="iOS16", x=X,
         indices=const(integers(0, 3, 5, dtype="int16"))),
    case("gather", "ios17", gather, opset="iOS17", x=X, indices=integers(0, 2, 2), axis=1,
         validate_indices=False),
    case("gather", "ios17_validate", gather, opset="iOS17", x=X, indices=integers(0, 2, 2), axis=1,
         validate_indices=True),
    case("gather", "ios17_batch_dims", gather, opset="iOS17", x=normal(2, 5, 3), indices=integers(0, 4, 2, 4),
         axis=-2, batch_dims=1),
    case("gather", "ios17_uint8_indices", gather, opset="iOS17", x=X, indices=integers(0, 3, 5, dtype="uint8")),
    case("gather_along_axis", "defaults", gather_along_axis, bare=True, x=X, indices=integers(0, 3, 2, 3, 5)),
    case("gather_along_axis", "negative_axis", gather_along_axis, x=X, indices=integers(0, 4, 4, 3, 2), axis=-1),
    case("gather_along_axis", "negative_indices", gather_along_axis, x=X, indices=integers(-3, 2, 4, 7, 5),
         axis=1),
    case("gather_along_axis", "rank1", gather_along_axis, x=normal(6), indices=integers(0, 5, 9), axis=0),
    case("gather_along_axis", "ios17", gather_along_axis, opset="iOS17", x=X,
         indices=integers(0, 2, 4, 2, 5), axis=1, validate_indices=True),
    case("gather_nd", "points", gather_nd, x=X, indices=given([[0, 1, 2], [3, 2, 4], [1, 0, 0]], "int32")),
    case("gather_nd", "rows", gather_nd, x=X, indices=integers(0, 2, 6, 2)),
    case("gather_nd", "one_index", gather_nd, x=X, indices=integers(0, 3, 2, 3, 1)),
    case("gather_nd", "ios16_batch_dims", gather_nd, opset="iOS16", x=normal(2, 4, 3, 2),
         indices=integers(0, 2, 2, 5, 2), batch_dims=1),
    case("gather_nd", "ios17", gather_nd, opset="iOS17", x=normal(2, 4, 3), indices=integers(0, 3, 2, 5, 1),
         batch_dims=1, validate_indices=False),
]  # fmt: skip


def scatter_cases() -> list[Case]:
    """One case per mode. Repeated indices only where their order does not matter."""
    cases = []
    for mode in MODES:
        # The mode is always given: documentation (update) and coremltools (add) disagree on the default.
        unique = mode == "update"
        shape = {"opset": "iOS15", "mode": mode}
        cases += [
            case("scatter", mode, scatter, **shape, data=X, axis=1,
                 indices=given([2, 0] if unique else [2, 0, 2], "int32"),
                 updates=uniform(0.5, 2, 4, 2 if unique else 3, 5)),
            case("scatter_along_axis", mode, scatter_along_axis, **shape, data=X, axis=-1,
                 indices=given(np.tile([3, 1] if unique else [3, 3], (4, 3, 1)), "int32"),
                 updates=uniform(0.5, 2, 4, 3, 2)),
            case("scatter_nd", mode, scatter_nd, **shape, data=X,
                 indices=given([[0, 2], [3, 1]] if unique else [[0, 2], [3, 1], [0, 2]], "int32"),
                 updates=uniform(0.5, 2, 2 if unique else 3, 5)),
        ]  # fmt: skip
    return cases


SCATTER = [
    *scatter_cases(),
    case("scatter", "negative_indices", scatter, data=X, indices=given([-1, 1], "int32"),
         updates=normal(2, 3, 5), axis=0, mode="update"),
    case("scatter", "negative_axis", scatter, data=X, indices=given([4, 0, 1], "int32"),
         updates=normal(4, 3, 3), axis=-1, mode="add"),
    case("scatter", "rank1", scatter, data=normal(6), indices=given([5, 2], "int32"), updates=normal(2),
         axis=0, mode="update"),
    case("scatter", "int32", scatter, data=integers(-9, 9, 5, 2), indices=given([3, 0], "int32"),
         updates=integers(-9, 9, 2, 2), axis=0, mode="add"),
    case("scatter", "dynamic_index", scatter, data=normal(4, 2, 3), indices=integers(0, 3, 1),
         updates=normal(1, 2, 3), axis=0, mode="update"),
    case("scatter", "ios17", scatter, opset="iOS17", data=X, indices=given([1, 2], "int32"),
         updates=normal(4, 2, 5), axis=1, mode="update", validate_indices=True),
    case("scatter_along_axis", "ios17", scatter_along_axis, opset="iOS17", data=X,
         indices=given(np.tile([[1], [2], [0]], (1, 1, 5)), "int32"), updates=normal(1, 3, 5), axis=0,
         mode="update", validate_indices=False),
    case("scatter_nd", "points", scatter_nd, data=X, indices=given([[0, 1, 2], [3, 2, 4]], "int32"),
         updates=normal(2), mode="update"),
    case("scatter_nd", "ios17", scatter_nd, opset="iOS17", data=X, indices=given([[[2], [0]]], "int32"),
         updates=normal(1, 2, 3, 5), mode="update", validate_indices=False),
]  # fmt: skip

SLICE = [
    case("slice_by_index", "defaults", slice_by_index, bare=True, x=X, begin=[1, 0, 2], end=[3, 3, 4]),
    case("slice_by_index", "strides", slice_by_index, x=normal(7, 6), begin=[1, 0], end=[7, 5], stride=[3, 2]),
    case("slice_by_index", "negative_positions", slice_by_index, x=X, begin=[-3, 0, -4], end=[-1, 2, -2]),
    case("slice_by_index", "end_beyond", slice_by_index, x=X, begin=[1, 0, 2], end=[99, 3, 2147483647]),
    case("slice_by_index", "masks", slice_by_index, x=X, begin=[2, 1, 3], end=[1, 2, 1],
         begin_mask=[True, False, False], end_mask=[False, False, True]),
    case("slice_by_index", "negative_stride", slice_by_index, x=normal(6, 5), begin=[4, 3], end=[0, 1],
         stride=[-2, -1]),
    case("slice_by_index", "negative_stride_masks", slice_by_index, x=normal(6, 5), begin=[0, 0], end=[0, 0],
         stride=[-1, -2], begin_mask=[True, True], end_mask=[True, True]),
    case("slice_by_index", "squeeze", slice_by_index, x=X, begin=[2, 0, 1], end=[3, 2, 2],
         squeeze_mask=[True, False, True]),
    case("slice_by_index", "squeeze_negative", slice_by_index, x=X, begin=[-1, 0, 0], end=[0, 0, 0],
         end_mask=[False, True, True], squeeze_mask=[True, False, False]),
    case("slice_by_index", "squeeze_to_scalar", slice_by_index, x=normal(5), begin=[3], end=[4],
         squeeze_mask=[True]),
    case("slice_by_index", "int32", slice_by_index, x=integers(-9, 9, 4, 4), begin=[1, 1], end=[4, 3]),
    case("slice_by_index", "rank5", slice_by_index, x=normal(2, 3, 1, 4, 3), begin=[0, 1, 0, 0, 0],
         end=[2, 3, 1, 4, 3], stride=[1, 1, 1, 2, 2]),
    case("slice_by_index", "dynamic", slice_by_index, x=normal(6, 4), begin=given([1, 0], "int32"),
         end=given([5, 3], "int32")),
    case("slice_by_index", "dynamic_squeeze", slice_by_index, x=normal(6, 4), begin=given([4, 0], "int32"),
         end=given([5, 0], "int32"), end_mask=[False, True], squeeze_mask=[True, False]),
    # rten panics on these where they are one slice.
    case("slice_by_index", "rank5_negative_stride", slice_by_index, x=normal(3, 4, 2, 5, 2), begin=[-1, 1, 0, 0, 0],
         end=[0, 4, 0, 0, 1], stride=[-1, 2, -1, -3, 1], begin_mask=[False, False, True, True, False],
         end_mask=[False, False, True, True, False], squeeze_mask=[False, False, False, False, True]),
    case("slice_by_index", "rank5_negative_stride_dynamic", slice_by_index, x=normal(2, 4, 1, 5, 2),
         begin=given([0, -1, 0, 4, 0], "int32"), end=given([2, 0, 1, 0, 1], "int32"), stride=[1, -2, 1, -1, 1]),
    case("slice_by_index", "ios17", slice_by_index, opset="iOS17", x=X, begin=[0, 1, 0], end=[4, 3, 5],
         stride=[2, 1, 3]),
    case("slice_by_size", "rank3", slice_by_size, x=X, begin=[1, 0, 2], size=[2, 3, 1]),
    case("slice_by_size", "rest", slice_by_size, x=X, begin=[1, 1, 0], size=[-1, 1, -1]),
    case("slice_by_size", "dynamic_begin", slice_by_size, x=X, begin=given([2, 0, 1], "int32"), size=[2, 3, 2]),
    case("slice_by_size", "ios17", slice_by_size, opset="iOS17", x=X, begin=[0, 2, 3], size=[4, -1, 2]),
    *(
        case("slice_update", name, slice_update, opset="iOS18", x=X, **arguments)
        for name, arguments in {
            "middle": {"update": normal(2, 1, 3), "begin": [1, 1, 1], "end": [3, 2, 4]},
            "strides": {"update": normal(2, 3, 2), "begin": [0, 0, 1], "end": [4, 3, 5], "stride": [2, 1, 3]},
            "masks": {
                "update": normal(4, 1, 5),
                "begin": [0, 2, 0],
                "end": [0, 3, 0],
                "begin_mask": [True, False, True],
                "end_mask": [True, False, True],
            },
            "negative_positions": {"update": normal(4, 3, 2), "begin": [0, 0, -3], "end": [4, 3, -1]},
            "squeeze": {
                "update": normal(3, 5),
                "begin": [2, 0, 0],
                "end": [0, 3, 5],
                "squeeze_mask": [True, False, False],
            },
            "dynamic": {
                "update": normal(1, 3, 5),
                "begin": given([2, 0, 0], "int32"),
                "end": given([3, 3, 5], "int32"),
            },
            "key_value_cache": {
                "update": normal(4, 1, 5),
                "begin": given([0, 1, 0], "int32"),
                "end": given([0, 2, 0], "int32"),
                "begin_mask": [True, False, True],
                "end_mask": [True, False, True],
            },
        }.items()
    ),
    case("slice_update", "rank5_negative_stride", slice_update, opset="iOS18", x=normal(2, 4, 1, 5, 2),
         update=normal(2, 2, 1, 2, 2), begin=[0, 3, 0, 4, 0], end=[2, 0, 1, 0, 2], stride=[1, -2, 1, -3, 1]),
]  # fmt: skip

OTHER = [
    case("select", "same_shape", select, cond=booleans(3, 4), a=normal(3, 4), b=normal(3, 4)),
    case("select", "broadcast", select, cond=booleans(3, 1), a=normal(2, 3, 4), b=normal(2, 3, 4)),
    case("select", "broadcast_all", select, cond=booleans(2, 1, 4), a=normal(2, 3, 4), b=normal(3, 1)),
    case("select", "scalars", select, cond=booleans(2, 3), a=const(given(np.zeros((2, 3)))),
         b=const(given(np.full((2, 3), -1e4)))),
    case("select", "int32", select, cond=booleans(5), a=integers(-9, 9, 5), b=integers(-9, 9, 5)),
    case("select", "bool", select, cond=booleans(6), a=booleans(6), b=booleans(6)),
    case("one_hot", "defaults", one_hot, bare=True, indices=integers(0, 4, 6), one_hot_vector_size=5),
    case("one_hot", "axis_0", one_hot, indices=integers(0, 3, 2, 3), one_hot_vector_size=4, axis=0),
    case("one_hot", "axis_1", one_hot, indices=integers(0, 3, 2, 3), one_hot_vector_size=4, axis=1),
    case("one_hot", "negative_axis", one_hot, indices=integers(0, 3, 2, 3), one_hot_vector_size=4, axis=-2),
    case("one_hot", "values", one_hot, indices=integers(0, 3, 5), one_hot_vector_size=4, on_value=2.5,
         off_value=-1.0),
    case("non_zero", "rank2", non_zero, x=given([[0.0, 1.5, 0.0], [-2.0, 0.0, 3.0]])),
    case("non_zero", "rank1", non_zero, x=given([0.0, 0.0, 4.0, 0.0, 1.0])),
    case("non_zero", "int32", non_zero, x=integers(-1, 1, 3, 2, 2)),
]  # fmt: skip

CASES = GATHER + SCATTER + SLICE + OTHER
