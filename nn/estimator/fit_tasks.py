"""Callbacks of scikit-learn, which has them from version 1.9: the tasks of a fit that they are told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..training.history import EpochResult
from ..training.run import Callback, TrainingRun

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No callbacks before scikit-learn 1.9."""


__all__ = ["CallbackSupportMixin", "FitTasks"]


class FitTasks(Callback):
    """The tasks of a fit: one for each epoch, or iteration of L-BFGS, with scikit-learn's callbacks of an estimator.

    Args:
        estimator: the estimator, whose callbacks are set.
        data: `X`, `y` and `metadata` for the callbacks, as they came to `fit`.
        most: maximum number of tasks.
        fitted: function that returns the attributes of an estimator that is fitted so far.

    Attributes:
        is_stopping: whether a callback wants the fit to stop.
    """

    each_epoch: ClassVar[bool] = True

    def __init__(self, estimator: Any, data: dict[str, Any], most: int, fitted: Callable[[], dict[str, Any]]) -> None:
        self._told = {"estimator": estimator, **data}
        self._fitted = fitted
        self._of_fit = estimator._init_callback_context(max_subtasks=most)
        self._of_fit.call_on_fit_task_begin(**self._told)
        self._task: Any = None
        self.is_stopping = False

    def begin(self) -> None:
        """Begin the next task."""
        self._task = self._of_fit.subcontext(task_name="epoch").call_on_fit_task_begin(**self._told)

    def end(self) -> None:
        """End the task."""
        task, self._task = self._task, None
        self.is_stopping = task.call_on_fit_task_end(**self._told, reconstruction_attributes=self._fitted)

    def close(self) -> None:
        """End the fit, and before it a task that found nothing to do; the estimator is fitted."""
        if self._task is not None:
            self._task.call_on_fit_task_end(estimator=self._told["estimator"])
        self._of_fit.call_on_fit_task_end(**self._told, reconstruction_attributes={})

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
