"""A second opinion on a graph: NVIDIA's own parser, where TensorRT-RTX is installed. It needs no GPU to parse.

TensorRT-RTX shares TensorRT's ONNX parser, its layers and their checks; what it has not is the plug-ins, so what those
bring is not asked. A parser is C++ and may crash, so it runs in a process of its own:

    python -m edgekit.exporters._tensorrt_parser MODEL
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("tensorrt_rtx", "tensorrt_rtx_bindings")
INSTALL = "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"
PLUGINS = frozenset({"DeformConv", "RoiAlign", "ScatterElements"})
"""Operators that TensorRT has as plug-ins, which TensorRT-RTX lacks."""
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the parser says."""

    parser: str  # "TensorRT-RTX 1.7.1's parser"
    refusals: tuple[str, ...]  # one line a node; empty: it takes the graph


def ask(model: Path) -> Answer | None:
    """Let the parser read an ONNX file; None where it is not installed, or crashes on it."""
    if not any(find_spec(name) is not None for name in PACKAGES):
        return None
    command = [sys.executable, "-P", "-m", __name__, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        return None
    answer = json.loads(done.stdout.splitlines()[-1])
    refusals = [item for item in answer["errors"] if item["operator"] not in PLUGINS]
    lines = tuple(
        f"{item['operator']}  ({item['node']})  {item['words']}" if item["operator"] else item["words"]
        for item in refusals
    )
    return Answer(f"TensorRT-RTX {answer['version']}'s parser", lines)


def _main(model: Path) -> None:
    from importlib import import_module

    from ..runtimes._tensorrt_build import Log

    trt = import_module(next(name for name in PACKAGES if find_spec(name) is not None))
    log = Log(trt)
    network = trt.Builder(log.native).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.native)
    errors = []
    if not parser.parse_from_file(str(model)):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        errors = [
            {"operator": item.node_operator(), "node": item.node_name(), "words": " ".join(item.desc().split())[:500]}
            for item in found
        ]
    print(json.dumps({"version": trt.__version__, "errors": errors}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
