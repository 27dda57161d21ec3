"""Whether Numba's kernels for a job are on disk, told without Numba."""

import dataclasses
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from xpnn.backends import SGD, JobOutline
from xpnn.backends.job_outline import SPARSE_DENSITY
from xpnn.backends.numba import kernel_cache

JOB = JobOutline(sizes=(784, 10, 10), rows=600, epochs=5, batch_size=100, optimizer=SGD(0.1), density=0.2)

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    return tmp_path / "cache"


def test_kernels_are_cached_after_they_were_marked(folder):
    kernels = kernel_cache.kernels_of(JOB)
    assert not kernel_cache.are_cached(kernels)
    assert not folder.exists()
    kernel_cache.mark_cached(kernels)
    assert kernel_cache.are_cached(kernels)
    assert not kernel_cache.are_cached(kernel_cache.kernels_of(dataclasses.replace(JOB, dtype="float64")))
    assert kernel_cache.kernels_of(dataclasses.replace(JOB, density=SPARSE_DENSITY - 0.01)) == kernels


@pytest.mark.parametrize("changed", ["sources_digest", "_numba_version", "_processor"])
def test_what_makes_numba_compile_anew_makes_the_mark_void(folder, monkeypatch, changed):  # noqa: ARG001
    kernel_cache.mark_cached("k")
    monkeypatch.setattr(kernel_cache, changed, lambda: "another")
    assert not kernel_cache.are_cached("k")


def test_nothing_is_marked_where_nothing_was_compiled(folder, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    kernel_cache.mark_cached("k")
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_no_error(folder):
    folder.write_text("a file")
    kernel_cache.mark_cached("k")
    assert not kernel_cache.are_cached("k")


@needs_numba
@pytest.mark.parametrize("given", [True, False])
def test_the_folder_is_the_one_that_numba_uses(given, tmp_path):
    code = (
        "from xpnn.backends.numba import kernel_cache as k; from xpnn.backends.numba.network import layers as o\n"
        "print(o.forward.stats.cache_path == str(k.cache_folder()), k.cache_folder())"
    )
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    env |= {"NUMBA_CACHE_DIR": str(tmp_path)} if given else {}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert result.stdout.startswith("True")
    assert (str(tmp_path) in result.stdout) == given


def test_without_a_folder_of_its_own_it_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernel_cache.os, "access", lambda path, mode: False)  # noqa: ARG005
    assert kernel_cache.cache_folder().parent == tmp_path / "numba"
