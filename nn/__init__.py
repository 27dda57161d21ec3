"""xpnn.nn: feed-forward networks, training, and data sets.

>>> from xpnn import nn
>>> data = nn.load_dataset("digits")
>>> net = nn.MLP([64, 32, 10], backend="numpy")
>>> history = nn.train(net, data, optimizer=nn.Adam(1e-3), epochs=10, batch_size=32)
>>> nn.evaluate(net, data.test)
"""

from ..backends import SGD, Adam, AdamW, Optimizer, RMSprop, XpnnError
from . import distributed, reference
from .datasets import Dataset, Reading, Split, TableOptions, from_arrays, load_dataset, resplit
from .inputs.inputs import Inputs, Numbers, Pixels, Target
from .inputs.table import Column, Table
from .network.evaluation import Evaluation, evaluate
from .network.metrics import Calibration, ClassScores, calibration_error, confusion_matrix, precision_recall
from .network.mlp import MLP
from .network.model_file import load, save
from .training.checkpoint import Checkpoint, OptimizerState
from .training.early_stopping import EarlyStopping
from .training.history import EpochResult, History
from .training.options import TrainingOptions
from .training.run import Callback, TrainingRun
from .training.save_checkpoints import SaveCheckpoints
from .training.schedules import SCHEDULES
from .training.streams import Batches
from .training.tensorboard import TensorBoard
from .training.train import train
from .training.trainer import Trainer

__all__ = [
    "MLP", "SCHEDULES", "SGD", "Adam", "AdamW", "Batches", "Calibration", "Callback", "Checkpoint", "ClassScores",
    "Column", "Dataset", "EarlyStopping", "EpochResult", "Evaluation", "History", "Inputs", "Numbers", "Optimizer",
    "OptimizerState", "Pixels", "RMSprop", "Reading", "SaveCheckpoints", "Split", "Table", "TableOptions", "Target",
    "TensorBoard", "Trainer", "TrainingOptions", "TrainingRun", "XpnnError",
    "calibration_error", "confusion_matrix", "distributed", "evaluate", "from_arrays", "load", "load_dataset",
    "precision_recall", "reference", "resplit", "save", "train",
]  # fmt: skip
