"""What is told about a bundle, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import units
from ..bundle import Manifest, SelfTest
from ..contracts import Outputs, describe
from .layout import Ink, labelled
from .text import placement_text, source_line, tensor_line, tolerance_text

_MAX_OUTPUTS = 20


def bundle_text(facts: Mapping[str, Any], what: str) -> str:
    """``build.edgekit   intact: 12 files, 0.4 MB   cpu, onnxruntime 1.32.0, int8   sha256 0f3c…``."""
    runtime = facts["runtime"]
    return "   ".join(
        (
            facts["bundle"],
            f"{what}: {facts['files']} files, {units.size(facts['size_bytes'])}",
            f"{facts['target']}, {_engine(runtime)}, {facts['precision']}",
            f"sha256 {facts['sha256'][:12]}",
        )
    )


def self_test_text(test: SelfTest, manifest: Manifest) -> str:
    """How the golden inputs did."""
    engine = f"{manifest.runtime.name} {test.engine_version}"
    if manifest.runtime.version and test.engine_version != manifest.runtime.version:
        engine += f" (measured with {manifest.runtime.version})"
    verdict = "passed" if test.passed else "MISSED"
    found = f"{units.decibels(test.parity.sqnr_db)}, max abs {units.number(test.parity.max_abs)}"
    if test.parity.worst is not None and test.parity.worst.part is not None:
        found += f", worst part {units.decibels(test.parity.part_db)}"
    bound = tolerance_text(manifest.golden_tolerance)
    samples = test.parity.samples
    inputs = f"{samples} golden input{'s' if samples != 1 else ''}"
    stream = test.stream
    streamed = f", {units.decibels(stream.sqnr_db)} over a stream of {stream.samples} steps" if stream else ""
    return f"self-test {verdict} on {engine}: {found} to {manifest.reference} on {inputs}{streamed}; tolerance {bound}"


def outputs_text(outputs: Outputs, samples: int, path: str | None, streamed: bool = False) -> str:
    """One line an output: name, dtype, shape, and its range where nothing was written."""
    where = f", written to {path}" if path else ""
    how = " of one stream, each with the state that the last one left" if streamed else ""
    lines = [f"{samples} sample{'s' if samples != 1 else ''}{how}{where}"]
    for name, array in list(outputs.items())[:_MAX_OUTPUTS]:
        span = ""
        if array.size and array.dtype.kind in "fiu":
            span = f"   min {units.number(float(array.min()))}, max {units.number(float(array.max()))}"
        lines.append(f"  {name}   {describe(array)}{span}")
    if len(outputs) > _MAX_OUTPUTS:
        lines.append(f"  and {len(outputs) - _MAX_OUTPUTS} more")
    return "\n".join(lines)


def manifest_text(path: str, manifest: Mapping[str, Any], colour: bool, width: int) -> str:
    """The manifest of a bundle, without its file list."""
    ink = Ink(colour)
    runtime, parity, metric = manifest["runtime"], manifest["parity"], manifest["metric"]
    options = ", ".join(f"{key}={value}" for key, value in runtime["options"].items())
    model_bytes = sum(item["size_bytes"] for name, item in manifest["files"].items() if name.startswith("model/"))
    rows = [
        ("bundle", f"{path}   {units.size(model_bytes)} model, {len(manifest['files'])} files"),
        ("source", source_line(manifest["source"])),
        ("target", f"{manifest['target']}, made {manifest['created']}"),
        ("runtime", f"{_engine(runtime)}, {manifest['precision']}   {options}"),
        ("checked", _substitute(manifest.get("checked_with"))),
        ("unverified", str(manifest.get("unverified") or "")),
        ("inputs", ", ".join(tensor_line(item) for item in manifest["inputs"])),
        ("outputs", ", ".join(tensor_line(item) for item in manifest["outputs"])),
        ("placement", placement_text(manifest["placement"])),
        ("parity", _parity(parity)),
        ("metric", _metric(metric)),
        ("passes", ", ".join(item["name"] for item in manifest["passes"] if item["modified"])),
    ]
    return "\n".join(line for label, text in rows if text for line in labelled(label, text, ink, width))


def _parity(parity: Mapping[str, Any]) -> str:
    sqnr = parity.get("sqnr_db")
    parts = [units.decibels(sqnr)] if sqnr is not None else []
    parts += [f"worst part {units.decibels(parity['part_db'])}"] if parity.get("part_db") is not None else []
    parts += [f"{key} {units.number(parity[key])}" for key in ("max_abs", "rel_l2") if parity.get(key) is not None]
    return ", ".join(parts) + (f" to {parity['reference']}" if parity.get("reference") else "")


def _engine(runtime: Mapping[str, Any]) -> str:
    """Name and version; without a version where it did not run when the bundle was made."""
    return f"{runtime['name']} {runtime['version']}".rstrip()


def _substitute(item: Mapping[str, Any] | None) -> str:
    return f"with {item['name']} {item['version']}, not in its engine: {item['reason']}" if item else ""


def _metric(metric: Mapping[str, Any] | None) -> str:
    if not metric:
        return ""
    name = str(metric["name"])
    title = units.metric_title(name, metric.get("compared_with"))
    return f"{title} {units.metric(name, metric['value'])} (reference {units.metric(name, metric['reference'])})"
