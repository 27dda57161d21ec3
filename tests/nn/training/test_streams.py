"""Training on batches that come from outside: the same steps as on rows, and what is refused."""

import logging

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DataError, DivergenceError

FIGURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@pytest.fixture
def problem(make_problem):
    """uint8 images (40, 6) and labels (40,) in [0, 3)."""
    return make_problem(40)


def new_net(backend="numpy", **options):
    return nn.MLP([6, 4, 3], backend=backend, seed=0, **options)


def train(net, data, **options):
    return nn.train(net, data, **({"optimizer": nn.Adam(0.01), "epochs": 3} | options))


def in_sevens(images, labels, *more):
    """Batches of seven rows as a list, the last of five."""
    return [tuple(array[k : k + 7] for array in (images, labels, *more)) for k in range(0, len(images), 7)]


def figures(history):
    return [[getattr(result, name) for name in FIGURES] for result in history]


def assert_same(net, other):
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, other.parameters()[name])


# The same steps


def test_batches_are_the_steps_on_the_same_rows_in_memory(every_backend, problem):
    """Compiled plans may take the steps of the rows in memory: they round otherwise."""
    images, labels = problem
    net, other = (new_net(every_backend, dtype="float64") for _ in range(2))
    options = {"validation": nn.Split(images[:9], labels[:9])}
    history = train(net, nn.Batches(in_sevens(images, labels)), **options)
    expected = train(other, nn.Split(images, labels), batch_size=7, shuffle=False, **options)
    np.testing.assert_allclose(figures(history), figures(expected), rtol=1e-4)
    for name, array in net.parameters().items():
        np.testing.assert_allclose(array, other.parameters()[name], rtol=1e-3, atol=1e-5)


def test_on_numpy_they_are_the_same_bits(problem):
    images, labels = problem
    settings = {"schedule": "cosine", "warmup_steps": 3, "l2": 0.01, "clip_norm": 0.5, "dropout": 0.25}
    net, other = new_net(), new_net()
    history = train(net, nn.Batches(in_sevens(images, labels), steps_per_epoch=6), **settings)
    expected = train(other, nn.Split(images, labels), batch_size=7, shuffle=False, **settings)
    assert_same(net, other)
    assert [result.train_loss for result in history] == [result.train_loss for result in expected]


def test_weights_and_other_losses(problem):
    images, labels = problem
    weights, targets = np.linspace(0, 3, 40), np.eye(3)[labels]
    for loss, wanted in (
        ("softmax_cross_entropy", labels),
        ("squared_error", targets),
        ("sigmoid_cross_entropy", targets),
    ):
        net, other = new_net(loss=loss), new_net(loss=loss)
        history = train(net, nn.Batches(in_sevens(images, wanted, weights)))
        expected = train(other, nn.Split(images, wanted, weights), batch_size=7, shuffle=False)
        assert_same(net, other)
        np.testing.assert_allclose([r.train_loss for r in history], [r.train_loss for r in expected], rtol=1e-14)
        assert [r.train_accuracy for r in history] == [r.train_accuracy for r in expected]


def test_splits_lists_and_pictures_are_batches_too(problem):
    images, labels = problem
    nets = [new_net() for _ in range(3)]
    train(nets[0], nn.Batches(in_sevens(images, labels)))
    train(nets[1], nn.Batches([nn.Split(*batch) for batch in in_sevens(images, labels)]))
    train(nets[2], nn.Batches([[x.reshape(-1, 2, 3), y.tolist()] for x, y in in_sevens(images, labels)]))
    assert_same(nets[0], nets[1])
    assert_same(nets[0], nets[2])


def test_a_loader_of_pytorch_gives_batches(problem):
    torch = pytest.importorskip("torch")
    images, labels = problem
    rows = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    net, other = new_net(), new_net()
    train(net, nn.Batches(torch.utils.data.DataLoader(rows, batch_size=7)))
    train(other, nn.Batches(in_sevens(images, labels)))
    assert_same(net, other)


def test_every_epoch_begins_anew_with_its_number(problem):
    asked = []

    def source(epoch):
        asked.append(epoch)
        yield from in_sevens(*problem)

    history = train(new_net(), nn.Batches(source), epochs=4)
    assert asked == [1, 2, 3, 4]
    assert [result.epoch for result in history] == [1, 2, 3, 4]


def test_an_endless_source_is_asked_for_its_steps_only(problem):
    given = []

    def source(epoch):  # noqa: ARG001
        while True:
            given.append(1)
            yield problem[0][:7], problem[1][:7]

    history = train(new_net(), nn.Batches(source, steps_per_epoch=5), epochs=2)
    assert (len(history), len(given)) == (2, 10)


def test_chunks_follow_batches_of_any_size(problem, monkeypatch):
    images, labels = problem
    monkeypatch.setattr("xpnn.nn.training.loop.CHUNK_SECONDS", 1e9)  # as many as four times those before
    seen = []

    class Watch(nn.Callback):
        def on_chunk_end(self, run):
            seen.append(run.position)

    sizes = [1, 3, 2, 10, 1, 1, 20, 2]
    ends = np.cumsum(sizes).tolist()
    batches = [(images[b - a : b], labels[b - a : b]) for a, b in zip(sizes, ends, strict=True)]
    net = new_net()
    (result,) = train(net, nn.Batches(batches), epochs=1, optimizer=nn.SGD(1e-30), callbacks=[Watch()])
    assert seen == [1, 6, 38, 40]  # 1 row; 4 wanted: 3 and 2; 20 wanted: all up to the one with twenty; the rest
    assert (result.train_loss, result.train_accuracy) == pytest.approx(nn.evaluate(net, nn.Split(images, labels))[:2])


# What the numbers are


def test_the_first_batch_decides_what_the_numbers_are(problem):
    images, labels = problem
    for dtype, inputs in (
        ("uint8", nn.Pixels(count=6)),
        ("float32", nn.Numbers(count=6)),
        ("int64", nn.Numbers(count=6)),
    ):
        net = new_net()
        train(net, nn.Batches([(images.astype(dtype), labels)]), epochs=1)
        assert net.inputs == inputs
    net, other = new_net(), new_net()
    train(net, nn.Batches([(images, labels), (images.astype(float), labels)]), epochs=1)
    train(other, nn.Batches([(images, labels)] * 2), epochs=1)
    assert_same(net, other)


def test_a_network_that_knows_its_inputs_reads_batches_by_them(problem):
    images, labels = problem
    inputs, runs = nn.Pixels(count=6, class_names=("a", "b", "c")), []
    for rows in (images, images.astype(np.int64)):
        net = new_net()
        net.inputs = inputs
        train(net, nn.Batches([(rows, labels)]), epochs=1)
        runs.append(net)
        assert net.inputs is inputs
    assert_same(*runs)


def test_columns_of_frames_are_found_by_their_names(problem):
    pandas, runs = pytest.importorskip("pandas"), []
    images, labels = problem
    frame = pandas.DataFrame(images.astype(float), columns=list("abcdef"))
    data = nn.from_arrays(frame, labels)
    permuted = nn.from_arrays(frame[list("fedcba")], labels, test_fraction=None)
    for batch in ((frame, labels), (frame[list("fedcba")], labels), permuted.train):
        net = new_net()
        net.adopt(data)
        train(net, nn.Batches([batch]), epochs=2)
        runs.append(net)
    assert_same(*runs[:2])
    assert_same(*runs[1:])


def test_validation_rows_that_say_what_they_are_decide(problem):
    images, labels = problem
    inputs = nn.Pixels(count=6, class_names=("a", "b", "c"))
    validation = nn.Split(images[:9], labels[:9], inputs=inputs)
    net = new_net()
    (result,) = train(net, nn.Batches([(images / 255, labels)]), epochs=1, validation=validation)
    assert net.inputs is inputs
    assert result.validation_loss == pytest.approx(nn.evaluate(net, validation).loss)


@pytest.mark.parametrize("flip", [False, True])
def test_validation_rows_of_another_kind_than_the_first_batch_are_refused(problem, flip):
    images, labels = problem
    batch, held = (images, images / 255) if flip else (images / 255, images)
    net, kinds = new_net(), ("pixels as uint8", "numbers") if flip else ("numbers as float64", "pixels")
    with pytest.raises(DataError, match=rf"images are {kinds[0]}, but those for validation are {kinds[1]}: say what"):
        train(net, nn.Batches([(batch, labels)]), validation=nn.Split(held, labels))
    net.inputs = nn.Pixels(count=6)
    train(net, nn.Batches([(batch, labels)]), validation=nn.Split(held, labels))


# Going on


class StopInBatch(nn.Callback):
    def __init__(self, epoch, position):
        self.place = epoch, position

    def on_chunk_end(self, run):
        if (run.epoch, run.position) >= self.place:
            run.stop()


@pytest.mark.parametrize("steps_per_epoch", [None, 6])
@pytest.mark.parametrize("place", [(1, 7), (2, 14), (2, 40), (3, 21)])
def test_a_stopped_training_goes_on_from_the_start_of_its_epoch(problem, tmp_path, monkeypatch, steps_per_epoch, place):
    monkeypatch.setattr("xpnn.nn.training.loop._next_chunk", lambda *_: 1)  # one batch at a time
    images, labels = problem

    def source(epoch):
        order = np.random.default_rng([7, epoch]).permutation(40)
        return in_sevens(images[order], labels[order])

    data = nn.Batches(source, steps_per_epoch=steps_per_epoch)
    whole, net = new_net(), new_net()
    expected = train(whole, data, epochs=4)
    path = tmp_path / "c.safetensors"
    train(net, data, epochs=4, callbacks=[nn.SaveCheckpoints(path), StopInBatch(*place)])
    checkpoint = nn.Checkpoint.load(path)
    assert (checkpoint.epoch, checkpoint.position) == (place[0] + (place[1] == 40), 0)
    resumed = new_net()
    history = train(resumed, data, epochs=4, resume=path)
    assert_same(whole, resumed)
    assert [r.train_loss for r in history] == [r.train_loss for r in expected]


def test_early_stopping_and_callbacks_hear_every_epoch(problem):
    images, labels = problem
    told = []

    class Tell(nn.Callback):
        def on_epoch_end(self, run, result):  # noqa: ARG002
            told.append(result.epoch)

    stop = nn.EarlyStopping(patience=1)
    rows = nn.Split(images[:9], (labels[:9] + 1) % 3)  # the better it learns, the worse it does on these
    data = nn.Batches(in_sevens(images, labels))
    history = train(new_net(), data, epochs=50, validation=rows, early_stopping=stop, callbacks=[Tell()])
    assert 1 < len(history) < 50
    assert told == list(range(1, len(history) + 1))


# Refused


def of_epoch(*batches):
    return nn.Batches(list(batches))


GOOD = (np.zeros((4, 6), "float32"), np.array([0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((np.zeros((4, 5)), [0, 1, 2, 0]), r"images must have shape \(samples, 6\), got \(4, 5\)"),
        ((np.zeros((4, 6)), [0, 1, 2]), r"labels must have shape \(4,\), one for each image, got \(3,\)"),
        ((np.zeros((0, 6)), np.zeros(0, int)), "there are no rows to work on"),
        ((np.full((4, 6), np.nan), [0, 1, 2, 0]), "images must be finite in float32, got nan at row 0, column 0"),
        ((np.zeros((4, 6)), [0, 1, 3, 0]), r"labels must be in \[0, 3\), got 3 at row 2"),
        ((np.zeros((4, 6)), [0.5, 1, 2, 0]), "labels must be integers"),
        ((np.array([["a"] * 6]), [0]), "images must be numbers"),
        ((np.zeros((4, 6)), [0, 1, 2, 0], [1, 1, -1, 1]), "weights must be finite and at least 0, got -1 at row 2"),
        ((np.zeros((4, 6)), [0, 1, 2, 0], ["a"] * 4), "weights must be numbers"),
        ((np.zeros((4, 6)),), r"must be \(images, labels\) or \(images, labels, weights\), got"),
        (np.zeros((4, 6)), r"must be \(images, labels\) or"),
        (None, r"must be \(images, labels\) or"),
        (([[1, 2], [3]], [0, 1]), "images cannot become a NumPy array"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(batch, message):
    net = new_net()
    with pytest.raises(DataError, match=f"batch 2 of epoch 1.*{message}"):
        train(net, of_epoch(GOOD, batch))


def test_a_generator_is_refused_and_so_is_a_function_that_returns_the_same_one(problem):
    with pytest.raises(ConfigError, match="a generator can be iterated only once"):
        nn.Batches(batch for batch in in_sevens(*problem))
    once = iter(in_sevens(*problem))
    with pytest.raises(DataError, match="epoch 2 must have a batch, got 0: is it a generator"):
        train(new_net(), nn.Batches(lambda epoch: once))  # noqa: ARG005
    with pytest.raises(DataError, match="epoch 1 must have a batch, got 0"):
        train(new_net(), nn.Batches([]))
    with pytest.raises(DataError, match="epoch 1 must have 7 batches, got 6"):
        train(new_net(), nn.Batches(in_sevens(*problem), steps_per_epoch=7))
    with pytest.raises(DataError, match="must return an iterable, got 3 for epoch 1"):
        train(new_net(), nn.Batches(lambda epoch: 3))  # noqa: ARG005


@pytest.mark.parametrize("source", [3, None])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(ConfigError, match="must be a function or a re-iterable such as a list"):
        nn.Batches(source)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "all"])
def test_steps_that_cannot_be_are_refused(steps):
    with pytest.raises(ConfigError, match="steps_per_epoch must be a whole number >= 1, or None"):
        nn.Batches([GOOD], steps_per_epoch=steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "needs the number of steps: pass nn.Batches"),
        ({"schedule": lambda progress: 1 - progress}, "needs the number of steps"),
        ({"warmup_steps": 2}, "needs the number of steps"),
        ({"validation": 0.1}, "no share of batches can be held out"),
        ({"class_weight": "balanced"}, "give each batch .images, labels, weights. instead"),
        ({"accumulate": 2}, "make larger ones instead"),
    ],
)
def test_options_that_need_all_rows_are_refused(options, message):
    net = new_net()
    with pytest.raises(ConfigError, match=message):
        train(net, of_epoch(GOOD), **options)
    assert_same(net, new_net())


def test_the_source_s_own_error_comes_through(problem):
    def source(epoch):  # noqa: ARG001
        yield problem[0][:7], problem[1][:7]
        raise RuntimeError("the database is gone")

    with pytest.raises(RuntimeError, match="the database is gone"):
        train(new_net(), nn.Batches(source))


def test_a_training_that_runs_away_leaves_the_last_good_weights(problem):
    net = new_net()
    logging.getLogger("xpnn").setLevel(logging.WARNING)
    with pytest.raises(DivergenceError, match=r"diverged in epoch 1, near batch \d+: .* cannot be gone through again"):
        train(net, nn.Batches(in_sevens(*problem)), optimizer=nn.SGD(1e38))
    assert net.are_finite()
    net = new_net()
    with pytest.raises(DivergenceError, match=r"diverged in epoch 1, near batch \d: inf in the logits at"):
        train(net, nn.Batches(in_sevens(*problem)), optimizer=nn.SGD(1e38), detect_anomaly=True)
    assert net.are_finite()
