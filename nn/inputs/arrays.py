"""Arrays of any library on their way in, as rows on the host, and answers on their way out, in the caller's library.

NumPy, lists, PyTorch, JAX, CuPy, whatever speaks DLPack or `__array__`, and frames of pandas, polars and pyarrow. What
lies in host memory in a type that NumPy has is not copied. Frames are answered by NumPy arrays, as scikit-learn does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from .frames import as_frame, categories_of, frame_values, library_of

ON_HOST = (1, 3)  # device types of DLPack: the CPU's memory, and what CUDA has pinned of it


def host_array(given: Any, *, what: str, mend: str) -> npt.NDArray[Any]:
    """Return any array as one of NumPy, without a copy where it lies in host memory.

    Args:
        given: an array of any library, a frame, or what can become an array.
        what: how messages call it.
        mend: what messages advise where nothing else is known.

    Returns:
        An array of the same shape. Types that NumPy lacks, such as bfloat16, become float32.

    Raises:
        DataError: it cannot become an array, or some of its values are missing.
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
        if not hasattr(given, "__array__") and hasattr(given, "__dlpack__"):
            is_on_host = given.__dlpack_device__()[0] in ON_HOST
            return np.from_dlpack(given) if is_on_host else np.from_dlpack(given, device="cpu")
        return _with_a_numpy_type(np.asarray(given))
    except DataError:
        raise
    except Exception as error:  # an object of another library raises what it likes
        raise DataError(f"{what} cannot become a NumPy array ({error!s:.200}): {mend}") from error


def answer_like(given: Any, answer: Any) -> Any:
    """Return an answer in the library, and on the device, of what it answers.

    Args:
        given: what the caller passed.
        answer: any shape, of NumPy or already of that library and device; it may share its memory with the result.

    Returns:
        An array of the library of `given` on its device; of NumPy for lists, frames and whatever has no namespace of
        the Array API standard. JAX has no 64-bit types unless the caller has enabled them.
    """
    library = library_of(given)
    if library in ("jax", "jaxlib"):
        return _jax_array(given, answer)
    if library_of(answer) != "numpy":
        return answer  # it is there already
    if library in ("torch", "cupy"):
        return import_module(f"array_api_compat.{library}").asarray(answer, device=given.device)
    if isinstance(given, np.ndarray) or not hasattr(given, "__array_namespace__"):
        return answer
    return given.__array_namespace__().asarray(answer, device=given.device)


def categorical_codes(
    labels: list[Any], *, whats: list[str]
) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...]] | None:
    """Return the numbers of categorical labels, in the order of their categories, and the categories' names.

    Args:
        labels: each (samples,); test labels have the categories of the training labels.
        whats: how messages call each.

    Returns:
        Each (samples,), int64, and a name for each category; None unless all labels have the same categories.

    Raises:
        DataError: a label is missing.
    """
    orders = [categories_of(each) for each in labels]
    first = orders[0]
    if first is None or any(order != first for order in orders):
        return None
    number = {category: k for k, category in enumerate(first)}
    codes = [
        np.array([number[value] for value in host_array(each, what=what, mend="").tolist()], dtype=np.int64)
        for each, what in zip(labels, whats, strict=True)
    ]
    return codes, tuple(map(str, first))


def _of_torch(tensor: Any) -> npt.NDArray[Any]:
    """The values of a tensor, in its own memory where that is the host's; what is computed with it leaves no trace."""
    if str(tensor.layout) != "torch.strided":
        raise DataError(f"a tensor must be dense, got one of layout {tensor.layout}: pass .to_dense()")
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.dtype.is_floating_point and plain.dtype.itemsize < 4 and str(plain.dtype) != "torch.float16":
        plain = plain.float()  # bfloat16, and the floats of 8 bits
    values: npt.NDArray[Any] = plain.cpu().numpy()
    return values


def _jax_array(given: Any, answer: Any) -> Any:
    """The answer as an array of JAX beside `given`, in 64 bits only where the caller has enabled them."""
    jax = import_module("jax")
    canonical = answer.astype(jax.dtypes.canonicalize_dtype(answer.dtype))
    devices = given.devices()
    # Of what lies on several devices, JAX puts the answer where it puts what is new.
    return jax.device_put(canonical, next(iter(devices))) if len(devices) == 1 else jax.numpy.asarray(canonical)


def _with_a_numpy_type(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, or float32 of one of a floating type that a package has added to NumPy, as JAX does with bfloat16."""
    is_added = array.dtype.isbuiltin == 2 and "float" in array.dtype.name
    return array.astype(np.float32) if is_added else array
