"""`OptimizerState` under its name in pickled estimators; the class is in `nn/training/checkpoint.py`."""

from .training.checkpoint import OptimizerState as OptimizerState
