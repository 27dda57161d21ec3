"""xpnn.nn: feed-forward networks, their training loop and their data.

>>> from xpnn import nn
>>> data = nn.load_dataset("digits")
>>> net = nn.MLP([64, 32, 10], backend="numpy")
>>> history = nn.train(net, data, optimizer=nn.Adam(1e-3), epochs=10, batch_size=32)
>>> nn.evaluate(net, data.test)
"""

from ..backends import SGD, Adam, AdamW, Optimizer, RMSprop, XpnnError
from . import reference
from .callbacks import Callback
from .checkpoint import Checkpoint
from .datasets import Dataset, Split, from_arrays, load_dataset, resplit
from .evaluation import Evaluation, confusion_matrix, evaluate
from .history import EpochResult, History
from .mlp import MLP
from .model_file import load, save
from .save_checkpoints import SaveCheckpoints
from .schedules import SCHEDULES
from .training import train
from .training_run import TrainingRun

__all__ = [
    "MLP",
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "Callback",
    "Checkpoint",
    "Dataset",
    "EpochResult",
    "Evaluation",
    "History",
    "Optimizer",
    "RMSprop",
    "SaveCheckpoints",
    "Split",
    "TrainingRun",
    "XpnnError",
    "confusion_matrix",
    "evaluate",
    "from_arrays",
    "load",
    "load_dataset",
    "reference",
    "resplit",
    "save",
    "train",
]
