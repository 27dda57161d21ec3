"""What a training shows while it runs."""

import io
import re
import sys

import pytest
from rich.console import Console
from xpnn import nn
from xpnn.nn.cli.progress import Progress, ProgressBar, ProgressLines, progress_callback

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def train(make_data, progress: Progress, *before: nn.Callback, epochs: int, with_test: bool = True) -> None:
    data = make_data(train=24)
    net = nn.MLP([6, 4, 3], backend="numpy")
    with progress:
        nn.train(net, data if with_test else data.train, epochs=epochs, batch_size=8, callbacks=[*before, progress])


def test_bar_shows_epoch_loss_accuracies_and_rate(make_data) -> None:
    screen = io.StringIO()
    train(make_data, ProgressBar(Console(file=screen, force_terminal=True, width=120)), epochs=3)
    for part in (r"epoch 3/3", r"loss \d\.\d{4}", r"train \d+\.\d\d%", r"test \d+\.\d\d%", r"[\d,]+ examples/s"):
        assert re.search(part, screen.getvalue()), part


@pytest.mark.parametrize(("width", "rate"), [(120, r"[\d,]+ examples/s"), (76, r"[\d,]+k/s"), (66, "")])
def test_bar_leaves_out_what_a_narrow_terminal_has_no_room_for(make_data, width: int, rate: str) -> None:
    screen = io.StringIO()
    train(make_data, ProgressBar(Console(file=screen, force_terminal=True, width=width)), epochs=3)
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue()).strip().splitlines()[-1].split("\r")[-1]
    assert re.fullmatch(rf"epoch 3/3 \S+( \S+)? loss [\d.]+  train [\d.]+%  test [\d.]+%(  {rate})? \d\d:\d\d *", last)
    assert bool(re.search(r"/s", last)) is bool(rate)


def test_bar_shows_the_time_left(make_data) -> None:
    """24 rows an epoch at a second a row: after 2 epochs of 5, 72 seconds are left."""
    screen, seconds = io.StringIO(), [0.0]

    class ASecondARow(nn.Callback):
        def on_chunk_end(self, run: nn.TrainingRun) -> None:
            seconds[0] = float((run.epoch - 1) * 24 + run.position)
            if seconds[0] == 48:
                run.stop()

    console = Console(file=screen, force_terminal=True, width=120, get_time=lambda: seconds[0])
    train(make_data, ProgressBar(console), ASecondARow(), epochs=5)
    assert re.findall(r"\d\d:\d\d", screen.getvalue())[-1] == "01:12"


def test_bar_is_taken_away_when_the_training_fails(make_data) -> None:
    class Fails(nn.Callback):
        def on_epoch_end(self, run: nn.TrainingRun, result: nn.EpochResult) -> None:  # noqa: ARG002
            assert sys.stdout is not stdout  # a print now would go above the bar
            raise RuntimeError("in the middle")

    screen, stdout, stderr = io.StringIO(), sys.stdout, sys.stderr
    with pytest.raises(RuntimeError, match="in the middle"):
        train(make_data, ProgressBar(Console(file=screen, force_terminal=True, width=120)), Fails(), epochs=3)
    assert screen.getvalue().count(HIDE_CURSOR) == screen.getvalue().count(SHOW_CURSOR) == 1
    assert screen.getvalue().index(HIDE_CURSOR) < screen.getvalue().index(SHOW_CURSOR)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_a_bar_that_never_began_leaves_quietly() -> None:
    screen = io.StringIO()
    with pytest.raises(RuntimeError), ProgressBar(Console(file=screen, force_terminal=True, width=120)):
        raise RuntimeError("before the training")
    assert screen.getvalue() == ""


def test_bar_does_without_a_test_set(make_data) -> None:
    screen = io.StringIO()
    train(make_data, ProgressBar(Console(file=screen, force_terminal=True, width=120)), epochs=1, with_test=False)
    assert "train " in screen.getvalue()
    assert "test " not in screen.getvalue()


def test_lines_are_the_first_the_last_and_about_ten_between(make_data, capsys: pytest.CaptureFixture[str]) -> None:
    train(make_data, ProgressLines(), epochs=45)
    lines = capsys.readouterr().err.splitlines()
    epochs = [int(line.split()[1].split("/")[0]) for line in lines]
    assert epochs == [1, *range(4, 45, 4), 45]
    assert all("test" in line for line in lines)


def test_lines_do_without_a_test_set(make_data, capsys: pytest.CaptureFixture[str]) -> None:
    train(make_data, ProgressLines(), epochs=1, with_test=False)
    assert "test" not in capsys.readouterr().err


def test_a_bar_on_a_terminal_lines_elsewhere_nothing_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(progress_callback(quiet=False)) is ProgressBar
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert type(progress_callback(quiet=False)) is ProgressLines
    assert type(progress_callback(quiet=True)) is Progress
