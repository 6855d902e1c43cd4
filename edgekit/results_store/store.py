"""The store: add a result, list them, find one."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, UsageError
from ..measure import here
from ..measure.statistics import Samples
from ..plain import to_json
from ..tempdir import work_folder, writing
from .index import synced
from .record import RECORD, Record, bundle_sha256, engine_versions, fingerprint, read_record
from .samples import flatten

PLACE = Path(".edgekit") / "results"
VARIABLE = "EDGEKIT_RESULTS"
"""The environment variable that names another folder for the store."""

_FOLDER = re.compile(r"\d{8}T\d{6}-[a-z]+-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Row:
    """What a listing shows of a result. ``problem``: why the result itself cannot be read."""

    id: str
    kind: str
    created: str
    bundle: str | None
    bundle_sha256: str | None
    fingerprint: str | None
    device: str | None
    p50_s: float | None
    p50_low_s: float | None
    p50_high_s: float | None
    metric: str | None
    metric_value: float | None
    conclusion: str | None  # a verdict, or the candidate that was picked
    problem: str | None
    folder: str

    def to_json(self) -> dict[str, Any]:
        """One of ``results list --json``."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of a store, the newest first, and how many there are in all."""

    store: Path
    rows: tuple[Row, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a result. One that could not be kept has no ``folder``, and ``note`` says why."""

    record: Record
    note: str | None = None


def default_folder() -> Path:
    """The store of the project around the current folder: the nearest there is at or above it, else a new one here.

    The environment variable ``EDGEKIT_RESULTS`` names another.
    """
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PLACE).is_dir():
            return folder / PLACE
    return here / PLACE


def keep(
    kind: str,
    value: Mapping[str, Any],
    series: Mapping[str, Samples] | None = None,
    *,
    command: Sequence[str] = (),
    store: Store | None = None,
) -> Kept:
    """Keep a result. Where it cannot be written that is no error: the note says why, and the caller goes on.

    Args:
        kind: "export", "bench", "compare", "evaluate": small letters.
        value: the object of the command's ``--json``.
        series: what was timed → its raw latencies, ``[process][block][run]`` in seconds.
        command: the words that make it again.
        store: where; default: the project's.
    """
    draft = new_record(kind, value, command)
    try:
        return Kept((store or Store(default_folder())).add(draft, series or {}))
    except OutputError as error:
        return Kept(draft, f"the result was not kept: {error.what}")
    except OSError as error:
        return Kept(draft, f"the result was not kept: {error.strerror or error}")


def new_record(kind: str, value: Mapping[str, Any], command: Sequence[str] = ()) -> Record:
    """A result of this moment with an id of its own, in no store yet. The arguments are those of `keep`."""
    from ..version import __version__

    device = value.get("device")
    if not isinstance(device, Mapping):  # an export runs on this machine and does not say so
        device = here.describe()
    bundle = value.get("bundle")
    python = {"python": str(device["python"])} if device.get("python") else {}
    return Record(
        id=secrets.token_hex(4),
        kind=kind,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        value=_self_contained(value),
        bundle_sha256=bundle_sha256(bundle) if isinstance(bundle, str) else None,
        device=device,
        fingerprint=fingerprint(device),
        versions={"edgekit": __version__, **engine_versions(value), **python},
        command=tuple(command),
    )


class Store:
    """A folder of results. Safe for several writers and readers at once.

    Args:
        folder: it is made when the first result is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, record: Record, series: Mapping[str, Samples]) -> Record:
        """Write a result's folder, which appears whole or not at all, and return the record that it holds.

        Raises:
            OutputError: the store cannot be written.
        """
        moment = datetime.datetime.fromisoformat(record.created)
        folder = self.folder / f"{moment:%Y%m%dT%H%M%S}-{record.kind}-{record.id}"
        names = {name: f"samples-{index}.npy" for index, name in enumerate(series)}
        kept = dataclasses.replace(record, series=names, folder=folder)
        self._write(folder, kept, series)
        return kept

    def rows(self, *, kind: str | None = None, bundle: str | None = None, limit: int | None = None) -> Listing:
        """The results, the newest first.

        Args:
            kind: only these.
            bundle: only those whose bundle's name, path or hash holds this text.
            limit: at most so many.
        """
        if not self.folder.is_dir():
            return Listing(self.folder, (), 0)
        where: list[str] = ["1"]
        values: list[Any] = []
        with synced(self.folder, self._folders()) as index:
            if kind is not None:
                where.append("kind = ?")
                values.append(kind)
            if bundle is not None:
                where.append("(instr(ifnull(bundle, ''), ?) OR instr(ifnull(bundle_sha256, ''), ?) = 1)")
                values += [bundle, bundle]
            condition = " AND ".join(where)
            total = index.execute(f"SELECT count(*) FROM results WHERE {condition}", values).fetchone()[0]
            found = index.execute(
                f"SELECT * FROM results WHERE {condition} ORDER BY folder DESC LIMIT ?",
                [*values, -1 if limit is None else limit],
            )
            return Listing(self.folder, tuple(Row(**dict(row)) for row in found), total)

    def find(self, reference: str) -> Record:
        """The result that the user names: its id or the unique beginning of it, or ``latest``, ``latest~1``, ….

        Raises:
            UsageError: there is none of that name, or several.
            DataError: its files are damaged.
        """
        rows = self.rows().rows
        if not rows:
            raise UsageError(f"there are no results in '{self.folder}'", fix="Make one: edgekit bench BUNDLE")
        back = re.fullmatch(r"latest(?:~(\d+))?", reference)
        if back:
            position = int(back[1] or 0)
            if position >= len(rows):
                raise UsageError(f"'{reference}': there are only {len(rows)} results")
            found = [rows[position]]
        else:
            found = [row for row in rows if row.id.startswith(reference)]
        if not found:
            raise UsageError(
                f"there is no result '{reference}' in '{self.folder}'", fix="List them: edgekit results list"
            )
        if len(found) > 1:
            names = ", ".join(row.id for row in found[:5])
            raise UsageError(
                f"{len(found)} results begin with '{reference}': {names}", fix="Give more of its characters."
            )
        return read_record(self.folder / found[0].folder / RECORD)

    def _folders(self) -> set[str]:
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries if _FOLDER.fullmatch(entry.name) and entry.is_dir()}

    def _write(self, folder: Path, record: Record, series: Mapping[str, Samples]) -> None:
        if self.folder.is_file():
            raise OutputError(f"cannot write '{folder}': its folder is not a folder", fix="Move it away.")
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.folder.parent.name == PLACE.parent.name:
                _hide_from_git(self.folder.parent)
        with work_folder(beside=folder) as work:
            new = work / "result"
            with writing(folder):
                new.mkdir()
                for name, file in record.series.items():
                    np.save(new / file, flatten(series[name]), allow_pickle=False)
                (new / RECORD).write_text(to_json(record.to_json()) + "\n", encoding="utf-8")
                for path in new.iterdir():
                    _to_disk(path)
                new.rename(folder)


def find_result(reference: str, store: Store | None = None) -> Record:
    """A result by its id (see `Store.find`), or by a path: its folder, its result.json, or a saved ``--json`` object.

    Raises:
        UsageError: there is none.
        DataError: it is damaged, or is no result.
    """
    path = Path(reference)
    if path.is_dir() and (path / RECORD).is_file():
        return read_record(path / RECORD)
    if path.is_file():
        return read_record(path)
    if path.suffix == ".json" or len(path.parts) > 1:
        raise UsageError(f"there is no result at '{reference}'", fix="List them: edgekit results list")
    return (store or Store(default_folder())).find(reference)


def _self_contained(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what only says where it is kept: that is for the record to say."""
    kept = {key: item for key, item in value.items() if key != "result"}
    if not isinstance(kept.get("samples"), int):  # `evaluate` counts its samples there
        kept.pop("samples", None)
    if isinstance(kept.get("not_measured"), Mapping):
        kept["not_measured"] = {key: why for key, why in kept["not_measured"].items() if key != "samples"}
    return kept


def _hide_from_git(folder: Path) -> None:
    """Measurements of one machine are nobody else's commits, unless the user empties this file."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _to_disk(path: Path) -> None:
    """Have the file's content on the disk before its name appears: a rename is no promise of that."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
