"""What a training is given: checked, compared among the ranks, placed on the device, and handed to the loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from ...backends import Adam, ConfigError, Optimizer, Rows, TrainingJob
from ...backends.checked_plan import CheckedPlan
from ...backends.communicator import ALONE, Communicator
from ...backends.reduction import Reduction, reduction_of
from ..datasets.dataset import Dataset, Split
from ..inputs.arguments import are_instances, are_whole, make_generator
from ..network.mlp import MLP
from .agreement import check_sum_of, refuse_differing
from .batches import Batches, Feed
from .checkpoint import Checkpoint, OptimizerState
from .early_stopping import EarlyStopping
from .history import History
from .loop import Unseen, take_steps
from .row_weights import ClassWeight
from .rows import training_rows
from .run import Callback, TrainingRun
from .schedules import Schedule
from .settings import TrainingSettings, check_sum

SHUFFLE_STREAM = 1  # keeps the order of rows independent of weights that were drawn from the same seed
DROPOUT_STREAM = 2


def train(
    net: MLP,
    data: Dataset | Split | Batches,
    *,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    batch_size: int | None = 128,
    schedule: str | Schedule = "constant",
    warmup_steps: int = 0,
    l2: float = 0.0,
    l2_per_batch: bool = False,
    dropout: float = 0.0,
    class_weight: ClassWeight | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    shuffle: bool = True,
    validation: Split | float | None = None,
    early_stopping: EarlyStopping | None = None,
    evaluate_every: int = 1,
    precision: str = "full",
    seed: int | np.random.Generator = 0,
    callbacks: Sequence[Callback] = (),
    resume: Checkpoint | str | os.PathLike[str] | None = None,
    optimizer_state: OptimizerState | None = None,
    detect_anomaly: bool = False,
    communicator: Communicator | None = None,
    reproducible: bool = False,
) -> History:
    """Train a network by gradient descent on its loss.

    Args:
        net: the network, changed in place; its input scale and class names become the data's.
        data: training and test rows, or training rows alone, which may have weights; or batches that come from outside,
            for which `batch_size` and `shuffle` mean nothing, and which can be resumed from the start of an epoch.
        optimizer: how gradients become steps; Adam(1e-3) by default.
        epochs: passes over the training rows.
        batch_size: rows whose gradient is taken at once, the last ones of an epoch being what is left; None for all.
        schedule: what the learning rate is multiplied by over the steps: a row of `SCHEDULES`, or a function.
        warmup_steps: steps over which the learning rate first rises linearly.
        l2: the objective is the mean loss plus `l2 / 2` times the sum of the squared weights, biases left out.
        l2_per_batch: whether `l2` is divided by the rows of each batch, as scikit-learn has its `alpha`.
        dropout: share of the hidden units that each step leaves out (Srivastava et al. 2014), in [0, 1).
        class_weight: how much the rows of each class count: "balanced", or weights by number or name of the class.
        clip_norm: the gradient of all parameters together is made no longer than this (Pascanu et al. 2013).
        accumulate: batches whose gradients are added up for one step: a step of `accumulate * batch_size` rows in the
            memory of `batch_size`.
        shuffle: whether every epoch has a new order of rows; a full batch has none.
        validation: rows to see after each epoch how the network does, or the share of the training rows to hold back.
        early_stopping: when to stop before the last epoch; the network then has the weights of its best epoch.
        evaluate_every: epochs from one evaluation to the next; epoch `epochs` always has one. Full batches between two
            are taken in one go, which saves a GPU from waiting for the host.
        precision: of matrix products: "full", that of the network's dtype, or less where the backend has it, such as
            "bfloat16" on a GPU.
        seed: of the generator that draws the orders, or the generator.
        callbacks: listeners; of several processes rank 0's are called, and those that want it on `every_rank`.
        resume: where an earlier run of the same training stopped, or the file or run folder that says so; the run
            goes on from there, bit for bit.
        optimizer_state: where the optimizer of an earlier training of this network ended, `run.optimizer_state`; this
            one's begins there, on whatever rows, and its schedule anew.
        detect_anomaly: whether to look at the result of every operation, and stop at the first that is not finite;
            slow. Without it, the run is looked at after each chunk, and the step that went wrong is searched for then.
        communicator: the processes that share each batch, `nn.distributed.world()`; each of them calls this with the
            same network, rows and arguments. The result is that of one process, up to rounding.
        reproducible: whether the result has the same bits on any number of processes, on machines of one kind: each
            batch is cut into at most 32 shards, of at least 8 rows, whose gradients are added up in a fixed order.
            There must be a shard for each process.

    Returns:
        One result an epoch, those of the resumed run included.

    Raises:
        ConfigError: an argument has a value that it cannot have, the checkpoint is of another training, or a process
            has other arguments, rows or versions than rank 0.
        DataError: the data do not fit the network.
        ModelFileError: the checkpoint cannot be read.
        DivergenceError: the loss, a weight or the optimizer's state is no longer a finite number; the network then has
            the weights before the step that went wrong, or, of batches from outside, the last that were looked at.
    """
    communicator = ALONE if communicator is None else communicator
    if not isinstance(communicator, Communicator):
        raise ConfigError(f"communicator must be nn.distributed.world(), or None, got {communicator!r:.80}")
    if isinstance(data, Batches):
        data.check_options(schedule, warmup_steps, validation, class_weight, accumulate, reproducible)
    train_rows, test_rows, validation_rows = training_rows(net, data, validation, class_weight, seed)
    feed, rows = None, len(train_rows)
    if isinstance(data, Batches):
        feed = Feed(data, net, communicator)
        rows, batch_size = data.steps_per_epoch or 1, 1  # its steps are counted, not its rows
    batch_size = rows if batch_size is None else batch_size
    settings = TrainingSettings(
        optimizer=Adam() if optimizer is None else optimizer,
        epochs=epochs,
        batch_size=batch_size * accumulate if are_whole([batch_size, accumulate], least=1) else batch_size,
        schedule=schedule,
        warmup_steps=warmup_steps,
        l2=l2,
        shuffle=shuffle,
        evaluate_every=evaluate_every,
        rows=rows,
        l2_per_batch=l2_per_batch,
        dropout=dropout,
        clip_norm=clip_norm,
        accumulate=accumulate,
        early_stopping=early_stopping,
        first_step=1 if optimizer_state is None else optimizer_state.step + 1,
        are_steps_known=not isinstance(data, Batches) or data.steps_per_epoch is not None,
        reproducible=reproducible,
        ranks=communicator.size if feed is None else 1,
    )
    learning_rate = settings.learning_rate()
    if not are_instances(callbacks, Callback):
        raise ConfigError(f"callbacks must be a list of nn.Callback, got {callbacks!r:.80}: put it in a list")
    if early_stopping is not None and validation is None and early_stopping.monitor.startswith("validation"):
        raise ConfigError(f"early stopping by the {early_stopping.monitor} needs validation rows: pass validation=0.1")
    if resume is not None and optimizer_state is not None:
        raise ConfigError("a resumed training has its own optimizer_state: leave one of them out")
    net.backend.check_precision(precision)
    if detect_anomaly and precision != "full":
        raise ConfigError(
            f"detect_anomaly computes in full precision, got precision={precision!r}: leave one of them out"
        )
    generator = make_generator(seed, stream=SHUFFLE_STREAM)
    dropout_seed = int(make_generator(seed, stream=DROPOUT_STREAM).integers(2**63)) if dropout else 0
    scale = data.scale if isinstance(data, Dataset) else net.input_scale
    identity: dict[str, Any] = {}  # to find it reads all rows: only where it is asked for
    if resume is not None or communicator.size > 1:
        identity = settings.identity(net, train_rows, validation_rows, scale, dropout_seed)
    if resume is not None:
        resume = resume if isinstance(resume, Checkpoint) else Checkpoint.load(resume)
        resume.check_fits(net, identity, settings)
        resume.check_generator(generator)
    if communicator.size > 1:
        others = {
            "check sum of the test rows": None if test_rows is None else check_sum(test_rows),
            "check sum of the optimizer's state": optimizer_state and check_sum_of(optimizer_state.arrays),
            "detect_anomaly": detect_anomaly,
            "precision": precision,
        }
        refuse_differing(communicator, net, settings, identity, generator, resume, others)
    communicator = net.backend.communicator(communicator)  # all ranks have the same backend by now
    if resume is not None:  # nothing was changed before this line
        generator.bit_generator.state = resume.generator_state
        net.load_parameters(resume.parameters)
    if isinstance(data, Dataset):
        net.adopt(data)

    backend = net.backend
    placed = backend.place(train_rows.images, train_rows.labels, net.input_scale, train_rows.weights)
    if feed is not None:
        placed = placed._replace(on_host=True)  # as its batches are: a plan for these very rows would be of no use
    job = TrainingJob(
        net.layers, settings.optimizer, placed, settings.batch_size, loss=net.loss, l2=l2, l2_per_batch=l2_per_batch,
        dropout=dropout, dropout_seed=dropout_seed, clip_norm=clip_norm,
        tile_rows=batch_size if accumulate > 1 else None, learning_rate=learning_rate, precision=precision,
        communicator=communicator, shards=settings.shards,
    )  # fmt: skip
    reduction = reduction_of(backend, job)
    unseen = Unseen(*(_placed_parts(net, reduction, rows) for rows in (test_rows, validation_rows)))
    with backend.fixed_order() if reproducible else nullcontext():
        plan = CheckedPlan(backend, job) if detect_anomaly else backend.compile(job)
        run = TrainingRun(
            net, train_rows, settings, plan, generator, feed=feed, validation=validation_rows,
            communicator=communicator, reduction=reduction,
        )  # fmt: skip
        if identity:
            run.identity = identity
        if resume is not None:
            run.restore(resume)
        elif optimizer_state is not None:
            plan.load_state(optimizer_state.arrays, optimizer_state.step)
        take_steps(run, unseen, [callback for callback in callbacks if callback.every_rank or communicator.rank == 0])
    if run.best:
        net.load_parameters(run.best)
    return run.history


def _placed_parts(net: MLP, reduction: Reduction, rows: Split | None) -> list[Rows] | None:
    """Place this process's parts of some rows."""
    if rows is None:
        return None
    parts = reduction.parts(slice(0, len(rows)))
    return [net.backend.place(rows.images[part], rows.labels[part], net.input_scale) for part in parts]
