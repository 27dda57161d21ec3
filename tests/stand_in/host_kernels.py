"""CUDA kernels built by g++ and run on the host: the engine of the stand-in's `RawModule`, and runs under a sanitizer.

What a kernel's source may use is in cuda_on_host.h. Built libraries are kept in a folder for temporary files under a
hash of all they were made from. Processes share it: one builds, and others that want the same wait for it.
"""

import ctypes
import functools
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

HERE = Path(__file__).parent
RUNTIME = ["cuda_on_host.cpp", "ptx_on_host.cpp"]
# CUDA C++ compares threadIdx, which is unsigned, with int everywhere, and its `#pragma unroll` is none of g++.
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", "-Wno-unknown-pragmas"]
FLAGS = ["-std=c++20", "-O1", "-fno-math-errno", "-ffp-contract=off", *WARNINGS]
SANITIZERS = {
    "thread": ["-fsanitize=thread", "-DXPNN_THREAD_SANITIZER"],
    "address": ["-fsanitize=address,undefined", "-DXPNN_ADDRESS_SANITIZER"],
}
# Options of NVRTC that say nothing to g++.
IGNORED = re.compile(
    r"--?(std|fmad|ftz|prec-div|prec-sqrt|maxrregcount|extra-device-vectorization|use_fast_math|lineinfo|restrict"
    r"|generate-line-info|device-as-default-execution-space|default-device|ptxas-options|split-compile|diag-\w+)(=.*)?$"
)
KERNEL = re.compile(
    r'extern\s*"C"\s*__global__(?:\s+(?:void|__noinline__)|\s*__launch_bounds__\s*\((?P<bounds>(?:[^()]|\([^()]*\))*)\))*'
    r"\s*(?P<name>\b(?!void\b)\w+)\s*\("
)


class CompileError(Exception):
    """What g++ said."""


class KernelFault(RuntimeError):  # noqa: N818
    """A kernel did what on a device hangs, crashes or corrupts memory."""


def why_no_compiler(sanitizer=""):
    """Why kernels cannot be built here, for a sanitizer where one is named; empty where they can."""
    if sys.platform != "linux":
        return "kernels are built for the host on Linux only"
    if not shutil.which("g++"):
        return "g++ was not found, which builds the kernels for the host"
    library = {"": "libstdc++.so", "thread": "libtsan.so", "address": "libasan.so"}[sanitizer]
    is_there = os.path.isabs(_gcc(f"-print-file-name={library}").strip())  # noqa: PTH117
    return "" if is_there else f"g++ has no {library}"


class Description(ctypes.Structure):
    """host::Kernel of cuda_on_host.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("pointers", ctypes.c_char_p),
        ("types", ctypes.c_char_p),
        ("most_threads", ctypes.c_int),
    )


class Parameter(NamedTuple):
    pointer: bool
    type: str  # a letter of `struct`, of what it points to if it is a pointer; V for all other types


class HostKernel:
    """A function of a built library."""

    def __init__(self, library, description):
        self._launch, self._address = library.host_launch, ctypes.addressof(description)
        self.name = description.name.decode()
        pairs = zip(description.pointers.decode(), description.types.decode(), strict=True)
        self.parameters = [Parameter(pointer == "*", letter) for pointer, letter in pairs]

    def __call__(self, grid, block, packed, shared_mem, cooperative):
        """Run it; `grid` and `block` are three numbers each, `packed` has eight bytes for each argument."""
        if fault := self._launch(self._address, *grid, *block, shared_mem, cooperative, packed):
            raise KernelFault(fault.decode())


_libraries = {}


def kernels_of(code, options):
    """The kernels of a source by name, built if they are not yet.

    Raises:
        CompileError: g++ refuses the source.
        ValueError: NVRTC would not know an option.
    """
    path = _build(code, tuple(options), "")
    if path not in _libraries:
        library = ctypes.PyDLL(str(path))  # it keeps the interpreter's lock: the fibers' state is one for the process
        library.host_launch.restype = ctypes.c_char_p
        numbers = [ctypes.c_uint] * 6
        library.host_launch.argtypes = [ctypes.c_void_p, *numbers, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p]
        table = (ctypes.POINTER(Description) * 1000).in_dll(library, "host_kernels")
        descriptions = itertools.takewhile(bool, table)
        kernels = [HostKernel(library, each.contents) for each in descriptions]
        _libraries[path] = {kernel.name: kernel for kernel in kernels}
    return _libraries[path]


def _folder():
    folder = Path(tempfile.gettempdir()) / f"xpnn-host-kernels-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def _compiler():
    """The path of g++ and what it is known by."""
    path = shutil.which("g++")
    if path is None:
        raise CompileError(why_no_compiler())
    found = Path(path).resolve().stat()
    return path, f"{path} {found.st_size} {found.st_mtime_ns}"


def _gcc(*arguments):
    done = subprocess.run([_compiler()[0], *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stdout


@functools.cache
def _own_sources():
    files = sorted(each for each in HERE.iterdir() if each.suffix in (".h", ".cpp", ".py"))
    return "\0".join(each.read_text() for each in files)


def _key(*parts):
    every = [_compiler()[1], _own_sources(), *parts]
    return hashlib.sha256("\0".join(every).encode()).hexdigest()[:24]


def _definitions(options):
    """What g++ is given of NVRTC's options: -D, -U and -I; the folders' own texts."""
    taken, texts = [], []
    for option in options:
        option = option.replace("--include-path=", "-I").replace("--define-macro=", "-D")
        if option.startswith(("-D", "-U", "-I")) and len(option) > 2:
            taken.append(option)
            if option.startswith("-I"):
                files = sorted(each for each in Path(option[2:]).iterdir() if each.suffix in (".h", ".cuh", ".cu"))
                texts += [each.read_text() for each in files]
        elif not IGNORED.match(option):
            raise ValueError(f"the stand-in's NVRTC does not know the option {option!r}")
    return taken, texts


def _made(path, make):
    """The path, once `make(result)` has written its file: by this process, or by another that was first."""
    if not path.exists():
        with FileLock(f"{path}.lock"):
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=_folder()) as own:
                    result = Path(own, path.name)
                    make(result)
                    result.replace(path)
    return path


def _build(code, options, sanitizer):
    """The path of the library, or of the program that runs under a sanitizer."""
    taken, texts = _definitions(options)
    path = _folder() / f"{_key(sanitizer, code, *taken, '', *texts)}.{'exe' if sanitizer else 'so'}"

    def make(result):
        source, entries = _written(code), result.with_name("entries.cpp")
        entries.write_text(f'#include "{source}"\n{_entries(source, taken)}')
        # Hidden: else functions of the C library and kernels of the same name take each other's place.
        flags = ["-include", HERE / "cuda_on_host.h", "-fvisibility=hidden", *FLAGS, *taken]
        how = ["-g", "-fno-omit-frame-pointer", *SANITIZERS[sanitizer]] if sanitizer else ["-shared", "-fPIC"]
        _gcc(*flags, *how, entries, *_runtime(sanitizer), "-o", result)

    return _made(path, make)


def _written(code):
    """The path of a source, which stays: a sanitizer's report names its lines."""
    return _made(_folder() / f"{_key('source', code)}.cu", lambda result: result.write_text(code))


def _bounds(source, taken):
    """The kernels of a source and their launch bounds, in their order: found in what the preprocessor leaves of it."""
    text = _gcc("-E", "-P", "-x", "c++", "-DXPNN_PTX_CUH", "-DSHARED_MEMORY(name)=", *taken, source)
    return {found["name"]: found["bounds"] for found in KERNEL.finditer(text)}


def _entries(source, taken):
    """The lines after a source that describe its kernels."""
    bounds = _bounds(source, taken)
    lines = [f"KERNEL({name}{', ' + bound if bound else ''})" for name, bound in bounds.items()]
    table = ", ".join([*(f"&host_kernel_{name}" for name in bounds), "nullptr"])
    visible = 'extern "C" __attribute__((visibility("default"))) const host::Kernel* const host_kernels[]'
    return "\n".join([*lines, f"{visible};", f"{visible} = {{{table}}};", ""])


def _runtime(sanitizer):
    """The objects that are the same for all kernels; those of the fibers are not instrumented."""
    names = [*RUNTIME, *(["sanitized_main.cpp"] if sanitizer else [])]
    defined = [flag for flag in SANITIZERS.get(sanitizer, []) if flag.startswith("-D")]
    key, objects = _key("runtime", sanitizer), []
    for name in names:
        arguments = (*FLAGS, *defined, "-fPIC", "-c", HERE / name, "-o")
        objects.append(_made(_folder() / f"{key}-{name}.o", functools.partial(_gcc, *arguments)))
    return objects


# Runs under a sanitizer


@dataclass
class Launch:
    """A kernel's launch. Arrays among `args` are NumPy's; those that are views of one array share its memory."""

    code: str
    options: tuple
    name: str
    grid: tuple
    block: tuple
    args: tuple
    shared_mem: int = 0
    cooperative: bool = False


class Sanitized(NamedTuple):
    results: list  # for each launch its args, with copies of the arrays as they were after the last launch
    report: str  # what the sanitizer and the fibers found; empty is what is wanted


recorded = None  # a list of Launch while one is recorded


@contextmanager
def recording():
    """Yield a list that gets every launch on the stand-in, those of graphs too, with its arrays before it.

    Each has arrays of its own, so that `sanitize` runs it as it ran here.
    """
    global recorded
    recorded = []
    try:
        yield recorded
    finally:
        recorded = None


def three(numbers):
    return (*numbers, 1, 1, 1)[:3]


class Memory(np.ndarray):
    """Bytes of the device, at an address that CuPy could give, of which arrays are views."""


def new_memory(size):
    """Memory that was written by others before: CUDA does not clear it."""
    room = np.empty(size + 511, np.uint8)
    start = -address_of(room) % 512  # as CuPy's
    memory = room[start : start + size].view(Memory)
    memory.fill(255)  # NaN as a floating number
    return memory


def owner_of(array):
    """The array whose memory a view is of."""
    while not isinstance(array, Memory) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def copy_of(owner):
    """The bytes of an array that is not a view, in their order in memory."""
    copied = np.empty(owner.nbytes, np.uint8)
    ctypes.memmove(address_of(copied), address_of(owner), owner.nbytes)
    return copied


def address_of(array):
    return array.__array_interface__["data"][0]


def sanitize(launches, sanitizer="thread", *, timeout=1800):
    """Run launches one after another under ThreadSanitizer ("thread") or Address- and UBSan ("address").

    To ThreadSanitizer every CUDA thread is a thread. Only barriers of a block, meetings of a warp, atomics and the
    ends of launches order their accesses, whatever the order was in which they ran: a race is reported although the
    result was right.
    """
    owners = {}
    for launch in launches:
        for each in launch.args:
            if isinstance(each, np.ndarray):
                owner = owner_of(each)
                owners.setdefault(id(owner), (len(owners), owner))
    contents = [copy_of(owner).tobytes() for _, owner in owners.values()]
    report = ""
    for (code, options), group in itertools.groupby(launches, lambda each: (each.code, tuple(each.options))):
        contents, said = _run_sanitized(code, options, list(group), owners, contents, sanitizer, timeout)
        report += said
    results = []
    for launch in launches:
        args = []
        for each in launch.args:
            if isinstance(each, np.ndarray):
                number, owner = owners[id(owner_of(each))]
                start = address_of(each) - address_of(owner)
                each = np.ndarray(each.shape, each.dtype, contents[number], start, each.strides).copy()
            args.append(each)
        results.append(args)
    return Sanitized(results, report)


def _run_sanitized(code, options, launches, owners, contents, sanitizer, timeout):
    """The buffers' contents after the launches of one module, and what was reported."""
    program = _build(code, options, sanitizer)
    numbers = list(_bounds(_written(code), _definitions(options)[0]))  # in the order of the program's table
    parts = [_numbers(len(contents))]
    for content in contents:
        parts += [_numbers(len(content)), content]
    parts.append(_numbers(len(launches)))
    for launch in launches:
        sizes = [*three(launch.grid), *three(launch.block), launch.shared_mem, launch.cooperative, len(launch.args)]
        parts.append(_numbers(numbers.index(launch.name), *sizes))
        for each in launch.args:
            if isinstance(each, np.ndarray):
                number, owner = owners[id(owner_of(each))]
                parts.append(_numbers(number, address_of(each) - address_of(owner)))
            else:
                parts += [_numbers(-1), each.tobytes().ljust(8, b"\0")]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.write_bytes(b"".join(parts))
        command, environment = [program, before, after], {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        run = functools.partial(subprocess.run, capture_output=True, text=True, check=False, timeout=timeout)
        done = run(command, env=environment)
        if "unexpected memory mapping" in done.stderr:  # where addresses are more random than it can bear
            done = run(["setarch", "-R", *command], env=environment)
        report = done.stderr or ("" if done.returncode == 0 else f"exit status {done.returncode}")
        if not after.exists():
            return contents, report
        got = after.read_bytes()
    ends = list(itertools.accumulate(map(len, contents), initial=0))
    return [got[start:end] for start, end in itertools.pairwise(ends)], report


def _numbers(*values):
    return np.array(values, np.int64).tobytes()
