"""Record the API of TensorRT's Python packages, as far as the adapter uses it, into ``tensorrt_api.json``.

    python tests/runtimes/record_tensorrt_api.py 10.3.0:cu12 10.16.1.11:cu13 11.4.0.106:cu13

The bindings come from PyPI (``tensorrt-cuXX-bindings``); the libraries behind them do not. So each package is imported
by a Python of its wheel's version against empty libraries of their names, which is enough to ask its classes for their
members. Needs gcc, and the Python that `PYTHON` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PYTHON = os.environ.get("PYTHON", sys.executable)
TABLE = Path(__file__).with_name("tensorrt_api.json")
CLASSES = (
    "Builder", "BuilderFlag", "ComputeCapability", "DataType", "DeviceType", "EngineInspector",
    "ExecutionContextAllocationStrategy", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "ILogger",
    "INetworkDefinition", "IOptimizationProfile", "IOutputAllocator", "IProfiler", "IProgressMonitor", "ITensor",
    "ITimingCache", "LayerInformationFormat", "MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser",
    "ParserError", "ProfilingVerbosity", "Runtime", "TensorIOMode", "TensorLocation",
)  # fmt: skip
# What the bindings want of the libraries when they are loaded.
_STUB = "".join(
    f"void* {name}(void) {{ return 0; }}\n"
    for name in (
        "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
        "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
    )
)  # fmt: skip
_DUMP = """
import json, sys, tensorrt_bindings as trt
names = json.loads(sys.argv[1])
own = lambda cls: sorted(name for name in dir(cls) if not name.startswith("_"))
print(json.dumps({name: own(getattr(trt, name)) for name in names if hasattr(trt, name)}))
"""


def record(version: str, cuda: str) -> dict[str, list[str]]:
    """Class → its public members, of one version of the package."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tag = subprocess.run(
            [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        options = ["--no-deps", "--only-binary=:all:", "--python-version", tag, "--implementation", "cp"]
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28)]
        package = f"tensorrt-{cuda}-bindings=={version}"
        pip = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *options, *platforms, package]
        subprocess.run(pip, check=True)
        zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder)
        (folder / "stub.c").write_text(_STUB)
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            soname = f"lib{library}.so.{version.partition('.')[0]}"
            gcc = [
                "gcc",
                "-shared",
                "-fPIC",
                "-o",
                str(folder / soname),
                f"-Wl,-soname,{soname}",
                str(folder / "stub.c"),
            ]
            subprocess.run(gcc, check=True)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder)}
        command = [PYTHON, "-c", _DUMP, json.dumps(CLASSES)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    table = {version: record(version, cuda) for version, _, cuda in (item.partition(":") for item in sys.argv[1:])}
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
