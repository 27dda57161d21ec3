"""Training, evaluation and prediction on SciPy's sparse rows: the same answers as on dense ones."""

import numpy as np
import pytest
from scipy import sparse
from xpnn import nn
from xpnn.backends import Adam, ConfigError, DataError
from xpnn.backends.numpy import backend as numpy_backend
from xpnn.nn.inputs.facts import RowFacts
from xpnn.nn.training.identity import check_sum

BACKENDS = ["numpy", "numba"]


def rows_of(samples=90, features=300, density=0.03, dtype="float64", seed=0):
    """Return sparse rows, some of them empty, of which one column is never set."""
    generator = np.random.default_rng(seed)
    dense = np.where(generator.random((samples, features)) < density, generator.normal(size=(samples, features)), 0)
    if np.dtype(dtype).kind in "iu":
        dense = np.abs(dense * 40)
    dense[[0, samples // 2, samples - 1]] = dense[:, 7] = 0
    return sparse.csr_array(dense.astype(dtype))


def labels_of(samples=90, classes=3):
    return np.arange(samples) % classes


def trained(images, labels, *, sizes, backend="numpy", dtype="float64", loss="softmax_cross_entropy", **options):
    net = nn.MLP(sizes, backend=backend, dtype=dtype, loss=loss, seed=0)
    options = {"optimizer": Adam(0.01), "epochs": 3, "batch_size": 20, "seed": 0} | options
    return net, nn.train(net, nn.Split(images, labels), **options)


def assert_alike(one, other, rtol=1e-9):
    for name, array in one.parameters().items():
        np.testing.assert_allclose(array, other.parameters()[name], rtol=rtol, atol=rtol / 10, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("hidden", "options"),
    [
        ((40,), {}),
        ((40, 9), {"l2": 0.01, "dropout": 0.2}),
        ((40,), {"batch_size": None, "optimizer": nn.SGD(0.1, momentum=0.9)}),
        ((3, 5), {}),
        pytest.param((), {"clip_norm": 0.5}, marks=pytest.mark.thorough),
        pytest.param((40,), {"reproducible": True}, marks=pytest.mark.thorough),
        ((40,), {"accumulate": 2, "batch_size": 10}),
        ((40,), {"validation": 0.2, "early_stopping": nn.EarlyStopping(patience=2)}),
    ],
)
def test_a_network_learns_the_same_as_from_dense_rows(backend, hidden, options):
    rows, labels, sizes = rows_of(), labels_of(), [300, *hidden, 3]
    mine, history = trained(rows, labels, sizes=sizes, backend=backend, **options)
    other, of_dense = trained(rows.toarray(), labels, sizes=sizes, backend=backend, **options)
    assert_alike(mine, other)
    np.testing.assert_allclose(history[-1].train_loss, of_dense[-1].train_loss, rtol=1e-9)
    split = nn.Split(rows, labels)
    np.testing.assert_allclose(nn.evaluate(mine, split), nn.evaluate(mine, nn.Split(rows.toarray(), labels)))
    np.testing.assert_allclose(mine.predict_proba(rows), mine.predict_proba(rows.toarray()), rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_column_by_column_give_the_same(backend, monkeypatch):
    rows, columns = rows_of(), []
    net = nn.MLP([300, 40, 3], backend=backend, dtype="float64")
    expected = net.predict_proba(rows)
    monkeypatch.setattr(numpy_backend, "CACHED_WEIGHT", 0)
    monkeypatch.setattr(numpy_backend, "ENTRIES_OF_COLUMN", 0)
    monkeypatch.setattr(type(net.backend), "evaluation_rows", 7)
    linear = type(net.backend).linear
    monkeypatch.setattr(
        type(net.backend), "linear", lambda self, x, *args, **how: columns.append(x) or linear(self, x, *args, **how)
    )
    np.testing.assert_allclose(net.predict_proba(rows), expected, rtol=1e-12)
    tiles = [x for x in columns if sparse.issparse(x)]
    assert {x.format for x in tiles} == {"csc"}
    assert max(x.shape[0] for x in tiles) <= 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rows_stay_sparse_until_the_plan(backend):
    split = nn.Split(rows_of(), labels_of())
    net = nn.MLP([300, 4, 3], backend=backend)
    placed = net.place(net.hold(split))
    assert sparse.issparse(placed.images)
    assert placed.nonzeros in (None, split.images.nnz)
    assert sparse.issparse(split.take(slice(0, 5)).images)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("dtype", "of_rows", "batch_size"),
    [
        ("float64", "uint8", None),
        ("float64", "int16", 20),
        ("float32", "float64", 20),
        pytest.param("float32", "uint8", 20, marks=pytest.mark.thorough),
    ],
)
def test_types_of_rows_and_network(backend, dtype, of_rows, batch_size):
    rows, labels = rows_of(dtype=of_rows), labels_of()
    options = {"sizes": [300, 20, 3], "backend": backend, "dtype": dtype, "batch_size": batch_size}
    mine, _ = trained(rows, labels, **options)
    other, _ = trained(rows.toarray(), labels, **options)
    assert mine.inputs == other.inputs
    assert_alike(mine, other, rtol=2e-3 if dtype == "float32" else 1e-7)
    np.testing.assert_allclose(mine.logits(rows), mine.logits(rows.toarray()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_regression(backend):
    rows = rows_of()
    labels = (rows @ np.linspace(-1, 1, 600).reshape(300, 2)) + 3
    options = {"sizes": [300, 40, 2], "backend": backend, "loss": "squared_error"}
    mine, _ = trained(rows, labels, **options)
    other, _ = trained(rows.toarray(), labels, **options)
    assert_alike(mine, other)
    of_mine, of_other = (nn.evaluate(mine, nn.Split(each, labels)) for each in (rows, rows.toarray()))
    np.testing.assert_allclose(of_mine.r2, of_other.r2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_columns_than_16_bits_can_number(backend):
    generator, samples, features = np.random.default_rng(0), 60, 70_000
    indices = np.sort(generator.choice(features, (samples, 8)), axis=1)
    indices[:, -1] = features - 1
    starts = np.arange(0, samples * 8 + 1, 8)
    rows = sparse.csr_array((np.ones(samples * 8), indices.ravel(), starts), (samples, features))
    mine, _ = trained(rows, labels_of(samples), sizes=[features, 5, 3], backend=backend, batch_size=16)
    other, _ = trained(rows.toarray(), labels_of(samples), sizes=[features, 5, 3], backend=backend, batch_size=16)
    assert_alike(mine, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_very_different_lengths_and_tiles_of_many_rows(backend):
    generator = np.random.default_rng(0)
    is_set = generator.random((700, 900)) < np.where(np.arange(700) % 100 == 3, 0.9, 0.001)[:, None]
    rows = sparse.csr_array(np.where(is_set, generator.normal(size=(700, 900)), 0))
    options = {"sizes": [900, 24, 3], "backend": backend, "batch_size": 500}
    mine, _ = trained(rows, labels_of(700), **options)
    other, _ = trained(rows.toarray(), labels_of(700), **options)
    assert_alike(mine, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_entry_and_one_row(backend):
    empty, one = sparse.csr_array((20, 300)), rows_of()[[1]]
    for rows in (empty, one):
        labels = labels_of(rows.shape[0])
        mine, _ = trained(rows, labels, sizes=[300, 40, 3], backend=backend)
        other, _ = trained(rows.toarray(), labels, sizes=[300, 40, 3], backend=backend)
        assert_alike(mine, other)
        np.testing.assert_allclose(mine.logits(rows), mine.logits(rows.toarray()), rtol=1e-9)
    assert mine.predict(rows_of()[:0]).shape == (0,)


def test_a_checkpoint_is_resumed_and_is_of_its_rows(tmp_path):
    rows, labels = rows_of(), labels_of()
    path, options = tmp_path / "checkpoint", {"sizes": [300, 40, 3], "epochs": 4}
    whole, _ = trained(rows, labels, **options)
    trained(rows, labels, **options | {"epochs": 2}, callbacks=[nn.SaveCheckpoints(path)])
    resumed, _ = trained(rows, labels, **options, resume=path)
    for name, array in whole.parameters().items():
        np.testing.assert_array_equal(array, resumed.parameters()[name])
    moved = rows.copy()
    moved.indices = (moved.indices + 1) % 300  # the same numbers in other columns
    with pytest.raises(ConfigError, match="check sum of the rows"):
        trained(moved, labels, **options, resume=path)


def test_the_check_sum_is_that_of_the_numbers_and_their_places():
    rows, labels = rows_of(), labels_of()
    wide = rows.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    number = check_sum(nn.Split(rows, labels))
    assert check_sum(nn.Split(wide, labels)) == check_sum(nn.Split(rows.tocsc(), labels)) == number
    assert check_sum(nn.Split(rows * 2, labels)) != number


def test_facts():
    facts = RowFacts(rows_of())
    assert facts.range == (rows_of().toarray().min(), rows_of().toarray().max())
    assert facts.nonzeros == rows_of().nnz
    assert RowFacts(sparse.csr_array([[3, 4], [5, 6]])).range == (3, 6)
    assert RowFacts(sparse.csr_array([[3, 4], [5, 0]])).range == (0, 5)
    assert RowFacts(sparse.csr_array((3, 2))).range == (0, 0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused_by_their_place(wrong):
    rows = rows_of()
    row, column = (axis[17] for axis in rows.nonzero())
    rows[row, column] = wrong
    net = nn.MLP([300, 3], backend="numpy")
    place = rf"images must be finite in float32, got {wrong!r}".replace("+", r"\+") + f" at row {row}, column {column}:"
    for call in (
        lambda: nn.train(net, nn.Split(rows, labels_of()), epochs=1),
        lambda: nn.evaluate(net, nn.Split(rows, labels_of())),
        lambda: net.predict(rows),
    ):
        with pytest.raises(DataError, match=place):
            call()


@pytest.mark.parametrize("backend", BACKENDS)
def test_streamed_batches(backend):
    rows, labels = rows_of(), labels_of()
    nets = []
    for images in (rows, rows.toarray()):
        batches = nn.Batches([(images[k : k + 30], labels[k : k + 30]) for k in (0, 30, 60)])
        nets.append(nn.MLP([300, 20, 3], backend=backend, dtype="float64", seed=0))
        nn.train(nets[-1], batches, epochs=2, validation=nn.Split(images, labels))
    assert_alike(*nets)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil"])
def test_a_data_set(form):
    rows, labels = rows_of(), np.array(["a", "b", "c"])[labels_of()]
    data = nn.from_arrays(rows.asformat(form), labels, seed=1)
    of_dense = nn.from_arrays(rows.toarray(), labels, seed=1, standardize=False)
    assert data.inputs == of_dense.inputs == nn.Numbers(count=300, class_names=("a", "b", "c"))
    assert data.notes == ("sparse rows are taken as they are: standardized, they would have no zeros",)
    for part, other in ((data.train, of_dense.train), (data.test, of_dense.test)):
        assert sparse.issparse(part.images)
        np.testing.assert_array_equal(part.images.toarray(), other.images)
        np.testing.assert_array_equal(part.labels, other.labels)
    again, of_dense = (nn.resplit(each, test_fraction=0.5, seed=2) for each in (data, of_dense))
    np.testing.assert_array_equal(again.test.images.toarray(), of_dense.test.images)


def test_a_data_set_of_truth_values_pixels_and_given_test_rows():
    rows, labels = rows_of(), labels_of()
    truths = nn.from_arrays(rows.astype(bool), labels, test_images=rows.toarray() != 0, test_labels=labels)
    assert truths.train.images.dtype == np.float32
    np.testing.assert_array_equal(truths.train.images.toarray(), truths.test.images)
    bytes_of = rows_of(dtype="int64")
    pixels = nn.from_arrays(bytes_of, labels, pixels=True, test_fraction=None)
    assert pixels.inputs == nn.from_arrays(bytes_of.toarray(), labels, pixels=True, test_fraction=None).inputs
    assert pixels.train.images.dtype == np.uint8


def test_a_network_that_standardizes_reads_sparse_rows_as_dense_ones():
    rows, labels = rows_of(), labels_of()
    data = nn.from_arrays(rows.toarray(), labels)
    net = nn.MLP([300, 3], backend="numpy")
    nn.train(net, data, epochs=1)
    assert net.inputs.KIND == "table"
    np.testing.assert_array_equal(net.logits(rows), net.logits(rows.toarray()))
    assert nn.evaluate(net, nn.Split(rows, labels)) == nn.evaluate(net, nn.Split(rows.toarray(), labels))
    held = nn.from_arrays(rows, labels, inputs=net.inputs, test_fraction=None)
    np.testing.assert_array_equal(held.train.images, rows.toarray())


def test_shapes_are_checked_as_those_of_dense_rows():
    net = nn.MLP([300, 3], backend="numpy")
    with pytest.raises(DataError, match=r"images must have shape \(samples, 300\), got \(90, 299\)"):
        net.predict(rows_of()[:, :299])
    with pytest.raises(DataError, match=r"labels must have shape \(90,\), one for each image, got \(89,\)"):
        nn.train(net, nn.Split(rows_of(), labels_of(89)))
    with pytest.raises(DataError, match="images must be real numbers, got complex128"):
        nn.from_arrays(rows_of().astype(complex), labels_of())
