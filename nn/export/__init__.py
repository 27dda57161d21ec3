"""Export of trained networks: ONNX, plain NumPy arrays, a web page to draw on."""

from .npz_file import to_npz
from .onnx_model import to_onnx
from .page import to_html

__all__ = ["to_html", "to_npz", "to_onnx"]
