"""How the kernels are compiled: their cache, and the notice that compiling gives."""

import logging
import os
import signal
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba.core import config, event
from numba.core.errors import TypingError
from xpnn.backends.numba.compiler import compile as numba_compile
from xpnn.backends.numba.compiler.cache import KernelCache
from xpnn.backends.numba.steps import by_rows

compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT=1")


@compiled_only
def test_only_functions_of_the_digested_sources_are_cached():
    scope = {}
    exec(compile("def double(x):\n    return 2 * x", "<nowhere>", "exec"), scope)
    kernel = numba_compile.kernel(scope["double"])
    assert kernel(21) == 42
    assert kernel.stats.cache_path is None
    assert isinstance(by_rows.train_by_rows._cache, KernelCache)


class Pair(NamedTuple):
    first: Any
    second: Any


def test_what_compiled_code_is_found_by_tells_types_apart_as_numba_does():
    square = np.zeros((3, 3))
    read_only = square.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(bytes(9), np.uint8)[1:].view(np.float64)
    arrays = [square, square.T, square[::2, ::2], read_only, unaligned, square[0], square.astype(np.float32)]
    numbers = [
        1,
        2**63,
        1.0,
        True,
        np.float64(1),
        np.float32(1),
        np.int32(1),
        np.datetime64(1, "s"),
        np.datetime64(1, "D"),
    ]
    values = [*arrays, *numbers, (square, 1), (1, square), Pair(square, 1), Pair(1, square), (Pair(1, 1), 1), ()]
    for a in values:
        for b in values:
            if numba_compile._kind(a) == numba_compile._kind(b):
                assert numba.typeof(a) == numba.typeof(b)
    assert numba_compile._kind(Pair(square, 1)) == numba_compile._kind(Pair(square.copy(), 2))


@compiled_only
def test_a_kernel_has_its_own_copy_of_what_it_calls():
    """Else a process that has just compiled both runs other machine code than one that reads them from the cache."""
    scope = {}
    exec(
        compile("def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)", "<here>", "exec"), scope
    )
    scope["fibonacci"] = numba_compile.inner_kernel(scope["fibonacci"])
    exec(compile("def call(n): return fibonacci(n)", "<here>", "exec"), scope)
    for kernel, linkage in (
        (numba.njit(scope["call"]), "linkonce_odr"),
        (numba_compile.kernel(scope["call"]), "internal"),
    ):
        assert kernel(10) == 55
        functions = kernel.overloads[kernel.signatures[0]].library.get_defined_functions()
        assert [each.linkage.name for each in functions if "fibonacci" in each.name] == [linkage]


def test_a_change_of_any_kernel_file_changes_every_cache_file(tmp_path, monkeypatch):
    kernels = tmp_path / "numba"
    (kernels / "steps").mkdir(parents=True)
    monkeypatch.setattr(numba_compile, "KERNELS", kernels)
    digest = numba_compile.sources_digest
    seen = []
    with_constants = [tmp_path / "activations.py", tmp_path / "dropout.py"]
    for path in with_constants:
        path.touch()
    for path in (*with_constants, kernels / "plan.py", kernels / "steps" / "by_rows.py"):
        path.write_text("LEAKY_SLOPE = 0.01")
        seen.append(digest())
        path.write_text("LEAKY_SLOPE = 0.02")
        seen.append(digest())
    (tmp_path / "other.py").write_text("c")
    assert len(set(seen)) == len(seen)
    assert digest() == seen[-1]
    kernel = by_rows.train_by_rows
    assert getattr(kernel, "py_func", kernel).__qualname__ == f"train_by_rows_{numba_compile.SOURCES}"


def test_the_notice_comes_once(caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    with numba_compile.announced("compiling"):
        assert not caplog.records
        for _ in range(2):
            with event.trigger_event("numba:compile"):
                pass
    assert [record.getMessage() for record in caplog.records] == ["compiling"]


@compiled_only
def test_the_first_compilation_is_announced_once(caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    function = numba.njit(lambda x: x + 1)
    with numba_compile.announced("compiling"):
        assert (function(1), function(1.5)) == (2, 2.5)
    with numba_compile.announced("compiling again"):
        assert function(2) == 3
    assert [record.getMessage() for record in caplog.records] == ["compiling"]


COUNT = """
import numpy as np
from xpnn.backends.numba.compiler.team import Team
from xpnn.backends.numba.first_layer.compress import compressed
print(compressed(Team(1), np.eye(2, 3), 1.0, np.array([0, 1, 3]), np.float64).starts.tolist())
"""


@compiled_only
@pytest.mark.parametrize("writable", [False, True])
def test_the_cache_folder_may_be_missing_or_unwritable(tmp_path, writable):
    (tmp_path / "file").touch()
    folder = tmp_path / ("missing" if writable else "file") / "cache"  # no folder can be made below a file
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", COUNT], env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "[0, 1, 1, 1, 1, 2]\n"), result.stderr
    assert result.stderr.count(f"kernel cache {folder}") == (not writable)
    assert bool(list(folder.rglob("count_entries*.kernel"))) == writable


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the system sends no signal to one thread")
def test_an_interrupt_does_not_wait_for_the_compiler():
    begun, compiled = threading.Event(), threading.Event()

    def compile_slowly():
        begun.set()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        compiled.wait(timeout=60)
        return len

    with pytest.raises(KeyboardInterrupt):
        numba_compile._in_background(compile_slowly)
    assert begun.is_set()
    assert not compiled.is_set()
    compiled.set()


@compiled_only
def test_an_error_of_the_compiler_is_the_callers():
    scope = {}
    exec(compile("def add_a_text(x):\n    return x + '1'", "<nowhere>", "exec"), scope)
    with pytest.raises(TypingError, match="No implementation of function"):
        numba_compile.entry_of(numba_compile.kernel(scope["add_a_text"]), 1)


def test_a_kernel_is_compiled_where_the_system_gives_no_thread(monkeypatch):
    monkeypatch.setattr(numba_compile, "start_threads", lambda threads: 0)  # noqa: ARG005
    caller = []
    numba_compile._in_background(lambda: caller.append(threading.current_thread()))
    assert caller == [threading.current_thread()]
