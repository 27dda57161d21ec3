"""A stand-in for CuPy made of NumPy: enough of its names to run the CuPy backend's logic without a GPU.

It says nothing about kernels, speed or memory on a device. What it keeps of CuPy's rules: device and host arrays do not
mix, reductions give 0-d arrays, `asnumpy` is the only way to the host and is counted, indices wrap around, and an array
above a limit is out of memory.
"""

# ruff: noqa: ARG001, ARG002 - the signatures are CuPy's

import builtins
import functools
import weakref

import numpy

from . import cuda, fft, linalg  # noqa: F401
from .cuda.memory import OutOfMemoryError

reads = 0  # calls of asnumpy
held = weakref.WeakValueDictionary()  # the device arrays that something still refers to, by id


class ndarray(numpy.ndarray):  # noqa: N801
    def __array_finalize__(self, obj):
        held[id(self)] = self

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        if out:
            options["out"] = _inside(out)
        result = getattr(ufunc, method)(*_inside(inputs), **options)
        return out[0] if out else _to_device(result)

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} on a device array")

    def __getitem__(self, index):
        return self.take(index, axis=0) if isinstance(index, ndarray) else _to_device(_inside(self)[index])

    def take(self, indices, axis=None, out=None):
        return _to_device(numpy.take(_inside(self), _inside(indices), axis=axis, mode="wrap"))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        return self if not copy and self.dtype == dtype else _to_device(_inside(self).astype(dtype, order=order))

    def _refuse(self, *args):
        raise TypeError("a device array was read without asnumpy")

    __float__ = __int__ = __bool__ = __index__ = item = tolist = __dlpack__ = _refuse


def _to_device(result):
    """A NumPy result as a device array, a scalar as 0-d."""
    host = numpy.asarray(result)
    if host.nbytes > cuda.memory.limit:
        raise OutOfMemoryError(host.nbytes, builtins.sum(each.nbytes for each in held.values()))
    return host.view(ndarray)


def _inside(value):
    """The NumPy arrays behind device arrays; CuPy refuses host arrays among them."""
    if isinstance(value, ndarray):
        return value.view(numpy.ndarray)
    if isinstance(value, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return tuple(map(_inside, value)) if isinstance(value, list | tuple) else value


def _on_device(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        return _to_device(function(*_inside(args), **{name: _inside(value) for name, value in kwargs.items()}))

    return run


# array-api-compat copies every public name: types, constants and ufuncs are NumPy's own, functions take device arrays.
for _name in set(numpy.__all__) - set(globals()):
    _value = getattr(numpy, _name)
    _function = callable(_value) and not isinstance(_value, type | numpy.ufunc)
    globals()[_name] = _on_device(_value) if _function and _name != "isdtype" else _value


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    cuda.memory.blocking.append(blocking)
    return _to_device(numpy.array(obj, dtype=dtype, copy=copy, order=order, ndmin=ndmin))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    global reads
    reads += 1
    return numpy.array(_inside(a), order=order)


def get_default_memory_pool():
    return cuda.memory.pool
