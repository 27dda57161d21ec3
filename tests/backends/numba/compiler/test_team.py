"""Threads that run a kernel side by side: how many there are, what becomes of their errors, and their forks."""

import multiprocessing
import os
import sys
import threading
import weakref

import numba
import numpy as np
import pytest
from numba.core import config
from xpnn.backends.numba.compiler import team as numba_team
from xpnn.backends.numba.compiler.team import (
    SYNC_SIZE,
    Side,
    Team,
    _container_cores,
    share,
    usable_threads,
)

from .neighbours import add_neighbours, expected_sums, neighbours_added

compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has one thread")


@compiled_only
@pytest.mark.parametrize(("threads", "rounds"), [(1, 5), (2, 40), (3, 30), (2 * (os.cpu_count() or 1) + 1, 21)])
def test_no_thread_goes_ahead_of_the_others(threads, rounds):
    """Also with more threads than cores: who waits gives way."""
    team = Team(threads)
    for _ in range(3):
        assert neighbours_added(team, threads, rounds) == expected_sums(threads, rounds)


@compiled_only
@pytest.mark.parametrize(("given", "threads"), [(0, 1), (2, 3)])
def test_a_team_is_smaller_where_the_system_gives_no_more_threads(monkeypatch, given, threads):
    start, started = threading.Thread.start, []

    def start_some(thread):
        if len(started) == given:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    team, sides = Team(5), []
    team.run(lambda side: sides.append((side.me, side.threads)))
    assert sorted(sides) == [(me, threads) for me in range(threads)]
    assert team.threads == threads
    assert neighbours_added(team, threads, 9) == expected_sums(threads, 9)


def test_every_side_has_its_number_and_all_wait_by_one_array():
    sides, team = [], Team(4)
    team.run(lambda side, what: sides.append((side, what)), "work")
    assert sorted(side.me for side, _ in sides) == [0, 1, 2, 3]
    assert {side.threads for side, _ in sides} == {4}
    assert {what for _, what in sides} == {"work"}
    first = sides[0][0].sync
    assert all(side.sync is first for side, _ in sides)
    assert (first.shape, first.dtype) == ((SYNC_SIZE,), np.int64)


@compiled_only
def test_some_of_a_team_can_take_part_in_a_run_and_the_others_in_the_next():
    team = Team(4)
    for threads in (4, 2, 1, 3, 4):
        numbers = np.ones((threads, 2), dtype=np.int64)
        team.run(add_neighbours, 5, numbers, threads=threads)
        assert (numbers[:, 1] == 2**5).all()
    assert team.threads == 4


def fail_on(me):
    def function(side):
        if side.me == me:
            raise ValueError(f"thread {me}")

    return function


@pytest.mark.parametrize("me", [0, 1, 2])
def test_an_error_of_any_thread_is_raised(me):
    team = Team(3)
    with pytest.raises(ValueError, match=f"thread {me}"):
        team.run(fail_on(me))


@pytest.mark.parametrize("me", [1, 2])
def test_a_team_works_on_after_an_error_of_a_worker(me):
    team, seen = Team(3), []
    with pytest.raises(ValueError, match=f"thread {me}"):
        team.run(fail_on(me))
    team.run(lambda side: seen.append(side.me))
    assert sorted(seen) == [0, 1, 2]


def test_the_threads_are_kept_for_the_next_run():
    team, threads = Team(3), []
    for _ in range(2):
        team.run(lambda side: threads.append((side.me, threading.get_ident())))
    assert sorted(threads[:3]) == sorted(threads[3:])
    assert dict(threads)[0] == threading.get_ident()
    assert len({ident for _, ident in threads}) == 3


def test_the_threads_end_with_their_team():
    team, threads = Team(3), set()
    team.run(lambda side: threads.add(threading.current_thread()))  # noqa: ARG005
    threads.remove(threading.current_thread())
    assert len(threads) == 2
    assert all(thread.is_alive() and thread.daemon for thread in threads)
    del team
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def run_in_a_child(team, results):
    results.put(neighbours_added(team, 3, 7))


@compiled_only
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forks safely")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    team = Team(3)
    assert neighbours_added(team, 3, 7) == expected_sums(3, 7)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=run_in_a_child, args=(team, results))
    child.start()
    child.join(timeout=30)
    if child.is_alive():
        child.kill()
        pytest.fail("the child waits for threads that it does not have")
    assert child.exitcode == 0
    assert results.get() == expected_sums(3, 7)
    assert neighbours_added(team, 3, 7) == expected_sums(3, 7)  # the parent's are still there


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("100001 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("max 100000\n", 1 << 16),
        ("", 1 << 16),
        ("100000", 1 << 16),
        ("one two", 1 << 16),
        (None, 1 << 16),
    ],
)
def test_cores_of_a_container(tmp_path, text, cores):
    path = tmp_path / "cpu.max"
    if text is not None:
        path.write_text(text)
    assert _container_cores(path) == cores


@compiled_only
@pytest.mark.parametrize(("container", "limit", "threads"), [(2, 8, 2), (8, 2, 2), (8, 8, 3), (1, 1, 1)])
def test_usable_threads_are_the_least_of_three_limits(monkeypatch, container, limit, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)  # noqa: ARG005
    monkeypatch.setattr(numba_team, "_container_cores", lambda path: container)  # noqa: ARG005
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", limit)
    assert usable_threads() == threads
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert usable_threads() == 1


@compiled_only
def test_usable_threads_without_affinity_are_the_machines(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_threads() == 1


def parts_of(count, unit, threads):
    function = getattr(share, "py_func", share)
    return [function(Side(me, threads, None), count, unit) for me in range(threads)]


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 64])
@pytest.mark.parametrize(("count", "unit"), [(0, 8), (1, 8), (8, 8), (23, 8), (100, 1), (41, 5)])
def test_shares_are_whole_units_without_gap_or_overlap(count, unit, threads):
    parts = parts_of(count, unit, threads)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    assert all(start % unit == 0 or start == count for start, _ in parts)
    sizes = [-(-(stop - start) // unit) for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


def test_shares_by_hand():
    assert parts_of(23, 8, 2) == [(0, 8), (8, 23)]
    assert parts_of(16, 8, 4) == [(0, 0), (0, 8), (8, 8), (8, 16)]


def test_a_team_works_on_after_an_error_of_the_caller():
    team = Team(3)
    with pytest.raises(ValueError, match="thread 0"):
        team.run(fail_on(0))
    with pytest.raises(ValueError, match="thread 1"):
        team.run(fail_on(1))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system moves no threads")
def test_a_system_that_lets_no_thread_move_is_no_failure(monkeypatch):
    def refuse(pid, cores):  # noqa: ARG001
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(numba_team, "_cores_but_this", lambda: {0})
    seen = []
    Team(2).run(lambda side: seen.append(side.me))
    assert sorted(seen) == [0, 1]


def test_callers_take_turns():
    team, calls, begun, met = Team(2), threading.Event(), threading.Event(), []

    def second():
        calls.set()
        team.run(lambda side: begun.set())  # noqa: ARG005

    caller = threading.Thread(target=second)

    def first(side):
        if side.me == 0:
            caller.start()
            calls.wait()
            met.append(begun.wait(timeout=0.2))  # as long as this one is at work, the other may not begin

    team.run(first)
    caller.join(timeout=60)
    assert met == [False]
    assert begun.is_set()


def test_a_run_that_was_interrupted_leaves_its_threads_behind():
    team, before, after = Team(2), [], []

    def interrupt(side):
        before.append(threading.current_thread())
        if side.me == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        team.run(interrupt)
    team.run(lambda side: after.append(threading.current_thread()))  # noqa: ARG005
    assert len(after) == 2
    assert set(before) & set(after) == {threading.current_thread()}


def test_what_a_run_worked_on_is_let_go():
    team, array, gone = Team(2), np.zeros(3), threading.Event()
    weakref.finalize(array, gone.set)
    team.run(lambda side, array: None, array)  # noqa: ARG005
    del array
    assert gone.wait(timeout=60)


def test_after_an_interrupt_nobody_writes_any_more():
    raised, ended = threading.Event(), []

    def interrupt(side):
        if side.me == 0:
            raise KeyboardInterrupt
        raised.wait(timeout=0.2)
        ended.append(side.me)

    with pytest.raises(KeyboardInterrupt):
        Team(3).run(interrupt)
    raised.set()
    assert sorted(ended) == [1, 2]


@compiled_only
def test_a_run_inside_a_run_is_done_by_its_thread_alone():
    """As of a signal's handler, which the interpreter calls between any two bytecodes."""
    team, results = Team(3), []

    def call_again(side):
        if side.me == 0:
            results.append(neighbours_added(team, 1, 9))

    team.run(call_again)
    assert results == [expected_sums(1, 9)]
    assert neighbours_added(team, 3, 9) == expected_sums(3, 9)
