"""Properties of the CUDA device that plans depend on."""

from __future__ import annotations

from typing import Any, NamedTuple


class Device(NamedTuple):
    """The current CUDA device.

    Attributes:
        multiprocessors: number of streaming multiprocessors.
        capability: compute capability, major and minor.
        shared_bytes: maximum shared memory of a block.
        is_cooperative: whether it supports cooperative launches.
    """

    multiprocessors: int
    capability: tuple[int, int]
    shared_bytes: int
    is_cooperative: bool

    @property
    def has_bf16(self) -> bool:
        """Whether its tensor cores support bf16 (Ampere or later)."""
        return self.capability >= (8, 0)


def current_device(cupy: Any) -> Device:
    """Return the properties of the current device."""
    device = cupy.cuda.Device()
    number, attributes = str(device.compute_capability), device.attributes
    return Device(
        multiprocessors=int(attributes["MultiProcessorCount"]),
        capability=(int(number[:-1]), int(number[-1])),
        shared_bytes=int(attributes["MaxSharedMemoryPerBlockOptin"]),
        is_cooperative=bool(attributes["CooperativeLaunch"]),
    )
