"""The recipes: a network, its data and its training, by name.

A new recipe is a row in `RECIPES`. What each of them reaches is in `docs/recipes.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...backends import ACTIVATIONS, SGD, Adam, Backend, ConfigError, JobOutline, Optimizer, look_up
from ...backends.communicator import Communicator
from ..datasets import Dataset, Split
from ..inputs.arguments import are_whole, is_whole
from ..network.initializers import INITIALIZERS
from ..network.mlp import DTYPES, MLP
from ..training.checkpoint import Checkpoint
from ..training.early_stopping import EarlyStopping
from ..training.history import History
from ..training.run import Callback
from ..training.schedules import SCHEDULES
from ..training.train import train


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained; the data give the numbers of features and classes.

    Attributes:
        name: what it is chosen by.
        summary: one line on it.
        dataset: the name of its data set.
        sizes: features, hidden units, classes; other data bring their own first and last number.
        optimizer: how gradients become steps.
        epochs: passes over the training rows.
        batch_size: rows of one step; None for all rows at once.
        initializer: how weights and biases are drawn.
        activation: of the hidden layers.
        schedule: what the learning rate is multiplied by over the steps.
        warmup_steps: steps over which the learning rate first rises linearly.
        l2: strength of the penalty on squared weights.
        dropout: share of the hidden units that each step leaves out.
        class_weight: "balanced" where all classes count alike, however many rows they have.
        clip_norm: the gradient is made no longer than this.
        accumulate: batches whose gradients are added up for one step.
        validation: share of the training rows that is held back to validate on.
        patience: epochs without a better validation loss after which the training stops.
        dtype: of weights and arithmetic.
        evaluate_every: epochs from one evaluation on the test rows to the next.
        precision: of matrix products, what the backend has: "full" or less.
        test_fraction: where given, all rows are shuffled and this share is held back, in place of the data's own split.
        reproducible: whether any number of processes gets the same bits; see `nn.train`.
    """

    name: str
    summary: str
    dataset: str
    sizes: tuple[int, ...]
    optimizer: Optimizer
    epochs: int
    batch_size: int | None
    initializer: str = "he"
    activation: str = "relu"
    schedule: str = "constant"
    warmup_steps: int = 0
    l2: float = 0.0
    dropout: float = 0.0
    class_weight: str | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    validation: float | None = None
    patience: int | None = None
    dtype: str = "float32"
    evaluate_every: int = 1
    precision: str = "full"
    test_fraction: float | None = None
    reproducible: bool = False

    def __post_init__(self) -> None:
        if not (are_whole(self.sizes, least=1) and len(self.sizes) >= 2):
            raise ConfigError(f"sizes of a recipe must be two or more whole numbers >= 1, got {self.sizes!r:.80}")
        for name, least in (("epochs", 1), ("evaluate_every", 1), ("warmup_steps", 0)):
            if not is_whole(getattr(self, name), least=least):
                raise ConfigError(f"{name} must be a whole number >= {least}, got {getattr(self, name)!r:.80}")
        if not (self.batch_size is None or is_whole(self.batch_size, least=1)):
            raise ConfigError(
                f"batch_size must be a whole number >= 1, or None for all rows, got {self.batch_size!r:.80}"
            )
        if self.patience is not None and self.validation is None:
            raise ConfigError(
                f"patience={self.patience} needs validation rows: hold some back, "
                "with --validation 0.1 or validation=0.1"
            )
        look_up("activation", self.activation, ACTIVATIONS)
        look_up("initializer", self.initializer, INITIALIZERS)
        look_up("dtype", self.dtype, DTYPES)
        look_up("schedule", self.schedule, SCHEDULES)

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """When its training ends before the last epoch."""
        return None if self.patience is None else EarlyStopping(self.patience)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the run, as it stands in a run folder's `config.json`."""
        settings = asdict(self)
        settings["optimizer"] = {"name": self.optimizer.name, **self.optimizer.settings()}
        return settings

    def sizes_for(self, data: Dataset) -> tuple[int, ...]:
        """Return the recipe's sizes with the data's numbers of features and classes."""
        return (data.features, *self.sizes[1:-1], data.num_classes)

    def network(self, data: Dataset, *, backend: str | Backend = "auto", seed: int = 0) -> MLP:
        """Return a new network of this recipe for `data`.

        Args:
            data: gives the numbers of features and classes.
            backend: a name for `get_backend`, or a backend.
            seed: of the starting weights.
        """
        net = MLP(
            self.sizes_for(data),
            activation=self.activation,
            initializer=self.initializer,
            backend=backend,
            dtype=self.dtype,
            seed=seed,
        )
        net.adopt(data)
        return net

    def train(
        self,
        net: MLP,
        data: Dataset | Split,
        *,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        resume: Checkpoint | None = None,
        detect_anomaly: bool = False,
        communicator: Communicator | None = None,
    ) -> History:
        """Train `net` on `data` as the recipe says; see `nn.train` for the arguments and errors."""
        return train(
            net,
            data,
            optimizer=self.optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            l2=self.l2,
            dropout=self.dropout,
            class_weight=self.class_weight,
            clip_norm=self.clip_norm,
            accumulate=self.accumulate,
            validation=self.validation,
            early_stopping=self.early_stopping,
            evaluate_every=self.evaluate_every,
            precision=self.precision,
            seed=seed,
            callbacks=callbacks,
            resume=resume,
            detect_anomaly=detect_anomaly,
            communicator=communicator,
            reproducible=self.reproducible,
        )

    def outline(self, data: Dataset) -> JobOutline:
        """Return what `get_backend("auto", job=...)` needs to know of the whole training."""
        return JobOutline(
            sizes=self.sizes_for(data),
            rows=len(data.train),
            epochs=self.epochs,
            optimizer=self.optimizer,
            activation=self.activation,
            needs_generic_plan=self.dropout != 0 or self.clip_norm is not None,
        )


def _table(*recipes: Recipe) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in recipes}


RECIPES: dict[str, Recipe] = _table(
    Recipe(
        "quickstart",
        "64-32-10 on scikit-learn's 8x8 digits, Adam; no download",
        dataset="digits",
        sizes=(64, 32, 10),
        optimizer=Adam(3e-3),
        epochs=30,
        batch_size=32,
    ),
    Recipe(
        "gd-10",
        "784-10-10, full-batch gradient descent, 500 steps",
        dataset="mnist",
        sizes=(784, 10, 10),
        optimizer=SGD(0.1),
        epochs=500,
        batch_size=None,
    ),
    Recipe(
        "gd-10-long",
        "784-10-10, 2500 steps on a shuffled 90/10 split of all rows",
        dataset="mnist",
        sizes=(784, 10, 10),
        optimizer=SGD(0.1),
        epochs=2500,
        batch_size=None,
        test_fraction=0.1,
    ),
    Recipe(
        "deep-32",
        "784-32-32-10, full-batch gradient descent, 3500 steps",
        dataset="mnist",
        sizes=(784, 32, 32, 10),
        optimizer=SGD(0.1),
        epochs=3500,
        batch_size=None,
    ),
    Recipe(
        "wide-256",
        "784-256-10, full-batch gradient descent, 200 steps",
        dataset="mnist",
        sizes=(784, 256, 10),
        optimizer=SGD(0.1),
        epochs=200,
        batch_size=None,
    ),
    Recipe(
        "mnist-98",
        "784-256-10, Adam, batch 128: over 98 % in eight epochs",
        dataset="mnist",
        sizes=(784, 256, 10),
        optimizer=Adam(3e-3),
        epochs=8,
        batch_size=128,
        schedule="cosine",
    ),
)
