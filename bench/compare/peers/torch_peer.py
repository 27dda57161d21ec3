"""PyTorch peers on the CPU: eager, and with the step compiled by `torch.compile`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear

from ....backends import Adam
from ....backends.override import override
from ....nn import Dataset
from ..contestant import Array, Contestant, Orders, Task, as_float32

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class TorchEager(Contestant):
    """Autograd and `torch.optim.Adam(fused=True)`; plain SGD is updated in place, faster than by its class.

    Weights are (out_features, in_features), as in `torch.nn.Linear`: twice as fast on narrow layers.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        torch.set_num_threads(task.threads)
        self.activation = ACTIVATIONS[task.activation]

    @override
    def place(self, data: Dataset) -> None:
        self.images = torch.from_numpy(as_float32(data.train.images, data.scale))  # (samples, features)
        self.labels = torch.from_numpy(data.train.labels.copy())  # (samples,)
        self.test = torch.from_numpy(as_float32(data.test.images, data.scale))
        self.parameters = [torch.tensor(array.T.copy()) for array in self.task.start]  # a bias is its own transpose

    @override
    def compile(self) -> None:
        self.adam = None
        if isinstance(self.task.optimizer, Adam):
            self.adam = fused_adam(self.parameters, self.task.optimizer)
        for parameter in self.parameters:
            parameter.requires_grad_()

    @override
    def take_orders(self, orders: Orders) -> None:
        size = self.task.batch_size
        self.turn = [None if order is None else torch.from_numpy(order.copy()).split(size) for order in orders]

    @override
    def run_epochs(self) -> float:
        losses = [self.run_epoch(batches) for batches in self.turn]
        return losses[0]

    def run_epoch(self, batches: Any) -> float:
        """Train on batches of rows, or on a full batch for None, and return the mean loss."""
        if batches is None:
            return float(self.step(None))
        loss_sum = torch.zeros(())
        for rows in batches:
            loss_sum += self.step(rows) * len(rows)
        return float(loss_sum) / len(self.labels)

    def step(self, rows: Any) -> Any:
        """Train on one batch, (batch,) integers or None for all rows, and return its mean loss, ()."""
        loss = cross_entropy(self.logits(self.parameters, take(self.images, rows)), take(self.labels, rows))
        if self.adam is not None:
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            return loss.detach()
        grads = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for parameter, grad in zip(self.parameters, grads, strict=True):
                parameter.sub_(grad, alpha=self.task.optimizer.learning_rate)
        return loss.detach()

    def logits(self, parameters: list[Any], x: Any) -> Any:
        """Return the logits, (batch, classes), of inputs (batch, features)."""
        *hidden, (weight, bias) = zip(parameters[0::2], parameters[1::2], strict=True)
        for hidden_weight, hidden_bias in hidden:
            x = self.activation(linear(x, hidden_weight, hidden_bias))  # (batch, units)
        return linear(x, weight, bias)

    def make_state(self) -> None:
        """Create the tensors of `functional_step`, with Adam's step count and moments.

        The count is (1,): PyTorch 2.13 loses what a compiled function adds to a float64 of shape () on a CPU.
        """
        self.count = torch.zeros(1, dtype=torch.float64, device=self.images.device)
        self.moments = [(torch.zeros_like(parameter), torch.zeros_like(parameter)) for parameter in self.parameters]
        self.tensors = (self.parameters, self.moments, self.count, self.images, self.labels)

    def functional_step(
        self, rows: Any, parameters: list[Any], moments: list[Any], count: Any, images: Any, labels: Any
    ) -> Any:
        """Train on one batch as `step` does, in place and without autograd state, so that it can be compiled.

        `rows` are (batch,) integers, or None for all of `images`, (samples, features), and `labels`, (samples,). For
        Adam, `count`, (1,), is the number of steps so far, and `moments` has both moments of each parameter.
        """
        rule = self.task.optimizer
        x, labels = take(images, rows), take(labels, rows)
        if isinstance(rule, Adam):
            count.add_(1)
            mean_correction, square_correction = ((1 - beta**count).float() for beta in (rule.beta_1, rule.beta_2))

        def loss_of(parameters: list[Any]) -> Any:
            return cross_entropy(self.logits(parameters, x), labels)

        grads, loss = torch.func.grad_and_value(loss_of)(parameters)
        for parameter, grad, (mean, square) in zip(parameters, grads, moments, strict=True):
            if isinstance(rule, Adam):
                mean.lerp_(grad, 1 - rule.beta_1)
                square.lerp_(grad * grad, 1 - rule.beta_2)
                root = (square / square_correction).sqrt() + rule.epsilon
                parameter.sub_(rule.learning_rate * mean / mean_correction / root)
            else:
                parameter.sub_(grad, alpha=rule.learning_rate)
        return loss

    @override
    def predict(self) -> Array:
        with torch.inference_mode():
            classes: Array = self.logits(self.parameters, self.test).argmax(dim=1).cpu().numpy()
        return classes


class TorchCompiled(TorchEager):
    """Gather, forward, backward and update in one graph per batch size; predictions as in `TorchEager`."""

    compiles = True

    @override
    def compile(self) -> None:
        """Wrap the step; the first epoch compiles it once for each batch size."""
        torch.compiler.reset()  # the graphs of the workload before
        self.make_state()
        self.graph = torch.compile(self.functional_step, dynamic=False, fullgraph=True)

    @override
    def step(self, rows: Any) -> Any:
        return self.graph(rows, *self.tensors)


def fused_adam(parameters: list[Any], rule: Adam, *, capturable: bool = False) -> torch.optim.Adam:
    """Return PyTorch's Adam, which updates all parameters in one kernel."""
    betas = (rule.beta_1, rule.beta_2)
    return torch.optim.Adam(parameters, rule.learning_rate, betas, rule.epsilon, fused=True, capturable=capturable)


def take(array: Any, rows: Any) -> Any:
    """Return some rows of an array, or the array itself if `rows` is None."""
    return array if rows is None else array[rows]
