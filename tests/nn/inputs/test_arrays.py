"""Arrays of other libraries: what comes in has the same values and, where promised, memory; answers come in kind."""

import array_api_strict
import hypothesis
import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import sparse
from xpnn import nn
from xpnn.backends import DataError, get_backend, why_unavailable
from xpnn.nn.inputs.arrays import answer_like, categorical_codes, host_array

ROWS = np.array([[1.0, 2.0], [-1.0, 3.0], [0.5, -0.25]], np.float32)  # (samples, features)
LABELS = np.array([1, 0, 1])


def available(name):
    """Return a backend; the test is skipped where it cannot be had."""
    if reason := why_unavailable(name):
        pytest.skip(reason)
    return get_backend(name)


def taken(given, what="images"):
    return host_array(given, what=what, fix="pass rows")


def torch_of(array):
    return pytest.importorskip("torch").from_numpy(array.copy())


def jax_of(array):
    return pytest.importorskip("jax").numpy.asarray(array)


def strict_of(array):
    return array_api_strict.asarray(array.copy())


def pandas_of(array):
    return pytest.importorskip("pandas").DataFrame(array)


def polars_of(array):
    return pytest.importorskip("polars").DataFrame(array)


def pyarrow_of(array):
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({f"x{k}": array[:, k] for k in range(array.shape[1])})


class OnlyDLPack:
    """An array of a library that speaks nothing but DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class OnlyArray:
    """An array of a library that speaks nothing but `__array__`."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


ARRAYS = [torch_of, jax_of, strict_of, OnlyDLPack, OnlyArray, np.ndarray.tolist]
FRAMES = [pandas_of, polars_of, pyarrow_of]


# In


@pytest.mark.parametrize("make", [*ARRAYS, *FRAMES])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=15, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_values_and_types_are_those_that_were_given(make, dtype, data):
    shape = arrays_of.array_shapes(min_dims=2, max_dims=2, max_side=5)
    elements = {"allow_nan": False, "allow_subnormal": False} if dtype == "float32" else {}
    array = data.draw(arrays_of.arrays(dtype, shape, elements=elements))
    got = taken(make(array))
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, array)
    if make is not np.ndarray.tolist:
        assert got.dtype == array.dtype


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_host_memory_is_not_copied(dtype):
    array = ROWS.astype(dtype)
    assert taken(array) is array
    assert np.shares_memory(taken(OnlyDLPack(array)), array)
    assert np.shares_memory(taken(OnlyArray(array)), array)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_a_tensor_on_the_host_is_not_copied(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3, 2, dtype=getattr(torch, dtype))
    assert taken(tensor).ctypes.data == tensor.data_ptr()
    assert taken(tensor.T).ctypes.data == tensor.data_ptr()
    assert taken(torch.nn.Parameter(tensor.float())).tolist() == [[1.0, 1.0]] * 3
    history = torch.ones(3, 2, requires_grad=True) * 2
    assert taken(history).ctypes.data == history.data_ptr()


def test_a_jax_array_on_the_host_is_not_copied():
    jax = pytest.importorskip("jax")
    array = jax.numpy.ones((64, 64))
    assert taken(array).ctypes.data == array.unsafe_buffer_pointer()


def test_a_frame_of_one_block_is_not_copied():
    pandas = pytest.importorskip("pandas")
    array = np.arange(12.0).reshape(4, 3)
    assert np.shares_memory(taken(pandas.DataFrame(array, copy=False)), array)
    assert np.shares_memory(taken(pandas.Series(array[:, 0], copy=False)), array)


def test_a_polars_column_is_not_copied():
    polars = pytest.importorskip("polars")
    column = polars.Series(np.arange(4.0))
    assert taken(column).ctypes.data == column.to_numpy(allow_copy=False).ctypes.data


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_types_that_numpy_lacks_become_float32(name):
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    for given in (
        torch.tensor([[1.5, -2.0]]).to(getattr(torch, name)),
        jax.numpy.asarray([[1.5, -2.0]], dtype=getattr(jax.numpy, name)),
    ):
        got = taken(given)
        assert got.dtype == np.float32
        assert got.tolist() == [[1.5, -2.0]]


def test_what_is_on_a_gpu_comes_to_the_host(cupy):
    reads = cupy.reads
    got = taken(cupy.asarray(ROWS))
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, ROWS)
    assert cupy.reads == reads + 1


def test_frames_of_several_types_get_the_one_that_fits_all():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"a": [1, 2], "b": [True, False], "c": [0.5, 1.5]}
    for frame in (pandas.DataFrame(columns), polars.DataFrame(columns)):
        assert taken(frame).dtype == np.float64
        assert taken(frame).tolist() == [[1.0, 1.0, 0.5], [2.0, 0.0, 1.5]]
        assert taken(frame[["a", "b"]]).tolist() == [[1, 1], [2, 0]]
        assert taken(frame[["a", "b"]]).dtype == np.int64
    nullable = pandas.DataFrame({"a": pandas.array([1, 2], dtype="UInt8"), "b": pandas.array([3, 4], dtype="UInt8")})
    assert taken(nullable).dtype == np.uint8
    assert taken(nullable).tolist() == [[1, 3], [2, 4]]
    truths = pandas.DataFrame({"a": pandas.array([True, False]), "b": pandas.array([True, True])})
    assert taken(truths).tolist() == [[True, True], [False, True]]
    assert taken(pandas.DataFrame(index=range(3))).shape == (3, 0)


# What is wrong with it


def pandas_and_polars(columns):
    """The same columns in both, each with its own name for what is wrong."""
    return pytest.importorskip("pandas").DataFrame(columns), pytest.importorskip("polars").DataFrame(
        columns, strict=False
    )


def test_a_column_that_holds_no_numbers_is_named():
    for frame in pandas_and_polars({"age": [1.0, 2.0], "home town": ["Ulm", "Bonn"]}):
        with pytest.raises(DataError, match=r"images must be numbers, got \S+ in column 'home town': convert or drop"):
            taken(frame)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="got Object in column 'x'"):
        taken(pandas.DataFrame({"x": np.array([1, "a"], object)}))
    with pytest.raises(DataError, match=r"got Datetime\(.*\) in column 'when'"):
        taken(pandas.DataFrame({"when": pandas.to_datetime(["2020-01-01"])}))
    with pytest.raises(DataError, match="got Categorical in column 'kind'"):
        taken(pandas.DataFrame({"kind": pandas.Categorical(["a"])}))


def test_a_cell_that_holds_nothing_is_named():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for frame in (
        pandas.DataFrame({"a": [1, 2, 3], "b": pandas.array([1, 2, None], dtype="Int64")}),
        polars.DataFrame({"a": [1, 2, 3], "b": [1, 2, None]}),
    ):
        with pytest.raises(
            DataError, match=r"column 'b' of images must .*, got none or NaN at row 2: fill the cell or"
        ):
            taken(frame)
    for frame in pandas_and_polars({"a": [1.0, 2.0], "b": [3.0, float("nan")]}):
        with pytest.raises(
            DataError, match=r"column 'b' of images must .*, got none or NaN at row 1: fill the cell or"
        ):
            taken(frame)
    nullable = pandas.DataFrame({"a": pandas.array([True, None]), "b": pandas.array([True, True])})
    with pytest.raises(DataError, match=r"column 1 of images must .*, got none or NaN at row 0"):
        taken(pandas.DataFrame([[1.0, float("nan")]]))
    with pytest.raises(DataError, match=r"column 'a' of images must .*, got none or NaN at row 1"):
        taken(nullable)


def test_two_columns_of_one_name_are_refused():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"columns must have names of their own \(.*'a' 2 times\): rename or drop one"):
        taken(pandas.DataFrame([[1.0, 2.0]], columns=["a", "a"]))


def test_pyarrow_says_the_same():
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="got String in column 'b'"):
        taken(pyarrow.table({"a": [1.0], "b": ["x"]}))
    with pytest.raises(DataError, match="column 'b' of images must have all their values, got none or NaN at row 1"):
        taken(pyarrow.table({"a": [1.0, 2.0], "b": [1.0, None]}))
    assert taken(pyarrow.chunked_array([["x"], ["y"]])).tolist() == ["x", "y"]


def test_labels_that_hold_nothing_are_named():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for labels in (
        pandas.Series(["a", None, "b"]),
        pandas.Series(["a", None, "b"], dtype="category"),
        pandas.Series([1, None, 2], dtype="Int64"),
        polars.Series(["a", None, "b"]),
        polars.Series(["a", None, "b"], dtype=polars.Enum(["b", "a"])),
        polars.Series([1, None, 2]),
    ):
        with pytest.raises(DataError, match="labels must have all their values, got none or NaN at row 1: fill"):
            nn.from_arrays(ROWS, labels)


def test_what_is_no_array_says_why():
    torch, polars = pytest.importorskip("torch"), pytest.importorskip("polars")
    with pytest.raises(DataError, match=r"a tensor must be dense, got one of layout torch.sparse_coo: pass .to_dense"):
        taken(torch.ones(2, 2).to_sparse())
    with pytest.raises(DataError, match=r"a frame must have its rows, got a LazyFrame: pass .collect\(\)"):
        taken(polars.LazyFrame({"a": [1.0]}))
    with pytest.raises(DataError, match=r"images cannot become a NumPy array \(.*meta.*\): pass rows"):
        taken(torch.ones(2, 2, device="meta"))
    with pytest.raises(DataError, match="images must have all their values, got 1 that are masked"):
        taken(np.ma.masked_equal([1, 2], 2))
    with pytest.raises(DataError, match=r"images cannot become a NumPy array \(.*inhomogeneous"):
        taken([[1], [2, 3]])


# Data sets


@pytest.mark.parametrize("make", [*ARRAYS, *FRAMES])
def test_a_data_set_of_any_library_is_that_of_numpy(make):
    expected = nn.from_arrays(ROWS, LABELS, test_images=ROWS[:1], test_labels=LABELS[:1])
    labels = LABELS.tolist() if make in FRAMES else make(LABELS.astype(np.int32))
    data = nn.from_arrays(make(ROWS), labels, test_images=make(ROWS[:1]), test_labels=LABELS[:1])
    for split, other in ((data.train, expected.train), (data.test, expected.test)):
        np.testing.assert_array_equal(split.images, other.images)
        np.testing.assert_array_equal(split.labels, other.labels)
        assert split.labels.dtype == np.int64


def test_a_floating_tensor_becomes_the_data_sets_own_memory():
    tensor = torch_of(ROWS)
    data = nn.from_arrays(tensor, LABELS, test_images=ROWS, test_labels=LABELS)
    assert data.train.images.ctypes.data == tensor.data_ptr()


@pytest.mark.parametrize("make", [torch_of, jax_of, strict_of, pandas_of, polars_of])
def test_a_split_of_any_library_trains_and_evaluates_like_numpy(make):
    labels = pytest.importorskip("polars").Series(LABELS)
    splits = nn.Split(ROWS, LABELS), nn.Split(make(ROWS), labels)
    nets = [nn.MLP([2, 3, 2], backend="numpy", seed=1) for _ in splits]
    for net, split in zip(nets, splits, strict=True):
        assert type(split.images) is type(split.labels) is np.ndarray
        nn.train(net, split, epochs=2, batch_size=2)
    assert nn.evaluate(nets[0], splits[0]) == nn.evaluate(nets[1], splits[1])
    np.testing.assert_array_equal(*[net.parameters()["layers.0.weight"] for net in nets])


def test_a_split_on_a_gpu_is_read(cupy):
    split = nn.Split(cupy.asarray(ROWS), cupy.asarray(LABELS))
    assert type(split.images) is type(split.labels) is np.ndarray
    np.testing.assert_array_equal(split.images, ROWS)


def test_categories_are_numbered_in_their_order():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    words, order = ["low", "high", "low"], ["low", "middle", "high"]
    for labels in (
        pandas.Series(pandas.Categorical(words, categories=order)),
        pandas.Categorical(words, categories=order, ordered=True),
        pandas.DataFrame({"y": pandas.Categorical(words, categories=order)}),
        polars.Series(words, dtype=polars.Enum(order)),
        polars.DataFrame({"y": polars.Series(words, dtype=polars.Enum(order))}),
    ):
        data = nn.from_arrays(ROWS, labels, test_images=ROWS[:1], test_labels=labels[1:2])
        assert data.class_names == ("low", "middle", "high")
        assert data.train.labels.tolist() == [0, 2, 0]
        assert data.test.labels.tolist() == [2]


def test_of_other_categories_the_words_count():
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series(["b", "a", "b"], dtype=pandas.CategoricalDtype(["b", "a"]))
    data = nn.from_arrays(ROWS, labels, test_images=ROWS[:1], test_labels=["a"])
    assert (data.class_names, data.train.labels.tolist(), data.test.labels.tolist()) == (("a", "b"), [1, 0, 1], [0])
    numbers = pandas.Series([20, 3, 20], dtype="category")
    assert nn.from_arrays(ROWS, numbers, test_images=ROWS, test_labels=numbers).class_names == ("3", "20")
    assert categorical_codes([LABELS], whats=["labels"]) is None


def test_a_frame_of_one_column_is_its_labels():
    for frame in (*pandas_and_polars({"y": ["b", "a", "b"]}), pytest.importorskip("pandas").DataFrame(["b", "a", "b"])):
        assert nn.from_arrays(ROWS, frame, test_images=ROWS, test_labels=["a", "b", "a"]).class_names == ("a", "b")


# Out


@pytest.fixture(params=["numpy", "torch", "jax", "array-api-strict"])
def net(request):
    """A network whose logits can be worked out: (x0, x1, 0)."""
    made = nn.MLP([2, 3], backend=available(request.param))
    made.load_parameters({"layers.0.weight": np.eye(2, 3), "layers.0.bias": np.zeros(3)})
    return made


@pytest.mark.parametrize("make", [torch_of, jax_of, strict_of])
def test_answers_are_of_the_callers_library(net, make):
    given = make(ROWS)
    for got, dtype, expected in (
        (net.logits(given), "float32", net.logits(ROWS)),
        (net.predict_proba(given), "float32", net.predict_proba(ROWS)),
        (net.predict(given), "int32" if make is jax_of else "int64", net.predict(ROWS)),
    ):
        assert type(got) is type(given)
        assert str(got.dtype).rpartition(".")[2] == dtype
        assert got.device == given.device
        np.testing.assert_allclose(taken(got), expected, rtol=1e-6)
    assert net.predict(ROWS).tolist() == [1, 1, 0]


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, *FRAMES])
def test_lists_and_frames_are_answered_by_numpy(net, make):
    assert type(net.predict(make(ROWS))) is type(net.predict_proba(make(ROWS))) is np.ndarray
    assert net.predict(make(ROWS)).tolist() == [1, 1, 0]


def test_an_answer_lies_on_the_device_of_the_question():
    array = array_api_strict.asarray(ROWS, device=array_api_strict.Device("device1"))
    assert answer_like(array, np.arange(3)).device == array_api_strict.Device("device1")
    torch = pytest.importorskip("torch")
    assert answer_like(torch.ones(2, device="meta"), np.arange(3)).device.type == "meta"


def test_jax_answers_in_64_bits_where_the_caller_has_them():
    jax = pytest.importorskip("jax")
    for backend in ("jax", "numpy"):
        wide = nn.MLP([2, 3], backend=backend, dtype="float64")
        assert wide.logits(jax_of(ROWS)).dtype == np.float32
        with get_backend("jax").scope():
            assert wide.logits(jax.numpy.asarray(ROWS)).dtype == np.float64
            assert wide.predict(jax.numpy.asarray(ROWS)).dtype == np.int64


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_what_lies_on_the_backends_device_stays_there(name, monkeypatch):
    given = {"torch": torch_of, "jax": jax_of}[name](ROWS)
    net = nn.MLP([2, 3], backend=name, seed=1)
    expected = net.logits(ROWS)
    for method in ("put", "to_numpy", "place", "logits"):
        monkeypatch.setattr(net.backend, method, lambda *_: pytest.fail("over the host"))
    isfinite = net.backend.xp.isfinite  # the question whether all numbers are finite is one read
    monkeypatch.setattr(net.backend, "all_finite", lambda arrays: all(bool(isfinite(each).all()) for each in arrays))
    net.backend.evaluation_rows = 2  # tiles, the last one shorter
    np.testing.assert_allclose(taken(net.logits(given)), expected, rtol=1e-6)
    np.testing.assert_array_equal(taken(net.predict(given)), expected.argmax(axis=1))


def test_a_cupy_array_is_answered_on_the_gpu_after_one_read(cupy):
    net = nn.MLP([2, 3], backend="cupy", seed=1)
    expected, given = net.logits(ROWS), cupy.asarray(ROWS)
    reads = cupy.reads
    got = net.predict_proba(given), net.predict(given)
    assert cupy.reads == reads + 2  # each asks whether all numbers are finite
    assert all(type(each) is cupy.ndarray for each in got)
    assert cupy.asnumpy(got[1]).tolist() == expected.argmax(axis=1).tolist()
    on_host = nn.MLP([2, 3], backend="numpy", seed=1)
    assert type(on_host.predict(given)) is cupy.ndarray
    np.testing.assert_allclose(cupy.asnumpy(on_host.logits(given)), expected, rtol=1e-6)


@pytest.mark.parametrize("make", [torch_of, jax_of, strict_of])
def test_pixels_are_scaled_on_the_device_too(net, make):
    net.inputs = nn.Pixels(count=2)
    images = np.array([[255, 51]])
    expected = net.logits(images)
    np.testing.assert_allclose(expected, [[1.0, 0.2, 0.0]], rtol=1e-6)
    for dtype in ("uint8", "int32", "float32"):
        np.testing.assert_array_equal(taken(net.logits(make(images.astype(dtype)))), expected)
    np.testing.assert_allclose(taken(net.logits(make(np.array([[1, 0.2]], np.float32)))), expected, rtol=1e-6)
    np.testing.assert_array_equal(taken(net.logits(make(np.array([[True, False]])))), [[1, 0, 0]])
    with pytest.raises(DataError, match=r"pixels must be whole numbers in \[0, 255\], .* from -1 to 2"):
        net.predict(make(np.array([[-1, 2]], np.float32)))
    pictures = make(np.array([[[2.0], [1.0]]], np.float32))  # (1, 2, 1)
    assert taken(net.predict(pictures)).tolist() == [0]
    assert tuple(net.predict(make(ROWS[:0])).shape) == (0,)
    assert tuple(net.logits(make(ROWS[:0])).shape) == (0, 3)


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("make", [torch_of, jax_of])
def test_other_losses_answer_in_kind(loss, make):
    for backend in filter(lambda name: not why_unavailable(name), ("torch", "jax", "numpy")):
        net = nn.MLP([2, 3], backend=backend, loss=loss, seed=1)
        got = net.predict(make(ROWS))
        assert type(got) is type(make(ROWS))
        np.testing.assert_allclose(taken(got), net.predict(ROWS), rtol=1e-5)


@pytest.mark.parametrize("make", [np.asarray, torch_of, jax_of, strict_of])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((4, 3), np.float32), r"images must have shape \(samples, 2\), got \(4, 3\)$"),
        (np.ones(2, np.float32), r"got \(2,\); for one row pass images\[None, :\]"),
        (np.ones((2, 2), np.complex64), "images must be numbers, got dtype .*complex64"),
        (np.array([[0, 1], [np.nan, 1]], np.float32), "images must be finite in float32, got nan at row 1, column 0"),
        (np.array([[0, 1], [1, -np.inf]], np.float32), "images must be finite in float32, got -inf at row 1, column 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused_alike(net, make, images, message):
    with pytest.raises(DataError, match=message):
        net.predict(make(images))


def test_one_row_of_a_frame_is_a_frame(net):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"got \(2,\); for one row of a frame pass frame\.iloc\[\[0\]\]"):
        net.predict(pandas.DataFrame(np.ones((3, 2))).iloc[0])


def test_a_number_beyond_the_networks_type_is_refused_on_the_device_too():
    torch = pytest.importorskip("torch")
    rows = torch.tensor([[1.0, 1e300]], dtype=torch.float64)
    with pytest.raises(DataError, match=r"images must be finite in float32, got 1e\+300 at row 0, column 1"):
        nn.MLP([2, 3], backend="torch").predict(rows)
    assert nn.MLP([2, 3], backend="torch", dtype="float64").predict(rows).shape == (1,)


def test_what_jax_traces_has_no_values():
    jax = pytest.importorskip("jax")
    for backend in ("jax", "numpy"):
        with pytest.raises(DataError, match="images cannot become a NumPy array"):
            jax.jit(nn.MLP([2, 3], backend=backend).predict)(jax.numpy.ones((1, 2)))


def test_no_history_of_gradients_is_kept():
    torch = pytest.importorskip("torch")
    given = torch.ones(1, 2, requires_grad=True)
    for backend in ("torch", "numpy"):
        assert not nn.MLP([2, 3], backend=backend).logits(given).requires_grad


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_a_longdouble_predicts_like_a_double(backend):
    net = nn.MLP([2, 3], backend=available(backend))
    np.testing.assert_array_equal(net.logits(ROWS.astype(np.longdouble)), net.logits(ROWS.astype(np.float64)))


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_matrix])
def test_sparse_rows_are_as_good_as_dense_ones(net, form):
    rows = np.where(np.abs(ROWS) < 1, 0, ROWS)  # (samples, features), with zeros
    given = form(rows)
    np.testing.assert_array_equal(taken(given), rows)
    assert taken(given).dtype == rows.dtype
    answer = net.predict(given)
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, net.predict(rows))


def test_sparse_rows_beyond_the_memory_are_refused():
    with pytest.raises(DataError, match=r"images of shape \(1048576, 1073741824\) takes 8,388,608.0 GiB as a dense"):
        taken(sparse.csr_array((2**20, 2**30)))
