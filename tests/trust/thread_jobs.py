"""Trainings on Numba whose bits must not depend on the number of threads; as a program, prints a digest of each."""

import hashlib
import json
import sys

import numpy as np
from xpnn import nn
from xpnn.backends import ACTIVATIONS
from xpnn.backends.activations import Activation

ROWS, FEATURES, CLASSES = 1500, 200, 10
# Density of the rows, and options of the training; docs/reliability.md names each.
CASES = {
    "plain": (1.0, {"batch_size": None}),
    "dense rows": (1.0, {}),
    "sparse rows": (0.2, {}),
    "class weights": (1.0, {"class_weight": "balanced"}),
    "label smoothing": (1.0, {"label_smoothing": 0.1}),
    "dropout": (1.0, {"dropout": 0.3}),
    "clipping": (1.0, {"clip_norm": 0.1}),
    "own activation": (1.0, {}),
}


def digest(name):
    """Train; return a SHA-256 of the parameters and of the epochs' figures."""
    density, options = CASES[name]
    generator = np.random.default_rng(5)
    images = generator.integers(1, 256, (ROWS, FEATURES)) * (generator.random((ROWS, FEATURES)) < density)
    rows = nn.Split(images.astype(np.uint8), generator.integers(0, CLASSES, ROWS))
    activation = "own" if name == "own activation" else "relu"
    net = nn.MLP([FEATURES, 64, 32, CLASSES], activation=activation, backend="numba", seed=0)
    options = {"epochs": 2, "batch_size": 500, "optimizer": nn.Adam(1e-3), "seed": 0} | options
    figures = [(epoch.train_loss, epoch.train_accuracy) for epoch in nn.train(net, rows, **options)]
    arrays = [*net.parameters().values(), np.array(figures)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


if __name__ == "__main__":
    ACTIVATIONS["own"] = Activation(lambda xp, x: xp.abs(x), lambda xp, grad_y, y: grad_y * xp.sign(y))
    sys.stdout.write(json.dumps({name: digest(name) for name in CASES}))
