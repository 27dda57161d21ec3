"""What the plans must know of the device that they are made for."""

from __future__ import annotations

from typing import Any, NamedTuple


class Device(NamedTuple):
    """The current CUDA device.

    Attributes:
        multiprocessors: of which each runs blocks of its own.
        capability: compute capability, major and minor.
        shared_bytes: shared memory that a block may ask for.
        is_cooperative: whether all blocks of a launch can wait for each other.
    """

    multiprocessors: int
    capability: tuple[int, int]
    shared_bytes: int
    is_cooperative: bool

    @property
    def has_bf16(self) -> bool:
        """Whether its tensor cores multiply bf16 numbers: from Ampere on."""
        return self.capability >= (8, 0)


def current_device(cupy: Any) -> Device:
    """Return what is known of the current device."""
    device = cupy.cuda.Device()
    number, attributes = str(device.compute_capability), device.attributes
    return Device(
        multiprocessors=int(attributes["MultiProcessorCount"]),
        capability=(int(number[:-1]), int(number[-1])),
        shared_bytes=int(attributes["MaxSharedMemoryPerBlockOptin"]),
        is_cooperative=bool(attributes["CooperativeLaunch"]),
    )
