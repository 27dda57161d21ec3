"""A kernel whose result is wrong if a thread goes ahead of the others, or is missing."""

import numpy as np
from xpnn.backends.numba.compiler.compile import kernel
from xpnn.backends.numba.compiler.team import wait_for_all


@kernel
def add_neighbours(side, rounds, numbers):
    """In each round a thread's number becomes its own and its neighbour's sum; numbers is (threads, 2)."""
    for turn in range(rounds):
        old, new = turn % 2, 1 - turn % 2
        numbers[side.me, new] = numbers[side.me, old] + numbers[(side.me + 1) % side.threads, old]
        wait_for_all(side)


def neighbours_added(team, threads, rounds=3):
    """What the team makes of 1, 2, 3, ... by `add_neighbours`."""
    numbers = np.zeros((threads, 2), dtype=np.int64)
    numbers[:, 0] = np.arange(1, threads + 1)
    team.run(add_neighbours, rounds, numbers)
    return numbers[:, rounds % 2].tolist()


def expected_sums(threads, rounds=3):
    """The same by NumPy."""
    numbers = np.arange(1, threads + 1)
    for _ in range(rounds):
        numbers = numbers + np.roll(numbers, -1)
    return numbers.tolist()
