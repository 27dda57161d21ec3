"""The process that watches over a rank: no MPI is needed to see what it does."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from xpnn.nn.distributed import MpiCommunicator, supervision
from xpnn.nn.distributed.supervision import Place, launched

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

RANK_2 = {"PMI_RANK": "2", "PMI_SIZE": "4"}
HEAD = "import os, signal, sys, time\nfrom xpnn.nn.distributed.supervision import *\n"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`start(script)` runs a script that may be supervised."""

    def run(script: str, variables: dict[str, str] | None = None, **options: object) -> "subprocess.Popen[str]":
        path = tmp_path / "script.py"
        path.write_text(HEAD + textwrap.dedent(script), encoding="utf-8")
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PMI", "OMPI", "SLURM", "HYDI", "MPI_"))
        }
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=own | (RANK_2 if variables is None else variables), **options,
        )  # fmt: skip

    return run


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, Place(2, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, Place(1, 2)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}, Place(3, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # the batch script itself, which srun has not started
        ({"PMI_RANK": "a", "PMI_SIZE": ""}, None),
    ],
)
def test_launchers_tell_rank_and_size(variables, place):
    assert launched(variables) == place


@pytest.mark.parametrize("ending", ["sys.exit(5)", "os._exit(5)"])
def test_the_exit_code_is_passed_on_and_nothing_is_said_twice(start, ending):
    script = f"""
        print("before")
        parent = os.getpid()
        supervise()
        assert is_supervised() and os.getppid() == parent
        supervise()  # once is enough
        assert os.getppid() == parent
        print("after", flush=True)
        {ending}
    """
    returned, stdout, stderr = ended(start(script))
    assert (returned, stdout) == (5, "before\nafter\n")
    assert stderr.endswith("exited with code 5\n")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("variables", [{}, {"PMI_RANK": "0", "PMI_SIZE": "1"}])
def test_one_process_is_not_supervised(start, variables):
    script = """
        own = os.getpid()
        supervise()
        assert own == os.getpid() and not is_supervised()
        tell_supervisor("nobody")
        end_together()
    """
    assert ended(start(script, variables)) == (0, "", "")


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", 137), ("SIGSEGV", 139)])
def test_a_rank_that_is_killed_is_named_with_how_to_go_on(start, name, code):
    script = f"""
        supervise()
        print(os.getpid(), flush=True)
        tell_supervisor("first")
        tell_supervisor("go on with this")
        os.kill(os.getpid(), signal.{name})
    """
    returned, stdout, stderr = ended(start(script))
    assert returned == code
    assert stderr.startswith(f"xpnn: rank 2 (process {stdout.strip()} on ")
    assert f"was killed by {name}" in stderr
    assert stderr.endswith("; go on with this\n")


@pytest.mark.parametrize(("last", "is_said"), [("", False), ("tell_supervisor(SAID)", True), ("end_together()", True)])
def test_a_rank_that_ends_without_a_word_is_named(start, last, is_said):
    script = f"""
        from xpnn.nn.distributed.supervision import SAID
        supervise()
        print(os.getpid(), flush=True)
        {last}
        os._exit(3)
    """
    returned, stdout, stderr = ended(start(script))
    assert returned == 3
    words = f"xpnn: rank 2 (process {stdout.strip()} on {socket.gethostname()}) exited with code 3\n"
    assert stderr == ("" if is_said else words)


def test_a_signal_is_passed_on_to_the_rank(start):
    script = """
        supervise()
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
        print("ready", flush=True)
        while True:
            signal.pause()
    """
    process = start(script)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (7, "", "")


def test_a_rank_that_ends_by_a_signal_passed_on_is_no_news(start):
    process = start('supervise()\nprint("ready", flush=True)\nsignal.pause()')
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (128 + signal.SIGTERM, "", "")


def test_a_signal_that_is_ignored_stays_so(start):
    script = """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        supervise()
        os.kill(os.getppid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    """
    assert ended(start(script)) == (0, "", "")


def test_a_rank_ends_with_its_supervisor(start):
    process = start('supervise()\nprint("ready", flush=True)\nsignal.pause()')
    assert process.stdout.readline() == "ready\n"
    process.kill()
    returned, stdout, stderr = ended(process)  # they have an end: nobody holds them any more
    assert (returned, stdout) == (-signal.SIGKILL, "")
    assert stderr.startswith("xpnn: rank 2 (process ")
    assert stderr.endswith("ends, as its parent was killed\n")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("os.kill(os.getpid(), 9)", b"cmd=abort exitcode=137\n"),
        ("sys.exit(3)", b"cmd=abort exitcode=3\n"),
        ("end_together(); sys.exit(143)", b""),
        ("sys.exit(0)", b""),
    ],
)
def test_the_launcher_is_told_to_end_the_others(start, script, told):
    reads, writes = os.pipe()
    process = start(
        f"supervise()\n{script}", RANK_2 | {"PMI_FD": str(writes), "HYDI_CONTROL_FD": "7"}, pass_fds=[writes]
    )
    os.close(writes)
    assert ended(process)[0] != 0 or not told
    with os.fdopen(reads, "rb") as pipe:
        assert pipe.read() == told


@pytest.mark.parametrize(
    ("variables", "is_told"),
    [
        ({"PMI_FD": "9", "SLURM_STEP_NUM_TASKS": "2"}, False),  # srun, to which the exit code says enough
        ({"PMI_FD": "9", "HYDI_CONTROL_FD": "7"}, True),
        ({"PMI_FD": "9", "MPI_LOCALNRANKS": "2"}, True),  # on another machine than the launcher's
        ({"PMI_FD": "9", "HYDI_CONTROL_FD": "7", "SLURM_STEP_NUM_TASKS": "1"}, True),  # mpiexec in a batch script
        ({"HYDI_CONTROL_FD": "7"}, False),
    ],
)
def test_mpichs_launcher_alone_is_told(monkeypatch, variables, is_told):
    wrote = []
    monkeypatch.setattr(supervision.os, "write", lambda *arguments: wrote.append(arguments))
    supervision.end_others(1, variables)
    assert wrote == [(9, b"cmd=abort exitcode=1\n")] * is_told


def test_the_exit_code_counts_where_the_ends_of_children_are_ignored(start):
    script = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        supervise()
        assert is_supervised() and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        print("done")
    """
    assert ended(start(script)) == (0, "done\n", "")


def test_the_last_words_may_name_a_path_that_is_no_utf_8(start):
    script = r"""
        supervise()
        tell_supervisor("go on with\n" + os.fsdecode(b"run-\xff"))
        os.kill(os.getpid(), 9)
    """
    code, _, stderr = ended(start(script, errors="surrogateescape"))
    assert code == 137
    assert stderr.endswith("; go on with run-\udcff\n")


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(4)", 4), ("os.kill(os.getpid(), 9)", 137)])
def test_streams_may_be_closed(tmp_path, ending, code):
    path = tmp_path / "script.py"
    path.write_text(f"{HEAD}assert sys.stdout is sys.stderr is None\nsupervise()\n{ending}\n", encoding="utf-8")
    shell = ["sh", "-c", 'exec "$0" "$1" >&- 2>&-', sys.executable, str(path)]
    assert subprocess.run(shell, env=os.environ | RANK_2, timeout=60, check=False).returncode == code


def test_where_no_process_can_be_made_nobody_watches(start):
    script = """
        def refuse():
            raise BlockingIOError(11, "Resource temporarily unavailable")

        os.fork = refuse
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        opened = os.listdir("/dev/fd")
        supervise()
        assert not is_supervised() and os.listdir("/dev/fd") == opened
        assert signal.pthread_sigmask(signal.SIG_SETMASK, mask) == mask | {signal.SIGUSR1}
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        print("done")
    """
    assert ended(start(script)) == (0, "done\n", "")


def test_an_error_of_the_supervisor_itself_is_told(start):
    script = """
        def fail(*_):
            raise ValueError("a fault of its own")

        os.waitpid = fail
        supervise()
    """
    code, _, stderr = ended(start(script))
    assert code == 1
    assert "ValueError: a fault of its own" in stderr


class EndedError(Exception):
    pass


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ValueError("bad"), 1)])
@pytest.mark.parametrize("is_own", [True, False])
def test_what_nobody_caught_ends_all_after_the_users_own_hook(monkeypatch, error, code, is_own):
    world, ends, heard = sys.modules["xpnn.nn.distributed.world"], [], []

    def end_job(*arguments):
        ends.append(arguments)
        raise EndedError

    monkeypatch.setattr(world, "end_job", end_job)
    monkeypatch.setattr(world, "own_rank", lambda: 2)
    before = (lambda *arguments: heard.append(arguments)) if is_own else sys.__excepthook__
    try:
        raise error
    except BaseException as caught:
        with pytest.raises(EndedError):
            world._end_all(before, type(caught), caught, caught.__traceback__)
    ((ended_with, words),) = ends
    assert ended_with == code
    assert [each[1] for each in heard] == [error] * is_own
    assert all(line.startswith("rank 2: ") for line in words.splitlines())
    assert words.splitlines()[-1].startswith(f"rank 2: {type(error).__name__}")
    assert ("Traceback" in words) != is_own


def test_a_number_of_each_rank_is_gathered_in_a_row():
    gathering = MpiCommunicator.__new__(MpiCommunicator)
    gathering.size = 3
    gathering._comm = SimpleNamespace(Allgather=lambda own, gathered: gathered.__setitem__(..., own))
    assert gathering.gather(np.array(4)).tolist() == [4, 4, 4]
    columns = np.arange(6).reshape(2, 3).T  # (3, 2), not contiguous
    assert gathering.gather(columns).shape == (3, 3, 2)
