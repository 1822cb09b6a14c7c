"""Unary and binary ops that work on every element alone."""

from collections.abc import Callable

import numpy as np
from coremltools.converters.mil import Builder as mb
from scipy.special import erf

from .case import NUMPY_TYPES, Case, Tensor, booleans, case, const, given, integers, normal, uniform

ANY = uniform(-3, 3, 2, 3, 4)
POSITIVE = uniform(0.1, 4, 3, 5)
INSIDE = uniform(-0.95, 0.95, 7)
HALVES = given([-2.5, -1.7, -1.5, -0.5, -0.2, 0.0, 0.2, 0.5, 0.7, 1.5, 2.5])

# Ops with the one parameter x: the reference, and the tensors to try.
UNARY: dict[str, tuple[Callable, dict[str, Tensor]]] = {
    "abs": (np.abs, {"rank3": ANY, "int32": integers(-9, 9, 4, 2)}),
    "acos": (np.arccos, {"rank1": INSIDE}),
    "asin": (np.arcsin, {"rank1": INSIDE}),
    "atan": (np.arctan, {"rank3": ANY}),
    "atanh": (np.arctanh, {"rank1": INSIDE}),
    "ceil": (np.ceil, {"halves": HALVES, "rank5": uniform(-5, 5, 1, 2, 2, 1, 3)}),
    "cos": (np.cos, {"rank3": ANY}),
    "cosh": (np.cosh, {"rank3": ANY}),
    "erf": (erf, {"rank3": ANY}),
    "exp": (np.exp, {"rank3": ANY}),
    "exp2": (np.exp2, {"rank3": ANY, "int32": integers(0, 9, 6)}),
    "floor": (np.floor, {"halves": HALVES, "rank5": uniform(-5, 5, 1, 2, 2, 1, 3)}),
    "logical_not": (np.logical_not, {"rank2": booleans(3, 4)}),
    # "0.5 is rounded to 0": halves go to the even neighbour.
    "round": (np.round, {"halves": HALVES, "rank2": uniform(-9, 9, 3, 4)}),
    "sign": (np.sign, {"zero": given([-2.0, -0.0, 0.0, 3.0]), "int32": integers(-2, 2, 3, 3)}),
    "sin": (np.sin, {"rank3": ANY}),
    "sinh": (np.sinh, {"rank3": ANY}),
    "sqrt": (np.sqrt, {"rank2": POSITIVE}),
    "square": (np.square, {"rank3": ANY, "int32": integers(-9, 9, 5)}),
    "tan": (np.tan, {"rank2": uniform(-1.3, 1.3, 3, 4)}),
    "tanh": (np.tanh, {"rank3": ANY, "rank1": uniform(-9, 9, 5)}),
}


def inverse(x, epsilon=1e-4):
    return 1 / (x + epsilon)


def log(x, epsilon=1e-45):
    return np.log(x + epsilon)


def rsqrt(x, epsilon=1e-12):
    return 1 / np.sqrt(x + epsilon)


def clip(x, alpha, beta):
    return np.minimum(np.maximum(x, alpha), beta)


def threshold(x, alpha):
    return np.maximum(x, alpha)


def cast(x, dtype):
    # Numbers become integers by truncation and booleans by comparison with zero.
    return x.astype(NUMPY_TYPES[dtype])


PARAMETRIC = [
    case("inverse", "defaults", inverse, bare=True, x=uniform(0.01, 0.1, 3, 4)),
    case("inverse", "epsilon", inverse, x=uniform(0.5, 2, 2, 3), epsilon=0.25),
    case("inverse", "ios17", inverse, opset="iOS17", x=uniform(-2, -0.5, 5), epsilon=0.01),
    case("log", "defaults", log, bare=True, x=POSITIVE),
    case("log", "epsilon", log, x=given([0.0, 0.01, 1.0, 5.0]), epsilon=0.001),
    case("log", "ios17", log, opset="iOS17", x=POSITIVE, epsilon=0.5),
    case("rsqrt", "defaults", rsqrt, bare=True, x=POSITIVE),
    case("rsqrt", "epsilon", rsqrt, x=given([0.0, 0.01, 1.0, 5.0]), epsilon=0.1),
    case("rsqrt", "ios17", rsqrt, opset="iOS17", x=POSITIVE, epsilon=0.5),
    case("clip", "rank3", clip, x=ANY, alpha=-1.25, beta=0.75),
    case("clip", "relu6", clip, x=uniform(-3, 9, 2, 3), alpha=0.0, beta=6.0),
    case("clip", "ios17", clip, opset="iOS17", x=uniform(-3, 3, 8), alpha=-2.0, beta=-0.5),
    case("threshold", "rank3", threshold, x=ANY, alpha=0.5),
    case("threshold", "int32", threshold, x=integers(-9, 9, 6), alpha=-2),
    case("cast", "fp32_to_int32", cast, x=given([-2.7, -1.5, -0.2, 0.0, 0.9, 1.5, 300.2]), dtype="int32"),
    case("cast", "int32_to_fp32", cast, x=integers(-1000, 1000, 2, 3), dtype="fp32"),
    case("cast", "fp32_to_bool", cast, x=given([-1.0, -0.0, 0.0, 0.25, 3.0]), dtype="bool"),
    case("cast", "int32_to_bool", cast, x=integers(-1, 1, 7), dtype="bool"),
    case("cast", "bool_to_fp32", cast, x=booleans(2, 4), dtype="fp32"),
    case("cast", "bool_to_int32", cast, x=booleans(5), dtype="int32"),
    case("cast", "same_type", cast, x=normal(3), dtype="fp32"),
    case("cast", "fp32_to_fp16", cast, opset="iOS16", rtol=1e-3, x=normal(3, 4), dtype="fp16"),
    case("cast", "fp16_to_fp32", cast, opset="iOS16", rtol=1e-3, x=normal(3, 4, dtype="fp16"), dtype="fp32"),
    case("cast", "fp32_to_int8", cast, opset="iOS17", x=uniform(-120, 120, 6), dtype="int8"),
    case("cast", "fp32_to_uint8", cast, opset="iOS17", x=uniform(0, 250, 6), dtype="uint8"),
    case("cast", "int32_to_int16", cast, opset="iOS17", x=integers(-30000, 30000, 6), dtype="int16"),
    case("cast", "int32_to_uint16", cast, opset="iOS17", x=integers(0, 65000, 6), dtype="uint16"),
    case("cast", "uint8_to_fp32", cast, opset="iOS17", x=integers(0, 255, 6, dtype="uint8"), dtype="fp32"),
]

# Binary ops on numbers: the reference, and whether they are also defined for int32 here.
BINARY: dict[str, tuple[Callable, bool]] = {
    "add": (np.add, True),
    "sub": (np.subtract, True),
    "mul": (np.multiply, True),
    "real_div": (np.true_divide, False),
    "floor_div": (np.floor_divide, True),
    "mod": (np.mod, True),
    "maximum": (np.maximum, True),
    "minimum": (np.minimum, True),
    "equal": (np.equal, True),
    "not_equal": (np.not_equal, True),
    "greater": (np.greater, True),
    "greater_equal": (np.greater_equal, True),
    "less": (np.less, True),
    "less_equal": (np.less_equal, True),
}
# Quarters of whole numbers: equal pairs occur, and quotients stay clear of rounding trouble.
STEPS = [x / 4 for x in range(-12, 13)]
DIVISORS = [-2.5, -2.0, -0.75, 0.5, 1.25, 3.0]


def pick(values: list, *shape: int, dtype: str = "fp32") -> Tensor:
    return Tensor(lambda rng: rng.choice(values, shape), dtype)


def binary_cases(op: str, function: Callable, with_integers: bool) -> list[Case]:
    def reference(x, y):
        return function(x, y)

    def y(*shape: int, dtype: str = "fp32") -> Tensor:
        if op in ("real_div", "floor_div", "mod"):
            return pick(DIVISORS if dtype != "int32" else [-3, -2, 2, 3, 5], *shape, dtype=dtype)
        return pick(STEPS if dtype != "int32" else list(range(-5, 6)), *shape, dtype=dtype)

    cases = [
        case(op, "same_shape", reference, x=pick(STEPS, 3, 4), y=y(3, 4)),
        case(op, "broadcast", reference, x=pick(STEPS, 2, 1, 3), y=y(4, 1)),
        case(op, "constant", reference, x=pick(STEPS, 2, 3, 2), y=const(y(1, 3, 1))),
        case(op, "scalar", reference, x=pick(STEPS, 2, 1, 3, 1, 2), y=1.25),
        case(op, "constant_first", reference, x=const(pick(STEPS, 4)), y=y(3, 4)),
        case(op, "fp16", reference, opset="iOS16", rtol=2e-3, atol=2e-3,
             x=pick(STEPS, 3, 4, dtype="fp16"), y=y(4, dtype="fp16")),
    ]  # fmt: skip
    if op in ("floor_div", "mod"):
        # Of these, 41 / 41 is less than 1 where an engine multiplies by the reciprocal.
        multiples = [41.0 * x for x in range(-6, 7)]
        cases.append(case(op, "one_divisor", reference, x=given(multiples), y=given([41.0])))
        cases.append(case(op, "one_divisor_rank3", reference, x=given(multiples), y=given([[[41.0]]])))
        cases.append(case(op, "one_of_each", reference, x=given([41.0]), y=41.0))
    if op == "real_div":
        cases.append(case(op, "one_divisor_rank3", reference, x=normal(2), y=given([[[2.5]]])))
    if with_integers:
        cases.append(
            case(op, "int32", reference, x=integers(-9, 9, 3, 4), y=y(4, dtype="int32"))
        )
    return cases


def logical_cases(op: str, function: Callable) -> list[Case]:
    def reference(x, y):
        return function(x, y)

    return [
        case(op, "same_shape", reference, x=booleans(3, 4), y=booleans(3, 4)),
        case(op, "broadcast", reference, x=booleans(3, 1), y=booleans(2, 1, 4)),
    ]


def power(x, y):
    return np.power(x, y)


def same_tensor_twice(x):
    return x + x


CASES = [
    *(
        case(op, name, lambda x, f=function: f(x), x=tensor)
        for op, (function, tensors) in UNARY.items()
        for name, tensor in tensors.items()
    ),
    *PARAMETRIC,
    *(x for op, row in BINARY.items() for x in binary_cases(op, *row)),
    *logical_cases("logical_and", np.logical_and),
    *logical_cases("logical_or", np.logical_or),
    *logical_cases("logical_xor", np.logical_xor),
    case("add", "same_tensor", same_tensor_twice, build=lambda x: mb.add(x=x, y=x), x=normal(2, 3)),
    case("pow", "same_shape", power, x=POSITIVE, y=uniform(-2, 2, 3, 5)),
    case("pow", "broadcast", power, x=uniform(0.1, 3, 2, 1, 3), y=uniform(-2, 2, 4, 1)),
    case("pow", "square_of_negative", power, x=uniform(-3, 3, 2, 3), y=2.0),
    case("pow", "cube_of_negative", power, x=uniform(-3, 3, 2, 3), y=3.0),
    case("pow", "int32", power, x=integers(-4, 4, 3, 3), y=const(integers(0, 3, 3))),
    case("pow", "constant_base", power, x=2.5, y=normal(5)),
]
