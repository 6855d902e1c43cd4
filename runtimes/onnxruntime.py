"""ONNX Runtime on the CPU."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contracts import Artifact, Session
from ..errors import EngineError
from ._ort import BF16_GEMM, OPTIMIZATION, import_onnxruntime, open_session

_EXECUTION_MODE = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}


class OnnxRuntime:
    """Opens ``onnx`` artifacts with ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"
    formats = ("onnx",)
    install = "pip install onnxruntime"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options; the defaults are ONNX Runtime's own."""

        threads: int = 0  # within one operator; 0: one for each physical core
        inter_op_threads: int = 0  # between operators, where execution_mode is "parallel"; 0: ONNX Runtime's choice
        spinning: bool = True  # idle threads wait busily: a lower latency for more energy
        optimization: str = "all"  # "all", "extended", "basic", "none"
        execution_mode: str = "sequential"  # or "parallel"
        arena: bool = True  # keep freed memory for the next run
        mem_pattern: bool = True  # plan memory once for each input shape
        denormals_as_zero: bool = False  # faster where activations decay to denormals; changes those values
        bf16_gemm: bool = False  # ARM64 CPUs with BF16 instructions: MatMul of float32 in bfloat16

        def __post_init__(self) -> None:
            if self.threads < 0 or self.inter_op_threads < 0:
                raise ValueError(f"threads must be >= 0, got {min(self.threads, self.inter_op_threads)}")
            if self.optimization not in OPTIMIZATION:
                raise ValueError(f"optimization must be one of {', '.join(OPTIMIZATION)}, got '{self.optimization}'")
            if self.execution_mode not in _EXECUTION_MODE:
                raise ValueError(
                    f"execution_mode must be one of {', '.join(_EXECUTION_MODE)}, got '{self.execution_mode}'"
                )

    def version(self) -> str:
        """ONNX Runtime's version."""
        return str(import_onnxruntime(self.install).__version__)

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open."""
        ort: Any = import_onnxruntime(self.install)
        if options.bf16_gemm:
            _refuse_without_bf16()
        native = ort.SessionOptions()
        native.intra_op_num_threads = options.threads
        native.inter_op_num_threads = options.inter_op_threads
        native.graph_optimization_level = getattr(ort.GraphOptimizationLevel, OPTIMIZATION[options.optimization])
        native.execution_mode = getattr(ort.ExecutionMode, _EXECUTION_MODE[options.execution_mode])
        native.enable_cpu_mem_arena = options.arena
        native.enable_mem_pattern = options.mem_pattern
        spinning = "1" if options.spinning else "0"
        native.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        native.add_session_config_entry("session.inter_op.allow_spinning", spinning)
        native.add_session_config_entry("session.set_denormal_as_zero", "1" if options.denormals_as_zero else "0")
        native.add_session_config_entry(BF16_GEMM, "1" if options.bf16_gemm else "0")
        session = open_session(ort, artifact, native, ["CPUExecutionProvider"])
        if options.bf16_gemm and not any(node.op_type == "MatMul" for node in session.placement().nodes):
            raise EngineError("bf16_gemm would change nothing: it is for MatMul alone, and this model has none")
        return session


def _refuse_without_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """ONNX Runtime would go on in float32 without a word.

    Raises:
        EngineError: this CPU has no BF16 instructions, or it is one for which ONNX Runtime does not use them.
    """
    machine = platform.machine() or "unknown"
    if platform.system() != "Linux" or machine != "aarch64":
        raise EngineError(f"bf16_gemm needs an ARM64 CPU with BF16 instructions on Linux, and this is {machine}")
    features = re.search(r"^Features\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE)
    if features is None or "bf16" not in features[1].split():
        raise EngineError("bf16_gemm needs BF16 instructions, which this CPU does not have (Armv8.6 and later)")


PLUGIN = OnnxRuntime
