"""Which outputs are inputs of the next run: as named, as found, and what is found nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgekit.contracts import StatePair, TensorSpec
from edgekit.errors import SourceError, UsageError
from edgekit.sources.load import load_source
from edgekit.sources.source import Source
from edgekit.sources.state import find_pairs, settle

FRAME, STATE = (1, 3), (1, 8)


def specs(*names: str | tuple[str, tuple[int | str, ...]]) -> list[TensorSpec]:
    """Of the state's shape, unless said."""
    return [TensorSpec(n, "float32", STATE) if isinstance(n, str) else TensorSpec(n[0], "float32", n[1]) for n in names]


def found(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> dict[str, str]:
    return {pair.input: pair.output for pair in find_pairs(inputs, outputs)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("state", "stateN"),
        ("state", "state_out"),
        ("state", "next_state"),
        ("state_in", "state_out"),
        ("in_state", "out_state"),
        ("prev_hidden", "hidden"),
        ("h", "hn"),
        ("h0", "hn"),
        ("h_0", "h_n"),
        ("hin", "hout"),
        ("lstm_c_in", "lstm_c_out"),
        ("cached_len_0", "new_cached_len_0"),
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_0", "present_key_0"),
        ("conv_cache", "conv_cache_out"),
        ("h", "output_1"),
    ],
)
def test_names_of_one_thing_at_two_times(before: str, after: str) -> None:
    assert found(specs(("x", FRAME), before), specs(("output", FRAME), after)) == {before: after}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("image_in", "image_out"),  # a picture and a better one
        ("image", "image_out"),  # what we call an output that has the name of an input
        ("input", "output"),
        ("hidden_states", "output"),  # a layer of a transformer
        ("hidden_states", "hidden_states_out"),
        ("hidden_states", "last_hidden_state"),
        ("state", "output"),  # a function of the state as much as the next one
        ("state_mask", "output_1"),
        ("past_key_0", "present_key_1"),
        ("past_key_0", "present_value_0"),
    ],
)
def test_names_that_say_no_such_thing(before: str, after: str) -> None:
    assert found(specs(("x", FRAME), before), specs(("y", FRAME), after)) == {}


def test_shape_and_dtype_must_be_the_same() -> None:
    assert found(specs(("x", FRAME), "state"), specs(("stateN", (1, 9)))) == {}
    assert found(specs(("x", FRAME), "state"), [TensorSpec("stateN", "float16", STATE)]) == {}
    growing = found(specs(("x", FRAME), ("past_key", ("b", "past"))), specs(("present_key", ("b", "past + 1"))))
    assert growing == {}
    # A dimension that an exporter left unnamed may be any: TorchScript's own name, ours.
    loose = found(specs(("x", FRAME), ("state", (2, "state_dim1", 8))), specs(("stateN", ("batch", "x_dim_1", 8))))
    assert loose == {"state": "stateN"}


def test_a_tuple_of_outputs_is_matched_in_order_where_the_numbers_agree() -> None:
    inputs = specs(("x", FRAME), "h", "c")
    assert found(inputs, specs(("output_0", FRAME), "output_1.0", "output_1.1")) == {
        "h": "output_1.0",
        "c": "output_1.1",
    }
    assert found(inputs, specs("output_0", "output_1", "output_2", "output_3")) == {}


def test_a_model_is_left_an_input_of_its_own() -> None:
    assert found(specs("state"), specs("stateN")) == {}


class Cell(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.GRUCell(3, 8)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> dict[str, torch.Tensor]:
        new = self.cell(x, memory)
        return {"y": new.sum(-1), "after": new}


def test_pairs_that_are_named() -> None:
    source = load_source((Cell().eval(), (torch.zeros(1, 3), torch.zeros(1, 8))))
    settle(source, [])
    assert not source.state
    settle(source, ["after=memory"])
    assert source.state == (StatePair("memory", "after"),)
    for text, words in (
        ("after", "does not have the form OUT=IN"),
        ("memory=after", "the output comes first. Write --state after=memory"),
        ("aftre=memory", "has no output 'aftre'. Did you mean 'after'?"),
        ("after=x", r"output 'after float32 1x8' cannot be fed as input 'x float32 1x3'"),
    ):
        fresh = load_source((Cell().eval(), (torch.zeros(1, 3), torch.zeros(1, 8))))
        with pytest.raises(UsageError, match=words):
            settle(fresh, [text])
    with pytest.raises(UsageError, match="'memory' is in another pair already"):
        settle(load_source((Cell().eval(), (torch.zeros(1, 3), torch.zeros(1, 8)))), ["after=memory", "after=memory"])


def test_nothing_is_found_where_none_is_wanted_and_a_files_state_begins_with_zeros(tmp_path: Path) -> None:
    made = {"x": FRAME, "state": STATE}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"]), onnx.helper.make_node("Neg", ["state"], ["stateN"])],
        "g",
        [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in made.items()],
        [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("y", FRAME), ("stateN", STATE))],
    )
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    source = load_source(path)
    settle(source, ["none"])
    assert not source.state and source.example["state"].any()
    settle(source, [])
    assert source.state == (StatePair("state", "stateN"),) and source.state_found == ("state",)
    assert not source.example["state"].any() and source.example["x"].any()


# Buffers


class Ring(torch.nn.Module):
    """A causal convolution that keeps its past."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = torch.nn.Conv1d(2, 2, 3)
        past = torch.full((1, 2, 2), 0.5)
        if how == "attribute":
            self.past = past
        elif how == "list":
            self.kept = [past]
        else:
            self.register_buffer("past", past)
        self.register_buffer("calls", torch.zeros(1))
        self.last = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1  # a counter that nothing reads
        self.last = x.mean()  # filled anew by every call
        if self.how == "list":
            full = torch.cat([self.kept[0], x], -1)
            self.kept[0].copy_(full[..., -2:])
        else:
            full = torch.cat([self.past, x], -1)
            if self.how == "grows":
                self.past = full
            elif self.how == "copy":
                self.past.copy_(full[..., -2:])
            else:
                self.past = full[..., -2:]
        return self.conv(full[..., -5:])


class Outer(torch.nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.ring = Ring(how)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.ring(x))


@pytest.mark.parametrize("how", ["copy", "assign", "attribute"])
def test_a_buffer_that_carries_something_over_is_an_input_and_an_output(how: str) -> None:
    torch.manual_seed(0)
    module = Outer(how).eval()
    frames = torch.randn(4, 1, 2, 3)
    source = load_source((module, frames[0]))
    assert source.state == (StatePair("ring.past", "ring.past_out", buffer=True),)
    assert [spec.name for spec in source.inputs] == ["x", "ring.past"]
    np.testing.assert_array_equal(source.initial["ring.past"], np.full((1, 2, 2), 0.5, "f4"))
    # The module itself, called frame after frame, by PyTorch alone.
    twin = Outer(how).eval()
    twin.load_state_dict(module.state_dict(), strict=False)
    feeds = dict(source.example)
    for frame in frames:
        with torch.no_grad():
            want = twin(frame)
        got = source.forward({**feeds, "x": frame.numpy()})
        np.testing.assert_allclose(got["output"], want.numpy(), rtol=1e-6)
        feeds["ring.past"] = got["ring.past_out"]
    np.testing.assert_array_equal(module.ring.past, np.full((1, 2, 2), 0.5, "f4"))  # the user's own is as it was
    assert [path for path, _ in source.layers(source.example)] == ["ring.conv", "ring"]


def test_state_that_a_graph_cannot_be_given_is_refused() -> None:
    frame = torch.randn(1, 2, 3)
    with pytest.raises(SourceError, match=r"overwrites a tensor in 'ring\.kept', which is a list or a dictionary"):
        load_source((Outer("list").eval(), frame))
    with pytest.raises(SourceError, match=r"leaves float32 \[1, 2, 5\] in the buffer 'ring\.past', which was"):
        load_source((Outer("grows").eval(), frame))


def test_an_exported_program_keeps_its_free_dimensions(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("h", torch.zeros(1, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.h.copy_(torch.tanh(x.mean(0, keepdim=True) + self.h))
            return self.h + x

    free = ({0: torch.export.Dim("b")},)
    torch.export.save(torch.export.export(Mean().eval(), (torch.ones(3, 4),), dynamic_shapes=free), tmp_path / "m.pt2")
    source = load_source(tmp_path / "m.pt2")
    assert [str(spec) for spec in source.inputs] == ["x float32 batchx4", "h float32 1x4"]
    assert source.state == (StatePair("h", "h_out", buffer=True),)
    first = source.forward({"x": np.ones((5, 4), "f4"), "h": np.zeros((1, 4), "f4")})
    again = source.forward({"x": np.ones((5, 4), "f4"), "h": np.zeros((1, 4), "f4")})
    np.testing.assert_array_equal(first["output"], again["output"])  # nothing is kept between two calls
    np.testing.assert_allclose(first["h_out"], np.tanh(np.ones((1, 4))), rtol=1e-6)


def test_a_state_without_a_name_is_hinted_at_and_not_taken() -> None:
    class Anonymous(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.sum(-1), 0.5 * y + x[:, :3]

    def loaded(*named: str) -> Source:
        source = load_source((Anonymous().eval(), (torch.randn(1, 4), torch.zeros(1, 3))))
        settle(source, named)
        return source

    assert not loaded().state and loaded().notes[-1].endswith("what the next run takes, name it: --state output_1=y")
    assert not loaded("none").notes
    stated = loaded("output_1=y")
    assert [(pair.output, pair.input) for pair in stated.state] == [("output_1", "y")] and not stated.notes
