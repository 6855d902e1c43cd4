"""Every exporter that is found passes the kit that plug-in authors use: a new one is tested by being there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgekit import plugins
from edgekit.contracts import Artifact, Runtime, Session, Tolerance
from edgekit.errors import EngineError
from edgekit.exporters import ArtifactExporter, GraphExporter, GraphRequest, ProgramExporter
from edgekit.sources.load import load_source
from edgekit.sources.source import Source
from edgekit.testing.exporters import (
    ArtifactCase,
    ArtifactExporterConformance,
    GraphCase,
    GraphExporterConformance,
    ProgramCase,
    ProgramExporterConformance,
)

# float32 throughout, sums of up to 36 terms: rounding stays under 1e-6 relative.
FLOAT32 = Tolerance(rel_l2=1e-6)
ELSEWHERE = {"qnn_context": "test_qnn_context.py: it compiles float16 and integers alone"}
"""Exporters that the model below cannot try, and what tries them instead."""
STAND_INS = {"tensorrt": "onnxruntime"}
"""Formats whose engine needs a device → the runtime that reads them as well, as the targets' ``check_with`` has it."""
INSTALL = {"litert": "pip install --no-deps -r constraints-litert.txt"}
FOUND = {name: plugins.load("exporters", name)() for name in plugins.names("exporters") if name not in ELSEWHERE}


def of_kind(kind: type) -> list[str]:
    return [name for name, item in FOUND.items() if isinstance(item, kind)]


class Net(torch.nn.Module):
    """Two inputs of two dtypes, two outputs of two dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.embedding = torch.nn.Embedding(7, 8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.conv(image).relu().mean((2, 3)) + self.embedding(ids))
        return {"logits": logits, "best": logits.argmax(1)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """A small model in every kind of source that an exporter may take."""
    folder: Path = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    net = Net().eval()
    example = (torch.randn(2, 3, 8, 8), torch.tensor([3, 5]))
    torch.export.save(torch.export.export(net, example), folder / "net.pt2")
    exported = torch.onnx.export(
        net, example, input_names=["image", "ids"], output_names=["logits", "best"], dynamo=True, verbose=False
    )
    assert exported is not None
    ir.save(exported.model, folder / "net.onnx")
    _save_bert(folder / "bert")
    return {
        "factory": load_source((net, example)),
        "exported-program": load_source(folder / "net.pt2"),
        "onnx": load_source(folder / "net.onnx"),
        "huggingface": load_source(folder / "bert"),
    }


@pytest.fixture(scope="module")
def net(sources: dict[str, Source], tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    """The graph for all artifact exporters, none of which may change it."""
    request = GraphRequest(20, tmp_path_factory.mktemp("net") / "report.md")
    graph: ir.Model = plugins.load("exporters", "torch_onnx")().to_graph(sources["factory"], request)
    graph.graph.name = "net"
    return graph


def _save_bert(folder: Path) -> None:
    transformers = pytest.importorskip("transformers", reason='pip install -c constraints.txt -e ".[hf]"')
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)


class _StandIn:
    """A runtime that takes another's format for its own."""

    def __init__(self, runtime: Runtime, format: str) -> None:
        self.name, self.install, self.Options = runtime.name, runtime.install, runtime.Options
        self.formats, self.version = (format,), runtime.version
        self._runtime = runtime

    def open(self, artifact: Artifact, options: Any) -> Session:
        return self._runtime.open(dataclasses.replace(artifact, format=self._runtime.formats[0]), options)


def engine_for(format: str) -> Runtime:
    """An adapter whose engine is installed and opens the format."""
    if format in STAND_INS:
        return _StandIn(plugins.load("runtimes", STAND_INS[format])(), format)
    known = [plugins.load("runtimes", name)() for name in plugins.names("runtimes") if name != "null"]
    opens = [item for item in known if format in item.formats]
    assert opens, f"no runtime opens '{format}'"
    why = ""
    for item in opens:
        try:
            item.version()
        except EngineError as error:
            why = str(error)
        else:
            return item
    pytest.skip(why)


def needs_converter(name: str) -> None:
    from importlib import metadata

    for package in getattr(FOUND[name], "packages", ()):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed: {INSTALL.get(name, f'pip install -c constraints.txt {package}')}")


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in of_kind(GraphExporter) for kind in FOUND[name].kinds]
)
class TestGraphExporters(GraphExporterConformance):
    exported: ClassVar[dict[tuple[str, str], ir.Model]] = {}

    @pytest.fixture
    def graph(self, case: GraphCase, name: str, kind: str, tmp_path: Path) -> ir.Model:
        """Once for all tests, none of which changes it."""
        if (name, kind) not in self.exported:
            self.exported[name, kind] = case.exporter.to_graph(case.source, GraphRequest(20, tmp_path / "report.md"))
        return self.exported[name, kind]

    @pytest.fixture
    def case(self, name: str, kind: str, sources: dict[str, Source]) -> GraphCase:
        assert kind in sources, f"exporter '{name}' takes sources of kind '{kind}': add one to the fixture `sources`"
        source = sources[kind]
        expected = sources["factory"].forward(source.example) if kind == "onnx" else None
        # BERT's layer of 16 numbers is normalised twice: 1e-5.
        return GraphCase(
            FOUND[name], source, 20, Tolerance(rel_l2=1e-5) if kind == "huggingface" else FLOAT32, expected
        )


@pytest.mark.parametrize("name", of_kind(ArtifactExporter))
class TestArtifactExporters(ArtifactExporterConformance):
    @pytest.fixture
    def case(self, name: str, sources: dict[str, Source], net: ir.Model) -> ArtifactCase:
        needs_converter(name)
        source = sources["factory"]
        expected = source.forward(source.example)
        return ArtifactCase(FOUND[name], net, source.example, expected, engine_for(FOUND[name].format), FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("name", of_kind(ProgramExporter))
class TestProgramExporters(ProgramExporterConformance):
    @pytest.fixture
    def case(self, name: str, sources: dict[str, Source]) -> ProgramCase:
        needs_converter(name)
        return ProgramCase(FOUND[name], sources["factory"], engine_for(FOUND[name].format), FLOAT32)


def test_every_exporter_is_of_one_kind() -> None:
    kinds = [of_kind(kind) for kind in (GraphExporter, ArtifactExporter, ProgramExporter)]
    assert sorted(name for names in kinds for name in names) == sorted(FOUND)


def test_the_kit_notices_a_wrong_answer(sources: dict[str, Source], net: ir.Model, tmp_path: Path) -> None:
    """A kit that cannot fail proves nothing."""
    source = sources["factory"]
    wrong = {name: np.zeros_like(array) for name, array in source.forward(source.example).items()}
    case = ArtifactCase(FOUND["onnx"], net, source.example, wrong, engine_for("onnx"), FLOAT32)
    folder = tmp_path / "artifact"
    folder.mkdir()
    with pytest.raises(AssertionError):
        ArtifactExporterConformance().test_its_engine_computes_what_is_expected(case, folder)
