"""Reductions over axes."""

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from .case import Case, case, distinct, integers, normal, uniform

# The reference for axes and keep_dims in numpy's way, and the smallest value to try it with.
REDUCTIONS: dict[str, tuple[Callable, float]] = {
    "reduce_l1_norm": (lambda x, **over: np.abs(x).sum(**over), -3),
    "reduce_l2_norm": (lambda x, **over: np.sqrt(np.square(x).sum(**over)), -3),
    "reduce_log_sum": (lambda x, **over: np.log(x.sum(**over)), 0.1),
    "reduce_log_sum_exp": (lambda x, **over: logsumexp(x, **over), -3),
    "reduce_max": (lambda x, **over: x.max(**over), -3),
    "reduce_mean": (lambda x, **over: x.mean(**over), -3),
    "reduce_min": (lambda x, **over: x.min(**over), -3),
    "reduce_prod": (lambda x, **over: x.prod(**over), -1.5),
    "reduce_sum": (lambda x, **over: x.sum(**over), -3),
    "reduce_sum_square": (lambda x, **over: np.square(x).sum(**over), -3),
}
WITH_INTEGERS = {"reduce_max", "reduce_min", "reduce_prod", "reduce_sum", "reduce_sum_square"}


def reduction_cases(op: str, function: Callable, low: float) -> list[Case]:
    def reference(x, axes=None, keep_dims=False):
        return function(x, axis=None if axes is None else tuple(axes), keepdims=keep_dims)

    x = uniform(low, -low if low < 0 else 3, 2, 3, 4)
    cases = [
        case(op, "defaults", reference, bare=True, x=x),
        case(op, "one_axis", reference, x=x, axes=[1], keep_dims=False),
        case(op, "keep_dims", reference, x=x, axes=[0, 2], keep_dims=True),
        case(op, "negative_axes", reference, x=x, axes=[-1, -3], keep_dims=False),
        case(op, "all_keep_dims", reference, x=x, keep_dims=True),
        case(op, "rank1", reference, x=uniform(low, 2, 6), axes=[0], keep_dims=True),
        case(op, "rank5", reference, x=uniform(low, 2, 1, 2, 3, 2, 2), axes=[2, -1], keep_dims=False),
    ]
    if op in WITH_INTEGERS:
        cases.append(case(op, "int32", reference, x=integers(-4, 4, 3, 4), axes=[1], keep_dims=False))
    return cases


def arg_cases(op: str, function: Callable) -> list[Case]:
    def reference(x, axis=-1, keep_dims=False, output_dtype="int32"):
        return function(x, axis=axis, keepdims=keep_dims)

    x = distinct(3, 4, 5)
    return [
        case(op, "defaults", reference, bare=True, x=x),
        case(op, "axis_0", reference, x=x, axis=0),
        case(op, "keep_dims", reference, x=x, axis=-2, keep_dims=True),
        case(op, "rank1", reference, x=distinct(7), axis=0, keep_dims=True),
        case(op, "int32", reference, x=distinct(3, 4, dtype="int32"), axis=1),
        case(op, "ios17", reference, opset="iOS17", x=x, axis=1, keep_dims=True, output_dtype="int32"),
        case(op, "ios17_uint16", reference, opset="iOS17", x=x, axis=1, output_dtype="uint16"),
    ]


def log_sum_exp(x, axes=None, keep_dims=False):
    return logsumexp(x, axis=None if axes is None else tuple(axes), keepdims=keep_dims)


def mean(x, axes=None, keep_dims=False):
    return x.mean(axis=tuple(axes), keepdims=keep_dims)


CASES = [
    *(x for op, row in REDUCTIONS.items() for x in reduction_cases(op, *row)),
    *arg_cases("reduce_argmax", np.argmax),
    *arg_cases("reduce_argmin", np.argmin),
    # exp of these values overflows, their log-sum-exp does not.
    case("reduce_log_sum_exp", "large", log_sum_exp, x=uniform(400, 500, 2, 3), axes=[1]),
    case("reduce_mean", "global_pool", mean, x=normal(2, 3, 7, 5), axes=[-1, -2], keep_dims=True),
    case("reduce_mean", "fp16", mean, opset="iOS16", rtol=2e-3, atol=2e-3,
         x=normal(3, 8, dtype="fp16"), axes=[1], keep_dims=False),
]  # fmt: skip
