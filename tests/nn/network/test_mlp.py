"""The network: its start, its outputs, its parameters, and what it refuses."""

import copy
import math
import pickle

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ACTIVATIONS, BackendUnavailable, ConfigError, DataError, get_backend
from xpnn.nn.network.initializers import INITIALIZERS, he

LN2, LN3 = math.log(2), math.log(3)


@pytest.fixture
def by_hand(backend):
    """A 2-2-3 network whose outputs can be worked out: hidden = relu(x), logits = (h0, h1, 0)."""
    net = nn.MLP([2, 2, 3], backend=backend, dtype="float64")
    net.load_parameters(
        {
            "layers.0.weight": np.eye(2),
            "layers.0.bias": np.zeros(2),
            "layers.1.weight": np.eye(2, 3),
            "layers.1.bias": np.zeros(3),
        }
    )
    return net


# The start


@pytest.mark.parametrize("initializer", INITIALIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_seed_gives_the_same_weights_on_every_backend(every_backend, initializer, dtype):
    generator = np.random.default_rng(11)
    net = nn.MLP([5, 4, 3], initializer=initializer, backend=every_backend, dtype=dtype, seed=11)
    draw = INITIALIZERS[initializer]
    expected = [array for sizes in [(5, 4), (4, 3)] for array in draw(generator, *sizes)]
    assert list(net.parameters()) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    for got, drawn in zip(net.parameters().values(), expected, strict=True):
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, drawn.astype(dtype))


def test_another_seed_gives_other_weights():
    one, other = (nn.MLP([5, 4], backend="numpy", seed=seed).parameters()["layers.0.weight"] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_the_seed_may_be_a_generator_that_goes_on():
    generator = np.random.default_rng(11)
    first, second = (nn.MLP([5, 4], backend="numpy", seed=generator).parameters() for _ in range(2))
    np.testing.assert_array_equal(first["layers.0.weight"], he(np.random.default_rng(11), 5, 4)[0].astype("float32"))
    assert not np.array_equal(first["layers.0.weight"], second["layers.0.weight"])


def test_defaults_and_attributes():
    net = nn.MLP([5, 4, 3], backend="numpy")
    assert (net.sizes, net.features, net.num_outputs) == ((5, 4, 3), 5, 3)
    assert net.num_parameters == 5 * 4 + 4 + 4 * 3 + 3
    assert (net.activation, net.initializer, net.dtype) == ("relu", "he", "float32")
    assert (net.input_scale, net.class_names, net.image_shape) == (1.0, None, None)
    assert repr(net) == "MLP(5-4-3, relu, float32, numpy)"
    assert nn.MLP(np.array([5, 3]), backend="numpy").sizes == (5, 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_layers_share_the_activation_and_the_last_has_none(activation):
    net = nn.MLP([5, 4, 4, 3], activation=activation, backend="numpy")
    assert [layer.activation for layer in net.layers] == [activation, activation, "identity"]
    assert [layer.activation for layer in nn.MLP([5, 3], activation=activation, backend="numpy").layers] == ["identity"]


def test_the_backend_may_be_a_name_or_a_backend():
    backend = get_backend("numpy")
    assert nn.MLP([5, 3], backend=backend).backend is backend
    assert nn.MLP([5, 3], backend="array-api-strict").backend.name == "array-api-strict"
    assert nn.MLP([5, 3]).backend.reason != ""


# Outputs


def test_logits_by_hand(by_hand):
    logits = by_hand.logits([[1.0, 2.0], [-1.0, 3.0]])
    assert type(logits) is np.ndarray
    assert logits.dtype == np.float64
    assert logits.tolist() == [[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]


def test_a_number_means_the_same_in_every_array(by_hand):
    pixels = ([[255, 51]], np.array([[255, 51]], np.uint8), np.array([[255.0, 51.0]], np.float32), [[1.0, 0.2]])
    assert all(by_hand.logits(rows).tolist() == [[255.0, 51.0, 0.0]] for rows in pixels[:-1])
    by_hand.inputs = nn.Pixels(count=2)
    for rows in pixels:
        np.testing.assert_allclose(by_hand.logits(rows), [[1.0, 0.2, 0.0]], rtol=1e-15)
    by_hand.inputs = nn.Pixels(count=2, largest=0.5)
    assert by_hand.logits(np.array([[0, 1]], np.uint8)).tolist() == [[0.0, 2.0, 0.0]]
    assert by_hand.logits(np.array([[False, True]])).tolist() == [[0.0, 1.0, 0.0]]


def test_probabilities_by_hand(by_hand):
    probabilities = by_hand.predict_proba([[LN2, LN3], [-5.0, -5.0]])
    np.testing.assert_allclose(probabilities, [[2 / 6, 3 / 6, 1 / 6], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-14)


def test_probabilities_are_finite_far_out(by_hand):
    np.testing.assert_array_equal(by_hand.predict_proba([[1e4, 0.0]]), [[1.0, 0.0, 0.0]])


def test_predictions_by_hand(by_hand):
    predictions = by_hand.predict([[2.0, 1.0], [1.0, 2.0], [0.0, 0.0], [3.0, 3.0]])
    assert predictions.dtype == np.int64
    assert predictions.tolist() == [0, 1, 0, 0]  # of equal logits the first
    assert by_hand.predict(np.empty((0, 2))).shape == (0,)
    assert by_hand.predict_proba(np.empty((0, 2))).shape == (0, 3)


def test_outputs_have_the_networks_type(backend):
    net = nn.MLP([2, 3], backend=backend)
    for dtype in ("uint8", "float32", "float64"):
        assert net.logits(np.ones((4, 2), dtype)).dtype == np.float32
        assert net.predict_proba(np.ones((4, 2), dtype)).dtype == np.float32


def test_pictures_are_flattened_row_by_row(backend):
    net = nn.MLP([6, 6], backend=backend, dtype="float64")
    net.load_parameters({"layers.0.weight": np.eye(6), "layers.0.bias": np.zeros(6)})
    pictures = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[7.0, 8.0, 9.0], [0.0, 1.0, 2.0]]])  # (2, rows, columns)
    assert net.logits(pictures).tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 0.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 3)), r"shape \(samples, 2\), got \(4, 3\)$"),
        (np.zeros(2), r"shape \(samples, 2\), got \(2,\); for one row pass images\[None, :\]"),
        (np.zeros((4, 2, 2)), r"got \(4, 2, 2\)$"),
        (np.zeros((1, 1, 1, 1, 2)), r"got \(1, 1, 1, 1, 2\)$"),
        (5.0, r"got \(\)$"),
        ([["a", "b"]], "images must be numbers, got dtype <U1"),
        (np.zeros((4, 2), complex), "images must be numbers, got dtype complex128"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, message):
    with pytest.raises(DataError, match=message):
        nn.MLP([2, 3], backend="numpy").predict(images)


# Parameters


def test_parameters_are_copies(by_hand):
    by_hand.parameters()["layers.0.weight"][:] = 99
    assert by_hand.parameters()["layers.0.weight"].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_loaded_parameters_are_copied_and_cast(backend):
    net = nn.MLP([2, 3], backend=backend)
    weight, bias = np.arange(6.0).reshape(2, 3), np.array([1, 2, 3])
    net.load_parameters({"layers.0.weight": weight, "layers.0.bias": bias})
    weight[:] = 0
    got = net.parameters()
    assert {array.dtype for array in got.values()} == {np.dtype("float32")}
    assert got["layers.0.weight"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert got["layers.0.bias"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.1.bias": None}, "parameters must be exactly .*; 'layers.1.bias' does not match"),
        ({"layers.2.bias": np.zeros(3)}, "'layers.2.bias' does not match"),
        ({"layers.1.bias": np.zeros(4)}, r"layers.1.bias must have shape \(3,\), got \(4,\)"),
        ({"layers.0.weight": np.zeros((4, 5))}, r"layers.0.weight must have shape \(5, 4\), got \(4, 5\)"),
    ],
)
def test_parameters_that_do_not_fit_change_nothing(change, message):
    net = nn.MLP([5, 4, 3], backend="numpy")
    before = net.parameters()
    given = {name: array + 1 for name, array in (before | change).items() if array is not None}
    with pytest.raises(ConfigError, match=message):
        net.load_parameters(given)
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[name])


# Copies


def same_network(net, other):
    for name in ("sizes", "activation", "loss", "initializer", "dtype", "inputs"):
        assert getattr(net, name) == getattr(other, name)
    assert [layer.activation for layer in net.layers] == [layer.activation for layer in other.layers]
    for name, array in net.parameters().items():
        assert other.parameters()[name].dtype == array.dtype
        np.testing.assert_array_equal(other.parameters()[name], array)


@pytest.mark.parametrize("make", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_is_a_network_of_its_own(every_backend, make, make_data):
    net = nn.MLP([6, 4, 3], activation="tanh", backend=every_backend, dtype="float64", seed=3)
    net.adopt(make_data())
    made = make(net)
    same_network(net, made)
    if make is copy.deepcopy:
        assert made.backend is every_backend
    assert made.backend.name == every_backend.name
    before = net.parameters()
    nn.train(made, make_data(), epochs=1, batch_size=8)
    for name, array in before.items():
        np.testing.assert_array_equal(net.parameters()[name], array)


def test_a_copy_of_several_objects_holds_one_copy_of_each():
    net = nn.MLP([2, 2], backend="numpy")
    one, other = copy.deepcopy([net, net])
    assert one is other is not net


def test_a_pickle_of_a_backend_that_cannot_be_had_says_so(monkeypatch):
    content = pickle.dumps(nn.MLP([2, 2], backend="numpy"))

    def refuse(_module, _kind):
        raise BackendUnavailable("not here")

    monkeypatch.setattr("xpnn.backends.registry._load_builtin", refuse)
    with pytest.raises(BackendUnavailable, match="not here"):
        pickle.loads(content)


# What cannot be


@pytest.mark.parametrize("sizes", [[], [5], [5, 0], [5, -3], [5.5, 3], [5, 4, 0.5]])
def test_sizes_must_be_two_whole_numbers_or_more(sizes):
    with pytest.raises(ConfigError, match=r"sizes must be two or more whole numbers >= 1 .*, got "):
        nn.MLP(sizes, backend="numpy")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"activation": "rely"}, r"unknown activation 'rely' \(did you mean 'relu'"),
        ({"initializer": "glorit"}, r"unknown initializer 'glorit' \(did you mean 'glorot'"),
        ({"dtype": "float16"}, r"unknown dtype 'float16' \(did you mean 'float64'..: choose one of float32, float64"),
        ({"backend": "nump"}, r"unknown backend 'nump' \(did you mean 'numpy'"),
    ],
)
def test_unknown_names_are_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        nn.MLP([5, 3], **({"backend": "numpy"} | option))


def test_a_backend_that_cannot_be_had_says_so(monkeypatch):
    def refuse(_module, _kind):
        raise BackendUnavailable("not here")

    monkeypatch.setattr("xpnn.backends.registry._load_builtin", refuse)
    with pytest.raises(BackendUnavailable, match="not here"):
        nn.MLP([5, 3], backend="numpy")


def test_adopting_a_data_set_takes_its_scale_names_and_shape(make_data):
    net = nn.MLP([6, 3], backend="numpy")
    net.adopt(make_data())
    assert (net.input_scale, net.class_names, net.image_shape) == (1 / 255, ("a", "b", "c"), (2, 3))


@pytest.mark.parametrize("sizes", [[5, 3], [6, 4]])
def test_a_data_set_of_other_sizes_is_not_adopted(make_data, sizes):
    net = nn.MLP(sizes, backend="numpy")
    with pytest.raises(DataError, match=r"but the rows have 6 features and 3 classes: use sizes \[6, ..., 3\]"):
        net.adopt(make_data())
    assert net.class_names is None


@pytest.mark.parametrize("number", [1e300, -1e300, np.nan, np.inf])
def test_rows_that_are_not_finite_in_the_networks_type_are_refused(number):
    net, rows = nn.MLP([3, 2], backend="numpy"), np.zeros((4, 3))
    rows[2, 1] = number
    for predict in (
        net.logits,
        net.predict,
        net.predict_proba,
        lambda rows: nn.evaluate(net, nn.Split(rows, np.zeros(4, np.int64))),
    ):
        with pytest.raises(nn.XpnnError, match=r"images must be finite in float32, got .* at row 2, column 1: fill"):
            predict(rows)
    if abs(number) == 1e300:
        assert nn.MLP([3, 2], backend="numpy", dtype="float64").predict(rows).shape == (4,)
