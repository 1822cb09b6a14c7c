"""A network under construction: it draws inputs and weights, and hands them to the case that computes with them.

A case is a function that declares inputs, adds layers through `builder`, and returns the expected outputs, in
numpy and after the comments of coremltools' NeuralNetwork.proto. Values are given as float64 and stored as float32.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.models.neural_network.quantization_utils import _convert_array_to_nbit_quantized_bytes as pack

Expected = np.ndarray | dict[str, np.ndarray]


@dataclass
class Case:
    layer: str
    name: str
    run: Callable[["Network"], Expected]
    # Inputs as (sequence, batch, channel, height, width), as before specification 4.
    legacy: bool = False
    mode: str | None = None
    outputs: tuple[str, ...] = ("out",)
    rtol: float = 1e-4
    atol: float = 1e-5

    @property
    def path(self) -> str:
        return f"{self.layer}/{self.name}"


CASES: list[Case] = []


def case(layer: str, name: str, **options: Any) -> Callable:
    """Makes a case of a function of a network."""

    def decorate(function: Callable[["Network"], Expected]) -> Callable[["Network"], Expected]:
        CASES.append(Case(layer, name, function, **options))
        return function

    return decorate


def fill(message: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, np.ndarray):
            getattr(message, name).floatValue.extend(value.flatten())
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    fill(getattr(message, name).add(), item)
                else:
                    getattr(message, name).append(item)
        else:
            setattr(message, name, value)


@dataclass
class Network:
    case: Case
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    # The shapes that inputs are declared with, where they are others than those that are given.
    declared: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(self.case.path.encode()))

    # --- inputs, before the first layer ---------------------------------------------------------------

    def array(self, *shape: int, name: str = "x") -> np.ndarray:
        return self.given(self.normal(*shape), name)

    def given(self, values: Any, name: str = "x") -> np.ndarray:
        values = np.asarray(values, np.float32)
        self.inputs[name] = values
        return values.astype(np.float64)

    def sequence(self, steps: int, *shape: int, name: str = "x") -> np.ndarray:
        """A sequence for a network that declares one step of it. Gives all five dimensions."""
        self.declared[name] = shape
        return self.array(steps, 1, *shape, *(1,) * (3 - len(shape)), name=name)

    def image(self, height: int, width: int, color: str, name: str = "image") -> np.ndarray:
        """Gives the planes in the order that the network sees them."""
        channels = () if color == "GRAYSCALE" else (3,)
        self.inputs[name] = self.rng.integers(0, 256, (height, width, *channels), dtype=np.uint8)
        self.images[name] = color
        pixels = self.inputs[name].astype(np.float64)
        if not channels:
            return pixels[None, None]
        planes = pixels.transpose(2, 0, 1)[None]
        return planes[:, ::-1] if color == "BGR" else planes

    # --- layers ---------------------------------------------------------------------------------------

    def add(self, kind: str, inputs: str, outputs: str = "out", into: Any = None, **fields: Any) -> Any:
        """Adds a layer as the file has it. Names are separated by spaces; fields are numbers, lists or messages as
        dictionaries. `into` is the network of a branch or a loop. Gives the content's message."""
        layers = (self.builder.nn_spec if into is None else into).layers
        layer = layers.add(name=f"{kind}_{len(layers)}", input=inputs.split(), output=outputs.split())
        content = getattr(layer, kind)
        content.SetInParent()
        fill(content, fields)
        if not self.case.legacy:
            self.spec.specificationVersion = max(self.spec.specificationVersion, 5)
        return content

    # --- weights --------------------------------------------------------------------------------------

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    def half(self, weight: Any, values: np.ndarray) -> np.ndarray:
        """Stores a weight as float16, and gives it as it is stored."""
        weight.Clear()
        weight.float16Value = values.astype(np.float16).tobytes()
        return values.astype(np.float16).astype(np.float64)

    def linear(self, weight: Any, shape: tuple[int, ...], bits: int, axis: int | None, bias: bool = True) -> np.ndarray:
        """Stores a weight with a linear scale, for all of it or one for each place on `axis`."""
        stored = self.rng.integers(0, 1 << bits, shape)
        entries = [1] * len(shape)
        if axis is not None:
            entries[axis] = shape[axis]
        scale = self.rng.uniform(0.5, 2.0, entries).astype(np.float32) / (1 << bits)
        shift = self.rng.uniform(-1.0, 0.0, entries).astype(np.float32)
        weight.Clear()
        weight.rawValue = pack(stored.flatten(), bits).tobytes()
        weight.quantization.numberOfBits = bits
        weight.quantization.linearQuantization.scale.extend(scale.flatten().tolist())
        if bias:
            weight.quantization.linearQuantization.bias.extend(shift.flatten().tolist())
        return stored * scale.astype(np.float64) + (shift.astype(np.float64) if bias else 0.0)

    def table(self, weight: Any, shape: tuple[int, ...], bits: int) -> np.ndarray:
        """Stores a weight as indices into a table."""
        stored = self.rng.integers(0, 1 << bits, shape)
        table = self.normal(1 << bits)
        weight.Clear()
        weight.rawValue = pack(stored.flatten(), bits).tobytes()
        weight.quantization.numberOfBits = bits
        weight.quantization.lookupTableQuantization.floatValue.extend(table.tolist())
        return table[stored]

    def int8(self, weight: Any, shape: tuple[int, ...], scale: float) -> np.ndarray:
        """Stores a weight for int8 arithmetic."""
        stored = self.rng.integers(-127, 128, shape).astype(np.int8)
        weight.Clear()
        weight.int8RawValue = stored.tobytes()
        weight.quantization.numberOfBits = 8
        weight.quantization.linearQuantization.scale.append(scale)
        return stored * float(np.float32(scale))

    # --- the model ------------------------------------------------------------------------------------

    @cached_property
    def builder(self) -> NeuralNetworkBuilder:
        """Takes the inputs that are there when it is first asked for."""
        features = [(name, datatypes.Array(*self.array_shape(name))) for name in self.inputs]
        return NeuralNetworkBuilder(
            features,
            [(name, None) for name in self.case.outputs],
            mode=self.case.mode,
            disable_rank5_shape_mapping=not self.case.legacy,
            use_float_arraytype=True,
        )

    def array_shape(self, name: str) -> tuple[int, ...]:
        shape = self.declared.get(name, self.inputs[name].shape)
        if name not in self.images:
            return shape
        planes = (1 if self.images[name] == "GRAYSCALE" else 3, *shape[:2])
        return planes if self.case.legacy else (1, *planes)

    @property
    def layer(self) -> Any:
        """The message of the last layer's content."""
        last = self.builder.nn_spec.layers[-1]
        return getattr(last, last.WhichOneof("layer"))

    @property
    def spec(self) -> Any:
        return self.builder.spec

    def finished(self) -> bytes:
        for feature in self.spec.description.input:
            if color := self.images.get(feature.name):
                height, width = self.inputs[feature.name].shape[:2]
                image = feature.type.imageType
                image.width, image.height = width, height
                image.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value(color)
        return self.spec.SerializeToString(deterministic=True)
