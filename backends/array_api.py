"""The generic backend over any Array API namespace, without overrides."""

from __future__ import annotations

import importlib
from typing import Any

from .base import Backend
from .errors import BackendUnavailable


class ArrayAPIBackend(Backend):
    """The generic operations on a given namespace, such as `array_api_strict`.

    Slow: it shows that the generic layer uses only what the standard guarantees.
    """

    name = "array-api"

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)

    def __repr__(self) -> str:
        return f"<ArrayAPIBackend over {self.xp.__name__}>"


class ArrayAPIStrictBackend(ArrayAPIBackend):
    """The generic operations on `array_api_strict`, which rejects everything outside the standard."""

    name = "array-api-strict"

    def __init__(self) -> None:
        try:
            super().__init__(importlib.import_module("array_api_strict"))
        except ImportError as error:
            raise BackendUnavailable(
                "backend array-api-strict needs the package array-api-strict: pip install array-api-strict"
            ) from error
