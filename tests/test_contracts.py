from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.contracts import NodePlacement, Placement, Progress, Quiet, TensorSpec, Tolerance, describe, options_from
from edgekit.errors import UsageError

IMAGE = TensorSpec("image", "float32", ("batch", 3, 8, 8))


def test_spec_as_text() -> None:
    assert str(IMAGE) == "image float32 batchx3x8x8"
    assert str(TensorSpec("t", "int64", ())) == "t int64 scalar"


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), None),
        (np.zeros((2, 3, 8, 8), np.float64), "'image' must be float32, got float64"),
        (np.zeros((2, 3, 8, 9), np.float32), "'image' must have the shape batchx3x8x8, got 2x3x8x9"),
        (np.zeros((3, 8, 8), np.float32), "'image' must have the shape batchx3x8x8, got 3x8x8"),
        (np.float32(0), "'image' must have the shape batchx3x8x8, got scalar"),
    ],
)
def test_refuses_says_why(array: np.ndarray, reason: str | None) -> None:
    assert IMAGE.refuses(np.asarray(array)) == reason


def test_strings_come_in_several_dtypes() -> None:
    spec = TensorSpec("text", "string", (1,))
    assert spec.refuses(np.array(["a"])) is None
    assert spec.refuses(np.array(["a"], dtype=object)) is None
    assert spec.refuses(np.array([b"a"])) is None
    assert spec.refuses(np.array([1.0])) == "'text' must be string, got float64"


def test_dtypes_numpy_has_not() -> None:
    spec = TensorSpec("x", "bfloat16", (2,))
    assert spec.refuses(np.zeros(2, ml_dtypes.bfloat16)) is None
    assert spec.refuses(np.zeros(2, np.uint16)) == "'x' must be bfloat16, got uint16"


@given(st.lists(st.integers(0, 5), max_size=4))
def test_a_spec_takes_exactly_its_own_shape(shape: list[int]) -> None:
    array = np.zeros(shape, np.float32)
    assert TensorSpec("x", "float32", tuple(shape)).refuses(array) is None
    assert TensorSpec("x", "float32", (*shape, 1)).refuses(array) is not None
    free = tuple(f"d{axis}" for axis in range(len(shape)))
    assert TensorSpec("x", "float32", free).refuses(array) is None


def test_placement_counts_the_most_first() -> None:
    nodes = [NodePlacement("a", "Erf", "CPU"), *(NodePlacement(str(i), "Conv", "CUDA") for i in range(3))]
    assert list(Placement(tuple(nodes)).counts().items()) == [("CUDA", 3), ("CPU", 1)]


def test_tolerance_tells_only_what_is_stated() -> None:
    assert Tolerance(sqnr_db=20.0).to_json() == {"sqnr_db": 20.0}
    assert Tolerance(max_abs=0.0).to_json() == {"max_abs": 0.0}


def test_quiet_is_a_progress() -> None:
    assert isinstance(Quiet(), Progress)
    with Quiet().stage("x"):
        Quiet().step(1, 2, "note")


@dataclass(frozen=True)
class Options:
    threads: int = 0
    alpha: float = 0.5
    fast: bool = True
    name: str | None = None
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads must be >= 0, got {self.threads}")


def test_options_from_a_table() -> None:
    made = options_from(Options, {"threads": 2, "alpha": 1, "name": "x", "sizes": [1, 2]}, "here")
    assert made == Options(2, 1, True, "x", (1, 2))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"treads": 2}, "here has no option 'treads'. Did you mean 'threads'?"),
        ({"threads": "two"}, "here: 'threads' must be int, got 'two'"),
        ({"threads": True}, "here: 'threads' must be int, got True"),
        ({"threads": 1.5}, "here: 'threads' must be int, got 1.5"),
        ({"fast": 1}, "here: 'fast' must be bool, got 1"),
        ({"threads": None}, "here: 'threads' must be int, got None"),
        ({"threads": -1}, "here: threads must be >= 0, got -1"),
    ],
)
def test_options_refuse_what_they_do_not_know(table: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        options_from(Options, table, "here")
    assert str(caught.value) == text


def test_describe() -> None:
    assert describe(np.zeros((1, 3), np.int8)) == "int8 1x3"
    assert describe(np.float32(1)) == "float32 scalar"  # type: ignore[arg-type]
