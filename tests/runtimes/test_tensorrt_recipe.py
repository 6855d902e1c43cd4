"""recipe.json: what it says is what is read, and nothing half read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.errors import EngineError
from edgekit.runtimes._tensorrt_recipe import RECIPE, Recipe, ShapeRange, numbers, read_recipe

FULL = Recipe(
    "int8",
    {"x": ShapeRange((1, 3, 8, 8), (4, 3, 8, 8), (16, 3, 8, 8))},
    workspace_bytes=1 << 28,
    optimization_level=5,
    tf32=True,
    timing_cache=False,
    dla_core=1,
    gpu_fallback=True,
    tensorrt_min="10.7",
)


@pytest.mark.parametrize("recipe", [Recipe("fp16"), FULL])
def test_it_comes_back_as_it_was_written(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / RECIPE).write_bytes(recipe.dumps())
    assert read_recipe(tmp_path) == recipe
    assert read_recipe(tmp_path).sha256 == recipe.sha256


def test_every_field_changes_the_hash() -> None:
    table = json.loads(FULL.dumps())
    assert len({FULL.sha256, Recipe("int8").sha256, Recipe("fp16").sha256}) == 3
    assert set(table) == {"schema", *Recipe.__dataclass_fields__}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist: there is no recipe to build a plan from"),
        ("{", "cannot be used: Expecting"),
        ("[]", "its schema is not 1"),
        ('{"schema": 2}', "its schema is not 1"),
        ('{"schema": 1, "precision": "fp16"}', "cannot be used: 'profiles'"),
        ('{"schema": 1, "precision": "fp16", "profiles": {}, "dla": 1}', "unexpected keyword argument 'dla'"),
        (
            '{"schema": 1, "precision": "fp16", "profiles": {"x": {"min": [4], "opt": [2], "max": [8]}}}',
            "1 <= min <= opt <= max must hold",
        ),
    ],
)
def test_a_recipe_that_cannot_be_used_says_why(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / RECIPE).write_text(text)
    with pytest.raises(EngineError, match=message.replace("(", r"\(")):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("low", "usual", "high"), [((2,), (1,), (3,)), ((1,), (4,), (3,)), ((0,), (1,), (2,)), ((1, 1), (1,), (1,))]
)
def test_shapes_out_of_order_are_refused(low, usual, high) -> None:
    with pytest.raises(ValueError, match="1 <= min <= opt <= max must hold"):
        ShapeRange(low, usual, high)


def test_an_older_tensorrt_is_refused_a_newer_one_is_not() -> None:
    recipe = Recipe("fp16")
    assert recipe.refuses("8.6.1") == "TensorRT 8.6.1 is older than 10.3, the oldest that takes this graph"
    assert recipe.refuses("10.3.0") is None and recipe.refuses("10.16.1.11") is None
    assert recipe.refuses("11.4.0.106") is None
    assert numbers("10.16.1.11") == (10, 16)
