"""Training options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, TypedDict

from ...backends import ConfigError, Optimizer, StepOptions, look_up
from ...backends.constraints import FLAG, Constraint, documented, instance, option, whole
from ..datasets.dataset import Split
from .early_stopping import EarlyStopping
from .row_weights import ClassWeight
from .schedules import SCHEDULES, Schedule

SCHEDULE = Constraint("a name or a function of the progress", lambda value: isinstance(value, str) or callable(value))
SAMPLED = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the progress: where a schedule that is a function is looked at


@documented
@dataclass(frozen=True, kw_only=True)
class TrainingOptions(StepOptions):
    """Training options: those of a step, and epochs, schedule, order of rows, validation and evaluation.

    Raises:
        ConfigError: an option has an invalid value.
    """

    epochs: int = option(
        10, whole(1), "Number of epochs.", panel="Training", metavar="N", is_identity=False,
    )  # fmt: skip
    schedule: str | Schedule = option(
        "constant", SCHEDULE,
        "Learning-rate schedule. A row of `SCHEDULES`, or a function from progress to a factor.",
    )  # fmt: skip
    warmup_steps: int = option(0, whole(0), "Steps of linear warm-up.")
    class_weight: ClassWeight | None = option(
        None, None,
        "Class weights: \"balanced\" for equal influence of all classes, or by name, such as fraud=10 on the command "
        "line. In Python a mapping by class index or name.",
        panel="Training", metavar="WEIGHTS", is_identity=False,
    )  # fmt: skip
    shuffle: bool = option(True, FLAG, "Whether to shuffle the rows in every epoch; without effect on full batches.")
    validation: Split | float | None = option(
        None, None,
        "Fraction of the training rows to hold out for validation. Or an `nn.Split`; it is evaluated after each epoch, "
        "with rows weighted as in training.",
        panel="Regularization", metavar="SHARE", is_identity=False,
    )  # fmt: skip
    early_stopping: EarlyStopping | None = option(
        None, instance(EarlyStopping, "nn.EarlyStopping()").or_none(),
        "Early stopping, which restores the weights of the best epoch.",
    )  # fmt: skip
    evaluate_every: int = option(
        1, whole(1),
        "Epochs between evaluations. The last epoch is always evaluated. Full batches in between run without a break, "
        "so that a GPU does not wait for the host.",
        panel="Training", metavar="EPOCHS", is_identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.schedule, str):
            look_up("schedule", self.schedule, SCHEDULES)
        stopping = self.early_stopping
        if stopping is not None and self.validation is None and stopping.monitor.startswith("validation"):
            raise ConfigError(
                f"early stopping by the {stopping.monitor} needs validation rows: hold some out, with validation=0.1"
            )

    def identity(self) -> dict[str, Any]:
        """Return the options that identify a run, as JSON; see `option`."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self) if each.metadata["is_identity"]}


class TrainingKeywords(TypedDict, total=False):
    """The fields of `TrainingOptions` as keywords, for type checkers and editors."""

    optimizer: Optimizer
    batch_size: int | None
    accumulate: int
    clip_norm: float | None
    l2: float
    l2_per_batch: bool
    dropout: float
    label_smoothing: float
    precision: str
    reproducible: bool
    epochs: int
    schedule: str | Schedule
    warmup_steps: int
    class_weight: ClassWeight | None
    shuffle: bool
    validation: Split | float | None
    early_stopping: EarlyStopping | None
    evaluate_every: int


def _plain(value: Any) -> Any:
    """Return a setting as JSON: an optimizer by its repr, a function by samples."""
    if isinstance(value, Optimizer):
        return repr(value)
    if isinstance(value, EarlyStopping):  # the patience may change
        return [value.monitor, float(value.min_delta)]
    if callable(value):
        return [value(at) for at in SAMPLED]
    if isinstance(value, bool | str | None):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value
