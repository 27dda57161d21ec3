"""What `nn.train` offers besides steps: validation, early stopping, weights, accumulation, other losses, going on."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DataError

PARTS = ("train", "test")


@pytest.fixture
def noisy():
    """`noisy()`: 60 rows of 6 features whose labels are noise, so that a network soon learns by heart."""

    def make(rows=60, seed=3):
        generator = np.random.default_rng(seed)
        images, labels = generator.normal(size=(rows, 6)), generator.integers(0, 3, rows)
        return nn.Split(images, labels)

    return make


@pytest.fixture
def make_net(backend):
    """`make_net(...)`: 6-8-3 in float64."""
    return lambda *, loss="softmax_cross_entropy", outputs=3, **options: nn.MLP(
        [6, 8, outputs], backend=backend, dtype="float64", loss=loss, seed=1, **options
    )


def weights(net):
    return list(net.parameters().values())


def same(one, other, **tolerance):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 1e-10, "atol": 1e-12}))


class Watch(nn.Callback):
    """Remembers the weights after each epoch."""

    each_epoch = True

    def __init__(self):
        self.weights = []

    def on_epoch_end(self, run, result):  # noqa: ARG002
        self.weights.append(run.net.parameters())


@pytest.mark.parametrize("batch_size", [16, None])
def test_the_best_weights_are_kept(make_net, noisy, batch_size):
    net, watch = make_net(), Watch()
    stopping = nn.EarlyStopping(patience=4)
    history = nn.train(
        net, noisy(), optimizer=nn.Adam(0.05), epochs=200, batch_size=batch_size, validation=0.25,
        early_stopping=stopping, callbacks=[watch],
    )  # fmt: skip
    losses = [result.validation_loss for result in history]
    best = int(np.argmin(losses))
    assert len(history) == best + 5 < 200
    assert stopping.best_epoch(history) == best + 1
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, watch.weights[best][name])


def test_an_improvement_must_be_of_min_delta(make_net, noisy):
    def epochs(min_delta):
        stopping = nn.EarlyStopping(patience=3, min_delta=min_delta, monitor="train_loss")
        return len(
            nn.train(make_net(), noisy(), optimizer=nn.SGD(0.01), epochs=12, early_stopping=stopping, batch_size=20)
        )

    assert (epochs(0.0), epochs(10.0)) == (12, 4)


@pytest.mark.parametrize("monitor", ["validation_accuracy", "train_loss"])
def test_other_figures_can_be_monitored(make_net, noisy, monitor):
    stopping = nn.EarlyStopping(patience=2, monitor=monitor)
    history = nn.train(
        make_net(), noisy(), epochs=60, optimizer=nn.SGD(5.0), batch_size=20, validation=0.3, early_stopping=stopping
    )
    figures = [getattr(result, monitor) for result in history]
    best = int(np.argmax(figures) if "accuracy" in monitor else np.argmin(figures))
    assert len(history) == best + 3


def test_a_resumed_run_stops_where_the_whole_one_does(make_net, noisy, tmp_path):
    options = {
        "optimizer": nn.Adam(0.05),
        "epochs": 200,
        "batch_size": 16,
        "validation": 0.25,
        "dropout": 0.2,
        "seed": 5,
    }
    options["early_stopping"] = nn.EarlyStopping(patience=6)

    class StopAt(nn.Callback):
        def on_epoch_end(self, run, result):
            if result.epoch == 5:
                run.stop()

    whole, parts = make_net(), make_net()
    expected = nn.train(whole, noisy(), **options)
    path = tmp_path / "run.safetensors"
    nn.train(parts, noisy(), callbacks=[StopAt(), nn.SaveCheckpoints(path)], **options)
    history = nn.train(make_net(), noisy(), resume=path, **options)
    assert len(history) == len(expected) > 6
    again = make_net()
    nn.train(again, noisy(), resume=path, callbacks=[nn.SaveCheckpoints(path)], **options)
    for a, b in zip(weights(again), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    third = make_net()
    assert len(nn.train(third, noisy(), resume=path, **options)) == len(expected)  # it was over
    for a, b in zip(weights(third), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    patient = {**options, "early_stopping": nn.EarlyStopping(patience=9)}
    assert len(nn.train(make_net(), noisy(), resume=path, **patient)) == len(nn.train(make_net(), noisy(), **patient))


def test_validation_rows_are_not_trained_on_and_every_class_is_among_them(make_net):
    images = np.arange(240.0).reshape(40, 6) / 240
    labels = np.array([0] * 30 + [1] * 6 + [2] * 4)
    rows = nn.Split(images, labels, weights=np.arange(40.0) + 1)
    seen = {}

    class Look(nn.Callback):
        def on_train_begin(self, run):
            seen["train"] = run.source.rows

    nn.train(make_net(), rows, epochs=1, batch_size=None, validation=0.25, callbacks=[Look()])
    kept = seen["train"]
    assert len(kept) == 29
    assert np.bincount(kept.labels).tolist() == [22, 4, 3]
    assert (np.diff(kept.images[:, 0]) > 0).all()  # in their order
    np.testing.assert_array_equal(kept.weights, kept.images[:, 0] * 40 + 1)


def test_validation_may_be_rows_of_ones_own(make_net, noisy):
    validation = noisy(20, seed=4)
    net = make_net()
    history = nn.train(net, noisy(), epochs=2, batch_size=20, validation=validation)
    expected = nn.evaluate(net, validation)
    assert (history[-1].validation_loss, history[-1].validation_accuracy) == expected[:2]
    assert history[-1].test_loss is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.0}, r"validation must be an nn.Split, or the share .* in \(0, 1\), got 1.0"),
        ({"validation": "some"}, "validation must be an nn.Split, or the share .* got 'some'"),
        (
            {"early_stopping": nn.EarlyStopping()},
            "by the validation_loss needs validation rows: hold some out",
        ),
        ({"early_stopping": 5}, r"early_stopping must be one such as nn.EarlyStopping\(\), or None, got 5"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1.0"),
        ({"dropout": -0.5}, "dropout must be a number"),
        ({"clip_norm": 0.0}, "clip_norm must be a finite number > 0, or None, got 0.0"),
        ({"accumulate": 0}, "accumulate must be a whole number >= 1, got 0"),
        ({"class_weight": "even"}, "class_weight must be 'balanced', a mapping or a sequence, got 'even'"),
        ({"class_weight": {7: 1.0}}, "class_weight names a class 7, which is none of 0, 1, 2"),
        ({"class_weight": {1: -1.0}}, "the weight of class 1 must be a finite number >= 0, got -1.0"),
        ({"class_weight": [1.0, 2.0]}, "class_weight must have 3 weights, one a class, got 2"),
        (
            {"class_weight": [0, 0, 0]},
            r"the weights of the training rows must have a finite sum > 0 with class_weight, got 0\.0",
        ),
        ({"class_weight": b"abc"}, "class_weight must be 'balanced', a mapping or a sequence, got b'abc'"),
        ({"class_weight": np.array(3.0)}, "class_weight must be 'balanced', a mapping or a sequence, got array"),
        ({"class_weight": {1: 1.0, "1": 2.0}}, "class_weight names a class twice: 1, '1'"),
        ({"class_weight": [1e308, 1e308, 1e308]}, "must have a finite sum > 0 with class_weight, got inf"),
    ],
)
def test_impossible_arguments_are_refused_before_a_step(make_net, noisy, options, message):
    net = make_net()
    before = net.parameters()
    with pytest.raises(ConfigError, match=message):
        nn.train(net, noisy(), epochs=1, batch_size=20, **options)
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"patience": 0}, "patience must be a whole number >= 1, got 0"),
        ({"min_delta": -1.0}, "min_delta must be a finite number >= 0, got -1.0"),
        ({"monitor": "test_loss"}, "monitor"),
    ],
)
def test_impossible_early_stopping_is_refused(kind, message):
    with pytest.raises(ConfigError, match=message):
        nn.EarlyStopping(**kind)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(59), r"weights must be numbers of shape \(60,\), got float64 of shape \(59,\)"),
        (np.full(60, -1.0), "weights must be finite and at least 0, got -1.0 at row 0"),
        (np.full(60, np.nan), "weights must be finite and at least 0, got nan at row 0"),
        (np.zeros(60), "all weights are 0"),
    ],
)
def test_impossible_weights_are_refused(make_net, noisy, bad, message):
    rows = noisy()
    with pytest.raises(DataError, match=message):
        nn.train(make_net(), nn.Split(rows.images, rows.labels, bad), epochs=1, batch_size=20)


def test_class_weights_are_weights_of_their_rows(make_net, noisy):
    rows, options = noisy(), {"epochs": 2, "batch_size": 20, "seed": 2}
    by_class, by_row, by_name = make_net(), make_net(), make_net()
    nn.train(by_class, rows, class_weight={0: 2.0, 2: 0.5}, **options)
    nn.train(by_row, nn.Split(rows.images, rows.labels, np.array([2.0, 1.0, 0.5])[rows.labels]), **options)
    same(by_class, by_row)
    data = nn.Dataset("named", rows, rows, nn.Numbers(class_names=("a", "b", "c")))
    nn.train(by_name, data, class_weight={"a": 2.0, "c": 0.5}, **options)
    same(by_name, by_row)


def test_balanced_classes_weigh_the_same_in_sum(make_net, noisy):
    rows, seen = noisy(), {}

    class Look(nn.Callback):
        def on_train_begin(self, run):
            seen["weights"] = run.source.rows.weights

    nn.train(make_net(), rows, class_weight="balanced", epochs=1, batch_size=20, callbacks=[Look()])
    sums = [seen["weights"][rows.labels == k].sum() for k in range(3)]
    np.testing.assert_allclose(sums, [20, 20, 20])


def test_the_loss_of_an_epoch_is_the_weighted_mean(make_net, noisy):
    rows = noisy()
    row_weights = np.arange(60.0)
    net = make_net()
    before = np.log(net.predict_proba(rows.images))[np.arange(60), rows.labels]  # full batch: the loss before the step
    history = nn.train(net, nn.Split(rows.images, rows.labels, row_weights), epochs=1, batch_size=None)
    assert history[0].train_loss == pytest.approx(-np.average(before, weights=row_weights), rel=1e-12)


def test_validation_rows_are_weighted_as_the_training_rows(make_net, noisy):
    rows, held, of_classes = noisy(), noisy(20, seed=4), np.array([2.0, 1.0, 0.5])
    own = np.arange(20.0)
    weighted = nn.Split(held.images, held.labels, own)
    options = {"epochs": 2, "batch_size": 20, "seed": 2}
    net = make_net()
    (*_, last) = nn.train(net, rows, class_weight=of_classes, validation=weighted, **options)
    losses = -np.log(net.predict_proba(held.images))[np.arange(20), held.labels]  # (rows,)
    assert last.validation_loss == pytest.approx(np.average(losses, weights=own * of_classes[held.labels]), rel=1e-12)
    assert last.validation_accuracy == nn.evaluate(net, held).accuracy
    by_class = nn.train(make_net(), rows, class_weight=of_classes, validation=0.25, **options)
    by_row = nn.train(
        make_net(), nn.Split(rows.images, rows.labels, of_classes[rows.labels]), validation=0.25, **options
    )
    assert by_class[-1].validation_loss == pytest.approx(by_row[-1].validation_loss, rel=1e-12)
    balanced = nn.train(make_net(), rows, class_weight="balanced", validation=held, **options)
    of_training = 20 / np.bincount(rows.labels)
    as_rows = nn.train(make_net(), rows, class_weight=of_training, validation=held, **options)
    assert balanced[-1].validation_loss == pytest.approx(as_rows[-1].validation_loss, rel=1e-12)
    with pytest.raises(DataError, match="all weights of the validation rows are 0"):
        nn.train(make_net(), rows, validation=nn.Split(held.images, held.labels, np.zeros(20)), **options)
    data = nn.Dataset("d", rows, weighted, nn.Numbers())
    (*_, last) = nn.train(net, data, class_weight=of_classes, **options)
    assert last.test_loss == pytest.approx(nn.evaluate(net, held).loss, rel=1e-12)  # a mean over rows


def test_accumulated_batches_are_one_step(make_net, noisy):
    parts, whole = make_net(), make_net()
    nn.train(parts, noisy(), epochs=3, batch_size=10, accumulate=3, seed=4)
    nn.train(whole, noisy(), epochs=3, batch_size=30, seed=4)
    same(parts, whole)


def test_an_optimizer_goes_on_on_other_rows(make_net, noisy):
    """Two trainings of an epoch each are one of two epochs, if the second has the optimizer's state of the first."""

    class Keep(nn.Callback):
        def on_train_end(self, run):
            self.state = run.optimizer_state

    one, other, cold, keep = make_net(), make_net(), make_net(), Keep()
    options = {"optimizer": nn.Adam(0.1), "batch_size": 20, "shuffle": False}
    nn.train(one, noisy(), epochs=2, **options)
    nn.train(other, noisy(), epochs=1, callbacks=[keep], **options)
    assert keep.state.step == 3
    nn.train(cold, noisy(), epochs=1, **options)
    nn.train(other, noisy(), epochs=1, optimizer_state=keep.state, **options)
    nn.train(cold, noisy(), epochs=1, **options)
    same(one, other, rtol=1e-13)
    with pytest.raises(AssertionError):
        same(one, cold)


def test_a_schedule_begins_anew_with_an_optimizers_state(make_net, noisy):
    rates = []

    class Rates(nn.Callback):
        def on_train_end(self, run):
            self.state = run.optimizer_state
            rates.append(run.plan.job.learning_rates(run.identity.first_step, 4).tolist())

    net, look = make_net(), Rates()
    options = {"epochs": 1, "batch_size": 15, "schedule": "cosine", "callbacks": [look]}
    nn.train(net, noisy(), **options)
    nn.train(net, noisy(), optimizer_state=look.state, **options)
    assert rates[0] == rates[1]
    assert rates[0][0] > rates[0][-1]


def test_a_network_learns_numbers(make_net):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(200, 6))
    numbers = np.stack([images[:, 0] - images[:, 1], 0.5 * images[:, 2]], axis=1)
    net = make_net(loss="squared_error", outputs=2, activation="tanh", initializer="glorot")
    data = nn.Dataset(
        "numbers", nn.Split(images[:150], numbers[:150]), nn.Split(images[150:], numbers[150:]), nn.Numbers()
    )
    history = nn.train(net, data, optimizer=nn.Adam(0.02), epochs=60, batch_size=25, validation=0.2)
    assert (history[-1].train_accuracy, history[-1].test_accuracy) == (None, None)
    predictions = net.predict(images[150:])
    error = ((predictions - numbers[150:]) ** 2).sum(axis=1).mean() / 2
    assert history[-1].test_loss == pytest.approx(error, rel=1e-12)
    assert error < 0.02
    assert nn.evaluate(net, data.test)[:2] == (history[-1].test_loss, None)
    with pytest.raises(ConfigError, match="a network of loss squared_error has no probabilities"):
        net.predict_proba(images)


def test_a_network_learns_several_labels_of_a_row(make_net):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(300, 6))
    labels = (images[:, :3] + images[:, 3:] > 0).astype(float)
    net = make_net(loss="sigmoid_cross_entropy")
    history = nn.train(net, nn.Split(images, labels), optimizer=nn.Adam(0.05), epochs=40, batch_size=30)
    predictions = net.predict(images)
    assert predictions.dtype == np.int64
    assert history[-1].train_accuracy > 0.85
    assert np.mean((predictions == labels).all(axis=1)) > 0.9
    probabilities = net.predict_proba(images)
    np.testing.assert_array_equal(probabilities > 0.5, predictions == 1)


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        (
            "squared_error",
            np.zeros(4),
            r"shape \(samples, 3\), .*; for one output pass labels\[:, None\]",
        ),
        ("squared_error", np.full((4, 3), np.inf), "labels must be finite, got inf at row 0, column 0"),
        ("sigmoid_cross_entropy", np.full((4, 3), 0.5), "labels must be 0 or 1, got 0.5 at row 0, column 0"),
        ("sigmoid_cross_entropy", np.zeros((4, 2)), r"labels must be numbers of shape \(samples, 3\)"),
        ("softmax_cross_entropy", np.zeros((4, 3), int), r"labels must be integers of shape \(samples,\)"),
    ],
)
def test_labels_must_be_those_of_the_loss(make_net, loss, labels, message):
    with pytest.raises(DataError, match=message):
        nn.train(make_net(loss=loss), nn.Split(np.zeros((4, 6)), labels), epochs=1, batch_size=2)


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_a_saved_network_keeps_its_loss(make_net, tmp_path, loss):
    net = make_net(loss=loss)
    nn.save(net, tmp_path / "m.safetensors")
    back = nn.load(tmp_path / "m.safetensors", backend="numpy")
    assert back.loss == loss
    np.testing.assert_allclose(back.predict(np.ones((2, 6))), net.predict(np.ones((2, 6))))


def test_patience_goes_by_the_epochs_that_are_evaluated(make_net, noisy):
    """With an evaluation every tenth epoch, the first that is not better ends it, however short the patience is."""
    history = nn.train(
        make_net(), noisy(), optimizer=nn.Adam(0.05), epochs=200, batch_size=None, evaluate_every=10, validation=0.25,
        early_stopping=nn.EarlyStopping(patience=5),
    )  # fmt: skip
    losses = [result.validation_loss for result in history if result.validation_loss is not None]
    best = int(np.argmin(losses))
    assert len(history) == 10 * len(losses) == 10 * (best + 2)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"early_stopping": nn.EarlyStopping()}, "early_stopping"),
        ({"validation": 0.5}, "check sum of the"),
        ({"dropout": 0.1}, "dropout"),
        ({"class_weight": {0: 2.0}}, "check sum of the rows"),
        ({"accumulate": 2, "batch_size": 10}, "accumulate"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(noisy, tmp_path, changes, what):
    options = {"epochs": 4, "batch_size": 20, "validation": 0.25}
    net, path = nn.MLP([6, 8, 3], backend="numpy"), tmp_path / "run.safetensors"
    nn.train(net, noisy(), callbacks=[nn.SaveCheckpoints(path)], **options)
    with pytest.raises(ConfigError, match=f"the checkpoint belongs to a run with {what}"):
        nn.train(nn.MLP([6, 8, 3], backend="numpy"), noisy(), resume=path, **options | changes)


def test_classes_are_weighted_by_name_where_they_have_names(noisy, backend):
    rows, seen = noisy(), {}

    class Look(nn.Callback):
        def on_train_begin(self, run):
            seen["weights"] = run.source.rows.weights

    data = nn.Dataset("named", rows, rows, nn.Numbers(class_names=("1", "2", "3")))
    options = {"epochs": 1, "batch_size": 20, "callbacks": [Look()]}
    nn.train(nn.MLP([6, 3], backend=backend), data, class_weight={1: 5.0}, **options)
    np.testing.assert_array_equal(seen["weights"], np.where(rows.labels == 0, 5.0, 1.0))
    with pytest.raises(ConfigError, match="class_weight names a class 0, which is none of 1, 2, 3"):
        nn.train(nn.MLP([6, 3], backend=backend), data, class_weight={0: 5.0}, **options)
