"""What ends a job of many processes, seen from one of them without MPI."""

import io
import sys
from functools import partial
from importlib import import_module

import pytest
from xpnn.nn.distributed.world import abort, abort_after_exit, launched

world = import_module("xpnn.nn.distributed.world")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, (0, 1)),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, (2, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, (1, 2)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}, (3, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # the batch script itself, which srun has not started
        ({"PMI_RANK": "a", "PMI_SIZE": ""}, (0, 1)),
    ],
)
def test_launchers_tell_rank_and_size(variables, place):
    assert launched(variables) == place


def test_one_process_alone_ends_no_other():
    abort(1)
    abort_after_exit(SystemExit(3))


def aborted(do):
    """Return the exit code of the job that a call ends."""
    with pytest.raises(SystemExit) as caught:
        do()
    assert type(caught.value).__name__ == "Aborted"
    return caught.value.code


@pytest.mark.parametrize(("error", "code"), [(ValueError("bad"), 1), (KeyboardInterrupt(), 130)])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_uncaught_exception_is_shown_by_the_hook_before_and_ends_all(as_rank, capsys, rank, error, code):
    heard = []
    as_rank(rank)
    hook = partial(world._abort_after, lambda *shown: heard.append(shown[1]))
    assert aborted(lambda: hook(type(error), error, None)) == code
    assert heard == [error]
    assert capsys.readouterr().err == f"rank {rank} ends the job: {type(error).__name__}: {error}\n"


@pytest.mark.parametrize(("given", "code", "words"), [(3, 3, "exits with 3"), ("no more", 1, "no more")])
def test_an_exit_with_an_error_ends_all(as_rank, capsys, given, code, words):
    as_rank(1)
    abort_after_exit(SystemExit(0))
    abort_after_exit(SystemExit())
    assert aborted(lambda: abort_after_exit(SystemExit(given))) == code
    assert capsys.readouterr().err == f"rank 1: {words}\n"


def test_a_hook_that_fails_and_a_broken_stream_end_all(as_rank, monkeypatch):
    def fail(*_):
        raise OSError("the terminal is gone")

    as_rank(0)
    assert aborted(lambda: world._abort_after(fail, ValueError, ValueError("bad"), None)) == 1
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert aborted(lambda: abort(2, lambda rank: sys.stderr.write(rank))) == 2


def test_an_end_in_good_order_is_no_failure(as_rank):
    """After `MPI_Finalize` there is no job to end."""
    as_rank(1)
    sys.modules["mpi4py"].MPI.Is_finalized = lambda: True
    abort_after_exit(SystemExit(143))
