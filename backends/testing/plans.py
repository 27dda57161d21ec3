"""Checks of the plan that a backend compiles, against the generic plan over NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from ..activations import ACTIVATIONS
from ..base import Backend
from ..errors import ConfigError, ModelFileError
from ..generic_plan import GenericPlan
from ..losses import LOSSES
from ..optimizers import SGD, Adam, Optimizer, RMSprop
from ..plan import NO_ROWS, Plan, Totals
from .arrays import assert_signatures
from .operations import OWN_RULES, SOFTSIGN, assert_digits, extreme_outputs, squared
from .problem import (
    CLASSES,
    DTYPES,
    GENERIC,
    ROWS,
    SCALE,
    Numbers,
    assert_close,
    assert_same,
    check,
    covering,
    images_and_classes,
    labels_of,
    layers_of,
    on_host,
    pair_of_layers,
    parameters,
    refusal,
    rules,
    training_job,
    weights_of,
)

BATCH = 8
LOSS_OF_RUNS = {"float32": 1e-4, "float64": 1e-11}  # relative errors that are allowed after some steps
WEIGHTS_AFTER = {"float32": 1e-3, "float64": 1e-11}
ORDER = np.random.default_rng(3).permutation(ROWS)


def pair_of_plans(
    backend: Backend, optimizer: Optimizer | None = None, *, batch_size: int = BATCH, activation: str = "relu",
    dtype: str = "float64", images: str = "uint8", weighted: bool = False, **options: Any,
) -> tuple[Plan, GenericPlan]:  # fmt: skip
    """Return the backend's plan for the small problem, and the generic plan for the same job in float64."""
    pixels, classes = images_and_classes(dtype=images)
    labels = labels_of(options.get("loss", "softmax_cross_entropy"), classes, CLASSES)
    pairs = pair_of_layers(backend, activation=activation, dtype=dtype)
    weights = np.arange(ROWS) % 4 / 2 if weighted else None
    options |= {"optimizer": optimizer or SGD(0.5), "batch_size": batch_size}
    own, expected = (
        training_job(layers, each.place(pixels, labels, SCALE, weights), **options)
        for each, layers in zip((backend, GENERIC), pairs, strict=True)
    )
    return backend.compile(own), GenericPlan(GENERIC, expected)


def compiled(backend: Backend, optimizer: Optimizer | None = None, **options: Any) -> Plan:
    """Return the backend's plan for a job of the small problem."""
    return pair_of_plans(backend, optimizer, **options)[0]


def put_weights(backend: Backend, plan: Plan, arrays: Sequence[Numbers]) -> None:
    """Assign other weights and biases to the layers of a plan."""
    for layer, other in zip(plan.job.layers, layers_of(backend, arrays), strict=True):
        layer.weight, layer.bias = other.weight, other.bias


def results_of(backend: Backend, plan: Plan) -> list[Numbers]:
    """Return copies of weights, biases and state on the host."""
    return [*weights_of(backend, plan.job.layers), *plan.state().values()]


def assert_same_training(plan: Plan, expected: Plan, backend: Backend, orders: Sequence[Numbers | None]) -> None:
    """Run both plans and assert that totals, weights, state and step agree up to rounding."""
    layers = plan.job.layers
    dtype = str(backend.to_numpy(layers[0].bias).dtype)
    for order in orders:
        got, wanted = plan.run(order), expected.run(order)
        np.testing.assert_allclose(got.loss_sum, wanted.loss_sum, rtol=LOSS_OF_RUNS[dtype], err_msg="loss of a run")
        assert got[1:] == wanted[1:], f"correct rows and rows of a run must be {wanted[1:]}, got {got[1:]}"
    assert plan.step == expected.step, f"step must be {expected.step}, got {plan.step}"
    wanted_weights = weights_of(GENERIC, expected.job.layers)
    for k, (one, other) in enumerate(zip(weights_of(backend, layers), wanted_weights, strict=True)):
        what = f"{('weight', 'bias')[k % 2]} of layer {k // 2} after the runs"
        assert_close(one, other, dtype, what, WEIGHTS_AFTER[dtype])
    got_state, wanted_state = plan.state(), expected.state()
    assert got_state.keys() == wanted_state.keys(), f"state must have {[*wanted_state]}, got {[*got_state]}"
    for name, array in wanted_state.items():
        assert_close(got_state[name], array, dtype, f"state {name}", 10 * WEIGHTS_AFTER[dtype])


def each_rule() -> list[dict[str, Any]]:
    """Return cases of every optimizer, activation and loss in every dtype, without compiling a kernel twice."""
    axes = {"dtype": DTYPES, "rule": list(rules()), "activation": list(ACTIVATIONS), "loss": list(LOSSES)}
    pairs = [("dtype", name) for name in ("rule", "activation", "loss", "batch_size")] + [("rule", "l2")]
    cases = covering(pairs, **axes, l2=[0.0, np.float64(0.05)], batch_size=[np.int64(BATCH), ROWS])
    for case in cases:
        case["images"] = "uint8" if case["loss"] == "softmax_cross_entropy" else case["dtype"]
        case["optimizer"] = rules()[case.pop("rule")]
    return cases


# What is compiled


@check("compile", dtype=DTYPES)
def a_plan_as_has_compiled_plan_promises(backend: Backend, dtype: str) -> None:
    plan, name = compiled(backend, SGD(), dtype=dtype), type(backend).__name__
    assert isinstance(plan, Plan), f"compile must return a Plan, got {type(plan)}"
    assert_signatures(type(plan), Plan)
    said = f"{name}.has_compiled_plan is {backend.has_compiled_plan}, and the plan is {plan.description!r}"
    assert plan.description.startswith("compiled" if backend.has_compiled_plan else "generic"), said
    assert type(plan) is not GenericPlan or not backend.has_compiled_plan, said
    refusal(ConfigError, partial(compiled, backend, precision="half"))


@check("compile", "run", cases=each_rule)
def steps_of_every_optimizer_activation_and_loss(backend: Backend, optimizer: Optimizer, **options: Any) -> None:
    plan, expected = pair_of_plans(backend, optimizer, **options)
    assert_same_training(plan, expected, backend, [np.random.default_rng(seed).permutation(ROWS) for seed in (5, 6)])
    assert_same(on_host(backend, plan.job.rows[:2]), expected.job.rows[:2], "images and labels after the runs")


@check(
    "compile", "run",
    weighted=[False, True], l2_per_batch=[False, True], dropout=[0.0, 0.25], clip_norm=[None, 0.05],
    label_smoothing=[0.0, 0.1], accumulate=[1, 2], batch_size=[BATCH, ROWS],
    learning_rate=[None, lambda step: [0.5, 2.0, 0.25][step % 3]],
)  # fmt: skip
def weights_rates_penalty_dropout_clipping_and_smoothing(backend: Backend, **options: Any) -> None:
    plan, expected = pair_of_plans(backend, l2=0.1, dropout_seed=7, **options)
    assert_same_training(plan, expected, backend, [ORDER, None, ORDER[:8]])


@check("compile", "run", dtype=DTYPES, weighted=[False, True])
def label_smoothing_by_itself(backend: Backend, **options: Any) -> None:
    plan, expected = pair_of_plans(backend, label_smoothing=0.1, **options)
    assert_same_training(plan, expected, backend, [ORDER])


@check(
    "compile",
    "run",
    cases=lambda: [
        {"table": ACTIVATIONS, "name": "relu", "row": SOFTSIGN},
        {"table": LOSSES, "name": "softmax_cross_entropy", "row": squared},
        *({"table": {}, "name": "", "row": None, "optimizer": rule} for rule in OWN_RULES),
    ],
)
def functions_of_the_users_own_are_trained_with(
    backend: Backend, table: dict[str, Any], name: str, row: Any, optimizer: Optimizer | None = None
) -> None:
    """User-defined functions, also replacing or derived from those that a backend has a kernel for."""
    with mock.patch.dict(table, {name: row}):
        plan, expected = pair_of_plans(backend, optimizer)
        assert_same_training(plan, expected, backend, [ORDER])


# Runs


@check("run", dtype=DTYPES, cuts=[[], [8], [8, 16]])
def the_same_run_whole_again_or_in_pieces_has_the_same_bits(backend: Backend, dtype: str, cuts: list[int]) -> None:
    whole, pieces = (compiled(backend, Adam(0.01), dtype=dtype, l2=0.01) for _ in range(2))
    totals, expected = NO_ROWS, whole.run(ORDER)
    for part in np.split(ORDER, cuts):
        totals = pieces.run(part, totals)
    assert totals == expected, f"totals must be the same, got {expected} and {totals}"
    assert [*map(type, totals)] == [float, int, int], f"run must return numbers of Python, got {totals}"
    assert (totals.rows, whole.step, pieces.step) == (ROWS, 3, 3), "3 steps of 23 rows"
    assert_same(results_of(backend, pieces), results_of(backend, whole), "weights and state of two runs")


@check("run")
def no_rows_or_rows_that_do_not_exist_change_nothing(backend: Backend) -> None:
    plan, totals = compiled(backend, batch_size=1), Totals(2.5, 3, 4)
    before = weights_of(backend, plan.job.layers)
    for order in ([0, ROWS], [-1], [5, 99, 3]):
        refusal(ConfigError, plan.run, np.array(order))
    got = plan.run(np.empty(0, np.int64)), plan.run(np.empty(0, np.int64), totals)
    assert got == (NO_ROWS, totals), f"the totals must stay {(NO_ROWS, totals)}, got {got}"
    assert plan.step == 0, f"step must be 0, got {plan.step}"
    assert_same(weights_of(backend, plan.job.layers), before, "weights after orders that are empty or were refused")


@check("run")
def a_nan_reaches_loss_and_weights(backend: Backend) -> None:
    plan, arrays = compiled(backend), parameters()
    arrays[0][2, 1] = np.nan
    put_weights(backend, plan, arrays)
    loss_sum = plan.run().loss_sum
    assert np.isnan(loss_sum), f"the loss must be NaN, got {loss_sum}"
    assert np.isnan(weights_of(backend, plan.job.layers)[-1]).any(), "the last bias must have a NaN"


@check("run", dtype=DTYPES)
def extreme_outputs_keep_their_digits(backend: Backend, dtype: str) -> None:
    """Each row of images selects a row of the weight: its update is the gradient of the outputs."""
    outputs, zeros = extreme_outputs(dtype), np.zeros(5, dtype)
    [layer] = layers_of(backend, [outputs, zeros])
    rows = backend.place(np.eye(len(outputs), dtype=np.uint8), np.arange(len(outputs)) % 4, 1.0)
    plan = backend.compile(training_job([layer], rows, optimizer=SGD(1.0), batch_size=len(outputs)))
    for k, row in enumerate(outputs):
        layer.weight, layer.bias = backend.put(outputs), backend.put(zeros)
        with np.errstate(over="ignore", invalid="ignore"):
            loss_sum = plan.run(np.array([k])).loss_sum
        assert_digits(loss_sum, -backend.to_numpy(layer.bias), row, k % 4, "softmax_cross_entropy")


@check("run", "read_sums")
def a_run_of_the_generic_plan_reads_the_device_once(backend: Backend) -> None:
    plan = GenericPlan(backend, compiled(backend, Adam()).job)
    with mock.patch.object(backend, "read_sums", wraps=backend.read_sums) as reads:
        plan.run(ORDER)
    assert [len(call.args[0]) for call in reads.call_args_list] == [3], "one call of read_sums with 3 steps"


@check("run_epochs", batch_size=[BATCH, ROWS])
def epochs_are_runs_over_all_rows(backend: Backend, batch_size: int) -> None:
    plan, by_hand = pair_of_plans(backend, batch_size=batch_size)
    got, wanted = plan.run_epochs(3), [by_hand.run() for _ in range(3)]
    np.testing.assert_allclose(got, wanted, rtol=1e-11, err_msg="totals of three epochs")
    assert_same_training(plan, by_hand, backend, [])


@check("feed")
def other_rows_are_trained_on_or_refused(backend: Backend) -> None:
    images, labels = images_and_classes(9, seed=4)
    for make in (backend.compile, partial(GenericPlan, backend)):
        compiled_plan, by_hand = pair_of_plans(backend, Adam(0.01))
        plan = make(compiled_plan.job)
        try:
            plan.feed(backend.place(images, labels, SCALE))
        except ConfigError:
            assert type(plan) is not GenericPlan, "the generic plan takes other rows"
        else:
            by_hand.feed(GENERIC.place(images, labels, SCALE))
            assert_same_training(plan, by_hand, backend, [None])
            assert plan.step == 1, f"rows that are fed are one batch: step must be 1, got {plan.step}"


@check("compile")
def a_first_run_leaves_the_arrays_in_the_layers_as_they_are(backend: Backend) -> None:
    if not backend.is_on_host:
        return
    plan = compiled(backend, Adam())
    arrays = [array for layer in plan.job.layers for array in (layer.weight, layer.bias)]
    before = [array.copy() for array in arrays]
    plan.run()
    assert_same(arrays, before, "what was in the layers before the first run")


# State


@check("load_state", "state", "final_state", cases=each_rule)
def a_loaded_state_resumes_bit_for_bit(backend: Backend, optimizer: Optimizer, **options: Any) -> None:
    plan, resumed = (compiled(backend, optimizer, **options) for _ in range(2))
    zeros = pair_of_plans(backend, optimizer, **options)[1].state()
    state = plan.state()
    assert state.keys() == zeros.keys(), f"state must have {[*zeros]}, got {[*state]}"
    expected = [array.astype(options["dtype"]) for array in zeros.values()]
    assert_same([state[name] for name in zeros], expected, "the state before a step")
    plan.run(ORDER)
    state, step, arrays = plan.state(), plan.step, weights_of(backend, plan.job.layers)
    kept = [array.copy() for array in state.values()]
    totals = plan.run(ORDER)
    assert_same([*state.values()], kept, "a state that was handed out, after another run")
    put_weights(backend, resumed, arrays)
    resumed.load_state(state, step)
    assert resumed.step == step, f"step must be {step}, got {resumed.step}"
    got = resumed.run(ORDER)
    assert_same([*state.values()], kept, "a state that was handed in, after a run")
    assert (got, resumed.step) == (totals, plan.step), f"the resumed run must give {totals}, got {got}"
    assert_same(results_of(backend, resumed), results_of(backend, plan), "weights and state of the resumed run")
    final, state = resumed.final_state(), plan.state()
    assert final.keys() == state.keys(), f"final_state must have {[*state]}, got {[*final]}"
    assert_same([*final.values()], [state[name] for name in final], "the final state")


@check("load_state")
def a_state_of_something_else_is_refused(backend: Backend) -> None:
    plan = compiled(backend, RMSprop())
    plan.run()
    before, name = plan.state(), "layers.0.bias.mean_square"
    assert name in before, f"the state must have {name!r}, got {[*before]}"
    wrong: list[dict[str, Numbers]] = [
        {key: array for key, array in before.items() if key != name},
        before | {f"{name}.x": np.zeros(4)},
        before | {name: np.zeros(5)},
        before | {name: np.zeros(4, "float32")},
    ]
    for state in wrong:
        refused = refusal(ModelFileError, plan.load_state, state, 1)
        assert name in refused, f"the error must name {name!r}, got {refused!r}"
    assert plan.step == 3, f"step must stay 3, got {plan.step}"
    assert_same([*plan.state().values()], [*before.values()], "the state, after others were refused")
