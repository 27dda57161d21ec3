from . import memory, runtime  # noqa: F401
from .device import Device  # noqa: F401
