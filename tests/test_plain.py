from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.plain import plain, to_json


def test_what_is_not_finite_is_null() -> None:
    assert json.loads(to_json({"a": float("nan"), "b": [float("inf"), 1.5]})) == {"a": None, "b": [None, 1.5]}


def test_numpy_paths_tuples_and_sets() -> None:
    value = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": Path("x/y"),
        "d": (1, 2),
        "e": frozenset({"b", "a"}),
        1: True,
    }
    assert plain(value) == {"a": 0.5, "b": [0, 1, 2], "c": "x/y", "d": [1, 2], "e": ["a", "b"], "1": True}


def test_refuses_what_has_no_json_form() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain({"a": object()})
