"""PyTorch peers on a GPU: steps in CUDA graphs, captured here or by `torch.compile(mode="max-autotune")`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ....backends import Adam
from ....backends.override import override
from ....nn import Dataset
from ..contestant import Orders, Task, no_device
from .torch_peer import TorchEager, fused_adam, take

WARM_UPS = 3  # steps before anything is captured: libraries make handles and choose kernels in them

Group = tuple[int, ...]  # the batch sizes of the steps that are queued by one call
Replay = Callable[[], None]
Call = tuple[Replay, Any, Any]  # and the part of the buffer that is filled before it, with what; or None twice


class TorchGPU(TorchEager):
    """Float32 data on the device, and epochs divided into groups of steps, each queued by one call.

    A group reads its rows from `self.rows`, filled before each call. Full batches gather no rows, and their groups span
    the epochs of a turn.

    `steps` is the number of steps per group; None for an epoch. On the device "cpu", in tests, the same steps run
    without a graph.
    """

    compiles = True

    def __init__(self, task: Task, *, device: str = "cuda", steps: int | None = 1, tf32: bool = False) -> None:
        super().__init__(task)
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        self.device, self.steps = torch.device(device), steps

    @classmethod
    @override
    def check_device(cls, device: str) -> None:
        try:
            torch.zeros((), device=device).item()
        except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without CUDA
            raise no_device(f"PyTorch {torch.__version__}", error, "take a PyTorch that was built for CUDA") from error

    @override
    def place(self, data: Dataset) -> None:
        super().place(data)
        self.images, self.labels, self.test = (x.to(self.device) for x in (self.images, self.labels, self.test))
        self.parameters = [parameter.to(self.device) for parameter in self.parameters]
        self.start = [parameter.clone() for parameter in self.parameters]

    @override
    def compile(self) -> None:
        """Warm up, capture each kind of group, and restore the initial state."""
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
        """Create the optimizer and its state."""

    @abstractmethod
    def reset_update(self) -> None:
        """Reset the optimizer's state in place."""

    @abstractmethod
    def make_replay(self, group: Group) -> Replay:
        """Return a function that queues the steps of a group; it may run steps meanwhile."""

    @override
    def take_orders(self, orders: Orders) -> None:
        """Set every call of the turn, with its rows and their destination."""
        if self.full:
            self.calls: list[Call] = [(self.replays[group], None, None) for group in self.groups]
            return
        self.calls = []
        for order in orders:
            rows = torch.from_numpy(np.array(order)).to(self.device).split([sum(group) for group in self.groups])
            for group, part in zip(self.groups, rows, strict=True):
                self.calls.append((self.replays[group], self.rows[: len(part)], part))

    @override
    def run_epochs(self) -> float:
        """Run the epochs; the loss of the first one is kept on the device."""
        calls_of_first_epoch = 1 if self.full else len(self.groups)
        self.loss_sums.zero_()
        for number, (replay, buffer, rows) in enumerate(self.calls, start=1):
            if buffer is not None:
                buffer.copy_(rows)
            replay()
            if number == calls_of_first_epoch:
                self.first_loss.copy_(self.loss_sums[0])
        return float(self.first_loss) / len(self.labels)

    @override
    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class TorchGraph(TorchGPU):
    """One CUDA graph for each kind of group; source: pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs"."""

    @override
    def prepare_update(self) -> None:
        """Create the optimizer; either one updates all parameters in one kernel."""
        rule, on_gpu = self.task.optimizer, self.device.type == "cuda"
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.optimizer: Any
        if isinstance(rule, Adam):
            self.optimizer = fused_adam(self.parameters, rule, capturable=on_gpu)
        else:
            self.optimizer = torch.optim.SGD(self.parameters, lr=rule.learning_rate, fused=True)
        self.stream = torch.cuda.Stream(self.device) if on_gpu else None
        self.synchronize()  # what was queued so far is on another stream
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            for size in sorted({size for group in self.groups for size in group}):
                for _ in range(WARM_UPS):
                    self.train_batch(None if self.full else self.rows[:size])
        self.synchronize()

    @override
    def reset_update(self) -> None:
        for state in self.optimizer.state.values():
            for slot in state.values():
                if slot is not None:
                    slot.zero_()

    @override
    def make_replay(self, group: Group) -> Replay:
        if self.stream is None:
            return lambda: self.run_group(group)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.run_group(group)
        replay: Replay = graph.replay
        return replay

    def run_group(self, group: Group) -> None:
        """Run the steps of a group, and add their losses to the sums."""
        for number, (size, end) in enumerate(zip(group, accumulate(group), strict=True)):
            loss = self.train_batch(None if self.full else self.rows[end - size : end])
            self.loss_sums[number if self.full else 0].add_(loss, alpha=size)

    def train_batch(self, rows: Any) -> Any:
        """Train on one batch, (batch,) integers or None for all rows, and return its mean loss, ()."""
        loss = cross_entropy(self.logits(self.parameters, take(self.images, rows)), take(self.labels, rows))
        for parameter, grad in zip(self.parameters, torch.autograd.grad(loss, self.parameters), strict=True):
            parameter.grad = grad
        self.optimizer.step()
        return loss.detach()


class TorchMaxAutotune(TorchGPU):
    """One compiled function for each batch size, which updates tensors in place."""

    @override
    def prepare_update(self) -> None:
        torch.compiler.reset()  # the graphs of the workload before
        self.make_state()
        self.state = [self.count, *(slot for slots in self.moments for slot in slots)]
        for tensor in (self.images, self.labels, self.rows, self.loss_sums, *self.parameters, *self.state):
            # Else its graphs would copy every input before each step, and refuse those that are changed in place.
            torch._dynamo.mark_static_address(tensor)

    @override
    def reset_update(self) -> None:
        for tensor in self.state:
            tensor.zero_()

    @override
    def make_replay(self, group: Group) -> Replay:
        """Return the replay; its first calls compile, tune and capture."""
        (size,) = group
        mode = "max-autotune" if self.device.type == "cuda" else "default"  # tuning for a CPU takes minutes
        train = torch.compile(self.train_batch, mode=mode, dynamic=False, fullgraph=True)

        def replay() -> None:
            torch.compiler.cudagraph_mark_step_begin()
            train(size, self.loss_sums, self.rows, *self.tensors)

        for _ in range(WARM_UPS):
            replay()
        return replay

    def train_batch(self, size: int, loss_sums: Any, rows: Any, *tensors: Any) -> None:
        """Train on the first `size` of `rows`, or on all for a full batch, in place and without arguments."""
        loss = self.functional_step(None if self.full else rows[:size], *tensors)
        loss_sums[0].add_(loss, alpha=size)
