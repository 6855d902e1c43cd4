"""What varies from frame to frame where nobody gave any, and what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.accuracy.made_up_frames import frame, signals
from edgekit.accuracy.reference import Reference
from edgekit.accuracy.rollout import ONE, roll_out
from edgekit.contracts import Array, Feeds, Outputs, Quiet
from edgekit.sources.load import load_source
from edgekit.sources.source import Source
from edgekit.sources.state import settle

SIGNAL = np.random.default_rng(0).normal(size=(1, 4)).astype("f4")


@pytest.mark.parametrize(
    ("example", "names"),
    [
        ({"x": SIGNAL, "sr": np.array(16000), "state": SIGNAL}, ["x"]),
        ({"x": SIGNAL, "ids": np.arange(4), "lengths": np.array([4])}, ["x"]),
        ({"x": SIGNAL, "mask": np.array([[1.0, 1, 0, 0]], "f4"), "scale": np.full(4, 0.5, "f4")}, ["x"]),
        ({"x": SIGNAL, "y": SIGNAL.astype("f2"), "threshold": np.array([0.5], "f4")}, ["x", "y"]),
        ({"x": SIGNAL, "bias": np.zeros((1, 4), "f4")}, ["x"]),
        ({"x": np.zeros((1, 4), "f4"), "sr": np.array([16000])}, ["x"]),
        ({"ids": np.arange(4), "x": np.array([[0.5]], "f4")}, []),
    ],
)
def test_what_varies(example: Feeds, names: list[str]) -> None:
    assert list(signals(example, {"state"})) == names


@given(
    arrays(
        st.sampled_from(["f2", "f4", "f8"]), (3, 5), elements=st.floats(-100, 100, width=16, allow_subnormal=False)
    ).filter(lambda array: np.ptp(array) > 0.1)
)
def test_a_frame_keeps_to_the_examples_range_and_is_the_same_again(x: Array) -> None:
    example = {"x": x, "sr": np.array(16000)}
    np.testing.assert_array_equal(frame(example, ["x"], 0)["x"], x)
    one, two = frame(example, ["x"], 1), frame(example, ["x"], 2)
    assert one["x"].dtype == x.dtype and one["x"].min() >= x.min() and one["x"].max() <= x.max()
    assert (one["x"] != two["x"]).any() and one["sr"] == 16000
    np.testing.assert_array_equal(frame(example, ["x"], 1)["x"], one["x"])


def summing() -> Source:
    import torch

    class Root(torch.nn.Module):
        """NaN where a frame holds anything below 0."""

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y": h.sum(-1) + x.sqrt().sum(-1), "hn": 0.5 * h + x}

    return load_source((Root().eval(), (torch.zeros(1, 4), torch.zeros(1, 4))))


def test_frames_that_the_reference_has_no_answer_to_are_not_held_against_the_model(tmp_path: Path) -> None:
    source = summing()
    settle(source, [])
    assert [pair.input for pair in source.state] == ["h"]
    seen: list[Outputs] = []

    def folder(name: str) -> Path:
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        return path

    reference = Reference("PyTorch", lambda feeds: seen.append(dict(feeds)) or source.forward(feeds))  # type: ignore[func-returns-value]
    rolled = roll_out(None, source, reference, 5, folder, Quiet())
    assert (rolled.frames, rolled.varied, len(rolled)) == (ONE, False, 5)
    assert any(feeds["x"].any() for feeds in seen)  # noise was tried
    source.example["x"] = np.arange(1, 5, dtype="f4")[None]
    rolled = roll_out(None, source, reference, 5, folder, Quiet())
    assert rolled.varied and rolled.frames == "made-up frames (noise in x, of the example's range)"
    frames = [sample.feeds["x"] for sample in rolled.expected.first(5)]
    assert len({array.tobytes() for array in frames}) == 5
