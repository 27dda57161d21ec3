"""A stand-in for CuPy made of NumPy: enough of its names to run the CuPy backend without a GPU.

It says nothing about speed or memory on a device. What it keeps of CuPy's rules: device and host arrays do not mix,
reductions give 0-d arrays, `asnumpy` and `get` are the only ways to the host and are counted, indices wrap around,
views share memory, new memory is not cleared, and an array above a limit is out of memory. CUDA kernels are built by
g++ and really run (`host_kernels`); a stream that captures takes nothing but them.
"""

# ruff: noqa: ARG001, ARG002 - the signatures are CuPy's

import builtins
import functools
import math
import weakref

import host_kernels
import numpy

from . import cuda, fft, linalg  # noqa: F401
from .cuda.function import RawKernel, RawModule  # noqa: F401
from .cuda.memory import OutOfMemoryError
from .cuda.stream import get_current_stream, refuse_while_capturing, touch

__version__ = "14.0.0"
reads = 0  # calls of asnumpy and get
held = weakref.WeakValueDictionary()  # the device arrays that something still refers to, by id


class Data:
    """What an array tells of its memory."""

    def __init__(self, ptr):
        self.ptr = ptr


class ndarray(numpy.ndarray):  # noqa: N801
    def __array_finalize__(self, obj):
        held[id(self)] = self

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        refuse_while_capturing(f"cupy.{ufunc.__name__}")
        if out:
            options["out"] = _inside(out)
        _touch(inputs, out)
        result = getattr(ufunc, method)(*_inside(inputs), **options)
        return out[0] if out else _to_device(result)

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} on a device array")

    def __getitem__(self, index):
        if isinstance(index, ndarray):
            return self.take(index, axis=0)
        found = _inside(self)[index]
        if not (isinstance(found, numpy.ndarray) and found.base is not None):  # no view
            touch(self)
        return _to_device(found)

    def __setitem__(self, index, value):
        refuse_while_capturing("an assignment to an array's elements")
        found = _inside(self)[_inside(index)]
        is_view = isinstance(found, numpy.ndarray) and numpy.may_share_memory(found, _inside(self))
        _touch(found.view(ndarray) if is_view else self, value)
        numpy.ndarray.__setitem__(_inside(self), _inside(index), _inside(value))

    @property
    def device(self):
        return cuda.Device()

    @property
    def data(self):
        return Data(host_kernels.address_of(self))

    def set(self, arr, stream=None):
        refuse_while_capturing("ndarray.set")
        if not isinstance(arr, numpy.ndarray) or isinstance(arr, ndarray):
            raise TypeError(f"Only numpy.ndarray can be set to cupy.ndarray, not {type(arr)}")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.c_contiguous and not self.flags.f_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        touch(self)
        _inside(self)[...] = arr

    def get(self, stream=None, order="C", out=None, blocking=True):
        return _read(self, order, out)

    def fill(self, value):
        refuse_while_capturing("ndarray.fill")
        touch(self)
        _inside(self).fill(value)

    def copy(self, order="C"):
        refuse_while_capturing("ndarray.copy")
        touch(self)
        return _to_device(_copied(_inside(self), order))

    def take(self, indices, axis=None, out=None):
        refuse_while_capturing("ndarray.take")
        _touch(self, indices)
        return _to_device(numpy.take(_inside(self), _inside(indices), axis=axis, mode="wrap"))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == dtype:
            return self
        refuse_while_capturing("ndarray.astype")
        touch(self)
        return _to_device(_inside(self).astype(dtype, order=order))

    def _refuse(self, *args):
        raise TypeError("a device array was read without asnumpy")

    __float__ = __int__ = __bool__ = __index__ = item = tolist = __dlpack__ = _refuse


def _to_device(result):
    """A NumPy result as a device array, a scalar as 0-d."""
    host = numpy.asarray(result)
    if host.nbytes > cuda.memory.limit:
        raise _out_of_memory(host.nbytes)
    return host.view(ndarray)


def _out_of_memory(size):
    return OutOfMemoryError(size, builtins.sum(each.nbytes for each in held.values()))


def _inside(value):
    """The NumPy arrays behind device arrays; CuPy refuses host arrays among them."""
    if isinstance(value, ndarray):
        return value.view(numpy.ndarray)
    if isinstance(value, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return tuple(map(_inside, value)) if isinstance(value, list | tuple) else value


def _touch(*values):
    """Work of the current stream on device arrays, wherever they are among the values."""
    for value in values:
        if isinstance(value, ndarray):
            touch(value)
        elif isinstance(value, list | tuple):
            _touch(*value)
        elif isinstance(value, dict):
            _touch(*value.values())


VIEWS = {
    "reshape",
    "ravel",
    "transpose",
    "expand_dims",
    "squeeze",
    "broadcast_to",
    "moveaxis",
    "swapaxes",
    "shape",
    "ndim",
}


def _on_device(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        if function.__name__ not in VIEWS:
            refuse_while_capturing(f"cupy.{function.__name__}")
            _touch(args, kwargs)
        return _to_device(function(*_inside(args), **{name: _inside(value) for name, value in kwargs.items()}))

    return run


_OF_TYPES = {"isdtype", "issubdtype", "can_cast", "promote_types", "result_type"}  # these give no arrays
# array-api-compat copies every public name: types, constants and ufuncs are NumPy's own, functions take device arrays.
for _name in set(numpy.__all__) - set(globals()):
    _value = getattr(numpy, _name)
    _function = callable(_value) and not isinstance(_value, type | numpy.ufunc)
    globals()[_name] = _on_device(_value) if _function and _name not in _OF_TYPES else _value


def _copied(host, order="K"):
    """A copy in device memory, of the same order of elements in memory where that is asked for."""
    is_transposed = order == "F" or (order != "C" and host.flags.fnc)
    device = empty(host.shape[::-1] if is_transposed else host.shape, host.dtype)
    device = device.T if is_transposed else device
    _inside(device)[...] = host
    return device


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    refuse_while_capturing("cupy.array")
    cuda.memory.blocking.append(blocking)
    return _to_device(_copied(numpy.array(obj, dtype=dtype, copy=copy, order=order, ndmin=ndmin)))


def asarray(a, dtype=None, order=None, *, blocking=False):
    if isinstance(a, ndarray) and dtype in (None, a.dtype):
        return a
    return array(a, dtype, order=order or "K", blocking=blocking)


def empty(shape, dtype=float, order="C"):
    refuse_while_capturing("cupy.empty")
    dtype, shape = numpy.dtype(dtype), (shape,) if numpy.ndim(shape) == 0 else tuple(shape)
    size = dtype.itemsize * math.prod(shape)
    if size > cuda.memory.limit:
        raise _out_of_memory(size)
    return _to_device(host_kernels.new_memory(size).view(ndarray).view(dtype).reshape(shape, order=order))


def full(shape, fill_value, dtype=None, order="C"):
    device = empty(shape, numpy.array(fill_value).dtype if dtype is None else dtype, order)
    device.fill(fill_value)
    return device


def zeros(shape, dtype=float, order="C"):
    return full(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C"):
    return full(shape, 1, dtype, order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return empty(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    return full(a.shape if shape is None else shape, fill_value, dtype or a.dtype)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 0, dtype, shape=shape)


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 1, dtype, shape=shape)


def _read(device, order, out):
    global reads
    refuse_while_capturing("a copy to the host")
    reads += 1
    get_current_stream().run_queued()
    touch(device)
    if out is None:
        return numpy.array(_inside(device), order=order)
    out[...] = _inside(device)
    return out


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return _read(a, order, out)


def get_default_memory_pool():
    return cuda.memory.pool
