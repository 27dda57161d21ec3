"""PyTorch on a GPU: what its peers there have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from ....nn import Dataset
from ..contestant import Array, Orders, Task
from ..gpus import no_device
from .torch_peer import TorchEager

WARM_UPS = 3  # steps before anything is captured: libraries make handles and choose kernels in them

Group = tuple[int, ...]  # the batch sizes of the steps that are queued by one call
Replay = Callable[[], None]
Call = tuple[Replay, Any, Any]  # and the part of the buffer that is filled before it, with what; or None twice


class TorchGPU(TorchEager):
    """Data on the device as float32, an epoch cut into groups of steps; each group is queued by one call.

    A group reads its rows from `self.rows`, which is filled before each call. A full batch has no rows to gather, and
    its groups go over the turn's epochs.

    Args:
        task: what is to be done.
        device: "cuda"; or "cpu" in tests, where the same steps run without a graph.
        steps: of a group; None for all of an epoch.
        tf32: whether products of float32 matrices may round their inputs to TF32.
    """

    compiles = True

    def __init__(self, task: Task, *, device: str = "cuda", steps: int | None = 1, tf32: bool = False) -> None:
        super().__init__(task)
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        self.device, self.steps = torch.device(device), steps

    @classmethod
    def check_device(cls, device: str) -> None:
        """See `Contestant.check_device`."""
        try:
            torch.zeros((), device=device).item()
        except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without CUDA
            raise no_device(f"PyTorch {torch.__version__}", error, "take a PyTorch that was built for CUDA") from error

    def place(self, data: Dataset) -> None:
        """See `Contestant.place`."""
        super().place(data)
        self.images, self.labels, self.test = (x.to(self.device) for x in (self.images, self.labels, self.test))
        self.parameters = [parameter.to(self.device) for parameter in self.parameters]
        self.start = [parameter.clone() for parameter in self.parameters]

    def compile(self) -> None:
        """See `Contestant.compile`: warm up, make each kind of group, and go back to the start."""
        count, size, epochs = len(self.labels), self.task.batch_size, self.task.epochs
        self.full = size >= count
        sizes = [count] * epochs if self.full else [min(size, count - start) for start in range(0, count, size)]
        steps = self.steps or (1 if self.full else len(sizes))
        self.groups: list[Group] = [tuple(sizes[start : start + steps]) for start in range(0, len(sizes), steps)]
        self.rows = torch.arange(min(count, steps * size), device=self.device)  # (rows of the largest group,)
        self.loss_sums = torch.zeros(steps if self.full else 1, device=self.device)  # of each epoch in a group
        self.first_loss = torch.zeros((), device=self.device)
        self.prepare_update()
        self.replays: dict[Group, Replay] = {group: self.make_replay(group) for group in sorted(set(self.groups))}
        for parameter, start in zip(self.parameters, self.start, strict=True):
            parameter.detach().copy_(start)
        self.reset_update()
        self.synchronize()

    @abstractmethod
    def prepare_update(self) -> None:
        """Make the optimizer and its state."""

    @abstractmethod
    def reset_update(self) -> None:
        """Bring the optimizer's state back to what it was before the first step, in place."""

    @abstractmethod
    def make_replay(self, group: Group) -> Replay:
        """Return what queues the steps of one group; steps may be taken on the way."""

    def run_group(self, group: Group, step: Callable[[Any], Any]) -> None:
        """Take the steps of a group one after the other, and add their losses to the sums.

        Args:
            group: the sizes of its batches.
            step: rows (batch,), or None for all -> mean loss, ().
        """
        ends = list(accumulate(group))
        for number, (size, end) in enumerate(zip(group, ends, strict=True)):
            loss = step(None if self.full else self.rows[end - size : end])
            self.loss_sums[number if self.full else 0].add_(loss, alpha=size)

    def take_orders(self, orders: Orders) -> None:
        """See `Contestant.take_orders`: every call of the turn, with the rows that it takes and where they go."""
        if self.full:
            self.calls: list[Call] = [(self.replays[group], None, None) for group in self.groups]
            return
        self.calls = []
        for order in orders:
            rows = torch.from_numpy(np.array(order)).to(self.device).split([sum(group) for group in self.groups])
            self.calls += [
                (self.replays[group], self.rows[: len(part)], part)
                for group, part in zip(self.groups, rows, strict=True)
            ]

    def run_epochs(self) -> float:
        """See `Contestant.run_epochs`; the loss of the first epoch is put aside on the device."""
        calls_of_first_epoch = 1 if self.full else len(self.groups)
        self.loss_sums.zero_()
        for number, (replay, buffer, rows) in enumerate(self.calls, start=1):
            if buffer is not None:
                buffer.copy_(rows)
            replay()
            if number == calls_of_first_epoch:
                self.first_loss.copy_(self.loss_sums[0])
        return float(self.first_loss) / len(self.labels)

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        with torch.inference_mode():
            classes: Array = self.logits(self.parameters, self.test).argmax(dim=1).cpu().numpy()
        return classes

    def synchronize(self) -> None:
        """See `Contestant.synchronize`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
