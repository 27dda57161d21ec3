"""The loss of any finite logits is mpmath's: of single rows, by every backend's operation and by the compiled plans."""

import shutil

import numpy as np
import pytest
from mpmath import mp
from xpnn.backends import SGD, Layer, get_backend, why_unavailable
from xpnn.backends.testing.problem import training_job

CLASSES, CHUNK = 10, 100
ALLOWED = {"float32": 1e-6, "float64": 1e-12}  # relative error

both_types = pytest.mark.parametrize("dtype", list(ALLOWED))


def random_rows(rows, dtype, seed):
    """Logits (rows, 10), denormal to about 1e30, and labels (rows,), of which half have the largest logit."""
    generator, tiny = np.random.default_rng(seed), float(np.finfo(dtype).tiny)
    far = generator.random(rows) < 0.1
    scale = 10.0 ** np.where(far, generator.uniform(4, 30, rows), generator.uniform(-3, 4, rows))
    logits = generator.normal(size=(rows, CLASSES)) * scale[:, None]
    kind = generator.integers(0, 8, rows)
    logits[kind == 0] = generator.normal(size=((kind == 0).sum(), CLASSES)) * tiny
    logits[kind == 1] = logits[kind == 1][:, :1]  # all equal
    logits[kind == 2, -3:] = logits[kind == 2].max(axis=1, keepdims=True)  # the largest three times
    logits[kind == 3, 4] += 10.0 ** generator.uniform(0, 2.8, (kind == 3).sum())  # sure of one class, to any degree
    logits = logits.astype(dtype)
    return logits, np.where(generator.random(rows) < 0.5, logits.argmax(axis=1), generator.integers(0, CLASSES, rows))


def exact(logits, labels):
    """The losses, (rows,): `-log p = log(1 + sum of exp(z - z[label]))` over the other classes."""
    losses = []
    with mp.workprec(140):
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            here = mp.mpf(row.pop(label))
            losses.append(float(mp.log1p(mp.fsum(mp.exp(z - here) for z in row))))
    return np.array(losses)


def of_operation(backend, logits, labels):
    """The losses of single rows, (rows,)."""
    logits, labels = backend.put(logits), backend.put(labels)
    ones = [slice(k, k + 1) for k in range(logits.shape[0])]
    losses = [backend.loss(logits[k, :], labels[k], loss="softmax_cross_entropy", batch_size=1)[0] for k in ones]
    return np.array([float(backend.to_numpy(loss)) for loss in losses])


def of_plan(backend, logits, labels):
    """Alike, out of steps of learning rate 0 on single rows: ones and zeros take the logits out of the weight."""
    losses = []
    for first in range(0, len(logits), CHUNK):
        weight = np.zeros((CHUNK, CLASSES), logits.dtype)
        some = logits[first : first + CHUNK]
        weight[: len(some)] = some
        layer = Layer(backend.put(weight), backend.put(np.zeros(CLASSES, logits.dtype)), "identity")
        rows = backend.place(np.eye(CHUNK, dtype="uint8")[: len(some)], labels[first : first + CHUNK], 1.0)
        plan = backend.compile(
            training_job([layer], rows, optimizer=SGD(1.0), batch_size=1, learning_rate=lambda step: 0.0)  # noqa: ARG005
        )
        losses += [plan.run(np.array([k])).loss_sum for k in range(len(some))]
    return np.array(losses)


def largest_error(losses, expected, dtype):
    """The largest relative error; but terms of the sum that are no normal numbers may be 0."""
    assert np.isfinite(losses).all()
    errors = np.maximum(np.abs(losses - expected) - CLASSES * float(np.finfo(dtype).tiny), 0)
    return (errors / np.maximum(expected, 5e-324)).max()


@both_types
def test_random_rows(dtype, amount, show):
    rows = amount(100_000, slice=200)
    logits, labels = random_rows(rows, dtype, seed=1)
    expected = exact(logits, labels)
    assert expected.max() > 1e20
    assert ((expected > 0) & (expected < 1e-30)).any()
    errors = {}
    for name, ways, every in (("numpy", [of_operation], 1), ("numba", [of_operation, of_plan], 1),
                              ("array-api-strict", [of_operation], 10)):  # fmt: skip
        if why_unavailable(name):
            continue
        for way in ways:
            losses = way(get_backend(name), logits[::every], labels[::every])
            errors[name, way.__name__] = largest_error(losses, expected[::every], dtype)
    assert all(error < ALLOWED[dtype] for error in errors.values()), errors
    names = ", ".join(dict.fromkeys(name for name, _ in errors))
    seen = f"{rows:,} rows of logits up to 1e30, by {names}: largest relative error {max(errors.values()):.1e}"
    show(8, f"loss against mpmath, {dtype}", seen)


@both_types
@pytest.mark.usefixtures("cupy")
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_random_rows_of_the_cuda_kernels(dtype, show):
    logits, labels = random_rows(2 * CHUNK, dtype, seed=2)
    error = largest_error(of_plan(get_backend("cupy"), logits, labels), exact(logits, labels), dtype)
    assert error < ALLOWED[dtype]
    seen = f"{2 * CHUNK} rows of logits up to 1e30: largest relative error {error:.1e}"
    show(8, f"loss against mpmath, {dtype}, CUDA's kernels built for the host", seen)
