# /// script
# dependencies = ["nox>=2025.5.1", "uv>=0.8"]
# ///
"""Development sessions: `nox` runs lint, typecheck and tests; `nox --list` names the others.

By the lines above, nox brings uv along, which makes the environments; they are of `tests/constraints.txt`.
"""

from __future__ import annotations

import platform
import shutil
import subprocess

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES = ["xpnn.backends", "xpnn.nn", "xpnn.bench"]
EXTRAS = ("cli", "onnx", "tensorboard", "jax")  # and groups, those of which the constraints are
GROUPS = ("test", "lint", "typecheck", "docs", "array-api")
CONSTRAINTS = "tests/constraints.txt"


# Those that differ with the array module.
ARRAY_API_TESTS = [
    "tests/backends/jax",
    "tests/backends/test_contract.py",
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
OTHERS = [python for python in PYTHONS if python != ".".join(platform.python_version_tuple()[:2])]


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def install(session: nox.Session, *requirements: str, constrained: bool = True) -> None:
    """Install requirements, in the versions of the constraints and not just any, and this repository as it is now."""
    shutil.rmtree("build/lib", ignore_errors=True)  # setuptools packs what an earlier build left there
    session.env["PYTHONDONTWRITEBYTECODE"] = ""  # or each of a hundred processes compiles all that it imports
    versions = (f"--constraints={CONSTRAINTS}", f"--build-constraints={CONSTRAINTS}") if constrained else ("--upgrade",)
    session.install("--reinstall-package=xpnn", *versions, *requirements)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    install(session, *group("lint"))
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of the installed wheel."""
    install(session, ".[cli]", *group("typecheck"))
    session.run("mypy", *(f"-p{package}" for package in PACKAGES), *session.posargs)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest with a worker for each core; each begins with files of its own, and ends with tests of another."""
    # BLAS's threads spin while they wait: with several in each worker, the tests took up to five times the work.
    parallel = ("--numprocesses=logical", "--dist=worksteal")
    session.run("pytest", *parallel, *arguments, env={"OPENBLAS_NUM_THREADS": "1"})


def run_tests(session: nox.Session, *, constrained: bool = True) -> None:
    """Run the tests against the installed wheel."""
    install(session, ".[cli,onnx,tensorboard]", *group("test"), constrained=constrained)
    pytest(session, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the Python that runs nox."""
    run_tests(session)


@nox.session(name="tests-all", python=OTHERS or None)
def tests_all(session: nox.Session) -> None:
    """Run the tests on each other Python that is supported and starts here."""
    if not OTHERS:
        session.skip("no other supported Python starts here")
    run_tests(session)


@nox.session
def thorough(session: nox.Session) -> None:
    """Run what takes minutes and finds rare things: races, every shape of kernel, signals, damaged files, a soak."""
    install(session, ".[cli,onnx,tensorboard]", *group("test"))
    pytest(session, "-m", "thorough", *session.posargs)


@nox.session
def platforms(session: nox.Session) -> None:
    """Check what can be checked here of other systems and processors: types, machine code, x86 without FMA."""
    install(session, ".[cli]", *group("typecheck"), *group("test"))
    for system in ("darwin", "win32"):
        session.run("mypy", *(f"-p{package}" for package in PACKAGES), f"--platform={system}")
    pytest(session, "-m", "thorough", "-rP", "tests/backends/numba/test_machine_code.py", *session.posargs)


@nox.session
def latest(session: nox.Session) -> None:
    """Run the tests with the newest versions of everything, whatever the constraints say."""
    run_tests(session, constrained=False)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml admits."""
    project = PYPROJECT["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["cli"]
    pins = [requirement.replace(">=", "==") for requirement in requirements]
    old_names = ("pyparsing<3.3", "pytest<9")  # which the old matplotlib, and the old scikit-learn's checks, use
    install(session, ".", *pins, *group("test"), *old_names, constrained=False)
    pytest(session, *session.posargs)


@nox.session(python=PYTHONS[0], venv_params=["--seed"])
def array_api(session: nox.Session) -> None:
    """Run the tests of the backends and of what comes in and goes out, with PyTorch and JAX installed."""
    # By pip, which takes a small build of PyTorch where it was told of one; uv then leaves it as it is.
    session.run("python", "-m", "pip", "install", f"--constraint={CONSTRAINTS}", "torch==2.13.0")
    install(session, ".[cli,torch,jax]", *group("test"))
    pytest(session, *(session.posargs or (*ARRAY_API_TESTS, "-k", "torch or jax or inputs")))


@nox.session
def constraints(session: nox.Session) -> None:
    """Renew tests/constraints.txt: the newest versions of all that the sessions need, on every Python and system."""
    chosen = [f"--extra={name}" for name in EXTRAS] + [f"--group={name}" for name in GROUPS]
    options = ("--universal", "--python-version=3.11", "--upgrade", "--no-annotate", f"--output-file={CONSTRAINTS}")
    session.run("uv", "pip", "compile", *options, *chosen, "pyproject.toml", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure branch coverage: once as users run it, once with the compiled kernels as plain Python."""
    install(session, ".[cli,onnx,tensorboard]", *group("test"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "--parallel-mode", "-m", "pytest", *session.posargs)
    kernels = ["tests/backends/numba", "tests/backends/test_contract.py"]
    session.run("coverage", "run", "--parallel-mode", "-m", "pytest", *kernels, env={"NUMBA_DISABLE_JIT": "1"})
    session.run("coverage", "combine")
    session.run("coverage", "report", "--skip-covered", "--show-missing", "--fail-under=95")


@nox.session
def trust(session: nox.Session) -> None:
    """Do the experiments of tests/trust in full, for about forty minutes, and write docs/reliability.md's figures."""
    install(session, ".[cli]", *group("test"))
    options = ("--trust", "--trust-page=docs/reliability.md", "-m", "thorough or not thorough")
    session.run("pytest", "tests/trust", *options, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the workloads on each backend and peer, as `xpnn bench` with the arguments given; then the operations."""
    install(session, ".[cli,bench]", *group("test"))
    session.run("xpnn", "bench", *session.posargs)
    session.run("pytest", "bench", "--benchmark-enable", "--benchmark-group-by=func")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Run every recipe and write what it reaches into docs/recipes.md."""
    install(session, ".[cli]")
    session.run("python", "-m", "xpnn.bench.reproduce", "--out", "docs/recipes.md", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the tutorial and build the site in build/docs/html; with `-- pdf`, the derivation as a PDF too."""
    wants_pdf = "pdf" in session.posargs
    if wants_pdf and shutil.which("latexmk") is None:
        packages = "latexmk texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended tex-gyre"
        session.error(f"the PDF needs LaTeX, and there is no latexmk; on Debian and Ubuntu: apt-get install {packages}")
    install(session, ".[cli]", *group("docs"))
    session.run(
        "pytest", "--nbmake", "--override-ini=addopts=", "--override-ini=filterwarnings=", "docs/tutorial.ipynb"
    )
    options = ("--fail-on-warning", "--keep-going", "--nitpicky", "--doctree-dir=build/docs/doctrees")
    session.run("sphinx-build", *options, "--fresh-env", "--builder=html", "docs", "build/docs/html")
    if wants_pdf:
        session.run("sphinx-build", *options, "--builder=latex", "docs", "build/docs/latex")
        latexmk = ("latexmk", "-pdf", "-cd", "-interaction=nonstopmode", "-halt-on-error", "-silent")
        session.run(*latexmk, "build/docs/latex/xpnn-derivation.tex", external=True)
