"""One device, as cudaGetDeviceProperties tells of it."""

import sys


class CUDARuntimeError(RuntimeError):
    pass


def getDeviceCount():  # noqa: N802
    return 1


def getDeviceProperties(device):  # noqa: ARG001, N802
    return {"name": b"Stand-in GPU", "totalGlobalMem": 16 << 30, "major": 9, "minor": 0}


def getDevice():  # noqa: N802
    return 0


def runtimeGetVersion():  # noqa: N802
    return 13000


def deviceSynchronize():  # noqa: N802
    sys.modules[__package__].stream.refuse_while_any_captures("cudaDeviceSynchronize")


def memGetInfo():  # noqa: N802
    total = 16 << 30
    return total - sum(each.nbytes for each in sys.modules["cupy"].held.values()), total
