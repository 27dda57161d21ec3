"""Backends: the arithmetic of training, generic over an array namespace, with faster overrides for each library.

>>> from xpnn.backends import get_backend
>>> get_backend("numpy").name
'numpy'
"""

from .activations import ACTIVATIONS, Activation
from .array_api import ArrayAPIBackend
from .base import Backend
from .choice import JobOutline
from .errors import (
    BackendUnavailable,
    ConfigError,
    DataError,
    DeviceError,
    DeviceLost,
    DivergenceError,
    MissingDependency,
    ModelFileError,
    RunError,
    RunFolderInUse,
    StorageError,
    XpnnError,
)
from .generic_plan import GenericPlan
from .lookup import look_up
from .losses import LOSSES, log_softmax, softmax
from .optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, RMSprop
from .plan import NO_ROWS, Layer, Plan, Rows, Totals, TrainingJob
from .registry import available_backends, get_backend, registered_backends, why_unavailable
from .step_options import StepOptions

__all__ = [
    "ACTIVATIONS", "LOSSES", "NO_ROWS", "OPTIMIZERS", "SGD", "Activation", "Adam", "AdamW", "ArrayAPIBackend",
    "Backend", "BackendUnavailable", "ConfigError", "DataError", "DeviceError", "DeviceLost", "DivergenceError",
    "GenericPlan", "JobOutline", "Layer", "MissingDependency", "ModelFileError", "Optimizer", "Plan", "RMSprop",
    "Rows", "RunError", "RunFolderInUse", "StepOptions", "StorageError", "Totals", "TrainingJob", "XpnnError",
    "available_backends", "get_backend", "log_softmax", "look_up", "registered_backends", "softmax",
    "why_unavailable",
]  # fmt: skip
