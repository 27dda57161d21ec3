"""Every CUDA source compiles with NVIDIA's compiler for every kind of device that CUDA 13 knows, without spills.

That takes some three seconds for each network and device: here are a few of them, and all in `nox -s thorough`.
"""

import re
from functools import cache
from itertools import product

import numpy as np
import pytest
from xpnn.backends import ACTIVATIONS, LOSSES, OPTIMIZERS, SGD, Adam, AdamW
from xpnn.backends.cupy.device import Device
from xpnn.backends.cupy.division import divide
from xpnn.backends.cupy.full_batch_plan import macros, shared_bytes
from xpnn.backends.cupy.source import (
    ACTIVATION_NAMES,
    EXACT_PARTS,
    LOSS_NAMES,
    OPTIMIZER_NAMES,
    KernelSpec,
    options,
    source,
)

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVIDIA's compiler is not installed")

TURING, AMPERE, HOPPER = (7, 5), (8, 0), (9, 0)
CAPABILITIES = [TURING, AMPERE, HOPPER]
DEVICES = {  # capability -> multiprocessors and shared memory of T4, A100 and H200
    TURING: Device(40, TURING, 64 << 10, True),
    AMPERE: Device(108, AMPERE, 163 << 10, True),
    HOPPER: Device(132, HOPPER, 227 << 10, True),
}


def architecture_of(capability):
    """What the compiler calls it."""
    return f"sm_{capability[0]}{capability[1]}"


def cases(*products, quick):
    """All tuples of a product; those that are not among the quick ones are thorough."""
    return [pytest.param(*case, marks=[] if case in quick else pytest.mark.thorough) for case in product(*products)]


def make_network(sizes, *, activation="relu", real="float32", pixel="uint8", optimizer=None, parts=0, **rest):
    scale = 1 / 255 if np.dtype(pixel).kind in "iu" else 1.0
    return KernelSpec(sizes, activation, np.dtype(real), np.dtype(pixel), scale, optimizer or SGD(), parts, **rest)


@cache
def load_nvrtc():
    """The module, after its library has been found."""
    try:
        nvrtc.nvrtcVersion()
    except Exception as error:
        pytest.skip(f"NVIDIA's compiler does not start: {error}")
    return nvrtc


def compile_for(capability, name, flags):
    """Compile a source; returns the log, of the compiler and of ptxas, after the machine code has been made."""
    nvrtc = load_nvrtc()
    _, program = nvrtc.nvrtcCreateProgram(source(name).encode(), name.encode(), 0, [], [])
    own = (f"-arch={architecture_of(capability)}", "--device-as-default-execution-space", "-ftz=true")  # as CuPy does
    flags = [flag.encode() for flag in (*flags, *own, "--ptxas-options=-v")]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = b" " * size
    nvrtc.nvrtcGetProgramLog(program, log)
    text = log.decode(errors="replace")
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, text
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    assert size > 0
    return text


def assert_clean(log, kernels):
    """No warning, and of each kernel a report that nothing was spilled from registers to memory."""
    assert "warning" not in log, log
    assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == kernels
    spilled = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spilled) == len(kernels)
    assert {number for numbers in spilled for number in numbers} == {"0"}, log


STEP_KERNELS = {"first_layer", "hidden_layer", "hidden_backward", "later_layers", "gradients", "update", "advance"}
NETWORKS = {
    "two layers": (make_network((784, 256, 10), parts=EXACT_PARTS), 128),
    "large batch": (make_network((784, 256, 10), optimizer=Adam(), parts=EXACT_PARTS), 4096),
    "bfloat16": (make_network((784, 256, 10), optimizer=AdamW(), parts=1), 128),
    "four layers": (make_network((30, 700, 500, 11), activation="tanh", loss="squared_error"), 1000),
    "float64": (make_network((64, 32, 10), real="float64", pixel="float64", optimizer=SGD(0.1, momentum=0.9)), 32),
    "weighted": (make_network((20, 100, 1), pixel="float32", loss="sigmoid_cross_entropy", is_weighted=True), 200),
    "no hidden layer": (make_network((13, 3), pixel="int16", optimizer=OPTIMIZERS["rmsprop"]()), 7),
}


@pytest.mark.parametrize(
    ("capability", "name"),
    cases(CAPABILITIES, NETWORKS, quick=[(HOPPER, "two layers"), (AMPERE, "four layers"), (TURING, "float64")]),
)
def test_steps(capability, name):
    network, batch_size = NETWORKS[name]
    if network.parts and capability < AMPERE:
        network = network._replace(parts=0)
    division = divide(network, batch_size, DEVICES[capability])
    assert_clean(compile_for(capability, "steps.cu", options(network, **division.macros())), STEP_KERNELS)


@pytest.mark.parametrize(
    ("capability", "sizes", "activation"),
    cases(
        CAPABILITIES,
        [(784, 10, 10), (784, 32, 32, 10)],
        ACTIVATION_NAMES.values(),
        quick=[(AMPERE, (784, 10, 10), "relu")],
    ),
)
def test_full_batch(capability, sizes, activation):
    """What a device has no room for, it is never given; there spilling is no matter."""
    rule = {"relu": SGD(), "sigmoid": Adam()}.get(activation, SGD(0.1, momentum=0.9, nesterov=True))
    name = {"hyperbolic_tangent": "tanh"}.get(activation, activation)
    network = make_network(sizes, activation=name, optimizer=rule, parts=EXACT_PARTS)
    room = shared_bytes(network)
    log = compile_for(capability, "full_batch.cu", options(network, **macros(network, 60_000)))
    if room <= DEVICES[capability].shared_bytes and capability >= AMPERE:
        assert_clean(log, {"train_full_batch"})


@pytest.mark.parametrize(
    ("capability", "loss", "is_weighted"),
    cases(CAPABILITIES, LOSSES, [False, True], quick=[(HOPPER, "sigmoid_cross_entropy", True)]),
)
def test_losses_of_full_batches(capability, loss, is_weighted):
    """The largest kernel, which has all registers in use."""
    network = make_network((784, 32, 32, 10), optimizer=Adam(), parts=EXACT_PARTS, loss=loss, is_weighted=is_weighted)
    log = compile_for(capability, "full_batch.cu", options(network, **macros(network, 60_000)))
    if shared_bytes(network) <= DEVICES[capability].shared_bytes and capability >= AMPERE:
        assert_clean(log, {"train_full_batch"})


def test_every_row_of_the_tables_is_in_the_sources():
    optimizers, activations, losses = (
        "\n".join(lines_of(f"{name}.cuh")) for name in ("optimizers", "activations", "losses")
    )
    assert set(LOSS_NAMES) == set(LOSSES.values())
    for name in LOSS_NAMES.values():
        outer, _, of_output = name.rstrip(">").partition("<")
        assert f"RowLoss {outer}(" in losses
        assert f"OutputLoss {of_output}(" in losses or not of_output
    assert {kind.name for kind in OPTIMIZER_NAMES} == set(OPTIMIZERS)
    assert all(f"defined({name})" in optimizers for name in OPTIMIZER_NAMES.values())
    assert set(ACTIVATION_NAMES) == {row.forward for row in ACTIVATIONS.values()}
    assert all(f"REAL {name}(REAL x)" in activations for name in ACTIVATION_NAMES.values())


@pytest.mark.parametrize("setting", [{"learning_rate": 2e-3}, {"epsilon": 1e-3}, {"epsilon_hat": True}], ids=str)
def test_no_kernel_is_compiled_for_what_comes_with_each_step(setting):
    """CuPy keeps compiled kernels by their options."""
    one, other = (make_network((6, 4, 3), optimizer=Adam(**each)) for each in ({}, setting))
    assert options(one) == options(other)
    assert options(one) != options(make_network((6, 4, 3), optimizer=Adam(1e-3, beta_1=0.8)))


@pytest.mark.parametrize("name", ["steps.cu", "full_batch.cu"])
def test_headers_are_written_into_the_source_once(name):
    text = source(name)
    assert "#include" not in text
    assert text.count("struct Pixels {") == 1
    assert f'#line 1 "{name}"' in text


def test_an_error_names_file_and_line():
    network = make_network((6, 4, 3), optimizer=Adam())
    division = divide(network, 8, DEVICES[HOPPER])
    flags = [flag for flag in options(network, **division.macros()) if not flag.startswith("-DBETA_1")]
    number = next(k for k, line in enumerate(lines_of("optimizers.cuh"), start=1) if "BETA_1" in line)
    with pytest.raises(
        AssertionError, match=rf"optimizers\.cuh\({number}\): error: identifier \"BETA_1\" is undefined"
    ):
        compile_for(HOPPER, "steps.cu", flags)


def lines_of(name):
    from importlib.resources import files

    return (files("xpnn.backends.cupy") / "kernels" / name).read_text(encoding="utf-8").splitlines()
