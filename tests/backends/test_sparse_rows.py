"""SciPy's sparse rows in canonical form, and where they become dense."""

import numpy as np
import pytest
from scipy import sparse
from xpnn.backends import DataError, JobOutline, Layer, get_backend
from xpnn.backends.base import Backend
from xpnn.backends.optimizers import SGD
from xpnn.backends.sparse_rows import canonical, cell_of, dense, is_small, numbers_of, stacked

ROWS = np.array([[0, 2.0, 0, 0], [0, 0, 0, 0], [1.0, 0, 0, 3.0]])  # (samples, features)


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
def test_any_format_becomes_csr(form, kind, dtype):
    rows = ROWS.astype(dtype)
    made = canonical(kind(rows).asformat(form), what="images")
    assert type(made) is sparse.csr_array
    assert made.dtype == rows.dtype
    np.testing.assert_array_equal(made.toarray(), rows)
    assert made.nnz == 3


def test_indices_are_sorted_and_distinct_and_no_zero_is_stored_and_the_given_array_stays():
    data, indices, starts = np.array([1.0, 0.0, 2.0, 5.0, 4.0]), np.array([3, 1, 0, 0, 2]), np.array([0, 4, 5])
    given = sparse.csr_matrix((data.copy(), indices.copy(), starts.copy()), shape=(2, 4))
    made = canonical(given, what="images")
    np.testing.assert_array_equal(made.data, [7, 1, 4])
    np.testing.assert_array_equal(made.indices, [0, 3, 2])
    np.testing.assert_array_equal(made.indptr, [0, 2, 3])
    for array, before in ((given.data, data), (given.indices, indices), (given.indptr, starts)):
        np.testing.assert_array_equal(array, before)


def test_rows_that_are_canonical_are_not_copied():
    given = sparse.csr_array(ROWS)
    assert np.shares_memory(canonical(given, what="images").data, given.data)


@pytest.mark.parametrize("index", [4, -1])
def test_indices_out_of_range_are_refused(index):
    given = sparse.csr_array(ROWS)
    given.indices[0] = index
    with pytest.raises(DataError, match="images is no valid sparse array"):
        canonical(given, what="images")


def test_the_cell_of_an_entry():
    padded = np.vstack([ROWS[1], ROWS, ROWS[1]])  # with empty rows at both ends
    rows = canonical(sparse.csr_array(padded), what="images")
    cells = [cell_of(rows, k) for k in range(rows.nnz)]
    assert cells == [tuple(cell) for cell in np.argwhere(padded).tolist()]
    assert cell_of(ROWS, 6) == (1, 2)
    np.testing.assert_array_equal(numbers_of(rows), [2, 1, 3])


def test_parts_are_stacked():
    for parts in ([ROWS, ROWS[:1]], [sparse.csr_array(ROWS), ROWS[:1]], [sparse.csr_array(ROWS)] * 2):
        made = stacked(parts)
        assert sparse.issparse(made) is sparse.issparse(parts[0])
        np.testing.assert_array_equal(dense(made, what="rows"), np.vstack([dense(part, what="") for part in parts]))


def test_a_backend_has_the_smaller_form():
    wide, full = sparse.csr_array((ROWS.shape[0], 1000)), sparse.csr_array(np.ones((3, 4)))
    assert is_small(wide)
    assert not is_small(full)
    for name in ("numpy", "numba"):
        backend = get_backend(name)
        placed = backend.place(wide, np.zeros(3, np.int64), 1.0).images
        assert sparse.issparse(placed)
        assert placed is not wide
        assert type(backend.place(full, np.zeros(3, np.int64), 1.0).images) is np.ndarray


def test_a_backend_that_takes_none_gets_dense_rows():
    backend = get_backend("array-api-strict")
    layers = [Layer(backend.put(np.eye(4)), backend.put(np.zeros(4)), "identity")]
    placed = backend.place(sparse.csr_array(ROWS), np.zeros(3, np.int64), 1.0)
    np.testing.assert_array_equal(backend.to_numpy(placed.images), ROWS)
    np.testing.assert_array_equal(backend.logits(layers, sparse.csr_array(ROWS), 1.0), ROWS)
    with pytest.raises(DataError, match=r"images of shape \(1048576, 1073741824\) takes 8,388,608\.0 GiB as a dense"):
        backend.place(sparse.csr_array((2**20, 2**30)), np.zeros(2**20, np.int64), 1.0)


def test_auto_takes_no_backend_that_makes_rows_dense():
    def outline(*, is_sparse):
        return JobOutline((4, 2), rows=3, epochs=1, optimizer=SGD(0.1), has_sparse_rows=is_sparse)

    assert [Backend(np).suits(outline(is_sparse=each)) for each in (False, True)] == [True, False]
    for name in ("numpy", "numba"):
        assert get_backend(name).suits(outline(is_sparse=True))
