from . import compiler, driver, memory, runtime  # noqa: F401
from .device import Device  # noqa: F401
from .function import RawKernel, RawModule  # noqa: F401
from .stream import Event, Graph, Stream, get_current_stream  # noqa: F401

launches = 0  # kernels that were launched on a stream, and not by a graph
replays = 0  # launches of graphs
