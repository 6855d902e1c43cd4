"""What a worker and its host say to each other, over any pair of byte streams (pipes here, ssh's tomorrow).

A message is one line of JSON, then the binary blobs whose lengths its key ``blobs`` lists. The host sends
``{"command": NAME, …}``; the worker answers each with ``{"ok": {…}}``, or with ``{"error": {…}}`` as `error_to_json`
writes it. Before that it may say how far it is, as often as it likes: ``{"told": {"doing", "share"}}``. Arrays travel
as blobs, so the two sides need not share a file system; only the artifact is named by a path, which is the worker's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .. import errors
from ..contracts import Artifact, NodePlacement, Placement, StatePair, TensorSpec

Message = tuple[dict[str, Any], list[bytes]]


def write_message(stream: IO[bytes], header: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send a message.

    Raises:
        OSError: the other side is gone.
    """
    line = json.dumps({**header, "blobs": [len(blob) for blob in blobs]})
    stream.write(line.encode() + b"\n")
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """The next message, or None where the stream ended (in the middle of a message counts as ended)."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header: dict[str, Any] = json.loads(line)
    blobs = []
    for length in header.pop("blobs"):
        blob = stream.read(length)
        if len(blob) < length:
            return None
        blobs.append(blob)
    return header, blobs


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    """``{"name", "dtype", "shape"}``."""
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def spec_from_json(value: Mapping[str, Any]) -> TensorSpec:
    """The reverse of `spec_to_json`."""
    return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]))


def artifact_to_json(artifact: Artifact) -> dict[str, Any]:
    """Plain values; the path is absolute, since the two sides may stand in different folders."""
    return {
        "path": str(artifact.path.absolute()),
        "format": artifact.format,
        "precision": artifact.precision,
        "inputs": [spec_to_json(spec) for spec in artifact.inputs],
        "outputs": [spec_to_json(spec) for spec in artifact.outputs],
        "state": [dataclasses.asdict(pair) for pair in artifact.state],
    }


def artifact_from_json(value: Mapping[str, Any]) -> Artifact:
    """The reverse of `artifact_to_json`."""
    return Artifact(
        path=Path(value["path"]),
        format=value["format"],
        precision=value["precision"],
        inputs=tuple(map(spec_from_json, value["inputs"])),
        outputs=tuple(map(spec_from_json, value["outputs"])),
        state=tuple(StatePair(**item) for item in value.get("state", ())),  # an older host knows of none
    )


def placement_to_json(placement: Placement) -> dict[str, Any]:
    """``{"nodes": [{…}], "unknown": reason | null}``."""
    return {"nodes": [dataclasses.asdict(node) for node in placement.nodes], "unknown": placement.unknown}


def placement_from_json(value: Mapping[str, Any]) -> Placement:
    """The reverse of `placement_to_json`."""
    return Placement(tuple(NodePlacement(**node) for node in value["nodes"]), value["unknown"])


def error_to_json(error: Exception) -> dict[str, Any]:
    """What the host needs to raise the same error; one that edgekit did not raise itself keeps its type in the text."""
    if isinstance(error, errors.EdgekitError):
        return {
            "type": type(error).__name__,
            "what": error.what,
            "details": list(error.details),
            "fix": error.fix,
        }
    first_line, _, rest = (str(error) or "no message").partition("\n")
    return {
        "type": "EngineError",
        "what": f"{type(error).__name__}: {first_line}",
        "details": rest.splitlines()[:20],
        "fix": "",
    }


def error_from_json(value: Mapping[str, Any]) -> errors.EdgekitError:
    """The error to raise on the host: one of edgekit's own, by its name, or an EngineError."""
    kind = getattr(errors, str(value["type"]), errors.EngineError)
    if not (isinstance(kind, type) and issubclass(kind, errors.EdgekitError)):
        kind = errors.EngineError
    return kind(value["what"], details=value["details"], fix=value["fix"])
