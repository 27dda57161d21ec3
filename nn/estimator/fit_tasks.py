"""Callbacks of scikit-learn, from its version 1.9: notify them of the tasks of a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..training.history import EpochResult
from ..training.run import Callback, TrainingRun

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Empty base class: scikit-learn before 1.9 has no callbacks."""


__all__ = ["CallbackSupportMixin", "FitTasks"]


class FitTasks(Callback):
    """Tasks of a fit, one for each epoch or iteration of L-BFGS, and the scikit-learn callbacks that they notify.

    Args:
        estimator: estimator whose callbacks are notified.
        data: `X`, `y` and `metadata` for the callbacks, as they came to `fit`.
        most: maximum number of tasks.
        fitted: function that returns the attributes that the estimator would have if the fit ended now.

    Attributes:
        is_stopping: whether a callback wants the fit to stop.
    """

    each_epoch: ClassVar[bool] = True

    def __init__(self, estimator: Any, data: dict[str, Any], most: int, fitted: Callable[[], dict[str, Any]]) -> None:
        self._data = {"estimator": estimator, **data}
        self._fitted = fitted
        # Private in scikit-learn 1.9, which has no public function yet by which an estimator notifies its callbacks.
        self._of_fit = estimator._init_callback_context(max_subtasks=most)
        self._of_fit.call_on_fit_task_begin(**self._data)
        self._task: Any = None
        self.is_stopping = False

    def begin(self) -> None:
        """Begin the next task."""
        self._task = self._of_fit.subcontext(task_name="epoch").call_on_fit_task_begin(**self._data)

    def end(self) -> None:
        """End the task."""
        task, self._task = self._task, None
        self.is_stopping = task.call_on_fit_task_end(**self._data, reconstruction_attributes=self._fitted)

    def close(self) -> None:
        """End the fit, and before it an open task, which had nothing to do; the estimator must be fitted."""
        if self._task is not None:
            self._task.call_on_fit_task_end(estimator=self._data["estimator"])
        self._of_fit.call_on_fit_task_end(**self._data, reconstruction_attributes={})

    def on_train_begin(self, run: TrainingRun) -> None:  # noqa: ARG002
        """Begin the first epoch."""
        self.begin()

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """End the epoch, and begin the next if there is one."""
        self.end()
        if self.is_stopping:
            run.stop()
        if result.epoch < run.epochs and not run.stopped:
            self.begin()
