"""scikit-learn peer: `MLPClassifier`, with one `partial_fit` per epoch."""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier

from ....backends import Adam
from ....backends.override import override
from ....nn import Dataset
from ..contestant import Array, Contestant, Orders, as_float32


class ScikitLearn(Contestant):
    """`MLPClassifier` without penalty and momentum; rows are reordered outside the timing."""

    @override
    def place(self, data: Dataset) -> None:
        """Fit a few rows to create the arrays that receive the initial weights."""
        task, rule = self.task, self.task.optimizer
        self.images, self.labels = as_float32(data.train.images, data.scale), data.train.labels
        self.test = as_float32(data.test.images, data.scale)
        adam = {}
        if isinstance(rule, Adam):
            adam = {"beta_1": rule.beta_1, "beta_2": rule.beta_2, "epsilon": rule.epsilon}
        self.classifier = MLPClassifier(
            hidden_layer_sizes=task.sizes[1:-1],
            activation=task.activation,
            solver="adam" if isinstance(rule, Adam) else "sgd",
            alpha=0.0,
            batch_size=task.batch_size,
            learning_rate_init=rule.learning_rate,
            shuffle=False,
            momentum=0.0,
            nesterovs_momentum=False,
            random_state=0,
            **adam,
        )
        few = slice(None, task.batch_size)
        self.classifier.partial_fit(self.images[few], self.labels[few], classes=np.arange(task.sizes[-1]))
        for array, start in zip(self.classifier.coefs_, task.start[0::2], strict=True):
            array[...] = start  # (in_features, out_features)
        for array, start in zip(self.classifier.intercepts_, task.start[1::2], strict=True):
            array[...] = start  # (out_features,)
        del self.classifier._optimizer  # made anew by the next call: that of the first has taken a step

    @override
    def take_orders(self, orders: Orders) -> None:
        as_they_stand = self.images, self.labels
        self.turn = [as_they_stand if order is None else (self.images[order], self.labels[order]) for order in orders]

    @override
    def run_epochs(self) -> float:
        losses = [float(self.classifier.partial_fit(x, y).loss_) for x, y in self.turn]
        return losses[0]

    @override
    def predict(self) -> Array:
        return np.asarray(self.classifier.predict(self.test))
