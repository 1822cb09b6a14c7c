"""What an op case is: random tensors, a program with the op in it, and the numbers expected from it.

The reference of a case is a Python function with the parameters of the MIL op, in numpy and after the
documentation of the op. It must know neither coremltools nor our lowering.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb

Draw = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Tensor:
    """A tensor argument: a function input, or a constant of the program."""

    draw: Draw
    dtype: str
    constant: bool = False


def normal(*shape: int, dtype: str = "fp32") -> Tensor:
    return Tensor(lambda rng: rng.standard_normal(shape), dtype)


def uniform(low: float, high: float, *shape: int, dtype: str = "fp32") -> Tensor:
    return Tensor(lambda rng: rng.uniform(low, high, shape), dtype)


def integers(low: int, high: int, *shape: int, dtype: str = "int32") -> Tensor:
    """Whole numbers from `low` to `high`, both included."""
    return Tensor(lambda rng: rng.integers(low, high + 1, shape), dtype)


def distinct(*shape: int, dtype: str = "fp32") -> Tensor:
    """Different whole numbers in random order, so that sorting and maxima have one answer."""
    return Tensor(lambda rng: rng.permutation(int(np.prod(shape))).reshape(shape) - shape[-1], dtype)


def booleans(*shape: int) -> Tensor:
    return Tensor(lambda rng: rng.integers(0, 2, shape), "bool")


def given(values: Any, dtype: str = "fp32") -> Tensor:
    return Tensor(lambda rng: np.array(values), dtype)


def const(tensor: Tensor) -> Tensor:
    """The same tensor as a constant of the program."""
    return replace(tensor, constant=True)


NUMPY_TYPES = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}


@dataclass
class Case:
    """One fixture. Arguments that are tensors or lists of tensors are drawn, others are passed as they are."""

    op: str
    name: str
    reference: Callable
    arguments: dict[str, Any]
    opset: str = "iOS15"
    build: Callable | None = None
    rtol: float = 1e-4
    atol: float = 1e-5
    # The op in the file has only the arguments given here, so a reader needs its own defaults.
    bare: bool = False
    # For programs with state: how many times to run, with new inputs each time.
    runs: int = 1
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # For classifiers: the label of every probability that the program gives.
    classes: list[str] | list[int] | None = None

    @property
    def path(self) -> str:
        return f"{self.op}/{self.name}"

    def values(self, run: int = 0) -> dict[str, Any]:
        """The arguments with every tensor drawn. Constants are the same in every run."""
        fixed = np.random.default_rng(zlib.crc32(self.path.encode()))
        moving = np.random.default_rng(zlib.crc32(f"{self.path}/{run}".encode()))

        def value(argument: Any) -> Any:
            if isinstance(argument, Tensor):
                drawn = argument.draw(fixed if argument.constant else moving)
                return drawn.astype(NUMPY_TYPES[argument.dtype])
            if isinstance(argument, list) and any(isinstance(x, Tensor) for x in argument):
                return [value(x) for x in argument]
            return argument

        return {name: value(argument) for name, argument in self.arguments.items()}

    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        """The function inputs, in order, with the names they have in the model."""
        for name, argument in self.arguments.items():
            if isinstance(argument, Tensor) and not argument.constant:
                yield name, argument
            if isinstance(argument, list):
                for i, x in enumerate(argument):
                    if isinstance(x, Tensor) and not x.constant:
                        yield f"{name}_{i}", x

    def builder(self) -> Callable:
        return self.build or getattr(mb, self.op)


def case(op: str, name: str, reference: Callable, **options: Any) -> Case:
    """A case whose options that `Case` does not know are arguments of the op."""
    known = {k: options.pop(k) for k in list(options) if k in Case.__dataclass_fields__}
    return Case(op, name, reference, options, **known)
