"""Development sessions: `nox` runs lint, typecheck and tests; `nox --list` names the others."""

from __future__ import annotations

import shutil
import subprocess

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "typecheck", "tests", "array_api", "docs"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES = ["xpnn.backends", "xpnn.nn", "xpnn.bench"]


# Those that differ with the array module.
ARRAY_API_TESTS = [
    "tests/backends/jax",
    "tests/backends/test_contract.py",
    "tests/backends/test_generic_plan.py",
    "tests/backends/test_gradients.py",
    "tests/backends/test_losses.py",
    "tests/backends/test_reduction.py",
    "tests/backends/torch",
    "tests/nn/distributed/test_agreement.py",
    "tests/nn/inputs",
    "tests/nn/runs/test_parity.py",
    "tests/nn/training/test_training_features.py",
]


def starts(python: str) -> bool:
    """Return whether this version of Python really starts; a version manager's shim may be there without one."""
    found = shutil.which(f"python{python}")
    return found is not None and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0


PYTHONS = [python for python in nox.project.python_versions(PYPROJECT) if starts(python)] or ["3.11"]


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of the installed wheel."""
    session.install(".[cli]", *group("test"), *group("typecheck"))
    session.run("mypy", *(f"-p{package}" for package in PACKAGES), *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed wheel, on each Python that starts."""
    session.install(".[cli,onnx,tensorboard]", *group("test"))
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def array_api(session: nox.Session) -> None:
    """Run the tests of the backends and of what comes in and goes out, with PyTorch and JAX installed."""
    session.install("torch==2.13.0", "jax>=0.6")  # first: this build of PyTorch is small where a newer one is not
    session.install(".[cli,torch,jax]", *group("test"))
    session.run("pytest", *(session.posargs or (*ARRAY_API_TESTS, "-k", "torch or jax or inputs")))


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure branch coverage: once as users run it, once with the compiled kernels as plain Python."""
    session.install(".[cli]", *group("test"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "--parallel-mode", "-m", "pytest", *session.posargs)
    kernels = ["tests/backends/numba", "tests/backends/test_contract.py"]
    session.run("coverage", "run", "--parallel-mode", "-m", "pytest", *kernels, env={"NUMBA_DISABLE_JIT": "1"})
    session.run("coverage", "combine")
    session.run("coverage", "report", "--skip-covered", "--show-missing", "--fail-under=95")


@nox.session
def races(session: nox.Session) -> None:
    """Take away each barrier of the CUDA kernels in turn, for minutes: ThreadSanitizer must find that it is missing."""
    session.install(".[cli]", *group("test"))
    session.run("pytest", "tests/backends/cupy/test_races.py", "-m", "thorough or not thorough", *session.posargs)


@nox.session
def trust(session: nox.Session) -> None:
    """Do the experiments of tests/trust in full, for about twenty minutes, and write docs/reliability.md's figures."""
    session.install(".[cli]", *group("test"))
    session.run("pytest", "tests/trust", "--trust", "--trust-page=docs/reliability.md", *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml admits."""
    project = PYPROJECT["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["cli"]
    pins = [requirement.replace(">=", "==") for requirement in requirements]
    session.install(*pins, *group("test"), "pyparsing<3.3")  # whose new deprecations the old matplotlib runs into
    session.install("--no-deps", ".")
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the workloads on each backend and peer, as `xpnn bench` with the arguments given; then the operations."""
    session.install(".[cli,bench]", *group("test"))
    session.run("xpnn", "bench", *session.posargs)
    session.run("pytest", "bench", "--benchmark-enable", "--benchmark-group-by=func")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Run every recipe and write what it reaches into docs/recipes.md."""
    session.install(".[cli]")
    session.run("python", "-m", "xpnn.bench.reproduce", "--out", "docs/recipes.md", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the tutorial and build the site in build/docs/html; with `-- pdf`, the derivation as a PDF too."""
    wants_pdf = "pdf" in session.posargs
    if wants_pdf and shutil.which("latexmk") is None:
        packages = "latexmk texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended tex-gyre"
        session.error(f"the PDF needs LaTeX, and there is no latexmk; on Debian and Ubuntu: apt-get install {packages}")
    session.install(".[cli]", *group("docs"))
    session.run(
        "pytest", "--nbmake", "--override-ini=addopts=", "--override-ini=filterwarnings=", "docs/tutorial.ipynb"
    )
    options = ("--fail-on-warning", "--keep-going", "--nitpicky", "--doctree-dir=build/docs/doctrees")
    session.run("sphinx-build", *options, "--fresh-env", "--builder=html", "docs", "build/docs/html")
    if wants_pdf:
        session.run("sphinx-build", *options, "--builder=latex", "docs", "build/docs/latex")
        latexmk = ("latexmk", "-pdf", "-cd", "-interaction=nonstopmode", "-halt-on-error", "-silent")
        session.run(*latexmk, "build/docs/latex/xpnn-derivation.tex", external=True)
