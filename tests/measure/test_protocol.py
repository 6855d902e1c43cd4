from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.contracts import Artifact, NodePlacement, Placement, TensorSpec
from edgekit.errors import EdgekitError, EngineError, PlacementError
from edgekit.measure.protocol import (
    artifact_from_json,
    artifact_to_json,
    error_from_json,
    error_to_json,
    placement_from_json,
    placement_to_json,
    read_message,
    write_message,
)

JSON = st.dictionaries(st.text().filter(lambda key: key != "blobs"), st.integers() | st.text() | st.none())
BLOBS = st.lists(st.binary())


@given(st.lists(st.tuples(JSON, BLOBS)))
def test_messages_come_out_as_they_went_in(messages: list[tuple[dict[str, object], list[bytes]]]) -> None:
    stream = io.BytesIO()
    for header, blobs in messages:
        write_message(stream, header, blobs)
    stream.seek(0)
    assert [read_message(stream) for _ in messages] == messages
    assert read_message(stream) is None


@given(JSON, BLOBS, st.integers(0))
def test_a_message_that_is_cut_off_is_the_end(header: dict[str, object], blobs: list[bytes], cut: int) -> None:
    stream = io.BytesIO()
    write_message(stream, header, blobs)
    data = stream.getvalue()
    assert read_message(io.BytesIO(data[: cut % len(data)])) is None


def test_values_survive() -> None:
    spec = TensorSpec("x", "float32", ("batch", 3))
    artifact = Artifact(Path("/a/model.onnx"), "onnx", "int8", (spec,), (spec, spec))
    assert artifact_from_json(artifact_to_json(artifact)) == artifact
    placement = Placement((NodePlacement("n", "Conv", "CPU", "f32", "why"),), None)
    assert placement_from_json(placement_to_json(placement)) == placement


def test_a_relative_path_becomes_absolute() -> None:
    assert Path(artifact_to_json(Artifact(Path("m.onnx"), "onnx", "fp32", (), ()))["path"]) == Path.cwd() / "m.onnx"


def test_our_errors_keep_their_class_and_their_parts() -> None:
    error = error_from_json(error_to_json(PlacementError("2 nodes", details=["a", "b"], fix="Do it.")))
    assert type(error) is PlacementError
    assert str(error) == "2 nodes:\n  a\n  b\nDo it."


def test_other_errors_become_engine_errors() -> None:
    error = error_from_json(error_to_json(RuntimeError("first line\nsecond")))
    assert type(error) is EngineError
    assert str(error) == "RuntimeError: first line:\n  second"


@pytest.mark.parametrize("name", ["EdgekitErrors", "suggestion", "Sequence", "annotations"])
def test_a_class_that_is_none_of_ours_is_not_raised(name: str) -> None:
    error = error_from_json({"type": name, "what": "x", "details": [], "fix": ""})
    assert type(error) is EngineError
    assert isinstance(error, EdgekitError)
