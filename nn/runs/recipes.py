"""Recipes: named networks with data set and training.

A new recipe is a row in `RECIPES`. Results are in `docs/recipes.md`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...backends import ACTIVATIONS, SGD, Adam, Backend, ConfigError, JobOutline, look_up
from ...backends.sparse_rows import is_sparse
from ..datasets import Dataset, Split
from ..inputs.arguments import are_whole
from ..network.initializers import INITIALIZERS
from ..network.mlp import DTYPES, MLP
from ..network.outputs import outputs_of
from ..training.early_stopping import EarlyStopping
from ..training.history import History
from ..training.options import TrainingOptions
from ..training.train import train

# (rows at most, hidden units, batch size) of the recipe for tables
SIZES = ((2_000, (100,), 32), (50_000, (100,), 128), (math.inf, (100,), 256))
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 150_000, 12, 200


@dataclass(frozen=True)
class Recipe:
    """A network with its training; numbers of features and classes follow from the data.

    Attributes:
        name: name of the recipe.
        summary: description in one line.
        dataset: name of the data set; empty if there is none.
        sizes: features, hidden units, classes; the first and last are replaced for other data.
        training: training options.
        initializer: initializer of weights and biases.
        activation: activation of the hidden layers.
        loss: loss of an `MLP`; None for squared error on numbers, and softmax cross-entropy on classes.
        by_rows: whether hidden units, batch size and epochs follow from the number of rows.
        dtype: dtype of weights and arithmetic.
        test_fraction: fraction of all rows to hold out, in place of the data's own split; None to keep that.
    """

    name: str
    summary: str
    dataset: str
    sizes: tuple[int, ...]
    training: TrainingOptions
    initializer: str = "he"
    activation: str = "relu"
    loss: str | None = None
    by_rows: bool = False
    dtype: str = "float32"
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        if not (are_whole(self.sizes, least=1) and len(self.sizes) >= 2):
            raise ConfigError(f"sizes of a recipe must be two or more whole numbers >= 1, got {self.sizes!r:.80}")
        look_up("activation", self.activation, ACTIVATIONS)
        if self.loss is not None:
            outputs_of(self.loss)
        look_up("initializer", self.initializer, INITIALIZERS)
        look_up("dtype", self.dtype, DTYPES)

    def fitted_to(self, data: Dataset) -> Recipe:
        """Return the recipe with the loss of the data's labels, and if `by_rows` with sizes for so many rows.

        Batches of 32 up to 2,000 rows, of 128 up to 50,000, and of 256 beyond, with the hidden units of `SIZES`; epochs
        for about 150,000 steps, in [12, 200].
        """
        loss = self.loss or ("squared_error" if data.inputs.target is not None else "softmax_cross_entropy")
        if not self.by_rows:
            return replace(self, loss=loss)
        rows = len(data.train)
        hidden, batch = next((hidden, batch) for most, hidden, batch in SIZES if rows <= most)
        epochs = min(max(round(STEPS * batch / rows), LEAST_EPOCHS), MOST_EPOCHS)
        sizes = (data.features, *hidden, data.num_outputs)
        return replace(self, loss=loss, sizes=sizes, by_rows=False).with_options(batch_size=batch, epochs=epochs)

    @property
    def is_regression(self) -> bool:
        """Whether the loss is one of regression."""
        return self.loss is not None and not outputs_of(self.loss).has_accuracy

    def with_options(self, **options: Any) -> Recipe:
        """Return the recipe with other training options."""
        return replace(self, training=replace(self.training, **options))

    def settings(self) -> dict[str, Any]:
        """Return all settings, as in `config.json` of a run folder."""
        settings, optimizer = asdict(self), self.training.optimizer
        settings["training"]["optimizer"] = {"name": optimizer.name, **optimizer.settings()}
        return settings

    def sizes_for(self, data: Dataset) -> tuple[int, ...]:
        """Return the recipe's sizes with the data's numbers of features and classes."""
        return (data.features, *self.sizes[1:-1], data.num_outputs)

    def network(self, data: Dataset, *, backend: str | Backend = "auto", seed: int = 0) -> MLP:
        """Return a new network of this recipe for `data`.

        Args:
            data: data set with the numbers of features and classes.
            backend: a name for `get_backend`, or a backend.
            seed: seed of the weights.
        """
        net = MLP(
            self.sizes_for(data),
            activation=self.activation,
            loss=self.fitted_to(data).loss or "",
            initializer=self.initializer,
            backend=backend,
            dtype=self.dtype,
            seed=seed,
        )
        net.adopt(data)
        return net

    def train(self, net: MLP, data: Dataset | Split, **arguments: Any) -> History:
        """Train `net` on `data`; arguments and errors as in `nn.train`."""
        return train(net, data, **vars(self.training), **arguments)

    def outline(self, data: Dataset) -> JobOutline:
        """Return the job outline for `get_backend("auto", job=...)`."""
        return JobOutline(
            sizes=self.sizes_for(data),
            rows=len(data.train),
            epochs=self.training.epochs,
            optimizer=self.training.optimizer,
            activation=self.activation,
            loss=self.fitted_to(data).loss or "",
            has_sparse_rows=is_sparse(data.train.images),
        )


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe(
        "quickstart", "64-32-10 on scikit-learn's 8x8 digits, Adam; no download", "digits", (64, 32, 10),
        TrainingOptions(optimizer=Adam(3e-3), epochs=30, batch_size=32),
    ),
    Recipe(
        "gd-10", "784-10-10, full-batch gradient descent, 500 steps", "mnist", (784, 10, 10),
        TrainingOptions(optimizer=SGD(0.1), epochs=500, batch_size=None),
    ),
    Recipe(
        "gd-10-long", "784-10-10, 2500 steps on a shuffled 90/10 split of all rows", "mnist", (784, 10, 10),
        TrainingOptions(optimizer=SGD(0.1), epochs=2500, batch_size=None), test_fraction=0.1,
    ),
    Recipe(
        "deep-32", "784-32-32-10, full-batch gradient descent, 3500 steps", "mnist", (784, 32, 32, 10),
        TrainingOptions(optimizer=SGD(0.1), epochs=3500, batch_size=None),
    ),
    Recipe(
        "wide-256", "784-256-10, full-batch gradient descent, 200 steps", "mnist", (784, 256, 10),
        TrainingOptions(optimizer=SGD(0.1), epochs=200, batch_size=None),
    ),
    Recipe(
        "mnist-98", "784-256-10, Adam, batch 128: over 98 % in eight epochs", "mnist", (784, 256, 10),
        TrainingOptions(optimizer=Adam(3e-3), epochs=8, batch_size=128, schedule="cosine"),
    ),
    Recipe(
        "table", "sizes by the number of rows, Adam, early stopping; the default for tables", "", (1, 64, 1),
        TrainingOptions(
            optimizer=Adam(1e-3), epochs=200, batch_size=32, validation=0.1, early_stopping=EarlyStopping(20)
        ),
        by_rows=True,
    ),
)}  # fmt: skip
