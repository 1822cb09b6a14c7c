"""Core ML models on any machine.

    import ane

    model = ane.Model("digits.mlpackage")
    print(model.predict({"image": picture})["classLabel"])

On macOS models run through Core ML, on its Neural Engine; elsewhere on the CPU, with ONNX Runtime.
``ane.coremltools.install()`` makes ``coremltools`` predict with this package.
"""

from __future__ import annotations

import importlib.util as _util
from typing import List as _List

from . import _ane
from ._ane import Model, State, __version__
from ._errors import (
    CompilationFailed,
    Error,
    InferenceFailed,
    Internal,
    InvalidModelFormat,
    InvalidShape,
    MemoryAllocationFailed,
    ModelAlreadyLoaded,
    ModelNotFound,
    ResourceLimit,
    Timeout,
    Unavailable,
    UnsupportedPrecision,
)
from ._types import Engine, Feature, InstalledEngine, Metadata, Placement, Schema

__all__ = [
    "CompilationFailed",
    "Engine",
    "Error",
    "Feature",
    "InferenceFailed",
    "InstalledEngine",
    "Internal",
    "InvalidModelFormat",
    "InvalidShape",
    "MemoryAllocationFailed",
    "Metadata",
    "Model",
    "ModelAlreadyLoaded",
    "ModelNotFound",
    "Placement",
    "ResourceLimit",
    "Schema",
    "State",
    "Timeout",
    "Unavailable",
    "UnsupportedPrecision",
    "__version__",
    "engines",
]


def engines() -> _List[InstalledEngine]:
    """Every engine on this machine, in the order in which ``engine="auto"`` looks at them.

    Loads ONNX Runtime where it is found.
    """
    return [InstalledEngine(**fields) for fields in _ane.installed_engines()]


def _offer_onnxruntime() -> None:
    """Tells the engines where this Python's ``onnxruntime`` is, without importing it."""
    try:
        spec = _util.find_spec("onnxruntime")
    except (ImportError, ValueError):  # a module of that name that tells nothing of itself
        return
    for folder in (spec.submodule_search_locations or []) if spec else []:
        _ane.offer_onnxruntime_package(folder)


_offer_onnxruntime()
