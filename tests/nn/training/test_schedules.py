"""Learning-rate schedules: the factor of each step, by hand."""

import pytest
from xpnn.backends import ConfigError
from xpnn.nn.training.schedules import SCHEDULES, learning_rate_at

# schedule: the factors of four steps, whose progress is 0, 1/4, 1/2, 3/4
FACTORS = {
    "constant": [1.0, 1.0, 1.0, 1.0],
    "step": [1.0, 1.0, 0.1, 0.01],
    "cosine": [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5],  # cos 45° = sqrt(1/2)
}


def test_every_schedule_has_its_factors_here():
    assert FACTORS.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_of_each_step(name):
    rate = learning_rate_at(0.2, name, total_steps=4)
    assert [rate(step) for step in (1, 2, 3, 4)] == pytest.approx([0.2 * each for each in FACTORS[name]])


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_begins_after_the_warm_up(name):
    rate = learning_rate_at(0.2, name, total_steps=9, warmup_steps=5)
    assert [rate(step) for step in range(1, 6)] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert [rate(step) for step in range(6, 10)] == pytest.approx([0.2 * each for each in FACTORS[name]])


def test_a_schedule_may_be_a_function_of_the_progress():
    rate = learning_rate_at(8.0, lambda progress: 1 - progress, total_steps=4)
    assert [rate(step) for step in (1, 2, 3, 4)] == [8.0, 6.0, 4.0, 2.0]


def test_cosine_falls_all_the_way():
    rate = learning_rate_at(1.0, "cosine", total_steps=1000)
    rates = [rate(step) for step in range(1, 1001)]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_an_unknown_schedule_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown schedule 'cosin' \(did you mean 'cosine'"):
        learning_rate_at(0.1, "cosin", total_steps=4)


@pytest.mark.parametrize("warmup_steps", [-1, 4, 5])
def test_the_warm_up_must_leave_a_step(warmup_steps):
    with pytest.raises(ConfigError, match=rf"warmup_steps must be in \[0, 4\), .*, got {warmup_steps}"):
        learning_rate_at(0.1, "constant", total_steps=4, warmup_steps=warmup_steps)


def test_the_warm_up_may_leave_a_single_step():
    rate = learning_rate_at(1.0, "constant", total_steps=4, warmup_steps=3)
    assert [rate(step) for step in (1, 2, 3, 4)] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
