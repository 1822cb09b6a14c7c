"""Ops that move elements or make new tensors without calculating."""

import numpy as np
from coremltools.converters.mil import Builder as mb

from .case import booleans, case, const, given, integers, normal


def expand_dims(x, axes):
    return np.expand_dims(x, tuple(axes))


def squeeze(x, axes=None):
    return np.squeeze(x, None if axes is None else tuple(axes))


def reshape(x, shape):
    """0 keeps the dimension at the same place; -1 is what is left."""
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def reshape_ios17(x, shape):
    """As `reshape`, but dimensions for 0 are counted from the right, and 1 where x has none."""
    missing = len(shape) - x.ndim
    return x.reshape([(x.shape[i - missing] if i >= missing else 1) if n == 0 else n for i, n in enumerate(shape)])


def reshape_like(x, ref_tensors, begins, ends, end_masks):
    shape = []
    for tensor, begin, end, masked in zip(ref_tensors, begins, ends, end_masks):
        shape += tensor.shape[begin : None if masked else end]
    return x.reshape(shape)


def reverse(x, axes=None):
    return np.flip(x, None if axes is None else tuple(axes))


def reverse_sequence(x, lengths, seq_axis=0, batch_axis=0):
    result = x.copy()
    moved = np.moveaxis(result, (batch_axis, seq_axis), (0, 1))
    for row, length in zip(moved, lengths):
        row[:length] = row[:length][::-1].copy()
    return result


def transpose(x, perm):
    return x.transpose(perm)


def sliding_windows(x, axis, size, stride=1):
    axis %= x.ndim
    starts = range(0, x.shape[axis] - size + 1, stride)
    return np.stack([x.take(range(i, i + size), axis) for i in starts], axis)


def depth_to_space(x, block_size):
    # The block is the slow part of the channels, unlike in pixel_shuffle.
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def space_to_depth(x, block_size):
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


def pixel_shuffle(x, upscale_factor):
    n, c, h, w = x.shape
    f = upscale_factor
    return x.reshape(n, c // f**2, f, f, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // f**2, h * f, w * f)


def pixel_unshuffle(x, downscale_factor):
    n, c, h, w = x.shape
    f = int(downscale_factor)
    return x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * f**2, h // f, w // f)


def space_to_batch(x, block_shape, paddings):
    x = np.pad(x, [(0, 0), (0, 0), *paddings])
    n, c, h, w = x.shape
    a, b = block_shape
    return x.reshape(n, c, h // a, a, w // b, b).transpose(3, 5, 0, 1, 2, 4).reshape(n * a * b, c, h // a, w // b)


def batch_to_space(x, block_shape, crops):
    n, c, h, w = x.shape
    a, b = block_shape
    x = x.reshape(a, b, n // (a * b), c, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(n // (a * b), c, h * a, w * b)
    (top, bottom), (left, right) = crops
    return x[:, :, top : h * a - bottom, left : w * b - right]


def concat(values, axis, interleave=False):
    if not interleave:
        return np.concatenate(values, axis)
    # coremltools' value_inference ignores interleave.
    axis %= values[0].ndim
    shape = list(values[0].shape)
    shape[axis] *= len(values)
    return np.stack(values, axis + 1).reshape(shape)


def stack(values, axis):
    return np.stack(values, axis)


def split(x, axis, num_splits=None, split_sizes=None):
    places = num_splits if split_sizes is None else np.cumsum(split_sizes)[:-1]
    return np.split(x, places, axis)


def tile(x, reps):
    return np.tile(x, reps)


def flatten2d(x, axis=1):
    axis %= x.ndim
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def pad(x, pad, mode="constant", constant_val=0.0):
    pairs = np.reshape(pad, (-1, 2)).astype(int)
    widths = [(0, 0)] * (x.ndim - len(pairs)) + [tuple(pair) for pair in pairs]
    if mode == "constant":
        return np.pad(x, widths, constant_values=constant_val)
    return np.pad(x, widths, {"reflect": "reflect", "replicate": "edge"}[mode])


def crop(x, crop_height, crop_width):
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def fill(shape, value=0.0):
    return np.full(shape, value)


def fill_like(ref_tensor, value=0.0):
    return np.full(ref_tensor.shape, value)


def range_1d(end, start, step):
    return np.arange(np.squeeze(start), np.squeeze(end), np.squeeze(step))


def shape(x):
    return np.array(x.shape)


def identity(x):
    return x


def band_part(x, lower=-1, upper=-1):
    m, n = np.indices(x.shape[-2:])
    inside = ((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper))
    return np.where(inside, x, 0)


X = normal(2, 3, 4)
IMAGE = normal(1, 8, 3, 2)

RESHAPING = [
    case("expand_dims", "first", expand_dims, x=X, axes=[0]),
    case("expand_dims", "negative", expand_dims, x=X, axes=[-1]),
    case("expand_dims", "several", expand_dims, x=normal(3, 4), axes=[0, 2, -1]),
    case("expand_dims", "ios17_int32", expand_dims, opset="iOS17", x=integers(-9, 9, 4), axes=[1]),
    case("squeeze", "defaults", squeeze, bare=True, x=normal(1, 3, 1, 2, 1)),
    case("squeeze", "axes", squeeze, x=normal(1, 3, 1, 2), axes=[0, 2]),
    case("squeeze", "negative", squeeze, x=normal(1, 3, 1), axes=[-1]),
    case("squeeze", "to_scalar", squeeze, x=normal(1, 1), axes=[0, 1]),
    case("squeeze", "ios17", squeeze, opset="iOS17", x=normal(1, 3, 1), axes=[-3]),
    case("reshape", "rank2", reshape, x=X, shape=[4, 6]),
    case("reshape", "rest", reshape, x=X, shape=[2, -1]),
    case("reshape", "keep", reshape, x=X, shape=[0, 0, 4]),
    case("reshape", "keep_and_rest", reshape, x=X, shape=[-1, 0, 2]),
    case("reshape", "rank5", reshape, x=X, shape=[1, 2, 3, 2, 2]),
    case("reshape", "int32", reshape, x=integers(-9, 9, 6), shape=[3, 2]),
    case("reshape", "dynamic", reshape, x=X, shape=given([3, 8], "int32")),
    case("reshape", "ios17", reshape_ios17, opset="iOS17", x=X, shape=[0, -1, 4]),
    # Zeros count from the right since iOS17, and may be more than x has dimensions.
    case("reshape", "ios17_more_dimensions", reshape_ios17, opset="iOS17", x=normal(2, 5), shape=[1, 0, -1, 0]),
    case("reshape", "ios17_fewer_dimensions", reshape_ios17, opset="iOS17", x=X, shape=[-1, 0]),
    case("reshape_like", "one", reshape_like, opset="iOS16", x=normal(6, 4), ref_tensors=[X],
         begins=[0], ends=[3], end_masks=[False]),
    case("reshape_like", "two", reshape_like, opset="iOS16", x=normal(6, 30),
         ref_tensors=[X, normal(1, 5, 6)], begins=[0, 1], ends=[2, 0], end_masks=[False, True]),
    case("reshape_like", "ios17", reshape_like, opset="iOS17", x=normal(24), ref_tensors=[X, X],
         begins=[0, -2], ends=[1, 0], end_masks=[False, True]),
    case("flatten2d", "defaults", flatten2d, bare=True, x=normal(2, 3, 4, 5)),
    case("flatten2d", "axis_2", flatten2d, x=normal(2, 3, 4, 5), axis=2),
    case("flatten2d", "negative", flatten2d, x=normal(2, 3, 4), axis=-1),
]  # fmt: skip

MOVING = [
    case("transpose", "rank2", transpose, x=normal(3, 4), perm=[1, 0]),
    case("transpose", "rank4", transpose, x=normal(1, 2, 3, 4), perm=[0, 2, 3, 1]),
    case("transpose", "negative", transpose, x=X, perm=[-1, 0, -2]),
    case("transpose", "rank5", transpose, x=normal(1, 2, 3, 2, 2), perm=[4, 0, 3, 1, 2]),
    case("transpose", "int32", transpose, x=integers(-9, 9, 2, 3), perm=[1, 0]),
    case("transpose", "ios17", transpose, opset="iOS17", x=X, perm=[2, 0, 1]),
    case("reverse", "defaults", reverse, bare=True, x=X),
    case("reverse", "axes", reverse, x=X, axes=[0, -1]),
    case("reverse", "rank1", reverse, x=normal(5), axes=[0]),
    case("reverse", "ios17", reverse, opset="iOS17", x=X, axes=[1]),
    case("reverse_sequence", "batch_first", reverse_sequence, x=normal(3, 5, 2),
         lengths=given([2, 5, 0], "int32"), seq_axis=1, batch_axis=0),
    case("reverse_sequence", "time_first", reverse_sequence, opset="iOS17", x=normal(5, 3),
         lengths=given([3, 1, 4], "int32"), seq_axis=0, batch_axis=1),
    case("reverse_sequence", "negative_axes", reverse_sequence, x=normal(2, 3, 4, 2),
         lengths=given([4, 0, 2], "int32"), seq_axis=-2, batch_axis=-3),
    case("reverse_sequence", "int32", reverse_sequence, x=integers(-9, 9, 2, 6), lengths=given([5, 3], "int32"),
         seq_axis=1),
    case("reverse_sequence", "bool", reverse_sequence, x=booleans(2, 6), lengths=given([6, 3], "int32"), seq_axis=1),
    case("sliding_windows", "defaults", sliding_windows, bare=True, x=normal(3, 7), axis=1, size=3),
    case("sliding_windows", "stride", sliding_windows, x=normal(2, 9, 2), axis=1, size=4, stride=2),
    case("sliding_windows", "negative_axis", sliding_windows, x=normal(6, 2), axis=-2, size=2, stride=3),
    case("sliding_windows", "ios17", sliding_windows, opset="iOS17", x=normal(8), axis=0, size=5, stride=1),
    case("depth_to_space", "block_2", depth_to_space, x=IMAGE, block_size=2),
    case("depth_to_space", "block_3", depth_to_space, x=normal(2, 9, 2, 1), block_size=3),
    case("space_to_depth", "block_2", space_to_depth, x=normal(2, 3, 4, 6), block_size=2),
    case("space_to_depth", "block_3", space_to_depth, x=normal(1, 2, 3, 6), block_size=3),
    case("pixel_shuffle", "factor_2", pixel_shuffle, x=IMAGE, upscale_factor=2),
    case("pixel_shuffle", "factor_3", pixel_shuffle, x=normal(2, 9, 1, 2), upscale_factor=3),
    case("pixel_unshuffle", "factor_2", pixel_unshuffle, opset="iOS16", x=normal(2, 3, 4, 6),
         downscale_factor=np.uint32(2)),
    case("pixel_unshuffle", "factor_3", pixel_unshuffle, opset="iOS16", x=normal(1, 2, 3, 6),
         downscale_factor=np.uint32(3)),
    case("space_to_batch", "padded", space_to_batch, x=normal(2, 1, 3, 4), block_shape=[2, 3],
         paddings=[[1, 0], [0, 2]]),
    case("space_to_batch", "plain", space_to_batch, x=normal(1, 3, 4, 6), block_shape=[2, 2],
         paddings=[[0, 0], [0, 0]]),
    case("batch_to_space", "plain", batch_to_space, x=normal(8, 3, 2, 1), block_shape=[2, 2],
         crops=[[0, 0], [0, 0]]),
    case("batch_to_space", "cropped", batch_to_space, x=normal(12, 1, 3, 2), block_shape=[2, 3],
         crops=[[1, 0], [0, 2]]),
]  # fmt: skip

JOINING = [
    case("concat", "axis_1", concat, values=[normal(2, 3, 4), normal(2, 1, 4), normal(2, 2, 4)], axis=1),
    case("concat", "negative", concat, values=[normal(2, 3), normal(2, 5)], axis=-1),
    case("concat", "with_constant", concat, values=[normal(2, 3), const(normal(1, 3))], axis=0),
    case("concat", "scalars", lambda x: np.array([x.max(), x.min()]), x=normal(2, 3),
         build=lambda x: mb.concat(values=[mb.reduce_max(x=x), mb.reduce_min(x=x)], axis=0)),
    case("concat", "one", concat, values=[normal(2, 3)], axis=0),
    case("concat", "int32", concat, values=[integers(-9, 9, 3), integers(-9, 9, 2)], axis=0),
    case("concat", "interleave", concat, values=[normal(3, 2), normal(3, 2)], axis=0, interleave=True),
    case("concat", "interleave_three", concat, values=[normal(1, 4, 2)] * 3, axis=-2, interleave=True),
    case("stack", "first", stack, values=[normal(2, 3), normal(2, 3)], axis=0),
    case("stack", "last", stack, values=[normal(2, 3)] * 3, axis=-1),
    case("stack", "middle", stack, values=[normal(2, 3)] * 2, axis=1),
    case("split", "even", split, x=normal(2, 6, 3), axis=1, num_splits=3),
    case("split", "sizes", split, x=normal(2, 6), axis=1, split_sizes=[1, 3, 2]),
    case("split", "sizes_negative_axis", split, x=normal(7, 2), axis=-2, split_sizes=[4, 3]),
    case("split", "both", split, x=normal(5, 2), axis=0, num_splits=2, split_sizes=[2, 3]),
    case("split", "int32", split, x=integers(-9, 9, 4), axis=0, num_splits=2),
    case("tile", "rank2", tile, x=normal(2, 3), reps=[2, 3]),
    case("tile", "rank4", tile, x=normal(1, 2, 1, 3), reps=[2, 1, 4, 1]),
    case("tile", "int32", tile, x=integers(-9, 9, 3), reps=[3]),
    case("tile", "dynamic", tile, x=normal(2, 3), reps=given([1, 2], "int32")),
]  # fmt: skip

PADDING = [
    case("pad", "defaults", pad, bare=True, x=X, pad=[0, 1, 2, 0, 1, 1]),
    case("pad", "constant", pad, x=X, pad=[1, 0, 0, 2, 1, 3], mode="constant", constant_val=-1.5),
    case("pad", "last_dimensions", pad, x=normal(1, 2, 3, 4), pad=[1, 2, 0, 3], mode="constant",
         constant_val=0.5),
    case("pad", "reflect", pad, x=normal(1, 2, 4, 5), pad=[2, 3, 1, 4], mode="reflect"),
    case("pad", "reflect_1d", pad, x=normal(2, 6), pad=[3, 2], mode="reflect"),
    case("pad", "replicate", pad, x=normal(1, 2, 3, 4), pad=[2, 1, 0, 3], mode="replicate"),
    case("pad", "replicate_1d", pad, x=normal(2, 5), pad=[4, 1], mode="replicate"),
    case("pad", "dynamic", pad, x=normal(2, 3), pad=given([1, 0, 2, 1], "int32"), mode="constant",
         constant_val=2.0),
    case("crop", "asymmetric", crop, x=normal(1, 2, 6, 5), crop_height=[1, 2], crop_width=[0, 3]),
    case("crop", "rank3", crop, x=normal(2, 4, 4), crop_height=[0, 1], crop_width=[2, 0]),
    case("band_part", "defaults", band_part, bare=True, x=normal(2, 3, 4)),
    case("band_part", "upper", band_part, x=normal(4, 4), lower=0, upper=-1),
    case("band_part", "lower", band_part, x=normal(2, 3, 5), lower=-1, upper=0),
    case("band_part", "band", band_part, x=normal(5, 4), lower=1, upper=2),
]  # fmt: skip

MAKING = [
    case("fill", "defaults", fill, bare=True, shape=given([2, 3], "int32")),
    case("fill", "value", fill, shape=given([3, 1, 2], "int32"), value=2.5),
    case("fill", "int32", fill, shape=given([4], "int32"), value=7),
    case("fill", "constant_shape", lambda x, shape, value: x + np.full(shape, value),
         build=lambda x, shape, value: mb.add(x=x, y=mb.fill(shape=shape, value=value)),
         x=normal(2, 3), shape=[2, 3], value=-1.0),
    case("fill_like", "defaults", fill_like, opset="iOS16", bare=True, ref_tensor=normal(2, 3)),
    case("fill_like", "value", fill_like, opset="iOS16", ref_tensor=normal(4, 1, 2), value=1.5),
    case("fill_like", "other_type", fill_like, opset="iOS16", ref_tensor=normal(3), value=7),
    case("shape", "rank3", shape, x=X),
    case("shape", "rank1", shape, x=normal(6)),
    case("identity", "fp32", identity, x=X),
    case("identity", "int32", identity, x=integers(-9, 9, 3)),
    *(
        case("range_1d", name, range_1d, **arguments,
             build=lambda end, start, step: mb.range_1d(
                 end=mb.squeeze(x=end), start=mb.squeeze(x=start), step=mb.squeeze(x=step)))
        for name, arguments in {
            "int32": {"end": given([9], "int32"), "start": given([2], "int32"), "step": given([3], "int32")},
            "falling": {"end": given([-4], "int32"), "start": given([3], "int32"), "step": given([-2], "int32")},
            "fp32": {"end": given([2.2]), "start": given([-1.0]), "step": given([0.5])},
        }.items()
    ),
    case("range_1d", "constant_start", lambda end: np.arange(end[0]),
         build=lambda end: mb.range_1d(end=mb.squeeze(x=end), start=0, step=1), end=given([5], "int32")),
]  # fmt: skip

CASES = RESHAPING + MOVING + JOINING + PADDING + MAKING
