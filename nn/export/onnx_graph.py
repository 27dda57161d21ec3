"""Construction of an ONNX graph: its nodes and constants, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto

# dtype -> its name in ONNX
ELEMENTS = {
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "int64": "INT64",
    "string": "STRING",
}
Shape = Sequence[str | int | None]


class OnnxGraph:
    """Nodes and constants of a graph; an array in it is known by its name.

    Attributes:
        dtype: dtype of the network's arithmetic.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}

    def constant(self, name: str, value: npt.ArrayLike, dtype: str | None = None) -> str:
        """Add a constant of the network's dtype, or of another, and return its name."""
        self._constants[name] = np.asarray(value, dtype=np.dtype(dtype or self.dtype).newbyteorder("<"))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def cast(self, x: str, output: str, dtype: str | None = None) -> str:
        """Add a conversion to the network's dtype, or to another, and return the name of its output."""
        return self.add("Cast", [x], output, to=element(dtype or self.dtype))

    def concat(self, blocks: Sequence[str], output: str) -> str:
        """Add a concatenation of blocks, each (batch, columns), unless there is but one; return the name of all."""
        return blocks[0] if len(blocks) == 1 else self.add("Concat", blocks, output, axis=1)

    def finish(self, inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, tuple[str, Shape]]) -> GraphProto:
        """Return the graph, with dtype and shape of each input and output by its name."""
        from onnx import helper, numpy_helper

        tensors = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        return helper.make_graph(self._nodes, "xpnn", _values(inputs), _values(outputs), tensors)


def element(dtype: str) -> int:
    """Return ONNX's number of a dtype."""
    from onnx import TensorProto

    return int(TensorProto.DataType.Value(ELEMENTS[dtype]))


def _values(arrays: Mapping[str, tuple[str, Shape]]) -> list[ValueInfoProto]:
    from onnx import helper

    return [helper.make_tensor_value_info(name, element(dtype), shape) for name, (dtype, shape) in arrays.items()]
