"""Running the float graph itself in ONNX Runtime, for what must be learned from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ..errors import EngineError
from ..runtimes._ort import import_onnxruntime


@contextmanager
def float_session(model: ir.Model, workdir: Path | None = None) -> Iterator[Any]:
    """An ``onnxruntime.InferenceSession`` of ``model`` that does not hold on to memory between runs.

    The weights go through a file, which the engine maps: a model above protobuf's 2 GB works, and its weights are not
    in memory twice. The file is deleted afterwards.

    Args:
        model: the graph; it is left as it was.
        workdir: where the file goes; None: the system's temporary folder.

    Raises:
        EngineError: ONNX Runtime is missing, or refuses the graph; its own words are in the message.
    """
    ort: Any = import_onnxruntime("pip install onnxruntime")  # quantization runs the float model in it
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # With an arena, the peak would depend on how many different shapes the samples have.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # A graph that is already quantized in places (sensitivity's) computes what it says, instead of what fuses well.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Windows cannot delete a file that is still mapped: the session is freed first, and what is left is not an error.
    with tempfile.TemporaryDirectory(prefix="edgekit-", dir=workdir, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "float.onnx"
        ir.save(model, path, external_data="float.onnx.data")
        try:
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exception classes have no public root of their own
            raise EngineError(f"ONNX Runtime refuses the graph before quantization: {error}") from error
        try:
            yield session
        finally:
            del session


def run(session: Any, outputs: list[str] | None, feeds: Any) -> list[Any]:
    """Run once.

    Raises:
        EngineError: the engine fails; its own words are in the message.
    """
    try:
        return list(session.run(outputs, dict(feeds)))
    except Exception as error:
        raise EngineError(f"ONNX Runtime failed on a calibration sample: {error}") from error
