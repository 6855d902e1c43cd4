"""ONNX Runtime's TensorRT provider: the recipe as its options. Running it needs a GPU and a build that has it."""

from __future__ import annotations

import onnxruntime
import pytest

from edgekit.errors import EngineError
from edgekit.runtimes._tensorrt_recipe import Recipe, ShapeRange
from edgekit.runtimes.onnxruntime_tensorrt import PROVIDER, OnnxRuntimeTensorRt, provider_options

OPTIONS = OnnxRuntimeTensorRt.Options()


def test_the_recipe_as_the_provider_takes_it() -> None:
    shapes = {"ids": ShapeRange((1, 8), (1, 64), (4, 128)), "mask": ShapeRange((1, 8), (1, 64), (4, 128))}
    recipe = Recipe("int8", shapes, workspace_bytes=1 << 30, optimization_level=4, dla_core=1)
    assert provider_options(recipe, OPTIONS) == {
        "trt_fp16_enable": "1",
        "trt_int8_enable": "1",
        "trt_builder_optimization_level": "4",
        "trt_cuda_graph_enable": "0",
        "trt_max_workspace_size": str(1 << 30),
        "trt_dla_enable": "1",
        "trt_dla_core": "1",
        "trt_profile_min_shapes": "ids:1x8,mask:1x8",
        "trt_profile_opt_shapes": "ids:1x64,mask:1x64",
        "trt_profile_max_shapes": "ids:4x128,mask:4x128",
    }


@pytest.mark.parametrize(("precision", "half", "whole"), [("fp32", "0", "0"), ("fp16", "1", "0"), ("int8", "1", "1")])
def test_precisions(precision: str, half: str, whole: str) -> None:
    table = provider_options(Recipe(precision), OPTIONS)
    assert (table["trt_fp16_enable"], table["trt_int8_enable"]) == (half, whole)
    assert not any("profile" in key or "dla" in key for key in table)


def test_a_build_without_the_provider_is_told() -> None:
    if PROVIDER in onnxruntime.get_available_providers():
        pytest.skip(
            "this ONNX Runtime has the TensorRT provider; the test is about one without: pip install onnxruntime"
        )
    with pytest.raises(
        EngineError, match=rf"this ONNX Runtime has no {PROVIDER}, only .*CPUExecutionProvider"
    ) as caught:
        OnnxRuntimeTensorRt().version()
    assert "pip install onnxruntime-gpu tensorrt" in caught.value.fix


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="threads must be >= 0, got -1"):
        OnnxRuntimeTensorRt.Options(threads=-1)
