"""What the tests share: every backend in turn, a small problem, the makers of networks and plans, and many ranks."""

import copy
import getpass
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
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
from xpnn.backends.communicator import Communicator
from xpnn.backends.testing import problem
from xpnn.backends.testing.plugin import MORE_BACKENDS


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


@pytest.fixture(scope="session", autouse=True)
def one_compiler() -> Iterator[None]:
    """Let one process of the tests compile a kernel, and others that want it too wait for it.

    Numba's cache does not lock its index either: of two processes that add to one function's at once, one may find the
    other's machine code under its own types.
    """
    if importlib.util.find_spec("numba") is None:
        yield
        return
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    compile_alone = Dispatcher.compile

    def compile_in_turn(self: Any, sig: Any) -> Any:
        if self._cache.cache_path is None or sig in self.overloads:
            return compile_alone(self, sig)
        Path(self._cache.cache_path).mkdir(parents=True, exist_ok=True)
        # Numba's own lock first: the threads of a process and the functions that one compiles come in one order.
        with global_compiler_lock, FileLock(Path(self._cache.cache_path, f"{self.py_func.__qualname__}.lock")):
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
        return nn.Dataset(
            "small",
            nn.Split(images[:train], labels[:train]),
            nn.Split(images[train:], labels[train:]),
            class_names=("a", "b", "c"),
            image_shape=(2, 3),
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


MEETING_SECONDS = 120.0  # a safety net: a rank that waits for longer fails, and with it the test


class RankGone(Exception):  # noqa: N818
    """A rank waits for another that has ended; why that one did is the error of the test."""


class Meeting:
    """Where the threads of a test exchange values: each gives one, and gets those of all, in the order of the ranks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._condition = threading.Condition()
        self._rounds: list[dict[int, tuple[Any, Any]]] = []  # of each round: rank -> (what it came for, its value)
        self._at, self._gone = [0] * size, set[int]()

    def exchange(self, rank: int, purpose: Any, value: Any) -> list[Any]:
        """Return the values of all ranks; all must have come for the same purpose."""
        with self._condition:
            number = self._at[rank]
            self._at[rank] += 1
            if number == len(self._rounds):
                self._rounds.append({})
            here = self._rounds[number]
            here[rank] = (purpose, value)
            self._condition.notify_all()
            while len(here) < self.size:
                if missing := self._gone - here.keys():
                    raise RankGone(f"rank {rank} waits for rank {min(missing)}, which has ended, to {purpose}")
                if not self._condition.wait(MEETING_SECONDS):
                    raise TimeoutError(f"rank {rank} waited {MEETING_SECONDS} s for the others to {purpose}")
        purposes = [here[each][0] for each in range(self.size)]
        assert purposes == [purpose] * self.size, f"the ranks came for different purposes: {purposes}"
        return [here[each][1] for each in range(self.size)]

    def leave(self, rank: int) -> None:
        """Tell the others that a rank comes no more."""
        with self._condition:
            self._gone.add(rank)
            self._condition.notify_all()


class ThreadCommunicator(Communicator):
    """The threads of a test as ranks; sums go in the order of the ranks.

    Attributes:
        calls: the methods that were called, in order.
    """

    def __init__(self, meeting: Meeting, rank: int, *, on_host: bool = True) -> None:
        self.rank, self.size, self.on_host = rank, meeting.size, on_host
        self.calls: list[str] = []
        self._meeting, self._begun = meeting, 0

    def sum(self, array: Any) -> None:
        assert not self._begun, "a sum that was begun has not ended"
        self.calls.append("sum")
        self._sum(array)

    def start_sum(self, array: Any) -> Callable[[], None]:
        """It is done when it is waited for: whoever reads or writes the array before that is found out."""
        self.calls.append("start_sum")
        self._begun += 1

        def wait() -> None:
            self._sum(array)
            self._begun -= 1

        return wait

    def _sum(self, array: Any) -> None:
        first, *others = self._exchange(("sum", tuple(array.shape), array.dtype), array)
        total = first
        for each in others:
            total = total + each
        array[...] = total

    def gather(self, array: Any) -> Any:
        assert not self._begun, "a sum that was begun has not ended"
        self.calls.append("gather")
        return np.stack(self._exchange(("gather", tuple(array.shape), array.dtype), array))

    def exchange(self, value: Any) -> list[Any]:
        assert not self._begun, "a sum that was begun has not ended"
        self.calls.append("exchange")
        return self._exchange("exchange", value)

    def barrier(self) -> None:
        self.calls.append("barrier")
        self._exchange("meet", None)

    def _exchange(self, purpose: Any, value: Any) -> list[Any]:
        """Exchange copies: what others got does not change any more."""
        return self._meeting.exchange(self.rank, purpose, copy.deepcopy(value))


class Ranks:
    """Runs a function on many ranks, the threads of the test: `ranks(3, work)` calls `work(communicator)` on each."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def current(self) -> int:
        """Return the number of the rank that asks."""
        rank: int = self._thread.rank
        return rank

    def __call__(self, size: int, work: Callable[[ThreadCommunicator], Any], *, on_host: bool = True) -> list[Any]:
        """Return what the ranks returned; the first error of any is raised."""
        results, errors = self._run(size, work, on_host=on_host)
        for error in sorted(filter(None, errors), key=lambda error: isinstance(error, RankGone)):
            raise error
        return results

    def errors(self, size: int, work: Callable[[ThreadCommunicator], Any]) -> list[BaseException | None]:
        """Return what each rank raised."""
        return self._run(size, work, on_host=True)[1]

    def _run(self, size: int, work: Any, *, on_host: bool) -> tuple[list[Any], list[BaseException | None]]:
        meeting = Meeting(size)
        results: list[Any] = [None] * size
        errors: list[BaseException | None] = [None] * size

        def run(rank: int) -> None:
            self._thread.rank = rank
            try:
                results[rank] = work(ThreadCommunicator(meeting, rank, on_host=on_host))
            except BaseException as error:  # raised again in the thread of the test
                errors[rank] = error
            finally:
                meeting.leave(rank)

        threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results, errors


@pytest.fixture(scope="session")
def ranks() -> Ranks:
    """Runs a function on many ranks in this process: `ranks(3, lambda communicator: ...)`; see `Ranks`."""
    return Ranks()


MPI_SECONDS = 300.0  # a safety net


class Mpiexec:
    """Starts `mpiexec -n SIZE python -W error ARGUMENTS`; nothing is raised where that fails."""

    def __init__(self, launcher: str) -> None:
        self._launcher = launcher

    def start(self, size: int, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
        """Return the launcher, whose output is piped; keywords are environment variables."""
        command = [self._launcher, "-n", str(size), sys.executable, "-W", "error", *map(str, arguments)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | variables,
        )  # fmt: skip

    def ended(self, process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
        """Wait for the end of a launcher, and return how it ended."""
        try:
            stdout, stderr = process.communicate(timeout=MPI_SECONDS)
        except BaseException:  # a time-out, or the tester's Ctrl-C
            process.kill()  # the launcher's own processes notice, and end the ranks
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def __call__(self, size: int, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run it, and return how it ended."""
        return self.ended(self.start(size, *arguments, **variables))


@pytest.fixture(scope="session")
def mpiexec() -> Mpiexec:
    """`mpiexec(2, "-m", "xpnn.nn.distributed", path)` runs Python on two processes; see `Mpiexec`."""
    launcher = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    if launcher is None:
        pytest.skip("mpiexec is not installed")
    return Mpiexec(launcher)


class Aborted(SystemExit):
    """The job was ended with an exit code."""


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`as_rank(1)` makes this process rank 1 of 2, where `MPI_Abort(code)` raises `Aborted(code)`."""
    module = importlib.import_module("xpnn.nn.distributed.world")

    def abort(code: int) -> None:
        raise Aborted(code)

    def be(rank: int) -> None:
        monkeypatch.setattr(module, "_world", SimpleNamespace(rank=rank, size=2))
        monkeypatch.setattr(module, "OTHERS_WAIT_SECONDS", 0.0)
        mpi = SimpleNamespace(COMM_WORLD=SimpleNamespace(Abort=abort), Is_finalized=lambda: False)
        monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))

    return be
