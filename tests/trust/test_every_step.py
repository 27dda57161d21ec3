"""A run that is stopped at any step and resumed ends as one that was not stopped."""

from collections import Counter

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import AdamW, RMSprop
from xpnn.nn.training import loop as training_loop

from ..conftest import EMULATED

NAMES = {EMULATED: "CUDA's kernels built for the host"}
SAME: Counter[str] = Counter()  # backend -> how many ended so
STEPS, EPOCHS, BATCH = 50, 5, 5  # 46 rows: ten steps an epoch, the last of a single row


class Keep(nn.Callback):
    """Keeps a checkpoint after each chunk, and the last state."""

    def __init__(self):
        self.checkpoints = []

    def on_chunk_end(self, run):
        self.checkpoints.append(run.checkpoint())

    def on_train_end(self, run):
        self.end = run.checkpoint()


def everything(checkpoint):
    """All of a checkpoint but the seconds, in a form that `==` compares bit for bit."""
    arrays = checkpoint.parameters | {f"optimizer {name}": array for name, array in checkpoint.optimizer_state.items()}
    history = [(r.epoch, r.train_loss, r.train_accuracy, r.test_loss, r.test_accuracy) for r in checkpoint.history]
    place = (checkpoint.step, checkpoint.epoch, checkpoint.position, checkpoint.totals, checkpoint.generator_state)
    return {name: array.tobytes() for name, array in arrays.items()}, history, place, checkpoint.training


@pytest.mark.parametrize(
    "optimizer", [nn.SGD(0.3), nn.SGD(0.3, momentum=0.9, nesterov=True), RMSprop(0.01), nn.Adam(0.02), AdamW(0.02)],
    ids=["sgd", "nesterov", "rmsprop", "adam", "adamw"],
)  # fmt: skip
def test_resumed_at_every_step(backend, make_data, tmp_path, monkeypatch, request, amount, show, optimizer):

    def train(callbacks=(), **resume):
        net = nn.MLP([6, 5, 3], backend=backend, seed=3)
        nn.train(
            net, make_data(46), optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH, schedule="cosine",
            warmup_steps=3, l2=1e-3, seed=4, callbacks=callbacks, **resume,
        )  # fmt: skip

    large_chunks, whole = Keep(), Keep()
    train([large_chunks])
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)  # from now on, a chunk is a step
    train([whole])
    assert [checkpoint.step for checkpoint in whole.checkpoints] == list(range(1, STEPS + 1))
    assert len(large_chunks.checkpoints) < STEPS
    assert everything(large_chunks.end) == everything(whole.end)
    way = NAMES.get(request.node.callspec.params["xpnn_backend"], backend.name)
    for checkpoint in whole.checkpoints[:: amount(1, slice=20)]:
        checkpoint.save(tmp_path / "here.safetensors")
        rest = Keep()
        train([rest], resume=tmp_path / "here.safetensors")
        assert len(rest.checkpoints) == STEPS - checkpoint.step
        assert everything(rest.end) == everything(whole.end)
        SAME[way] += 1
    show(2, f"resumed at every step of {STEPS}, by each optimizer: {way}", f"{SAME[way]} of {SAME[way]} bit-identical")


@pytest.mark.parametrize("evaluate_every", [1, 3])
def test_full_batches_resumed_after_every_epoch(backend, make_data, tmp_path, monkeypatch, amount, evaluate_every):
    """Full batches may be taken several at once, and stopped between any two."""

    def train(callbacks=(), **resume):
        nn.train(
            nn.MLP([6, 5, 3], backend=backend, seed=3), make_data(46), optimizer=nn.Adam(0.02), epochs=12,
            batch_size=None, evaluate_every=evaluate_every, callbacks=callbacks, **resume,
        )  # fmt: skip

    whole = Keep()
    train([whole])
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)  # one by one, where it was several at once before
    single = Keep()
    train([single])
    assert everything(single.end) == everything(whole.end)
    for checkpoint in single.checkpoints[:: amount(1, slice=5)]:
        checkpoint.save(tmp_path / "here.safetensors")
        rest = Keep()
        train([rest], resume=tmp_path / "here.safetensors")
        assert everything(rest.end) == everything(whole.end)


def test_the_comparison_sees_a_single_bit(make_data):
    keep = Keep()
    nn.train(nn.MLP([6, 3], backend="numpy"), make_data(), epochs=1, batch_size=8, callbacks=[keep])
    before = everything(keep.end)
    weight = keep.end.parameters["layers.0.weight"]
    weight.view(np.uint32)[0, 0] ^= 1
    assert everything(keep.end) != before
