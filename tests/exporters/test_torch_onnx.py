"""PyTorch → graph: names, shapes, values, what is left out, and what is said when it cannot be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgekit.contracts import Feeds
from edgekit.errors import SourceError
from edgekit.exporters import GraphRequest, _failure
from edgekit.exporters.torch_onnx import PLUGIN
from edgekit.graph import MODULE_PATH
from edgekit.sources.load import load_source
from edgekit.sources.source import Source

BAD = """
import torch

class Inner(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.register_buffer("calls", torch.zeros(1))
    def forward(self, x):
        return getattr(self, self.kind)(x)
    def branch(self, x):
        if x.sum() > 0:
            return x + 1
        return x - 1
    def numpy(self, x):
        return x + torch.from_numpy(x.detach().numpy())
    def missing(self, x):
        return torch.linalg.eigvalsh(x @ x.T)
    def view(self, x):
        return x.view(3, 4)
    def multiple(self, x):
        return x.view(-1, 2, 4)
    def count(self, x):
        self.calls += 1
        return x
    def ring(self, x):
        self.calls += 1
        return x + torch.where(self.calls > 1000.0, 1.0, 0.0)

class Net(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 4), Inner(kind))
    def forward(self, x):
        return self.body(x)

def build(kind, rows=3):
    return Net(kind), torch.randn(rows, 4)

class Packed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(4, 3, batch_first=True)
    def forward(self, x, lengths):
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=5)[0]

def packed():
    return Packed(), (torch.randn(2, 5, 4), torch.tensor([5, 3]))

class Wave(torch.nn.Module):
    def forward(self, wave):
        window = torch.hann_window(32)
        spectrum = torch.stft(wave, 32, 8, window=window, return_complex=True)
        return torch.istft(spectrum * 0.5, 32, 8, window=window, length=128)

def wave():
    return Wave(), torch.randn(1, 128)

class Loop(torch.nn.Module):
    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(x)
        return x

def scripted():
    return torch.jit.script(Loop()), torch.randn(2, 8)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(source: Source, folder: Path) -> ir.Model:
    model = PLUGIN().to_graph(source, GraphRequest(20, folder / "report.txt"))
    assert isinstance(model, ir.Model)
    return model


def check(source: Source, model: ir.Model, folder: Path, feeds: Feeds | None = None) -> None:
    """The graph takes and gives what the source says, and ONNX Runtime computes what PyTorch does."""
    assert [str(value.name) for value in model.graph.inputs] == [item.name for item in source.inputs]
    assert [str(value.name) for value in model.graph.outputs] == [item.name for item in source.outputs]
    for value, item in zip([*model.graph.inputs, *model.graph.outputs], [*source.inputs, *source.outputs], strict=True):
        assert value.shape is not None and value.dtype is not None
        assert tuple(d if isinstance(d, int) else d.value for d in value.shape) == item.shape
        assert value.dtype.numpy().name == item.dtype
    names = [node.name for node in model.graph.all_nodes()]
    assert len(set(names)) == len(names) and all(names)
    path = folder / "model.onnx"
    ir.save(model, path)
    session = onnxruntime.InferenceSession(str(path))
    feeds = source.example if feeds is None else feeds
    got = session.run([item.name for item in source.outputs], dict(feeds))
    for (name, want), have in zip(source.forward(feeds).items(), got, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5, err_msg=name)


class Tree(torch.nn.Module):
    """Several inputs of several dtypes, one of them unused; a tree of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, unused: torch.Tensor) -> dict[str, object]:
        hidden = self.block(self.embed(ids)) * mask[..., None]
        return {"hidden": hidden, "parts": [hidden.sum(), ids], "none": None}


def test_a_tree_of_outputs_and_every_input(tmp_path: Path) -> None:
    example = (torch.ones(2, 3, dtype=torch.int64), torch.tensor([[True, False, True]] * 2), torch.zeros(1))
    source = load_source((Tree(), example))
    assert [item.name for item in source.outputs] == ["hidden", "parts.0", "parts.1"]
    model = export(source, tmp_path)
    assert [value.name for value in model.graph.inputs] == ["ids", "mask", "unused"]
    check(source, model, tmp_path)


def test_free_dimensions(tmp_path: Path) -> None:
    example = (torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1))
    source = load_source((Tree(), example), dynamic=["ids:0", "mask:0", "ids:1=seq", "mask:1=seq"])
    model = export(source, tmp_path)
    feeds = {"ids": np.full((5, 7), 2), "mask": np.ones((5, 7), bool), "unused": np.zeros(1, "f4")}
    check(source, model, tmp_path, feeds)
    assert source.outputs[0].shape == ("batch", "seq", 4)


def test_module_paths_and_no_paths_of_files(tmp_path: Path) -> None:
    source = load_source((Tree(), (torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3).bool(), torch.zeros(1))))
    model = export(source, tmp_path)
    paths = {node.op_type: node.metadata_props.get(MODULE_PATH) for node in model.graph}
    assert paths["Gather"] == "embed" and paths["Relu"] == "block.1"
    text = str(ir.to_proto(model))
    for secret in (__file__, "site-packages", "pkg.torch", "stack_trace", "namespace"):
        assert secret not in text


class Same(torch.nn.Module):
    """Outputs that are inputs, weights, or each other, and names that inner values already have."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.linear(x)
        return {"x": y, "linear": y, "again": x, "linear.weight": self.linear.weight, "add": torch.relu(y + 1)}


def test_names_that_collide(tmp_path: Path) -> None:
    source = load_source((Same(), torch.randn(2, 4)))
    assert [item.name for item in source.outputs] == ["x_out", "linear", "again", "linear.weight", "add"]
    check(source, export(source, tmp_path), tmp_path)


def test_the_same_names_every_time(tmp_path: Path) -> None:
    def names() -> list[str]:
        source = load_source((Same(), torch.randn(2, 4)))
        return [str(node.name) for node in export(source, tmp_path).graph]

    assert names() == names()


def test_exported_program(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.Tanh()))
    program = torch.export.export(module, (torch.randn(2, 3),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    source = load_source(tmp_path / "net.pt2")
    model = export(source, tmp_path)
    check(source, model, tmp_path, {"input": np.ones((5, 3), "f4")})
    assert [node.metadata_props[MODULE_PATH] for node in model.graph] == ["0", "1.0"]


def test_recurrent_layers(tmp_path: Path) -> None:
    source = load_source((torch.nn.LSTM(3, 4, batch_first=True), torch.randn(2, 5, 3)), dynamic=["input:0"])
    assert [item.name for item in source.outputs] == ["output_0", "output_1.0", "output_1.1"]
    model = export(source, tmp_path)
    assert "LSTM" in {node.op_type for node in model.graph}
    check(source, model, tmp_path, {"input": np.ones((3, 5, 3), "f4")})


def test_weights_are_not_copied(tmp_path: Path) -> None:
    module = torch.nn.Linear(64, 64)
    model = export(load_source((module.eval(), torch.randn(1, 64))), tmp_path)
    before = model.graph.initializers["model.weight"].const_value
    assert before is not None
    with torch.no_grad():
        module.weight.fill_(7)
    assert (before.numpy() == 7).all()


def test_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export(load_source("net.py:build?kind=count"), folder)
    with pytest.raises(SourceError):
        export(load_source("net.py:build?kind=branch"), folder)
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


# What cannot be exported


def failure(folder: Path, kind: str, **options: object) -> list[str]:
    with pytest.raises(SourceError) as caught:
        export(load_source(f"net.py:build?kind={kind}", **options), folder)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


def test_a_branch_on_data_is_not_baked_in(folder: Path) -> None:
    lines = failure(folder, "branch")
    assert lines[0].startswith("net.py:build?kind=branch cannot be exported: its Python code decides on the values")
    assert lines[1:4] == [
        "  module    body.1 (Inner)",
        "  line      net.py:12 in branch: if x.sum() > 0:",
        "  operator  aten.item.default",
    ]
    assert lines[-2] == f"  report    {folder / 'report.txt'}"
    assert "torch.where(condition, a, b)" in lines[-1]
    report = (folder / "report.txt").read_text()
    assert "GuardOnDataDependentSymNode" in report and "if x.sum() > 0" in report


def test_an_operator_that_onnx_lacks(folder: Path) -> None:
    lines = failure(folder, "missing")
    assert lines[0].endswith("ONNX has no operator for aten._linalg_eigh.default:")
    assert "  module    body.1 (Inner)" in lines
    assert "  line      net.py:10 in forward: return getattr(self, self.kind)(x)" in lines  # torch keeps forwards only
    assert "The captured program:" in (folder / "report.txt").read_text()


def test_a_tensor_taken_to_numpy(folder: Path) -> None:
    lines = failure(folder, "numpy")
    assert "takes a tensor to numpy" in lines[0]
    assert any("net.py:16 in numpy" in line for line in lines)


def test_a_packed_sequence(folder: Path) -> None:
    with pytest.raises(SourceError) as caught:
        export(load_source("net.py:packed"), folder)
    assert "it packs a batch by its lengths (pack_padded_sequence)" in str(caught.value)
    assert "  module    rnn (GRU)" in str(caught.value).splitlines()
    assert caught.value.fix.startswith("Give the layer the padded batch")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_torchscript(folder: Path) -> None:
    with pytest.raises(SourceError, match="it holds TorchScript, which") as caught:
        export(load_source("net.py:scripted"), folder)
    assert "instead of torch.jit.load or torch.jit.script" in caught.value.fix


def test_what_torch_writes_with_indices_that_onnx_does_not_allow(folder: Path) -> None:
    source = load_source("net.py:wave")
    model = PLUGIN().to_graph(source, GraphRequest(20, folder / "report.txt"))
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (got,) = session.run(None, dict(source.example))
    np.testing.assert_allclose(got, source.example["wave"] * 0.5, atol=1e-5)


def test_a_free_dimension_that_the_model_fixes(folder: Path) -> None:
    lines = failure(folder, "view", dynamic=["x:0"])
    assert lines[0].endswith("a dimension that was asked to be free is made constant by the model:")
    assert lines[1] == "  dimension 0 of input 'x' ('batch') is made constant: 3"
    assert lines[2] == "  line      net.py:20 in view: return x.view(3, 4)"


def test_an_output_dimension_that_follows_from_an_input(folder: Path) -> None:
    source = load_source("net.py:build?kind=multiple&rows=4", dynamic=["x:0"])
    assert source.outputs[0].shape == ("(batch//2)", 2, 4)
    check(source, export(source, folder), folder, {"x": np.ones((6, 4), "f4")})


def test_state_that_matters_becomes_an_input_and_a_counter_does_not(folder: Path) -> None:
    source = load_source("net.py:build?kind=count")
    assert not source.state
    check(source, export(source, folder), folder)
    source = load_source("net.py:build?kind=ring")
    assert [(pair.input, pair.output) for pair in source.state] == [("body.1.calls", "body.1.calls_out")]
    check(source, export(source, folder), folder, {**source.example, "body.1.calls": np.full(1, 3, "f4")})


def test_a_report_that_cannot_be_written_hides_nothing(folder: Path) -> None:
    (folder / "file").touch()
    source = load_source("net.py:build?kind=branch")
    with pytest.raises(SourceError, match="report    could not be written to") as caught:
        PLUGIN().to_graph(source, GraphRequest(20, folder / "file" / "report.txt"))
    assert "decides on the values of a tensor" in str(caught.value)


def test_every_known_cause_says_what_helps() -> None:
    for cause in _failure.CAUSES:
        assert cause.pattern and cause.what and cause.fix and not cause.fix.endswith(".")


@pytest.mark.slow
def test_a_model_above_2_gb(tmp_path: Path) -> None:
    """2.2 GB of weights go to a graph and to a file without a second copy in memory (protobuf itself stops at 2 GB)."""
    import resource

    with torch.no_grad():
        table = torch.nn.Embedding(1_100_000, 512, _weight=torch.zeros(1_100_000, 512))
    source = load_source((table.eval(), torch.ones(1, 4, dtype=torch.int64)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = export(source, tmp_path)
    path = tmp_path / "big.onnx"
    ir.save(model, path, external_data="big.onnx.data")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (tmp_path / "big.onnx.data").stat().st_size >= 1_100_000 * 512 * 4
    assert grown < 1200, f"{grown:.0f} MiB"
    opened = load_source(path)
    assert opened.parameters == 1_100_000 * 512
