"""What the tests of training share."""

import pytest
from xpnn.nn.training import loop as training_loop


@pytest.fixture
def one_batch_chunks(monkeypatch):
    """Chunks of a single batch, so that a run can stop after every step."""
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)
