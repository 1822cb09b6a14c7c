"""Compressed constants, and quantization of values.

A compressed constant is always added to an input `x` of its shape, as it cannot be a model output alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

from .case import Case, Tensor, case, const, given, integers, normal, uniform

WIDTHS = {
    "int4": types.np_int4_dtype,
    "uint1": types.np_uint1_dtype,
    "uint2": types.np_uint2_dtype,
    "uint3": types.np_uint3_dtype,
    "uint4": types.np_uint4_dtype,
    "uint6": types.np_uint6_dtype,
    "int8": np.int8,
    "uint8": np.uint8,
    "fp16": np.float16,
    "fp32": np.float32,
}


def typed(values: np.ndarray, width: str) -> np.ndarray:
    return values.astype(WIDTHS[width])


def added(op: str, name: str, decompress: Callable, x: Tensor, opset: str, **arguments: Any) -> Case:
    """A case that adds the result of a constexpr op to x. `arguments` are constants of the op."""
    widths = {k.removesuffix("_type"): arguments.pop(k) for k in list(arguments) if k.endswith("_type")}
    tolerance = {"rtol": 2e-3, "atol": 2e-3} if x.dtype == "fp16" else {}

    def build(x, **values):
        values = {k: typed(v, widths[k]) if k in widths else v for k, v in values.items()}
        return mb.add(x=x, y=getattr(mb, op)(**values))

    def reference(x, **values):
        return x + decompress(**values)

    return case(op, name, reference, opset=opset, build=build, x=x, **tolerance, **arguments)


def constants(low: int, high: int, *shape: int) -> Tensor:
    """Small whole numbers, to be stored in a narrow type by the builder."""
    return const(integers(low, high, *shape))


# --- iOS16 ------------------------------------------------------------------------------------------


def along(vector, rank: int, axis: int) -> np.ndarray:
    """A scalar, or a vector shaped to broadcast along an axis."""
    shape = [1] * rank
    if np.ndim(vector):
        shape[axis] = -1
    return np.reshape(vector, shape)


def affine_dequantize(quantized_data, zero_point, scale, axis):
    rank = quantized_data.ndim
    return along(scale, rank, axis) * (quantized_data - along(zero_point, rank, axis))


def unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Numbers of `bits` bits, lowest bits first and without gaps, from bytes."""
    stream = np.unpackbits(packed.astype(np.uint8), bitorder="little")[: bits * count].reshape(count, bits)
    return stream.astype(np.int64) @ (1 << np.arange(bits))


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    stream = (values.reshape(-1, 1) >> np.arange(bits)) & 1
    return np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little")


def lut_to_dense_ios16(indices, lut, shape):
    bits = int(np.log2(len(lut)))
    return lut[unpacked(indices, bits, int(np.prod(shape)))].reshape(shape)


def sparse_to_dense_ios16(nonzero_data, mask, shape):
    dense = np.zeros(int(np.prod(shape)))
    dense[unpacked(mask, 1, len(dense)) == 1] = nonzero_data
    return dense.reshape(shape)


def packed_indices(bits: int, *shape: int) -> Tensor:
    draw = integers(0, 2**bits - 1, *shape).draw
    return const(Tensor(lambda rng: packed(draw(rng), bits), "uint8"))


def first_bits_set(count: int, *shape: int) -> np.ndarray:
    """A mask with `count` ones at places that are scattered but always the same."""
    order = np.random.default_rng(count).permutation(int(np.prod(shape)))
    mask = np.zeros(len(order), np.int64)
    mask[order[:count]] = 1
    return mask.reshape(shape)


IOS16 = [
    added("constexpr_affine_dequantize", "int8_per_channel", affine_dequantize, normal(4, 3, 2), "iOS16",
          quantized_data=constants(-128, 127, 4, 3, 2), quantized_data_type="int8",
          zero_point=constants(-20, 20, 4), zero_point_type="int8", scale=const(uniform(0.01, 0.1, 4)), axis=0),
    added("constexpr_affine_dequantize", "uint8_axis_1", affine_dequantize, normal(2, 5), "iOS16",
          quantized_data=constants(0, 255, 2, 5), quantized_data_type="uint8",
          zero_point=constants(100, 150, 5), zero_point_type="uint8", scale=const(uniform(0.01, 0.1, 5)), axis=1),
    added("constexpr_affine_dequantize", "scalar_scale", affine_dequantize, normal(3, 4), "iOS16",
          quantized_data=constants(-128, 127, 3, 4), quantized_data_type="int8", zero_point=np.int8(3),
          scale=np.float32(0.05), axis=0),
    added("constexpr_affine_dequantize", "scalar_zero_point", affine_dequantize, normal(3, 4), "iOS16",
          quantized_data=constants(0, 255, 3, 4), quantized_data_type="uint8", zero_point=np.uint8(128),
          scale=const(uniform(0.01, 0.1, 4)), axis=-1),
    added("constexpr_affine_dequantize", "inline", affine_dequantize, normal(2, 2), "iOS16",
          quantized_data=constants(-128, 127, 2, 2), quantized_data_type="int8",
          zero_point=constants(-20, 20, 2), zero_point_type="int8", scale=const(uniform(0.01, 0.1, 2)), axis=0),
    added("constexpr_cast", "fp16_to_fp32", lambda source_val, output_dtype: source_val, normal(3, 5), "iOS16",
          source_val=const(normal(3, 5, dtype="fp16")), output_dtype="fp32"),
    added("constexpr_cast", "ios18", lambda source_val, output_dtype: source_val, normal(3, 5), "iOS18",
          source_val=const(normal(3, 5, dtype="fp16")), output_dtype="fp32"),
    *(
        added("constexpr_lut_to_dense", f"ios16_{bits}_bit", lut_to_dense_ios16, normal(*shape), "iOS16",
              indices=packed_indices(bits, *shape), lut=const(normal(2**bits)),
              shape=np.array(shape, np.uint32))
        for bits, shape in ((1, (3, 7)), (2, (5,)), (4, (3, 5)), (6, (2, 7)), (8, (4, 3)))
    ),
    *(
        added("constexpr_sparse_to_dense", f"ios16_{name}", sparse_to_dense_ios16, normal(*shape), "iOS16",
              nonzero_data=const(normal(count)), mask=packed(first_bits_set(count, *shape), 1),
              shape=np.array(shape, np.uint32))
        for name, count, shape in (("rank3", 11, (3, 5, 2)), ("rank1", 2, (5,)))
    ),
]  # fmt: skip

# --- iOS18 ------------------------------------------------------------------------------------------


def spread(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One value per block repeated to the full shape."""
    for axis, size in enumerate(shape):
        blocks = np.repeat(blocks, size // blocks.shape[axis], axis)
    return blocks


def blockwise_shift_scale(data, scale, offset=None):
    shift = 0 if offset is None else spread(offset, data.shape)
    return spread(scale, data.shape) * (data - shift)


def lut_to_dense(indices, lut, vector_axis=None):
    """The table of every element is chosen by its block, its entry by the index."""
    axis = 0 if vector_axis is None else vector_axis % indices.ndim
    size = lut.shape[-1]
    shape = list(indices.shape)
    shape[axis] *= size
    dense = np.empty(shape)
    for position in np.ndindex(*indices.shape):
        block = tuple(p * t // n for p, t, n in zip(position, lut.shape, indices.shape))
        for k, value in enumerate(lut[(*block, indices[position])]):
            target = list(position)
            target[axis] = position[axis] * size + k
            dense[tuple(target)] = value
    return dense


def sparse_to_dense(nonzero_data, mask):
    dense = np.zeros(mask.shape, np.asarray(nonzero_data).dtype)
    dense[mask == 1] = nonzero_data
    return dense


def blockwise(name: str, shape: tuple, blocks: tuple, width: str, offset: str | None) -> Case:
    bits = int(width[-1])
    low, high = (0, 2**bits - 1) if width[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    offsets: dict[str, Any] = {}
    if offset == "fp32":
        offsets = {"offset": const(normal(*blocks))}
    elif offset:
        offsets = {"offset": constants(max(low, -4), min(high, 9), *blocks), "offset_type": offset}
    return added("constexpr_blockwise_shift_scale", name, blockwise_shift_scale, normal(*shape), "iOS18",
                 data=constants(low, high, *shape), data_type=width,
                 scale=const(uniform(0.05, 0.5, *blocks)), **offsets)  # fmt: skip


def table(name: str, shape: tuple, tables: tuple, width: str, axis: int | None = None, size: int = 1) -> Case:
    bits = int(width[-1])
    full = list(shape)
    if axis is not None:
        full[axis] *= size
    return added("constexpr_lut_to_dense", f"ios18_{name}", lut_to_dense, normal(*full), "iOS18",
                 indices=constants(0, 2**bits - 1, *shape), indices_type=width,
                 lut=const(normal(*tables, 2**bits, size)),
                 **({} if axis is None else {"vector_axis": np.int32(axis)}))  # fmt: skip


IOS18 = [
    blockwise("int4_per_block", (4, 6), (4, 3), "int4", None),
    blockwise("uint4_per_block_offset", (4, 6), (2, 2), "uint4", "uint4"),
    blockwise("int8_per_channel", (3, 2, 4), (3, 1, 1), "int8", None),
    blockwise("uint8_per_channel_offset", (3, 5), (3, 1), "uint8", "uint8"),
    blockwise("int4_offset", (2, 4, 3), (1, 2, 3), "int4", "int4"),
    blockwise("uint4_float_offset", (4, 4), (2, 1), "uint4", "fp32"),
    blockwise("per_tensor", (5, 3), (1, 1), "int8", "int8"),
    blockwise("odd_count", (3, 5), (1, 5), "uint4", None),
    table("1_bit", (3, 7), (1, 1), "uint1"),
    table("2_bit_grouped", (6, 2), (2, 1), "uint2"),
    table("3_bit", (5, 3), (1, 1), "uint3"),
    table("4_bit_grouped_axis_1", (3, 4), (1, 2), "uint4"),
    table("6_bit", (4, 5), (1, 1), "uint6"),
    table("8_bit", (3, 4, 2), (1, 1, 1), "uint8"),
    table("vector_axis_0", (2, 3), (1, 1), "uint2", axis=0, size=2),
    table("vector_axis_1", (2, 2, 2), (1, 1, 1), "uint1", axis=1, size=3),
    table("vector_grouped", (4, 3), (2, 1), "uint4", axis=0, size=2),
    table("vector_negative_axis", (3, 2), (1, 1), "uint3", axis=-1, size=4),
]


# --- sparse, iOS18 ----------------------------------------------------------------------------------


def sparse(name: str, count: int, shape: tuple, width: str = "fp32") -> Case:
    x = normal(*shape, dtype=width)
    return added("constexpr_sparse_to_dense", f"ios18_{name}", sparse_to_dense, x, "iOS18",
                 nonzero_data=const(normal(count, dtype=width)), mask=first_bits_set(count, *shape),
                 mask_type="uint1")  # fmt: skip


def lut_to_sparse(name: str, count: int, shape: tuple, tables: tuple, width: str) -> Case:
    """A chain of two ops, as coremltools writes it for weights that are pruned and palettized."""
    bits = int(width[-1])
    mask = first_bits_set(count, *shape)

    def build(x, indices, lut):
        found, values = mb.constexpr_lut_to_sparse(
            indices_mask=typed(mask, "uint1"), indices_nonzero_data=typed(indices, width), lut=lut
        )
        return mb.add(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=values, mask=found))

    def reference(x, indices, lut):
        return x + np.where(mask == 1, lut_to_dense(sparse_to_dense(indices, mask), lut), 0)

    return case("constexpr_lut_to_sparse", name, reference, opset="iOS18", build=build, x=normal(*shape),
                indices=constants(0, 2**bits - 1, count), lut=const(normal(*tables, 2**bits, 1)))  # fmt: skip


def sparse_blockwise(name: str, count: int, shape: tuple, blocks: tuple, width: str, offset: bool) -> Case:
    """A chain of two ops, as coremltools writes it for weights that are pruned and quantized."""
    bits = int(width[-1])
    low, high = (0, 2**bits - 1) if width[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    mask = first_bits_set(count, *shape)

    def build(x, data, scale, offset=None):
        shift = {} if offset is None else {"offset": typed(offset, width)}
        found, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=typed(mask, "uint1"), nonzero_data=typed(data, width), scale=scale, **shift
        )
        return mb.add(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=values, mask=found))

    def reference(x, data, scale, offset=None):
        # What is masked out is zero after the shift, too.
        dense = blockwise_shift_scale(sparse_to_dense(data, mask), scale, offset)
        return x + np.where(mask == 1, dense, 0)

    shift = {"offset": constants(max(low, -3), 5, *blocks)} if offset else {}
    return case("constexpr_sparse_blockwise_shift_scale", name, reference, opset="iOS18", build=build,
                x=normal(*shape), data=constants(low, high, count), scale=const(uniform(0.05, 0.5, *blocks)),
                **shift)  # fmt: skip


SPARSE = [
    sparse("rank3", 11, (3, 5, 2)),
    sparse("rank1", 2, (5,)),
    sparse("fp16", 6, (4, 3), width="fp16"),
    lut_to_sparse("per_tensor", 12, (4, 6), (1, 1), "uint4"),
    lut_to_sparse("grouped", 10, (4, 5), (2, 1), "uint2"),
    lut_to_sparse("3_bit", 13, (3, 2, 4), (1, 1, 1), "uint3"),
    sparse_blockwise("int8_per_channel", 13, (4, 6), (4, 1), "int8", offset=False),
    sparse_blockwise("int8_offset", 13, (4, 6), (4, 1), "int8", offset=True),
    sparse_blockwise("uint4_per_block", 11, (2, 3, 4), (2, 1, 2), "uint4", offset=True),
]

# --- values -----------------------------------------------------------------------------------------


def quantize(input, scale, output_dtype, zero_point=0, axis=0):
    shape = input.ndim, axis
    low, high = (0, 255) if output_dtype == "uint8" else (-128, 127)
    return np.clip(np.round(input / along(scale, *shape)) + along(zero_point, *shape), low, high)


def dequantize(input, scale, zero_point=0, axis=0):
    return along(scale, input.ndim, axis) * (input - along(zero_point, input.ndim, axis))


def quantize_and_back(input, scale, zero_point, output_dtype):
    return dequantize(quantize(input, scale, output_dtype, zero_point), scale, zero_point)


def build_quantize_and_back(input, scale, zero_point, output_dtype):
    narrow = mb.quantize(input=input, scale=scale, zero_point=zero_point, output_dtype=output_dtype)
    return mb.dequantize(input=narrow, scale=scale, zero_point=zero_point)


INT8 = integers(-128, 127, 3, 4, dtype="int8")
SCALES = const(uniform(0.01, 0.1, 3))

VALUES = [
    case("quantize", "int8", quantize, opset="iOS17", input=normal(3, 4), scale=np.float32(0.03),
         output_dtype="int8"),
    case("quantize", "uint8_zero_point", quantize, opset="iOS17", input=normal(3, 4), scale=np.float32(0.03),
         zero_point=np.uint8(100), output_dtype="uint8"),
    case("quantize", "saturates", quantize, opset="iOS17", input=given([-90.0, -1.1, 0.0, 0.7, 90.0]),
         scale=np.float32(0.25), zero_point=np.int8(-5), output_dtype="int8"),
    case("quantize", "per_channel", quantize, opset="iOS17", input=normal(2, 3, 4), scale=SCALES,
         zero_point=const(integers(-20, 20, 3, dtype="int8")), axis=1, output_dtype="int8"),
    case("quantize", "negative_axis", quantize, opset="iOS17", input=normal(4, 3), scale=SCALES, axis=-1,
         output_dtype="int8"),
    case("quantize", "and_back", quantize_and_back, opset="iOS17", build=build_quantize_and_back,
         input=normal(3, 4), scale=np.float32(0.05), zero_point=np.int8(7), output_dtype="int8"),
    case("dequantize", "int8", dequantize, opset="iOS17", input=INT8, scale=np.float32(0.05)),
    case("dequantize", "uint8_zero_point", dequantize, opset="iOS17",
         input=integers(0, 255, 3, 4, dtype="uint8"), scale=np.float32(0.05), zero_point=np.uint8(128)),
    case("dequantize", "per_channel", dequantize, opset="iOS17", input=INT8, scale=SCALES,
         zero_point=const(integers(-20, 20, 3, dtype="int8")), axis=0),
    case("dequantize", "negative_axis", dequantize, opset="iOS17",
         input=integers(-128, 127, 4, 3, dtype="int8"), scale=SCALES, axis=-1),
]  # fmt: skip

CASES = IOS16 + IOS18 + SPARSE + VALUES
