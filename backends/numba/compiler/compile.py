"""Compilation of the kernels: at their first call, cached on disk where that is possible, and announced."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, update_wrapper
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite.binding import Linkage
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.dispatcher import Dispatcher
from numba.extending import overload

from .cache import KernelCache
from .start import start_threads

Function = TypeVar("Function", bound=Callable[..., Any])

LOGGER = logging.getLogger("xpnn")

# Multiply-adds may be fused, the sign of a zero and the order of a sum are free. No flag assumes that there is no NaN
# and no infinity: a diverged run must show. Without `_nrt`, Numba's runtime, no references to arrays are counted, which
# took half of the time of a narrow network.
OPTIONS = {"fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy", "nogil": True, "_nrt": False}

KERNELS = Path(__file__).parent.parent


def sources_digest() -> str:
    """Return a digest of the sources of all kernels."""
    with_constants = (KERNELS.parent / name for name in ("activations.py", "dropout.py"))  # that are compiled in
    paths = [*sorted(KERNELS.rglob("*.py")), *with_constants]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


SOURCES = sources_digest()
ENTRIES: dict[tuple[Any, ...], Callable[..., Any]] = {}  # machine code by kernel and types; see `entry_of`


class SelfContainedLibrary(JITCodeLibrary):
    """Machine code of a kernel that calls no other library's.

    Numba links the functions that a kernel calls into its library as "linkonce_odr". A process that has just compiled
    them has other machine code under the same names, optimized by itself, and the linker takes that; a process that
    reads the kernel from the cache takes the kernel's own. Multiply-adds are not fused alike in both, so the first run
    of a command would have other bits than the second.
    """

    def _optimize_final_module(self) -> None:
        """Make what was linked in the library's own, then optimize."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        super()._optimize_final_module()


class KernelCompiler(Compiler):
    """Numba's compiler, with a self-contained library."""

    def compile_extra(self, func: Any) -> Any:
        """See Numba's."""
        if self.state.library is None:
            self.state.library = SelfContainedLibrary(self.state.targetctx.codegen(), func.__qualname__)
            self.state.library.enable_object_caching()
        return super().compile_extra(func)


class InnerLibrary(JITCodeLibrary):
    """Code of a function that only kernels call, which is neither optimized nor made into machine code by itself.

    The kernel that it is linked into is optimized as a whole; optimizing each function before took a third of the time.
    """

    def _optimize_final_module(self) -> None:
        """Leave it to the kernel."""

    def _finalize_final_module(self) -> None:
        """Make ready for linking, without the engine that generates machine code."""
        self._finalize_dynamic_globals()
        self._finalized = True


class InnerCompiler(Compiler):
    """Numba's compiler, up to the code that is linked into kernels."""

    def compile_extra(self, func: Any) -> Any:
        """See Numba's."""
        state = self.state
        state.library = InnerLibrary(state.targetctx.codegen(), func.__qualname__)
        state.flags.no_compile = True
        # A dispatcher tells compiled functions apart by their entry points and takes built-in ones alone. Without a
        # wrapper there is none, so it gets a method of the library, which no other function has; nobody calls it.
        result = super().compile_extra(func)._replace(entry_point=state.library.__reduce__)
        state.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        return result


INNER_OPTIONS = OPTIONS | {"pipeline_class": InnerCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def kernel(function: Function) -> Function:
    """Compile `function` at its first call for each combination of types, or load it from the kernel cache."""
    # The machine code of a kernel contains that of its callees from other files, so every cache file is named by the
    # sources of all kernels. A function from elsewhere, as of a test, is not among them, and is not cached.
    function.__qualname__ = f"{function.__qualname__}_{SOURCES}"
    compiled: Any = numba.njit(pipeline_class=KernelCompiler, **OPTIONS)(function)
    is_compiled = isinstance(compiled, Dispatcher)  # not under NUMBA_DISABLE_JIT
    if is_compiled and KERNELS in Path(function.__code__.co_filename).parents:
        compiled._cache = KernelCache(function, OPTIONS)
    return compiled


def inner_kernel(function: Function) -> Function:
    """Compile a function that only kernels call: without an entry from Python and without machine code of its own."""
    return cast("Function", numba.njit(**INNER_OPTIONS)(function))


def entry_of(kernel: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Return the machine code of a kernel for arguments of these types: to be called with no others.

    It does not check the types of its arguments: for tuples that takes longer than a small network's step.
    Ctrl-C ends the wait for a compiler at once. The compiler completes the kernel, which the next call then finds.
    """
    if not isinstance(kernel, Dispatcher):
        return kernel  # plain Python
    types = (kernel, *map(_kind, args))
    if types not in ENTRIES:
        ENTRIES[types] = _in_background(partial(kernel.compile, tuple(map(numba.typeof, args))))
    return ENTRIES[types]


def _kind(value: Any) -> Any:
    """Return a key that differs where Numba's types of two arguments do; `numba.typeof` takes 1 ms for a network."""
    kind = type(value)
    if kind is np.ndarray:
        flags = value.flags
        return value.dtype, value.ndim, flags.c_contiguous, flags.f_contiguous, flags.writeable, flags.aligned
    if isinstance(value, tuple):
        return kind, *map(_kind, value)
    return kind if kind in (bool, float) or isinstance(value, np.number) else numba.typeof(value)


def _in_background(compiled: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Call a function on a new thread, and return its result or raise its error.

    Python raises KeyboardInterrupt on the main thread, and not inside C: LLVM can take seconds for one call, ends it by
    calling Python from C, where an exception is printed and lost, and may be in the hands of another thread meanwhile.
    """
    results: SimpleQueue[Callable[..., Any] | BaseException] = SimpleQueue()

    def put_result() -> None:
        try:
            results.put(compiled())
        except BaseException as error:
            results.put(error)

    if not start_threads([threading.Thread(target=put_result, name="xpnn compiler", daemon=True)]):
        return compiled()
    result = results.get()
    if isinstance(result, BaseException):
        raise result
    return result


def chosen_by_kind(functions: dict[type, Callable[..., Any]]) -> Callable[[Function], Function]:
    """Give a function without a body, a contract, the body of one of `functions`, by the type of its first argument.

    The compiler chooses by the type, so that a kernel contains the functions of its own kinds alone.
    """

    def decorate(contract: Function) -> Function:
        def function(first: Any, *args: Any) -> Any:
            return functions[type(first)](first, *args)

        @overload(function, strict=False, jit_options=INNER_OPTIONS)
        def choose(first: Any, *args: Any) -> Any:
            return functions[first.instance_class]

        return cast("Function", update_wrapper(function, contract))

    return decorate


class _Notice(event.Listener):
    """Logs a line when the first compilation starts; what comes from the cache starts none."""

    def __init__(self, message: str) -> None:
        self._message = message

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        if self._message:
            LOGGER.info(self._message)
        self._message = ""

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def announced(message: str) -> Iterator[None]:
    """Log `message` once if anything is compiled inside the block."""
    with event.install_listener("numba:compile", _Notice(message)):
        yield
