"""KeyboardInterrupt at each line and each bytecode of a team's start and of its runs, one after the other."""

import gc
import threading
from contextlib import suppress
from itertools import count

import pytest
from interrupt import Interrupt
from numba.core import config
from xpnn.backends.numba.compiler import start as numba_start
from xpnn.backends.numba.compiler import team as numba_team
from xpnn.backends.numba.compiler.team import Team

from .neighbours import expected_sums, neighbours_added

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has one thread")

OWN_FILES = [numba_team.__file__, numba_start.__file__]


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "xpnn"]


def check_whole(team, threads, others):
    """Check the next run, that of another thread, and that all threads but the team's own have ended."""
    assert neighbours_added(team, threads) == expected_sums(threads)
    assert team.threads == threads
    seen = []
    other = threading.Thread(target=lambda: seen.append(neighbours_added(team, threads)), daemon=True)
    other.start()
    other.join(timeout=60)
    assert seen == [expected_sums(threads)], "a caller on another thread does not get its turn"
    own = {worker.thread for worker in team._workers}
    assert len(own) == threads - 1
    for thread in set(workers()) - own - others:
        thread._started.wait(timeout=60)  # an interrupted start goes on beside its caller
        thread.join(timeout=60)
        assert not thread.is_alive(), "a thread is left behind"
    team._let_go()  # the interrupt's traceback may keep the team


def interrupt_everywhere(threads, *, is_started, everywhere, step=1):
    """Interrupt a team at each point in turn; return how many there are."""
    neighbours_added(Team(threads), threads)  # compiled
    gc.collect()
    others = set(workers())
    for point in count(0, step):
        team = Team(threads)
        if is_started:
            neighbours_added(team, threads)
        interrupt = Interrupt(point, None if everywhere else OWN_FILES)
        with suppress(KeyboardInterrupt), interrupt:
            neighbours_added(team, threads)
        check_whole(team, threads, others)
        if interrupt.points <= point:
            return interrupt.points
    raise AssertionError


@pytest.mark.parametrize("threads", [2, 3, pytest.param(8, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("is_started", [False, True], ids=["start", "run"])
def test_an_interrupt_at_any_point_leaves_the_next_run_right(threads, is_started, record_property):
    record_property("points", interrupt_everywhere(threads, is_started=is_started, everywhere=False))


@pytest.mark.thorough
@pytest.mark.parametrize("threads", [2, 3, pytest.param(8, marks=pytest.mark.thorough)])
def test_an_interrupt_in_the_libraries_that_start_threads(threads, record_property):
    record_property("points", interrupt_everywhere(threads, is_started=False, everywhere=True))
