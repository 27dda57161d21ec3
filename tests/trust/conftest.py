"""What the experiments of this folder share: how much of each is done, and the page that their figures go to."""

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from xpnn import nn
from xpnn.backends.machine import hardware, versions

from .mutations import FILES
from .watch import MIB, Watch

MOST_MEMORY = 256 * MIB  # that a file of a few hundred bytes, or a bomb, may take
MOST, PART = 150, 30  # in an ordinary test run: at most so many of each, and at most one in thirty

# Section of the page -> number and name of an experiment -> what it showed.
FIGURES: dict[str, dict[tuple[int, str], str]] = {}


@pytest.fixture
def amount(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """`amount(200, slice=8)`: the first with `--trust`, else the slice that every test run does."""
    return lambda full, *, slice: full if pytestconfig.getoption("--trust") else slice  # noqa: A006


@pytest.fixture
def show() -> Callable[..., None]:
    """`show(1, "kill -9 in training", "200 of 200 ended bit-identical")`: a row of the page, by number and name.

    The rows of another `section` have marks, a date and a machine of their own.
    """

    def keep(number: int, experiment: str, seen: str, *, section: str = "trust") -> None:
        FIGURES.setdefault(section, {})[number, experiment] = seen

    return keep


class Keep(nn.Callback):
    """Keeps where the training ended."""

    def on_train_end(self, run):
        self.checkpoint = run.checkpoint()


@pytest.fixture
def saved_run(make_data, tmp_path):
    """`saved_run(hidden)`: paths of the checkpoint and the model of a small run."""

    def make(hidden: int) -> tuple[Path, Path]:
        keep, net = Keep(), nn.MLP([6, hidden, 3], backend="numpy")
        nn.train(net, make_data(), epochs=2, batch_size=8, callbacks=[keep])
        paths = tmp_path / "checkpoint.safetensors", tmp_path / "model.safetensors"
        keep.checkpoint.save(paths[0])
        nn.save(net, paths[1])
        return paths

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Damage a part of the files in an ordinary test run, and all of them in a thorough one and with `--trust`."""
    if "damage" in metafunc.fixturenames:
        full = metafunc.config.getoption("--trust")
        every = "all" if full else pytest.param("all", marks=pytest.mark.thorough)
        metafunc.parametrize("damage", [every] if full else ["some", every], indirect=True)


@pytest.fixture
def damage(request, show, tmp_path):
    """`damage("IDX", files, load, check)`: load files of that row of FILES, each drawn as its name and content."""

    def run(reader, files, load, check):
        watch, count = Watch(), FILES[reader]
        if request.param == "some":
            count = min(MOST, count // PART)

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(files)
        def each(file):
            name, content = file
            (tmp_path / name).write_bytes(content)
            watch.load(load, tmp_path / name, check)

        each()
        assert watch.files >= count
        assert watch.refused > 0
        assert watch.refused < watch.files or request.param == "some"  # some damage is none
        assert watch.memory < MOST_MEMORY
        show(5, f"mutations of {reader}", str(watch))

    return run


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the figures into the page that `--trust-page` names, if everything passed."""
    page = session.config.getoption("--trust-page")
    if page is not None and exitstatus == 0:
        path = Path(page)
        machine = hardware()
        software = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
        today = f"{date.today():%d %B %Y}".removeprefix("0")
        on = f"{machine['processor']}, {machine['cores']} cores; {software}."
        for section, figures in FIGURES.items():
            path.write_text(rewritten(path.read_text(encoding="utf-8"), section, figures, today, on), encoding="utf-8")


ROW = re.compile(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)  # number, experiment, what was seen, date
DAY = re.compile(r"^- (\d.*?): (.*)$", re.MULTILINE)  # date, machine and versions


def rewritten(page: str, section: str, figures: dict[tuple[int, str], str], today: str, on: str) -> str:
    """Return the page with the figures of today in a section's table, and the machines of all days below it.

    The rows of experiments that were not done today stay. Those of one that is no longer there are deleted by hand.
    """
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    before, rest = page.split(begin)
    old, after = rest.split(end)
    rows = {(int(number), name): (seen, day) for number, name, seen, day in ROW.findall(old)}
    rows |= {experiment: (seen, today) for experiment, seen in figures.items()}
    days = {day for _, day in rows.values()}
    lines = [f"| {number} | {name} | {seen} | {day} |" for (number, name), (seen, day) in sorted(rows.items())]
    machines = [f"- {day}: {machine}" for day, machine in (dict(DAY.findall(old)) | {today: on}).items() if day in days]
    text = "\n".join(["| | experiment | seen | on |", "|---|---|---|---|", *lines, "", *machines])
    return f"{before}{begin}\n{text}\n{end}{after}"
