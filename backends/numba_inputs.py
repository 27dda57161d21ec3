"""What a run does with its first layer, for each kind of input: the compiler chooses by the input's type.

A kind has parts, which are dealt out to the threads. For each tile of rows, a part is taken forward and backward by its
owner: `part_forward` writes its part of the first layer's output, `part_backward` settles its gradients. `prepare` makes
a coming tile ready, `finish_rows` completes some rows of the output, `list_features` goes before the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

from . import numba_features as features
from . import numba_units as units
from .numba_compile import OPTIONS
from .numba_features import DenseFeatures, SparseFeatures
from .numba_units import DenseUnits, SparseUnits


def _by_kind(
    sparse_units: Callable[..., Any],
    dense_units: Callable[..., Any],
    sparse_features: Callable[..., Any],
    dense_features: Callable[..., Any],
) -> Callable[..., Any]:
    """Return one function that is another one for each kind of its first argument."""
    table = {
        SparseUnits: sparse_units,
        DenseUnits: dense_units,
        SparseFeatures: sparse_features,
        DenseFeatures: dense_features,
    }

    def function(inputs: Any, *args: Any) -> Any:
        return table[type(inputs)](inputs, *args)

    @overload(function, strict=False, jit_options=OPTIONS)
    def choose(inputs: Any, *args: Any) -> Any:  # noqa: ARG001
        return table[inputs.instance_class]

    return function


parts_of = _by_kind(units.parts, units.parts, features.parts_sparse, features.parts_dense)
prepare = _by_kind(units.prepare_sparse, units.prepare_dense, features.prepare_sparse, features.prepare_dense)
list_features = _by_kind(
    units.list_features_sparse, units.list_features_dense, features.list_features, features.list_features
)
part_forward = _by_kind(units.forward_sparse, units.forward_dense, features.forward_sparse, features.forward_dense)
finish_rows = _by_kind(
    units.finish_rows, units.finish_rows, features.finish_rows_sparse, features.finish_rows_dense
)
part_backward = _by_kind(units.backward_sparse, units.backward_dense, features.backward_sparse, features.backward_dense)
