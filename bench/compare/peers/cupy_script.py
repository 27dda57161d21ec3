"""The plain script over CuPy: every operation is a kernel that the host launches."""

from __future__ import annotations

from ....backends.cupy.start import start_cupy
from ..contestant import Array, Orders, Task
from .script import Script


class CuPyScript(Script):
    """`PlainNumPy` on float32 images on the device; nothing is read before a turn has been queued."""

    compiles = True  # CuPy compiles each kernel when it is first used

    def __init__(self, task: Task, *, device: str = "cuda") -> None:  # noqa: ARG002 - there is no other for CuPy
        super().__init__(task)
        self.xp = start_cupy()

    @classmethod
    def check_device(cls, device: str) -> None:  # noqa: ARG003
        """See `Contestant.check_device`."""
        start_cupy()

    def take_orders(self, orders: Orders) -> None:
        """See `Contestant.take_orders`."""
        self.orders = [None if order is None else self.xp.array(order) for order in orders]

    def run_epochs(self) -> float:
        """See `Contestant.run_epochs`."""
        losses = [self.script.run_epoch(order) for order in self.orders]
        return float(self.xp.asnumpy(losses[0]))

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        classes: Array = self.xp.asnumpy(super().predict())
        return classes

    def synchronize(self) -> None:
        """See `Contestant.synchronize`."""
        self.xp.cuda.runtime.deviceSynchronize()
