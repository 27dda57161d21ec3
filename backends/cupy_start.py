"""Starting CuPy: a module that has run a kernel with the right result, or the reason why there is none."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .cupy_install import DRIVERS, driver_cuda, install_line, install_problem, installed_cupy, reinstall_line
from .errors import BackendUnavailable, RunError


def start_cupy() -> Any:
    """Return the module `cupy` after it has found a device and run a small kernel on it.

    Raises:
        BackendUnavailable: see `CuPyBackend`.
    """
    packages, driver = installed_cupy(), driver_cuda()
    if len(packages) > 1:  # before CuPy is imported: which of the two would be, is chance
        raise _unavailable(install_problem(packages, driver))
    try:
        cupy = import_module("cupy")
    except Exception as error:
        if not packages and isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            needs = "" if driver else f", and no NVIDIA driver was found (it is at {DRIVERS})"
            raise _unavailable(f"cupy is not installed{needs}: {install_line(packages, driver)}") from error
        mend = reinstall_line(packages, driver)
        raise _unavailable(f"cupy cannot be imported ({_one_line(error.__cause__ or error)}): {mend}") from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise _unavailable(_no_device(packages, driver, _one_line(error))) from error
    if not devices:
        raise _unavailable(_no_device(packages, driver, "the driver counts 0 devices"))
    try:
        x = cupy.arange(6, dtype=cupy.float32).reshape(2, 3)  # (2, 3)
        got = cupy.asnumpy(x @ x.T + 1).tolist()  # (2, 2): a product by cuBLAS, a kernel compiled by NVRTC, one read
    except Exception as error:
        mend = install_problem(packages, driver) or f"bring its CUDA libraries: {install_line(packages, driver)}"
        raise _unavailable(f"a small kernel does not run ({_one_line(error)}); {mend}") from error
    if got != [[6, 15], [15, 51]]:
        mend = f"{reinstall_line(packages, driver)}, or update the driver from {DRIVERS}"
        raise _unavailable(f"a small kernel gave {got} instead of [[6, 15], [15, 51]]: {mend}")
    return cupy


@contextmanager
def gpu_memory(cupy: Any, work: str, mend: str) -> Iterator[None]:
    """Turn CuPy's out-of-memory error into a RunError, after what the failed work held has been freed.

    Args:
        cupy: the module.
        work: what is being done, to begin the message with.
        mend: what to do about it, to end the message with.
    """
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:  # its message says how many bytes were asked for
        traceback.clear_frames(error.__traceback__)  # else the arrays of the failed call outlive it in the traceback
        cupy.get_default_memory_pool().free_all_blocks()
        raise RunError(f"{work}: {_one_line(error).rstrip('.')}; {mend}") from error


def _unavailable(reason: str) -> BackendUnavailable:
    return BackendUnavailable(f"backend cupy: {reason}")


def _no_device(packages: dict[str, str], driver: tuple[int, int] | None, said: str) -> str:
    """Why no device was counted, as far as the driver tells."""
    if driver is None:
        return f"no NVIDIA driver was found ({said}): install it from {DRIVERS}; a container needs --gpus all"
    return install_problem(packages, driver) or f"no CUDA device ({said}): check nvidia-smi and CUDA_VISIBLE_DEVICES"


def _one_line(error: BaseException) -> str:
    """An error's message without its line breaks and rules."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip(" =-"))
    return text or type(error).__name__
