"""Which backend an estimator trains on: trainings of a second or less never wait for a compiler or a device."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...backends import Backend, JobOutline, get_backend
from ...backends.machine import memory_bytes

LIKELY_EPOCHS = 200  # `max_iter` is an upper bound that most trainings stay far below
STEP_SECONDS = 2e-4  # of NumPy's calls for one step
MULTIPLY_ADDS_PER_SECOND = 5e9
SMALL_SECONDS = 1.0  # of a training on NumPy, so estimated; measuring alone takes 30 ms


def choose_backend(name: str, job: JobOutline) -> Backend:
    """Return the backend of that name; for "auto" the one that is expected to finish first.

    Args:
        name: as `get_backend` takes it.
        job: the training, with as many epochs as it may take.

    Raises:
        BackendUnavailable: the backend cannot be had on this machine.
        ConfigError: there is no such backend.
    """
    if name != "auto":
        return get_backend(name)
    seconds = job.steps * STEP_SECONDS + job.rows_in_all * job.multiply_adds_of_row / MULTIPLY_ADDS_PER_SECOND
    weights = sum(in_features * out_features for in_features, out_features in pairwise(job.sizes))
    # Weights that do not fit into the memory are refused by the network; measuring them would take it all before.
    is_measurable = seconds >= SMALL_SECONDS and weights * np.dtype(job.dtype).itemsize <= memory_bytes()
    return get_backend("auto", job=job) if is_measurable else get_backend("numpy")
