"""Machine code of the kernels for processors that are not here: multiply-adds of whole vectors, and memory order.

LLVM compiles for each processor what Numba has linked for this one. `nox -s platforms` shows the figures.
"""

import os
import platform
import re
import subprocess
import sys

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from numba.core import config
from xpnn import nn
from xpnn.backends.numba.compiler import compile as numba_compile
from xpnn.backends.numba.compiler.team import Team
from xpnn.backends.numba.forward import forward_logits

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT=1"),
]

LINUX = "unknown-linux-gnu"
TARGETS = {
    "neoverse-v1": f"aarch64-{LINUX}",
    "apple-m1": "arm64-apple-macos",
    "x86-64": f"x86_64-{LINUX}",
    "x86-64-v3": f"x86_64-{LINUX}",
}
# Multiply-adds in NEON's and AVX2's instructions, and the multiplications of SSE2, which has none.
VECTOR = r"fml[as]\S*\s.*v\d.*|vfn?m(add|sub)\w*p[sd]\s.*|mulp[sd]\s.*"
SCALAR = r"fn?m(add|sub)\s.*|vfn?m(add|sub)\w*s[sd]\s.*|muls[sd]\s.*"
# Atomic operations in LLVM's words, and ARM's instructions of that order.
ORDERED = {
    "acquire": (r"= load atomic .* acquire", r"ldap?u?r\s.*"),
    "release": (r"store atomic .* release", r"stlu?r\s.*"),
    "both": (r"= atomicrmw add .* acq_rel", r"ldaddal\s.*"),
}


class Linked(Exception):  # noqa: N818 - no error: it ends a compilation
    """Carries a kernel's module, linked and not yet optimized."""


class UnfinishedLibrary(numba_compile.SelfContainedLibrary):
    """Library of a kernel that goes no further."""

    def _optimize_final_module(self):
        raise Linked(str(self._final_module))


@pytest.fixture
def modules(monkeypatch):
    """`modules(run)`: modules of the kernels that `run()` would call; only those that list entries run."""

    def linked(run):
        kernels = {}

        def record(compiled):
            kernel, types = compiled.func.__self__.py_func, compiled.args[0]
            if kernel.__name__ in {"count_entries", "list_entries"}:
                return compiled()
            kernels[kernel.__name__] = kernel, types
            return lambda *_: None

        monkeypatch.setattr(numba_compile, "ENTRIES", {})
        monkeypatch.setattr(numba_compile, "_in_background", record)
        run()
        monkeypatch.setattr(numba_compile, "SelfContainedLibrary", UnfinishedLibrary)
        found = {}
        for name, (kernel, types) in kernels.items():
            compiler = numba.njit(pipeline_class=numba_compile.KernelCompiler, **numba_compile.OPTIONS)(kernel)
            with pytest.raises(Linked) as module:
                compiler.compile(types)
            found[name] = str(module.value)
        return found

    return linked


def compiled_for(processor, text):
    """Return the optimized module and the assembly of a kernel for a processor."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TARGETS[processor]).create_target_machine(cpu=processor, opt=3)
    module = llvm.parse_assembly(re.sub(r"(?m)^target .*$", "", text))
    module.triple, module.data_layout = TARGETS[processor], str(machine.target_data)
    for function in module.functions:
        if function.linkage == llvm.Linkage.linkonce_odr:
            function.linkage = llvm.Linkage.internal
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return str(module), [line.strip() for line in machine.emit_assembly(module).splitlines()]


def inner_loops(lines):
    """Yield the lines of each loop that has none inside: from a label to a jump back to it."""
    labels, last = {}, -1
    for number, line in enumerate(lines):
        if line.endswith(":"):
            labels[line[:-1]] = number
        elif (jump := re.match(r"(?:j|b|cb|tb).*?(\.?LBB\w+)$", line)) and labels.get(jump[1], -1) > last:
            last = labels[jump[1]]
            yield lines[last:number]


def count(pattern, lines):
    return sum(re.fullmatch(pattern, line) is not None for line in lines)


def check(name, text):
    for processor in TARGETS:
        module, lines = compiled_for(processor, text)
        assert not [line for line in lines if re.search(r"\b_?fmaf?\b", line)], processor  # a call of the C library's
        vectors, scalars = count(VECTOR, lines), sum(count(SCALAR, loop) for loop in inner_loops(lines))
        written = {order: len(re.findall(words, module)) for order, (words, _) in ORDERED.items()}
        figures = f"{vectors} vector multiply-adds, {scalars} of single numbers in loops; {written}"
        print(f"{name} {processor}: {figures}")  # noqa: T201 - for `nox -s platforms`
        assert scalars <= 25, processor  # of a row's loss, which is summed number by number
        if name.startswith(("train", "forward")):
            assert vectors > 100, processor
        if name.startswith("train"):
            assert all(written.values()), processor
        if TARGETS[processor].startswith("a"):
            assert {order: count(code, lines) for order, (_, code) in ORDERED.items()} == written, processor


def test_training(make_plan, modules, kind):
    [(name, text)] = modules(lambda: make_plan(kind)).items()
    check(name, text)


@pytest.mark.parametrize("kind", ["units-sparse"], indirect=True)
def test_steps_of_divided_batches_with_clipping(make_plan, modules, kind):
    check("take_step_with", modules(lambda: make_plan(kind, clip_norm=1.0, shards=2))["take_step_with"])


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_predictions(make_layers, backend, modules, density):
    images = (np.random.default_rng(0).random((9, 40)) < density).astype(np.uint8)
    layers = make_layers(backend, (40, 80, 3), dtype="float32")
    check("forward_tiles", modules(lambda: forward_logits(Team(1), layers, images, 1 / 255))["forward_tiles"])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="this processor runs no code for x86-64")
def test_x86_without_fma_and_a_console_of_few_characters_train_to_the_same_weights(tmp_path):
    program = (sys.executable, "-c", "from xpnn.nn.cli import main; main()")
    command = (*program, "train", "quickstart", "--backend", "numba", "--epochs", "3")
    narrow = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "PYTHONIOENCODING": "cp1252"}
    nets = []
    for name, variables in ("native", {}), ("x86-64", narrow):
        path = tmp_path / name
        subprocess.run([*command, "--out", path], env=os.environ | variables, check=True, capture_output=True)
        nets.append(nn.load(path / "model.safetensors", backend="numpy"))
    native, other = (net.parameters() for net in nets)
    for name, array in native.items():
        np.testing.assert_allclose(other[name], array, rtol=1e-3, atol=1e-4)
    assert any((other[name] != array).any() for name, array in native.items())  # products and sums are rounded apart
