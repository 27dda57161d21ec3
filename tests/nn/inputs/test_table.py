"""Columns of a table: what is learned of them, and what becomes of their cells."""

import datetime
import logging
from dataclasses import replace

import narwhals.stable.v2 as nw
import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DataError
from xpnn.nn.inputs.facts import RowFacts
from xpnn.nn.inputs.table import Column, Table, table_of_numbers
from xpnn.nn.inputs.table_columns import cells_of, choose_columns, learn_table

pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))

NAN = float("nan")
LIBRARIES = [pandas.DataFrame, lambda columns: polars.DataFrame(columns, strict=False), pyarrow.table]
PEOPLE = {
    "age": [20.0, 30.0, None, 50.0],
    "town": ["Ulm", "Bonn", None, "Ulm"],
    "member": [True, False, True, True],
    "visits": [1, 2, 3, 6],
}
LABELS = [0, 1, 0, 1]


def learned(columns, make=polars.DataFrame, **options):
    """The table of all columns."""
    frame = nw.from_native(make(columns))
    return learn_table(frame, choose_columns(frame, **options))[0]


def cells(columns, table, make=polars.DataFrame):
    return cells_of(nw.from_native(make(columns)), table)


def features(columns, table, make=polars.DataFrame):
    return table.features(cells(columns, table, make), "float64")


@pytest.mark.parametrize("make", LIBRARIES)
def test_columns_by_hand(make):
    """Ages 20, 30, 30 and 50 with the median: mean 32.5; a flag for the missing one."""
    table = learned(PEOPLE, make)
    assert table.columns == (
        Column("age", mean=32.5, std=np.std([20, 30, 30, 50]), fill=30.0, has_flag=True),
        Column("town", "category", has_flag=True, levels=("Bonn", "Ulm")),
        Column("member", "truth", fill=1.0),
        Column("visits", mean=3.0, std=np.std([1, 2, 3, 6]), fill=2.5),
    )
    age, visits = (
        (np.array([20, 30, 30, 50]) - 32.5) / np.std([20, 30, 30, 50]),
        (np.array([1, 2, 3, 6]) - 3) / 3.5**0.5,
    )
    expected = [
        [age[0], 0, 0, 1, 0, 1, visits[0]],
        [age[1], 0, 1, 0, 0, 0, visits[1]],
        [age[2], 1, 0, 0, 1, 1, visits[2]],
        [age[3], 0, 0, 1, 0, 1, visits[3]],
    ]
    np.testing.assert_allclose(features(PEOPLE, table, make), expected, rtol=1e-14, atol=1e-15)
    assert table.feature_names == (
        "age", "age is missing", "town=Bonn", "town=Ulm", "town is missing", "member", "visits"
    )  # fmt: skip
    assert (table.width, table.num_features, table.places) == (4, 7, (0, 2, 5, 6))


def test_cells_that_are_missing_in_a_column_that_had_none():
    """The median, and the other levels' zeros."""
    table = learned({"age": [20, 30, 70], "town": ["Ulm", "Bonn", "Ulm"], "member": [True, False, False]})
    missing = features({"age": [None], "town": [None], "member": [None]}, table)
    assert missing.tolist() == features({"age": [30], "town": ["Rome"], "member": [False]}, table).tolist()
    assert missing[0, 1:3].tolist() == [0, 0]
    assert table.unseen(np.array([[NAN, NAN, NAN]])) == {}


def test_numbers_without_names_are_never_missing():
    table = table_of_numbers(np.array([[1.0, 2.0], [3.0, 4.0]]))
    rows = np.array([[1.0, 2.0], [NAN, 4.0]])
    with pytest.raises(
        DataError, match="column '0' must be finite in float32, got nan at row 1: fill the cell or drop"
    ):
        table.check(rows, RowFacts(rows), "float32")


def test_levels_that_no_training_row_had(backend, caplog):
    frame = polars.DataFrame({"town": ["Ulm", "Bonn"] * 2, "age": [1, 2, 3, 4]})
    net = nn.MLP([3, 2], backend=backend)
    nn.train(net, nn.from_arrays(frame, LABELS, test_fraction=None), epochs=1, batch_size=4)
    new = polars.DataFrame({"age": [1, 2, 3], "town": ["Rome", "Ulm", "Oslo"]})
    rows = cells_of(nw.from_native(new), net.inputs)
    assert net.inputs.unseen(rows) == {"town": 2}
    assert net.inputs.features(rows, "float32")[:, :2].tolist() == [[0, 0], [0, 1], [0, 0]]
    with caplog.at_level(logging.WARNING, logger="xpnn"):
        net.predict(frame)
        assert caplog.messages == []
        net.predict(new)
    assert caplog.messages == [
        "column 'town' has 2 cells of a category that no training row had: they are 0 in all its features"
    ]


def test_numbers_may_be_levels():
    codes = {"code": [10, 9, 100, 9]}
    table = learned(codes, categorical=("code",))
    assert table.columns[0].levels == ("9", "10", "100")
    assert cells(codes, table).tolist() == [[10], [9], [100], [9]]  # so that arrays have the same cells
    assert features(codes, table).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]]
    for same in ([10.0, 9.0, 100.0, 9.0], ["10", "9", " 100 ", "9"]):
        assert cells({"code": same}, table).tolist() == cells(codes, table).tolist()
    assert cells({"code": [10.0, None]}, table).tolist()[0] == [10]
    assert features({"code": [11, None]}, table).tolist() == [[0, 0, 0]] * 2


def test_levels_that_only_look_like_numbers_are_words():
    for levels in (["1", "1.0", "2"], ["1", "2", "x"], ["1", "2", "inf"], ["1", "1e300", "2"]):
        column = Column("code", "category", levels=tuple(levels))
        assert column.codes.tolist() == [0, 1, 2]
        assert column.unseen == -1
    assert Column("code", "category", levels=("-1", "5")).unseen == -2


@pytest.mark.parametrize("make", LIBRARIES)
@pytest.mark.parametrize(
    "values", [[True, False, True, True], ["true", "False", "TRUE", " true"], ["True", "False", "True", "True"]]
)
def test_truth_values_in_every_way(make, values):
    table = learned({"member": values}, make)
    assert table.columns == (Column("member", "truth", fill=1.0),)
    assert features({"member": values}, table, make).tolist() == [[1], [0], [1], [1]]
    for same in ([True, False], ["true", "false"], [1, 0], [1.0, 0.0], ["1", "0"]):
        assert features({"member": same}, table, make).tolist() == [[1], [0]]
    wrong = cells({"member": [1, 2]}, table, make)
    with pytest.raises(DataError, match="column 'member' must be true or false, got 2 at row 1: correct the cell"):
        table.check(wrong, RowFacts(wrong), "float64")
    with pytest.raises(DataError, match="column 'member' must be numbers as in the training, got 'yes' at row 0"):
        cells({"member": ["yes"]}, table, make)


@pytest.mark.parametrize("make", LIBRARIES)
@pytest.mark.parametrize("levels", [["1.0", "2.50"], [1.0, 2.5], ["001", "2.5"]])
def test_levels_that_are_numbers_are_found_by_their_number(make, levels):
    table = learned({"code": levels}, categorical=("code",))
    for same in (["1", "2.5"], ["1.0", "2.500"], [1.0, 2.5]):
        assert cells({"code": [*same, None]}, table, make)[:2].tolist() == [[1], [2.5]]


def test_missing_values_and_wide_numbers_of_every_library():
    table = learned({"count": [1.0, None], "town": ["Ulm", None]})
    rows = pandas.DataFrame({"count": [2**63, None], "town": [None, "Ulm"]}, dtype=object).fillna(pandas.NA)
    arrow = pyarrow.table({"count": pyarrow.array([2**63, None], pyarrow.uint64()), "town": [None, "Ulm"]})
    for frame in (rows, arrow):
        np.testing.assert_array_equal(cells_of(nw.from_native(frame), table), [[2.0**63, NAN], [NAN, 0]])


@pytest.mark.parametrize("make", LIBRARIES)
def test_dates_are_days(make):
    days = [datetime.datetime(1970, 1, 1), datetime.datetime(1970, 1, 2, 12), None, datetime.datetime(1969, 12, 31)]
    table = learned({"when": days}, make)
    np.testing.assert_array_equal(cells({"when": days}, table, make), [[0], [1.5], [NAN], [-1]])
    assert table.columns[0].fill == 0
    zone = datetime.timezone(datetime.timedelta(hours=12))
    aware = {"when": [datetime.datetime(1970, 1, 2, tzinfo=zone), datetime.datetime(1970, 1, 3, tzinfo=zone)]}
    assert cells(aware, table, make).tolist() == [[0.5], [1.5]]


def test_days_without_a_time_and_durations():
    dates = {"when": [datetime.date(1970, 1, 3), None], "long": [datetime.timedelta(hours=6), None]}
    for make in (polars.DataFrame, pyarrow.table):
        np.testing.assert_array_equal(cells(dates, learned(dates, make), make), [[2, 0.25], [NAN, NAN]])


@pytest.mark.parametrize("make", LIBRARIES)
def test_decimals_and_categories_of_the_library(make):
    from decimal import Decimal

    if make is not pandas.DataFrame:
        assert cells({"price": [Decimal("1.5"), None]}, learned({"price": [Decimal("1.5")]}, make), make)[0, 0] == 1.5
    categories = pandas.DataFrame({"town": pandas.Categorical(["b", None, "a"], categories=["b", "c", "a"])})
    table, _ = learn_table(nw.from_native(categories), choose_columns(nw.from_native(categories)))
    assert table.columns[0].levels == ("a", "b")


# Columns that are left out


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Id", range(7, 37)),
        ("customer_id", range(90, 60, -1)),
        ("PassengerId", [f"p{k}" for k in range(30)]),
        ("", range(1, 31)),
        ("Unnamed: 0", range(30)),
        ("index", range(30)),
        ("count", range(1, 31)),  # counts the rows
        ("place", range(30)),
    ],
)
def test_what_identifies_the_rows_is_not_learned(name, values):
    frame = nw.from_native(polars.DataFrame({name: list(values), "age": [k * k % 31 for k in range(30)]}))
    chosen = choose_columns(frame)
    assert (chosen.features, chosen.identifier) == (("age",), name)
    assert len(chosen.words) == 1
    shown = name or "the column without a name"
    assert chosen.words[0] == f"{shown} identifies the rows and is not learned: --id-column none to learn it"
    if name != "PassengerId":  # whose texts are too many levels
        assert choose_columns(frame, id_column="none").features == (name, "age")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Id", [*range(29), 0]),  # twice
        ("humid", [k * 7 % 30 for k in range(30)]),
        ("Id", [k + 0.5 for k in range(30)]),
        ("size", range(5, 35)),
        ("rank", [k * 7 % 30 for k in range(30)]),
    ],
)
def test_what_identifies_no_rows_is_learned(name, values):
    frame = nw.from_native(polars.DataFrame({name: list(values)}))
    assert choose_columns(frame).features == (name,)


def test_texts_of_too_many_levels_are_left_out():
    names = {"name": [f"n{k}" for k in range(30)], "town": ["Ulm", "Bonn", "Kiel"] * 10, "none": [None] * 30}
    frame = nw.from_native(polars.DataFrame(names))
    chosen = choose_columns(frame)
    assert chosen.features == ("town",)
    assert chosen.words == (
        "name is left out, as a text of 30 different values: --categorical name to keep it",
        "none is left out, as it has no values: --categorical none to keep it",
    )
    assert choose_columns(frame, categorical=("name",)).features == ("name", "town")
    assert choose_columns(nw.from_native(polars.DataFrame({"name": ["a", "b", "c"]}))).features == ("name",)
    many = {"name": [f"n{k % 101}" for k in range(1000)], "age": [k % 7 for k in range(1000)]}
    assert choose_columns(nw.from_native(polars.DataFrame(many))).features == ("age",)


def test_columns_are_chosen_by_the_caller():
    frame = nw.from_native(polars.DataFrame(PEOPLE))
    assert choose_columns(frame, drop=("town", "age")).features == ("member", "visits")
    chosen = choose_columns(frame, id_column="visits", categorical=("member",))
    assert (chosen.features, chosen.identifier) == (("age", "town", "member"), "visits")
    assert learn_table(frame, chosen)[0].columns[2].levels == ("False", "True")
    for option in ({"drop": ("Town",)}, {"categorical": ("Town",)}, {"id_column": "Town"}):
        with pytest.raises(
            ConfigError, match=rf"{next(iter(option))} must name a column, got 'Town' \(did you mean 'town'\?.: there"
        ):
            choose_columns(frame, **option)
    with pytest.raises(DataError, match="a table must have a column to learn from, got 'age', 'town'"):
        choose_columns(frame, drop=tuple(PEOPLE))


# Data sets and networks


@pytest.mark.parametrize("make", LIBRARIES)
def test_frames_of_every_library_give_the_answers_of_the_array(backend, make):
    rows = np.array([[30, 0, 20], [40, 1, 25], [50, 1, 30], [80, 0, 25]])
    names = ["age", "flag", "bmi"]
    frame = make({name: rows[:, k] for k, name in enumerate(names)})
    net = nn.MLP([3, 2], backend=backend, seed=1)
    nn.train(net, nn.from_arrays(frame, LABELS, test_fraction=None), epochs=1, batch_size=4)
    expected = net.logits(rows)
    np.testing.assert_array_equal(net.logits(rows.astype(float)), expected)
    for library in LIBRARIES:
        for order in ((0, 1, 2), (2, 0, 1)):
            given = library({names[k]: rows[:, k] for k in order} | {"more": [1, 2, 3, 4]})
            np.testing.assert_array_equal(net.logits(given), expected)
        with pytest.raises(
            DataError, match=r"columns of the training, got no 'bmi' in 'age', 'flag', 'BMI' \(did you mean 'BMI'"
        ):
            net.predict(library({name.replace("bmi", "BMI"): rows[:, k] for k, name in enumerate(names)}))


def test_a_table_with_everything_trains_and_comes_back(backend, tmp_path):
    frame = pandas.DataFrame({name: values * 10 for name, values in PEOPLE.items()})
    data = nn.from_arrays(frame, LABELS * 10, categorical=("visits",))
    assert data.features == 2 + 3 + 1 + 4
    net = nn.MLP([data.features, 4, 2], backend=backend)
    history = nn.train(net, data, optimizer=nn.Adam(0.1), epochs=20, batch_size=8)
    assert history[-1].test_accuracy == 1.0
    assert net.predict(frame).tolist() == LABELS * 10
    nn.save(net, tmp_path / "m")
    back = nn.load(tmp_path / "m", backend="numpy")
    assert back.inputs == net.inputs
    np.testing.assert_array_equal(back.logits(frame), net.logits(frame))


def test_a_cell_that_cannot_be_is_named_by_its_row_before_the_split():
    name = "at row 50"  # stays as it is
    columns = {name: [float(k) for k in range(20)], "member": [True] * 20}
    columns[name][13] = float("inf")
    for frame in (pandas.DataFrame(columns), polars.DataFrame(columns)):
        with pytest.raises(DataError, match=f"column '{name}' must be finite in float32, got inf at row 13: fill the"):
            nn.from_arrays(frame, [0, 1] * 10)


def test_columns_of_pixels_are_pixels():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (8, 16))
    for names in ([f"pixel{k}" for k in range(16)], [f"{k // 4 + 1}x{k % 4 + 1}" for k in range(16)]):
        frame = pandas.DataFrame(images, columns=names)
        data = nn.from_arrays(frame, LABELS * 2, test_fraction=None)
        assert data.inputs == nn.Pixels(count=16, shape=(4, 4), class_names=("0", "1"))
        np.testing.assert_array_equal(data.train.images, images)
        assert isinstance(nn.from_arrays(frame, LABELS * 2, pixels=False).inputs, Table)


def test_columns_that_are_called_by_numbers(backend):
    rows = np.array([[30, 0, 20], [40, 1, 25], [50, 1, 30], [80, 0, 25]])
    frame = pandas.DataFrame(rows)
    net = nn.MLP([3, 2], backend=backend)
    nn.train(net, nn.from_arrays(frame, LABELS, test_fraction=None), epochs=1, batch_size=4)
    assert [column.name for column in net.inputs.columns] == ["0", "1", "2"]
    for given in (frame[[2, 0, 1]], frame.rename(columns=str), polars.from_pandas(frame)):
        np.testing.assert_array_equal(net.logits(given), net.logits(rows))
    with pytest.raises(DataError, match="columns must have names of their own, got a number and a text"):
        nn.from_arrays(pandas.DataFrame(rows[:, :2], columns=[1, "1"]), LABELS)


def test_settings_give_the_same_table():
    table = replace(learned(PEOPLE, categorical=("visits",)), label="y", identifier="id")
    assert Table.from_settings(table.settings()) == table
    unnamed = table_of_numbers(np.arange(6.0).reshape(3, 2))
    assert Table.from_settings(unnamed.settings()) == unnamed


def test_columns_are_described_in_a_line_each():
    assert list(learned(PEOPLE).lines()) == [
        "age     number, 32.5 +- 10.9, some missing",
        "town    2 categories, some missing: Bonn, Ulm",
        "member  true or false",
        "visits  number, 3 +- 1.871",
    ]
    assert learned(PEOPLE).describe() == "4 columns, standardized by the training rows"
    wide = Table(columns=tuple(Column(f"c{k}") for k in range(25)))
    assert list(wide.lines())[-1] == "and 5 more columns"
    assert wide.describe() == "25 columns"
