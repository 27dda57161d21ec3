"""Damaged files of the kernel cache: none is loaded, and the kernel is compiled again and written in its place."""

from pathlib import Path

import pytest
from xpnn.backends import DataError, why_unavailable

from .mutations import mutated

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

import numba
from numba.core import config
from xpnn.backends.numba.compiler import cache
from xpnn.backends.numba.compiler.cache import KernelCache, KernelFolder

TOKENS = [b"\x80\x05", b"\x95", b"cbuiltins\nexec\n", b"\x7fELF", b"(", b"R", b"."]


def double(x):
    return 2 * x


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT=1")
def test_kernels(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(double, "__module__", cache.__name__)  # a module that Numba finds by its name
    path = tmp_path / "kernels"

    def call():
        """Call the kernel as a process that has just started; return how often it came from the cache."""
        kernel, folder = numba.njit(double), KernelFolder(path)
        kernel._cache = KernelCache(double, {}, lambda: folder)
        assert kernel(21) == 42
        return sum(kernel.stats.cache_hits.values())

    assert call() == 0
    (entry,) = path.iterdir()
    sound = entry.read_bytes()

    def load(file: Path):
        damaged = file.read_bytes()
        if damaged == sound:
            return call()
        with monkeypatch.context() as patch:
            patch.setattr(cache.pickle, "loads", lambda _: pytest.fail("it was loaded"))
            assert call() == 0
        assert call() == 1, "it was not written again"
        raise DataError("its SHA-256 is wrong")

    files = mutated(sound, TOKENS).map(lambda content: (f"kernels/{entry.name}", content))
    damage("kernel cache files", files, load, lambda hits: hits == 1)
