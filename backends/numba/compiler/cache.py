"""Kernel cache: compiled kernels on disk, a file for each kernel and combination of types.

Numba's own cache unpickles whatever lies in its folder, keeps a shared index without a lock, and stops at a damaged
file. Here the folder must be the user's own, an entry is read only if its digest is right, and every failure means that
the kernel is compiled as if there were no cache, with one warning for each process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import secrets
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

LOGGER = logging.getLogger("xpnn")

SUFFIX, TEMPORARY = ".kernel", ".tmp"
ENTRY_BYTES = 64 * 2**20  # most that is read; the largest kernels have some 0.5 MiB
FOLDER_BYTES = 256 * 2**20  # above, the entries that were not used for longest are removed
UNUSED_DAYS, TOUCHED_DAYS = 30, 1  # an entry is removed after so many; its use is recorded once in so many
LEFTOVER_DAYS = 1 / 24  # a temporary file stands for a moment; one this old is a killed process's
DAY = 86400.0
# Settings of Numba's that change the machine code, from its environment variables.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "USING_SVML")


def default_path() -> Path:
    """Return the path of the cache: `$NUMBA_CACHE_DIR/xpnn`, else `kernels` in xpnn's cache folder of the user.

    Only environment variables are heeded, never Numba's configuration, which may come from the working folder.
    """
    environment = os.environ
    if named := environment.get("NUMBA_CACHE_DIR"):
        return Path(named, "xpnn")
    if os.name == "nt":
        local = environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local, "xpnn", "xpnn", "Cache", "kernels")
    caches = Path(environment.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # unset, or to be ignored by the XDG Base Directory Specification
        caches = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return caches / "xpnn" / "kernels"


class KernelFolder:
    """Folder of cache entries, which only its user can write.

    Args:
        path: absolute path; it is created, mode 0700, at the first use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_reported = self._is_pruned = False

    @cached_property
    def is_usable(self) -> bool:
        """Whether the folder exists and nobody else can write there; a warning says why not."""
        try:
            if not self.path.is_absolute():
                raise PermissionError("NUMBA_CACHE_DIR must be an absolute path")
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(self.path.stat(), "the folder")
        except OSError as error:
            self.report(error)
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """Return the content of an entry, or None if there is none.

        Raises:
            OSError: it cannot be read, is no regular file, or another user can write it.
            ValueError: its digest is wrong.
        """
        path = self.path / name
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe would wait
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{name} is not a regular file")
            _check_private(status, name)
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(ENTRY_BYTES)
        finally:
            os.close(descriptor)
        digest, content = content[:32], content[32:]
        if digest != _digest(name, content):
            raise ValueError(f"{name} is damaged, its SHA-256 is wrong")
        if time.time() - status.st_mtime > TOUCHED_DAYS * DAY:
            with suppress(OSError):
                os.utime(path)
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an entry under a temporary name, and rename it; the first time, remove entries out of use.

        Raises:
            OSError: the folder is not writable, or the disk is full; nothing is left behind.
        """
        temporary = self.path / f"{name}.{secrets.token_hex(4)}{TEMPORARY}"
        try:
            with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(_digest(name, content) + content)
            temporary.replace(self.path / name)
        finally:
            with suppress(OSError):  # renamed
                temporary.unlink()
        if not self._is_pruned:
            self._is_pruned = True
            self.prune()

    def prune(self) -> None:
        """Remove entries that were not used for a month, as those of other versions, and the oldest of too many."""
        entries = []
        for path in self.path.iterdir():
            with suppress(OSError):  # removed by another process, or a folder
                status = path.lstat()
                days = (time.time() - status.st_mtime) / DAY
                if path.suffix == TEMPORARY and days > LEFTOVER_DAYS:
                    path.unlink()
                elif path.suffix == SUFFIX and stat.S_ISREG(status.st_mode):
                    entries.append((days, status.st_size, path))
        kept = 0
        for days, size, path in sorted(entries):
            kept += size
            if days > UNUSED_DAYS or kept > FOLDER_BYTES:
                with suppress(OSError):
                    path.unlink()

    def report(self, error: Exception) -> None:
        """Log one warning about this folder, and no second one."""
        if not self._is_reported:
            self._is_reported = True
            reason = " ".join(str(error).split()) or type(error).__name__
            LOGGER.warning("kernels are compiled without the kernel cache %s: %s", self.path, reason)


@cache
def kernel_folder() -> KernelFolder:
    """Return this process's kernel cache; the environment is read at the first call."""
    try:
        return KernelFolder(default_path())
    except RuntimeError:  # no home folder can be determined
        return KernelFolder(Path("~", ".cache", "xpnn", "kernels"))


class KernelCache(_Cache):
    """Cache of one kernel's machine code, in Numba's protocol.

    Args:
        function: Python function of the kernel.
        options: settings that it is compiled with.
        folder: function that returns the folder; called at the first use of the kernel, not when it is declared.
    """

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], folder: Callable[[], KernelFolder] = kernel_folder
    ) -> None:
        self._function, self._get_folder = function, folder
        self._options = sorted(
            f"{name}={sorted(value) if isinstance(value, set) else value}" for name, value in options.items()
        )

    @property
    def cache_path(self) -> str | None:
        """The folder, or None if it is not used."""
        folder = self._get_folder()
        return str(folder.path) if folder.is_usable else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel for a signature, or None if it is not there whole."""
        target_context.refresh()
        folder = self._get_folder()
        if not folder.is_usable:
            return None
        try:
            content = folder.read(self.name_of(sig, target_context.codegen()))
            if content is None:
                return None
            stored, parts = pickle.loads(content)
            # Names of types, which the key has, are not unique: two classes of named tuples may share one.
            return CompileResult._rebuild(target_context, *parts) if stored == sig else None
        except Exception as error:
            folder.report(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compiled kernel, unless its machine code has addresses of this process."""
        folder = self._get_folder()
        if not folder.is_usable or data.lifted or data.library.has_dynamic_globals:
            return
        try:
            folder.write(self.name_of(sig, data.codegen), dumps((sig, data._reduce())))
        except Exception as error:
            folder.report(error)

    def name_of(self, sig: Any, codegen: Any) -> str:
        """Return the name of an entry's file: the kernel's, and a digest of all that its machine code follows from.

        The sources of all kernels are in the function's qualified name, by their digest.
        """
        function = self._function
        code = function.__code__
        cells = dumps(tuple(cell.cell_contents for cell in function.__closure__ or ()))
        versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag)
        key = (
            (function.__module__, function.__qualname__, code.co_firstlineno, code.co_code.hex()),
            hashlib.sha256(cells).hexdigest(),
            self._options,
            repr(sig),
            codegen.magic_tuple(),  # architecture, processor and its features
            (*versions, getattr(sys, "abiflags", "")),
            [getattr(config, name, None) for name in SETTINGS],
        )
        return f"{function.__name__}-{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}{SUFFIX}"

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    def disable(self) -> None:
        """Do nothing: the cache is always on."""

    def flush(self) -> None:
        """Do nothing: entries are removed when they are out of use."""


def _digest(name: str, content: bytes) -> bytes:
    """Return the SHA-256 of an entry under its name, 32 bytes; another entry's content is refused under this name."""
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def _check_private(status: os.stat_result, what: str) -> None:
    """Raise PermissionError if another user owns a file or folder or can write it, where the system has such owners."""
    if not hasattr(os, "getuid"):  # Windows: the user's profile is protected by its access control list
        return
    if status.st_uid != os.getuid():
        raise PermissionError(f"{what} belongs to user {status.st_uid}, must belong to user {os.getuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others can write to {what}: run `chmod go-w` on it")
