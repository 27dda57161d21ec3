"""The C source compiles without a warning, and says what the network says; int8 is nearly as accurate."""

import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ACTIVATIONS, ConfigError, DataError, DivergenceError, StorageError
from xpnn.nn.export import c_files, to_c
from xpnn.nn.export import c_source as exported
from xpnn.nn.export.c_source import c_source
from xpnn.nn.export.c_text import float_literal
from xpnn.nn.export.quantization import Rescaling, codes_of, fixed_point, quantize
from xpnn.nn.inputs.inputs import Numbers, Pixels, Target
from xpnn.nn.inputs.table import Column, Table

STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("gcc", "clang")
]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

MAIN = """
#include <stdio.h>
#include "network.h"

int main(void)
{
    TYPE row[NETWORK_INPUTS];
    float outputs[NETWORK_OUTPUTS];
    while (fread(row, sizeof row[0], NETWORK_INPUTS, stdin) == NETWORK_INPUTS) {
        network_FUNCTION(row, outputs);
        fwrite(outputs, sizeof outputs[0], NETWORK_OUTPUTS, stdout);
    }
    return 0;
}
"""
TYPES = {"f": "float", "d": "double", "B": "uint8_t", "H": "uint16_t"}


def answers(folder, net, rows, *, compiler="gcc", flags=(), **options):
    """Outputs of the compiled source for rows, (samples, outputs)."""
    to_c(net, folder, **options)
    function = "predict_proba" if net.outputs.has_probabilities else "predict_values"
    main = MAIN.replace("TYPE", TYPES[rows.dtype.char]).replace("FUNCTION", function)
    done = compiled(folder, main, compiler=compiler, flags=flags, given=rows.tobytes())
    return np.frombuffer(done, np.float32).reshape(len(rows), -1)


def compiled(folder, main, *, compiler="gcc", flags=(), given=b""):
    """What a program of the source in `folder` prints."""
    Path(folder, "main.c").write_text(main)
    command = [compiler, *STRICT, *flags, "network.c", "main.c", "-o", "program", "-lm"]
    build = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr
    done = subprocess.run([Path(folder, "program")], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def table():
    """Columns of every kind, and cells, (samples, columns), with missing values and levels that are not known."""
    generator = np.random.default_rng(0)
    columns = (
        Column("a number"), Column("holes"), Column("truth", "truth"),
        Column("colour", "category", levels=("blue", "red")),
        Column('*/ "??/', "category", levels=('"', "\\", "??/", "é", "\u202e")),
        Column("year", "category", levels=("1999", "2004", "-1")),
    )  # fmt: skip
    cells = np.column_stack([
        generator.normal(1e3, 5, 60), generator.exponential(2, 60), generator.integers(0, 2, 60),
        generator.integers(0, 2, 60), generator.integers(0, 5, 60), generator.choice([1999, 2004, -1], 60),
    ])  # fmt: skip
    cells[::7, 1] = cells[3::9, 3] = np.nan
    learned = Table(columns=columns).learn(cells)
    cells[5, 0], cells[6, 4], cells[8, 5] = np.nan, -1, 7
    return learned, cells


def problem(kind):
    """Inputs of a kind, and rows, (samples, columns)."""
    generator = np.random.default_rng(1)
    if kind == "table":
        return table()
    if kind == "numbers of a table":
        cells = generator.normal(50, 3, (60, 6))
        return Table(columns=tuple(Column(str(k)) for k in range(6)), is_named=False).learn(cells), cells
    if kind == "numbers":
        return Numbers(count=6), generator.normal(size=(60, 6)).astype(np.float32)
    largest, dtype = (255, np.uint8) if kind == "pixels" else (4000, np.uint16)
    return Pixels(count=6, largest=largest, shape=(2, 3)), generator.integers(0, largest + 1, (60, 6)).astype(dtype)


def network(inputs, *, sizes=(7, 5, 3), **options):
    """A network with random weights and biases, with these inputs."""
    net = nn.MLP([inputs.num_features, *sizes], backend="numpy", **options)
    generator = np.random.default_rng(2)
    net.load_parameters({
        name: (array + generator.normal(0, 0.3, array.shape)).astype(array.dtype)
        for name, array in net.parameters().items()
    })  # fmt: skip
    net.inputs = inputs
    return net


def rows_of(rows, net):
    """Calibration rows with labels that fit the network."""
    is_classes = net.loss == "softmax_cross_entropy"
    return nn.Split(rows, np.zeros(len(rows), np.int64) if is_classes else np.zeros((len(rows), net.num_outputs)))


KINDS = ["numbers", "pixels", "pixels of 16 bits", "table", "numbers of a table"]


@needs_gcc
@pytest.mark.parametrize(("activation", "kind"), [*zip(ACTIVATIONS, KINDS, strict=True)])
def test_each_activation_and_each_kind_of_inputs(activation, kind, tmp_path):
    inputs, rows = problem(kind)
    net = network(inputs, activation=activation)
    expected = net.predict_proba(rows)
    np.testing.assert_allclose(answers(tmp_path, net, rows), expected, rtol=0, atol=1e-6)
    quantized = answers(tmp_path, net, rows, int8=True, calibration=rows_of(rows, net))
    assert np.abs(quantized - expected).max() < 0.04
    assert np.abs(quantized - expected).mean() < 0.005


@needs_gcc
def test_labels_and_values(tmp_path):
    inputs, rows = problem("table")
    labels = network(inputs, loss="sigmoid_cross_entropy", sizes=(3,))
    values = network(replace(inputs, target=Target((1e4, -3.0), (250.0, 0.5))), loss="squared_error", sizes=(5, 2))
    assert not np.isclose(labels.predict_proba(rows).sum(axis=1), 1).any()
    np.testing.assert_allclose(answers(tmp_path, labels, rows), labels.predict_proba(rows), rtol=0, atol=1e-6)
    np.testing.assert_allclose(answers(tmp_path, values, rows), values.predict(rows), rtol=1e-5)
    counts = network(replace(inputs, target=Target((0.0,), (7.0,))), loss="poisson", sizes=(1,))
    np.testing.assert_allclose(answers(tmp_path, counts, rows), counts.predict(rows), rtol=1e-5)
    for net, expected in ((labels, labels.predict_proba(rows)), (values, values.predict(rows))):
        quantized = answers(tmp_path, net, rows, int8=True, calibration=rows_of(rows, net))
        assert (np.abs(quantized - expected).max(axis=0) < 0.05 * expected.std(axis=0)).all()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("int8", [False, True])
def test_compilers(compiler, int8, tmp_path):
    inputs, rows = problem("table")
    net = network(inputs, activation="leaky_relu")
    made = answers(tmp_path, net, rows, compiler=compiler, flags=["-O3"], int8=int8, calibration=rows_of(rows, net))
    assert np.abs(made - net.predict_proba(rows)).max() < (0.04 if int8 else 1e-6)


@needs_gcc
@pytest.mark.parametrize("kind", KINDS[1:])
def test_no_undefined_behaviour(kind, tmp_path):
    inputs, rows = problem(kind)
    net = network(inputs, activation="leaky_relu", sizes=(3,))
    wild = rows.copy()
    wild[:10] = (np.array([np.nan, np.inf, -np.inf, 1e300, -1e300])[np.arange(60).reshape(10, 6) % 5]
                 if rows.dtype.kind == "f" else np.iinfo(rows.dtype).max)  # fmt: skip
    flags = ["-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    for int8 in (False, True):
        given = {"int8": True, "calibration": rows_of(rows, net)} if int8 else {}
        made = answers(tmp_path, net, wild, flags=flags, **given)
        np.testing.assert_allclose(made[10:], net.predict_proba(rows[10:]), rtol=0, atol=0.04 if int8 else 1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_names(tmp_path):
    inputs, rows = problem("table")
    names = ("naïve ☃", 'a "b" \\ ??/', "/* // */")
    net = network(replace(inputs, class_names=names))
    to_c(net, tmp_path)
    main = """
    #include <cstdio>
    #include "network.h"
    int main() {
        double row[NETWORK_INPUTS];
        for (int k = 0; k < NETWORK_OUTPUTS; k++) std::printf("%s\\n", network_class_names[k]);
        std::printf("%d %d %d %d\\n", network_level_colour("red"), network_level_colour("re"),
                    network_level_colour("reds"), network_level_4("\\u00e9"));
        std::printf("%d %d %d %d\\n", NETWORK_LEVEL_COLOUR_RED, NETWORK_LEVEL_4_E, NETWORK_LEVEL_4_4,
                    NETWORK_COLUMN_YEAR);
        while (std::fread(row, sizeof(double), NETWORK_INPUTS, stdin) == NETWORK_INPUTS)
            std::printf("%d ", network_predict(row));
        return 0;
    }
    """
    (tmp_path / "main.cpp").write_text(main)
    subprocess.run(["gcc", *STRICT, "-c", "network.c"], cwd=tmp_path, check=True)
    strict = ["-std=c++98", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["g++", *strict, "main.cpp", "network.o", "-o", "program"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "program"], input=rows.tobytes(), capture_output=True, check=True).stdout
    *shown, codes, enumerated, classes = printed.decode().splitlines()
    assert tuple(shown) == names
    assert codes == "1 -1 -1 3"
    assert enumerated == "1 3 4 5"
    np.testing.assert_array_equal([int(each) for each in classes.split()], net.predict(rows))


def test_columns_whose_names_come_to_the_same():
    columns = (Column("a b"), Column("a-b"), Column("é", "category", levels=("x", "X")), Column("☃"), Column("5"))
    header = c_files(network(Table(columns=columns)), name="mixed")["mixed.h"].decode()
    for name in ("COLUMN_A_B = 0", "COLUMN_A_B_2 = 1", "COLUMN_E = 2", "COLUMN_3 = 3", "COLUMN_5 = 4"):
        assert f"    MIXED_{name}" in header
    assert "    MIXED_LEVEL_E_X = 0" in header
    assert "    MIXED_LEVEL_E_X_2 = 1" in header
    assert "int mixed_level_e(const char *text);" in header


@needs_gcc
def test_int8_on_tables(tmp_path):
    from sklearn.datasets import load_breast_cancer, load_wine

    for load in (load_wine, load_breast_cancer):
        right = np.zeros(2)
        rows, labels = load(return_X_y=True)
        for seed in range(2):
            data = nn.from_arrays(rows, labels, test_fraction=0.5, seed=seed)
            net = nn.MLP([data.features, 16, data.num_classes], backend="numpy", seed=seed)
            nn.train(net, data, optimizer=nn.Adam(1e-2), epochs=15, batch_size=32)
            made = answers(tmp_path, net, data.test.images, int8=True, calibration=data.train)
            right += [np.mean(each == data.test.labels) / 2 for each in (net.predict(data.test), made.argmax(axis=1))]
        assert right[0] > 0.92
        assert right[1] >= right[0] - 0.005


@needs_gcc
def test_mnist(mnist, tmp_path):
    net = nn.MLP([784, 32, 10], backend="numpy")
    nn.train(net, mnist, optimizer=nn.Adam(1e-3), epochs=2, batch_size=128)
    exact = nn.MLP([784, 32, 10], backend="numpy", dtype="float64")  # NumPy's own float32 is off by 1e-6
    exact.load_parameters(net.parameters())
    exact.inputs = net.inputs
    rows, labels = mnist.test.images, mnist.test.labels
    made = answers(tmp_path, net, rows)
    np.testing.assert_allclose(made, exact.predict_proba(rows), rtol=0, atol=1e-6)
    quantized = answers(tmp_path, net, rows, int8=True, calibration=mnist.train)
    assert np.mean(made.argmax(axis=1) == labels) > 0.93
    assert np.mean(quantized.argmax(axis=1) == labels) > np.mean(made.argmax(axis=1) == labels) - 0.005


def test_memory():
    inputs, rows = problem("pixels")
    net = network(inputs, sizes=(7, 5, 3))
    made, quantized = c_source(net), c_source(net, int8=True, calibration=rows_of(rows, net))
    weights, units = 6 * 7 + 7 * 5 + 5 * 3, 7 + 5 + 3
    names = 3 * (4 + 2)
    assert made.flash_bytes == 4 * (weights + units) + 3 * 16 + names
    assert quantized.flash_bytes == weights + 4 * units + 5 * (7 + 5) + 4 * 3 + 3 * 32 + names
    assert (made.ram_bytes, quantized.ram_bytes) == (4 * (7 + 5 + 3), 7 + 5 + 4 * 3)
    assert b"Constants: 494 bytes; stack: 60 bytes" in made.files["network.h"]


def test_refusals(tmp_path, monkeypatch):
    inputs, rows = problem("numbers")
    net = network(inputs)
    for name in ("a b", "1a", "_a", "int", "", "é", 5, "a" * 41):
        with pytest.raises(ConfigError, match="name must be a letter and then letters, digits or _, at most 40"):
            to_c(net, tmp_path / "c", name=name)
    with pytest.raises(ConfigError, match="folder must be a path, got 5"):
        to_c(net, 5)
    with pytest.raises(ConfigError, match=r"int8 needs training rows to calibrate with: pass calibration=data\.train"):
        to_c(net, tmp_path / "c", int8=True)
    with pytest.raises(DataError, match=r"images must have shape \(samples, 6\), got \(60, 5\)"):
        to_c(net, tmp_path / "c", int8=True, calibration=rows_of(rows[:, :5], net))
    with pytest.raises(ConfigError, match=r"pixels in C are at most 65,535, but the network's go up to 70,000"):
        to_c(network(Pixels(count=6, largest=70_000)), tmp_path / "c")
    with pytest.raises(ConfigError, match=r"a name must have at most 4,095 bytes for C, got 5,000: shorten it"):
        to_c(network(replace(inputs, class_names=("a" * 5000, "b", "c"))), tmp_path / "c")
    wide = nn.MLP([2**16 + 1, 2], backend="numpy")
    with pytest.raises(ConfigError, match="a layer of 65,537 inputs could leave the 32 bits of its sums"):
        to_c(wide, tmp_path / "c", int8=True)
    huge = network(inputs, dtype="float64")
    huge.layers[0].weight[0, 0] = 1e39
    with pytest.raises(ConfigError, match=r"numbers must be finite in float32, got 1e\+39"):
        to_c(huge, tmp_path / "c")
    net.layers[1].weight[2, 0] = np.nan
    with pytest.raises(DivergenceError, match=r"nan in layers\.1\.weight at \[2, 0\]"):
        to_c(net, tmp_path / "c")
    net = network(inputs)
    (tmp_path / "file").write_text("before")
    with pytest.raises(StorageError, match=r"cannot make the folder '.*file': "):
        to_c(net, tmp_path / "file")
    monkeypatch.setattr(exported, "LARGEST_STACK", 59)
    with pytest.raises(ConfigError, match="the network needs 60 bytes of stack, more than the limit of 59: take"):
        to_c(net, tmp_path / "c")
    monkeypatch.setattr(exported, "LARGEST", 1000)
    with pytest.raises(ConfigError, match="the network has 107 weights, up to 1,926 characters of C, more than"):
        to_c(net, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_literals():
    numbers = np.array([0, -0.0, 1, 1e-45, 3.4028235e38, 1 / 3, 123456789, -1e-5], np.float32)
    literals = [float_literal(number) for number in numbers.tolist()]
    assert literals[2:4] == ["1.0f", "1.40129846e-45f"]
    np.testing.assert_array_equal(np.array([np.float32(each[:-1]) for each in literals]), numbers)
    assert float_literal(1e-50) == "0.0f"  # a compiler would warn of the number itself


@pytest.mark.parametrize("factor", [2.0**-33, 2.0**-32, 1e-7, 0.5, 1 / 3, 1 - 2.0**-40, 1.0, 300.0, 2.0**29, 1e20])
def test_fixed_point(factor):
    (multiplier,), (shift,) = fixed_point(np.array([factor]))
    assert 1 <= shift <= 62
    sums = np.array([-(2**31) + 1, -12345, -1, 0, 1, 2, 12345, 2**31 - 1])
    codes = Rescaling(np.array([multiplier]), np.array([shift]), zero=100).apply(sums[:, None])[:, 0]
    exact = np.array([Fraction(int(each)) * Fraction(factor) for each in sums]) + 100
    assert (np.abs(codes - np.clip(exact, 0, 255)) <= 0.5 + 2.0**-20).all()


def test_no_sum_leaves_32_bits():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(20, 2**16)) * 10.0 ** generator.integers(-30, 30, 2**16)
    weight = generator.choice([-1, 1], (2**16, 3)) * np.array([1.0, 1e-30, 0.0])
    meaning = codes_of(features)
    layers = [(weight, np.array([1e30, 1e30, 1e30]))]
    (layer,) = quantize(layers, "relu", features, meaning.encode(features), meaning)
    largest = np.abs(layer.weight.astype(np.int64)).sum(axis=1) * 255 + np.abs(layer.bias.astype(np.int64))
    assert largest.max() < 2**31
    assert 2**16 * (127 * 255 + 127.5) + 2**23 + 1 < 2**31
