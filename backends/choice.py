"""Rule of `get_backend("auto")`: multiply-adds of the training against fixed thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .optimizers import Optimizer

# The backends that `auto` chooses from: the first that runs and whose threshold the job reaches. The rule reads the job
# alone, so the same command gives the same bits whatever the machine's load and the state of its caches. torch, jax and
# the backends of other packages are never chosen.
#
# numba: from about here on NumPy takes ten seconds longer, which is what Numba needs to start and to compile with an
# empty cache. Ten seconds times the multiply-adds of an epoch, divided by NumPy's time of an epoch less Numba's, by
# `xpnn bench --workloads W1,W2,W3,W3a,W4,W5,W6,D3 --contestants numpy,numba` on two cores of an AMD EPYC
# (bench/results/2026-11-21-amd-epyc-2-cores.json), is 1.7e11 (W5) to 2.7e12 (D3), in the median 1.0e12. On one core of
# a busy machine, by the least processor time of five epochs (two for W6 and D3), it is 6e10 to 7.5e11, in the median
# 2.6e11, but dense rows (D3) gain nothing there. 5e11 lies between.
# cupy: an estimate, not measured. Numba on two cores takes one to four minutes for so much work; a GPU takes 10 to 15 s
# to import CuPy, make a context and compile, then seconds.
LEAST_MULTIPLY_ADDS: dict[str, int] = {"cupy": 3 * 10**13, "numba": 5 * 10**11, "numpy": 0}


@dataclass(frozen=True)
class JobOutline:
    """Properties of a training run that determine the backend of `get_backend("auto", job=...)`.

    Attributes:
        sizes: features, units of each hidden layer, outputs.
        rows: training rows.
        epochs: maximum number of epochs.
        optimizer: the optimizer.
        activation: of the hidden layers, a row of `ACTIVATIONS`.
        loss: name of a loss, as in `parse_loss`.
        has_sparse_rows: whether the rows are sparse; they count as dense ones, since an update takes all weights.
        uses_lbfgs: whether it is trained by L-BFGS, which no backend compiles.
    """

    sizes: tuple[int, ...]
    rows: int
    epochs: int
    optimizer: Optimizer
    activation: str = "relu"
    loss: str = "softmax_cross_entropy"
    has_sparse_rows: bool = False
    uses_lbfgs: bool = False

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all epochs: three products per layer and row, one forward and two backward."""
        return 3 * self.rows * self.epochs * sum(a * b for a, b in pairwise(self.sizes))


def reason_for(name: str, job: JobOutline | None) -> str:
    """Return why `auto` chose a backend, without the backends skipped."""
    if job is None:
        return f"auto chose {name}: without a job, the first of {', '.join(LEAST_MULTIPLY_ADDS)} that runs here"
    other = name if LEAST_MULTIPLY_ADDS[name] else "numba"
    work, least = _figure(job.multiply_adds), _figure(LEAST_MULTIPLY_ADDS[other])
    return f"auto chose {name}: {work} multiply-adds, {other} takes {least} or more"


def _figure(number: int) -> str:
    """Format a count with three digits, as 1.23e12."""
    digits, _, power = f"{number:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
