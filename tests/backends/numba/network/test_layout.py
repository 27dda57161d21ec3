"""Where parameters lie in the plan's buffers, and images as lists of their entries."""

from itertools import pairwise

import numpy as np
import pytest
from xpnn.backends import Layer
from xpnn.backends.numba.compiler.team import Team
from xpnn.backends.numba.first_layer.compress import chunk_bounds, compressed
from xpnn.backends.numba.network.layout import CACHE_LINE, Layout, aligned, padded

SIZES = [(19, 3), (19, 8, 1), (19, 37, 9, 3), (1, 5, 40)]


def layers_of(sizes, activation="relu"):
    """Layers whose numbers are all different, and none is 0."""
    layers, start = [], 1
    for n, m in pairwise(sizes):
        numbers = np.arange(start, start + n * m + m, dtype=np.float64)
        layers.append(Layer(numbers[: n * m].reshape(n, m), numbers[n * m :], activation))
        start += n * m + m
    return layers


def arrays_of(layers):
    return [(layer.weight, layer.bias) for layer in layers]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("block", [8, 24])
@pytest.mark.parametrize("pad_features", [False, True])
def test_what_is_packed_comes_out_again(sizes, block, pad_features):
    layers = layers_of(sizes)
    layout = Layout(layers, lanes=8, block=block, pad_features=pad_features)
    buffer = aligned(layout.count, np.float64)
    layout.pack(arrays_of(layers), buffer)
    numbers = sum(n * m + m for n, m in pairwise(sizes))
    assert sorted(buffer[buffer != 0].tolist()) == list(range(1, numbers + 1))  # all others are padding
    fresh = layout.empty_arrays(np.float64)
    layout.unpack(buffer, fresh)
    for (weight, bias), (packed_weight, packed_bias) in zip(fresh, arrays_of(layers), strict=True):
        np.testing.assert_array_equal(weight, packed_weight)
        np.testing.assert_array_equal(bias, packed_bias)


def test_a_layout_by_hand():
    layers = layers_of((3, 10, 2))
    layout = Layout(layers, lanes=8, block=16, pad_features=False)
    network = layout.network
    assert network.inputs.tolist() == [3, 16]
    assert network.units.tolist() == [16, 8]
    assert network.widths.tolist() == [16, 8]
    assert network.weight_at.tolist() == [0, 48]
    assert network.bias_at.tolist() == [176, 192]
    assert network.transposed_at.tolist() == [0, 0]
    assert network.output_at.tolist() == [0, 16]
    assert (network.classes, layout.transposed_count, layout.output_units) == (2, 128, 24)
    assert layout.count >= 200
    buffer = np.zeros(layout.count)
    layout.pack(arrays_of(layers), buffer)
    np.testing.assert_array_equal(buffer[:48].reshape(3, 16)[:, :10], layers[0].weight)
    np.testing.assert_array_equal(buffer[48:176].reshape(16, 8)[:10, :2], layers[1].weight)
    np.testing.assert_array_equal(buffer[176:186], layers[0].bias)
    np.testing.assert_array_equal(buffer[192:194], layers[1].bias)


def test_blocks_follow_each_other_and_features_are_padded():
    layers = layers_of((3, 10))
    layout = Layout(layers, lanes=8, block=8, pad_features=True)
    assert layout.network.inputs.tolist() == [8]
    buffer = np.zeros(layout.count)
    layout.pack(arrays_of(layers), buffer)
    first, second = buffer[:128].reshape(2, 8, 8)
    np.testing.assert_array_equal(first[:3], layers[0].weight[:, :8])
    np.testing.assert_array_equal(second[:3, :2], layers[0].weight[:, 8:])
    assert not first[3:].any()
    assert not second[3:].any()
    assert not second[:, 2:].any()


@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky_relu", "identity", "sigmoid"])
def test_only_sigmoid_needs_to_be_silenced(activation):
    layers = layers_of((3, 10, 8), activation)
    layout = Layout(layers, lanes=8, block=8, pad_features=False)
    buffer = np.zeros(layout.count)
    layout.pack_parameters(layers, buffer)
    at = int(layout.network.bias_at[0])
    np.testing.assert_array_equal(buffer[at : at + 10], layers[0].bias)
    padding = buffer[at + 10 : at + 16]
    assert (padding <= -1e30).all() if activation == "sigmoid" else not padding.any()
    np.testing.assert_array_equal(buffer[at + 16 : at + 24], layers[1].bias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("count", [0, 1, 63, 1000])
def test_buffers_begin_on_a_cache_line(dtype, count):
    array = aligned(count, dtype)
    assert (array.shape, array.dtype) == ((count,), dtype)
    assert array.ctypes.data % CACHE_LINE == 0 or count == 0
    assert not array.any()


def test_padded():
    assert [padded(count, 8) for count in (0, 1, 8, 9)] == [0, 8, 8, 16]


def test_bounds_of_chunks():
    assert chunk_bounds(784, 1).tolist() == [0, 784]
    assert chunk_bounds(784, 4).tolist() == [0, 196, 392, 588, 784]
    assert chunk_bounds(19, 2).tolist() == [0, 9, 19]
    assert chunk_bounds(19, 2, 8).tolist() == [0, 8, 24]  # the padding of the features is part of them
    assert chunk_bounds(1, 3).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize(
    ("kind", "dtype", "value"),
    [("uint8", "float64", "uint8"), ("int16", "float32", "float32"), ("float32", "float64", "float64")],
)
def test_rows_as_lists_of_their_entries(threads, chunks, kind, dtype, value):
    generator = np.random.default_rng(1)
    images = (generator.integers(1, 256, (17, 19)) * (generator.random((17, 19)) < 0.3)).astype(kind)
    images[[0, 5, 16]] = 0
    images[7] = 200
    bounds, team = chunk_bounds(19, chunks), Team(threads)
    expected = [[np.count_nonzero(row[a:b]) for a, b in pairwise(bounds)] for row in images]
    sparse = compressed(team, images, 1 / 255, bounds, np.dtype(dtype))
    row, feature = np.nonzero(images)
    assert sparse.index.tolist() == feature.tolist()
    assert sparse.index.dtype == np.uint16
    np.testing.assert_array_equal(sparse.value, images[row, feature])
    assert sparse.value.dtype == value
    assert sparse.scale == 1 / 255
    ends = np.cumsum(expected).reshape(17, chunks)
    starts = sparse.starts.reshape(17, chunks + 1)
    np.testing.assert_array_equal(starts[:, 1:], ends)
    np.testing.assert_array_equal(starts[:, 0], [0, *ends[:-1, -1]])


def test_images_without_an_entry():
    images, bounds, team = np.zeros((3, 19), dtype=np.uint8), chunk_bounds(19, 1), Team(1)
    sparse = compressed(team, images, 1.0, bounds, np.dtype(np.float64))
    assert sparse.starts.tolist() == [0] * 6
    assert sparse.index.size == sparse.value.size == 0


def test_features_beyond_two_bytes():
    images, team = np.zeros((2, 70_000), dtype=np.uint8), Team(1)
    images[1, 69_999] = 3
    bounds = chunk_bounds(70_000, 1)
    sparse = compressed(team, images, 1.0, bounds, np.dtype(np.float64))
    assert sparse.index.tolist() == [69_999]
    assert sparse.value.tolist() == [3]
