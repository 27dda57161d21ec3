"""Random generators, made of seeds."""

from __future__ import annotations

import numpy as np

from ...backends import ConfigError
from .arguments import is_whole


def make_generator(seed: int | np.random.Generator, *, stream: int | None = None) -> np.random.Generator:
    """Return a generator for a seed, or the generator itself.

    Args:
        seed: a whole number >= 0, or a generator.
        stream: generators of one seed and different streams are independent of each other.

    Raises:
        ConfigError: the seed is neither.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if not is_whole(seed, least=0):
        raise ConfigError(f"seed must be a whole number >= 0 or a numpy.random.Generator, got {seed!r}")
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=() if stream is None else (stream,)))
