"""Streams, events and graphs: what is launched runs at once, unless the stream captures, which records it for a graph.

Calls of NCCL on another stream than the current one are queued, and run when somebody waits for them.

Of CuPy's and CUDA's rules are kept: only a non-blocking stream captures here; a stream that captures takes nothing but
kernels; and a graph has addresses and numbers of the moment of its capture and keeps no array alive.
"""

# ruff: noqa: ARG001, ARG002 - the signatures are CuPy's

import itertools
import math
import sys
import threading
import weakref

import host_kernels

from . import in_flight
from .runtime import CUDARuntimeError

_cuda = sys.modules[__package__]
_local = threading.local()
_capturing = weakref.WeakSet()
_addresses, _streams = itertools.count(4096, 64), weakref.WeakValueDictionary()


class Stream:
    null = None  # set below

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.is_non_blocking, self._nodes, self._broken, self._before = non_blocking, None, "", []
        self.ptr = 0 if null else next(_addresses)
        self.submitted = 0  # pieces of work
        self._knows = weakref.WeakKeyDictionary()  # up to which piece of another stream's it waits
        self._queued = []  # calls of NCCL, each with its communicator's
        _streams[self.ptr] = self

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
        self.run_queued()
        in_flight.forget(lambda each: each.stream is self)

    @property
    def done(self):
        self.refuse_while_capturing("Stream.done")
        return True

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        self.refuse_while_capturing("Stream.wait_event")
        if event.stream is None:
            raise host_kernels.KernelFault("a stream waits for an event that was never recorded")
        event.stream.run_queued(event.number)
        for stream, number in (*event.known.items(), (event.stream, event.number)):
            self._knows[stream] = max(number, self._knows.get(stream, 0))

    def comes_after(self, other, number):
        """Whether what is submitted from now on runs after another stream's work up to a piece."""
        is_ordered = (self is Stream.null and not other.is_non_blocking) or (
            other is Stream.null and not self.is_non_blocking
        )
        return self is other or is_ordered or self._knows.get(other, 0) >= number

    def queue(self, operation, of_communicator):
        """Take up a call of NCCL, which runs after those of its communicator that were made before."""
        self.submitted += 1
        operation.number = self.submitted
        self._queued.append((operation, of_communicator))
        current = get_current_stream()
        in_flight.forget(lambda each: each.is_done and current.comes_after(each.stream, each.number))
        if self is not current:
            in_flight.operations.append(operation)

    def run_queued(self, number=math.inf):
        """Run the calls of NCCL up to a piece of work."""
        while self._queued and self._queued[0][0].number <= number:
            operation, of_communicator = self._queued.pop(0)
            while not operation.is_done:
                of_communicator.pop(0).run()

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
            self.submitted += 1
            node.touch(self)
            node.run()
        else:
            self._nodes.append(node)


class Event:
    stream = None  # that it was recorded on

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.number, self.known = 0, {}

    def record(self, stream=None):
        stream = get_current_stream() if stream is None else stream
        stream.refuse_while_capturing("Event.record")
        self.stream, self.number, self.known = stream, stream.submitted, dict(stream._knows)

    def synchronize(self):
        self.stream.run_queued(self.number)
        in_flight.forget(lambda each: each.stream is self.stream and each.number <= self.number)


class Graph:
    """Kernels that were captured, in their order."""

    def __init__(self, nodes):
        self._nodes = nodes

    def launch(self, stream=None):
        (get_current_stream() if stream is None else stream).refuse_while_capturing("Graph.launch")
        _cuda.replays += 1
        on = get_current_stream() if stream is None else stream
        on.submitted += 1
        for node in self._nodes:
            node.touch(on)
            node.run()

    def upload(self, stream=None):
        pass


Stream.null = Stream(null=True)


def get_current_stream(device_id=-1):
    return getattr(_local, "stream", Stream.null)


def stream_at(ptr):
    if ptr not in _streams:
        raise host_kernels.KernelFault(f"there is no stream at {ptr:#x}")
    return _streams[ptr]


def is_capturing():
    return get_current_stream().is_capturing()


def refuse_while_capturing(what):
    """Count a piece of work on the current stream, which must not capture."""
    get_current_stream().refuse_while_capturing(what)
    get_current_stream().submitted += 1


def touch(array):
    """Work of the current stream on an array."""
    in_flight.touch(array, get_current_stream())


def synchronize_all():
    for stream in list(_capturing):
        stream.refuse_while_capturing("cudaDeviceSynchronize")
    for stream in list(_streams.values()):
        stream.synchronize()
