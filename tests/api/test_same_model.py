from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.api.same_model import different_models
from edgekit.bundle import Bundle
from edgekit.contracts import TensorSpec
from edgekit.results import different_sources


def golden(seed: int, weight: float) -> list[Any]:
    x = np.random.default_rng(seed).standard_normal((1, 8)).astype(np.float32)
    return [({"x": x}, {"y": weight * x[:, :3]})]


@pytest.fixture
def made(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Callable[..., Bundle]:
    def make(name: str, **keywords: Any) -> Bundle:
        return make_bundle(tmp_path / f"{name}.edgekit", **keywords)

    return make


def test_two_precisions_of_one_model_are_one_model(made: Callable[..., Bundle]) -> None:
    source = {"spec": "elsewhere/net.onnx", "parameters": 24}
    a = made("a", golden=golden(0, 1.0))
    b = made("b", golden=golden(0, 1.0), changes={"precision": "int8", "source": source})
    assert different_models(a, b) is None, "the references of the same inputs agree, whatever the source is called"


def test_the_same_inputs_answered_differently_are_two_models(made: Callable[..., Bundle]) -> None:
    a, b = made("a", golden=golden(0, 1.0)), made("b", golden=golden(0, 1.1))
    said = "A and B are different models: their references answer the same golden inputs differently"
    assert different_models(a, b) == said


def test_other_inputs_are_another_model_and_a_free_size_is_not(made: Callable[..., Bundle]) -> None:
    a = made("a")
    wide = made("b", changes={"inputs": (TensorSpec("x", "float32", (1, 9)),)})
    free = made("c", changes={"inputs": (TensorSpec("x", "float32", ("batch", 8)),)})
    assert different_models(a, wide) == (
        "A and B are different models: their inputs are x float32 1x8 and x float32 1x9"
    )
    assert different_models(a, free) is None


def test_without_shared_inputs_the_sources_tell(made: Callable[..., Bundle]) -> None:
    a = made("a", golden=golden(0, 1.0), changes={"source": {"spec": "m.py:tiny", "parameters": 5418}})
    b = made("b", golden=golden(1, 1.0), changes={"source": {"spec": "m.py:tiny", "parameters": 24}})
    assert different_models(a, b) == "A and B are different models: they have 5,418 and 24 parameters"
    assert different_sources({"spec": "x/m.py:tiny", "parameters": 1}, {"spec": "m.py:tiny"}) is None
    assert different_sources({"spec": "m.py:tiny"}, {"spec": "m.py:other"}) == (
        "A and B may be different models: they were exported from m.py:tiny and m.py:other"
    )
    assert different_sources({}, {"spec": "m.py:other"}) is None
