"""What a training shows while it runs."""

import io

import pytest
from rich.console import Console
from xpnn import nn
from xpnn.nn.cli.progress import ProgressBar, ProgressLines, progress_callback


def train(make_data, callback: nn.Callback, *, epochs: int, with_test: bool = True) -> None:
    data = make_data()
    net = nn.MLP([6, 4, 3], backend="numpy")
    nn.train(net, data if with_test else data.train, epochs=epochs, batch_size=8, callbacks=[callback])


def test_bar_shows_epoch_loss_accuracies_rate_and_time_left(make_data) -> None:
    screen = io.StringIO()
    train(make_data, ProgressBar(Console(file=screen, force_terminal=True, width=120)), epochs=3)
    shown = screen.getvalue()
    for part in ("epoch 1/3", "loss ", "train ", "test ", "examples/s", ":"):
        assert part in shown


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
    assert type(progress_callback(quiet=True)) is nn.Callback
