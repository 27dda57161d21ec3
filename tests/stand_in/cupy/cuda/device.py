"""The only device there is; a test sets what it can do."""

import contextlib

multiprocessors = 3
compute_capability = "90"
shared_memory = 232448  # bytes that a block may ask for
cooperative = True


class Device(contextlib.nullcontext):
    id = 0

    def __init__(self, device=None):
        super().__init__(self)
        if device is not None and int(device):
            raise ValueError(f"the stand-in has no device {device}")

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

    def use(self):
        return self
