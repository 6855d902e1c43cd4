"""The conformance kits for exporters, one for each kind (see `edgekit.exporters`).

Subclass the one for yours and supply its fixture; pytest does the rest:

    class TestMyFormat(ArtifactExporterConformance):
        @pytest.fixture
        def case(self):
            return ArtifactCase(MyExporter(), graph, feeds, expected, MyEngine(), Tolerance(rel_l2=1e-5))
"""

from __future__ import annotations

import abc
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from ..context import PassContext
from ..contracts import Artifact, Feeds, Outputs, Runtime, TensorSpec, Tolerance, options_from
from ..errors import UsageError
from ..exporters import ArtifactExporter, GraphExporter, GraphRequest, ProgramExporter
from ..graph import MODULE_PATH, count_nodes, specs
from ..measure.parity import ParityMeter
from ..sources.source import Source
from .passes import run

_ENGINES = ("torch", "onnxruntime", "openvino", "nncf", "tensorrt", "executorch", "ai_edge_litert", "litert_torch")


@dataclass(frozen=True)
class GraphCase:
    """A source for one graph exporter.

    Args:
        exporter: an instance.
        source: of a kind that it takes.
        opset: what is asked for; an ONNX file may keep a newer one.
        tolerance: how far the graph, run by ONNX Runtime without optimizations, may be from ``expected``.
        expected: the source's outputs for its example; None: PyTorch's.
    """

    exporter: GraphExporter
    source: Source
    opset: int
    tolerance: Tolerance
    expected: Outputs | None = None


@dataclass(frozen=True)
class ArtifactCase:
    """A graph for one artifact exporter, and an engine that opens what it writes.

    Args:
        exporter: an instance.
        model: the graph; must stay as it is.
        feeds: inputs for it.
        expected: its outputs, by something else than ``runtime``.
        runtime: an instance of an adapter that opens the format.
        tolerance: how far the engine may be from ``expected``; state why where you state it.
        options: for the exporter; None: its defaults.
        context: for the exporter.
    """

    exporter: ArtifactExporter
    model: ir.Model
    feeds: Feeds
    expected: Outputs
    runtime: Runtime
    tolerance: Tolerance
    options: Any = None
    context: PassContext = field(default_factory=PassContext)


@dataclass(frozen=True)
class ProgramCase:
    """A PyTorch source for one program exporter, and an engine that opens what it writes.

    Args:
        exporter: an instance.
        source: holds an exported program.
        runtime: an instance of an adapter that opens the format.
        tolerance: how far the engine may be from PyTorch on the source's example; state why where you state it.
        options: for the exporter; None: its defaults.
        context: for the exporter.
    """

    exporter: ProgramExporter
    source: Source
    runtime: Runtime
    tolerance: Tolerance
    options: Any = None
    context: PassContext = field(default_factory=PassContext)


class _Kind:
    """What holds for exporters of every kind."""

    @pytest.fixture
    def case(self) -> Any:
        """The one thing a subclass supplies."""
        raise NotImplementedError("supply the fixture `case`")

    def test_its_name_is_a_name(self, case: Any) -> None:
        """A profile names it by ``format``."""
        assert case.exporter.name.isidentifier()

    def test_importing_it_imports_no_engine(self, case: Any) -> None:
        """`edgekit doctor` looks at every exporter."""
        module = type(case.exporter).__module__
        if not module.startswith("edgekit."):
            pytest.skip("the exporter is not part of an installed package")
        code = f"import sys; import {module}; print([name for name in {_ENGINES} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class GraphExporterConformance(_Kind):
    """Subclass it and supply the fixture ``case``, a `GraphCase`."""

    @pytest.fixture
    def graph(self, case: GraphCase, tmp_path: Path) -> ir.Model:
        """The exported graph."""
        return case.exporter.to_graph(case.source, GraphRequest(case.opset, tmp_path / "report.md"))

    def test_it_is_a_graph_exporter(self, case: GraphCase) -> None:
        """It takes the kind of its source, and is of no other kind itself."""
        assert case.source.kind in case.exporter.kinds
        assert not isinstance(case.exporter, (ArtifactExporter, ProgramExporter))

    def test_inputs_and_outputs_are_the_sources(self, case: GraphCase, graph: ir.Model) -> None:
        """By name, dtype, shape and order; free dimensions of inputs by their names."""
        inputs, outputs = specs(graph)
        assert inputs == case.source.inputs
        assert [item.name for item in outputs] == [item.name for item in case.source.outputs]
        assert [item.dtype for item in outputs] == [item.dtype for item in case.source.outputs]

    def test_it_computes_what_the_source_computes(self, case: GraphCase, graph: ir.Model) -> None:
        """On the source's example inputs."""
        expected = case.source.forward(case.source.example) if case.expected is None else case.expected
        _within(case.tolerance, expected, run(graph, case.source.example))

    def test_it_is_a_valid_model(self, case: GraphCase, graph: ir.Model) -> None:
        """The checker of onnx accepts it; the opset is the one asked for, or the file's own newer one."""
        graph.graph.name = graph.graph.name or "model"
        onnx.checker.check_model(ir.to_proto(graph), full_check=True)
        assert graph.opset_imports[""] >= case.opset

    def test_every_node_has_a_name_of_its_own(self, graph: ir.Model) -> None:
        """Reports and repairs name nodes."""
        names = [node.name for node in graph.graph]
        assert all(names)
        assert len(set(names)) == len(names)

    def test_nodes_tell_their_modules(self, case: GraphCase, graph: ir.Model) -> None:
        """Each path leads to a module of the source, where there is a PyTorch module to look in."""
        paths = {node.metadata_props[MODULE_PATH] for node in graph.graph if MODULE_PATH in node.metadata_props}
        if case.source.module is not None:
            known = {name for name, _ in case.source.module.named_modules()}
            assert paths
            assert paths <= known

    def test_the_same_source_gives_the_same_graph(self, case: GraphCase, graph: ir.Model, tmp_path: Path) -> None:
        """A second export changes nothing, not even a name."""
        again = case.exporter.to_graph(case.source, GraphRequest(case.opset, tmp_path / "again.md"))
        assert [(node.name, node.op_type) for node in again.graph] == [
            (node.name, node.op_type) for node in graph.graph
        ]
        assert count_nodes(again) == count_nodes(graph)


class _Writer(_Kind, abc.ABC):
    """What holds for exporters that write an engine's files."""

    @abc.abstractmethod
    def write(self, case: Any, directory: Path, precision: str = "fp32") -> tuple[Artifact, Mapping[str, Any]]:
        """Write the case's model."""

    @abc.abstractmethod
    def ends(self, case: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs and outputs that the artifact must have."""

    @abc.abstractmethod
    def answer(self, case: Any) -> tuple[Feeds, Outputs]:
        """Inputs, and what the engine must compute."""

    @abc.abstractmethod
    def fingerprint(self, case: Any) -> object:
        """What changes if the model does."""

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """Where it writes."""
        folder = tmp_path / "artifact"
        folder.mkdir()
        return folder

    def test_its_engine_opens_its_format(self, case: Any) -> None:
        """What it writes has a name that adapters know."""
        assert case.exporter.format in case.runtime.formats

    def test_options_are_a_frozen_dataclass(self, case: Any) -> None:
        """A candidate's ``export_options`` become this class: its defaults are usable, unknown keys are refused."""
        assert dataclasses.is_dataclass(case.exporter.Options)
        options: Any = case.exporter.Options
        assert options.__dataclass_params__.frozen
        options()
        with pytest.raises(UsageError, match="has no option 'surplus'"):
            options_from(options, {"surplus": 1}, "export_options")

    def test_what_it_writes(self, case: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The files it says, where it was told to, with nothing of the user's machine; the model stays as it was."""
        elsewhere = directory.parent / "user"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        before, model = set(directory.parent.iterdir()), self.fingerprint(case)

        artifact, done = self.write(case, directory, "some-precision")

        assert (artifact.format, artifact.precision) == (case.exporter.format, "some-precision")
        assert (artifact.inputs, artifact.outputs) == self.ends(case)
        assert artifact.path.parent == directory and artifact.path.is_file()
        assert list(elsewhere.iterdir()) == [], "nothing may be written where the user stands"
        assert set(directory.parent.iterdir()) == before, "nothing may be written beside the folder"
        assert json.loads(json.dumps(dict(done))) == dict(done), "what was done goes into the manifest"
        assert self.fingerprint(case) == model, "other candidates share the model"
        for path in directory.rglob("*"):
            for secret in (str(elsewhere), str(directory), 'File "'):  # a bundle goes to others
                assert path.is_dir() or secret.encode() not in path.read_bytes(), f"{path.name} tells '{secret}'"

    def test_its_engine_computes_what_is_expected(self, case: Any, directory: Path) -> None:
        """Opened from the folder alone, moved elsewhere, as a bundle does."""
        artifact, _ = self.write(case, directory)
        moved = directory.rename(directory.with_name("moved"))
        session = case.runtime.open(
            dataclasses.replace(artifact, path=moved / artifact.path.name), case.runtime.Options(threads=1)
        )
        feeds, expected = self.answer(case)
        _within(case.tolerance, expected, session.run(feeds))
        session.close()

    def _options(self, case: Any) -> Any:
        return case.exporter.Options() if case.options is None else case.options


class ArtifactExporterConformance(_Writer):
    """Subclass it and supply the fixture ``case``, an `ArtifactCase`."""

    def write(self, case: ArtifactCase, directory: Path, precision: str = "fp32") -> tuple[Artifact, Mapping[str, Any]]:
        """Write the graph."""
        return case.exporter.write(case.model, directory, precision, self._options(case), case.context)

    def ends(self, case: ArtifactCase) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The graph's."""
        return specs(case.model)

    def answer(self, case: ArtifactCase) -> tuple[Feeds, Outputs]:
        """As the case states."""
        return case.feeds, case.expected

    def fingerprint(self, case: ArtifactCase) -> object:
        """The graph's bytes."""
        return ir.to_proto(case.model).SerializeToString(deterministic=True)

    def test_it_is_an_artifact_exporter(self, case: ArtifactCase) -> None:
        """And of no other kind."""
        assert isinstance(case.exporter, ArtifactExporter)
        assert not isinstance(case.exporter, (GraphExporter, ProgramExporter))


class ProgramExporterConformance(_Writer):
    """Subclass it and supply the fixture ``case``, a `ProgramCase`."""

    def write(self, case: ProgramCase, directory: Path, precision: str = "fp32") -> tuple[Artifact, Mapping[str, Any]]:
        """Write the program."""
        return case.exporter.write_program(case.source, directory, precision, self._options(case), case.context)

    def ends(self, case: ProgramCase) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The source's."""
        return case.source.inputs, case.source.outputs

    def answer(self, case: ProgramCase) -> tuple[Feeds, Outputs]:
        """PyTorch's."""
        return case.source.example, case.source.forward(case.source.example)

    def fingerprint(self, case: ProgramCase) -> object:
        """The program's text."""
        return str(case.source.program)

    def test_it_is_a_program_exporter(self, case: ProgramCase) -> None:
        """And of no other kind."""
        assert isinstance(case.exporter, ProgramExporter)
        assert not isinstance(case.exporter, (GraphExporter, ArtifactExporter))


def _within(tolerance: Tolerance, expected: Outputs, got: Outputs) -> None:
    meter = ParityMeter(tolerance.rtol or 0.0)
    meter.add(expected, got)
    assert meter.result().misses(tolerance) == []
