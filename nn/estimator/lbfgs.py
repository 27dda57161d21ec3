"""Training with SciPy's L-BFGS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count, pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize
from sklearn.utils.optimize import _check_optimize_result

from ...backends import Layer
from ..datasets.dataset import Split
from ..network.mlp import MLP
from .evaluation import evaluated
from .fit import Fit

Vector = npt.NDArray[np.float64]  # (parameters,): all weights, then all biases


class Objective:
    """Penalized loss of all rows as a function of a parameter vector.

    Attributes:
        loss: mean loss at the parameters of the last call.
        penalty: penalty at the parameters of the last call.

    Args:
        net: float64 network, with the parameters of the last call.
        rows: training rows, optionally weighted.
        alpha: strength of the L2 penalty, divided by the number of rows or sum of weights.
    """

    def __init__(self, net: MLP, rows: Split, *, alpha: float) -> None:
        self._net, self._alpha = net, float(alpha)
        backend = net.backend
        placed = backend.place(rows.images, rows.labels, 1.0)
        everything = slice(0, len(rows))
        # (samples, features), and (samples,) or (samples, outputs)
        self._x, self._labels = backend.batch(placed, everything, net.layers[0].weight.dtype)
        self._weights = None if rows.weights is None else backend.put(np.asarray(rows.weights, dtype=np.float64))
        self._size = len(rows) if rows.weights is None else float(rows.weights.sum())
        self._shapes: list[tuple[int, int]] = list(pairwise(net.sizes))
        self._num_weights = sum(in_features * out_features for in_features, out_features in self._shapes)
        self.loss = self.penalty = 0.0

    def vector(self) -> Vector:
        """Return the parameter vector, (parameters,)."""
        vector = np.empty(self._net.num_parameters)
        for layer, weight, bias in self._with_parts(vector):
            weight[...] = self._net.backend.to_numpy(layer.weight)
            bias[...] = self._net.backend.to_numpy(layer.bias)
        return vector

    def load(self, vector: Vector) -> None:
        """Set the network's parameters from a vector, (parameters,)."""
        put = self._net.backend.put
        for layer, weight, bias in self._with_parts(vector):
            layer.weight, layer.bias = put(weight), put(bias)

    def __call__(self, vector: Vector) -> tuple[float, Vector]:
        """Return the objective and its gradient, (parameters,)."""
        net, backend, layers = self._net, self._net.backend, self._net.layers
        self.load(vector)
        grads, loss_sum, _ = backend.gradients(
            layers, self._x, self._labels, loss=net.loss, size=self._size, weights=self._weights
        )
        gradient = np.empty_like(vector)
        for (_, of_weight, of_bias), (grad_weight, grad_bias) in zip(self._with_parts(gradient), grads, strict=True):
            of_weight[...], of_bias[...] = backend.to_numpy(grad_weight), backend.to_numpy(grad_bias)
        weights = vector[: self._num_weights]  # (all weights,)
        gradient[: self._num_weights] += (self._alpha / self._size) * weights
        self.loss = float(backend.to_numpy(loss_sum)) / self._size
        self.penalty = self._alpha * float(np.vdot(weights, weights)) / (2 * self._size)
        return self.loss + self.penalty, gradient

    def _with_parts(self, vector: Vector) -> Iterator[tuple[Layer, Vector, Vector]]:
        """Yield each layer with its views of a vector: (in_features, out_features), (out_features,)."""
        weights_end, biases_end = 0, self._num_weights
        for layer, (in_features, out_features) in zip(self._net.layers, self._shapes, strict=True):
            weights, biases = weights_end, biases_end
            weights_end, biases_end = weights + in_features * out_features, biases + out_features
            yield layer, vector[weights:weights_end].reshape(in_features, out_features), vector[biases:biases_end]


def fit_with_lbfgs(fit: Fit) -> None:
    """Train on full batches until the gradient is small."""
    parameters, record = fit.parameters, fit.record
    objective, iterations = Objective(fit.net, fit.rows, alpha=parameters.alpha), count(1)
    tasks, has_listener = fit.tasks, parameters.verbose or fit.validation is not None or fit.tasks is not None
    if tasks is not None:
        tasks.begin()

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        if parameters.verbose:
            sys.stdout.write(f"Iteration {next(iterations)}, loss = {intermediate_result.fun:.8f}\n")
        objective.load(intermediate_result.x)
        if fit.validation is not None:
            record.validation_curve.append(fit.loss_share * evaluated(fit.net, fit.validation).loss)
        if tasks is not None:
            tasks.end()
            if tasks.is_stopping:
                raise StopIteration
            tasks.begin()

    with fit.net.backend.scope(), np.errstate(all="ignore"):  # the parameters are checked at the end
        result = minimize(
            objective,
            objective.vector(),
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration if has_listener else None,
            options={"maxfun": parameters.max_fun, "maxiter": parameters.max_iter, "gtol": parameters.tol},
        )
        objective(result.x)  # which may not have been the last one that was tried
    is_stopped = tasks is not None and tasks.is_stopping
    record.n_iter = result.nit if is_stopped else _check_optimize_result("lbfgs", result, parameters.max_iter)
    record.loss = fit.loss_share * objective.loss + objective.penalty
    record.rate_factor, record.optimizer_state = 1.0, None  # those of `partial_fit` belong to other parameters
