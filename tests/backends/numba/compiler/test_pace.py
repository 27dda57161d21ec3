"""How many threads of a team take part, on a machine whose speed is made up."""

import pytest
from xpnn.backends.numba.compiler.pace import CHUNK_SECONDS, MOST_DOUBLINGS, PATIENCE, Pace


def run(pace, seconds_of, share_of, chunks):
    """Go through chunks of steps that take `seconds_of[threads]` each; return each chunk's threads and seconds."""
    gone = []
    for _ in range(chunks):
        threads, batches = pace.threads, pace.batches()
        seconds = batches * seconds_of[threads]
        gone.append((threads, seconds))
        pace.note(batches, seconds, share_of[threads] * threads * seconds)
    return gone


QUIET, BUSY = {1: 2e-3, 2: 1e-3}, {1: 2e-3, 2: 6e-3}
ALONE, SHARED = {1: 1.0, 2: 0.99}, {1: 0.95, 2: 0.7}


def test_a_team_that_has_its_cores_to_itself_stays_whole():
    assert {threads for threads, _ in run(Pace(2, 2), QUIET, ALONE, 200)} == {2}


@pytest.mark.parametrize("most", [2, 5, 8])
def test_a_team_beside_a_busy_process_shrinks_to_one_thread_and_trials_are_rare(most):
    seconds_of = {1: 2e-3, **dict.fromkeys(range(2, most), 0.006), most: 7e-3}
    gone = run(Pace(most, most), seconds_of, dict.fromkeys(seconds_of, 0.8), 500)
    total = sum(seconds for _, seconds in gone)
    assert gone[-1][0] == 1
    assert sum(seconds for threads, seconds in gone if threads == 1) > 0.9 * total


def test_a_team_grows_again_when_the_machine_is_quiet():
    pace = Pace(2, 2)
    run(pace, BUSY, SHARED, 400)
    gone = run(pace, QUIET, ALONE, 200)
    whole_from = next(at for at in range(len(gone)) if all(threads == 2 for threads, _ in gone[at:]))
    assert sum(seconds for _, seconds in gone[:whole_from]) <= PATIENCE * 2**MOST_DOUBLINGS + 4 * CHUNK_SECONDS


def test_busy_cores_do_not_shrink_a_team_that_is_faster_nevertheless():
    gone = run(Pace(2, 2), QUIET, SHARED, 500)
    assert gone[-1][0] == 2
    assert sum(seconds for threads, seconds in gone if threads == 1) < 0.1 * sum(seconds for _, seconds in gone)


@pytest.mark.parametrize(("seconds_of", "threads"), [(QUIET, 2), ({1: 1e-5, 2: 2e-5}, 1)])
def test_small_steps_begin_with_one_thread_and_take_more_where_it_pays(seconds_of, threads):
    gone = run(Pace(2, 1), seconds_of, ALONE, 100)
    assert gone[0][0] == 1
    assert gone[-1][0] == threads
    assert sum(seconds for used, seconds in gone if used == threads) > 0.9 * sum(seconds for _, seconds in gone)


def test_a_chunk_of_a_team_is_short_and_a_single_thread_has_no_chunks():
    gone = run(Pace(2, 2), QUIET, ALONE, 20)
    assert max(seconds for _, seconds in gone) == pytest.approx(CHUNK_SECONDS)
    pace = Pace(1, 1)
    pace.note(1, 1.0, 0.0)
    assert pace.batches() > 1e9
