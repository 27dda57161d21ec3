"""A fault that is planted in any operation is found by a check that names the operation."""

# ruff: noqa: ARG001  # a fault takes the arguments of the method that it stands for

import inspect
from contextlib import suppress
from dataclasses import replace
from functools import partial, wraps

import array_api_compat.numpy as compat_numpy
import numpy as np
import pytest
from xpnn.backends import Backend, GenericPlan, Plan, Totals
from xpnn.backends.communicator import Alone
from xpnn.backends.testing import check_backend, contract


class Plain(Backend):
    """The generic operations over NumPy, right as they are."""

    name = "plain"

    def __init__(self):
        super().__init__(compat_numpy)


class Doubling(Alone):
    """Adds one process twice."""

    def sum(self, array):
        array *= 2


FAULTS = []  # of each: the operation, and a function of the right method and its arguments


def fault(operation):
    def add(function):
        FAULTS.append(pytest.param(operation, function, id=f"{operation}: {function.__name__.replace('_', ' ')}"))
        return function

    return add


# Arrays and sums


@fault("put")
def no_copy(right, array):
    return array


@fault("put")
def float32_of_float64(right, array):
    return right(array.astype("float32") if array.dtype == "float64" else array)


@fault("put")
def columns_for_rows(right, array):
    return right(array.T if array.ndim == 2 and array.flags.f_contiguous else array)


@fault("put_rows")
def columns_of_rows(right, rows):
    return right(rows[:, ::-1])


@fault("to_numpy")
def a_view(right, array):
    return np.asarray(array)


@fault("to_numpy")
def one_dimension_at_least(right, array):
    return np.atleast_1d(right(array))


@fault("own")
def everything_is_own(right, array):
    return array


@fault("all_finite")
def infinities_are_overlooked(right, arrays):
    return not any(np.isnan(array).any() for array in arrays)


@fault("all_finite")
def the_last_array_is_overlooked(right, arrays):
    return right(list(arrays)[:-1])


@fault("read_sums")
def sums_in_float32(right, sums):
    return right(sums).astype("float32").astype("float64")


@fault("read_sums")
def pairs_out_of_order(right, sums):
    return right(sums)[::-1]


@fault("read_totals")
def a_count_of_float(right, loss_sum, correct, rows):
    return Totals(float(loss_sum), float(correct), rows)


@fault("scope")
def errors_are_hidden(right):
    return suppress(Exception)


@fault("fixed_order")
def it_cannot_be_entered(right):
    return None


@fault("communicator")
def one_process_counts_twice(right, communicator):
    return Doubling()


@fault("check_precision")
def every_precision_is_taken(right, precision):
    return None


@fault("suits")
def nothing_is_said(right, job):
    return None


# Rows


@fault("place")
def the_scale_is_forgotten(right, images, labels, scale, weights=None):
    return right(images, labels, 1.0, weights)


@fault("place")
def the_weights_are_forgotten(right, images, labels, scale, weights=None):
    return right(images, labels, scale)


@fault("place")
def labels_become_float(right, images, labels, scale, weights=None):
    rows = right(images, labels, scale, weights)
    return rows._replace(labels=rows.labels.astype(float))


@fault("gather")
def a_scale_that_is_off(right, rows, index, dtype):
    return right(rows._replace(scale=rows.scale * 1.0001), index, dtype)


@fault("gather")
def the_type_of_the_images_stays(right, rows, index, dtype):
    return right(rows, index, rows.images.dtype if rows.images.dtype.kind == "f" else dtype)


@fault("gather")
def labels_of_other_rows(right, rows, index, dtype):
    x, labels = right(rows, index, dtype)
    return x, labels[::-1]


@fault("gather")
def the_rows_are_scaled_in_place(right, rows, index, dtype):
    result = right(rows, index, dtype)
    rows.images[...] = rows.images // 2
    return result


@fault("batch")
def rows_on_the_host_are_not_scaled(right, rows, index, dtype):
    return right(rows._replace(scale=1.0) if rows.on_host else rows, index, dtype)


# Operations


@fault("linear")
def no_bias(right, x, weight, bias, *, activation):
    return right(x, weight, 0 * bias, activation=activation)


@fault("linear")
def the_activation_is_forgotten(right, x, weight, bias, *, activation):
    return right(x, weight, bias, activation="identity")


@fault("linear")
def always_relu(right, x, weight, bias, *, activation):
    return right(x, weight, bias, activation="identity" if activation == "identity" else "relu")


@fault("linear")
def the_input_is_overwritten(right, x, weight, bias, *, activation):
    y = right(x, weight, bias, activation=activation)
    x *= 2
    return y


@fault("linear")
def a_nan_becomes_zero(right, x, weight, bias, *, activation):
    return np.nan_to_num(right(x, weight, bias, activation=activation))


@fault("linear")
def float64_of_float32(right, x, weight, bias, *, activation):
    return right(x.astype(float), weight, bias, activation=activation)


@fault("linear_backward")
def a_mean_for_the_sum_in_the_gradient_of_the_bias(right, grad_y, y, x, weight, **options):
    grad_x, grad_weight, grad_bias = right(grad_y, y, x, weight, **options)
    return grad_x, grad_weight, grad_bias / max(len(x), 1)


@fault("linear_backward")
def the_derivative_of_the_activation_is_forgotten(right, grad_y, y, x, weight, *, activation, need_grad_x=True):
    return right(grad_y, y, x, weight, activation="identity", need_grad_x=need_grad_x)


@fault("linear_backward")
def a_gradient_that_nobody_asked_for(right, grad_y, y, x, weight, *, activation, need_grad_x=True):
    return right(grad_y, y, x, weight, activation=activation)


@fault("linear_backward")
def the_gradient_of_the_input_is_off(right, grad_y, y, x, weight, **options):
    grad_x, *others = right(grad_y, y, x, weight, **options)
    return None if grad_x is None else grad_x * (1 + 1e-5), *others


@fault("linear_backward")
def a_gradient_of_the_weight_upside_down(right, grad_y, y, x, weight, **options):
    grad_x, grad_weight, grad_bias = right(grad_y, y, x, weight, **options)
    return grad_x, grad_weight[::-1], grad_bias


@fault("loss")
def weights_are_ignored(right, outputs, labels, *, loss, batch_size, weights=None):
    return right(outputs, labels, loss=loss, batch_size=batch_size)


@fault("loss")
def the_mean_is_over_the_tile(right, outputs, labels, *, loss, batch_size, weights=None):
    return right(outputs, labels, loss=loss, batch_size=max(len(outputs), 1), weights=weights)


@fault("loss")
def a_mean_in_place_of_the_sum(right, outputs, labels, **options):
    loss_sum, correct, grad = right(outputs, labels, **options)
    return loss_sum / max(len(outputs), 1), correct, grad


@fault("loss")
def a_sum_in_float32(right, outputs, labels, **options):
    loss_sum, correct, grad = right(outputs, labels, **options)
    return np.float64(np.float32(loss_sum)), correct, grad


@fault("loss")
def of_equal_outputs_the_last(right, outputs, labels, **options):
    loss_sum, correct, grad = right(outputs, labels, **options)
    if labels.ndim == 1 and outputs.shape[1] > 1:
        correct = np.sum(outputs.shape[1] - 1 - outputs[:, ::-1].argmax(axis=1) == labels)
    return loss_sum, correct, grad


@fault("loss")
def a_nan_is_lost(right, outputs, labels, **options):
    return right(np.nan_to_num(outputs), labels, **options)


@fault("loss")
def probabilities_that_cancel(right, outputs, labels, **options):
    """The way that textbooks have it: the gradient of a sure row is 0."""
    loss_sum, correct, grad = right(outputs, labels, **options)
    return loss_sum, correct, np.where(np.abs(grad) < 1e-9, 0, grad).astype(grad.dtype)


@fault("update")
def the_penalty_is_forgotten(right, *arguments, l2=0.0, **options):
    return right(*arguments, **options)


@fault("update")
def every_step_is_the_first(right, *arguments, step, **options):
    return right(*arguments, step=1, **options)


@fault("update")
def the_optimizers_own_rate(right, optimizer, *arguments, learning_rate, **options):
    return right(optimizer, *arguments, learning_rate=optimizer.learning_rate, **options)


@fault("update")
def the_state_stays(right, optimizer, parameter, grad, state, **options):
    return right(optimizer, parameter, grad, state, **options)[0], state


# The network


@fault("forward")
def the_last_output_alone(right, layers, x):
    return right(layers, x)[-1:]


@fault("forward")
def layers_of_relu(right, layers, x):
    return right([replace(layer, activation="relu") for layer in layers], x)


@fault("gradients")
def dropout_is_forgotten(right, *arguments, factors=(), **options):
    return right(*arguments, **options)


@fault("gradients")
def row_weights_are_forgotten(right, *arguments, weights=None, **options):
    return right(*arguments, **options)


@fault("gradients")
def the_transform_is_forgotten(right, *arguments, transform=None, **options):
    return right(*arguments, **options)


@fault("gradients")
def the_size_is_the_rows(right, layers, x, labels, *, size, **options):
    return right(layers, x, labels, size=len(x), **options)


@fault("evaluate")
def the_last_row_is_left_out(right, layers, rows, **options):
    return right(layers, rows._replace(images=rows.images[:-1], labels=rows.labels[:-1]), **options)


@fault("evaluate")
def always_cross_entropy(right, layers, rows, *, loss="softmax_cross_entropy"):
    return right(layers, rows._replace(labels=np.zeros(len(rows.images), np.int64)))


@fault("logits")
def rows_out_of_order(right, layers, images, scale):
    return right(layers, images, scale)[::-1]


@fault("logits")
def images_are_changed(right, layers, images, scale):
    result = right(layers, images, scale)
    images[...] = 0
    return result


@fault("logits_on_device")
def no_scale(right, layers, images, scale):
    return right(layers, images, 1.0)


# Plans


def without(**changes):
    """A `compile` that changes the job."""
    return lambda right, job: right(replace(job, **changes))


for what, changes in {
    "no penalty": {"l2": 0.0},
    "the penalty of a row": {"l2_per_batch": False},
    "no dropout": {"dropout": 0.0},
    "no clipping": {"clip_norm": None},
    "no schedule": {"learning_rate": None},
    "one batch": {"batch_size": 1000},
    "one loss": {"loss": "squared_error"},
    "every precision": {"precision": "full"},
}.items():
    FAULTS.append(pytest.param("compile", without(**changes), id=f"compile: {what}"))


@fault("compile")
def rows_without_weights(right, job):
    return right(replace(job, rows=job.rows._replace(weights=None)))


@fault("run")
def the_order_is_ignored(right, order=None, totals=None):
    return right(None, *filter(None, [totals]))


@fault("run")
def rows_from_the_end(right, order=None, *totals):
    return right(None if order is None else np.asarray(order) % 23, *totals)


@fault("run")
def totals_begin_anew(right, order=None, *totals):
    return right(order)


@fault("run_epochs")
def one_epoch_too_few(right, epochs):
    return right(epochs - 1) * 2


@fault("feed")
def the_old_rows_stay(right, rows):
    return None


@fault("state")
def the_first_slot_alone(right):
    return dict([*right().items()][:1])


@fault("final_state")
def no_final_state(right):
    return {}


@fault("state")
def float64_always(right):
    return {name: array.astype("float64") for name, array in right().items()}


@fault("load_state")
def the_state_is_not_restored(right, state, step):
    right.args[0].step = step


@fault("load_state")
def the_step_is_not_restored(right, state, step):
    return right(state, 0)


@fault("load_state")
def any_state_is_taken(right, state, step):
    with suppress(Exception):
        right(state, step)


def public(kind):
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")]


OPERATIONS, OF_PLANS = public(Backend), public(Plan)


def overridden(base, operation, function):
    """A subclass one of whose methods is `function`, under the signature that it should have."""
    right = getattr(base, operation)

    @wraps(right)
    def method(self, *arguments, **options):
        return function(partial(right, self), *arguments, **options)

    return type("Faulty", (base,), {operation: method})


def faulty(operation, function):
    """A backend with a fault in an operation of its own, or of its plans."""
    if operation in OPERATIONS:
        return overridden(Plain, operation, function)()
    plan = overridden(GenericPlan, operation, function)
    return overridden(Plain, "compile", lambda right, job: right(job) and plan(right.args[0], job))()


def test_every_public_method_has_a_fault():
    assert {each.values[0] for each in FAULTS} == {*OPERATIONS, *OF_PLANS}


def test_without_a_fault_every_check_passes():
    for _, check in check_backend(Plain()):
        check()


@pytest.mark.parametrize(("operation", "function"), FAULTS)
def test_a_fault_is_found_by_a_check_that_names_the_operation(operation, function):
    backend, failed = faulty(operation, function), []
    for check in contract():
        if operation in check.operations:
            assert operation in check.name
            try:
                with np.errstate(all="ignore"):
                    check(backend)
            except Exception as error:
                failed.append(error)
    assert failed
    assert all(operation in note for each in failed for note in each.__notes__)


def test_a_method_with_another_signature_is_named():
    class Positional(Plain):
        def linear(self, x, weight, bias, activation):
            return super().linear(x, weight, bias, activation=activation)

    checks = dict(check_backend(Positional()))
    with pytest.raises(AssertionError, match=r"Positional.linear must take .*\*, activation.*got .*bias, activation\)"):
        checks["signatures: overridden methods take what the base class takes"]()


def test_a_plan_that_is_not_compiled_as_promised_is_named():
    class Promising(Plain):
        has_compiled_plan = True

    checks = dict(check_backend(Promising()))
    with pytest.raises(AssertionError, match="has_compiled_plan is True, and the plan is 'generic"):
        checks["compile: a plan as has compiled plan promises"]()
