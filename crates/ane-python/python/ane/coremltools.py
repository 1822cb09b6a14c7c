"""``coremltools`` with this package where Core ML would be.

    import ane.coremltools

    ane.coremltools.install()

After that ``coremltools`` predicts where there is no Core ML: ``MLModel.predict``, ``make_state``, what ``convert``
returns, and ``CompiledMLModel`` of a compiled program. Models are loaded when their ``MLModel`` is made, as on a Mac, so
files that ``coremltools`` removes again are not needed any more.

``coremltools`` finds Core ML through its module ``libcoremlpython``, which its packages have on macOS alone. This
module stands in for it, and answers ``coremltools``' questions for macOS where a feature depends on them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import types
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from . import Error, InferenceFailed, Model, State
from ._types import Feature

__all__ = ["Engine", "install", "installed", "uninstall"]

#: The variable that names the engine of a run: ``onnxruntime``, ``rten`` or ``auto``.
ENGINE_VARIABLE = "ANE_ENGINE"

_MODULE = "coremltools.libcoremlpython"
#: The macOS that ``coremltools`` is told of, where it asks: the first with states.
_MACOS = (15, 0)
#: Of specifications that are read.
_NEWEST_SPECIFICATION = 10


class Engine:
    """One loaded model, with the inputs and outputs that ``coremltools`` has.

    It differs from ``ane.Model`` where Core ML's Python binding does: numbers of any type are taken for an array of
    whole numbers and cut, and a coloured image comes back with an alpha channel.
    """

    def __init__(
        self,
        path: str,
        compute_units: str = "ALL",
        function_name: Optional[str] = None,
        engine: Optional[str] = None,
    ) -> None:
        engine = engine or _default_engine()
        self.model = Model(path, compute_units=compute_units, function=function_name or None, engine=engine)
        schema = self.model.schema
        self._inputs = {feature.name: feature for feature in schema.inputs}
        self._colored = [feature.name for feature in schema.outputs if feature.color in ("RGB", "BGR")]

    def predict(self, inputs: Dict[str, Any], state: Optional[State] = None) -> Dict[str, Any]:
        """Predicts; see ``coremltools.models.MLModel.predict``."""
        with _in_core_mls_words():
            return self._given(self.model.predict(self._taken(inputs), state))

    def predict_batch(self, batch: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Predicts for each of a list of inputs."""
        with _in_core_mls_words():
            outputs = self.model.predict([self._taken(inputs) for inputs in batch])
        return [self._given(one) for one in outputs]

    def new_state(self) -> State:
        """State of zeros, for ``predict``."""
        return self.model.new_state()

    def _taken(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        return {name: _as_declared(self._inputs.get(name), value) for name, value in inputs.items()}

    def _given(self, outputs: Dict[str, Any]) -> Dict[str, Any]:
        for name in self._colored:
            image = outputs[name]
            outputs[name] = image.convert("RGBA") if hasattr(image, "convert") else image
        return outputs


def install(engine: Optional[str] = None, force: bool = False) -> bool:
    """Makes ``coremltools`` predict with this package.

    ``engine`` is ``"auto"``, ``"onnxruntime"`` or ``"rten"``; where it is ``None``, the variable ``ANE_ENGINE`` names it.
    On macOS Core ML stays in place unless ``force`` is set. Models that were made before keep what they have.

    Returns whether ``coremltools`` predicts with this package now.

    Raises ImportError where ``coremltools`` is not installed.
    """
    global _STAND_IN, _CHOSEN
    if sys.platform == "darwin" and not force:
        return installed()
    _CHOSEN = engine
    if installed():
        return True
    before = sys.modules.get(_MODULE)
    _STAND_IN = _StandIn(before)
    sys.modules[_MODULE] = _STAND_IN.module
    try:
        import coremltools
    except ImportError as error:
        _STAND_IN.put_back_module()
        _STAND_IN = None
        raise ImportError("coremltools is not installed; `pip install coremltools` gets it") from error
    _STAND_IN.take_place(coremltools)
    return True


def uninstall() -> None:
    """Gives ``coremltools`` back what it had before ``install``."""
    global _STAND_IN
    if _STAND_IN is not None:
        _STAND_IN.give_back()
        _STAND_IN = None


def installed() -> bool:
    """Whether ``coremltools`` predicts with this package."""
    return _STAND_IN is not None


_STAND_IN: Optional["_StandIn"] = None
_CHOSEN: Optional[str] = None


def _default_engine() -> str:
    return _CHOSEN or os.environ.get(ENGINE_VARIABLE) or "auto"


@contextlib.contextmanager
def _in_core_mls_words() -> Iterator[None]:
    """A failed prediction begins with Core ML's own sentence, which programs look for."""
    try:
        yield
    except InferenceFailed as error:
        raise InferenceFailed(f"Error computing NN outputs: {error}") from error


def _as_declared(feature: Optional[Feature], value: Any) -> Any:
    """An array of the type and rank that the model declares, as Core ML's binding makes it."""
    if feature is None or feature.kind != "array":
        return value
    array = np.asarray(value)
    if feature.dtype in ("int32", "int8") and array.dtype.kind == "f":
        array = array.astype(feature.dtype)
    return array


class _Proxy:
    """What ``coremltools`` calls ``_MLModelProxy``: a model in Core ML's hands."""

    def __init__(
        self,
        path: str,
        compute_units: str = "ALL",
        function_name: str = "",
        optimization_hints: Optional[Dict[str, str]] = None,
        asset: Optional["_AssetProxy"] = None,
    ) -> None:
        # The hints are about Apple's hardware.
        del optimization_hints
        self._path = asset.path if asset is not None else str(path)
        self._last: Optional[int] = None
        begin = time.perf_counter_ns()
        try:
            self._engine = Engine(self._path, compute_units, function_name)
        except RuntimeError:
            raise
        except Error as error:
            # What coremltools keeps for `predict` to tell is a RuntimeError.
            raise RuntimeError(str(error)) from error
        self._load = time.perf_counter_ns() - begin

    def predict(self, data: Dict[str, Any], state: Optional["_StateProxy"] = None) -> Dict[str, Any]:
        begin = time.perf_counter_ns()
        outputs = self._engine.predict(data, None if state is None else state.state)
        self._last = time.perf_counter_ns() - begin
        return outputs

    def batchPredict(self, data: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        begin = time.perf_counter_ns()
        outputs = self._engine.predict_batch(data)
        self._last = time.perf_counter_ns() - begin
        return outputs

    def newState(self) -> "_StateProxy":
        return _StateProxy(self._engine.new_state())

    def get_compiled_model_path(self) -> str:
        # There is no other form of it, and `CompiledMLModel` takes this one.
        return self._path

    def get_load_duration_in_nano_seconds(self) -> int:
        return self._load

    def get_last_predict_duration_in_nano_seconds(self) -> Optional[int]:
        return self._last

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return _NEWEST_SPECIFICATION

    @staticmethod
    def auto_set_specification_version(spec: Any) -> Any:
        return spec

    @staticmethod
    def get_available_compute_devices() -> List[Any]:
        from coremltools.models.compute_device import MLCPUComputeDevice

        return [MLCPUComputeDevice(_CpuProxy())]

    get_all_compute_devices = get_available_compute_devices

    @staticmethod
    def create_model_asset_from_path(path: str) -> Any:
        from coremltools.models.model import MLModelAsset

        return MLModelAsset(_AssetProxy(path))

    @staticmethod
    def create_model_asset_from_memory(spec_data: bytes, blob_mapping: Dict[str, bytes]) -> Any:
        raise _needs_a_mac("an MLModelAsset from memory")

    @staticmethod
    def compileModel(path: str) -> str:
        raise _needs_a_mac("compiling a model to .mlmodelc")

    @staticmethod
    def get_model_structure(path: str) -> Any:
        raise _needs_a_mac("MLModelStructure")

    @staticmethod
    def get_compute_plan(path: str, compute_units: str) -> Any:
        raise _needs_a_mac("MLComputePlan")


class _StateProxy:
    """What ``coremltools`` calls an ``MLState``'s proxy."""

    def __init__(self, state: State) -> None:
        self.state = state

    def read_state(self, name: str) -> np.ndarray:
        return self._told(self.state.read, name)

    def write_state(self, name: str, value: np.ndarray) -> None:
        self._told(self.state.write, name, value)

    @staticmethod
    def _told(do: Any, *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except Error as error:
            raise RuntimeError(str(error)) from error


class _AssetProxy:
    def __init__(self, path: str) -> None:
        self.path = str(path)


class _CpuProxy:
    pass


class _Absent:
    """What there is on Apple's machines alone."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise _needs_a_mac("this")


def _needs_a_mac(what: str) -> RuntimeError:
    return RuntimeError(f"{what} needs Core ML itself; ane loads .mlpackage and .mlmodel as they are")


class _StandIn:
    """The module in Core ML's place, and what was there before."""

    def __init__(self, before: Optional[types.ModuleType]) -> None:
        self._before = before
        self._replaced: List[Tuple[Any, str, Any]] = []
        self.module = types.ModuleType(_MODULE, "Core ML's place, taken by ane.coremltools.")
        self._contents = {
            "_MLModelProxy": _Proxy,
            "_MLModelAssetProxy": _AssetProxy,
            "_MLCPUComputeDeviceProxy": _CpuProxy,
            "_MLGPUComputeDeviceProxy": type("_MLGPUComputeDeviceProxy", (_Absent,), {}),
            "_MLNeuralEngineComputeDeviceProxy": type("_MLNeuralEngineComputeDeviceProxy", (_Absent,), {}),
            "_MLComputePlanProxy": type("_MLComputePlanProxy", (_Absent,), {}),
        }
        vars(self.module).update(self._contents)

    def take_place(self, coremltools: types.ModuleType) -> None:
        self._replace(coremltools, "libcoremlpython", self.module)
        # Modules that were imported before have names of their own for what they found, or `None`.
        for module in _modules_of_coremltools():
            for name, value in self._contents.items():
                if name in vars(module):
                    self._replace(module, name, value)
        # Only the modules that load and run models are told of a Mac; others start Apple's tools where there is one.
        from coremltools.models import _compiled_model, model

        for module in (model, _compiled_model):
            for name, value in (("_is_macos", lambda: True), ("_macos_version", lambda: _MACOS)):
                if name in vars(module):
                    self._replace(module, name, value)

    def give_back(self) -> None:
        for place, name, value in reversed(self._replaced):
            if value is _MISSING:
                delattr(place, name)
            else:
                setattr(place, name, value)
        # What was imported since then has taken our names.
        for module in _modules_of_coremltools():
            for name, value in self._contents.items():
                if vars(module).get(name) is value:
                    setattr(module, name, getattr(self._before, name, None))
        self.put_back_module()

    def put_back_module(self) -> None:
        if self._before is None:
            sys.modules.pop(_MODULE, None)
        else:
            sys.modules[_MODULE] = self._before

    def _replace(self, place: Any, name: str, value: Any) -> None:
        self._replaced.append((place, name, vars(place).get(name, _MISSING)))
        setattr(place, name, value)


_MISSING = object()


def _modules_of_coremltools() -> List[types.ModuleType]:
    ours = sys.modules.get(_MODULE)
    names = [name for name in sys.modules if name == "coremltools" or name.startswith("coremltools.")]
    modules = [sys.modules[name] for name in names]
    return [module for module in modules if isinstance(module, types.ModuleType) and module is not ours]
