"""Facts about rows: the same as NumPy finds on the whole array, with no more reading than they need."""

from dataclasses import replace

import numpy as np
import pytest
from xpnn import nn
from xpnn.nn.inputs import facts as facts_module
from xpnn.nn.inputs.arguments import row_blocks
from xpnn.nn.inputs.facts import RowFacts

FEATURES = 6
TYPES = ["uint8", "int8", ">i2", "uint64", "float16", "float32", ">f4", "float64", "longdouble", "bool"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of some rows each, whatever the type."""
    monkeypatch.setattr("xpnn.nn.inputs.arguments.BLOCK_BYTES", 100)


@pytest.fixture
def reads(monkeypatch):
    """The blocks that were read, as (first row, number of rows of the array)."""
    seen = []

    def blocks(rows):
        for start, block in row_blocks(rows):
            seen.append((start, len(rows)))
            yield start, block

    monkeypatch.setattr(facts_module, "row_blocks", blocks)
    return seen


@pytest.fixture
def make_rows(tmp_path):
    """`make_rows(dtype, mode)`: 60 rows of 0 to 100, half of them zeros; mapped from a file if there is a mode."""

    def make(dtype="float32", mode=None):
        generator = np.random.default_rng(0)
        rows = generator.integers(1, 101, (60, FEATURES)) * (generator.random((60, FEATURES)) < 0.5)
        rows = rows.astype(dtype)
        if mode is None:
            return rows
        np.save(tmp_path / "images.npy", rows)
        return np.load(tmp_path / "images.npy", mmap_mode=mode)

    return make


@pytest.mark.parametrize("dtype", TYPES)
def test_facts_are_those_of_the_whole(make_rows, dtype):
    rows = make_rows(dtype)
    if dtype not in ("uint8", "uint64", "bool"):
        rows[41, 3] = -7
        rows[42, 3] = -0.0
    for view in (rows, rows[::2, ::-1], np.asfortranarray(rows), rows.reshape(60, 2, 3)):
        facts = RowFacts(view)
        assert facts.range == (view.min(), view.max())
        assert facts.nonzeros == (None if dtype == "bool" else np.count_nonzero(view))


@pytest.mark.parametrize("dtype", ["uint8", "bool", "uint64"])
def test_nothing_is_read_where_the_type_says_it(make_rows, reads, dtype):
    facts = RowFacts(make_rows(dtype))
    assert facts.are_finite_in("float32")
    assert facts.are_within(0, 255) == (dtype != "uint64" or facts.range[1] <= 255)
    assert bool(reads) == (dtype == "uint64")


def test_no_more_is_read_once_both_ends_of_the_type_were_met(make_rows, reads):
    rows = make_rows("uint8")
    rows[20] = 255  # zeros are everywhere
    facts = RowFacts(rows)
    assert facts.range == (0, 255)
    assert facts.nonzeros is None
    assert reads == [(0, 60), (16, 60)]


@pytest.mark.parametrize("row", [0, 31, 59])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39, -1e39])
def test_a_number_that_is_not_finite_is_found_in_any_block(make_rows, row, number):
    rows = make_rows("float64")
    assert RowFacts(rows).are_finite_in("float32")
    rows[row, 2] = number
    rows[:, 0] = -np.inf if number == np.inf else rows[:, 0]
    assert not RowFacts(rows).are_finite_in("float32")
    assert RowFacts(rows).are_finite_in("float64") == (abs(number) == 1e39)


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64", "longdouble"])
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_an_infinity_is_finite_in_no_type(make_rows, dtype, wanted):
    rows = make_rows(dtype)
    assert RowFacts(rows).are_finite_in(wanted)
    rows[7, 1] = np.inf
    assert not RowFacts(rows).are_finite_in(wanted)


@pytest.mark.parametrize(("mode", "is_kept"), [(None, False), ("r", True), ("c", False), ("r+", False)])
def test_facts_are_kept_of_rows_that_nobody_can_write_to(make_rows, reads, mode, is_kept):
    facts = RowFacts(make_rows("float32", mode))
    found = [(facts.range, facts.check_sum) for _ in range(2)]
    assert found[0] == found[1]
    once = len(reads)
    assert facts.nonzeros == (np.count_nonzero(facts.rows) if mode is None else None)
    if not is_kept:
        facts.rows[3, 2] = 1000
    facts.renew()
    assert facts.range[1] == (100 if is_kept else 1000)
    assert (facts.check_sum == found[0][1]) == is_kept
    assert len(reads) == (once if is_kept else 2 * once)


def test_a_split_keeps_its_facts_as_long_as_its_images(make_rows):
    rows = nn.Split(make_rows(), np.arange(60) % 3)
    assert replace(rows, weights=np.ones(60)).facts is rows.facts
    other = replace(rows, images=rows.images[::-1])
    assert other.facts.rows is other.images
    assert nn.Split(rows.images, rows.labels).facts is not rows.facts


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_mapped_rows_are_read_once_at_most_before_the_first_step(make_rows, reads, dtype):
    folder = make_rows(dtype, "r").filename.parent
    np.save(folder / "labels.npy", np.arange(60) % 3)
    data = nn.load_dataset(folder)
    reads_of_load = len(reads)

    class Stop(nn.Callback):
        def on_train_begin(self, run):
            run.stop()

    nn.train(nn.MLP([FEATURES, 3], backend="numpy"), data, epochs=1, batch_size=8, callbacks=[Stop()])
    assert data.train.facts.range == (0, 100)
    assert len(reads) == reads_of_load
    assert len(set(reads)) == len(reads)
    assert {count for _, count in reads} == {48, 12}
