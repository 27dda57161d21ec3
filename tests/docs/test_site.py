"""What the site includes, runs and lists is what the code has; `nox -s docs` builds it."""

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import array_api_compat.numpy as compat_numpy
import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import backends, nn
from xpnn.backends import ArrayAPIBackend
from xpnn.backends.testing import contract
from xpnn.nn.cli.app import xpnn
from xpnn.nn.runs.recipes import RECIPES

# Of each include of the derivation, in order: where it is from, and what the formula beside it says.
FORMULAS = [
    ("forward_prop", "Z1 = W1 @ X + b1"),
    ("forward_prop", "Z2 = W2 @ A1 + b2"),
    ("relu", "return xp.maximum(Z, 0)"),
    ("relu_deriv", "return Z > 0"),
    ("softmax", "E = xp.exp(Z - xp.max(Z, axis=0))\nreturn E / xp.sum(E, axis=0)"),
    ("one_hot", "return (xp.arange(classes)[:, None] == Y[None, :]).astype(float)"),
    ("backward_prop", "dZ2 = A2 - one_hot(Y, A2.shape[0])"),
    ("backward_prop", "dW2 = dZ2 @ A1.T / m\ndb2 = xp.sum(dZ2, axis=1, keepdims=True) / m"),
    ("backward_prop", "dZ1 = W2.T @ dZ2 * relu_deriv(Z1)"),
    ("backward_prop", "dW1 = dZ1 @ X.T / m\ndb1 = xp.sum(dZ1, axis=1, keepdims=True) / m"),
    ("update_params", "return (W1 - alpha * dW1, b1 - alpha * db1, W2 - alpha * dW2, b2 - alpha * db2)"),
    (
        "gradient_descent",
        "for iteration in range(1, iterations + 1):\n    W1, b1, W2, b2 = params\n"
        "    Z1, A1, _, A2 = forward_prop(W1, b1, W2, b2, X)\n"
        "    grads = backward_prop(Z1, A1, A2, W2, X, Y)\n    params = update_params(params, grads, alpha)",
    ),
    ("he", "weight = generator.normal(0.0, math.sqrt(2 / in_features), (in_features, out_features))"),
    ("Operations.linear", "z = x @ weight\nz += bias\nreturn ACTIVATIONS[activation].forward(self.xp, z)"),
    (
        "Operations.linear_backward",
        "grad_z = ACTIVATIONS[activation].backward(self.xp, grad_y, y)\ngrad_weight = x.T @ grad_z\n"
        "grad_bias = self.xp.sum(grad_z, axis=0)\n"
        "return (grad_z @ weight.T if need_grad_x else None, grad_weight, grad_bias)",
    ),
]


def includes(page):
    """The object and the lines that each `literalinclude` of a page shows."""
    found = []
    for name, body in re.findall(r"^```\{literalinclude\} (\S+)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        options = dict(re.findall(r"^:([\w-]+): *(.*)$", body, re.M))
        source = (page.parent / name).read_text("utf-8")
        lines = object_lines(source, options["pyobject"])
        start = next(k for k, line in enumerate(lines) if options["start-at"] in line)
        end = len(lines) - 1
        if "end-at" in options:
            end = next(k for k, line in enumerate(lines) if k >= start and options["end-at"] in line)
        found.append((options["pyobject"], textwrap.dedent("\n".join(lines[start : end + 1]))))
    return found


def object_lines(source, path):
    """The lines of a function, or of a class's method."""
    node = ast.parse(source)
    for name in path.split("."):
        node = next(each for each in node.body if getattr(each, "name", None) == name)
    return source.splitlines()[node.lineno - 1 : node.end_lineno]


def cells(page):
    return re.findall(r"^```\{code-cell\} python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def run_commands(lines):
    """Run the commands of a cell that is for the shell, and print what they print."""
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "xpnn", line
        result = CliRunner().invoke(xpnn, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        sys.stdout.write(f"{result.stdout}\n")


@pytest.fixture(scope="module")
def docs(root):
    """The folder of the pages."""
    return root / "docs"


@pytest.fixture
def run_page(docs, tmp_path, monkeypatch):
    """`run_page(name)` runs the cells of a page in an empty folder and returns their names."""
    monkeypatch.chdir(tmp_path)

    def run(name):
        space = {}
        with np.printoptions():
            for number, code in enumerate(cells(docs / name), start=1):
                if code.startswith("%%sh\n"):
                    run_commands(code.splitlines()[1:])
                else:
                    exec(compile(code, f"{name}, cell {number}", "exec"), space)
        return space

    return run


# The derivation


def test_each_formula_stands_beside_the_lines_that_compute_it(docs):
    shown = [(name, ast.unparse(ast.parse(code))) for name, code in includes(docs / "derivation.md")]
    assert shown == [(name, ast.unparse(ast.parse(code))) for name, code in FORMULAS]


def test_the_cells_of_the_derivation_show_what_its_text_says(run_page, capsys):
    page = run_page("derivation.md")
    said = capsys.readouterr().out
    assert re.findall(r"^(?:dL/dw and dL/db )?by .*: +(\[.*)$", said, re.M) == ["[-1. -2.] -1.0"] * 2
    assert "with t = -max(z):     [0.09   0.2447 0.6652]" in said
    assert said.count("[nan nan nan]") == 2  # no shift, and too large a one
    assert "the label got 0.1   : loss 2.3026" in said
    assert "equal: True" in said
    assert "A2  [0.75, 0.5] [0.25, 0.5]" in said
    assert max(page["differences"]) < 1e-14
    promised = [tuple(map(float, pair)) for pair in re.findall(r"promised +(\S+) +came +(\S+)", said)]
    assert promised[0][0] == pytest.approx(promised[0][1], abs=1e-5)
    assert promised[-1][1] > 0  # the loss rises
    sizes = [float(size) for size in re.findall(r"root mean square (\S+)", said)]
    assert sizes[0] < 1e-3 < 0.3 < sizes[1] < 3 < 1e3 < sizes[2]
    errors = [float(error) for error in re.findall(r"epsilon \S+: error (\S+)", said)]
    assert errors[0] > 50 * errors[1] > 2500 * errors[2] > errors[2] > errors[3] < errors[5] < errors[6]
    assert errors[7] > 10 * errors[0]
    assert errors[9] < 1e-8
    assert page["accuracy"] > 0.95


# The other pages


def test_the_counting_backend_of_the_page_computes_as_the_generic_one(run_page, capsys):
    page = run_page("howto/add-a-backend.md")
    counted = re.findall(r"^(\d+) (\d+)$", capsys.readouterr().out, re.M)
    rows = len(page["data"].train)
    assert counted == [(str(rows * 5056), str(rows * 5056))]  # 2 x 64 x 32 + 3 x 32 x 10
    net = nn.MLP([64, 32, 10], backend=ArrayAPIBackend(compat_numpy))
    nn.train(net, page["data"].train, epochs=1, batch_size=32)
    theirs = page["net"].parameters()
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(theirs[name], array)


def test_the_contract_of_the_page_finds_the_fault_in_a_package_of_ones_own(tmp_path, docs):
    """The page's file, entry point and command; then the same with a bias that is off."""
    page = (docs / "howto" / "add-a-backend.md").read_text("utf-8")
    [entry_points] = re.findall(r'^\[project.entry-points."xpnn.backends"\]\n(.*)$', page, re.M)
    [command] = re.findall(r"^pytest (--pyargs .*)$", page, re.M)
    nodes = [node for code in cells(docs / "howto" / "add-a-backend.md") for node in ast.parse(code).body]
    kept = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)]
    info = tmp_path / "counting_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xpnn.backends]\n" + entry_points.replace('"', ""))

    def checked(source):
        (tmp_path / "counting_backend.py").write_text(source)
        arguments = [sys.executable, "-B", "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *command.split()]
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": ""}
        return subprocess.run(arguments, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    right = checked("\n".join(kept))
    assert right.returncode == 0, right.stdout + right.stderr
    assert f"{len(contract()) + 1} passed" in right.stdout
    wrong = checked("\n".join(kept).replace("linear(x, weight, bias,", "linear(x, weight, 2 * bias,"))
    assert wrong.returncode == 1
    assert "FAILED" in wrong.stdout
    assert "[linear: outputs of a layer-counting]" in wrong.stdout
    assert "[linear_backward: " not in wrong.stdout


def test_the_page_on_data_of_ones_own_runs(run_page, capsys):
    pytest.importorskip("pandas")
    page = run_page("howto/own-data.md")
    printed = capsys.readouterr().out
    assert "480 training and 120 test rows of 7 features, 2 classes" in printed
    assert "customer_id identifies the rows" in printed
    assert float(re.search(r"accuracy=([\d.]+)", printed)[1]) > 0.9
    assert page["answers"] == page["customers"]["answer"].head(3).to_list()
    assert "('age', 'age is missing', 'city=Bern', 'city=Oslo', 'city=Rome', 'member')" in printed
    assert "4 columns, standardized by the training rows ('first', 'second')" in printed
    assert "pixels of 8 x 8 images from 0 to 16" in printed
    assert "scaled or not: True" in printed
    assert "got no 'age' in" in printed


def test_the_page_on_tables_runs(run_page, capsys):
    run_page("howto/tables.md")
    printed = capsys.readouterr().out
    first, corrected, weighted = re.findall(r"^table: (\S+) on customers, 480 rows, (\w+), batch 32$", printed, re.M)
    assert (first, corrected, weighted) == (("8-100-2", "adam"), ("9-100-2", "adam"), ("8-64-32-2", "adamw"))
    assert printed.count("separated by ';'") == 3
    assert "plan    number" in printed
    assert "plan    3 categories: 1, 2, 5" in printed
    assert min(map(float, re.findall(r"^([\d.]+)% of the 120 test rows right", printed, re.M))) > 90
    training = RECIPES["table"].training
    assert (training.validation, training.early_stopping.patience) == (0.1, 20)


def test_the_page_on_evaluation_and_prediction_runs(run_page, capsys):
    pytest.importorskip("sklearn")
    page = run_page("howto/evaluate-and-predict.md")
    printed = capsys.readouterr().out
    assert "wine: 28 test rows" in printed
    right = re.search(r"more: 38 rows, loss \S+, ([\d.]+)% right", printed)[1]
    true = page["frame"][140:].rename({"kind": "true"})
    joined = page["predictions"].join(true, on="Id")
    assert joined["Id"].to_list() == true["Id"].to_list()
    assert f"{(joined['kind'] == joined['true']).mean():.2%}" == f"{right}%" > "90%"
    assert page["net"].class_names == ("Barbera", "Barolo", "Grignolino")
    submission = page["submission"]
    assert submission.columns == ["ImageId", "Label"]
    assert submission["ImageId"].to_list() == list(range(1, 298))
    assert (submission["Label"].to_numpy() == page["digits"].target[1500:]).mean() > 0.9
    assert re.search(r"^digit\.png: 1 ", printed, re.M)


def test_the_page_on_regression_runs(run_page, capsys, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    page = run_page("howto/regression.md")
    printed = capsys.readouterr().out
    assert "label target; its many numbers make it a regression" in printed
    assert float(re.search(r"R2 ([\d.]+), mean absolute error", printed)[1]) > 0.3
    assert (tmp_path / "pictures" / "predictions.png").stat().st_size > 0
    true = page["frame"]["target"][400:]
    assert abs(page["predictions"]["target"] - true.to_numpy()).mean() < abs(true - true.mean()).mean()
    assert float(re.search(r"r2=([\d.]+)", printed)[1]) > 0.3


def test_the_exported_arrays_of_the_page_give_the_same_answers(run_page, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    page = run_page("howto/export.md")
    printed = capsys.readouterr().out
    assert "[64, 32, 10] relu softmax" in printed
    assert "the same classes: True" in printed
    assert "the same numbers: True" in printed
    np.testing.assert_allclose(page["logits"], page["net"].logits(page["data"].test.images), rtol=0, atol=1e-4)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_c_program_of_the_page_gives_the_same_classes(docs, run_page, tmp_path):
    page = run_page("howto/export.md")
    (program,) = re.findall(
        r"^```c\n(.*?)^```$", (docs / "howto/export.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "main.c").write_text(program)
    build = ["gcc", "-std=c99", "-O2", "-Wall", "-Werror", "-Ifirmware", "main.c", "firmware/network.c", "-lm"]
    subprocess.run([*build, "-o", "digits"], cwd=tmp_path, check=True)
    pixels = (tmp_path / "pixels.txt").read_bytes()
    printed = subprocess.run([tmp_path / "digits"], input=pixels, capture_output=True, check=True).stdout
    assert printed.split() == [b"%d" % each for each in page["net"].predict(page["data"].test.images[:5])]


def test_the_page_on_scikit_learn_runs(run_page):
    pytest.importorskip("sklearn", minversion="1.6")
    page = run_page("howto/scikit-learn.md")
    assert page["search"].score(page["X_test"], page["y_test"]) > 0.9


def test_the_tutorial_is_kept_without_outputs(docs):
    notebook = json.loads((docs / "tutorial.ipynb").read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


# The reference


FUNCTIONS = {name for name, value in vars(nn.reference).items() if inspect.isfunction(value)}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("nn", set(nn.__all__) - set(backends.__all__) - {"reference"}),  # what both offer is listed with the backends
        ("backends", set(backends.__all__)),
        ("reference", FUNCTIONS),
    ],
)
def test_every_public_name_is_in_the_reference(docs, page, names):
    text = (docs / "api" / f"{page}.md").read_text("utf-8")
    listed = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)(?:\(.*)?$", text, re.M)
    assert len(listed) == len(set(listed))
    missing, stale = sorted(names - set(listed)), sorted(set(listed) - names - {"Array"})
    assert not missing, f"docs/api/{page}.md lacks {missing}: add `.. autoclass:: NAME` or `.. autofunction:: NAME`"
    assert not stale, f"docs/api/{page}.md lists {stale}, which are not public: take the lines out"
