"""How many threads of a team take part, on a machine whose speed is made up."""

import pytest
from xpnn.backends.numba.compiler.pace import CHUNK_SECONDS, MOST_DOUBLINGS, PATIENCE, Pace


def run(pace, seconds_of, late_of, chunks):
    """Go through chunks of steps that take `seconds_of[threads]` each; return each chunk's threads and seconds."""
    gone = []
    for _ in range(chunks):
        threads, batches = pace.threads, pace.batches()
        gone.append((threads, batches * seconds_of[threads]))
        pace.note(batches, batches * seconds_of[threads], late_of[threads])
    return gone


QUIET, BUSY = {1: 2e-3, 2: 1e-3}, {1: 2e-3, 2: 6e-3}
PROMPT, LATE = {1: 0.0, 2: 0.01}, {1: 0.0, 2: 0.5}


def test_a_team_whose_threads_do_not_wait_long_stays_whole():
    assert {threads for threads, _ in run(Pace(2), QUIET, PROMPT, 200)} == {2}


@pytest.mark.parametrize("most", [2, 5, 8])
def test_a_team_beside_a_busy_process_shrinks_to_one_thread_and_trials_are_rare(most):
    seconds_of = {1: 2e-3, **dict.fromkeys(range(2, most), 0.006), most: 7e-3}
    gone = run(Pace(most), seconds_of, {threads: 0.5 * (threads > 1) for threads in seconds_of}, 500)
    total = sum(seconds for _, seconds in gone)
    assert gone[-1][0] == 1
    assert sum(seconds for threads, seconds in gone if threads == 1) > 0.9 * total


def test_a_team_grows_again_when_the_machine_is_quiet():
    pace = Pace(2)
    run(pace, BUSY, LATE, 400)
    gone = run(pace, QUIET, PROMPT, 200)
    whole_from = next(at for at in range(len(gone)) if all(threads == 2 for threads, _ in gone[at:]))
    assert sum(seconds for _, seconds in gone[:whole_from]) <= PATIENCE * 2**MOST_DOUBLINGS + 4 * CHUNK_SECONDS


def test_long_waits_alone_do_not_shrink_a_team_that_is_faster():
    gone = run(Pace(2), QUIET, LATE, 500)
    assert gone[-1][0] == 2
    assert sum(seconds for threads, seconds in gone if threads == 1) < 0.1 * sum(seconds for _, seconds in gone)


def test_a_chunk_of_a_team_is_short_and_a_single_thread_has_no_chunks():
    gone = run(Pace(2), QUIET, PROMPT, 20)
    assert max(seconds for _, seconds in gone) == pytest.approx(CHUNK_SECONDS)
    pace = Pace(1)
    pace.note(1, 1.0, 0.0)
    assert pace.batches() > 1e9
