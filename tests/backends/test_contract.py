"""Every backend keeps to the base's signatures, and gives the generic backend's numbers."""

import inspect
from importlib import import_module

import numpy as np
import pytest
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    SGD,
    Adam,
    ArrayAPIBackend,
    Backend,
    ConfigError,
    GenericPlan,
    ModelFileError,
    Plan,
    RMSprop,
    TrainingJob,
    registered_backends,
    why_unavailable,
)
from xpnn.backends.registry import BUILTIN
from xpnn.nn.network.outputs import OUTPUTS

TOLERANCE = {"float64": 1e-12, "float32": 2e-6}  # relative to the largest value of an array
DTYPES = list(TOLERANCE)
SCALE = 1 / 255
STEPPERS = [
    *(pytest.param(kind(), id=name) for name, kind in OPTIMIZERS.items()),
    pytest.param(SGD(0.1, momentum=0.9), id="momentum"),
    pytest.param(SGD(0.1, momentum=0.9, nesterov=True), id="nesterov"),
]


def close(got, expected, dtype):
    """Assert that two host arrays agree in dtype and, relative to the largest entry, in value."""
    assert got.dtype == expected.dtype == np.dtype(dtype)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE[dtype] * max(np.abs(expected).max(), 1e-300))


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# Signatures


def parameters_of(function):
    """Name, kind and default of each parameter."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", BUILTIN)
def test_overridden_methods_keep_the_base_signature(name):
    module, kind = BUILTIN[name]
    try:
        backend_class = getattr(import_module(f"xpnn.backends.{module}"), kind)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    assert issubclass(backend_class, Backend)
    assert backend_class.name == name
    for method, base in inspect.getmembers(Backend, inspect.isfunction):
        if not method.startswith("_"):
            assert parameters_of(getattr(backend_class, method)) == parameters_of(base), method
    public = {each for each, value in vars(backend_class).items() if not each.startswith("_") and callable(value)}
    assert public <= set(dir(Backend)), "a public method that other backends do not have"
    optional = inspect.signature(backend_class).parameters.values()
    assert all(each.default is None for each in optional), "a backend starts without arguments"


def test_plans_keep_the_base_signature(backend, make_layers, small_problem):
    plan = backend.compile(TrainingJob(make_layers(backend), SGD(), backend.place(*small_problem, SCALE), 8))
    assert isinstance(plan, Plan)
    for method in ("run", "state", "load_state"):
        assert parameters_of(getattr(type(plan), method)) == parameters_of(getattr(Plan, method)), method


def test_the_backends_that_promise_a_compiled_plan():
    promises = {
        name: getattr(import_module(f"xpnn.backends.{module}"), kind).has_compiled_plan
        for name, (module, kind) in BUILTIN.items()
    }
    assert promises.items() >= {"numpy": False, "numba": True, "cupy": True, "array-api-strict": False}.items()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backend_has_a_compiled_plan_where_it_promises_one(backend, make_layers, small_problem, dtype):
    """Falling back to the generic plan is correct but slow, so no other test of the contract would show it."""
    rows = backend.place(*small_problem, SCALE)
    plan = backend.compile(TrainingJob(make_layers(backend, dtype=dtype), SGD(), rows, 8))
    assert plan.description.startswith("compiled" if backend.has_compiled_plan else "generic")
    assert type(plan) is not GenericPlan or not backend.has_compiled_plan


def test_a_precision_that_a_backend_does_not_have_is_refused(backend, make_layers, small_problem):
    job = TrainingJob(make_layers(backend), SGD(), backend.place(*small_problem, SCALE), 8, precision="half")
    with pytest.raises(ConfigError, match=f"precision of the backend {backend.name} must be full.*, got 'half'"):
        backend.compile(job)


# Arrays come and go


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0, 4)])
def test_arrays_come_back_as_they_went(backend, dtype, shape):
    array = (random(shape, "float64") * 50 + 100).astype(dtype)
    back = backend.to_numpy(backend.put(array))
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_arrays_of_any_memory_order_come_back_alike(backend):
    array = random((6, 8), "float64")
    for view in (array.T, array[::2, ::-1], np.asfortranarray(array)):
        np.testing.assert_array_equal(backend.to_numpy(backend.put(view)), view)


def test_put_copies(backend):
    array = random((3, 4), "float64")
    before = array.copy()
    on_device = backend.put(array)
    array[:] = 0
    np.testing.assert_array_equal(backend.to_numpy(on_device), before)


def test_to_numpy_copies(backend):
    array = random((3, 4), "float64")
    on_device = backend.put(array)
    first = backend.to_numpy(on_device)
    first[:] = 0
    np.testing.assert_array_equal(backend.to_numpy(on_device), array)


def test_placed_rows_keep_their_types(backend, small_problem):
    images, labels = small_problem
    rows = backend.place(images, labels, 0.25)
    assert backend.to_numpy(rows.images).dtype == np.uint8
    assert backend.to_numpy(rows.labels).dtype == np.int64
    assert rows.scale == 0.25
    np.testing.assert_array_equal(backend.to_numpy(rows.images), images)
    np.testing.assert_array_equal(backend.to_numpy(rows.labels), labels)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8"])
def test_images_of_either_byte_order_train_alike(backend, make_plan, make_layers, make_problem, weights_of, dtype):
    images, labels = make_problem(dtype="uint8" if dtype[0] in "ui" else "float64")
    results = []
    for order in "<>":
        rows = backend.place(images.astype(order + dtype), labels.astype(f"{order}i8"), SCALE)
        assert backend.to_numpy(rows.images).dtype == np.dtype(dtype)
        layers = make_layers(backend)
        totals = make_plan(backend, TrainingJob(layers, SGD(0.5), rows, 8)).run(np.arange(23))
        results.append((totals, backend.evaluate(layers, rows), weights_of(backend, layers)))
    (totals, evaluated, weights), (other_totals, other_evaluated, other_weights) = results
    assert (totals, evaluated) == (other_totals, other_evaluated)
    for one, other in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("order", "<>")
def test_put_copies_either_byte_order(backend, order):
    array = np.arange(6).reshape(2, 3).astype(f"{order}u2")
    on_device = backend.put(array)
    array[:] = 0
    back = backend.to_numpy(on_device)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, [[0, 1, 2], [3, 4, 5]])


# Operations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("images_dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("by", ["slice", "index"])
def test_gather_takes_scales_and_casts(backend, make_problem, dtype, images_dtype, by):
    images, labels = make_problem(dtype=images_dtype)
    index = np.array([4, 0, 22, 4])
    expected = images[3:9] if by == "slice" else images[index]
    expected = expected.astype("float64") * (SCALE if images_dtype == "uint8" else 1)
    rows = backend.place(images, labels, SCALE)
    x, y = backend.gather(
        rows, slice(3, 9) if by == "slice" else backend.put(index), backend.put(np.zeros(1, dtype)).dtype
    )
    x, y = backend.to_numpy(x), backend.to_numpy(y)
    assert x.dtype == np.dtype(dtype)
    np.testing.assert_allclose(x, expected, rtol=2e-7 if "float32" in (dtype, images_dtype) else 1e-15)
    np.testing.assert_array_equal(y, labels[3:9] if by == "slice" else labels[index])
    np.testing.assert_array_equal(backend.to_numpy(rows.images), images)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear(backend, generic, activation, dtype):
    x, weight, bias = random((7, 5), dtype), random((5, 4), dtype, 1), random((4,), dtype, 2)
    expected = generic.linear(*(a.astype("float64") for a in (x, weight, bias)), activation=activation)
    got = backend.linear(*(backend.put(a) for a in (x, weight, bias)), activation=activation)
    close(backend.to_numpy(got), expected.astype(dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_leaves_its_inputs_alone(backend, activation, dtype):
    arrays = random((7, 5), dtype), random((5, 4), dtype, 1), random((4,), dtype, 2)
    placed = [backend.put(a) for a in arrays]
    backend.linear(*placed, activation=activation)
    for now, before in zip(placed, arrays, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(now), before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_backward(backend, generic, activation, dtype):
    x, weight, bias = random((7, 5), dtype), random((5, 4), dtype, 1), random((4,), dtype, 2)
    grad_y = random((7, 4), dtype, 3)
    y = np.asarray(generic.linear(x, weight, bias, activation=activation))
    arrays = grad_y, y, x, weight
    expected = generic.linear_backward(*(a.astype("float64") for a in arrays), activation=activation)
    got = backend.linear_backward(*(backend.put(a) for a in arrays), activation=activation)
    for one, other in zip(got, expected, strict=True):
        close(backend.to_numpy(one), np.asarray(other).astype(dtype), dtype)
    no_grad_x, *others = backend.linear_backward(
        *(backend.put(a) for a in arrays), activation=activation, need_grad_x=False
    )
    assert no_grad_x is None
    for one, other in zip(others, expected[1:], strict=True):
        close(backend.to_numpy(one), np.asarray(other).astype(dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss(backend, generic, labels_for, loss, dtype):
    outputs, labels = random((9, 4), dtype) * 3, labels_for(loss, np.arange(9) % 4, 4)
    if loss == "sigmoid_cross_entropy":
        labels[::2] = outputs[::2] > 0  # all of whose outputs are right
    expected = generic.loss(outputs.astype("float64"), labels, loss=loss, batch_size=12)
    loss_sum, correct, grad = backend.loss(backend.put(outputs), backend.put(labels), loss=loss, batch_size=12)
    loss_sum, correct, grad = backend.to_numpy(loss_sum), backend.to_numpy(correct), backend.to_numpy(grad)
    assert loss_sum.shape == correct.shape == ()
    assert loss_sum.dtype == np.float64
    assert correct.dtype.kind == "i"
    np.testing.assert_allclose(loss_sum, expected[0], rtol=TOLERANCE[dtype])
    assert correct == expected[1]
    assert (correct > 0) == OUTPUTS[loss].has_accuracy
    close(grad, np.asarray(expected[2]).astype(dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_of_weight_two_counts_as_two(backend, labels_for, loss, dtype):
    outputs, labels = random((5, 4), dtype) * 3, labels_for(loss, np.arange(5) % 4, 4)
    weights, again = np.array([1.0, 2.0, 0.0, 1.0, 3.0]), [0, 1, 1, 3, 4, 4, 4]
    arrays = [backend.put(array) for array in (outputs, labels)]
    loss_sum, correct, grad = backend.loss(*arrays, loss=loss, batch_size=7.0, weights=backend.put(weights))
    plain, _, expected = backend.loss(backend.put(outputs[again]), backend.put(labels[again]), loss=loss, batch_size=7)
    np.testing.assert_allclose(backend.to_numpy(loss_sum), backend.to_numpy(plain), rtol=TOLERANCE[dtype])
    alone = [backend.loss(*(array[k : k + 1, ...] for array in arrays), loss=loss, batch_size=1)[1] for k in range(5)]
    assert int(backend.to_numpy(correct)) == sum(
        int(backend.to_numpy(one)) for one in alone
    )  # which are rows, whatever they weigh
    one = backend.to_numpy(expected)[[0, 1, 3, 4]]  # gradient of a single copy
    close(backend.to_numpy(grad)[[0, 1, 3, 4]], one * weights[[0, 1, 3, 4], None].astype(dtype), dtype)
    assert not backend.to_numpy(grad)[2].any()


def test_rows_of_float32_sum_to_a_float64_loss(backend):
    """2^24 + 1 is no float32, so that a float32 sum would drop the small rows."""
    outputs = np.zeros((3, 2), "float32")
    outputs[0, 1] = 2.0**25
    arrays = backend.put(outputs), backend.put(np.zeros(3, np.int64))
    loss_sum, _, _ = backend.loss(*arrays, loss="softmax_cross_entropy", batch_size=3)
    assert float(backend.to_numpy(loss_sum)) == pytest.approx(2.0**25 + 2 * np.log(2), rel=1e-9)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if OUTPUTS[loss].has_classes])
def test_of_equal_outputs_the_first_class_is_chosen(backend, loss):
    outputs = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    labels = np.array([0, 1, 1])
    _, correct, _ = backend.loss(backend.put(outputs), backend.put(labels), loss=loss, batch_size=3)
    assert int(backend.to_numpy(correct)) == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", STEPPERS)
@pytest.mark.parametrize("shape", [(5, 4), (4,)])
def test_update(backend, generic, optimizer, l2, dtype, shape):
    parameter, expected = (random(shape, dtype) for _ in range(2))
    parameter, expected = backend.put(parameter), expected.astype("float64")
    state, expected_state = optimizer.init(backend.xp, parameter), optimizer.init(generic.xp, expected)
    assert state.keys() == expected_state.keys()
    for step in range(1, 4):
        grad = random(shape, dtype, step)
        rate = 0.05 * step
        parameter, state = backend.update(
            optimizer, parameter, backend.put(grad), state, step=step, learning_rate=rate, l2=l2
        )
        expected, expected_state = generic.update(
            optimizer, expected, grad.astype("float64"), expected_state, step=step, learning_rate=rate, l2=l2
        )
    close(backend.to_numpy(parameter), expected.astype(dtype), dtype)
    for slot, array in expected_state.items():
        close(backend.to_numpy(state[slot]), array.astype(dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_gives_the_output_of_each_layer(backend, generic, make_layers, activation, dtype):
    sizes = (6, 5, 4, 3)
    x = random((8, 6), dtype)
    got = backend.forward(make_layers(backend, sizes, activation=activation, dtype=dtype), backend.put(x))
    wide = make_layers(generic, sizes, activation=activation, dtype=dtype)
    for layer in wide:
        layer.weight, layer.bias = layer.weight.astype("float64"), layer.bias.astype("float64")
    expected = generic.forward(wide, x.astype("float64"))
    assert len(got) == 3
    for one, other in zip(got, expected, strict=True):
        close(backend.to_numpy(one), other.astype(dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("images_dtype", ["uint8", "float32"])
@pytest.mark.parametrize("loss", LOSSES)
def test_evaluate_sums_over_tiles(backend, generic, make_layers, make_problem, labels_for, loss, images_dtype, dtype):
    images, classes = make_problem(23, dtype=images_dtype)
    labels = labels_for(loss, classes, 3)
    layers, wide = make_layers(backend, dtype=dtype), make_layers(generic, dtype="float64")
    expected = generic.evaluate(wide, generic.place(images, labels, SCALE), loss=loss)
    for tile in (23, 7):  # all rows at once, and tiles with a shorter one at the end
        backend.evaluation_rows = tile
        totals = backend.evaluate(layers, backend.place(images, labels, SCALE), loss=loss)
        assert (totals.correct, totals.rows) == (expected.correct, 23)
        assert totals.loss_sum == pytest.approx(expected.loss_sum, rel=TOLERANCE[dtype])
        assert (type(totals.loss_sum), type(totals.correct)) == (float, int)
    assert 0 < expected.correct < 23 or not OUTPUTS[loss].has_accuracy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("images_dtype", ["uint8", "float32"])
def test_logits_of_all_tiles_come_in_order(backend, generic, make_layers, make_problem, images_dtype, dtype):
    images, _ = make_problem(23, dtype=images_dtype)
    expected = generic.logits(make_layers(generic), images, SCALE).astype(dtype)
    backend.evaluation_rows = 7
    close(backend.logits(make_layers(backend, dtype=dtype), images, SCALE), expected, dtype)
    assert backend.logits(make_layers(backend, dtype=dtype), images[:0], SCALE).shape == (0, 3)


def test_logits_change_no_images(backend, make_layers, small_problem):
    images, _ = small_problem
    before = images.copy()
    backend.logits(make_layers(backend), images, SCALE)
    np.testing.assert_array_equal(images, before)


# Plans


def epochs_of(plan, rows, *, epochs=2):
    """Run some epochs, each in an order of its own, and return the totals of each."""
    generator = np.random.default_rng(5)
    return [plan.run(generator.permutation(rows)) for _ in range(epochs)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("optimizer", STEPPERS)
def test_plan_takes_the_generic_steps(
    backend, generic, make_plan, make_layers, small_problem, weights_of, optimizer, l2, dtype
):
    layers, wide = make_layers(backend, dtype=dtype), make_layers(generic)
    if dtype == "float32":
        wide = make_layers(generic, dtype="float32")
        for layer in wide:
            layer.weight, layer.bias = layer.weight.astype("float64"), layer.bias.astype("float64")
    plan = make_plan(backend, TrainingJob(layers, optimizer, backend.place(*small_problem, SCALE), 8, l2=l2))
    oracle = GenericPlan(generic, TrainingJob(wide, optimizer, generic.place(*small_problem, SCALE), 8, l2=l2))
    for got, expected in zip(epochs_of(plan, 23), epochs_of(oracle, 23), strict=True):
        assert got.loss_sum == pytest.approx(expected.loss_sum, rel=1e-11 if dtype == "float64" else 1e-4)
        assert (got.correct, got.rows) == (expected.correct, 23)
    assert plan.step == oracle.step == 6
    tolerance = 1e-11 if dtype == "float64" else 1e-3
    for got, expected in zip(weights_of(backend, layers), weights_of(generic, wide), strict=True):
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert plan.state().keys() == oracle.state().keys()
    for name, expected in oracle.state().items():
        assert plan.state()[name].dtype == np.dtype(dtype), name
        np.testing.assert_allclose(plan.state()[name], expected, rtol=0, atol=10 * tolerance * np.abs(expected).max())


@pytest.mark.parametrize("images_dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_plan_trains_every_activation_on_every_type_of_image(
    backend, generic, make_plan, make_layers, make_problem, weights_of, activation, images_dtype
):
    problem = make_problem(dtype=images_dtype)
    sizes = (6, 5, 4, 3)
    layers, wide = (make_layers(each, sizes, activation=activation) for each in (backend, generic))
    plan = make_plan(backend, TrainingJob(layers, SGD(0.5), backend.place(*problem, SCALE), 8))
    oracle = GenericPlan(generic, TrainingJob(wide, SGD(0.5), generic.place(*problem, SCALE), 8))
    for got, expected in zip(epochs_of(plan, 23), epochs_of(oracle, 23), strict=True):
        assert got.loss_sum == pytest.approx(expected.loss_sum, rel=1e-12)
        assert got.correct == expected.correct
    for got, expected in zip(weights_of(backend, layers), weights_of(generic, wide), strict=True):
        close(got, expected, "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cuts", [[8], [8, 16], [16]])
def test_an_epoch_in_several_runs_is_the_same_bit_for_bit(
    backend, make_plan, make_layers, small_problem, weights_of, cuts, dtype
):
    order = np.random.default_rng(3).permutation(23)
    results = []
    for parts in ([order], np.split(order, cuts)):
        layers = make_layers(backend, dtype=dtype)
        plan = make_plan(backend, TrainingJob(layers, Adam(0.01), backend.place(*small_problem, SCALE), 8, l2=0.01))
        totals = plan.run(parts[0])
        for part in parts[1:]:
            totals = plan.run(part, totals)
        results.append((totals, weights_of(backend, layers), plan.state(), plan.step))
    (totals, weights, state, steps), (cut_totals, cut_weights, cut_state, cut_steps) = results
    assert totals == cut_totals
    assert totals.rows == 23
    assert steps == cut_steps == 3
    for one, other in zip(weights, cut_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, array in state.items():
        np.testing.assert_array_equal(array, cut_state[name])


@pytest.mark.parametrize("order", [[0, 23], [-1], [5, 99, 3]])
def test_rows_that_do_not_exist_are_refused_before_a_step(
    backend, make_plan, make_layers, small_problem, weights_of, order
):
    layers = make_layers(backend)
    before = weights_of(backend, layers)
    plan = make_plan(backend, TrainingJob(layers, SGD(0.5), backend.place(*small_problem, SCALE), 1))
    with pytest.raises(ConfigError, match=r"the order's rows must be in \[0, 23\), got "):
        plan.run(np.array(order))
    assert plan.step == 0
    for array, expected in zip(weights_of(backend, layers), before, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_no_order_takes_every_row_as_it_stands(backend, make_plan, make_layers, small_problem, weights_of):
    results = []
    for order in (None, np.arange(23)):
        layers = make_layers(backend)
        plan = make_plan(backend, TrainingJob(layers, SGD(0.5), backend.place(*small_problem, SCALE), 8))
        results.append((plan.run(order), weights_of(backend, layers)))
    (totals, weights), (other_totals, other_weights) = results
    assert totals.rows == other_totals.rows == 23
    assert totals.correct == other_totals.correct
    assert totals.loss_sum == pytest.approx(other_totals.loss_sum, rel=1e-13)
    for one, other in zip(weights, other_weights, strict=True):
        close(one, other, "float64")


@pytest.mark.parametrize("order", [None, np.random.default_rng(0).permutation(23)], ids=["all", "order"])
@pytest.mark.parametrize("tile_rows", [1, 5, 8, 22])
def test_tiles_change_nothing_but_rounding(backend, make_layers, small_problem, weights_of, tile_rows, order):
    results = []
    for tile in (None, tile_rows):
        backend.tile_rows = tile
        layers = make_layers(backend)
        plan = GenericPlan(backend, TrainingJob(layers, SGD(0.5), backend.place(*small_problem, SCALE), 23))
        results.append(([plan.run(order) for _ in range(2)], weights_of(backend, layers)))
    (totals, weights), (tiled_totals, tiled_weights) = results
    for one, other in zip(totals, tiled_totals, strict=True):
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-12)
        assert (one.correct, one.rows) == (other.correct, other.rows)
    for one, other in zip(weights, tiled_weights, strict=True):
        close(one, other, "float64")


def test_a_batch_is_worked_through_in_tiles_of_at_most_tile_rows(generic, make_layers, small_problem, monkeypatch):
    seen, gather = [], generic.gather
    monkeypatch.setattr(generic, "gather", lambda rows, index, dtype: seen.append(index) or gather(rows, index, dtype))
    generic.tile_rows = 5
    job = TrainingJob(make_layers(generic), SGD(), generic.place(*small_problem, SCALE), 8)
    GenericPlan(generic, job).run(np.arange(23))
    assert [len(index) for index in seen] == [5, 3, 5, 3, 5, 2]


def test_an_empty_order_changes_nothing(backend, make_plan, make_layers, small_problem, weights_of):
    layers = make_layers(backend)
    before = weights_of(backend, layers)
    plan = make_plan(backend, TrainingJob(layers, Adam(), backend.place(*small_problem, SCALE), 8))
    totals = plan.run(np.empty(0, dtype=np.int64))
    assert totals == (0.0, 0, 0)
    assert plan.step == 0
    assert plan.run(np.empty(0, dtype=np.int64), type(totals)(2.5, 3, 4)) == (2.5, 3, 4)
    for one, other in zip(before, weights_of(backend, layers), strict=True):
        np.testing.assert_array_equal(one, other)


def test_totals_are_python_numbers_that_go_on_from_the_given_ones(backend, make_plan, make_layers, small_problem):
    job = TrainingJob(make_layers(backend), SGD(), backend.place(*small_problem, SCALE), 8)
    first = make_plan(backend, job).run(np.arange(23))
    assert [type(each) for each in first] == [float, int, int]
    job = TrainingJob(make_layers(backend), SGD(), backend.place(*small_problem, SCALE), 8)
    second = make_plan(backend, job).run(np.arange(23), type(first)(100.0, 7, 50))
    assert second.loss_sum == pytest.approx(first.loss_sum + 100, rel=1e-14)
    assert (second.correct, second.rows) == (first.correct + 7, 73)


def test_loss_and_accuracy_are_those_of_the_forward_passes_that_trained(
    backend, make_plan, make_layers, small_problem, generic
):
    images, labels = small_problem
    layers = make_layers(backend)
    plan = make_plan(backend, TrainingJob(layers, SGD(0.5), backend.place(images, labels, SCALE), 23))
    before = generic.evaluate(make_layers(generic), generic.place(images, labels, SCALE))
    totals = plan.run()
    assert totals.loss_sum == pytest.approx(before.loss_sum, rel=1e-12)
    assert totals.correct == before.correct
    assert totals.loss == totals.loss_sum / 23
    assert totals.accuracy == totals.correct / 23
    assert plan.run().loss_sum < totals.loss_sum


def test_learning_rate_of_each_step_is_asked_by_its_number(backend, make_plan, make_layers, small_problem, weights_of):
    """Two plans: a rate by step number, and plain runs of one batch with the rate set by hand."""
    rates, order = [0.5, 0.25, 2.0, 0.0625], np.random.default_rng(0).permutation(23)
    layers, by_hand = make_layers(backend), make_layers(backend)
    rows = backend.place(*small_problem, SCALE)
    plan = make_plan(backend, TrainingJob(layers, SGD(9.0), rows, 8, learning_rate=lambda step: rates[step - 1]))
    plan.run(order)
    plan.run(order[:8])
    for rate, batch in zip(rates, [order[:8], order[8:16], order[16:], order[:8]], strict=True):
        make_plan(backend, TrainingJob(by_hand, SGD(rate), rows, 8)).run(batch)
    for one, other in zip(weights_of(backend, layers), weights_of(backend, by_hand), strict=True):
        close(one, other, "float64")


def test_weights_that_are_put_into_the_layers_between_runs_are_trained(
    backend, make_plan, make_layers, small_problem, weights_of
):
    layers = make_layers(backend)
    plan = make_plan(backend, TrainingJob(layers, SGD(0.5), backend.place(*small_problem, SCALE), 23))
    first = plan.run()
    for layer, fresh in zip(layers, make_layers(backend), strict=True):
        layer.weight, layer.bias = fresh.weight, fresh.bias
    after_first = weights_of(backend, layers)
    assert plan.run() == first
    assert not np.array_equal(after_first[0], weights_of(backend, layers)[0])


# State


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", STEPPERS)
def test_a_loaded_state_goes_on_bit_for_bit(
    backend, make_plan, make_layers, small_problem, weights_of, optimizer, dtype
):
    order = np.random.default_rng(3).permutation(23)
    rows = backend.place(*small_problem, SCALE)
    layers = make_layers(backend, dtype=dtype)
    plan = make_plan(backend, TrainingJob(layers, optimizer, rows, 8))
    plan.run(order)
    state, weights = plan.state(), weights_of(backend, layers)
    kept = {name: array.copy() for name, array in state.items()}
    expected = plan.run(order)

    for name, array in kept.items():  # what was handed out is a copy
        np.testing.assert_array_equal(state[name], array)
    again = make_layers(backend, dtype=dtype, seed=99)
    for layer, weight, bias in zip(again, weights[::2], weights[1::2], strict=True):
        layer.weight, layer.bias = backend.put(weight), backend.put(bias)
    resumed = make_plan(backend, TrainingJob(again, optimizer, rows, 8))
    resumed.load_state(state, 3)
    assert resumed.step == 3
    for array in state.values():  # what was handed in is copied
        array[...] = np.nan
    assert resumed.run(order) == expected
    assert resumed.step == plan.step == 6
    for one, other in zip(weights_of(backend, layers), weights_of(backend, again), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, array in plan.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name])


def test_state_has_an_array_for_each_parameter_and_slot(backend, make_plan, make_layers, small_problem):
    rows = backend.place(*small_problem, SCALE)
    state = make_plan(backend, TrainingJob(make_layers(backend), Adam(), rows, 8)).state()
    assert {name: array.shape for name, array in state.items()} == {
        f"layers.{k}.{parameter}.{slot}": shape
        for k, parameter, shape in [(0, "weight", (6, 4)), (0, "bias", (4,)), (1, "weight", (4, 3)), (1, "bias", (3,))]
        for slot in ("mean", "mean_square")
    }
    assert all(not array.any() for array in state.values())
    assert make_plan(backend, TrainingJob(make_layers(backend), SGD(), rows, 8)).state() == {}


def test_a_state_of_something_else_is_refused(backend, make_plan, make_layers, small_problem):
    rows = backend.place(*small_problem, SCALE)
    plan = make_plan(backend, TrainingJob(make_layers(backend), RMSprop(), rows, 8))
    plan.run()
    before = plan.state()
    name = "layers.0.bias.mean_square"
    other_names = {key: array for key, array in before.items() if key != name}
    with pytest.raises(ModelFileError, match=f"of another network or optimizer: '{name}' does not match"):
        plan.load_state(other_names, 1)
    with pytest.raises(ModelFileError, match=f"'{name}.x' does not match"):
        plan.load_state(before | {f"{name}.x": np.zeros(4)}, 1)
    with pytest.raises(ModelFileError, match=r"must be float64 of shape \(4,\), got float64 of shape \(5,\)"):
        plan.load_state(before | {name: np.zeros(5)}, 1)
    with pytest.raises(ModelFileError, match=r"must be float64 of shape \(4,\), got float32 of shape \(4,\)"):
        plan.load_state(before | {name: np.zeros(4, "float32")}, 1)
    assert plan.step == 3
    for key, array in plan.state().items():
        np.testing.assert_array_equal(array, before[key])


# The contract's edges


def test_a_run_of_the_generic_plan_reads_the_device_once(backend, make_layers, small_problem, monkeypatch):
    plan = GenericPlan(backend, TrainingJob(make_layers(backend), Adam(), backend.place(*small_problem, SCALE), 8))
    reads, sums, to_numpy, read_sums = [], [], backend.to_numpy, backend.read_sums
    monkeypatch.setattr(backend, "to_numpy", lambda array: reads.append(array) or to_numpy(array))
    monkeypatch.setattr(backend, "read_sums", lambda pairs: sums.append(pairs) or read_sums(pairs))
    plan.run(np.arange(23))
    assert len(sums) == 1
    assert len(sums[0]) == 3  # steps
    assert len(reads) <= 1  # by `read_sums`, or by what it has in place of `to_numpy`


def test_an_evaluation_reads_the_device_once(backend, make_layers, small_problem, monkeypatch):
    layers, rows = make_layers(backend), backend.place(*small_problem, SCALE)
    backend.evaluation_rows = 5
    reads, to_numpy = [], backend.to_numpy
    monkeypatch.setattr(backend, "to_numpy", lambda array: reads.append(array) or to_numpy(array))
    backend.evaluate(layers, rows)
    assert len(reads) <= 1


def test_training_leaves_the_rows_as_they_were(backend, make_plan, make_layers, make_problem):
    for dtype in ("uint8", "float32", "float64"):
        images, labels = make_problem(dtype=dtype)
        rows = backend.place(images, labels, SCALE)
        make_plan(backend, TrainingJob(make_layers(backend), SGD(0.5), rows, 8)).run()
        np.testing.assert_array_equal(backend.to_numpy(rows.images), images)
        np.testing.assert_array_equal(backend.to_numpy(rows.labels), labels)


def test_a_numpy_number_as_scale_or_penalty_turns_no_float32_into_float64(
    backend, make_plan, make_layers, small_problem, weights_of
):
    layers = make_layers(backend, dtype="float32")
    rows = backend.place(*small_problem, np.float64(SCALE))
    x, _ = backend.gather(rows, slice(0, 4), layers[0].weight.dtype)
    assert backend.to_numpy(x).dtype == np.float32
    optimizer = SGD(np.float64(0.1), momentum=np.float64(0.9))
    plan = make_plan(backend, TrainingJob(layers, optimizer, rows, np.int64(8), l2=np.float64(0.1)))
    plan.run()
    for array in [*weights_of(backend, layers), *plan.state().values()]:
        assert array.dtype == np.float32
    logits = backend.logits(layers, small_problem[0], np.float64(SCALE))
    assert logits.dtype == np.float32


def test_repr_names_the_backend(backend, generic):
    assert backend.name in repr(backend) or backend.xp.__name__ in repr(backend)
    assert repr(generic) == "<ArrayAPIBackend over array_api_compat.numpy>"
    assert isinstance(generic, ArrayAPIBackend)


def test_the_backends_that_are_tested_include_the_ones_that_need_nothing():
    assert {"numpy", "array-api-strict"} <= set(registered_backends())
    assert why_unavailable("numpy") == ""
