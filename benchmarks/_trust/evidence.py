"""What is claimed without having been seen: calibration, no data, a source that is quantized already."""

from __future__ import annotations

import json
import logging

import numpy as np

from _trust.side import Outcome, Side


def calibration(side: Side, fault: str) -> Outcome:
    """The calibration has a fault that only its report can tell; the data to check on are sound."""
    draw = np.random.default_rng(7)
    sound = draw.standard_normal((48, 1, 3, 24, 24)).astype(np.float32)
    broken = {"outlier": sound.copy(), "zeros": np.zeros_like(sound), "one sample": sound[:1]}[fault]
    if fault == "outlier":
        broken[9, 0, 1, 5, 5] = 3e28
    np.savez(side.folder / "sound.npz", input=sound)
    np.savez(side.folder / "broken.npz", input=broken)
    data = ["--data", "sound.npz", "--calibration-data", "broken.npz"]
    done = side.export("nets.py:classifier", "cpu-onnxruntime", "it", *data, "--candidate", "onnxruntime int8 static")
    seen = (done.json.get("calibration") or {}).get("observed") or {}
    told = json.dumps([seen.get("warnings"), seen.get("constant"), seen.get("outliers")])
    if done.code:  # refused: the cause is in the message
        told = done.err
    shown = {
        "outlier": "input" in told and "sample 9" in told.replace('"sample": 9', "sample 9"),
        "zeros": "input" in told and ("0 in every sample" in told or bool(seen.get("constant"))),
        "one sample": "1 sample" in told or "the range of 1" in told,
    }[fault]
    named = {"outlier": "tensor and sample named", "zeros": "the constant tensor named", "one sample": "warned of"}[
        fault
    ]
    end = "refused" if done.code == 4 else done.picked
    return Outcome(f"{end}, " + (named if shown else "nothing said of the calibration"), shown and not done.broke)


def no_data(side: Side) -> Outcome:
    """Nothing but a made-up input was seen."""
    done = side.export("nets.py:wide", "cpu-onnxruntime", "wide")
    if done.code:
        return Outcome(done.said, not done.broke)
    found = done.json
    precision = next(item["precision"] for item in found["candidates"] if item["name"] == found["chosen"])
    return Outcome(f"{done.picked} on one made-up input", precision in ("fp32", "fp16", "bf16"))


def quantized_source(side: Side) -> Outcome:
    """An .onnx file with QuantizeLinear and DequantizeLinear inside, made by ONNX Runtime's own quantizer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    draw = np.random.default_rng(8)
    weights = [draw.standard_normal(shape).astype(np.float32) for shape in ((20, 40), (40, 6))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "b"], ["y"]),
        ],
        "two_layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(value, name) for value, name in zip(weights, "ab", strict=True)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), side.folder / "float.onnx"
    )
    data = draw.standard_normal((32, 1, 20)).astype(np.float32)
    np.savez(side.folder / "data.npz", x=data)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(data)

        def get_next(self) -> dict[str, object] | None:
            value = next(self.left, None)
            return None if value is None else {"x": value}

    logging.getLogger().setLevel(logging.ERROR)  # its advice on pre-processing
    quantize_static(
        str(side.folder / "float.onnx"), str(side.folder / "int8.onnx"), Reader(), quant_format=QuantFormat.QDQ
    )
    done = side.export("int8.onnx", "cpu-onnxruntime", "int8", "--data", "data.npz")
    if done.code:
        return Outcome(done.said, False)
    source, reference = done.json["source"], (done.json.get("parity") or {}).get("reference", "PyTorch")
    precision, parameters = source.get("precision", "fp32"), source.get("parameters")
    right = "int8" in str(precision) and parameters == 20 * 40 + 40 * 6 and "PyTorch" not in str(reference)
    return Outcome(f"{done.picked}, source told as {precision} of {parameters} parameters (1,040), {reference}", right)
