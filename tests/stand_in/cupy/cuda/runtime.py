"""One device, as cudaGetDeviceProperties tells of it."""


class CUDARuntimeError(RuntimeError):
    pass


def getDeviceCount():  # noqa: N802
    return 1


def getDeviceProperties(device):  # noqa: ARG001, N802
    return {"name": b"Stand-in GPU", "totalGlobalMem": 16 << 30, "major": 9, "minor": 0}
