"""Work on streams that nobody has waited for yet, and who touches its memory before."""

import weakref

import host_kernels
import numpy

operations = []  # that were queued beside the current stream of their time, and may not have been waited for


class Operation:
    """A call that is queued; it keeps no array alive."""

    def __init__(self, name, stream, source, target, run):
        self.name, self.stream, self.number, self.is_done = name, stream, 0, False
        self._source, self._target, self._run = _Place(source), _Place(target), run

    def run(self):
        if not self.is_done:
            self.is_done = True
            self._run(self._source.array(self.name), self._target.array(self.name))

    def has(self, start, stop):
        """Whether any of its memory is in a range of addresses."""
        return any(each.start < stop and start < each.stop for each in (self._source, self._target))


class _Place:
    """Where an array is in the memory that it is a view of."""

    def __init__(self, array):
        owner = host_kernels.owner_of(array)
        self._owner, self._shape, self._dtype = weakref.ref(owner), array.shape, array.dtype
        self.start = host_kernels.address_of(array)
        self.stop, self._offset = self.start + array.nbytes, self.start - host_kernels.address_of(owner)

    def array(self, name):
        owner = self._owner()
        if owner is None:
            raise host_kernels.KernelFault(f"nccl.{name}: its array was freed before the stream had come so far")
        return numpy.ndarray(self._shape, self._dtype, owner, self._offset)


def touch(array, stream):
    """Refuse work of a stream on an array that another stream is still at work on."""
    if not operations:
        return
    start = host_kernels.address_of(array)
    low = start + sum(min(0, step * (length - 1)) for step, length in zip(array.strides, array.shape, strict=True))
    high = start + array.itemsize
    high += sum(max(0, step * (length - 1)) for step, length in zip(array.strides, array.shape, strict=True))
    for each in operations:
        if array.size and each.has(low, high) and not stream.comes_after(each.stream, each.number):
            raise host_kernels.KernelFault(
                f"an array was used while nccl.{each.name} was at work on it on another stream: wait for its event"
            )


def forget(is_over):
    """Leave out the work of which a function says that it is over."""
    operations[:] = [each for each in operations if not is_over(each)]
