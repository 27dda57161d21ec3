"""Training on streamed batches: augmented data, databases, data loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError, Plan, Rows, Totals
from ...backends.communicator import Communicator
from ...backends.constraints import is_whole, shown
from ...backends.override import override
from ..datasets.dataset import Split
from ..inputs.arrays import host_array, shape_of_images
from ..inputs.inputs import Inputs, Numbers, Pixels
from ..network.evaluation import held_rows
from ..network.mlp import MLP
from .identity import check_sum
from .options import TrainingOptions
from .sources import RowSource

BatchSource = Iterable[Any] | Callable[[int], Iterable[Any]]


class Batches:
    """Stream of batches generated during training, one per step.

    >>> def noisy(epoch):  # the same batches whenever that epoch is begun
    ...     generator = np.random.default_rng([0, epoch])
    ...     for rows in np.array_split(generator.permutation(len(images)), 100):
    ...         yield images[rows] + generator.normal(0, 0.1, (len(rows), 784)), labels[rows]
    >>> nn.train(net, nn.Batches(noisy), epochs=5, validation=nn.Split(test_images, test_labels))

    A batch is `(images, labels)`, `(images, labels, weights)` or an `nn.Split`: images (rows, features) or pictures
    (rows, height, width), labels and weights as in a Split, in arrays of any library. They are read as the network's
    `inputs` say; if it has none, as those of the validation rows do; else the first batch decides: uint8 are pixels in
    [0, 255], others the features as they are. Each batch is checked, and batch sizes may vary.

    Args:
        source: a function from epoch number, from 1, to an iterable of batches, or a re-iterable such as a list or a
            PyTorch DataLoader.
        steps_per_epoch: batches per epoch; fewer are an error. None for all batches; required by schedules other than
            constant, and by warm-up.

    Raises:
        ConfigError: the source can be iterated only once, or is neither; or `steps_per_epoch` is invalid.
    """

    def __init__(self, source: BatchSource, *, steps_per_epoch: int | None = None) -> None:
        if isinstance(source, Iterator):
            raise ConfigError(
                f"a {type(source).__name__} can be iterated only once, and each epoch begins anew: pass a function "
                "of the epoch's number that returns one, such as nn.Batches(lambda epoch: ...)"
            )
        if not (isinstance(source, Iterable) or callable(source)):
            raise ConfigError(f"batches must be a function or a re-iterable such as a list, got {source!r:.80}")
        if steps_per_epoch is not None and not is_whole(steps_per_epoch, least=1):
            raise ConfigError(f"steps_per_epoch must be a whole number >= 1, or None, got {shown(steps_per_epoch)}")
        self.steps_per_epoch = steps_per_epoch
        self._source = source

    def of_epoch(self, epoch: int) -> Iterator[Any]:
        """Begin an epoch, counted from 1.

        Raises:
            DataError: the function does not return an iterable.
        """
        batches: Any = self._source if isinstance(self._source, Iterable) else self._source(epoch)
        try:
            return iter(batches)
        except TypeError as error:
            raise DataError(
                f"the function of the batches must return an iterable, got {batches!r:.80} for epoch "
                f"{epoch}: yield the batches, or return a list"
            ) from error


class StreamedRows(RowSource):
    """Source of streamed batches, one per step.

    Args:
        batches: the stream.
        net: network that they must fit.
        options: training options.
        communicator: communicator of the processes, which all generate the same batches.

    Attributes:
        taken: batches of the current epoch processed so far.

    Raises:
        ConfigError: the options need all rows, a constant batch size, or the number of steps.
    """

    can_repeat = False
    rows_per_epoch = None
    step_rows = 1

    def __init__(self, batches: Batches, net: MLP, options: TrainingOptions, communicator: Communicator) -> None:
        if batches.steps_per_epoch is None and (options.schedule != "constant" or options.warmup_steps != 0):
            raise ConfigError(
                "a schedule or warm-up needs the number of steps: pass nn.Batches(..., steps_per_epoch=...)"
            )
        if not isinstance(options.validation, Split | None):
            raise ConfigError("no share of batches can be held out: pass validation=nn.Split(images, labels)")
        if options.class_weight is not None:
            raise ConfigError("class_weight needs all rows: give each batch (images, labels, weights) instead")
        if options.accumulate != 1:
            raise ConfigError("accumulate needs batches of one size: make larger ones instead")
        if options.reproducible:
            raise ConfigError("reproducible needs batches of one size: pass all rows, which may be mapped from a file")
        labels = np.empty(0, np.int64) if net.outputs.has_classes else np.empty((0, net.num_outputs))
        validation = options.validation if isinstance(options.validation, Split) else None
        inputs = net.inputs or (validation.inputs if validation else None)
        width = inputs.width if inputs else net.features
        self.rows = Split(np.empty((0, width or net.features), np.float32), labels, inputs=inputs)
        self.steps_per_epoch = batches.steps_per_epoch
        self._batches, self._net, self._communicator, self._validation = batches, net, communicator, validation
        self._waiting: Iterator[Any] = iter(())
        self._next: Any = None
        self._epoch, self.taken, self.weight, self._is_over = 0, 0, 0.0, True

    @override
    def place(self, net: MLP) -> Rows:
        """Return no rows, marked as on the host; the batches come later."""
        return super().place(net)._replace(on_host=True)

    @override
    def begin(self, epoch: int, generator: np.random.Generator) -> None:
        self._waiting = self._batches.of_epoch(epoch)
        self._epoch, self.taken, self.weight, self._is_over = epoch, 0, 0.0, False
        self._ask()

    @override
    def take(self, plan: Plan, totals: Totals, rows: int, epochs: int) -> list[Totals]:
        end = totals.rows + rows
        while totals.rows < end and not self._is_over:
            batch = self._checked(self._next)
            self._refuse_other(check_sum(Split(batch.images[:1], batch.labels)))
            plan.feed(self._net.place(batch))
            totals = plan.run(None, totals)
            self.taken += 1
            self.weight += len(batch) if batch.weights is None else float(batch.weights.sum())
            self._ask()
        return [totals]

    @override
    def is_over(self, totals: Totals) -> bool:
        return self._is_over

    @override
    def place_of(self, step: int) -> str:
        return f"epoch {self._epoch}, near batch {self.taken}"

    def _ask(self) -> None:
        """Fetch the next batch in advance, so that the end of an epoch is known with its last step."""
        wanted = self._batches.steps_per_epoch
        try:
            self._is_over = self.taken == wanted
            self._next = None if self._is_over else next(self._waiting)
        except StopIteration:
            if wanted is not None or self.taken == 0:
                raise DataError(
                    f"epoch {self._epoch} must have {'a batch' if wanted is None else f'{wanted} batches'}, got "
                    f"{self.taken}: is it a generator, which can be iterated only once? pass a function of the "
                    "epoch's number that makes a new one"
                ) from None
            self._is_over, self._next = True, None
        if self._is_over and not self.weight:
            raise DataError(f"all weights of epoch {self._epoch} are 0: give some rows a positive weight")
        self._refuse_other(self._is_over)

    def _refuse_other(self, found: int) -> None:
        """Check that all processes have the same batch, or none; `found` describes this one's."""
        of_ranks = self._communicator.gather(np.array(found, dtype=np.int64))  # (ranks,)
        if (differing := np.flatnonzero(of_ranks != of_ranks[0])).size:
            raise DataError(
                f"rank {differing[0]} has another batch {self.taken + 1} of epoch {self._epoch} than rank 0, or none: "
                "each rank must make the same batches, of which it takes a part; shuffle by the epoch's number"
            )

    def _inputs_of(self, images: npt.NDArray[Any]) -> Inputs:
        """Return the inputs that the first batch decides."""
        inputs = (Pixels if images.dtype == np.uint8 else Numbers)(count=self._net.features)
        held = self._validation and self._net.inputs_for(self._validation)
        if held and held.KIND != inputs.KIND:
            raise DataError(
                f"images are {inputs.KIND} as {images.dtype}, but those for validation are {held.KIND}: say what they "
                "are by net.inputs = nn.Pixels() or nn.Numbers()"
            )
        return held or inputs

    def _checked(self, given: Any) -> Split:
        """Check a batch and convert it to rows."""
        what = f"batch {self.taken + 1} of epoch {self._epoch}"
        if isinstance(given, Split):
            given = (given.images, given.labels) + (() if given.weights is None else (given.weights,))
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise DataError(f"{what} must be (images, labels) or (images, labels, weights), got {given!r:.80}")
        try:
            images, labels, *weights = (
                host_array(array, what=name, fix="pass equal rows of numbers")
                for array, name in zip(given, ("images", "labels", "weights"), strict=False)
            )
            shape = shape_of_images(images, what="images")
            if len(shape) == 3:
                images = images.reshape(len(images), shape[1] * shape[2])  # (rows, features)
            if self._net.inputs is None:
                self._net.inputs = self._inputs_of(images)
            rows = held_rows(self._net, Split(images, labels, *weights))
        except DataError as error:
            raise DataError(f"{what}: {error}") from error
        return rows if rows.weights is None else replace(rows, weights=rows.weights.astype(np.float64))
