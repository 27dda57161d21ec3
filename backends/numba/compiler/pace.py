"""Pace of a team: how many of its threads take part, since more are slower where other processes keep cores busy."""

from __future__ import annotations

import sys

# Seconds of steps between two looks at the team: a run's start and end cost some 0.1 ms, and processes take turns on a
# busy core within some 10 ms.
CHUNK_SECONDS = 0.05
TRIAL_SECONDS = 0.02
# Share of its cores' time that a team gets, below which a smaller one is tried: threads that wait use theirs, too.
BUSY = 0.9
# A trial's team is kept if its steps take less than this factor of the time before.
GAIN = 0.95
# Seconds between trials, doubled after each that changed nothing, so many times at most.
PATIENCE, MOST_DOUBLINGS = 0.1, 5


class Pace:
    """Number of threads for the next steps, by how long the last ones took.

    A smaller team is tried where others use the cores, and a larger one again from time to time. What a trial costs is
    bounded by its length and by the time between trials. No result depends on the number of threads.

    Args:
        most: threads of the whole team.
        first: how many begin.
    """

    def __init__(self, most: int, first: int) -> None:
        self.threads = self._settled = first
        self._most = most
        self._batch_seconds = 0.0  # with the settled number
        self._seconds, self._core_seconds, self._failed = 0.0, 0.0, 0  # since the last trial; trials without a gain

    def batches(self) -> int:
        """Return the number of batches of the next chunk: 1 if no time is known yet, all for a single thread."""
        if self._most == 1:
            return sys.maxsize
        seconds = CHUNK_SECONDS if self.threads == self._settled else TRIAL_SECONDS
        return max(int(seconds / self._batch_seconds), 1) if self._batch_seconds else 1

    def note(self, batches: int, seconds: float, core_seconds: float) -> None:
        """Record the time of a chunk, and choose the threads of the next.

        Args:
            batches: number of steps in the chunk.
            seconds: duration of the chunk.
            core_seconds: processor time of all threads in it.
        """
        if self.threads != self._settled:  # a trial
            if seconds / batches < GAIN * self._batch_seconds:
                self._settled, self._batch_seconds, self._failed = self.threads, seconds / batches, 0
            else:
                self._failed += 1
            self.threads, self._seconds, self._core_seconds = self._settled, 0.0, 0.0
            return
        self._batch_seconds = seconds / batches
        self._seconds += seconds
        self._core_seconds += core_seconds
        if self._seconds >= PATIENCE * 2 ** min(self._failed, MOST_DOUBLINGS):
            halvings = 1 + self._failed % self._settled.bit_length()  # the next trial's team is smaller still
            smaller, larger = max(self._settled >> halvings, 1), min(2 * self._settled, self._most)
            self.threads = smaller if self._core_seconds < BUSY * self._settled * self._seconds else larger
