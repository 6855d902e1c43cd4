"""One kept result: what a command found, and everything needed to judge and repeat it."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..measure.statistics import Samples
from ..plain import plain
from .samples import load_samples

SCHEMA = 1
RECORD = "result.json"
MAX_RECORD_BYTES = 64 * 2**20
_FINGERPRINT = ("machine", "board", "cpu", "cores", "memory_bytes")


@dataclass(frozen=True, slots=True)
class Record:
    """A result as it is kept. ``value`` is the object that the command printed with ``--json``."""

    id: str  # eight hex digits; of a file outside a store: its name
    kind: str  # "export", "bench", "compare", "evaluate", "profile", …
    created: str  # ISO 8601, UTC; empty: not known
    value: Mapping[str, Any]
    bundle_sha256: str | None = None  # of its manifest.json, which holds the hash of every other file
    device: Mapping[str, Any] = field(default_factory=dict)  # `measure.here.describe`
    fingerprint: str | None = None  # equal on equal hardware
    versions: Mapping[str, str] = field(default_factory=dict)  # package or engine → version
    command: tuple[str, ...] = ()  # the words that make it again; empty: called from Python
    series: Mapping[str, str] = field(default_factory=dict)  # what was timed → its samples file in ``folder``
    folder: Path | None = None

    @property
    def bundle(self) -> str | None:
        """The bundle it is about, as the user named it; of a comparison, both."""
        named = [item for item in (self.value.get(key) for key in ("bundle", "a", "b")) if isinstance(item, str)]
        return " and ".join(named) or None

    def samples(self, name: str) -> Samples:
        """The raw latencies of a series, in seconds: ``[process][block][run]``.

        Raises:
            DataError: there is no such series, or its file is missing or damaged.
        """
        if name not in self.series or self.folder is None:
            raise DataError(f"result {self.id} has no samples of '{name}'")
        return load_samples(self.folder / self.series[name])

    def to_json(self) -> dict[str, Any]:
        """The content of result.json."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "kind": self.kind,
            "created": self.created,
            "bundle_sha256": self.bundle_sha256,
            "device": dict(self.device),
            "fingerprint": self.fingerprint,
            "versions": dict(self.versions),
            "command": list(self.command),
            "series": dict(self.series),
            "result": dict(self.value),
        }


def read_record(path: Path) -> Record:
    """Read a result.json, or the object that a command printed with ``--json`` and the user saved.

    Raises:
        DataError: it cannot be read, is cut short, or is no result; says which.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise DataError(f"'{path}' is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"'{path}' is missing") from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(data) > MAX_RECORD_BYTES:
        raise DataError(f"'{path}' is larger than {MAX_RECORD_BYTES} bytes")
    try:
        table = json.loads(data, parse_constant=lambda _: None)  # Infinity and NaN are no JSON
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not valid JSON: {error}") from error
    if b"\\ud" in data.lower():  # half a surrogate pair may be among them, which no UTF-8 writer takes
        table = plain(table)
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise DataError(f"'{path}' is not a result of edgekit: it must be an object with \"schema\": {SCHEMA}")
    if "result" not in table or not isinstance(table["result"], dict):
        return _bare(path, table)
    try:
        return _kept(path, table)
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"'{path}' is not a complete result: {error}") from error


def _kept(path: Path, table: Mapping[str, Any]) -> Record:
    series = {str(name): _plain_name(file) for name, file in dict(table["series"]).items()}
    return Record(
        id=_text(table, "id"),
        kind=_text(table, "kind"),
        created=_text(table, "created"),
        value=table["result"],
        bundle_sha256=_optional_text(table, "bundle_sha256"),
        device=dict(table["device"]),
        fingerprint=_optional_text(table, "fingerprint"),
        versions={str(name): str(version) for name, version in dict(table["versions"]).items()},
        command=tuple(map(str, table["command"])),
        series=series,
        folder=path.parent,
    )


def _bare(path: Path, value: Mapping[str, Any]) -> Record:
    """A file made by ``--json > file``: what the store would have added is not known."""
    if "error" in value:
        raise DataError(f"'{path}' holds an error, not a result")
    kind = kind_of(value)
    if kind is None:
        raise DataError(f"'{path}' is not a result of edgekit export, bench, compare or evaluate")
    device = value.get("device")
    return Record(
        id=path.stem,
        kind=kind,
        created="",
        value=value,
        device=device if isinstance(device, dict) else {},
        fingerprint=fingerprint(device) if isinstance(device, dict) else None,
    )


def kind_of(value: Mapping[str, Any]) -> str | None:
    """Which command prints such an object, or None."""
    signs = {"export": "candidates", "compare": "ratio", "evaluate": "metric", "bench": "latency"}
    return next((kind for kind, key in signs.items() if key in value), None)


def fingerprint(device: Mapping[str, Any]) -> str:
    """Twelve hex digits of what does not change on a device: architecture, board, CPU, cores, memory."""
    facts = json.dumps([device.get(key) for key in _FINGERPRINT], default=str)
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def device_name(device: Mapping[str, Any]) -> str:
    """The device in a few words: its board, else its CPU."""
    return str(device.get("board") or device.get("cpu") or device.get("machine") or "unknown device")


def bundle_sha256(path: str) -> str | None:
    """The identity of the bundle at ``path`` (see `bundle.Bundle.sha256`), or None where there is none to read."""
    place = Path(path)
    try:
        if place.is_dir():
            return hashlib.sha256((place / "manifest.json").read_bytes()).hexdigest()
        with zipfile.ZipFile(place) as archive:
            # The zip holds the bundle's folder, so that unpacking it by hand gives one.
            (name,) = (item for item in archive.namelist() if re.fullmatch(r"[^/]+/manifest\.json", item))
            return hashlib.sha256(archive.read(name)).hexdigest()
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def engine_versions(value: Mapping[str, Any]) -> dict[str, str]:
    """The versions that a command's object states: of its runtime, or of each side's."""
    found: dict[str, str] = {}
    sides: Sequence[Any] = (value, value.get("a"), value.get("b"))
    for side in sides:
        runtime = side.get("runtime") if isinstance(side, Mapping) else None
        if isinstance(runtime, Mapping) and runtime.get("version"):
            found[str(runtime.get("name"))] = str(runtime["version"])
    return found


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str):
        raise TypeError(f"'{key}' must be text, got {value!r}")
    return value


def _optional_text(table: Mapping[str, Any], key: str) -> str | None:
    return None if table.get(key) is None else _text(table, key)


def _plain_name(file: object) -> str:
    """A samples file lies beside its result.json: no path leads out of the folder."""
    if not isinstance(file, str) or not re.fullmatch(r"samples-\d+\.npy", file):
        raise ValueError(f"{file!r} is not the name of a samples file")
    return file
