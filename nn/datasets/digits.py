"""The 8x8 digits of scikit-learn, without a download."""

from __future__ import annotations

from ...backends.errors import MissingDependency
from .arrays import from_arrays
from .dataset import Dataset

TEST_FRACTION = 0.2
SPLIT_SEED = 0  # fixed, so that every run is measured on the same rows


def load_digits() -> Dataset:
    """Load scikit-learn's digits with a fixed stratified split: four fifths for training, one fifth for testing.

    Returns:
        1797 images, (samples, 64) uint8 in 0..16 with scale 1/16 and image shape (8, 8), of 10 classes.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingDependency(
            'the digits need scikit-learn, which is not installed: pip install "xpnn[cli]"'
        ) from error
    bunch = datasets.load_digits()
    return from_arrays(
        bunch.images.astype("uint8"),  # (1797, 8, 8), whole numbers kept as float64 by scikit-learn
        bunch.target,  # (1797,)
        test_fraction=TEST_FRACTION,
        seed=SPLIT_SEED,
        stratify=True,
        name="digits",
        class_names=tuple("0123456789"),
    )
