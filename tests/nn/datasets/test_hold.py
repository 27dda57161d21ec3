"""Rows held to a network's inputs: columns, levels and classes by their names."""

from dataclasses import replace

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import DataError
from xpnn.nn.datasets.hold import hold_rows
from xpnn.nn.inputs.table import Column, Table

WIDE, TALL = Column("wide"), Column("tall")
TOWN = Column("town", "category", levels=("Bonn", "Kiel", "Ulm"))
CODE = Column("code", "category", levels=("-1", "10", "20"))


def table(*columns, **options):
    return Table(columns=columns, **options)


def held(images, own, inputs, labels=None):
    images = np.array(images, dtype=np.float64)
    labels = np.zeros(len(images), np.int64) if labels is None else np.array(labels)
    return hold_rows(nn.Split(images, labels, inputs=own), inputs)


def test_rows_of_the_same_inputs_are_not_touched():
    rows = nn.Split(np.ones((2, 2)), np.zeros(2, np.int64), inputs=table(WIDE, TALL))
    assert hold_rows(rows, table(WIDE, TALL)) is rows


def test_columns_are_found_by_their_names():
    own = table(replace(TALL, mean=5.0), Column("more"), WIDE)
    rows = held([[1, 2, 3], [4, 5, 6]], own, inputs := table(WIDE, TALL))
    assert rows.images.tolist() == [[3, 1], [6, 4]]
    assert rows.inputs is inputs
    with pytest.raises(
        DataError, match="must have the columns of the training, got no 'tall': rename or add the column"
    ):
        held([[1, 2]], table(WIDE, Column("Tall")), inputs)


def test_columns_without_names_are_found_by_their_place():
    unnamed = table(Column("0"), Column("1"), is_named=False)
    assert held([[1, 2]], unnamed, table(WIDE, TALL)).images.tolist() == [[1, 2]]
    assert held([[1, 2]], nn.Numbers(count=2), unnamed).images.tolist() == [[1, 2]]
    for own in (None, nn.Numbers(count=3), replace(unnamed, columns=(*unnamed.columns, Column("2")))):
        with pytest.raises(DataError, match="the rows must have 2 columns as those of the training, got 3"):
            held([[1, 2, 3]], own, unnamed)


def test_levels_are_found_by_their_names():
    own = table(Column("town", "category", levels=("Kiel", "Rome", "Ulm")))
    rows = held([[0], [1], [2], [np.nan]], own, inputs := table(TOWN))
    np.testing.assert_array_equal(rows.images, [[1], [TOWN.unseen], [2], [np.nan]])
    assert inputs.unseen(rows.images) == {"town": 1}


def test_a_level_that_is_not_known_is_no_level_even_where_a_level_is_minus_one():
    own = table(Column("code", "category", levels=("-1", "10", "30")))
    rows = held([[-1], [10], [30]], own, inputs := table(CODE))
    assert inputs.features(rows.images, "float32").tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_numbers_are_levels_of_numbers_and_no_levels_of_words():
    assert held([[10], [30]], table(Column("code")), table(CODE)).images.tolist() == [[10], [30]]
    rows = held([[0], [1]], table(Column("town")), inputs := table(TOWN))
    assert inputs.features(rows.images, "float32").tolist() == [[0, 0, 0]] * 2
    with pytest.raises(DataError, match="column 'wide' must be numbers as in the training, got the text 'Bonn'"):
        held([[0]], table(replace(TOWN, name="wide")), table(WIDE))


def test_classes_are_found_by_their_names():
    inputs = nn.Numbers(count=1, class_names=("a", "b", "c"))
    for names, labels, expected in (
        (("c", "b", "a"), [0, 1, 2], [2, 1, 0]),
        (("b", "c"), [0, 1, 0], [1, 2, 1]),
        (("c",), [0, 0, 0], [2, 2, 2]),
        (("a", "b", "c", "d"), [0, 1, 2], [0, 1, 2]),  # no row has the fourth
        ((), [0, 1, 2], [0, 1, 2]),
    ):
        rows = held(np.ones((3, 1)), nn.Numbers(count=1, class_names=names), inputs, labels)
        assert rows.labels.tolist() == expected
    with pytest.raises(
        DataError, match="among the classes of the network, a, b, c, got 'd' at row 1: leave these rows"
    ):
        held(np.ones((3, 1)), nn.Numbers(count=1, class_names=("a", "d")), inputs, [0, 1, 0])


# Networks


@pytest.fixture
def flowers():
    """A frame of three classes that two columns tell apart, and their names."""
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    numbers = np.arange(60) % 3
    frame = pandas.DataFrame(
        {
            "wide": np.array([10, 20, 30])[numbers] + generator.normal(size=60),
            "tall": np.array([200, 100, 300])[numbers] + generator.normal(size=60),
        }
    )
    return frame, np.array(["rose", "lily", "aster"])[numbers]


@pytest.fixture
def net(backend, flowers):
    net = nn.MLP([2, 3], backend=backend)
    nn.train(net, nn.from_arrays(*flowers), optimizer=nn.Adam(0.1), epochs=20, batch_size=16)
    return net


def test_another_data_set_is_evaluated_by_names(net, flowers):
    frame, names = flowers
    is_kept = names != "aster"
    for kept, columns in ((slice(None), ["tall", "wide"]), (is_kept, ["wide", "tall"]), (is_kept, ["tall", "wide"])):
        data = nn.from_arrays(frame[kept][columns], names[kept], test_fraction=None)
        assert nn.evaluate(net, data.train).accuracy == 1.0
    one = nn.from_arrays(frame[:1], names[:1], test_fraction=None)
    assert nn.evaluate(net, one.train).accuracy == 1.0
    read = nn.from_arrays(frame[["tall", "wide"]], names, test_fraction=None, inputs=net.inputs)
    assert read.inputs == net.inputs
    assert nn.evaluate(net, read.train).accuracy == 1.0


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_split_of_a_frame_has_its_names(net, flowers, library):
    frame, names = flowers
    labels = np.searchsorted(["aster", "lily", "rose"], names)
    columns = {name: frame[name].to_numpy() for name in ("tall", "wide")}
    rows = nn.Split(pytest.importorskip(library).DataFrame(columns), labels)
    assert nn.evaluate(net, rows).accuracy == nn.evaluate(net, rows.take(slice(7, 50))).accuracy == 1.0
    np.testing.assert_array_equal(net.predict(rows), labels)
    with pytest.raises(DataError, match="got no 'wide'"):
        nn.evaluate(net, nn.Split(frame[["tall"]], labels))


def test_categories_are_no_numbers_of_a_network_without_names():
    for inputs in (nn.Numbers(count=1), table(Column("0"), is_named=False)):
        with pytest.raises(DataError, match="must be numbers as those of the training, got the category 'town'"):
            held([[1]], table(TOWN), inputs)


def test_an_unknown_class_is_refused_by_its_name(net, flowers):
    frame, names = flowers
    names = np.where(np.arange(60) == 7, "tulip", names)
    with pytest.raises(DataError, match="classes of the network, aster, lily, rose, got 'tulip' at row 7"):
        nn.evaluate(net, nn.from_arrays(frame, names, test_fraction=None).train)
    with pytest.raises(DataError, match="classes of the network, aster, lily, rose, got 'tulip' at row 7"):
        nn.from_arrays(frame, names, inputs=net.inputs)


def test_a_trained_network_is_trained_on_by_names(net, flowers):
    frame, names = flowers
    before, inputs = net.parameters(), net.inputs
    renamed = nn.from_arrays(frame, np.char.add(names, "s"), test_fraction=None)
    with pytest.raises(DataError, match=r"aster, lily, rose, got '\w+s' at row 0"):
        nn.train(net, renamed, epochs=1, batch_size=16)
    np.testing.assert_array_equal(net.parameters()["layers.0.weight"], before["layers.0.weight"])
    order = ["rose", "lily", "aster"]
    numbers = np.array([order.index(name) for name in names])
    permuted = nn.from_arrays(frame[["tall", "wide"]], numbers, class_names=order, test_fraction=None)
    history = nn.train(net, permuted, epochs=1, batch_size=16)
    assert history[-1].train_accuracy == 1.0
    assert net.inputs == inputs
    assert nn.evaluate(net, permuted.train).accuracy == 1.0
