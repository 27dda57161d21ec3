"""Export to C99: one header and one source file, for microcontrollers and programs without dependencies."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...backends import ConfigError, StorageError
from ...backends.sparse_rows import dense
from ..datasets.dataset import Split
from ..files import limits
from ..files.atomic import write_atomically
from ..inputs.inputs import Inputs, Numbers
from ..network.evaluation import held_rows
from ..network.mlp import MLP
from ..network.model_file import Estimator, as_network
from .c_header import header_text, interface_of
from .c_program import Program
from .c_text import check_name
from .contents import finite_parameters
from .quantization import MOST_FEATURES, Floats

LARGEST = 64 * limits.MIB  # characters of source; a compiler takes many times as much memory
FLOAT_CHARACTERS, INT8_CHARACTERS = 18, 6  # of a weight, at most
LARGEST_STACK = 1 * limits.MIB  # bytes: threads of desktop systems have 1 to 8 MiB, microcontrollers far less
CALIBRATION_ROWS = 4096


class CSource(NamedTuple):
    """C source of a network.

    Attributes:
        files: content of the header and the source, by name.
        flash_bytes: constants, on a 32-bit machine; the code comes on top.
        ram_bytes: arrays on the stack; the source uses no other memory.
    """

    files: dict[str, bytes]
    flash_bytes: int
    ram_bytes: int


def to_c(
    net: MLP | Estimator,
    folder: str | os.PathLike[str],
    *,
    name: str = "network",
    int8: bool = False,
    calibration: Split | None = None,
) -> None:
    """Export a network as `<name>.h` and `<name>.c`: C99 that needs no more than the standard headers.

    The source allocates nothing and has no state: its functions may be called from any thread. Weights are constants.
    The header, which C++ takes too, documents the functions, what they take, and the memory that they need:

    - softmax cross-entropy: `<name>_predict_proba(row, probabilities)`, and `<name>_predict(row)`, the most probable
      class, whose name is in `<name>_class_names`;
    - sigmoid cross-entropy: `<name>_predict_proba(row, probabilities)`;
    - squared error: `<name>_predict_values(row, values)`, in the labels' units.

    A row is what it is before any preprocessing: pixels as whole numbers, numbers, or a table's cells in the order of
    its columns, NaN for a missing value and `<name>_level_<column>(text)` for a text. The arithmetic is float32. With
    `int8`, weights and activations are integers of 8 bits, a quarter of the memory, and the layers are computed
    without floating point: sums in int32, fixed-point multipliers between layers. Floating are the outputs, and rows
    that are not pixels, which are clipped to the range of the calibration.

    Args:
        net: the network, on any backend, or a fitted estimator of `xpnn.nn.estimator`.
        folder: folder of the files, made if missing; existing files are replaced atomically.
        name: beginning of all public names, and name of the files.
        int8: whether to quantize the network.
        calibration: training rows, which give the ranges of quantized numbers; at most 4096 of them, evenly spaced,
            are used.

    Raises:
        DivergenceError: a weight is not a finite number.
        DataError: the calibration rows do not fit the network.
        StorageError: the folder or a file cannot be written; an existing file is left unchanged.
        ConfigError: an argument is invalid, or the network is too large for C source, for the stack, or for int8.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ConfigError(f"folder must be a path, got {folder!r:.80}")
    write_c_files(Path(folder), c_files(net, name=name, int8=int8, calibration=calibration))


def c_files(
    net: MLP | Estimator, *, name: str = "network", int8: bool = False, calibration: Split | None = None
) -> dict[str, bytes]:
    """Return the content of the header and the source by file name; see `to_c`."""
    return c_source(net, name=name, int8=int8, calibration=calibration).files


def c_source(
    net: MLP | Estimator, *, name: str = "network", int8: bool = False, calibration: Split | None = None
) -> CSource:
    """Return the content of the files, and the memory that they need; see `to_c`."""
    net = as_network(net)
    _check_size(net, int8=int8)
    inputs = net.inputs or Numbers(count=net.features)
    interface = interface_of(net, inputs, check_name(name))
    parameters = {each: array.astype(np.float64) for each, array in finite_parameters(net).items()}
    layers = [(parameters[f"layers.{k}.weight"], parameters[f"layers.{k}.bias"]) for k in range(len(net.layers))]
    program = Program(net, inputs, interface)
    if int8:
        program.add_int8_layers(layers, _calibration_features(net, inputs, calibration))
    else:
        program.add_float_layers(layers)
    program.add_functions()
    if program.stack > LARGEST_STACK:
        raise ConfigError(
            f"the network needs {program.stack:,} bytes of stack, more than the limit of {LARGEST_STACK:,}: take fewer "
            "hidden units, or export it as .onnx"
        )
    memory = f"Constants: {program.flash:,} bytes; stack: {program.stack:,} bytes, and what the calls take."
    texts = {f"{name}.h": header_text(net, inputs, interface, memory), f"{name}.c": program.text()}
    return CSource({file: text.encode() for file, text in texts.items()}, program.flash, program.stack)


def write_c_files(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files to a folder, which is made if missing.

    Raises:
        StorageError: the folder cannot be made, or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise StorageError(
            f"cannot make the folder {str(folder)!r:.300}: {getattr(error, 'strerror', error)}"
        ) from error
    for name, content in contents.items():
        write_atomically(folder / name, content)


def _check_size(net: MLP, *, int8: bool) -> None:
    """Check that the network is not too large for C source, nor for sums of 32 bits.

    Raises:
        ConfigError: it is.
    """
    size = net.num_parameters * (INT8_CHARACTERS if int8 else FLOAT_CHARACTERS)
    if size > LARGEST:
        raise ConfigError(
            f"the network has {net.num_parameters:,} weights, up to {size:,} characters of C, more than the limit of "
            f"{LARGEST:,}: take fewer hidden units, or export it as .onnx"
        )
    if int8 and (widest := max(net.sizes[:-1])) > MOST_FEATURES:
        raise ConfigError(
            f"a layer of {widest:,} inputs could leave the 32 bits of its sums, in int8 a layer has at most "
            f"{MOST_FEATURES:,}: export in float, or take fewer units"
        )


def _calibration_features(net: MLP, inputs: Inputs, calibration: Split | None) -> Floats:
    """Return the features of calibration rows, (samples, features), evenly spaced.

    Raises:
        ConfigError: there are no rows.
        DataError: they do not fit the network.
    """
    if calibration is None:
        raise ConfigError("int8 needs training rows to calibrate with: pass calibration=data.train")
    held = held_rows(net, calibration if net.inputs else replace(calibration, inputs=inputs))
    count = min(len(held), CALIBRATION_ROWS)
    some = held.images[np.linspace(0, len(held) - 1, count).astype(np.int64)]
    rows = dense(some, what="calibration")  # (count, columns)
    features = inputs.features(rows, net.dtype)  # (count, features), or pixels
    scale = inputs.scale if features.dtype == np.uint8 else 1.0
    return features.astype(np.float64) * scale  # (count, features)
