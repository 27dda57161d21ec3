"""Which CuPy is installed, which CUDA the driver offers, and the line that brings the two together; loads no CuPy."""

from __future__ import annotations

import ctypes
import re
from importlib.metadata import PackageNotFoundError, version

Cuda = tuple[int, int]  # major, minor

# Packages that install a module `cupy` and overwrite each other, as CuPy 14.2 lists them in cupy/_environment.py,
# less those that no Python of ours can have.
PACKAGES = (
    "cupy",
    "cupy-cuda11x",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "cupy-cuda102",
    "cupy-cuda110",
    "cupy-cuda111",
    "cupy-rocm-4-3",
    "cupy-rocm-5-0",
    "cupy-rocm-7-0",
    "cupy-rocm-7-1",
    "cupy-rocm-7-14",
    "amd-cupy",
)
EXTRAS = {"cupy-cuda13x": "cuda13", "cupy-cuda12x": "cuda12"}  # package -> the extra of xpnn that installs it
# CUDA's major version -> the oldest compute capability that it compiles for, by NVIDIA's release notes of CUDA 12.0
# (Kepler removed) and 13.0 (Maxwell, Pascal and Volta removed).
OLDEST_CAPABILITY = {12: (5, 0), 13: (7, 5)}
TOO_OLD = "knows none older than"  # what tells a device's fault from the installation's
OLDEST_CUDA: Cuda = (12, 0)  # what CuPy 14 needs (docs.cupy.dev/en/stable/install.html)
DRIVER_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")  # Linux, Windows
DRIVERS = "https://www.nvidia.com/drivers"


def installed_cupy() -> dict[str, str]:
    """Return the installed packages that are CuPy, with their versions; more than one is a conflict."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def driver_cuda() -> Cuda | None:
    """Return the newest CUDA that the NVIDIA driver offers; None where there is no driver.

    Source: cuDriverGetVersion in the CUDA driver API, which gives 1000 major + 10 minor.
    """
    for library in DRIVER_LIBRARIES:
        number = ctypes.c_int(0)
        try:
            failed = ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(number))
        except (OSError, AttributeError):
            continue
        if not failed and number.value:
            return number.value // 1000, number.value % 1000 // 10
    return None


def needed_cuda(package: str) -> Cuda | None:
    """Return the CUDA that the driver must offer for a package; None where its name does not tell."""
    match = re.fullmatch(r"cupy-cuda(\d+)x", package)
    return (int(match[1]), 0) if match else None


def fits(package: str, driver: Cuda | None) -> bool | None:
    """Return whether the driver is new enough for a package; None where one of the two is not known."""
    needed = needed_cuda(package)
    return None if needed is None or driver is None else driver >= needed


def install_line(packages: dict[str, str], driver: Cuda | None) -> str:
    """Return the line that installs CuPy with its CUDA libraries: the package that is there if it fits the driver."""
    kept = [EXTRAS[package] for package in packages if package in EXTRAS and fits(package, driver) is not False]
    by_driver = "cuda13" if driver is None or driver >= (13, 0) else "cuda12"
    return f'pip install "xpnn[{kept[0] if len(packages) == 1 and kept else by_driver}]"'


def reinstall_line(packages: dict[str, str], driver: Cuda | None) -> str:
    """Return the line that removes every CuPy and installs the one that fits."""
    install = install_line(packages, driver)
    return f"pip uninstall -y {' '.join(packages)} && {install}" if packages else install


def install_problem(packages: dict[str, str], driver: Cuda | None) -> str:
    """Return what is wrong between the installed packages and the driver, with the line that mends it; else empty."""
    if len(packages) > 1:
        mend = reinstall_line(packages, driver)
        return f"{' and '.join(packages)} are installed together and overwrite each other's files: {mend}"
    if driver is not None and driver < OLDEST_CUDA:
        return f"the NVIDIA driver offers CUDA {_text(driver)}, 12.0 or newer is needed: update it from {DRIVERS}"
    for package in packages:
        if (needed := needed_cuda(package)) is not None and driver is not None and driver < needed:
            mend = f"{reinstall_line(packages, driver)}, or update the driver from {DRIVERS}"
            return (
                f"{package} needs a driver for CUDA {_text(needed)} or newer, this one offers {_text(driver)}: {mend}"
            )
    return ""


def device_problem(name: str, capability: tuple[int, int], built_for: int, packages: dict[str, str]) -> str:
    """Return why a device is too old for CuPy, with what mends it; empty if it is not.

    Args:
        name: the device's.
        capability: its compute capability.
        built_for: major version of the CUDA that CuPy was built for.
        packages: installed packages that are CuPy.
    """
    oldest = OLDEST_CAPABILITY.get(built_for)
    if oldest is None or capability >= oldest:
        return ""
    mend = "use the backend numba"
    if older := [major for major, from_capability in OLDEST_CAPABILITY.items() if capability >= from_capability]:
        uninstall = f"pip uninstall -y {' '.join(packages)} && " if packages else ""
        mend = f'{uninstall}pip install "xpnn[cuda{max(older)}]", or {mend}'
    return (
        f"{name} has compute capability {_text(capability)}, and CuPy for CUDA {built_for} {TOO_OLD} {_text(oldest)}: "
        f"{mend}"
    )


def _text(cuda: Cuda) -> str:
    return ".".join(map(str, cuda))
