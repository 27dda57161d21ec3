"""One of xpnn's backends as a contestant."""

from __future__ import annotations

from ..backends import Plan, TrainingJob
from ..nn import MLP, Dataset
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

    def run_epoch(self) -> float:
        """See `Contestant.run_epoch`."""
        return self.plan.run(self.order).loss

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        return self.net.predict(self.test)
