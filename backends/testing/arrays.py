"""Checks of a backend's promises, and of how arrays and sums come and go."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterable
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
from ..plan import Rows, Totals
from .problem import (
    CLASSES,
    DTYPES,
    FEATURES,
    ROWS,
    SCALE,
    assert_same,
    check,
    covering,
    images_and_classes,
    labels_of,
    normal,
    on_host,
    rules,
)


def parameters_of(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Return name, kind and default of each parameter."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def assert_signatures(kind: type, base: type, methods: Iterable[str]) -> None:
    """Assert that a class's methods take what those of the base class take."""
    for method in methods:
        own, expected = getattr(kind, method), getattr(base, method)
        said = f"{kind.__name__}.{method} must take {inspect.signature(expected)}, got {inspect.signature(own)}"
        assert parameters_of(own) == parameters_of(expected), said


def operations() -> list[str]:
    """Return the names of the public methods that every backend has."""
    return [name for name, _ in inspect.getmembers(Backend, inspect.isfunction) if not name.startswith("_")]


@check("signatures")
def overridden_methods_take_what_the_base_class_takes(backend: Backend) -> None:
    assert_signatures(type(backend), Backend, operations())


@check("check_precision")
def only_the_precisions_of_the_backend_are_taken(backend: Backend) -> None:
    assert "full" in backend.precisions, f"precisions must hold 'full', got {backend.precisions}"
    for precision in backend.precisions:
        backend.check_precision(precision)
    refused = ""
    try:
        backend.check_precision("half")
    except ConfigError as error:
        refused = str(error)
    assert refused, "check_precision must raise ConfigError for 'half'"
    assert backend.name in refused, f"the error must name the backend and 'half', got {refused!r}"
    assert "'half'" in refused, f"the error must name the backend and 'half', got {refused!r}"


@check("suits")
def any_job_is_taken_or_declined(backend: Backend) -> None:
    for loss, optimizer in product(LOSSES, rules().values()):
        job = JobOutline((FEATURES, CLASSES), rows=ROWS, epochs=1, optimizer=optimizer, loss=loss)
        assert type(backend.suits(job)) is bool, f"suits must return True or False, got {backend.suits(job)!r}"


# Arrays come and go


@check(
    "put",
    "to_numpy",
    cases=lambda: covering(
        dtype=["bool", "uint8", "int64", "float32", "float64", ">u2", "<i4", ">f8"], shape=[(), (5,), (3, 4), (0, 4)]
    ),
)
def arrays_come_back_as_they_went(backend: Backend, dtype: str, shape: tuple[int, ...]) -> None:
    array = (normal(*shape) * 50 + 100).astype(dtype)
    back = backend.to_numpy(backend.put(array))
    assert type(back) is np.ndarray, f"to_numpy must return a NumPy array, got {type(back)}"
    assert_same([back], [array.astype(array.dtype.newbyteorder("="))], "what put took and to_numpy returned")


@check("put", "to_numpy")
def arrays_of_any_memory_order_come_back_alike(backend: Backend) -> None:
    array = normal(6, 8)
    for view in (array.T, array[::2, ::-1], np.asfortranarray(array)):
        assert_same([backend.to_numpy(backend.put(view))], [view], "what put took and to_numpy returned")


@check("put", cases=lambda: [{"dtype": dtype} for dtype in ("float64", "<u2", ">u2")])
def put_copies(backend: Backend, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    before, on_device = array.astype(array.dtype.newbyteorder("=")), backend.put(array)
    array[:] = 0
    assert_same([backend.to_numpy(on_device)], [before], "an array on the device, after the host's has changed")


@check("to_numpy")
def to_numpy_copies(backend: Backend) -> None:
    array = normal(3, 4)
    on_device = backend.put(array)
    backend.to_numpy(on_device)[:] = 0
    assert_same([backend.to_numpy(on_device)], [array], "an array on the device, after a copy of it has changed")


@check("own")
def own_takes_arrays_of_the_backend_alone(backend: Backend) -> None:
    for foreign in (object(), [1.0, 2.0], "text", None):
        assert backend.own(foreign) is None, f"own must return None for {foreign!r}"
    array = normal(3, 4)
    taken = backend.own(backend.put(array))
    if taken is not None:
        assert_same([backend.to_numpy(taken)], [array], "what own returned for an array of the backend")


@check("all_finite", cases=lambda: covering(dtype=DTYPES, number=[np.nan, np.inf, -np.inf]))
def an_infinity_or_a_nan_is_found_wherever_it_is(backend: Backend, dtype: str, number: float) -> None:
    arrays = [normal(3, 4, dtype=dtype) * np.dtype(dtype).type(1e30), normal(5, dtype=dtype)]
    assert backend.all_finite([backend.put(array) for array in arrays]) is True, "all_finite must be True of numbers"
    for k, place in [(0, (0, 0)), (0, (2, 3)), (1, (4,))]:
        spoilt = [array.copy() for array in arrays]
        spoilt[k][place] = number
        found = backend.all_finite(backend.put(array) for array in spoilt)
        assert found is False, f"all_finite must be False of {number} at {place} of array {k}"


# Sums, and contexts


@check("read_sums")
def pairs_of_sums_come_in_order_after_one_read(backend: Backend) -> None:
    for pairs in ([(0.1, 7)], [(1e300, 2**40 + 1), (-2.5, 0), (np.inf, 3)]):
        sums = [(backend.put(np.asarray(loss)), backend.put(np.asarray(count))) for loss, count in pairs]
        with mock.patch.object(backend, "to_numpy", wraps=backend.to_numpy) as reads:
            got = backend.read_sums(sums)
        assert reads.call_count <= 1, f"read_sums must read the device once, got {reads.call_count} reads"
        assert_same([got], [np.array(pairs, dtype=np.float64)], "read_sums")


@check("read_totals")
def totals_are_numbers_of_python(backend: Backend) -> None:
    got = backend.read_totals(backend.put(np.asarray(0.1)), backend.put(np.asarray(2**40 + 1)), 2**41)
    assert got == Totals(0.1, 2**40 + 1, 2**41), f"read_totals must return what went in, got {got}"
    assert [type(each) for each in got] == [float, int, int], f"read_totals must return numbers of Python, got {got}"


def assert_context(context: Callable[[], Any], backend: Backend, name: str) -> None:
    """Assert that a context can be entered again and within itself, computes in float64, and hides no error."""
    array = normal(30, 4)
    with context():
        total = backend.to_numpy(backend.xp.sum(backend.put(array), axis=0))
        with context():
            again = backend.to_numpy(backend.xp.sum(backend.put(array), axis=0))
    assert_same([total], [again], f"a sum within {name}")
    np.testing.assert_allclose(total, array.sum(axis=0), rtol=1e-12, err_msg=f"a sum of float64 within {name}")
    try:
        with context():
            raise ZeroDivisionError
    except ZeroDivisionError:
        return
    raise AssertionError(f"{name} must let an error through")


@check("scope")
def the_namespace_computes_in_float64(backend: Backend) -> None:
    with backend.scope():
        assert backend.to_numpy(backend.xp.ones(3, dtype=backend.xp.float64)).dtype == np.float64, "scope"
    assert_context(backend.scope, backend, "scope()")


@check("fixed_order")
def it_can_be_entered_again(backend: Backend) -> None:
    with backend.scope():
        assert_context(backend.fixed_order, backend, "fixed_order()")


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


@check("place", cases=lambda: covering(images=["uint8", ">i4", "float32", "float64"], loss=["classes", "numbers"]))
def placed_rows_keep_their_types(backend: Backend, images: str, loss: str) -> None:
    pixels, classes = images_and_classes(dtype="uint8" if "i" in images else images)
    pixels, weights = pixels.astype(images), np.arange(len(pixels)) / 4
    labels = classes.astype("int32") if loss == "classes" else labels_of("squared_error", classes, CLASSES)
    rows = backend.place(pixels, labels, 0.25, weights)
    native = pixels.astype(pixels.dtype.newbyteorder("="))
    wanted = "int64" if loss == "classes" else "float64"
    got = [backend.to_numpy(rows.images), backend.to_numpy(rows.labels)]
    assert_same(got, [native, labels.astype(wanted)], "images and labels of placed rows")
    assert rows.scale == 0.25, f"the scale of placed rows must be 0.25, got {rows.scale}"
    assert type(rows.weights) is np.ndarray, f"weights must stay on the host, got {type(rows.weights)}"
    assert_same([rows.weights], [weights], "weights of placed rows")
    assert backend.place(pixels, labels, 0.25).weights is None, "without weights, placed rows must have none"
    pixels[:], labels[:] = 0, 0
    assert_same([backend.to_numpy(rows.images)], [native], "placed images, after the host's have changed")


def expected_batch(rows: Any, images: Any, labels: Any, dtype: str) -> tuple[Any, Any]:
    """Return some rows as `gather` makes numbers of them, on the host."""
    scale = SCALE if images.dtype.kind in "iu" else 1.0
    return (images[rows].astype("float64") * scale).astype(dtype), labels[rows]


def assert_batches(backend: Backend, rows: Rows, images: Any, labels: Any, dtype: str, method: Any) -> None:
    """Assert that a method takes, scales and casts rows by slice and by index, in place of none too."""
    name, float_type = method.__name__, backend.put(np.zeros(1, dtype)).dtype
    for index in (slice(3, 9), slice(4, 4), np.array([4, 0, 22, 4]), np.empty(0, np.int64)):
        x, y = method(rows, index if isinstance(index, slice) else backend.put(index), float_type)
        expected, expected_labels = expected_batch(index, images, labels, dtype)
        got, got_labels = backend.to_numpy(x), backend.to_numpy(y)
        assert got.dtype == np.dtype(dtype), f"{name} must return images of {dtype}, got {got.dtype}"
        assert got.shape == expected.shape, f"{name} must return the shape {expected.shape}, got {got.shape}"
        within = 2e-7 if "float32" in (dtype, str(images.dtype)) else 1e-15
        np.testing.assert_allclose(got, expected, rtol=within, err_msg=f"images of {name}, rows {index}")
        assert_same([got_labels], [expected_labels], f"labels of {name}, rows {index}")


@check("gather", cases=lambda: covering(dtype=DTYPES, images=["uint8", "float32", "float64"], numbers=[False, True]))
def rows_are_taken_scaled_and_cast(backend: Backend, dtype: str, images: str, numbers: bool) -> None:
    pixels, labels = images_and_classes(dtype=images)
    if numbers:
        labels = labels_of("squared_error", labels, CLASSES)
    rows = backend.place(pixels, labels, np.float64(SCALE))  # which must make no float64 of a float32 network
    assert_batches(backend, rows, pixels, labels, dtype, backend.gather)
    assert_same([backend.to_numpy(rows.images)], [pixels], "the rows themselves, after gather")


@check("batch", cases=lambda: covering(dtype=DTYPES, images=["uint8", "float64"], is_on_host=[False, True]))
def rows_on_the_host_are_taken_like_others(backend: Backend, dtype: str, images: str, is_on_host: bool) -> None:
    pixels, labels = images_and_classes(dtype=images)
    rows = backend.place(pixels, labels, SCALE)
    if is_on_host:
        rows = Rows(pixels, rows.labels, SCALE, on_host=True)
    assert_batches(backend, rows, pixels, labels, dtype, backend.batch)


@check("place", "batch")
def images_that_are_mapped_from_a_file_are_taken_like_others(backend: Backend) -> None:
    pixels, labels = images_and_classes()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, "images.npy")
        np.save(path, pixels)
        rows = backend.place(np.load(path, mmap_mode="r"), labels, SCALE)
        assert_batches(backend, rows, pixels, labels, "float64", backend.batch)
        del rows  # else the file would stay open
