"""Whether Numba's kernels for a job are on disk already; told in about a millisecond, without importing Numba.

Numba keeps its machine code by types, which cannot be read without it. So a job whose plan has been compiled leaves an
empty file beside that code, named after the job's kind and all that makes Numba compile anew.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ..job_outline import FEW_ROWS, LARGE_BATCH, SPARSE_DENSITY, JobOutline

KERNELS = Path(__file__).parent


@cache
def sources_digest() -> str:
    """Return a digest of the sources of all kernels."""
    paths = [*sorted(KERNELS.rglob("*.py")), KERNELS.parent / "activations.py"]  # whose constants are compiled in
    sources = b"".join(path.read_bytes() for path in paths)
    return hashlib.sha256(sources).hexdigest()[:12]


def kernels_of(job: JobOutline) -> str:
    """Return the kind of a job: two of the same kind need the same kernels; of others, they may differ."""
    batch = min(job.batch_size, job.rows)
    rows = "large" if batch >= LARGE_BATCH else "medium" if batch >= FEW_ROWS else "small"
    full = "full" if batch == job.rows else "part"
    kind = "sparse" if job.density < SPARSE_DENSITY else "dense"
    targets = "classes" if job.loss == "softmax_cross_entropy" else "outputs"
    return "-".join([*map(str, job.sizes), rows, full, job.dtype, job.images_dtype, kind, targets])


def are_cached(kernels: str) -> bool:
    """Whether a plan of this kind has been compiled here before, by this Numba and for this processor."""
    return _marker(kernels).exists()


def mark_cached(kernels: str) -> None:
    """Remember that a plan of this kind has been compiled; where no folder can be written, Numba has none either."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}:
        return  # nothing has been compiled
    marker = _marker(kernels)
    with suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def cache_folder() -> Path:
    """Return the folder that Numba keeps these kernels in.

    Source: UserProvidedCacheLocator, InTreeCacheLocator and UserWideCacheLocator in numba/core/caching.py.
    """
    name = f"{KERNELS.name}_{hashlib.sha1(str(KERNELS).encode()).hexdigest()}"
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given) / name
    in_tree = KERNELS / "__pycache__"
    if os.access(in_tree if in_tree.exists() else KERNELS, os.W_OK):
        return in_tree
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba" / name


def _marker(kernels: str) -> Path:
    made_by = f"{sources_digest()} {sys.implementation.cache_tag} {_numba_version()} {_processor()}"
    return cache_folder() / f"compiled-{hashlib.sha256(f'{kernels} {made_by}'.encode()).hexdigest()[:16]}"


def _numba_version() -> str:
    """Return the text that says which Numba is installed, empty where it cannot be found."""
    spec = find_spec("numba")
    if spec is None or spec.origin is None:
        return ""
    with suppress(OSError):
        return Path(spec.origin).with_name("_version.py").read_text(encoding="utf-8")
    return ""


def _processor() -> str:
    """Return the processor's model as Linux tells it, else empty."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        return next((line for line in lines if line.startswith("model name")), "")
    return ""
