"""The SQLite index: a table of what the result folders say, made to agree with them whenever it is read.

It holds nothing of its own. Where it cannot be written (a read-only folder) or is damaged, the same table is built in
memory or anew, so that a listing never depends on it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..plain import finite, readable
from .record import RECORD, Record, device_name, read_record

FILE = "index.sqlite"
VERSION = 1
_BUSY_S = 10.0

_TABLE = """
CREATE TABLE IF NOT EXISTS results (
    folder TEXT PRIMARY KEY, id TEXT, kind TEXT, created TEXT, bundle TEXT, bundle_sha256 TEXT, fingerprint TEXT,
    device TEXT, p50_s REAL, p50_low_s REAL, p50_high_s REAL, metric TEXT, metric_value REAL, conclusion TEXT,
    problem TEXT
)
"""


@contextlib.contextmanager
def synced(store: Path, folders: set[str]) -> Iterator[sqlite3.Connection]:
    """A connection to an index that agrees with ``folders``, the names of the result folders in ``store``."""
    try:
        connection = _open(store / FILE)
        _sync(connection, store, folders)
    except sqlite3.DatabaseError:
        # Read-only, locked for too long, damaged, or of another version: the folders are what counts.
        connection = _rebuilt(store, folders)
    with contextlib.closing(connection):
        yield connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            raise sqlite3.DatabaseError(f"the index has version {found}, this edgekit writes {VERSION}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _rebuilt(store: Path, folders: set[str]) -> sqlite3.Connection:
    path = store / FILE
    if _is_damaged(path):
        with contextlib.suppress(OSError):  # another process may have done it, or the folder is read-only
            path.unlink()
        with contextlib.suppress(sqlite3.DatabaseError):
            connection = _open(path)
            _sync(connection, store, folders)
            return connection
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute(_TABLE)
    _sync(connection, store, folders)
    return connection


def _is_damaged(path: Path) -> bool:
    """Whether the file is no SQLite database, or one that contradicts itself. Read only: nothing is changed."""
    if not path.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            return bool(verdict != "ok" or connection.execute("PRAGMA user_version").fetchone()[0] not in (0, VERSION))
    except sqlite3.OperationalError:  # cannot be opened or is locked: that is no damage
        return False
    except sqlite3.DatabaseError:
        return True


def _sync(connection: sqlite3.Connection, store: Path, folders: set[str]) -> None:
    known = {row[0]: row[1] for row in connection.execute("SELECT folder, problem FROM results")}
    # A damaged one is read again each time: its folder may have been restored.
    fresh = [name for name in folders if known.get(name, "new") is not None]
    gone = set(known) - folders
    if not fresh and not gone:
        return
    rows = [_row(name, store / name) for name in sorted(fresh)]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("DELETE FROM results WHERE folder = ?", [(name,) for name in gone])
    for row in rows:
        columns = ", ".join(row)
        marks = ", ".join(f":{key}" for key in row)
        connection.execute(f"INSERT OR REPLACE INTO results ({columns}) VALUES ({marks})", row)
    connection.execute("COMMIT")


def _row(name: str, folder: Path) -> dict[str, Any]:
    """The row of a result folder; of one that cannot be read, what its name tells and the reason.

    Whatever is odd about a record is that record's own row: no other one is hidden by it.
    """
    try:
        return {"folder": name, **summary(read_record(folder / RECORD)), "problem": None}
    except Exception as error:  # noqa: BLE001 - what a file may hold that nobody foresaw
        problem = error.what if isinstance(error, DataError) else f"it cannot be read: {type(error).__name__}: {error}"
        created, kind, number = name.split("-")
        when = f"{created[:4]}-{created[4:6]}-{created[6:11]}:{created[11:13]}:{created[13:15]}+00:00"
        return {"folder": name, "id": number, "kind": kind, "created": when, "problem": readable(problem)}


def summary(record: Record) -> dict[str, Any]:
    """The columns of a result, text or numbers: what a listing shows, and what it can be searched by."""
    value = record.value
    p50, metric = _p50(value), _metric(value)
    return {
        "id": record.id,
        "kind": record.kind,
        "created": record.created,
        "bundle": record.bundle,
        "bundle_sha256": record.bundle_sha256,
        "fingerprint": record.fingerprint,
        "device": device_name(record.device) if record.device else None,
        "p50_s": _number(p50, "value"),
        "p50_low_s": _number(p50, "low"),
        "p50_high_s": _number(p50, "high"),
        "metric": _text(metric.get("name")),
        "metric_value": _number(metric, "value"),
        "conclusion": _text(value.get("verdict") or value.get("chosen")),
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _p50(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The median latency: of a benchmark, or of the candidate that an export picked."""
    latency, candidates = value.get("latency"), value.get("candidates")
    for candidate in candidates if isinstance(candidates, list) else ():
        if isinstance(candidate, Mapping) and candidate.get("name") == value.get("chosen"):
            latency = candidate.get("latency")
    p50 = latency.get("p50_s") if isinstance(latency, Mapping) else None
    return p50 if isinstance(p50, Mapping) else {}


def _metric(value: Mapping[str, Any]) -> Mapping[str, Any]:
    metric = value.get("metric")
    return metric if isinstance(metric, Mapping) else {}


def _number(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    try:
        return finite(float(value)) if isinstance(value, (int, float)) else None
    except OverflowError:  # an integer that no float can hold
        return None
