"""The command line: one command a file, each thin: parse, call the Python API, print.

``main`` is the entry point. Nothing here may import numpy, torch, onnx or an engine at import time: ``edgekit --help``
answers at once.
"""

from .app import main

__all__ = ["main"]
