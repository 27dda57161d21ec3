"""Splits: disjoint, complete, repeatable, and in the classes' shares."""

import numpy as np
import pytest
from xpnn.backends.errors import ConfigError, DataError
from xpnn.nn import Pixels
from xpnn.nn.datasets import Dataset, Split, resplit, split_places


def rows(counts):
    labels = np.repeat(np.arange(len(counts)), counts)  # (samples,)
    images = np.stack([np.arange(len(labels)), labels * 1000], axis=1).astype(np.float32)  # (samples, 2)
    return images, labels


def split(counts, **options):
    images, labels = rows(counts)
    places = split_places(labels, **{"test_fraction": 0.25, "seed": 0} | options)
    return tuple(Split(images, labels).take(at) for at in places)


@pytest.mark.parametrize("stratify", [False, True])
def test_every_row_lands_in_one_part_with_its_label(stratify):
    train, test = split([40, 20, 12], stratify=stratify)
    assert (len(train), len(test)) == (54, 18)
    together = np.concatenate([train.images[:, 0], test.images[:, 0]])
    assert sorted(together) == list(range(72))
    for part in (train, test):
        np.testing.assert_array_equal(part.images[:, 1], part.labels * 1000)
        assert part.labels.dtype == np.int64


@pytest.mark.parametrize("stratify", [False, True])
def test_rows_are_shuffled_by_the_seed_alone(stratify):
    first, again, other = (split([40, 30], stratify=stratify, seed=seed) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.images, two.images)
    assert not np.array_equal(first[1].images, other[1].images)
    for part in first:
        assert np.any(np.diff(part.images[:, 0]) < 0)
        assert np.any(np.diff(part.labels) < 0)


def test_a_generator_is_used_and_moved():
    generator = np.random.default_rng(3)
    first, second = split([40, 30], seed=generator), split([40, 30], seed=generator)
    np.testing.assert_array_equal(first[1].images, split([40, 30], seed=3)[1].images)
    assert not np.array_equal(first[1].images, second[1].images)


def test_the_split_is_a_permutation_cut_once():
    train, test = split([5, 5], test_fraction=0.3, seed=7)
    order = np.random.default_rng(7).permutation(10)
    assert test.images[:, 0].tolist() == order[:3].tolist()
    assert train.images[:, 0].tolist() == order[3:].tolist()


@pytest.mark.parametrize(("fraction", "expected"), [(0.25, [10, 5, 1]), (0.5, [20, 10, 1]), (0.01, [1, 1, 1])])
def test_stratified_shares(fraction, expected):
    train, test = split([40, 20, 2], stratify=True, test_fraction=fraction)
    assert np.bincount(test.labels).tolist() == expected
    assert np.bincount(train.labels).tolist() == [40 - expected[0], 20 - expected[1], 2 - expected[2]]


def test_stratified_keeps_a_row_for_training():
    train, _ = split([10, 2], stratify=True, test_fraction=0.99)
    assert np.bincount(train.labels).tolist() == [1, 1]


def test_half_rows_are_rounded_up():
    assert len(split([5, 5], test_fraction=0.25)[1]) == 3


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(ConfigError, match=rf"test_fraction must be in \(0, 1\), got {fraction}"):
        split([5, 5], test_fraction=fraction)


@pytest.mark.parametrize(("fraction", "left"), [(0.01, "10 for training and 0 for the test"), (0.99, "0 .* and 10")])
def test_an_empty_part_is_refused(fraction, left):
    with pytest.raises(DataError, match=rf"10 rows at test_fraction={fraction} leave {left}"):
        split([5, 5], test_fraction=fraction)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="0 rows"):
        split_places(np.empty(0, np.int64), test_fraction=0.5, seed=0, stratify=True)


def test_a_class_of_one_row_cannot_be_stratified():
    with pytest.raises(DataError, match="got one of class 1"):
        split([5, 1, 5], stratify=True)
    assert len(split([5, 1, 5])[1]) == 3


@pytest.mark.parametrize("seed", [-1, np.int64(-1), "one", 1.5, None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ConfigError, match="seed must be a whole number >= 0 or "):
        split([5, 5], seed=seed)


@pytest.mark.parametrize("stratify", [False, True])
def test_resplit_shuffles_all_rows_of_both_parts(stratify):
    images, labels = rows([30, 30])
    inputs = Pixels(class_names=("a", "b"), count=2, largest=2, shape=(1, 2))
    data = Dataset("d", Split(images[:50], labels[:50]), Split(images[50:], labels[50:]), inputs)
    again = resplit(data, test_fraction=0.1, seed=2, stratify=stratify)
    assert (len(again.train), len(again.test)) == (54, 6)
    together = np.concatenate([again.train.images[:, 0], again.test.images[:, 0]])
    assert sorted(together) == list(range(60))
    assert np.any(again.test.images[:, 0] < 50)
    if not stratify:
        np.testing.assert_array_equal(again.test.images, resplit(data, test_fraction=0.1, seed=2).test.images)
        assert np.bincount(again.test.labels).tolist() != [3, 3]
    assert (again.name, again.inputs) == ("d", inputs)
    if stratify:
        assert np.bincount(again.test.labels).tolist() == [3, 3]
    np.testing.assert_array_equal(
        again.test.images, resplit(data, test_fraction=0.1, seed=2, stratify=stratify).test.images
    )
    assert not np.array_equal(
        again.test.images, resplit(data, test_fraction=0.1, seed=3, stratify=stratify).test.images
    )
