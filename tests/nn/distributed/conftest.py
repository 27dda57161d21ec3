"""The rows that the ranks of these tests train on, and chunks after which they can stop."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.nn.training import loop as training_loop

from .small_training import CLASSES, FEATURES, ROWS


@pytest.fixture(scope="module")
def data():
    """163 training rows and 37 test rows of 12 pixels, in three classes."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (ROWS + 37, FEATURES), dtype=np.uint8)  # (rows, features)
    labels = np.argmax(images[:, :CLASSES], axis=1).astype(np.int64)  # (rows,)
    return nn.Dataset(
        "small", nn.Split(images[:ROWS], labels[:ROWS]), nn.Split(images[ROWS:], labels[ROWS:]),
        nn.Pixels(shape=(3, 4), class_names=("a", "b", "c")),
    )  # fmt: skip


@pytest.fixture
def one_batch_chunks(monkeypatch):
    """Chunks of a single batch, so that a run can stop after every step."""
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)
