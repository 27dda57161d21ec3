"""PyTorch on a GPU, its whole step in a CUDA graph: gather, forward, backward and a fused optimizer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ....backends import Adam
from .torch_gpu import WARM_UPS, Group, Replay, TorchGPU


class TorchGraph(TorchGPU):
    """A CUDA graph for each kind of group; how: pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs"."""

    def prepare_update(self) -> None:
        """See `TorchGPU.prepare_update`; both optimizers update all parameters in one kernel."""
        rule, on_gpu = self.task.optimizer, self.device.type == "cuda"
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.optimizer: Any
        if isinstance(rule, Adam):
            settings = {"lr": rule.learning_rate, "betas": (rule.beta_1, rule.beta_2), "eps": rule.epsilon}
            self.optimizer = torch.optim.Adam(self.parameters, **settings, fused=True, capturable=on_gpu)
        else:
            self.optimizer = torch.optim.SGD(self.parameters, lr=rule.learning_rate, fused=True)
        self.stream = torch.cuda.Stream(self.device) if on_gpu else None
        self.synchronize()  # what was queued so far is on another stream
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            for size in sorted({size for group in self.groups for size in group}):
                for _ in range(WARM_UPS):
                    self.train_batch(None if self.full else self.rows[:size])
        self.synchronize()

    def reset_update(self) -> None:
        """See `TorchGPU.reset_update`."""
        for state in self.optimizer.state.values():
            for slot in state.values():
                if slot is not None:
                    slot.zero_()

    def make_replay(self, group: Group) -> Replay:
        """See `TorchGPU.make_replay`."""
        if self.stream is None:
            return lambda: self.run_group(group, self.train_batch)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.run_group(group, self.train_batch)
        replay: Replay = graph.replay
        return replay

    def train_batch(self, rows: Any) -> Any:
        """Train on one batch, (batch,) integers or None for all rows, and return its mean loss, ()."""
        x = self.images if rows is None else self.images.index_select(0, rows)  # (batch, features)
        labels = self.labels if rows is None else self.labels.index_select(0, rows)  # (batch,)
        loss = cross_entropy(self.logits(self.parameters, x), labels)
        for parameter, grad in zip(self.parameters, torch.autograd.grad(loss, self.parameters), strict=True):
            parameter.grad = grad
        self.optimizer.step()
        return loss.detach()
