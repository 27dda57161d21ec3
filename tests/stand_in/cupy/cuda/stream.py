"""Streams and graphs: what is launched runs at once, unless the stream captures, which records it for a graph.

Of CuPy's and CUDA's rules are kept: only a non-blocking stream captures here; a stream that captures takes nothing but
kernels; and a graph has addresses and numbers of the moment of its capture and keeps no array alive.
"""

# ruff: noqa: ARG001, ARG002 - the signatures are CuPy's

import sys
import threading
import weakref

from .runtime import CUDARuntimeError

_cuda = sys.modules[__package__]
_local = threading.local()
_capturing = weakref.WeakSet()


class Stream:
    null = None  # set below

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.is_non_blocking, self._nodes, self._broken, self._before = non_blocking, None, "", []

    def __enter__(self):
        self._before.append(get_current_stream())
        return self.use()

    def __exit__(self, *_):
        self._before.pop().use()

    def use(self):
        _local.stream = self
        return self

    def synchronize(self):
        self.refuse_while_capturing("Stream.synchronize")

    @property
    def done(self):
        self.refuse_while_capturing("Stream.done")
        return True

    def is_capturing(self):
        return self._nodes is not None

    def begin_capture(self, mode=None):
        if not self.is_non_blocking:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: a stream that waits for the null stream cannot capture; "
                "make it with non_blocking=True"
            )
        if self._nodes is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream captures already")
        self._nodes, self._broken = [], ""
        _capturing.add(self)

    def end_capture(self):
        if self._nodes is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream does not capture")
        nodes, self._nodes = self._nodes, None
        _capturing.discard(self)
        if self._broken:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureInvalidated: by {self._broken}")
        return Graph(nodes)

    def refuse_while_capturing(self, what):
        """Raise what CUDA does for all but kernels, after which the capture is lost."""
        if self._nodes is not None:
            self._broken = what
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} on a stream that captures")

    def submit(self, node):
        """Run a kernel, or record it."""
        if self._nodes is None:
            _cuda.launches += 1
            node.run()
        else:
            self._nodes.append(node)


class Graph:
    """Kernels that were captured, in their order."""

    def __init__(self, nodes):
        self._nodes = nodes

    def launch(self, stream=None):
        (get_current_stream() if stream is None else stream).refuse_while_capturing("Graph.launch")
        _cuda.replays += 1
        for node in self._nodes:
            node.run()

    def upload(self, stream=None):
        pass


Stream.null = Stream(null=True)


def get_current_stream(device_id=-1):
    return getattr(_local, "stream", Stream.null)


def is_capturing():
    return get_current_stream().is_capturing()


def refuse_while_capturing(what):
    get_current_stream().refuse_while_capturing(what)


def refuse_while_any_captures(what):
    for stream in list(_capturing):
        stream.refuse_while_capturing(what)
