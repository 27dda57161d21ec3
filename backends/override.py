"""`typing.override` for Python 3.11, which lacks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import override as override
else:

    def override(method: Callable[..., Any]) -> Callable[..., Any]:
        """Mark a method that overrides one of a base class; type checkers verify it."""
        return method
