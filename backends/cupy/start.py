"""Start CuPy: import it and run a small kernel on this process's device."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from ..errors import BackendUnavailable, check_product
from .errors import one_line

# CUDA 13 needs a driver of branch 580 or newer and compiles for compute capability 7.5 (Turing) or newer, by NVIDIA's
# release notes of CUDA 13.0.
INSTALL = 'pip install "xpnn[cuda13]", or "xpnn[cuda12]" for a driver older than 580 or a GPU older than Turing'
REPAIR = (
    "check driver, GPU and free memory by nvidia-smi, and CUDA_VISIBLE_DEVICES; to install CuPy anew, "
    f"pip uninstall cupy cupy-cuda12x cupy-cuda13x, then {INSTALL}"
)
# Environment variables with a process's number among those on its machine: of MPICH and Intel MPI, Open MPI, Slurm,
# PALS, MVAPICH.
LOCAL_RANK_VARIABLES = (
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
    "PALS_LOCAL_RANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
)


def start_cupy() -> Any:
    """Return the module `cupy`, once a small kernel has computed the right result on this process's device.

    Raises:
        BackendUnavailable: see `CuPyBackend`.
    """
    try:
        cupy = import_module("cupy")
    except Exception as error:  # a broken installation raises what it likes
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise _unavailable(f"cupy is not installed; on a machine with an NVIDIA GPU: {INSTALL}") from error
        raise _unavailable(f"cupy cannot be imported ({one_line(error.__cause__ or error)}): {REPAIR}") from error
    try:
        _take_own_device(cupy)
        x = cupy.arange(6, dtype=cupy.float32).reshape(2, 3)  # (2, 3)
        check_product(cupy.asnumpy(x @ x.T + 1))  # a product by cuBLAS, a kernel compiled by NVRTC, one read
    except Exception as error:
        raise _unavailable(f"a small kernel does not run on a GPU ({one_line(error)}): {REPAIR}") from error
    return cupy


def _take_own_device(cupy: Any) -> None:
    """Select a device by the local rank of a process started by a launcher.

    Nothing is selected if the launcher shows each process a single device, or if one other than the first is current.
    """
    values = (os.environ.get(name, "") for name in LOCAL_RANK_VARIABLES)
    local_rank = next((int(value) for value in values if value.isdecimal()), None)
    devices = cupy.cuda.runtime.getDeviceCount()
    if local_rank is not None and devices > 1 and cupy.cuda.runtime.getDevice() == 0:
        cupy.cuda.Device(local_rank % devices).use()


def _unavailable(reason: str) -> BackendUnavailable:
    return BackendUnavailable(f"backend cupy: {reason}")
