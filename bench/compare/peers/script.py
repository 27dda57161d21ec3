"""The plain script as a contestant, on NumPy and CuPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....backends.cupy.start import start_cupy
from ....backends.override import override
from ....nn import Dataset
from ..contestant import Array, Contestant, Orders, Task, as_float32
from ..plain_numpy import PlainNumPy


class Script(Contestant):
    """`PlainNumPy` on float32 images."""

    xp: Any = np  # whose arrays it computes on
    to_host: Callable[[Any], Array] = staticmethod(np.asarray)

    @override
    def place(self, data: Dataset) -> None:
        put = self.xp.array
        images, self.test = (put(as_float32(split.images, data.scale)) for split in (data.train, data.test))
        self.script = PlainNumPy(self.task, images, put(data.train.labels), xp=self.xp)

    @override
    def run_epochs(self) -> float:
        losses = [self.script.run_epoch(order) for order in self.orders]
        return float(self.to_host(losses[0]))

    @override
    def predict(self) -> Array:
        return self.to_host(self.xp.argmax(self.script.forward(self.test)[-1], axis=1))


class CuPyScript(Script):
    """The same on CuPy, one kernel launch per operation, with one read at the end of a turn."""

    compiles = True  # CuPy compiles each kernel when it is first used

    def __init__(self, task: Task, *, device: str = "cuda") -> None:  # noqa: ARG002 - there is no other for CuPy
        super().__init__(task)
        self.xp = start_cupy()
        self.to_host = self.xp.asnumpy

    @classmethod
    @override
    def check_device(cls, device: str) -> None:
        start_cupy()

    @override
    def take_orders(self, orders: Orders) -> None:
        self.orders = [None if order is None else self.xp.array(order) for order in orders]

    @override
    def synchronize(self) -> None:
        self.xp.cuda.runtime.deviceSynchronize()
