"""The devices, all alike; a test sets how many there are and what they can do. Memory is not told apart by device."""

import threading

count = 1
multiprocessors = 3
compute_capability = "90"
shared_memory = 232448  # bytes that a block may ask for
cooperative = True


_local = threading.local()  # the current device is the thread's


class Device:
    def __init__(self, device=None):
        self.id = getattr(_local, "device", 0) if device is None else int(device)
        if not 0 <= self.id < count:
            raise ValueError(f"the stand-in has no device {self.id}")

    def __enter__(self):
        self._before = Device()
        return self.use()

    def __exit__(self, *_):
        self._before.use()

    def __int__(self):
        return self.id

    @property
    def attributes(self):
        return {
            "MultiProcessorCount": multiprocessors,
            "MaxSharedMemoryPerBlock": 48 << 10,
            "MaxSharedMemoryPerBlockOptin": shared_memory,
            "CooperativeLaunch": int(cooperative),
            "MaxThreadsPerBlock": 1024,
        }

    @property
    def compute_capability(self):
        return compute_capability

    @property
    def mem_info(self):
        from . import runtime

        return runtime.memGetInfo()

    def synchronize(self):
        from . import runtime

        runtime.deviceSynchronize()

    @property
    def pci_bus_id(self):
        return f"0000:{self.id + 1:02X}:00.0"

    def use(self):
        _local.device = self.id
        return self
