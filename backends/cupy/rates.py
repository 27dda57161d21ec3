"""What the kernels are told of each step besides its rows: `Rates` of cuda/optimizers.cuh."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..optimizers import Adam
from ..plan import TrainingJob

FIELDS = 5  # of `Rates`


def rates_of(job: TrainingJob, first_step: int, sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rates of as many steps as there are sizes, (steps, FIELDS).

    Learning rate, Adam's two corrections, strength of the penalty, epsilon; what an optimizer has no use for is 1.

    Args:
        job: the training.
        first_step: number of the first of the steps, from 1.
        sizes: what the mean of each step is over, (steps,).
    """
    optimizer, steps = job.optimizer, len(sizes)
    rates = np.ones((steps, FIELDS))
    rates[:, 0] = job.learning_rates(first_step, steps)
    rates[:, 3] = job.l2 / sizes if job.l2_per_batch else job.l2
    rates[:, 4] = getattr(optimizer, "epsilon", 1.0)
    if isinstance(optimizer, Adam):
        numbers = np.arange(first_step, first_step + steps)
        rates[:, 1] = 1 - optimizer.beta_1**numbers
        rates[:, 2] = 1 - optimizer.beta_2**numbers
        if optimizer.epsilon_hat:
            rates[:, 4] /= np.sqrt(rates[:, 2])
    return rates
