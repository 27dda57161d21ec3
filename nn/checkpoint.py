"""`OptimizerState` under the name by which pickled estimators know it; the class is in `nn/training/checkpoint.py`."""

from .training.checkpoint import OptimizerState as OptimizerState
