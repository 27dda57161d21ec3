"""One of xpnn's backends as a contestant."""

from __future__ import annotations

from ...backends import Plan, TrainingJob
from ...nn import MLP, Dataset
from .contestant import Array, Contestant, Task


class BackendContestant(Contestant):
    """The plan of a backend, as `nn.train` runs it, and `net.predict`; images stay as they came.

    Args:
        task: what is to be done.
        backend: its name.
    """

    compiles = True

    def __init__(self, task: Task, *, backend: str) -> None:
        super().__init__(task)
        self.net = MLP(task.sizes, activation=task.activation, backend=backend)
        self.net.load_parameters(dict(zip(self.net.parameters(), task.start, strict=True)))

    def place(self, data: Dataset) -> None:
        """See `Contestant.place`."""
        self.net.adopt(data)
        self.rows = self.net.backend.place(data.train.images, data.train.labels, data.scale)
        self.test = data.test.images

    def compile(self) -> None:
        """See `Contestant.compile`."""
        job = TrainingJob(self.net.layers, self.task.optimizer, self.rows, self.task.batch_size)
        self.plan: Plan = self.net.backend.compile(job)
        self.description = self.plan.description

    def run_epochs(self) -> float:
        """See `Contestant.run_epochs`; a plan's run ends with a read from the device."""
        if all(order is None for order in self.orders):
            return self.plan.run_epochs(len(self.orders))[0].loss
        totals = [self.plan.run(order) for order in self.orders]
        return totals[0].loss

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        classes: Array = self.net.predict(self.test)
        return classes

    def synchronize(self) -> None:
        """See `Contestant.synchronize`; a read waits for what was queued before it."""
        self.net.backend.to_numpy(self.net.layers[-1].bias)  # (classes,)
