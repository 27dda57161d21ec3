"""Damage to a file's bytes, of the kinds that get through: a reader must refuse or survive all of it."""

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

# Damaged files of each reader in `nox -s thorough`: 100,000. Few of them are those that cost a process, which decodes
# the file, or a compilation.
FILES = {
    "IDX": 9_000,
    "IDX in gzip": 8_000,
    "IDX of EMNIST and QMNIST": 5_000,
    ".npz, stored": 7_000,
    ".npz, compressed": 8_000,
    "folders of .npy": 8_000,
    ".csv and .tsv": 12_000,
    ".csv in .gz": 5_000,
    ".csv in .zip": 5_000,
    ".parquet": 400,
    "rows for xpnn predict": 3_000,
    "pictures": 4_600,
    "config.json": 5_000,
    "models": 8_500,
    "checkpoints": 8_000,
    "checkpoints, resumed": 3_000,
    "kernel cache files": 500,
}
MOST_EDITS = 4  # one reaches deep into a reader, several get past what one check catches
MOST_INSERTED = 16  # bytes
NUMBERS = (0, 1, 2, 2**7 - 1, 2**7, 2**8 - 1, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
WRITTEN = tuple(
    dict.fromkeys(
        number.to_bytes(width, order)
        for width in (1, 2, 4, 8)
        for number in NUMBERS
        if number < 256**width
        for order in ("big", "little")
    )
)  # where a reader's own numbers wrap, change sign or no longer fit


def mutated(content: bytes, tokens: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged copies: one to `MOST_EDITS` edits of a valid file, in any places.

    Args:
        content: the file as it should be.
        tokens: what means something in its format, such as names, brackets and magic numbers; where there are any,
            they are written over other bytes and in between.
    """
    edits = EDITS if tokens else EDITS[:-2]
    return _damage(content, tuple(tokens), edits)


@st.composite
def _damage(draw, content: bytes, tokens: tuple[bytes, ...], edits: tuple[Callable[..., bytes], ...]) -> bytes:
    for _ in range(draw(st.integers(1, MOST_EDITS))):
        content = draw(st.sampled_from(edits))(draw, content, tokens)
    return content


def _place(draw, content: bytes) -> int:
    """Give a place in [0, length], as often from the end, where zip and others keep their tables, as from the start."""
    place = draw(st.integers(0, len(content)))
    return len(content) - place if draw(st.booleans()) else place


def _slice(draw, content: bytes) -> tuple[int, int]:
    start, end = sorted((_place(draw, content), _place(draw, content)))
    return start, end


def flip_a_bit(draw, content: bytes, _) -> bytes:
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[place : place + 1])
    return content[:place] + flipped + content[place + 1 :]


def change_a_byte(draw, content: bytes, _) -> bytes:
    return _over(content, _place(draw, content), bytes([draw(st.integers(0, 255))]))


def insert_bytes(draw, content: bytes, _) -> bytes:
    return _between(content, _place(draw, content), draw(st.binary(min_size=1, max_size=MOST_INSERTED)))


def delete_a_slice(draw, content: bytes, _) -> bytes:
    start, end = _slice(draw, content)
    return content[:start] + content[end:]


def delete_a_few_bytes(draw, content: bytes, _) -> bytes:
    place = _place(draw, content)
    return content[:place] + content[place + draw(st.integers(1, 4)) :]


def cut_off(draw, content: bytes, _) -> bytes:
    return content[: _place(draw, content)]


def repeat_a_slice(draw, content: bytes, _) -> bytes:
    start, end = _slice(draw, content)
    return _between(content, _place(draw, content), content[start:end])


def swap_slices(draw, content: bytes, _) -> bytes:
    a, b, c, d = sorted(_place(draw, content) for _ in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def write_a_number(draw, content: bytes, _) -> bytes:
    return _over(content, _place(draw, content), draw(st.sampled_from(WRITTEN)))


def write_a_token(draw, content: bytes, tokens: tuple[bytes, ...]) -> bytes:
    return _over(content, _place(draw, content), draw(st.sampled_from(tokens)))


def insert_a_token(draw, content: bytes, tokens: tuple[bytes, ...]) -> bytes:
    return _between(content, _place(draw, content), draw(st.sampled_from(tokens)))


EDITS = (flip_a_bit, change_a_byte, insert_bytes, delete_a_slice, delete_a_few_bytes, cut_off, repeat_a_slice,
         swap_slices, write_a_number, write_a_token, insert_a_token)  # fmt: skip # those with tokens last


def _over(content: bytes, place: int, written: bytes) -> bytes:
    return content[:place] + written + content[place + len(written) :]


def _between(content: bytes, place: int, inserted: bytes) -> bytes:
    return content[:place] + inserted + content[place:]
