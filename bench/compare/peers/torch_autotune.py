"""PyTorch on a GPU, its step compiled by `torch.compile(mode="max-autotune")`, which makes CUDA graphs of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ....backends import Adam
from ..contestant import Task
from .torch_gpu import WARM_UPS, Group, Replay, TorchGPU


class TorchMaxAutotune(TorchGPU):
    """One compiled function for each size of batch; all tensors that it changes stay where they are.

    Args:
        task: what is to be done.
        device: "cuda", or "cpu" in tests.
        mode: of `torch.compile`.
    """

    def __init__(self, task: Task, *, device: str = "cuda", mode: str = "max-autotune") -> None:
        super().__init__(task, device=device, steps=1)
        self.mode = mode if self.device.type == "cuda" else "default"  # tuning for a CPU takes minutes

    def prepare_update(self) -> None:
        """See `TorchGPU.prepare_update`."""
        torch.compiler.reset()  # the graphs of the workload before
        # Steps so far, (1,): PyTorch 2.13 loses what a compiled function adds to a float64 of shape () on a CPU.
        self.count = torch.zeros(1, dtype=torch.float64, device=self.device)
        self.moments = [(torch.zeros_like(parameter), torch.zeros_like(parameter)) for parameter in self.parameters]
        kept = [self.images, self.labels, self.rows, self.loss_sums, self.count, *self.parameters]
        for tensor in (*kept, *(slot for slots in self.moments for slot in slots)):
            # Else its graphs would copy every input before each step, and refuse those that are changed in place.
            torch._dynamo.mark_static_address(tensor)

    def reset_update(self) -> None:
        """See `TorchGPU.reset_update`."""
        for tensor in (self.count, *(slot for slots in self.moments for slot in slots)):
            tensor.zero_()

    def make_replay(self, group: Group) -> Replay:
        """See `TorchGPU.make_replay`; the first calls compile, tune and capture."""
        (size,) = group
        train = torch.compile(self.train_batch, mode=self.mode, dynamic=False, fullgraph=True)
        tensors = (self.parameters, self.moments, self.count, self.images, self.labels, self.rows, self.loss_sums)

        def replay() -> None:
            torch.compiler.cudagraph_mark_step_begin()
            train(*tensors, size)

        for _ in range(WARM_UPS):
            replay()
        return replay

    def train_batch(
        self,
        parameters: list[Any],
        moments: list[Any],
        count: Any,
        images: Any,
        labels: Any,
        rows: Any,
        loss_sums: Any,
        size: int,
    ) -> None:
        """Train on the first `size` of `rows`, or on all where the batch is full; no result, no input but in place."""
        rule = self.task.optimizer
        x, labels = (images, labels) if self.full else (images[rows[:size]], labels[rows[:size]])

        def loss_of(parameters: list[Any]) -> Any:
            return cross_entropy(self.logits(parameters, x), labels)

        grads, loss = torch.func.grad_and_value(loss_of)(parameters)
        count.add_(1)
        mean_share, square_share = 1.0, 1.0
        if isinstance(rule, Adam):
            mean_share, square_share = ((1 - beta**count).float() for beta in (rule.beta_1, rule.beta_2))
        for parameter, grad, (mean, square) in zip(parameters, grads, moments, strict=True):
            if isinstance(rule, Adam):
                mean.lerp_(grad, 1 - rule.beta_1)
                square.lerp_(grad * grad, 1 - rule.beta_2)
                root = (square / square_share).sqrt() + rule.epsilon
                parameter.sub_(rule.learning_rate * mean / mean_share / root)
            else:
                parameter.sub_(grad, alpha=rule.learning_rate)
        loss_sums[0].add_(loss, alpha=size)
