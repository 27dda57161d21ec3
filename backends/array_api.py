"""The generic backend over any Array API namespace, without overrides."""

from __future__ import annotations

from importlib import import_module

from .base import Backend
from .errors import unavailable_if


class ArrayAPIBackend(Backend):
    """The generic operations on a given namespace, such as `array_api_strict`.

    Slow: it shows that the generic layer uses only what the standard guarantees.
    """

    name = "array-api"

    def __repr__(self) -> str:
        return f"<ArrayAPIBackend over {self.xp.__name__}>"


class ArrayAPIStrictBackend(ArrayAPIBackend):
    """The generic operations on `array_api_strict`, which rejects everything outside the standard."""

    name = "array-api-strict"

    def __init__(self) -> None:
        with unavailable_if("backend array-api-strict cannot import array_api_strict", "pip install array-api-strict"):
            super().__init__(import_module("array_api_strict"))
