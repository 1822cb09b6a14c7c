"""What a model says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple, Union


@dataclass(frozen=True)
class Feature:
    """One input, output or state."""

    name: str
    #: ``"array"``, ``"image"``, ``"int"``, ``"float"``, ``"str"``, ``"dict"``, ``"list"`` or ``"state"``.
    kind: str
    description: str = ""
    #: Whether a caller may leave it out.
    optional: bool = False
    #: Of an array or a state: the name of numpy's type.
    dtype: Optional[str] = None
    #: Of an array: its default shape, empty where the model gives none. Of an image: (height, width).
    shape: Optional[Tuple[int, ...]] = None
    #: The shapes that it may have, where they are counted up.
    shapes: Optional[List[Tuple[int, ...]]] = None
    #: The smallest and the largest size of each dimension, where there is a choice; ``None`` is no limit.
    ranges: Optional[List[Tuple[int, Optional[int]]]] = None
    #: The value of every element of an optional array that is left out.
    default: Optional[float] = None
    #: Of an image: ``"L"``, ``"F"`` (half floats), ``"RGB"`` or ``"BGR"``, the order that the network sees.
    color: Optional[str] = None
    #: Of a dict, the type of its keys, of a list, of its elements: ``"int"`` or ``"str"``.
    key: Optional[str] = None


@dataclass(frozen=True)
class Schema:
    """What the loaded function of a model takes and gives."""

    inputs: Tuple[Feature, ...]
    outputs: Tuple[Feature, ...]
    #: What lives on from one prediction to the next.
    states: Tuple[Feature, ...] = ()
    #: The output with the predicted class or value.
    predicted_feature: Optional[str] = None
    #: The output with the probability of each class.
    predicted_probabilities: Optional[str] = None
    #: The labels of a classifier, in the order of its scores.
    class_labels: Optional[Union[List[str], List[int]]] = None
    #: The functions of a model that has several.
    functions: Tuple[str, ...] = ()
    default_function: str = ""


@dataclass(frozen=True)
class Metadata:
    """Author, licence and what else a model says of itself."""

    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    user_defined: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """The engine that a model got, and why."""

    name: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip() + f" ({self.reason})"


@dataclass(frozen=True)
class InstalledEngine:
    """An engine on this machine."""

    name: str
    version: Optional[str]
    #: The file that it is loaded from; ``None`` for what is compiled in or was not found.
    path: Optional[str]
    #: Where it was found, as half a sentence.
    origin: str
    #: ``"chosen"`` for the one that ``"auto"`` takes, ``"available"`` or ``"unusable"``.
    status: str
    #: Why it cannot be used.
    problem: Optional[str] = None


@dataclass(frozen=True)
class Placement:
    """Where a model runs, as far as the system tells."""

    #: What the load asked for: ``"ALL"``, ``"ANE"``, ``"GPU"`` or ``"CPU"``.
    asked: str
    #: What may be used.
    allowed: str
    #: Unit, number of operations and part of the cost, where the system has a plan.
    planned: List[Tuple[str, int, Optional[float]]]
    #: What is certain to run it.
    known: Optional[str]
    #: Why less is allowed than was asked.
    fallbacks: List[str]
