"""Conversion of arrays of any library to host rows, and of results to the caller's library.

NumPy, lists, PyTorch, JAX, CuPy, any library with DLPack or `__array__`, frames of pandas, polars and pyarrow, and
SciPy's sparse arrays. Host arrays of NumPy's dtypes are not copied. Results for frames and sparse arrays are NumPy
arrays, as in scikit-learn.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ...backends.sparse_rows import canonical, dense
from .frames import as_frame, categories_of, frame_values, library_of

COLOURS = (3, 4)  # channels of RGB and RGBA
ON_HOST = (1, 3)  # device types of DLPack: the CPU's memory, and what CUDA has pinned of it


def host_array(given: Any, *, what: str, fix: str, keep_sparse: bool = False) -> npt.NDArray[Any]:
    """Convert an array to NumPy, without a copy if it is in host memory.

    Args:
        given: an array of any library, a frame, a sparse array of SciPy's, or anything convertible to an array.
        what: name in messages.
        fix: advice in messages by default.
        keep_sparse: whether a sparse array becomes canonical csr, not a dense array.

    Returns:
        An array of the same shape. Dtypes that NumPy lacks, such as bfloat16, become float32.

    Raises:
        DataError: it cannot be converted, has missing values, or is sparse and would not fit into memory.
    """
    try:
        if isinstance(given, np.ma.MaskedArray) and (masked := int(np.sum(given.mask))):
            raise DataError(
                f"{what} must have all their values, got {masked} that are masked: fill them or drop the rows"
            )
        if (frame := as_frame(given)) is not None:
            return frame_values(frame, what=what)
        library = library_of(given)
        if library == "torch":
            return _of_torch(given)
        if library == "cupy":
            on_host: npt.NDArray[Any] = given.get()
            return on_host
        if library == "scipy" and hasattr(given, "toarray"):
            values: npt.NDArray[Any] = (
                canonical(given, what=what) if keep_sparse and given.ndim == 2 else dense(given, what=what)
            )
            return values
        if not hasattr(given, "__array__") and hasattr(given, "__dlpack__"):
            is_on_host = given.__dlpack_device__()[0] in ON_HOST
            return np.from_dlpack(given) if is_on_host else np.from_dlpack(given, device="cpu")
        return _with_a_numpy_type(np.asarray(given))
    except DataError:
        raise
    except Exception as error:  # an object of another library raises what it likes
        raise DataError(f"{what} cannot become a NumPy array ({error!s:.200}): {fix}") from error


def shape_of_images(images: Any, *, what: str) -> tuple[int, ...]:
    """Return the shape of images without an axis of one channel, first or last as in PyTorch and TensorFlow.

    Args:
        images: an array of any library.
        what: name in messages.

    Raises:
        DataError: they are in colour.
    """
    shape = tuple(map(int, images.shape))
    if len(shape) != 4:
        return shape
    for axis in (1, 3):
        if shape[axis] == 1:
            return shape[:axis] + shape[axis + 1 :]
    for axis in (3, 1):
        if shape[axis] in COLOURS:
            colours = "" if shape[axis] == 3 else "[..., :3]" if axis == 3 else "[:, :3]"  # the fourth is transparency
            raise DataError(
                f"{what} must be grey, (samples, rows, columns), got {shape[axis]} channels in shape {shape}: pass "
                f"{what}{colours}.mean(axis={axis}).astype({what}.dtype), or one of the channels"
            )
    return shape


def answer_like(given: Any, answer: Any) -> Any:
    """Convert a result to the library and device of the input.

    Args:
        given: the caller's input.
        answer: result of any shape, in NumPy or already in that library and device; it may share memory with the
            returned array.

    Returns:
        An array of the library of `given` on its device; of NumPy for lists, frames and libraries without an Array API
        namespace. JAX arrays are 64-bit only if the caller has enabled that.
    """
    library = library_of(given)
    if library in ("jax", "jaxlib"):
        return _jax_array(given, answer)
    if library_of(answer) != "numpy":
        return answer  # it is there already
    if library == "torch":
        return sys.modules[library].asarray(answer, device=given.device)
    if library == "cupy":
        with given.device:
            return sys.modules[library].asarray(answer)
    if isinstance(given, np.ndarray) or not hasattr(given, "__array_namespace__"):
        return answer
    return given.__array_namespace__().asarray(answer, device=given.device)


def categorical_codes(
    labels: list[Any], *, whats: list[str]
) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...]] | None:
    """Return the codes of categorical labels and the names of the categories.

    Args:
        labels: each (samples,); test labels have the categories of the training labels.
        whats: name of each in messages.

    Returns:
        Each (samples,), int64, and the names of the categories; None unless all labels have the same categories.

    Raises:
        DataError: a label is missing.
    """
    orders = [categories_of(each) for each in labels]
    first = orders[0]
    if first is None or any(order != first for order in orders):
        return None
    number = {category: k for k, category in enumerate(first)}
    codes = [
        np.array([number[value] for value in host_array(each, what=what, fix="").tolist()], dtype=np.int64)
        for each, what in zip(labels, whats, strict=True)
    ]
    return codes, tuple(map(str, first))


def _of_torch(tensor: Any) -> npt.NDArray[Any]:
    """Return a detached tensor as an array, without a copy on the host."""
    if str(tensor.layout) != "torch.strided":
        raise DataError(f"a tensor must be dense, got one of layout {tensor.layout}: pass .to_dense()")
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.dtype.is_floating_point and plain.dtype.itemsize < 4 and str(plain.dtype) != "torch.float16":
        plain = plain.float()  # bfloat16, and the floats of 8 bits
    values: npt.NDArray[Any] = plain.cpu().numpy()
    return values


def _jax_array(given: Any, answer: Any) -> Any:
    """Convert the answer to JAX on the device of `given`, in 64 bits only if the caller has enabled that."""
    jax = import_module("jax")
    canonical = answer.astype(jax.dtypes.canonicalize_dtype(answer.dtype))
    devices = given.devices()
    # Of what lies on several devices, JAX puts the answer where it puts what is new.
    return jax.device_put(canonical, next(iter(devices))) if len(devices) == 1 else jax.numpy.asarray(canonical)


def _with_a_numpy_type(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert floating dtypes registered by other packages, such as JAX's bfloat16, to float32."""
    is_added = array.dtype.isbuiltin == 2 and "float" in array.dtype.name
    return array.astype(np.float32) if is_added else array
