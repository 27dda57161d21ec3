"""Checks of signatures, array transfers and sums."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ..base import Backend
from ..choice import JobOutline
from ..communicator import ALONE
from ..errors import ConfigError
from ..losses import LOSSES
from ..plan import Rows
from .problem import (
    CLASSES,
    DTYPES,
    FEATURES,
    ROWS,
    SCALE,
    Numbers,
    assert_same,
    check,
    images_and_classes,
    labels_of,
    normal,
    on_host,
    refusal,
    rules,
)


def assert_signatures(kind: type, base: type) -> None:
    """Assert that public methods have the signatures of the base class."""
    for method in (name for name, _ in inspect.getmembers(base, inspect.isfunction) if not name.startswith("_")):
        own, expected = (inspect.signature(getattr(each, method)) for each in (kind, base))
        said = f"{kind.__name__}.{method} must take {expected}, got {own}"
        found, wanted = (
            [(each.name, each.kind, each.default) for each in signature.parameters.values()]
            for signature in (own, expected)
        )
        assert found == wanted, said


@check("signatures")
def overridden_methods_take_what_the_base_class_takes(backend: Backend) -> None:
    assert_signatures(type(backend), Backend)


@check("check_precision")
def only_the_precisions_of_the_backend_are_taken(backend: Backend) -> None:
    assert "full" in backend.precisions, f"precisions must hold 'full', got {backend.precisions}"
    for precision in backend.precisions:
        backend.check_precision(precision)
    refused = refusal(ConfigError, backend.check_precision, "half")
    assert backend.name in refused, f"the error must name the backend {backend.name!r}, got {refused!r}"
    assert "'half'" in refused, f"the error must name 'half', got {refused!r}"


@check("suits")
def any_job_is_taken_or_declined(backend: Backend) -> None:
    for loss, optimizer in product(LOSSES, rules().values()):
        job = JobOutline((FEATURES, CLASSES), rows=ROWS, epochs=1, optimizer=optimizer, loss=loss)
        assert type(backend.suits(job)) is bool, f"suits must return True or False, got {backend.suits(job)!r}"


# Arrays come and go


@check(
    "put", "to_numpy",
    dtype=["bool", "uint8", "int64", "float32", "float64", "<u2", ">u2", "<i4", ">f8"],
    shape=[(), (5,), (3, 4), (0, 4)],
    view=[np.copy, np.transpose, np.flip],
)  # fmt: skip
def copies_of_any_memory_order_come_back_as_they_went(
    backend: Backend, dtype: str, shape: tuple[int, ...], view: Callable[..., Numbers]
) -> None:
    array = np.asarray(view((normal(*shape) * 50 + 100).astype(dtype)))
    expected = array.astype(array.dtype.newbyteorder("="))
    on_device = backend.put(array)
    array[...] = 0
    back = backend.to_numpy(on_device)
    assert type(back) is np.ndarray, f"to_numpy must return a NumPy array, got {type(back)}"
    assert_same([back], [expected], "what put took and to_numpy returned, after the host's array has changed")
    back[...] = 0
    assert_same([backend.to_numpy(on_device)], [expected], "an array on the device, after a copy of it has changed")


@check("put_rows", dtype=["uint8", *DTYPES], density=[0.05, 0.9], is_sparse=[True, False])
def rows_come_as_they_are_or_dense(backend: Backend, dtype: str, density: float, is_sparse: bool) -> None:
    from scipy.sparse import csr_array

    numbers = (normal(6, 40) * 50 + 100).astype(dtype) * (np.random.default_rng(2).random((6, 40)) < density)
    numbers = numbers.astype(dtype)
    given: Any = csr_array(numbers) if is_sparse else numbers.copy()
    placed = backend.put_rows(given)
    (given.data if is_sparse else given)[...] = 0
    back = placed.toarray() if hasattr(placed, "toarray") else backend.to_numpy(placed)
    assert_same([back], [numbers], "rows from put_rows, after the host's have changed")


@check("own")
def own_takes_arrays_of_the_backend_alone(backend: Backend) -> None:
    for foreign in (object(), [1.0, 2.0], "text", None):
        assert backend.own(foreign) is None, f"own must return None for {foreign!r}"
    array = normal(3, 4)
    taken = backend.own(backend.put(array))
    if taken is not None:
        assert_same([backend.to_numpy(taken)], [array], "what own returned for an array of the backend")


@check("all_finite", dtype=DTYPES, number=[np.nan, np.inf, -np.inf])
def an_infinity_or_a_nan_is_found_wherever_it_is(backend: Backend, dtype: str, number: float) -> None:
    arrays = [normal(3, 4, dtype=dtype) * np.dtype(dtype).type(1e30), normal(5, dtype=dtype)]
    assert backend.all_finite([backend.put(array) for array in arrays]) is True, "all_finite must be True of numbers"
    for k, place in [(0, (0, 0)), (0, (2, 3)), (1, (4,))]:
        spoilt = [array.copy() for array in arrays]
        spoilt[k][place] = number
        found = backend.all_finite(backend.put(array) for array in spoilt)
        assert found is False, f"all_finite must be False of {number} at {place} of array {k}"


# Sums, and contexts


@check("read_sums", "read_totals")
def sums_come_in_order_after_one_read_as_numbers_of_python(backend: Backend) -> None:
    for pairs in ([(0.1, 7)], [(1e300, 2**40 + 1), (-2.5, 0), (np.inf, 3)]):
        sums = [(backend.put(np.asarray(loss)), backend.put(np.asarray(count))) for loss, count in pairs]
        with mock.patch.object(backend, "to_numpy", wraps=backend.to_numpy) as reads:
            got = backend.read_sums(sums)
        assert reads.call_count <= 1, f"read_sums must read the device once, got {reads.call_count} reads"
        assert_same([got], [np.array(pairs, dtype=np.float64)], "read_sums")
        totals = backend.read_totals(*sums[0], 2**41)
        assert totals == (*pairs[0], 2**41), f"read_totals must return what went in, got {totals}"
        assert [*map(type, totals)] == [float, int, int], f"read_totals must return Python numbers, got {totals}"


@check("scope", "fixed_order", name=["scope", "fixed_order"])
def contexts_nest_compute_in_float64_and_hide_no_error(backend: Backend, name: str) -> None:
    array, context = normal(30, 4), getattr(backend, name)
    with backend.scope() if name == "fixed_order" else nullcontext():
        with context():
            total = backend.to_numpy(backend.xp.sum(backend.put(array), axis=0))
            with context():
                again = backend.to_numpy(backend.xp.sum(backend.put(array), axis=0))
                ones = backend.to_numpy(backend.xp.ones(3, dtype=backend.xp.float64))
        with suppress(ZeroDivisionError):
            with context():
                raise ZeroDivisionError
            raise AssertionError(f"{name}() must let an error through")
    assert_same([total, ones], [again, np.ones(3)], f"arrays of float64 within {name}()")
    np.testing.assert_allclose(total, array.sum(axis=0), rtol=1e-12, err_msg=f"a sum of float64 within {name}()")


@check("communicator")
def one_process_adds_nothing(backend: Backend) -> None:
    communicator, array = backend.communicator(ALONE), normal(3, 4)
    assert (communicator.rank, communicator.size) == (0, 1), "communicator(ALONE) must be rank 0 of 1"
    placed = array.copy() if communicator.on_host else backend.put(array)
    communicator.sum(placed)
    both = [placed, communicator.gather(placed)]
    kept = both if communicator.on_host else on_host(backend, both)
    assert_same(kept, [array, array[None]], "the sum over one process, and its arrays")


# Rows


@check("place", images=["uint8", ">i4", "float32", "float64"], loss=["classes", "numbers"])
def placed_rows_keep_their_types(backend: Backend, images: str, loss: str) -> None:
    pixels, classes = images_and_classes(dtype="uint8" if "i" in images else images)
    pixels, weights = pixels.astype(images), np.arange(len(pixels)) / 4
    labels = classes.astype("int32") if loss == "classes" else labels_of("squared_error", classes, CLASSES)
    rows = backend.place(pixels, labels, 0.25, weights)
    native = pixels.astype(pixels.dtype.newbyteorder("="))
    wanted = "int64" if loss == "classes" else "float64"
    assert_same(on_host(backend, rows[:2]), [native, labels.astype(wanted)], "images and labels of placed rows")
    assert rows.scale == 0.25, f"the scale of placed rows must be 0.25, got {rows.scale}"
    assert type(rows.weights) is np.ndarray, f"weights must stay on the host, got {type(rows.weights)}"
    assert_same([rows.weights], [weights], "weights of placed rows")
    assert backend.place(pixels, labels, 0.25).weights is None, "without weights, placed rows must have none"
    pixels[:], labels[:] = 0, 0
    assert_same([backend.to_numpy(rows.images)], [native], "placed images, after the host's have changed")


def assert_batches(backend: Backend, rows: Rows, images: Any, labels: Any, dtype: str, method: Any) -> None:
    """Assert that a method gathers, scales and casts rows by slice and by index."""
    float_type, scale = backend.put(np.zeros(1, dtype)).dtype, SCALE if images.dtype.kind in "iu" else 1.0
    within = 2e-7 if "float32" in (dtype, str(images.dtype)) else 1e-15
    for index in (slice(3, 9), slice(4, 4), np.array([4, 0, 22, 4]), np.empty(0, np.int64)):
        x, y = method(rows, index if isinstance(index, slice) else backend.put(index), float_type)
        got, expected = backend.to_numpy(x), (images[index].astype("float64") * scale).astype(dtype)
        said = f"{method.__name__}, rows {index}"
        np.testing.assert_allclose(got, expected, rtol=within, err_msg=f"images of {said}")
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), f"images of {said} must be {dtype}"
        assert_same([backend.to_numpy(y)], [labels[index]], f"labels of {said}")


@check(
    "gather", "batch", "place",
    dtype=DTYPES, images=["uint8", "float32", "float64"], numbers=[False, True], where=["device", "host", "file"],
)  # fmt: skip
def rows_are_taken_scaled_and_cast(backend: Backend, dtype: str, images: str, numbers: bool, where: str) -> None:
    pixels, labels = images_and_classes(dtype=images)
    if numbers:
        labels = labels_of("squared_error", labels, CLASSES)
    rows = backend.place(pixels, labels, np.float64(SCALE))  # which must make no float64 of a float32 network
    assert_batches(backend, rows, pixels, labels, dtype, backend.gather)
    assert_same([backend.to_numpy(rows.images)], [pixels], "the rows themselves, after gather")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if where == "host":
            rows = Rows(pixels, rows.labels, SCALE, on_host=True)
        elif where == "file":
            path = Path(folder, "images.npy")
            np.save(path, pixels)
            rows = backend.place(np.load(path, mmap_mode="r"), labels, SCALE)
        assert_batches(backend, rows, pixels, labels, dtype, backend.batch)
        del rows  # else the file would stay open
