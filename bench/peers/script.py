"""The plain NumPy script as a contestant."""

from __future__ import annotations

import numpy as np

from ...nn import Dataset
from ..contestant import Array, Contestant, as_float32
from ..plain_numpy import PlainNumPy


class Script(Contestant):
    """`PlainNumPy` on float32 images."""

    def place(self, data: Dataset) -> None:
        """See `Contestant.place`."""
        task, images = self.task, as_float32(data.train.images, data.scale)
        self.test = as_float32(data.test.images, data.scale)
        self.script = PlainNumPy(
            task.start, images, data.train.labels, task.optimizer, task.batch_size, activation=task.activation
        )

    def compile(self) -> None:
        """See `Contestant.compile`; nothing."""

    def run_epoch(self) -> float:
        """See `Contestant.run_epoch`."""
        return self.script.run_epoch(self.order)

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        classes: Array = np.argmax(self.script.forward(self.test)[-1], axis=1)
        return classes
