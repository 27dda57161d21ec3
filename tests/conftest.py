"""What the tests share: every backend in turn, a small problem, the makers of networks and plans."""

import getpass
import importlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import array_api_compat.numpy as compat_numpy
import numpy as np
import pytest
from filelock import FileLock
from xpnn import nn
from xpnn.backends import (
    ArrayAPIBackend,
    Backend,
    Layer,
    get_backend,
)
from xpnn.backends.testing import problem
from xpnn.backends.testing.plugin import MORE_BACKENDS

pytest_plugins = ["many_ranks"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `nox -s trust`."""
    parser.addoption("--trust", action="store_true", help="do all of the experiments in tests/trust, not a slice")
    parser.addoption("--trust-page", metavar="FILE", help="write what the experiments showed into this page")


@pytest.fixture(scope="session")
def root(pytestconfig: pytest.Config) -> Path:
    """The repository's root."""
    return pytestconfig.rootpath


def pytest_configure(config: pytest.Config) -> None:
    """Test CuPy's backend on the stand-in too, and share Numba's machine code among workers and what they start."""
    config.stash[MORE_BACKENDS] = {EMULATED: "" if shutil.which("g++") else "g++ is not installed"}
    if not hasattr(config, "workerinput"):  # a worker has the environment of the process that started it
        cache = getattr(config, "cache", None)  # none with -p no:cacheprovider
        folder = cache.mkdir("numba") if cache else Path(tempfile.gettempdir(), f"xpnn-numba-{getpass.getuser()}")
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    # A shell starts what runs in its background, or with nohup, without Ctrl-C and SIGHUP.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def one_compiler() -> Iterator[None]:
    """Let one process of the tests compile a kernel, and others wait for it."""
    if importlib.util.find_spec("numba") is None:
        yield
        return
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher
    from xpnn.backends.numba.compiler.cache import default_path

    compile_alone, shared = Dispatcher.compile, default_path()

    def compile_in_turn(self: Any, sig: Any) -> Any:
        if self._cache.cache_path != str(shared) or sig in self.overloads:
            return compile_alone(self, sig)
        # Numba's own lock first: the threads of a process and the functions that one compiles come in one order.
        with global_compiler_lock, FileLock(shared.with_name(f"{self.py_func.__qualname__}.lock")):
            return compile_alone(self, sig)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_in_turn)
        yield


STAND_IN = Path(__file__).parent / "stand_in"
EMULATED = "cupy, emulated"  # on the stand-in for CuPy, whose kernels g++ compiles


@contextmanager
def stand_in_for_cupy() -> Iterator[Any]:
    """The stand-in, importable as `cupy`."""

    def modules() -> list[str]:
        return [name for name in sys.modules if name.startswith(("cupy", "array_api_compat.cupy"))]

    real = {name: sys.modules.pop(name) for name in modules()}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(STAND_IN)
            yield importlib.import_module("cupy")
    finally:
        for name in modules():
            del sys.modules[name]
        sys.modules.update(real)


@pytest.fixture
def cupy() -> Iterator[Any]:
    """The stand-in for CuPy."""
    with stand_in_for_cupy() as module:
        yield module


@pytest.fixture
def host(cupy: Any) -> Any:  # noqa: ARG001
    """The engine below the stand-in, which builds kernels and runs them under a sanitizer."""
    return sys.modules["host_kernels"]


@pytest.fixture
def module(cupy: Any) -> Any:
    """Small kernels, each of which shows one thing."""
    return cupy.RawModule(code=(STAND_IN / "examples.cu").read_text(encoding="utf-8"))


@pytest.fixture
def adds(module: Any) -> Callable[[Any, float], None]:
    """`adds(array, number)` launches a kernel that adds a number to an array's elements."""
    kernel = module.get_function("add_number")
    return lambda array, number: kernel((1,), (array.size,), (array, np.float64(number)))


@pytest.fixture
def stream(cupy: Any) -> Any:
    """A stream that can capture."""
    return cupy.cuda.Stream(non_blocking=True)


@pytest.fixture
def every_backend(xpnn_backend: str) -> Iterator[Backend]:
    """Every backend that works on this machine, and CuPy's on the stand-in."""
    if xpnn_backend == EMULATED:
        with stand_in_for_cupy():
            yield get_backend("cupy")
        return
    if xpnn_backend != "array-api-strict":
        made = get_backend(xpnn_backend)
        with made.scope():  # tests do arithmetic with its arrays themselves
            yield made
        return
    import array_api_strict

    before = array_api_strict.get_array_api_strict_flags()
    array_api_strict.set_array_api_strict_flags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )
    try:
        yield get_backend(xpnn_backend)
    finally:
        array_api_strict.set_array_api_strict_flags(**before)


@pytest.fixture
def backend(every_backend: Backend) -> Backend:
    """Every backend, where a room has no choice of its own."""
    return every_backend


@pytest.fixture
def generic() -> Backend:
    """The generic operations over NumPy: what every backend is held against."""
    return ArrayAPIBackend(compat_numpy)


@pytest.fixture
def make_problem() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`make_problem(rows)`: images (rows, 6) and labels (rows,) in [0, 3), which follow from the images."""
    return problem.images_and_classes


@pytest.fixture
def small_problem(make_problem: Callable[..., tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (23, 6) and labels (23,) in [0, 3)."""
    return make_problem()


@pytest.fixture
def make_data(make_problem: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Callable[..., nn.Dataset]:
    """`make_data(train=23, test=9)`: the small problem as a data set."""

    def make(train: int = 23, test: int = 9, *, dtype: str = "uint8") -> nn.Dataset:
        images, labels = make_problem(train + test, dtype=dtype)
        names = ("a", "b", "c")
        inputs = nn.Pixels(shape=(2, 3), class_names=names) if dtype == "uint8" else nn.Numbers(class_names=names)
        return nn.Dataset(
            "small", nn.Split(images[:train], labels[:train]), nn.Split(images[train:], labels[train:]), inputs
        )

    return make


@pytest.fixture
def labels_for() -> Callable[..., np.ndarray]:
    """`labels_for(loss, classes, outputs)`: labels as a loss takes them, made of classes (rows,)."""
    return problem.labels_of


@pytest.fixture
def make_layers() -> Callable[..., list[Layer]]:
    """`make_layers(backend, (6, 4, 3))`: layers with weights and biases that are the same on every backend."""

    def make(
        backend: Backend, sizes: tuple[int, ...] = problem.SIZES, *, activation: str = "relu", dtype: str = "float64",
        seed: int = 2,
    ) -> list[Layer]:  # fmt: skip
        return problem.layers_of(backend, problem.parameters(sizes, dtype=dtype, seed=seed), activation=activation)

    return make


@pytest.fixture
def weights_of() -> Callable[[Backend, list[Layer]], list[np.ndarray]]:
    """`weights_of(backend, layers)`: host copies of weight and bias of each layer, one after the other."""
    return problem.weights_of


@pytest.fixture(scope="session")
def mnist() -> nn.Dataset:
    """MNIST out of the folder that XPNN_DATA names; the tests never download it."""
    if not os.environ.get("XPNN_DATA"):
        pytest.skip("set XPNN_DATA to the folder of the MNIST files to run this")
    return nn.load_dataset("mnist", data_dir=os.environ["XPNN_DATA"])
