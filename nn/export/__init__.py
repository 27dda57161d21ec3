"""Export of trained networks: ONNX, plain NumPy arrays, C source, a web page to draw on."""

from .c_source import c_files, to_c
from .npz_file import to_npz
from .onnx_model import to_onnx
from .page import to_html

__all__ = ["c_files", "to_c", "to_html", "to_npz", "to_onnx"]
