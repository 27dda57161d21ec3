"""Starting CuPy: a module that has run a kernel with the right result, or the reason why there is none."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from ..errors import BackendUnavailable
from .errors import is_lost, is_out_of_memory, one_line
from .install import DRIVERS, device_problem, driver_cuda, install_line, install_problem, installed_cupy, reinstall_line

# In which launchers tell a process its number among those on its machine: MPICH's and Intel's, Open MPI's, Slurm's,
# PALS, MVAPICH's.
LOCAL_RANK_VARIABLES = (
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
    "PALS_LOCAL_RANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
)


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
            needs = "" if driver else f", and no NVIDIA driver was found ({DRIVERS}); on a machine with an NVIDIA GPU"
            raise _unavailable(f"cupy is not installed{needs}: {install_line(packages, driver)}") from error
        mend = reinstall_line(packages, driver)
        raise _unavailable(f"cupy cannot be imported ({one_line(error.__cause__ or error)}): {mend}") from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
        _take_own_device(cupy, devices)
        problem = _too_old(cupy, devices, packages) if devices else ""
    except Exception as error:
        raise _unavailable(_no_device(packages, driver, one_line(error))) from error
    if not devices:
        raise _unavailable(_no_device(packages, driver, "the driver counts 0 devices"))
    if problem:
        raise _unavailable(problem)
    try:
        x = cupy.arange(6, dtype=cupy.float32).reshape(2, 3)  # (2, 3)
        got = cupy.asnumpy(x @ x.T + 1).tolist()  # (2, 2): a product by cuBLAS, a kernel compiled by NVRTC, one read
    except Exception as error:
        mend = _mend(error) or install_problem(packages, driver) or _libraries(packages, driver)
        raise _unavailable(f"a small kernel does not run ({one_line(error)}); {mend}") from error
    if got != [[6, 15], [15, 51]]:
        mend = f"{reinstall_line(packages, driver)}, or update the driver from {DRIVERS}"
        raise _unavailable(f"a small kernel gave {got} instead of [[6, 15], [15, 51]]: {mend}")
    return cupy


def _take_own_device(cupy: Any, devices: int) -> None:
    """Make one device the current one for each process that a launcher started on this machine, in turn.

    Where the launcher shows each process a device of its own, there is nothing to choose, nor where another than the
    first was chosen before.
    """
    told = (os.environ.get(name, "") for name in LOCAL_RANK_VARIABLES)
    local_rank = next((int(number) for number in told if number.isdecimal()), None)
    if local_rank is not None and devices > 1 and cupy.cuda.runtime.getDevice() == 0:
        cupy.cuda.Device(local_rank % devices).use()


def _unavailable(reason: str) -> BackendUnavailable:
    return BackendUnavailable(f"backend cupy: {reason}")


def _no_device(packages: dict[str, str], driver: tuple[int, int] | None, said: str) -> str:
    """Why no device was counted, as far as the driver tells."""
    if driver is None:
        return f"no NVIDIA driver answers ({said}): install it from {DRIVERS}; a container needs --gpus all"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    is_set = "" if visible is None else f', which is "{visible}"'
    return install_problem(packages, driver) or (
        f"no CUDA device ({said}): check nvidia-smi and CUDA_VISIBLE_DEVICES{is_set}"
    )


def _too_old(cupy: Any, devices: int, packages: dict[str, str]) -> str:
    """Why the current device is too old for this CuPy, and which other one is not; empty if it is not.

    Asked before anything is compiled: a compiler that does not know the device says no more than that.
    """
    runtime = cupy.cuda.runtime
    current, built_for = runtime.getDevice(), runtime.runtimeGetVersion() // 1000
    problems: list[str] = []
    for index in range(devices):
        of = runtime.getDeviceProperties(index)
        problems.append(device_problem(of["name"].decode(), (of["major"], of["minor"]), built_for, packages))
    others = [str(index) for index, problem in enumerate(problems) if not problem]
    hint = f"; or take GPU {others[0]} by CUDA_VISIBLE_DEVICES" if others else ""
    problem = problems[int(current)]
    return problem and problem + hint


def _mend(error: Exception) -> str:
    """What mends a device that runs no kernel; empty if the fault is not in the device."""
    if is_out_of_memory(error):
        return "close what else runs on the GPU, nvidia-smi shows it, or take another GPU by CUDA_VISIBLE_DEVICES"
    if is_lost(error):
        return "check with nvidia-smi whether another process has the GPU to itself, and start the process again"
    return ""


def _libraries(packages: dict[str, str], driver: tuple[int, int] | None) -> str:
    return f"bring its CUDA libraries: {install_line(packages, driver)}"
