"""A trained network for use elsewhere: as ONNX, as plain NumPy arrays, as a page to draw on."""

from .npz_file import to_npz
from .onnx_model import to_onnx
from .page import to_html

__all__ = ["to_html", "to_npz", "to_onnx"]
