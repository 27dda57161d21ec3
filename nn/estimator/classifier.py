"""`MLPClassifier` with the interface of scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)

from ...backends.override import override
from ..network.outputs import OUTPUTS, Outputs
from .base import BaseMLP, has_partial_fit
from .class_weights import Weights, class_weights
from .parameters import CONSTRAINTS, Parameters


@dataclass(eq=False, repr=False)
class _ClassWeight(Parameters):
    class_weight: Any = field(default=None, kw_only=True)


class MLPClassifier(ClassifierMixin, BaseMLP, _ClassWeight):
    """Multi-layer perceptron classifier with the interface of scikit-learn's.

    With the same `random_state` it draws the same weights and orders and takes the same steps as scikit-learn's, up to
    rounding. This includes warm starts: with early stopping, a fit that does not beat the best validation score of all
    fits keeps its last weights. Differences:

    - L-BFGS with several regression outputs minimizes the loss that matches its gradient. `loss_` interpolates the
      penalty linearly between the first and last step of an epoch, and averages row weights over the whole epoch.
    - Every parameter may change between calls of `partial_fit` and takes effect, while scikit-learn keeps its first
      optimizer. A solver with other state starts from zeros, another `learning_rate` from `learning_rate_init`. Another
      `hidden_layer_sizes` is an error, also with `warm_start`.
    - A model has one dtype: float64 rows are rounded for a float32 model, and refused beyond its range. scikit-learn
      computes in float64 for such rows.
    - A fit stops with an error where a loss, a weight or the optimizer's state is not finite, as for `X * 1e200`;
      scikit-learn looks at the final weights alone. A failed or interrupted epoch leaves no half of it, and a fit that
      fails, or is interrupted before its first epoch or by `lbfgs`, leaves the estimator as it was.
    - Negative row weights are an error, and so is text as a regressor's `y`; digits in an object array are numbers. A
      batch whose weights are all 0 changes nothing.
    - Private attributes such as `_optimizer` and `_label_binarizer` do not exist; skl2onnx finds converters of our own.

    Args:
        hidden_layer_sizes: units of each hidden layer; () for none.
        activation: activation of the hidden layers: "identity", "logistic", "tanh", "relu" or "leaky_relu".
        solver: "adam", "sgd", "rmsprop", "adamw", or full-batch "lbfgs" for up to a few thousand rows.
        alpha: strength of the L2 penalty: `alpha / 2` times the sum of squared weights, divided by the batch size or
            sum of row weights; with `adamw` the decoupled weight decay, which is not part of the loss.
        batch_size: rows per step; "auto" for 200, or all rows if there are fewer.
        learning_rate: schedule of `sgd`: "constant"; "invscaling", divided by the number of processed rows to the power
            `power_t`; "adaptive", divided by 5 without improvement, down to 1e-6.
        learning_rate_init: initial learning rate; not for `lbfgs`.
        power_t: exponent of "invscaling".
        max_iter: maximum number of epochs, or of iterations for `lbfgs`.
        shuffle: whether to shuffle the rows in every epoch.
        random_state: seed, RandomState or None, for weights, orders and the validation split.
        tol: minimum improvement of the loss, or of the score with early stopping; for `lbfgs` the maximum entry of the
            gradient at convergence.
        verbose: whether to print a line per epoch.
        warm_start: whether `fit` starts from the current coefficients.
        momentum: momentum of `sgd`, in [0, 1).
        nesterovs_momentum: whether to use Nesterov momentum.
        early_stopping: whether to hold out a validation set, stop by its score, and keep the best weights.
        validation_fraction: fraction of rows to hold out.
        beta_1: decay rate of the first moment of `adam` and `adamw`.
        beta_2: decay rate of the second moment.
        epsilon: term for numerical stability, also of `rmsprop`.
        n_iter_no_change: epochs without improvement before training stops.
        max_fun: maximum number of function evaluations of `lbfgs`.
        backend: name for `get_backend`; "auto" is based on the multiply-adds of `max_iter` epochs. Consecutive calls of
            `partial_fit` keep the choice of the first, which is based on one epoch of its rows.
        dtype: dtype of weights and arithmetic, "float32" or "float64"; None for that of `X`.
        dropout: probability of dropping a hidden unit, in [0, 1).
        n_threads: threads of Numba and BLAS in `fit` and predictions; None for all. The limit belongs to the
            process: of fits that overlap in Python threads, the one that began last decides.
        class_weight: dict from class to weight, or "balanced" for weights inversely proportional to class frequencies,
            as in `compute_sample_weight`; for multi-label targets "balanced" or a list of dicts. Multiplied with
            `sample_weight`; also applies to validation rows. `partial_fit` refuses "balanced".

    Attributes:
        classes_: the classes, (classes,), or the label indices for multi-label targets.
        coefs_: weights of each layer, (in_features, out_features); may be assigned.
        intercepts_: biases of each layer, (out_features,); may be assigned.
        loss_: loss of the last epoch including the penalty; `loss_curve_` of each epoch, `best_loss_` the minimum.
        validation_scores_: score of each epoch with early stopping, else None; `best_validation_score_` the maximum.
        validation_curve_: mean loss of the validation rows after each epoch, without the penalty: of `X_val`, or of the
            rows that early stopping holds out; None without.
        n_iter_: epochs or iterations of the last fit; t_: total number of processed rows.
        n_layers_: also n_outputs_, out_activation_, n_features_in_, feature_names_in_, as in scikit-learn.
        backend_: name of the backend of the last fit.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS, "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }  # fmt: skip

    classes_: npt.NDArray[Any]
    _is_multilabel: bool
    _sparse_type: Any = None  # of predictions; None for dense ones, as before the first fit

    @property
    @override
    def _loss_of_columns(self) -> str:
        return "sigmoid_cross_entropy"

    @available_if(has_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:  # noqa: N803
        """Train one epoch on these rows.

        Args:
            X: (samples, features).
            y: (samples,), or multi-label (samples, labels) of 0 and 1.
            sample_weight: row weights, (samples,).
            classes: all classes, (classes,); required in the first call.
        """
        if _check_partial_fit_first_call(self, classes):
            self._is_multilabel, self._sparse_type = type_of_target(y).startswith("multilabel"), sparse_type(y)
            if not self._is_multilabel:
                check_classification_targets(classes)
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows, but partial_fit has only some: pass a dict, for instance of "
                "the weights of compute_class_weight('balanced', classes=classes, y=y) for a sample"
            )
        return self._fit(X, y, sample_weight, None)

    def _labels(self, y: Any, *, continues: bool, is_validation: bool = False) -> npt.NDArray[Any]:
        if not (continues and hasattr(self, "classes_")):
            self._learn_classes(y)
        if self._is_multilabel:
            return self._indicators(y)
        numbers = self._numbers(y, need_all=self.warm_start and not is_validation)  # (samples,)
        return numbers if len(self.classes_) > 2 else numbers[:, None].astype(np.float64)

    def _learn_classes(self, y: npt.NDArray[Any]) -> None:
        """Determine the classes from the targets."""
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind.endswith("multioutput"):
            raise ValueError("Multioutput target data is not supported with label binarization")
        self._is_multilabel, self._sparse_type = kind == "multilabel-indicator", sparse_type(y)
        self.classes_ = np.arange(y.shape[1]) if self._is_multilabel else unique_labels(y)

    def _numbers(self, y: npt.NDArray[Any], *, need_all: bool) -> npt.NDArray[np.int64]:
        """Return the class indices of the targets, (samples,)."""
        if y.ndim > 1:
            raise ValueError(f"`y` has {y.shape[1]} columns, and one was expected: these classes exclude each other.")
        try:
            numbers = np.searchsorted(self.classes_, y)  # (samples,)
            known = self.classes_[np.minimum(numbers, len(self.classes_) - 1)] == y  # (samples,)
        except TypeError:  # words are not compared with numbers
            numbers, known = np.zeros(len(y), dtype=np.int64), np.zeros(len(y), dtype=np.bool_)
        is_known = bool(np.all(known))
        if need_all and (not is_known or len(np.unique(numbers)) != len(self.classes_)):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {np.unique(y)}"
            )
        if not is_known:
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {np.unique(y)}."
            )
        return numbers.astype(np.int64)

    def _indicators(self, y: Any) -> npt.NDArray[np.float64]:
        """Return label indicators, (samples, labels), of 0.0 and 1.0."""
        dense = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        if dense.ndim != 2 or dense.shape[1] != len(self.classes_):
            raise ValueError(
                f"`y` must have a column for each of the {len(self.classes_)} labels, got shape {dense.shape}."
            )
        return (dense > 0).astype(np.float64)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Predict classes, (samples,), or labels, (samples, labels) of 0 and 1, in csr format after sparse targets."""
        outputs = self._outputs(X)
        if self._is_multilabel:
            indicators = (outputs > 0).astype(np.int64)  # (samples, labels)
            return indicators if self._sparse_type is None else self._sparse_type(indicators)
        if self.n_outputs_ > 1:
            return np.asarray(self.classes_[outputs.argmax(axis=1)])
        return np.asarray(self.classes_[np.minimum(outputs[:, 0] > 0, len(self.classes_) - 1).astype(np.int64)])

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Predict probabilities of classes, (samples, classes), or of labels, (samples, labels)."""
        of_outputs, outputs = self._probability_outputs(X)
        assert of_outputs.probabilities is not None
        return np.asarray(of_outputs.probabilities(np, outputs))

    def predict_log_proba(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Predict log-probabilities, finite also where probabilities round to 0."""
        of_outputs, outputs = self._probability_outputs(X)
        assert of_outputs.probabilities is not None
        assert of_outputs.log_probabilities is not None
        exact, rounded = (read(np, outputs) for read in (of_outputs.log_probabilities, of_outputs.probabilities))
        # Probabilities that round to the same number have the same logarithm, so that both have the same maxima.
        np.log(rounded, out=exact, where=rounded >= np.finfo(exact.dtype).tiny)
        return np.asarray(exact)

    def _probability_outputs(self, X: Any) -> tuple[Outputs, npt.NDArray[Any]]:  # noqa: N803
        """Return the interpretation of outputs, and one output for each probability, (samples, classes or labels)."""
        outputs = self._outputs(X)
        loss = "softmax_cross_entropy" if self.out_activation_ == "softmax" else self._loss_of_columns
        has_all = self._is_multilabel or self.n_outputs_ > 1
        return OUTPUTS[loss], outputs if has_all else np.concatenate([-outputs, outputs], axis=1)

    @override
    def _class_weights(self, labels: npt.NDArray[Any]) -> Weights | None:
        if self.class_weight is None:
            return None
        return class_weights(self.class_weight, labels, self.classes_, is_multilabel=self._is_multilabel)

    @override
    def _last_layer(self) -> tuple[str, tuple[str, ...], npt.NDArray[Any], npt.NDArray[Any]]:
        names = tuple(_name(value) for value in self.classes_.tolist())
        _, _, weight, bias = super()._last_layer()  # (in_features, outputs), (outputs,)
        if self._is_multilabel:
            return self._loss_of_columns, names, weight, bias
        if self.n_outputs_ == 1:  # the logit of the second class, beside 0 for the first
            without = len(names) - 1
            weight = np.hstack([np.zeros((len(weight), without), weight.dtype), weight])  # (in_features, classes)
            bias = np.hstack([np.zeros(without, bias.dtype), bias])  # (classes,)
        return "softmax_cross_entropy", names, weight, bias

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def sparse_type(y: Any) -> Any:
    """Return the csr type of predictions for sparse targets; None for dense ones."""
    if not sparse.issparse(y):
        return None
    return sparse.csr_array if isinstance(y, sparse.sparray) else sparse.csr_matrix


def _name(value: object) -> str:
    """Return the name of a class, of a whole number without a fraction as in data sets."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
