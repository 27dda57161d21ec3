"""Single bits of a checkpoint and of a model flipped: each is noticed on loading."""

import random
from functools import partial

import pytest
from xpnn import nn
from xpnn.backends import ModelFileError


@pytest.fixture
def files(saved_run):
    """A checkpoint and a model, and how each is loaded."""
    return dict(zip(saved_run(40), (nn.Checkpoint.load, partial(nn.load, backend="numpy")), strict=True))


def test_every_flipped_bit_is_noticed(files, amount, show):
    draw, noticed = random.Random(6), 0
    for path, load in files.items():
        sound = path.read_bytes()
        load(path)
        header = 8 + int.from_bytes(sound[:8], "little")
        bits = [8 * at + bit for at in range(header) for bit in draw.sample(range(8), amount(8, slice=1))]
        bits += draw.sample(range(8 * header, 8 * len(sound)), amount(1000, slice=100))
        for bit in bits:
            damaged = bytearray(sound)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(ModelFileError, match=f"{path.name} is damaged, or is no"):
                load(path)
            noticed += 1
        path.write_bytes(sound)
        load(path)
    show(
        6,
        "header bits, and 1,000 payload bits, of a checkpoint and a model flipped",
        f"{noticed:,} of {noticed:,} noticed",
    )


def test_cut_off_anywhere_and_anything_appended(files, amount):
    for path, load in files.items():
        sound = path.read_bytes()
        for length in range(0, len(sound), amount(1, slice=29)):
            path.write_bytes(sound[:length])
            with pytest.raises(ModelFileError, match=f"{path.name} is damaged, or is no"):
                load(path)
        path.write_bytes(sound + b"\0")
        with pytest.raises(ModelFileError, match=f"{path.name} is damaged, or is no"):
            load(path)
