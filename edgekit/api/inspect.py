"""What a model is made of, what it costs, and what would not run where."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..contracts import Progress, Quiet
from ..errors import UsageError
from ..json_output.inspect import Inspect
from ..target.load import load_target
from ..target.profile import DEFAULT_OPSET, PassSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..analysis.cost import Analysis
    from ..analysis.engine_support import Acceptance
    from ..sources.source import Source
    from ..target.profile import Target

CLEAN_UP = ("fold_constants", "remove_dead_code", "infer_shapes")
"""Passes before counting where no target states its own: what an exporter leaves behind is not the model."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found. A bundle's artifact is not taken apart: its manifest tells."""

    source: Mapping[str, Any]
    analysis: Analysis | None = None  # None for a bundle
    target: str | None = None
    engines: tuple[Acceptance, ...] = ()
    manifest: Mapping[str, Any] | None = None  # of a bundle

    @property
    def runs(self) -> bool | None:
        """Whether one of the target's engines takes the model; None where no target was named."""
        return any(item.takes for item in self.engines) if self.target is not None else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Why no engine of the target could be asked, a line each; empty where one could, or none was to be."""
        unasked = tuple(f"{item.runtime}: {item.reason}" for item in self.engines if not item.asked)
        return unasked if len(unasked) == len(self.engines) else ()

    def to_json(self) -> Inspect:
        """The object of `inspect --json` (schema 1)."""
        if self.manifest is not None:
            return cast("Inspect", {"schema": 1, "bundle": self.source["spec"], "manifest": dict(self.manifest)})
        analysis = self.analysis.to_json() if self.analysis else {}
        value = {
            "schema": 1,
            "source": dict(self.source),
            **analysis,
            "target": self.target,
            "engines": [item.to_json() for item in self.engines],
        }
        return cast("Inspect", value)


def inspect(
    source: Any,
    *,
    target: str | Path | None = None,
    inputs: Sequence[str] = (),
    dynamic: Sequence[str] = (),
    example: str | Path | None = None,
    ranges: Sequence[str] = (),
    task: str | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Take a model apart: operators, parameters, MACs, activation peak; with a target, what its engines do not take.

    Args:
        source: as for `api.export`, or a bundle (folder or zip), whose manifest is shown.
        target: whose engines to ask, by name or by the path of its TOML file.
        inputs: ``NAME:DTYPE:1x3x224x224`` where the source does not tell its example inputs.
        dynamic: ``NAME:AXIS`` for each free dimension.
        example: an ``.npz`` of example inputs, as the model takes them.
        ranges: ``DIM=MIN..OPT..MAX``, the sizes of a free dimension, for engines that plan for them.
        task: the Hugging Face task, where the directory does not tell.
        progress: where to say how far it is.

    Raises:
        UsageError: an unknown target.
        SourceError: the model cannot be loaded or exported.
        BundleError: it is a bundle, and damaged.
    """
    progress = progress or Quiet()
    if is_bundle(source):
        return _inspect_bundle(Path(source), target)
    from ..analysis.cost import analyze
    from ..context import PassContext
    from ..pipeline.stages import run_passes, to_graph
    from ..sources.flags import parse_ranges
    from ..sources.load import load_source
    from ..target.toolchain import steps

    profile = load_target(target) if target is not None else None
    specs = profile.passes if profile else tuple(map(PassSpec, CLEAN_UP))
    with progress.stage("load the model"):
        model = load_source(source, inputs=inputs, dynamic=dynamic, task=task, example=example)
    dimensions = parse_ranges(ranges, model.example_dims())
    with progress.stage("export to ONNX"):
        graph = to_graph(model, profile.export.opset if profile else DEFAULT_OPSET)
    with progress.stage("analyse"):
        graph, _ = run_passes(graph, steps(specs), PassContext(runtime="any", progress=progress))
        analysis = analyze(graph)
    engines = _ask(graph, model, profile, progress, dimensions) if profile else ()
    return Inspection(model.to_json(), analysis, profile.name if profile else None, tuple(engines))


def is_bundle(source: Any) -> bool:
    """Whether ``source`` names a bundle: a folder with a manifest, or a packed one."""
    if not isinstance(source, (str, Path)):
        return False
    path = Path(source)
    return (path / "manifest.json").is_file() or (path.name.endswith(".edgekit.zip") and path.is_file())


def _inspect_bundle(path: Path, target: str | Path | None) -> Inspection:
    from ..bundle import open_bundle

    if target is not None:
        raise UsageError(
            f"'{path}' is a bundle, made for one target already", fix="Inspect its source with --target instead."
        )
    with open_bundle(path) as bundle:
        return Inspection({"spec": str(path)}, manifest=bundle.manifest.to_json())


def _ask(
    graph: ir.Model,
    source: Source,
    target: Target,
    progress: Progress,
    dimensions: Mapping[str, tuple[int, int, int]],
) -> list[Acceptance]:
    from ..analysis.engine_support import ask_engines

    with tempfile.TemporaryDirectory(prefix="edgekit-inspect-") as folder, progress.stage("ask the engines"):
        return ask_engines(graph, target, Path(folder), progress, source, dimensions)
