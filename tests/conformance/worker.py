"""Runs onnx's backend node tests through one engine, twice: the engine's plain API, and edgekit's adapter.

Called by test_onnx_backend.py in a process of its own, because an engine may crash:
``python worker.py ENGINE CASE…``. Prints the names of all cases as JSON; then the name of each before it runs and
its outcome as a line of JSON after.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from edgekit.accuracy.parity import ParityCheck
from edgekit.contracts import Artifact, TensorSpec, Tolerance
from edgekit.measure.engines import load_runtime

# What a bundle must hold (targets/cpu-base.toml) where an output is float32, or bfloat16; and, element by element, what
# onnx's own comparison of the case asks for (two units in the last place of bfloat16).
FP32_REL_L2 = 1e-3
BF16_REL_L2 = 1e-2
BF16_RTOL = 2.0**-6


def main(engine: str, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    # Engines print to stderr from C++; only the protocol matters.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    np.random.seed(0)  # some cases draw their inputs from numpy's global generator
    cases = {case.name: case for case in load_model_tests(kind="node")}
    print(json.dumps(names or list(cases)), flush=True)
    for name in names or cases:
        print(name, flush=True)
        print(json.dumps(run_case(engine, cases[name])), flush=True)


def run_case(engine: str, case: Any) -> dict[str, Any]:
    ((inputs, expected),) = case.data_sets
    model = case.model
    feeds = {item.name: value(each) for item, each in zip(model.graph.input, inputs, strict=True)}
    reference = [value(each) for each in expected]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        bare = outcome(lambda: BARE[engine](path, feeds), reference, case)
        named = {item.name: array for item, array in zip(model.graph.output, reference, strict=True)}
        ours = through_edgekit(engine, Artifact(path, "onnx", "fp32", *specs(model)), feeds, named, case)
    return {"bare": bare, "edgekit": ours}


def through_edgekit(
    engine: str, artifact: Artifact, feeds: dict[str, Any], expected: dict[str, Any], case: Any
) -> dict[str, Any]:
    runtime = load_runtime(engine)
    session: Any = None

    def run() -> list[Any]:
        nonlocal session
        session = runtime.open(artifact, runtime.Options(threads=1))
        return list(session.run(feeds).values())

    found = outcome(run, list(expected.values()), case)
    if found["outcome"] in ("pass", "wrong"):
        tolerance = Tolerance(rel_l2=FP32_REL_L2, atol=case.atol, rtol=case.rtol)
        if any(item.dtype == "bfloat16" for item in artifact.outputs):
            tolerance = Tolerance(rel_l2=BF16_REL_L2, atol=case.atol, rtol=max(case.rtol, BF16_RTOL))
        check = ParityCheck(tolerance, "the expected outputs")
        check.add(expected, session.run(feeds))
        report = check.report()
        found |= {"verified": report.passed, "misses": list(report.misses), "rel_l2": str(report.rel_l2)}
    return found


def outcome(run: Callable[[], list[Any]], expected: list[Any], case: Any) -> dict[str, Any]:
    """``pass``, ``wrong`` by onnx's own comparison and tolerances, or ``refuse`` with the error."""
    try:
        got = run()
    except Exception as error:  # noqa: BLE001 (whatever the engine raises is its refusal)
        return {"outcome": "refuse", "error": type(error).__name__, "why": str(error)[:300]}
    try:
        assert_similar(expected, got, case)
    except (AssertionError, TypeError, AttributeError) as error:
        return {"outcome": "wrong", "why": " ".join(str(error).split())[:300]}
    return {"outcome": "pass"}


def assert_similar(expected: Any, got: Any, case: Any) -> None:
    """onnx's comparison, element by element of a list: onnx's own cannot take a sequence of scalars."""
    if isinstance(expected, (list, tuple)) and isinstance(got, (list, tuple)):
        assert len(expected) == len(got), f"{len(got)} values, expected {len(expected)}"
        for one, other in zip(expected, got, strict=True):
            assert_similar(one, other, case)
    elif expected is None or got is None:
        assert expected is got, f"{got}, expected {expected}"
    else:
        Runner.assert_similar_outputs([expected], [np.asarray(got)], rtol=case.rtol, atol=case.atol)


def bare_onnxruntime(path: Path, feeds: dict[str, Any]) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@functools.cache
def openvino_core() -> Any:
    import openvino

    return openvino.Core()


def bare_openvino(path: Path, feeds: dict[str, Any]) -> list[Any]:
    core = openvino_core()
    model = core.compile_model(
        core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    found = model(list(feeds.values()))
    return [found[i] for i in range(len(model.outputs))]


BARE = {"onnxruntime": bare_onnxruntime, "openvino": bare_openvino}


def specs(model: onnx.ModelProto) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    return tuple(map(spec, model.graph.input)), tuple(map(spec, model.graph.output))


def spec(item: onnx.ValueInfoProto) -> TensorSpec:
    if not item.type.HasField("tensor_type"):
        return TensorSpec(item.name, item.type.WhichOneof("value") + "()", ())
    tensor = item.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return TensorSpec(item.name, "string" if dtype == "object" else dtype, shape)


def value(item: Any) -> Any:
    """What onnx's cases hold (arrays, scalars, TensorProto, lists, None) as arrays."""
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    if isinstance(item, list):
        return [value(each) for each in item]
    return item if item is None else np.asarray(item)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
