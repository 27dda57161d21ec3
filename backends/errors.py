"""Exception classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class XpnnError(Exception):
    """Base class of errors caused by input or environment; messages say what is wrong and how to fix it."""


class BackendUnavailable(XpnnError, ImportError):  # noqa: N818 - the name is part of the public interface
    """A backend is not available on this machine; the message has the reason and the install command."""


class MissingDependency(XpnnError, ImportError):  # noqa: N818
    """A feature needs a package that is not installed; the message has the install command."""


class DataError(XpnnError, ValueError):
    """External data (files, arrays, labels, downloads) are invalid."""


class ConfigError(XpnnError, ValueError):
    """An argument or option has an invalid value."""


class RunFolderInUse(ConfigError):  # noqa: N818
    """Another process is using the run folder."""


class ModelFileError(XpnnError, ValueError):
    """A saved model or checkpoint cannot be read."""


class RunError(XpnnError, RuntimeError):
    """A run failed; base class of the reasons."""


class StorageError(RunError):
    """A file cannot be written: disk full or permission denied. An existing file is left unchanged."""


class DivergenceError(RunError):
    """Training diverged: a value is not finite; the message names epoch, step and tensor."""


class DeviceError(RunError):
    """A GPU operation failed: out of memory, or refused by its software. The process can continue."""


class DeviceLost(DeviceError):  # noqa: N818
    """A GPU stopped responding; its contents are lost and the process must be restarted."""


@contextmanager
def unavailable_if(failed: str, fix: str) -> Iterator[None]:
    """Context manager: raise any error, since a broken installation raises what it likes, as `BackendUnavailable`."""
    try:
        yield
    except Exception as error:
        raise BackendUnavailable(f"{failed} ({' '.join(str(error).split()):.200}): {fix}") from error


def check_product(product: Any) -> None:
    """Check that `x @ x.T + 1` is right, an array (2, 2), for the numbers from 0 to 5 as x (2, 3)."""
    if (got := product.tolist()) != [[6, 15], [15, 51]]:
        raise ArithmeticError(f"it gave {got} instead of [[6, 15], [15, 51]]")
