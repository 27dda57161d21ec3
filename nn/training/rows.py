"""Training, validation and test rows of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError
from ...backends.communicator import Communicator
from ...backends.mapped import is_mapped
from ..datasets.dataset import Dataset, Split
from ..network.evaluation import held_rows
from ..network.mlp import MLP
from .options import TrainingOptions
from .row_weights import class_weights, row_weights
from .sources import MappedRows, ResidentRows, RowSource
from .streams import Batches, StreamedRows

Data = Dataset | Split | Batches


def training_rows(
    net: MLP, data: Data, options: TrainingOptions, seed: int | np.random.Generator, communicator: Communicator
) -> tuple[RowSource, Split | None, Split | None]:
    """Check and split the rows; arguments as in `Trainer`.

    Returns:
        The source of the training rows with their weights; test rows and validation rows, if any.

    Raises:
        ConfigError: an argument has an invalid value.
        DataError: the rows do not fit the network, or cannot be split.
    """
    if not isinstance(net, MLP):
        raise ConfigError(f"the network must be an nn.MLP, got {type(net).__name__}: make one, or nn.load one")
    if not net.are_finite():
        raise ConfigError("the network's weights must be finite numbers: make a new one, or load the last good one")
    validation = options.validation
    if isinstance(validation, Split):
        validation = held_rows(net, validation)
    match data:
        case Batches():
            source = StreamedRows(data, net, options, communicator)  # refuses to hold out a share
            return source, None, validation_rows(validation) if isinstance(validation, Split) else None
        case Split():
            rows, test = held_rows(net, data), None
        case Dataset():
            rows, test = held_rows(net, data.train), held_rows(net, data.test) if len(data.test) else None
            labels = rows.labels
            if net.outputs.has_classes and labels.min() == labels.max():  # a Split may be a part of the rows
                name = data.class_names[labels[0]] if data.class_names else labels[0]
                raise DataError(f"the training rows must have two classes or more, got only {name}: add rows of others")
        case _:
            raise DataError(
                f"data must be an nn.Dataset or an nn.Split, got {type(data).__name__}: "
                "make one of arrays with nn.from_arrays(images, labels), or pass nn.Batches"
            )
    kind = MappedRows if is_mapped(rows.images) else ResidentRows
    if not isinstance(validation, Split | None):
        rows, validation = kind.hold_out(net, rows, validation, seed)
    names = rows.inputs.class_names if rows.inputs else ()
    of_classes = class_weights(net, rows, options.class_weight, names)
    weights = row_weights(rows, of_classes)
    if weights is not None and not weights.any():
        raise DataError("all weights are 0: there is nothing to learn; give some rows a positive weight")
    if validation is not None:
        validation = validation_rows(validation, of_classes)
    return kind(replace(rows, weights=weights), options, communicator.size), test, validation


def validation_rows(rows: Split, of_classes: npt.NDArray[np.float64] | None = None) -> Split:
    """Return validation rows weighted as the training rows, with a mean weight of 1.

    Their summed loss over their number is then the weighted mean.

    Args:
        rows: validation rows with optional weights.
        of_classes: weights of the classes, (classes,), or None.

    Raises:
        DataError: all weights are 0.
        ConfigError: with class weights their sum is 0 or not finite.
    """
    weights = row_weights(rows, of_classes, "validation rows")
    if weights is not None:
        if not weights.any():
            raise DataError("all weights of the validation rows are 0: give some of them a positive weight")
        weights = weights / weights.mean()
    return replace(rows, weights=weights)
