"""Put every ONNX node test to our rules and to NVIDIA's parser; print a line of JSON each. A process of its own: the
parser may crash, and writes to standard error.
"""

from __future__ import annotations

import json
import warnings

import onnx_ir as ir
from onnx.backend.test.loader import load_model_tests

from edgekit.exporters._tensorrt_rules import Plan, check
from edgekit.runtimes._tensorrt_build import Log
from edgekit.runtimes.tensorrt_rtx import TensorRtRtx


def main() -> None:
    warnings.simplefilter("ignore")
    trt = TensorRtRtx().load()
    log = Log(trt)
    builder = trt.Builder(log.native)
    for case in load_model_tests(kind="node"):
        model = case.model
        if any(item.domain in ("ai.onnx.ml", "ai.onnx.preview.training") for item in model.opset_import):
            continue
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log.native)
        takes = bool(parser.parse(model.SerializeToString()))
        words = " | ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        log.take()
        graph = ir.serde.deserialize_model(model)
        # Free dimensions and newest opsets are what these tests happen to be written with.
        found = [str(item) for item in check(graph, Plan(oldest=(11, 4))) if item.rule not in ("opset", "profile")]
        print(json.dumps({"name": case.name, "takes": takes, "words": words, "found": found}))


if __name__ == "__main__":
    main()
