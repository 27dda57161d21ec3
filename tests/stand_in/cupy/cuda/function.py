"""Kernels from CUDA C++: built by g++, and refused arguments that a device would misread without a word."""

# ruff: noqa: ARG002 - the signatures are CuPy's

import math
import struct
import sys
import weakref

import host_kernels
import numpy

from . import device, in_flight
from .compiler import CompileException
from .driver import CUDADriverError

SHARED_MEMORY_UNASKED = 48 << 10
LARGEST_GRID = (2**31 - 1, 65535, 65535)
LARGEST_BLOCK = (1024, 1024, 64)


class RawModule:
    def __init__(
        self, code=None, *, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
        enable_cooperative_groups=False, name_expressions=None, jitify=False,
    ):  # fmt: skip
        if not isinstance(code, str) or not isinstance(options, tuple):
            raise TypeError(f"code must be a string and options a tuple, got {type(code)} and {type(options)}")
        if path or backend != "nvrtc" or translate_cucomplex or name_expressions or jitify:
            raise NotImplementedError("of RawModule the stand-in knows code, options and enable_cooperative_groups")
        self.code, self.options, self.enable_cooperative_groups = code, options, enable_cooperative_groups

    def compile(self, log_stream=None):
        self._kernels()

    def get_function(self, name):
        kernels = self._kernels()
        if name not in kernels:
            raise CUDADriverError(500, f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}, of {sorted(kernels)}")
        return RawKernel(self, name, kernels[name])

    def _kernels(self):
        try:
            return host_kernels.kernels_of(self.code, self.options)
        except host_kernels.CompileError as error:
            raise CompileException(str(error), self.code, "", self.options) from error


class RawKernel:
    def __init__(self, module, name, kernel):
        self.name, self.kernel, self.module = name, kernel, module
        self.code, self.options = module.code, module.options
        self.enable_cooperative_groups = module.enable_cooperative_groups
        self._most_shared_memory = SHARED_MEMORY_UNASKED
        self._packing = struct.Struct("<" + "".join(_slot(parameter) for parameter in kernel.parameters))

    @property
    def max_dynamic_shared_size_bytes(self):
        return self._most_shared_memory

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, count):
        if not 0 <= count <= device.shared_memory:
            raise CUDADriverError(1, f"CUDA_ERROR_INVALID_VALUE: a block has {device.shared_memory} bytes, not {count}")
        self._most_shared_memory = count

    def __call__(self, grid, block, args, *, shared_mem=0):
        grid, block = (self._sizes(name, sizes) for name, sizes in (("grid", grid), ("block", block)))
        self._check_sizes(grid, block, shared_mem)
        parameters = self.kernel.parameters
        if len(args) != len(parameters):
            raise TypeError(f"kernel {self.name} has {len(parameters)} arguments, got {len(args)}")
        values = [self._value(*each) for each in zip(range(len(args)), parameters, args, strict=True)]
        node = Node(self, grid, block, shared_mem, self._packing.pack(*values), args)
        sys.modules[__package__].get_current_stream().submit(node)

    def _sizes(self, name, sizes):
        if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3 or not all(type(size) is int for size in sizes):
            raise TypeError(f"kernel {self.name}: {name} must be a tuple of one to three int, got {sizes!r}")
        return host_kernels.three(sizes)

    def _check_sizes(self, grid, block, shared_mem):
        largest = all(
            1 <= size <= most for size, most in zip((*grid, *block), LARGEST_GRID + LARGEST_BLOCK, strict=True)
        )
        if not largest or math.prod(block) > 1024:
            raise CUDADriverError(
                1, f"CUDA_ERROR_INVALID_VALUE: kernel {self.name} of {grid} blocks of {block} threads"
            )
        if shared_mem > min(self._most_shared_memory, device.shared_memory):
            raise CUDADriverError(
                1,
                f"CUDA_ERROR_INVALID_VALUE: kernel {self.name} asks for {shared_mem} bytes of shared memory, "
                f"its max_dynamic_shared_size_bytes is {self._most_shared_memory}",
            )
        if self.enable_cooperative_groups and (math.prod(grid) > device.multiprocessors or not device.cooperative):
            raise CUDADriverError(
                720,
                f"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: kernel {self.name} of {math.prod(grid)} blocks, of which "
                f"{device.multiprocessors} can be on the device at once",
            )

    def _value(self, number, parameter, arg):
        """What is passed for an argument; CuPy passes whatever it is given."""
        expected = None if parameter.type == "V" else numpy.dtype(parameter.type)
        if parameter.pointer:
            if not isinstance(arg, sys.modules["cupy"].ndarray):
                raise TypeError(f"kernel {self.name}: argument {number} must be a device array, got {type(arg)}")
            if expected is not None and arg.dtype != expected:
                raise TypeError(f"kernel {self.name}: argument {number} must be of {expected}, got {arg.dtype}")
            if not arg.flags.c_contiguous:
                raise TypeError(
                    f"kernel {self.name}: argument {number} must be C-contiguous, has strides {arg.strides}"
                )
            return host_kernels.address_of(arg)
        if expected is None:
            raise TypeError(f"kernel {self.name}: parameter {number} is neither a pointer nor a number")
        if not isinstance(arg, numpy.generic) or arg.dtype != expected:
            raise TypeError(f"kernel {self.name}: argument {number} must be numpy.{expected}, got {type(arg)}")
        return arg.item()


class Node:
    """One launch with all that it needs, which keeps no array alive."""

    def __init__(self, kernel, grid, block, shared_mem, packed, args):
        self.kernel, self.grid, self.block, self.shared_mem, self.packed = kernel, grid, block, shared_mem, packed
        self._args = [_Array(each) if isinstance(each, numpy.ndarray) else each for each in args]

    def touch(self, stream):
        """Refuse arrays that another stream is still at work on."""
        for each in self._args:
            if type(each) is _Array and each.owner() is not None:
                in_flight.touch(each.of(each.owner()), stream)

    def run(self):
        for number, each in enumerate(self._args):
            if type(each) is _Array and each.owner() is None:
                raise host_kernels.KernelFault(
                    f"kernel {self.kernel.name} of a graph: the array of argument {number} has been freed"
                )
        if host_kernels.recorded is not None:
            host_kernels.recorded.append(self._record())
        raw = self.kernel
        raw.kernel(self.grid, self.block, self.packed, self.shared_mem, raw.enable_cooperative_groups)

    def _record(self):
        """The launch with copies of its arrays as they are before it; those of one memory stay of one."""
        owners = {id(each.owner()): each.owner() for each in self._args if type(each) is _Array}
        copies = {key: host_kernels.copy_of(owner) for key, owner in owners.items()}
        args = tuple(each.of(copies[id(each.owner())]) if type(each) is _Array else each for each in self._args)
        raw = self.kernel
        return host_kernels.Launch(
            raw.code, raw.options, raw.name, self.grid, self.block, args, self.shared_mem, raw.enable_cooperative_groups
        )


class _Array:
    """Where an argument is in the memory that it is a view of."""

    def __init__(self, array):
        owner = host_kernels.owner_of(array)
        self.owner, self.shape, self.dtype = weakref.ref(owner), array.shape, array.dtype
        self._start = host_kernels.address_of(array) - host_kernels.address_of(owner)

    def of(self, owner):
        """The same place in a copy of the memory."""
        return numpy.ndarray(self.shape, self.dtype, owner, self._start)


def _slot(parameter):
    """A parameter's eight bytes."""
    letter = "Q" if parameter.pointer or parameter.type == "V" else parameter.type
    return f"{letter}{8 - struct.calcsize('<' + letter)}x"
