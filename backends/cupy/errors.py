"""Messages for CUDA errors: out of memory, lost device, kernel that does not compile."""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..errors import DeviceError, DeviceLost

# As CuPy's allocator, the CUDA runtime, the driver and libraries such as cuBLAS write it.
OUT_OF_MEMORY = re.compile("out of memory|ALLOC_FAILED", re.IGNORECASE)
LONGEST_LINE = 300  # characters

_is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)  # whether a `gpu_errors` is open


@contextmanager
def gpu_errors(cupy: Any, work: str, fix: str) -> Iterator[None]:
    """Context manager: raise CuPy's errors as a `DeviceError` of one line; any other error passes.

    After an out-of-memory error, the arrays of the failed call have been freed and the process can continue, so the
    body should be a single call: arrays in the caller's variables stay alive. Of nested ones, the outermost applies.

    Args:
        cupy: the module.
        work: beginning of the message, such as "training".
        fix: what to do if the memory is full.

    Raises:
        DeviceLost: the device no longer answers this process.
        DeviceError: the memory is full, a kernel does not compile, or CUDA refuses something else.
    """
    if _is_inside.get():
        yield
        return
    token = _is_inside.set(True)
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("cupy", "cupy_backends"):
            raise
        raise _device_error(cupy, error, work, fix) from error
    finally:
        _is_inside.reset(token)


def why_lost(cupy: Any) -> Exception | None:
    """Return the sticky error of the device; None if it can still be used.

    After a fault such as an illegal address, every further call of the process fails with the same error.
    """
    try:
        cupy.cuda.runtime.deviceSynchronize()
    except Exception as error:
        return error
    return None


def one_line(error: BaseException) -> str:
    """Return an error's message on one line; of compiler output, the first error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-")]
    first_error = [line for line in lines if "error:" in line][:1]
    return " ".join(first_error or lines)[:LONGEST_LINE] or type(error).__name__


def _device_error(cupy: Any, error: Exception, work: str, fix: str) -> DeviceError:
    """Return the error to raise instead of CuPy's."""
    if lost := why_lost(cupy):
        return DeviceLost(
            f"{work}: the GPU is lost to this process ({one_line(lost)}): start the process again; if it happens "
            "again, check the GPU with nvidia-smi, or use the backend numba"
        )
    chain: list[BaseException] = [error]  # the end of a capture that it broke may cover the first error
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(earlier)
    full = next((each for each in chain if OUT_OF_MEMORY.search(str(each))), None)
    if full is None:
        what = "a kernel does not compile" if type(error).__name__ == "CompileException" else "CuPy cannot do it"
        return DeviceError(f"{work}: {what} ({one_line(error)}): use the backend numba, and report it")
    for each in chain:
        traceback.clear_frames(each.__traceback__)  # else the arrays of the failed call outlive it in the traceback
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    free, total = (count / 2**30 for count in cupy.cuda.runtime.memGetInfo())
    needed = one_line(full).rstrip(".")  # CuPy's allocator says how many bytes were asked for
    return DeviceError(f"{work}: the GPU's memory is full ({needed}), {free:.1f} of {total:.1f} GiB are free: {fix}")
