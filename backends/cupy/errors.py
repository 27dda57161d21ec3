"""What goes wrong on a GPU, in words: its memory is full, it is lost, a kernel does not compile."""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..errors import DeviceError, DeviceLost, XpnnError
from ..plan import TrainingJob

# Errors after which every further call of this process fails. Those that NVIDIA's driver_types.h (CUDA 13.0) says leave
# "the process in an inconsistent state", or after which no context is left that could be used.
LOST = frozenset(
    {
        46,  # DevicesUnavailable
        100,  # NoDevice
        201,  # DeviceUninitialized
        214,  # ECCUncorrectable
        220,  # NvlinkUncorrectable
        226,  # Contained
        700,  # IllegalAddress
        702,  # LaunchTimeout
        709,  # ContextIsDestroyed
        710,  # Assert
        714,  # HardwareStackError
        715,  # IllegalInstruction
        716,  # MisalignedAddress
        717,  # InvalidAddressSpace
        718,  # InvalidPc
        719,  # LaunchFailure
        721,  # TensorMemoryLeak
        810,  # MpsClientTerminated
        911,  # ExternalDevice
        999,  # Unknown
    }
)
ALLOCATION_FAILED = 2  # cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY
CUDA_ERRORS = ("CUDARuntimeError", "CUDADriverError")  # CuPy's, whose `status` is CUDA's number; both number alike
USABLE = 0.9  # of the free memory: the allocator rounds up, and other programs take their part
LONGEST_LINE = 200  # characters of a compiler's message

_is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)  # whether a `gpu_memory` is open

Fits = Callable[[int], str]  # free bytes -> what would fit into them, in words


@contextmanager
def gpu_memory(cupy: Any, work: str, mend: str, fits: Fits | None = None) -> Iterator[None]:
    """Turn what goes wrong on the GPU into one line; any other error passes. Inside another one, that one speaks.

    After an error for want of memory, what the failed work held has been given back to the device, and the process can
    go on: let the work be a call, since arrays in variables beside the `with` live on. A lost device is not touched.

    Args:
        cupy: the module.
        work: what is being done, to begin the message with.
        mend: what to do if the memory is full, to end the message with.
        fits: free bytes, after the failed work's have been given back -> what would fit, as `rows_that_fit` makes it.

    Raises:
        DeviceLost: the process can no longer use the device.
        DeviceError: the memory is full, a kernel does not compile, or CUDA refuses something else.
    """
    if _is_inside.get():  # what is done as a whole says more than a part of it
        yield
        return
    token = _is_inside.set(True)
    try:
        yield
    except Exception as error:
        told = _in_words(cupy, error, work, mend, fits)
        if told is None:
            raise
        raise told from error
    finally:
        _is_inside.reset(token)


def rows_that_fit(row_bytes: int, tried: int, words: str = "{:,} rows would fit") -> Fits:
    """Return what tells how many rows fit into the free bytes; nothing where that is no fewer than were tried.

    Args:
        row_bytes: bytes of a row.
        tried: rows that did not fit.
        words: with a place for the number of rows.
    """

    def fits(free: int) -> str:
        rows = int(free * USABLE) // max(row_bytes, 1)
        if rows >= tried:  # the memory is in pieces, or another program has given back its own
            return ""
        return words.format(rows) if rows else "not even one row would fit"

    return fits


def batch_size_that_fits(job: TrainingJob, tile_rows: int | None = None) -> Fits:
    """Return what tells which batch_size the loop over the operations could take, by an estimate of its arrays.

    A row of a batch is there as it came and as floating numbers, and each layer has its output, the output's gradient
    and one temporary of that size, the last one two more for the loss.

    Args:
        job: the training.
        tile_rows: rows that are worked through at once where a batch has more; None for the whole batch.
    """
    itemsize, images = job.layers[0].weight.dtype.itemsize, job.rows.images
    widths = [layer.weight.shape[1] for layer in job.layers]  # out_features of each layer
    floats = images.shape[1] + 3 * sum(widths) + 2 * widths[-1]
    row_bytes = images.shape[1] * images.dtype.itemsize + floats * itemsize
    return rows_that_fit(row_bytes, min(job.batch_size, tile_rows or job.batch_size), "{} would fit")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of CuPy, CUDA or one of its libraries says that the device's memory is full."""
    if type(error).__name__ in CUDA_ERRORS:
        return getattr(error, "status", None) == ALLOCATION_FAILED
    return _is_cupys(error) and (isinstance(error, MemoryError) or "_ALLOC_FAILED" in str(error))


def is_lost(error: BaseException) -> bool:
    """Return whether the error says that this process can no longer use the device."""
    return type(error).__name__ in CUDA_ERRORS and getattr(error, "status", None) in LOST


def one_line(error: BaseException) -> str:
    """Return an error's message without its line breaks and rules; of a compiler's, the first line with an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-")]
    if type(error).__name__ == "CompileException":
        lines = [line[:LONGEST_LINE] for line in lines if re.search(r"\berror\b", line)][:1] or lines[:1]
    return " ".join(lines) or type(error).__name__


def _in_words(cupy: Any, error: Exception, work: str, mend: str, fits: Fits | None) -> DeviceError | None:
    """What to raise instead; None for an error that is not the GPU's.

    An error may have been covered by the clean-up after it, such as the end of a capture that it broke: it is looked
    for among the errors that were being handled.
    """
    chain = _chain(error)
    lost = next(filter(is_lost, chain), None)
    if isinstance(error, XpnnError) or (lost is None and not _is_cupys(error)):  # told already, or not the GPU's
        return None
    full = next(filter(is_out_of_memory, chain), None)
    does_not_compile = type(error).__name__ == "CompileException"
    said = "" if full is None else f"{one_line(full)}; {mend}"
    try:  # no question is put to a device that is lost
        if lost is None and full is not None:
            said = _give_back(cupy, full, chain, mend, fits)
        elif lost is None and not does_not_compile:
            cupy.cuda.runtime.deviceSynchronize()  # a library may be the first to tell of a kernel that has failed
    except Exception as failure:
        lost = failure if is_lost(failure) else None
    if lost is not None:
        return DeviceLost(
            f"{work}: the GPU is lost to this process ({one_line(lost)}): start the process again; if it happens "
            "again, check the GPU with nvidia-smi, or use the backend numba"
        )
    if full is not None:
        return DeviceError(f"{work}: the GPU's memory is full: {said}")
    what = "a kernel does not compile" if does_not_compile else "CuPy cannot do it"
    return DeviceError(f"{work}: {what} ({one_line(error)}): use the backend numba, and report it")


def _give_back(cupy: Any, error: BaseException, chain: list[BaseException], mend: str, fits: Fits | None) -> str:
    """Give back what the failed work held; returns what was asked for, what was free then, and what would fit now."""
    free, total = _free_and_total(cupy)
    for each in chain:
        traceback.clear_frames(each.__traceback__)  # else the arrays of the failed call outlive it in the traceback
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    would_fit = fits(_free_and_total(cupy)[0]) if fits is not None else ""
    match = re.search(r"allocating ([\d,]+) bytes", str(error))  # CUDA's own errors do not tell the size
    asked = f"{_size(int(match[1].replace(',', '')))} asked for" if match else one_line(error)
    return f"{asked}, {_size(free)} of {_size(total)} free; {mend}" + (f" ({would_fit})" if would_fit else "")


def _free_and_total(cupy: Any) -> tuple[int, int]:
    """Bytes that can still be had, and all of them: the device's, or of CuPy's own limit where one is set."""
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    free += pool.free_bytes()
    if limit := pool.get_limit():
        free, total = min(free, max(0, limit - pool.used_bytes())), min(total, limit)
    return free, total


def _chain(error: BaseException | None) -> list[BaseException]:
    """The errors that were being handled, the first one first, and `error` last."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.insert(0, error)
        error = error.__cause__ or error.__context__
    return chain


def _is_cupys(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends")


def _size(count: int) -> str:
    """Bytes, and in a unit that can be read."""
    exact = f"{count:,} bytes"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit} ({exact})"
    return exact
