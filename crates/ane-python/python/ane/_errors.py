"""The package's exceptions: one for each thing that a caller can act on."""


class Error(Exception):
    """What all exceptions of this package are."""


class Unavailable(Error, RuntimeError):
    """There is no Apple Neural Engine here, or no way to it."""


class ModelNotFound(Error, FileNotFoundError):
    """There is no model at the path."""


class InvalidModelFormat(Error, ValueError):
    """The model's file is damaged, or is no Core ML model."""


class CompilationFailed(Error, RuntimeError):
    """The model is sound, but this machine's engines cannot take it."""


class InferenceFailed(Error, RuntimeError):
    """A prediction failed."""


class Timeout(Error, TimeoutError):
    """The deadline passed."""


class ResourceLimit(Error, RuntimeError):
    """More was asked for than the limits allow."""


class MemoryAllocationFailed(Error, MemoryError):
    """The system gave no memory."""


class InvalidShape(Error, ValueError):
    """A feature is missing, unknown or of the wrong kind or shape."""


class UnsupportedPrecision(Error, ValueError):
    """A value or an element type that the feature does not take."""


class ModelAlreadyLoaded(Error, RuntimeError):
    """A model with this id is loaded already."""


class Internal(Error, RuntimeError):
    """A fault of this package or of an engine; please report it."""


for _class in [Error, *Error.__subclasses__()]:
    _class.__module__ = "ane"  # where users find it
del _class
