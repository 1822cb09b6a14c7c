"""The compiled half of the package; import ``ane``."""

import os
from typing import Any, Dict, List, Optional, Sequence, Union, overload

import numpy as np

from ._types import Engine, Metadata, Placement, Schema

__version__: str

class Model:
    """A loaded Core ML model. Threads may share it: predictions run side by side, without the GIL."""

    def __init__(
        self,
        path: Union[str, "os.PathLike[str]"],
        *,
        compute_units: Optional[Any] = None,
        function: Optional[str] = None,
        engine: str = "auto",
        precision: Optional[str] = None,
        compiled: Optional[Union[str, "os.PathLike[str]"]] = None,
        threads: Optional[int] = None,
    ) -> None:
        """Loads a ``.mlpackage``, a ``.mlmodel`` or a ``.mlmodelc``.

        ``compute_units``: ``"ALL"``, ``"ANE"``, ``"GPU"``, ``"CPU"`` or a ``coremltools.ComputeUnit``.
        ``engine``: ``"auto"``, ``"coreml"``, ``"onnxruntime"`` or ``"rten"``. ``precision``: ``"fp32"`` or ``"fp16"``.
        ``compiled``: a folder where the compiled model is kept and found by the next load.
        """

    @overload
    def predict(
        self, inputs: Dict[str, Any], state: Optional[State] = None, *, timeout: Optional[float] = None
    ) -> Dict[str, Any]: ...
    @overload
    def predict(self, inputs: List[Dict[str, Any]], *, timeout: Optional[float] = None) -> List[Dict[str, Any]]: ...
    def new_state(self) -> State:
        """State of zeros, for ``predict``."""

    @property
    def schema(self) -> Schema: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def placement(self) -> Placement: ...
    @property
    def obstacles(self) -> List[str]:
        """What keeps it from the Neural Engine, a sentence each."""

    @property
    def path(self) -> "os.PathLike[str]": ...
    @property
    def precision(self) -> str: ...
    @property
    def memory_bytes(self) -> int:
        """Bytes of the weights and of one run on inputs of the default shapes."""

class State:
    """What a model remembers between predictions: of ``Model.new_state()``, for ``Model.predict``."""

    def read(self, name: str) -> "np.ndarray[Any, Any]": ...
    def write(self, name: str, value: Any) -> None: ...
    @property
    def names(self) -> List[str]: ...

def offer_onnxruntime_package(folder: Union[str, "os.PathLike[str]"]) -> None: ...
def installed_engines() -> List[Dict[str, Any]]: ...
