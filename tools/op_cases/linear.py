"""Matrix products and attention."""

import numpy as np

from .case import booleans, case, const, integers, normal


def linear(x, weight, bias=0.0):
    return x @ weight.T + bias


def matmul(x, y, transpose_x=False, transpose_y=False):
    x = x.swapaxes(-1, -2) if transpose_x else x
    y = y.swapaxes(-1, -2) if transpose_y else y
    return x @ y


def einsum(values, equation):
    return np.einsum(equation, *values)


def einsum_broadcast(values, equation):
    """Sizes of one stretch in the batch dimensions, which are all but the first's -3, -1 and the second's."""
    x, y = values
    batch = [axis for axis in range(x.ndim) if axis not in (x.ndim - 3, x.ndim - 1)]
    common = {axis: max(x.shape[axis], y.shape[axis]) for axis in batch}
    stretch = [np.broadcast_to(v, [common.get(i, n) for i, n in enumerate(v.shape)]) for v in values]
    return np.einsum(equation, *stretch)


def scaled_dot_product_attention(query, key, value, attn_mask=None):
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ value


def causal(length: int, sources: int):
    """A boolean mask that leaves every row at least one source."""
    tensor = booleans(length, sources)
    draw = tensor.draw
    return type(tensor)(lambda rng: draw(rng) | np.eye(length, sources, dtype=np.int64), "bool")


ATTENTION = {"query": normal(1, 2, 3, 4), "key": normal(1, 2, 5, 4), "value": normal(1, 2, 5, 6)}

CASES = [
    case("linear", "defaults", linear, bare=True, x=normal(3, 4), weight=const(normal(5, 4))),
    case("linear", "rank1", linear, x=normal(4), weight=const(normal(3, 4)), bias=const(normal(3))),
    case("linear", "rank2", linear, x=normal(3, 4), weight=const(normal(5, 4)), bias=const(normal(5))),
    case("linear", "rank3", linear, x=normal(2, 3, 4), weight=const(normal(5, 4)), bias=const(normal(5))),
    case("linear", "ios17", linear, opset="iOS17", x=normal(2, 3), weight=const(normal(7, 3)),
         bias=const(normal(7))),
    case("linear", "fp16", linear, opset="iOS16", rtol=5e-3, atol=5e-3, x=normal(2, 6, dtype="fp16"),
         weight=const(normal(4, 6, dtype="fp16")), bias=const(normal(4, dtype="fp16"))),
    case("linear", "ios17_int32_weight", linear, opset="iOS17", x=normal(2, 3),
         weight=const(integers(-5, 5, 4, 3)), bias=const(integers(-5, 5, 4))),
    case("matmul", "defaults", matmul, bare=True, x=normal(3, 4), y=normal(4, 5)),
    case("matmul", "transpose_x", matmul, x=normal(4, 3), y=normal(4, 5), transpose_x=True),
    case("matmul", "transpose_y", matmul, x=normal(3, 4), y=normal(5, 4), transpose_y=True),
    case("matmul", "transpose_both", matmul, x=normal(2, 4, 3), y=normal(2, 5, 4), transpose_x=True,
         transpose_y=True),
    case("matmul", "batch", matmul, x=normal(2, 3, 4, 5), y=normal(2, 3, 5, 2)),
    case("matmul", "batch_broadcast", matmul, x=normal(3, 4, 2), y=normal(2, 1, 2, 5)),
    case("matmul", "batch_broadcast_transpose", matmul, x=normal(2, 1, 3, 4), y=normal(3, 5, 4),
         transpose_y=True),
    case("matmul", "rank5", matmul, x=normal(1, 2, 1, 3, 4), y=normal(2, 1, 2, 4, 2)),
    case("matmul", "constant", matmul, x=normal(2, 3, 4), y=const(normal(4, 3))),
    case("matmul", "constant_transposed", matmul, x=normal(2, 3, 4), y=const(normal(3, 4)), transpose_y=True),
    # Vectors are documented, but coremltools cannot write a program with them.
    case("matmul", "ios17", matmul, opset="iOS17", x=normal(2, 3, 4), y=normal(2, 4, 2)),
    case("matmul", "ios17_int32_constant", matmul, opset="iOS17", x=normal(2, 3), y=const(integers(-5, 5, 3, 4))),
    case("matmul", "ios17_float_constant", lambda x, y: (x @ y).astype(np.int32), opset="iOS17",
         x=const(integers(-5, 5, 2, 3, dtype="fp32")), y=integers(-5, 5, 3, 4)),
    case("einsum", "rank4", einsum, values=[normal(2, 3, 4, 5), normal(2, 5, 4, 6)], equation="nchw,nwhu->nchu"),
    case("einsum", "rank3", einsum, values=[normal(3, 4, 5), normal(5, 4, 2)], equation="chw,whr->chr"),
    case("einsum", "other_letters", einsum, values=[normal(2, 3, 4, 5), normal(2, 5, 4, 3)],
         equation="abcd,adce->abce"),
    case("einsum", "broadcast_rank4", einsum_broadcast, values=[normal(2, 3, 1, 5), normal(1, 5, 4, 6)],
         equation="nchw,nwhu->nchu"),
    case("einsum", "broadcast_rank3", einsum_broadcast, values=[normal(3, 4, 5), normal(5, 1, 2)],
         equation="chw,whr->chr"),
    *(
        case("scaled_dot_product_attention", name, scaled_dot_product_attention, opset="iOS18", **arguments)
        for name, arguments in {
            "no_mask": ATTENTION,
            "bool_mask": ATTENTION | {"attn_mask": causal(3, 5)},
            "float_mask": ATTENTION | {"attn_mask": normal(3, 5)},
            "mask_per_head": ATTENTION | {"attn_mask": normal(1, 2, 3, 5)},
            "mask_broadcast": ATTENTION | {"attn_mask": normal(1, 1, 1, 5)},
            "rank3": {"query": normal(2, 3, 4), "key": normal(2, 3, 4), "value": normal(2, 3, 4)},
            "rank5": {
                "query": normal(1, 2, 2, 3, 4),
                "key": normal(1, 2, 2, 4, 4),
                "value": normal(1, 2, 2, 4, 3),
            },
        }.items()
    ),
]  # fmt: skip
