"""Pictures of a run, read back from the figures and the files, and the curves that are redrawn while it trains."""

import logging
import os
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from xpnn.backends import ConfigError, DataError, MissingDependency, RunError
from xpnn.nn.pictures import live
from xpnn.nn.pictures import style as pictures
from xpnn.nn.pictures.curves import draw_curves, save_curves
from xpnn.nn.pictures.evaluation import draw_confusion_matrix, draw_predictions, draw_worst_mistakes
from xpnn.nn.pictures.live import LiveCurves
from xpnn.nn.pictures.style import picture_style, save_picture
from xpnn.nn.training.history import EpochResult, History

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image


def history(epochs, *, test=True):
    """Losses 2/1, 2/2, 2/3 ..; accuracies 1 - 1/2, 1 - 1/3 ..; the test rows 0.1 worse."""
    return History(
        EpochResult(e, 2 / e, 1 - 1 / (e + 1), 2 / e + 0.1 if test else None, 0.9 - 1 / (e + 1) if test else None, 0.5)
        for e in range(1, epochs + 1)
    )


def drawn(draw, *arguments, **options):
    figure = Figure()
    FigureCanvasAgg(figure)
    with picture_style():
        draw(figure, *arguments, **options)
        figure.canvas.draw()
    return figure


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)  # (height, width, 3)


def words(artist):
    return [text.get_text() for text in artist.texts]


class TestCurves:
    def test_lines_hold_the_history(self):
        figure = drawn(draw_curves, history(5), title="deep-32")
        losses, accuracies = figure.axes
        train, test = losses.get_lines()
        np.testing.assert_array_equal(train.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_allclose(train.get_ydata(), [2, 1, 2 / 3, 0.5, 0.4])
        np.testing.assert_allclose(test.get_ydata(), np.array([2, 1, 2 / 3, 0.5, 0.4]) + 0.1)
        train, test = accuracies.get_lines()
        np.testing.assert_allclose(train.get_ydata(), [50, 200 / 3, 75, 80, 250 / 3])
        np.testing.assert_allclose(test.get_ydata(), [40, 170 / 3, 65, 70, 220 / 3])
        assert train.get_color() != test.get_color()
        assert train.get_linestyle() != test.get_linestyle()  # told apart without colour
        assert figure.get_suptitle() == "deep-32"
        assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]

    def test_final_values_stand_at_the_ends_from_high_to_low(self):
        losses, accuracies = drawn(draw_curves, history(5)).axes
        assert words(losses) == ["test 0.5", "train 0.4"]
        assert words(accuracies) == ["train 83.33 %", "test 73.33 %"]

    @pytest.mark.parametrize("epochs", [2, 5, 3500])
    def test_final_values_do_not_overlap_nor_leave_the_picture(self, epochs):
        figure = drawn(draw_curves, history(epochs))
        for axes in figure.axes:
            upper, lower = (text.get_window_extent() for text in axes.texts)
            assert lower.y1 <= upper.y0 + 1
            assert upper.x1 <= figure.bbox.x1
            assert lower.x1 <= figure.bbox.x1

    def test_one_epoch_is_a_visible_point(self, tmp_path):
        figure = drawn(draw_curves, history(1))
        for axes in figure.axes:
            assert [line.get_marker() for line in axes.get_lines()] == ["o", "o"]
            assert list(axes.get_xticks()) == [1]
        save_curves(history(1), tmp_path / "curves.png")
        picture = pixels(tmp_path / "curves.png")
        blue = np.abs(picture - 255 * np.array(to_rgba(pictures.TRAIN_COLOUR)[:3])).sum(axis=2) < 30
        left = blue[:, 100:500]  # the inside of the loss, without its label
        assert 30 < left.sum() < 300

    def test_thousands_of_epochs_are_a_line_without_points(self):
        losses, accuracies = drawn(draw_curves, history(3500)).axes
        assert losses.get_lines()[0].get_xdata()[-1] == 3500
        assert {line.get_marker() for axes in (losses, accuracies) for line in axes.get_lines()} == {""}

    def test_without_test_rows_there_is_one_line(self):
        losses, accuracies = drawn(draw_curves, history(4, test=False)).axes
        assert words(losses) == ["train 0.5"]
        assert words(accuracies) == ["train 80.00 %"]
        assert [len(axes.get_lines()) for axes in (losses, accuracies)] == [1, 1]

    def test_losses_that_are_no_numbers_leave_gaps(self):
        results = [*history(3), EpochResult(4, float("nan"), 0.1, float("inf"), 0.1, 0.5)]
        losses, _ = drawn(draw_curves, results).axes
        assert words(losses) == ["test 0.7667", "train 0.6667"]

    def test_loss_starts_at_zero(self):
        assert drawn(draw_curves, history(3)).axes[0].get_ylim()[0] == 0

    def test_no_epoch_is_said(self):
        (losses,) = drawn(draw_curves, []).axes  # whether there are accuracies is not known yet
        assert (words(losses), losses.get_title("left")) == (["no epoch yet"], "loss")

    def test_a_used_figure_is_drawn_anew(self):
        figure = drawn(draw_curves, history(2))
        draw_curves(figure, history(3))
        assert len(figure.axes) == 2
        assert len(figure.axes[0].get_lines()[0].get_xdata()) == 3

    def test_file_has_the_size_and_both_colours(self, tmp_path):
        save_curves(history(20), tmp_path / "curves.png", title="$x {")
        picture = pixels(tmp_path / "curves.png")
        assert picture.shape == (570, 1440, 3)
        for colour in (pictures.TRAIN_COLOUR, pictures.TEST_COLOUR):
            near = np.abs(picture - 255 * np.array(to_rgba(colour)[:3])).sum(axis=2) < 30
            assert near[:, :720].sum() > 500
            assert near[:, 720:].sum() > 500

    def test_vector_formats_by_suffix(self, tmp_path):
        save_curves(history(2), tmp_path / "curves.SVG")
        assert "<svg" in (tmp_path / "curves.SVG").read_text(encoding="utf-8")

    def test_only_the_finished_file_is_left(self, tmp_path):
        save_curves(history(2), tmp_path / "curves.png")
        save_curves(history(3), tmp_path / "curves.png")
        assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]

    def test_a_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
        save_curves(history(2), tmp_path / "curves.png")
        before = (tmp_path / "curves.png").read_bytes()
        monkeypatch.setattr(Figure, "savefig", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_curves(history(3), tmp_path / "curves.png")
        assert (tmp_path / "curves.png").read_bytes() == before

    def test_no_global_state(self, tmp_path):
        import matplotlib

        before = dict(matplotlib.rcParams)
        matplotlib.rcParams["lines.marker"] = "x"  # the user's own settings change nothing
        save_curves(history(40), tmp_path / "mine.png")
        matplotlib.rcParams["lines.marker"] = before["lines.marker"]
        save_curves(history(40), tmp_path / "default.png")
        assert dict(matplotlib.rcParams) == before
        assert (tmp_path / "mine.png").read_bytes() == (tmp_path / "default.png").read_bytes()

    def test_the_settings_of_the_working_folder_are_not_read(self, tmp_path):
        """Those that the user names are, and stay in force for the user's own figures."""
        (tmp_path / "matplotlibrc").write_text("figure.facecolor: red")
        own = tmp_path / "own"
        own.write_text("figure.facecolor: blue")
        code = (
            "from xpnn.nn.pictures.style import save_picture; save_picture(lambda figure: None, 'empty.png')\n"
            "import matplotlib; print(matplotlib.rcParams['figure.facecolor'])"
        )
        environment = os.environ | {"MATPLOTLIBRC": str(own)}
        assert subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment) == b"blue\n"
        assert np.all(np.asarray(Image.open(tmp_path / "empty.png")) == 255)

    def test_unknown_suffix(self, tmp_path):
        with pytest.raises(ConfigError, match=r"curves\.txt has no suffix of a picture .* use one of .*png"):
            save_curves(history(2), tmp_path / "curves.txt")

    def test_missing_folder(self, tmp_path):
        with pytest.raises(RunError, match="cannot write"):
            save_curves(history(2), tmp_path / "missing" / "curves.png")

    @pytest.mark.parametrize(("chosen", "taken"), [("module://nowhere.to_be_found", None), ("svg", "svg")])
    def test_whatever_backend_a_notebook_has_set(self, tmp_path, chosen, taken):
        code = (
            "from pathlib import Path\nfrom xpnn import nn\nfrom xpnn.nn.pictures.curves import save_curves\n"
            "save_curves(nn.History([nn.EpochResult(1, 0.5, 0.9, None, None, 1.0)]), Path('curves.png'))\n"
            "import matplotlib, os; print(os.environ['MPLBACKEND'], matplotlib.rcParams._get('backend'))"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"MPLBACKEND": chosen}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        kept, backend = result.stdout.split(maxsplit=1)
        assert kept == chosen
        assert taken in (None, backend.strip())
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    def test_missing_matplotlib(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"'):
            save_curves(history(2), tmp_path / "curves.png")


class TestConfusionMatrix:
    MATRIX = np.array([[90, 10, 0], [0, 40, 10], [0, 0, 0]])  # (true, predicted)
    NAMES = ("cat", "$dog_1", "猫")

    def test_counts_and_colours(self):
        figure = drawn(draw_confusion_matrix, self.MATRIX, ("a", "b", "c"))
        axes = figure.axes[0]
        shown = {text.get_position(): text.get_text() for text in axes.texts}
        assert shown == {(0, 0): "90", (1, 0): "10", (1, 1): "40", (2, 1): "10"}  # (predicted, true)
        np.testing.assert_allclose(axes.images[0].get_array(), [[0.9, 0.1, 0], [0, 0.8, 0.2], [0, 0, 0]])
        assert axes.get_title(loc="left") == "130 of 150 correct, 86.67 %"
        assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]

    def test_counts_can_be_read_on_their_cells(self):
        axes = drawn(draw_confusion_matrix, self.MATRIX, ("a", "b", "c")).axes[0]
        for text in axes.texts:
            predicted, true = text.get_position()
            cell = axes.images[0].to_rgba(axes.images[0].get_array())[true, predicted, :3]
            assert abs(np.mean(to_rgba(text.get_color())[:3]) - cell.mean()) > 0.3

    @pytest.mark.parametrize("num_classes", [2, 20])
    def test_counts_fit_their_cells(self, num_classes):
        matrix = np.full((num_classes, num_classes), 12345)
        figure = drawn(draw_confusion_matrix, matrix, [f"class {k}" for k in range(num_classes)])
        axes = figure.axes[0]
        cell = axes.get_window_extent().width / num_classes
        assert len(axes.texts) == num_classes**2
        assert max(text.get_window_extent().width for text in axes.texts) < cell
        assert axes.title.get_window_extent().x1 < figure.bbox.x1

    def test_file_in_any_script(self, tmp_path):
        draw = partial(draw_confusion_matrix, matrix=self.MATRIX, class_names=self.NAMES)
        save_picture(draw, tmp_path / "confusion.png", crop=True)
        assert min(pixels(tmp_path / "confusion.png").shape[:2]) > 400

    def test_nothing_counted(self):
        figure = drawn(draw_confusion_matrix, np.zeros((2, 2), dtype=np.int64), ("no", "yes"))
        assert figure.axes[0].get_title(loc="left") == "0 of 0 correct"

    def test_one_class_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="2 to 100 classes, got 1"):
            save_picture(lambda figure: draw_confusion_matrix(figure, np.zeros((1, 1), int), "a"), tmp_path / "c.png")
        assert not list(tmp_path.iterdir())


class TestPredictions:
    def test_each_prediction_against_its_label(self, tmp_path):
        labels, predictions = np.array([[1.0], [2.0], [4.0]]), np.array([[1.5], [0.5], [4.0]])  # (samples, outputs)
        axes = drawn(draw_predictions, labels, predictions).axes[0]
        np.testing.assert_array_equal(axes.collections[0].get_offsets(), np.hstack([labels, predictions]))
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0.5, 0.5], [4, 4]])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("label", "prediction")
        save_picture(partial(draw_predictions, labels=labels[:1], predictions=labels[:1]), tmp_path / "one.png")
        assert pixels(tmp_path / "one.png").shape[0] == pixels(tmp_path / "one.png").shape[1]


class TestWorstMistakes:
    IMAGES = np.arange(24, dtype=np.uint8).reshape(4, 6)  # (samples, features)
    LABELS = np.array([0, 1, 2, 0])
    PROBABILITIES = np.array([[0.2, 0.8, 0.0], [0.0, 1.0, 0.0], [0.97, 0.02, 0.01], [0.3, 0.3, 0.4]])
    NAMES = ("zero", "one", "a very long name of a class")

    def test_ranked_by_probability_of_the_true_class(self):
        figure = drawn(draw_worst_mistakes, self.IMAGES, self.LABELS, self.PROBABILITIES, "abc", (2, 3))
        assert [axes.get_title() for axes in figure.axes] == ["c → a, 0.97", "a → b, 0.80", "a → c, 0.40"]
        for axes, row in zip(figure.axes, (2, 0, 3), strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), self.IMAGES[row].reshape(2, 3))
            assert axes.images[0].get_clim() == (0, 23)
        assert figure.get_suptitle() == "3 mistakes in 4 rows"

    def test_long_names_are_cut(self):
        figure = drawn(draw_worst_mistakes, self.IMAGES, self.LABELS, self.PROBABILITIES, self.NAMES, (2, 3))
        assert figure.axes[0].get_title() == "a very long n…\n→ zero, 0.97"

    def test_grid_of_many(self):
        rng = np.random.default_rng(0)
        probabilities = rng.dirichlet(np.ones(3), 100)
        labels = (probabilities.argmax(axis=1) + 1) % 3
        figure = drawn(draw_worst_mistakes, rng.random((100, 6)), labels, probabilities, "abc", (2, 3))
        assert len(figure.axes) == 25
        assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (5, 5)
        worst = probabilities[np.arange(100), labels].argmin()
        assert figure.axes[0].get_title().endswith(f"{probabilities[worst].max():.2f}")

    def test_no_mistakes_are_said(self):
        probabilities = np.eye(3)[self.LABELS]
        figure = drawn(draw_worst_mistakes, self.IMAGES, self.LABELS, probabilities, "abc", (2, 3))
        assert "no mistakes" in words(figure)
        assert not figure.axes


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def run_of(epochs):
    return SimpleNamespace(history=history(epochs))


def train(curves, clock, times):
    """Play a run whose epochs end at the given times."""
    curves.on_train_begin(run_of(0))
    for epoch, clock.now in enumerate(times, start=1):
        curves.on_epoch_end(run_of(epoch), history(epoch)[-1])
    curves.on_train_end(run_of(len(times)))


@pytest.fixture
def pyplot(monkeypatch):
    """Pyplot with a toolkit that draws in memory."""
    plt.switch_backend("agg")
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "memory")
    with plt.ioff():
        yield plt
    plt.close("all")


@pytest.fixture
def redraws(monkeypatch):
    """Lengths of the histories that are drawn, in the window and in the file."""
    window, file, draw, save = [], [], live.draw_curves, live.save_curves

    def draw_in_window(figure, results, **options):
        window.append(len(results))
        draw(figure, results, **options)

    def save_in_file(results, path, **options):
        file.append(len(results))
        save(results, path, **options)

    monkeypatch.setattr(live, "draw_curves", draw_in_window)
    monkeypatch.setattr(live, "save_curves", save_in_file)
    return SimpleNamespace(window=window, file=file)


class TestLiveCurves:
    def test_without_a_window_it_says_so_and_redraws_the_file(self, pyplot, monkeypatch, redraws, tmp_path, caplog):
        monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", None)
        clock = Clock()
        with caplog.at_level(logging.INFO, logger="xpnn"):
            train(LiveCurves(tmp_path / "c.png", clock=clock), clock, [100.5, 101, 101.5, 101.9, 102, 102.1])
        assert redraws.file == [0, 2, 5, 6]  # before the first step, at 101 and 102, at the end
        (message,) = caplog.messages
        assert re.fullmatch(r"no window \(matplotlib's backend agg has none.*\): .*c\.png is redrawn instead", message)
        assert not pyplot.get_fignums()

    def test_a_window_takes_the_redraws_and_the_file_the_last(self, pyplot, redraws, tmp_path):
        clock = Clock()
        train(LiveCurves(tmp_path / "c.png", title="a run", clock=clock), clock, [101, 102, 102.5])
        assert (redraws.window, redraws.file) == ([0, 1, 2, 3], [0, 3])
        assert pyplot.gcf().get_suptitle() == "a run"
        assert np.asarray(pyplot.gcf().canvas.buffer_rgba())[:, :, :3].std() > 5
        assert not pyplot.isinteractive()  # the caller's own figures open as they did

    def test_drawing_takes_a_tenth_of_the_time_at_most(self, pyplot, monkeypatch, redraws, tmp_path):  # noqa: ARG002
        clock, draw = Clock(), live.draw_curves

        def draw_for_a_second(*arguments, **options):
            clock.now += 1
            draw(*arguments, **options)

        monkeypatch.setattr(live, "draw_curves", draw_for_a_second)
        curves = LiveCurves(tmp_path / "c.png", every_seconds=0, clock=clock)
        train(curves, clock, [102, 103, 111.9, 112])  # drawn 102 to 103, so not before 112
        assert redraws.window == [0, 1, 4, 4]

    @pytest.mark.parametrize("flaw", ["closed", "broken"])
    def test_a_lost_window_gives_way_to_the_file(self, flaw, pyplot, monkeypatch, redraws, tmp_path):
        def fail():
            raise RuntimeError("display lost")

        clock = Clock()
        curves = LiveCurves(tmp_path / "c.png", every_seconds=0, clock=clock)
        curves.on_train_begin(run_of(0))
        curves.on_epoch_end(run_of(1), None)
        if flaw == "closed":
            pyplot.close("all")
        else:
            monkeypatch.setattr(pyplot.gcf().canvas, "flush_events", fail)
        curves.on_epoch_end(run_of(2), None)
        curves.on_epoch_end(run_of(3), None)
        assert redraws.file == [0, 2, 3]
        assert not pyplot.get_fignums()  # no last picture that looks alive

    def test_a_folder_that_is_lost_stops_nothing(self, pyplot, tmp_path):  # noqa: ARG002
        folder = tmp_path / "run"
        folder.mkdir()
        curves = LiveCurves(folder / "curves.png", every_seconds=0, clock=Clock())
        curves.on_train_begin(run_of(0))
        (folder / "curves.png").unlink()
        folder.rmdir()
        curves.on_epoch_end(run_of(1), None)
        curves.on_train_end(run_of(1))

    def test_a_path_that_cannot_be_written_is_told_before_the_training(self, tmp_path):
        with pytest.raises(RunError, match="cannot write"):
            LiveCurves(tmp_path / "missing" / "curves.png").on_train_begin(run_of(0))
