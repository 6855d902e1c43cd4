"""manifest.json: what a bundle is, how it came about, and the hash of every file in it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..contracts import PassRecord, StatePair, TensorSpec, Tolerance, options_from
from ..errors import BundleError, UsageError
from ..measure.ignore import IgnoreWhere
from ..measure.protocol import spec_to_json

SCHEMA = 1
MANIFEST = "manifest.json"
LAYERS = "layers.json"
STATE = "state.npz"
"""The state before the first frame, by the inputs' names; what is not there begins with zeros."""
MAX_MANIFEST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class EngineUse:
    """The engine that opens the artifact, with the session options that were measured."""

    name: str  # the runtime's plug-in name
    version: str  # the engine's, where it was checked and measured; "": it did not run there
    options: Mapping[str, Any]
    install: str  # the line that installs it on a device


@dataclass(frozen=True, slots=True)
class Substitute:
    """What checked the artifact in place of its engine, which could not run where the bundle was made."""

    name: str  # a runtime's plug-in name; the bundle carries its adapter too
    version: str
    install: str
    reason: str  # why not the engine itself, and what was not done in consequence
    options: Mapping[str, Any] = field(default_factory=dict)  # its session options


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of manifest.json, schema 1. ``golden_samples`` and ``files`` are filled in by `write_bundle`."""

    name: str
    target: str
    precision: str
    runtime: EngineUse
    artifact_file: str  # path in the bundle: "model/model.onnx"
    artifact_format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    placement: Mapping[str, int]  # expected: device → number of nodes
    parity: Mapping[str, Any]  # reached against PyTorch, with the tolerance it was held to
    metric: Mapping[str, Any] | None
    passes: tuple[PassRecord, ...]
    source: Mapping[str, Any]
    calibration: Mapping[str, Any] | None
    versions: Mapping[str, str]
    created: str  # ISO 8601, UTC
    arch: tuple[str, ...] = ()  # the machines it was made for; empty: any
    golden_tolerance: Tolerance = field(default_factory=Tolerance)
    golden_samples: int = 0
    state: tuple[StatePair, ...] = ()  # what goes from one run to the next
    golden_steps: int = 0  # of a stream
    golden_steps_tolerance: Tolerance = field(default_factory=Tolerance)
    ignore: tuple[IgnoreWhere, ...] = ()  # what nobody reads of the outputs: 0 in the golden ones
    checked_with: Substitute | None = None  # None: the engine itself
    unverified: str | None = None  # what it was not checked on, and was shipped all the same; None: nothing is missing
    files: Mapping[str, FileRecord] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """Who made the golden outputs: "PyTorch 2.13.0 fp32"."""
        return str(self.parity.get("reference") or "the reference")

    def dumps(self) -> bytes:
        """The bytes of manifest.json; equal manifests give equal bytes.

        Raises:
            ValueError: a value is not finite, which JSON cannot hold.
        """
        return (json.dumps(self.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        tolerance = self.golden_steps_tolerance.to_json()
        return {
            "schema": SCHEMA,
            "name": self.name,
            "target": self.target,
            "arch": list(self.arch),
            "precision": self.precision,
            "runtime": {**dataclasses.asdict(self.runtime), "options": dict(self.runtime.options)},
            "artifact": {"file": self.artifact_file, "format": self.artifact_format},
            "inputs": [spec_to_json(spec) for spec in self.inputs],
            "outputs": [spec_to_json(spec) for spec in self.outputs],
            "placement": dict(self.placement),
            "parity": dict(self.parity),
            "metric": None if self.metric is None else dict(self.metric),
            "passes": [{**dataclasses.asdict(record), "options": dict(record.options)} for record in self.passes],
            "source": dict(self.source),
            "calibration": None if self.calibration is None else dict(self.calibration),
            "versions": dict(self.versions),
            "created": self.created,
            "ignore": [rule.to_json() for rule in self.ignore],
            "checked_with": None if self.checked_with is None else _plain(self.checked_with),
            "unverified": self.unverified,
            "golden": {
                "samples": self.golden_samples,
                "tolerance": self.golden_tolerance.to_json(),
                **({"steps": self.golden_steps, "steps_tolerance": tolerance} if self.state else {}),
            },
            **({"state": [dataclasses.asdict(pair) for pair in self.state]} if self.state else {}),
            "files": {name: dataclasses.asdict(self.files[name]) for name in sorted(self.files)},
        }

    @classmethod
    def loads(cls, data: bytes) -> Manifest:
        """Read manifest.json. Every value that code relies on is checked.

        Raises:
            BundleError: not JSON, another schema, or a value that is missing or of the wrong kind; names it.
        """
        try:
            table = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{MANIFEST} is not valid JSON: {error}") from error
        if not isinstance(table, dict) or "schema" not in table:
            raise BundleError(f"{MANIFEST} is not the manifest of a bundle: it states no schema")
        if table["schema"] != SCHEMA:
            raise BundleError(
                f"{MANIFEST} has schema {table['schema']!r}; this edgekit reads schema {SCHEMA}",
                fix="Use the edgekit version that wrote it, or export again.",
            )
        runtime = _get(table, "runtime", dict)
        artifact = _get(table, "artifact", dict)
        golden = _get(table, "golden", dict)
        files = {name: _file_record(name, item) for name, item in _get(table, "files", dict).items()}
        manifest = cls(
            name=_get(table, "name", str),
            target=_get(table, "target", str),
            precision=_get(table, "precision", str),
            runtime=EngineUse(
                name=_get(runtime, "name", str, "runtime."),
                version=_get(runtime, "version", str, "runtime."),
                options=_get(runtime, "options", dict, "runtime."),
                install=_get(runtime, "install", str, "runtime."),
            ),
            artifact_file=_get(artifact, "file", str, "artifact."),
            artifact_format=_get(artifact, "format", str, "artifact."),
            inputs=_specs(table, "inputs"),
            outputs=_specs(table, "outputs"),
            placement=_get(table, "placement", dict),
            parity=_get(table, "parity", dict),
            metric=None if table.get("metric") is None else _get(table, "metric", dict),
            passes=tuple(_pass_record(item) for item in _get(table, "passes", list)),
            source=_get(table, "source", dict),
            calibration=None if table.get("calibration") is None else _get(table, "calibration", dict),
            versions=_get(table, "versions", dict),
            created=_get(table, "created", str),
            arch=_strings(table, "arch"),
            golden_tolerance=_tolerance(_get(golden, "tolerance", dict, "golden.")),
            golden_samples=_get(golden, "samples", int, "golden."),
            state=_state(table),
            golden_steps=_get(golden, "steps", int, "golden.") if "steps" in golden else 0,
            golden_steps_tolerance=_tolerance(golden.get("steps_tolerance", {}), "golden.steps_tolerance"),
            ignore=tuple(_ignore(item) for item in table.get("ignore") or ()),
            checked_with=_substitute(table.get("checked_with")),
            unverified=None if table.get("unverified") is None else _get(table, "unverified", str),
            files=files,
        )
        refuse_unsafe_name(manifest.name)
        if "/" in manifest.name:
            raise BundleError(f"{MANIFEST}: the name must not hold a '/', got {manifest.name!r}")
        if manifest.artifact_file not in files:
            raise BundleError(f"{MANIFEST}: the artifact '{manifest.artifact_file}' is not among its files")
        return manifest


def refuse_unsafe_name(name: str) -> None:
    """Refuse a file name that could point out of a bundle or means something else on another system.

    Raises:
        BundleError: absolute, a drive, a backslash, a part that is '', '.' or '..', or a control character.
    """
    if re.search(r"[\x00-\x1f\\:]", name) or any(part in ("", ".", "..") for part in name.split("/")):
        raise BundleError(f"{name!r} is not a safe name for a file in a bundle")


T = TypeVar("T")


def _get(table: Mapping[str, Any], key: str, kind: type[T], where: str = "") -> T:
    value = table.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BundleError(f"{MANIFEST}: '{where}{key}' must be {_KINDS[kind]}, got {value!r:.60}")
    return value


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string", int: "an integer"}


def _file_record(name: str, item: object) -> FileRecord:
    refuse_unsafe_name(name)
    if name == MANIFEST:
        raise BundleError(f"{MANIFEST} cannot hold its own hash")
    if not isinstance(item, dict):
        raise BundleError(f"{MANIFEST}: 'files.{name}' must be an object, got {item!r:.60}")
    record = FileRecord(_get(item, "sha256", str, f"files.{name}."), _get(item, "size_bytes", int, f"files.{name}."))
    if not re.fullmatch(r"[0-9a-f]{64}", record.sha256) or record.size_bytes < 0:
        raise BundleError(f"{MANIFEST}: 'files.{name}' holds no sha256 and size")
    return record


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Of a key that older bundles do not have."""
    values = _get(table, key, list) if key in table else []
    if not all(isinstance(item, str) for item in values):
        raise BundleError(f"{MANIFEST}: '{key}' must hold strings, got {values!r:.60}")
    return tuple(values)


def _ignore(item: object) -> IgnoreWhere:
    """Bundles made before there was one have no such key."""
    if not isinstance(item, dict):
        raise BundleError(f"{MANIFEST}: 'ignore' must hold objects, got {item!r:.60}")
    outputs = _get(item, "outputs", list, "ignore.")
    return IgnoreWhere(
        _get(item, "input", str, "ignore."), _get(item, "value", float, "ignore."), tuple(map(str, outputs))
    )


def _substitute(item: object) -> Substitute | None:
    """Bundles made before there was one have no such key."""
    if item is None:
        return None
    if not isinstance(item, dict):
        raise BundleError(f"{MANIFEST}: 'checked_with' must be an object, got {item!r:.60}")
    name, version, install, reason = (
        _get(item, key, str, "checked_with.") for key in ("name", "version", "install", "reason")
    )
    return Substitute(name, version, install, reason, _get(item, "options", dict, "checked_with."))


def _plain(item: Substitute) -> dict[str, Any]:
    return {**dataclasses.asdict(item), "options": dict(item.options)}


def _specs(table: Mapping[str, Any], key: str) -> tuple[TensorSpec, ...]:
    specs = []
    for index, item in enumerate(_get(table, key, list)):
        where = f"{key}[{index}]."
        if not isinstance(item, dict):
            raise BundleError(f"{MANIFEST}: '{key}[{index}]' must be an object, got {item!r:.60}")
        shape = _get(item, "shape", list, where)
        if not all(isinstance(size, int | str) and not isinstance(size, bool) for size in shape):
            raise BundleError(f"{MANIFEST}: '{where}shape' must hold integers and names, got {shape!r:.60}")
        specs.append(TensorSpec(_get(item, "name", str, where), _get(item, "dtype", str, where), tuple(shape)))
    return tuple(specs)


def _pass_record(item: object) -> PassRecord:
    known = {entry.name for entry in dataclasses.fields(PassRecord)}
    if not isinstance(item, dict) or not {"name", "modified", "detail"} <= set(item) <= known:
        raise BundleError(f"{MANIFEST}: 'passes' must hold records of passes, got {item!r:.60}")
    return PassRecord(**item)


def _state(table: Mapping[str, Any]) -> tuple[StatePair, ...]:
    """Bundles made before there was one have no such key."""
    pairs = []
    inputs, outputs = ({spec.name for spec in _specs(table, key)} for key in ("inputs", "outputs"))
    for index, item in enumerate(_get(table, "state", list) if "state" in table else []):
        where = f"state[{index}]."
        if not isinstance(item, dict) or not isinstance(item.get("buffer"), bool):
            raise BundleError(
                f"{MANIFEST}: 'state[{index}]' must be a pair of an input and an output, got {item!r:.60}"
            )
        pair = StatePair(_get(item, "input", str, where), _get(item, "output", str, where), item["buffer"])
        if pair.input not in inputs or pair.output not in outputs:
            raise BundleError(f"{MANIFEST}: 'state[{index}]' must name an input and an output, got {item!r:.60}")
        pairs.append(pair)
    return tuple(pairs)


def _tolerance(table: Mapping[str, Any], where: str = "golden.tolerance") -> Tolerance:
    try:
        return options_from(Tolerance, table, f"{MANIFEST}: '{where}'")
    except UsageError as error:
        raise BundleError(error.what, fix=error.fix) from error


def file_names(files: Sequence[str]) -> str:
    """``'a', 'b' and 3 more`` for messages."""
    shown = ", ".join(f"'{name}'" for name in files[:3])
    return shown if len(files) <= 3 else f"{shown} and {len(files) - 3} more"
