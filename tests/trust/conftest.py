"""What the experiments of this folder share: how much of each is done, and the page that their figures go to."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from xpnn.backends.machine import hardware, versions

BEGIN, END = "<!-- trust:begin -->", "<!-- trust:end -->"
FIGURES: dict[tuple[int, str], str] = {}  # number and name of an experiment -> what it showed


@pytest.fixture
def amount(pytestconfig: pytest.Config) -> Callable[..., int]:
    """`amount(200, slice=8)`: the first with `--trust`, else the slice that every test run does."""
    return lambda full, *, slice: full if pytestconfig.getoption("--trust") else slice  # noqa: A006


@pytest.fixture
def show() -> Callable[[int, str, str], None]:
    """`show(1, "kill -9 in training", "200 of 200 ended bit-identical")`: a row of the page, by number and name."""

    def keep(number: int, experiment: str, seen: str) -> None:
        FIGURES[number, experiment] = seen

    return keep


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the figures into the page that `--trust-page` names, if everything passed."""
    page = session.config.getoption("--trust-page")
    if page is not None and exitstatus == 0:
        path = Path(page)
        path.write_text(rewritten(path.read_text(encoding="utf-8"), table(FIGURES)), encoding="utf-8")


def table(figures: dict[tuple[int, str], str]) -> str:
    """Return the figures in Markdown, with what they were seen on."""
    rows = [f"| {number} | {experiment} | {seen} |" for (number, experiment), seen in sorted(figures.items())]
    machine = hardware()
    software = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
    on = f"{date.today():%d %B %Y}, {machine['processor']}, {machine['cores']} cores; {software}."
    return "\n".join(["| | experiment | seen |", "|---|---|---|", *rows, "", on.removeprefix("0")])


def rewritten(page: str, text: str) -> str:
    """Return the page with `text` between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"
