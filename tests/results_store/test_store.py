"""Results survive whatever happens around them: killed writers, damaged files, read-only folders, many at once."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import DataError, UsageError
from edgekit.report.html import report_html
from edgekit.report.kept import listing_text
from edgekit.results_store import Record, Store, default_folder, find_result, fingerprint, keep

SAMPLES = [[np.array([1.0, 2.0]), np.array([3.0])], [np.array([4.0])]]
BENCH: dict[str, Any] = {
    "schema": 1,
    "bundle": "net.edgekit",
    "device": {"machine": "x86_64", "cpu": "Tester 9000", "cores": 2, "memory_bytes": 8, "python": "3.11.9"},
    "runtime": {"name": "onnxruntime", "version": "1.32.0", "options": {"threads": 1}},
    "latency": {"p50_s": {"value": 1e-3, "low": 0.9e-3, "high": 1.1e-3}},
    "verdict": "steady",
    "not_measured": {"samples": "not kept", "energy_j": "no counter"},
    "samples": None,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".edgekit" / "results")


def add(store: Store, kind: str = "bench", value: dict[str, Any] = BENCH) -> Record:
    kept = keep(kind, value, {"latency": SAMPLES}, command=["edgekit", kind, "net.edgekit"], store=store)
    assert kept.note is None
    assert kept.record.folder is not None
    return kept.record


def test_a_result_comes_back_as_it_went_in(store: Store) -> None:
    record = add(store)
    again = store.find(record.id)
    assert again == record
    assert again.versions == {"edgekit": "0.1.0", "onnxruntime": "1.32.0", "python": "3.11.9"}
    assert again.fingerprint == fingerprint(BENCH["device"])
    assert again.command == ("edgekit", "bench", "net.edgekit")
    samples = again.samples("latency")
    assert [[block.tolist() for block in process] for process in samples] == [[[1.0, 2.0], [3.0]], [[4.0]]]
    assert add(store, "evaluate", {**BENCH, "samples": 6}).value["samples"] == 6
    assert "samples" not in again.value and again.value["not_measured"] == {"energy_j": "no counter"}


def test_the_bundle_is_known_by_its_hash(store: Store, make_bundle: Callable[..., Bundle]) -> None:
    from edgekit.bundle import pack

    bundle = make_bundle()
    assert add(store, value={**BENCH, "bundle": str(bundle.path)}).bundle_sha256 == bundle.sha256
    packed = pack(bundle.path)
    assert add(store, value={**BENCH, "bundle": str(packed)}).bundle_sha256 == bundle.sha256
    assert open_bundle(bundle.path).sha256 == bundle.sha256


def test_rows_are_the_newest_first_and_can_be_narrowed(store: Store) -> None:
    old = add(store)
    assert old.folder is not None
    old.folder.rename(store.folder / f"20200101T000000-bench-{old.id}")
    new = add(store, "evaluate", {**BENCH, "bundle": "other.edgekit", "metric": {"name": "top1", "value": 0.5}})
    assert [row.id for row in store.rows().rows] == [new.id, old.id]
    assert [row.id for row in store.rows(kind="bench").rows] == [old.id]
    assert [row.id for row in store.rows(bundle="other").rows] == [new.id]
    assert (store.rows(limit=1).rows[0].metric, store.rows(limit=1).total) == ("top1", 2)
    assert store.find("latest").id == new.id
    assert store.find("latest~1").id == old.id


def test_what_cannot_be_found(store: Store) -> None:
    with pytest.raises(UsageError, match=r"there are no results in .* Make one: edgekit bench BUNDLE"):
        store.find("abc")
    assert not store.folder.exists(), "looking must not make a store"
    record = add(store)
    with pytest.raises(UsageError, match="there is no result 'zz'"):
        store.find("zz")
    with pytest.raises(UsageError, match="'latest~4': there are only 1 results"):
        store.find("latest~4")
    assert record.folder is not None
    twin = record.folder.with_name(f"20200101T000000-bench-{record.id[:7]}{'0' if record.id[7] != '0' else '1'}")
    twin.mkdir()
    (twin / "result.json").write_text(json.dumps({**record.to_json(), "id": twin.name[-8:]}))
    with pytest.raises(UsageError, match=f"2 results begin with '{record.id[:4]}'"):
        store.find(record.id[:4])


def test_a_folder_can_be_deleted_by_hand_and_another_copied_in(store: Store, tmp_path: Path) -> None:
    one, two = add(store), add(store)
    assert store.rows().total == 2
    assert one.folder is not None
    one.folder.rename(tmp_path / one.folder.name)
    assert [row.id for row in store.rows().rows] == [two.id]
    (tmp_path / one.folder.name).rename(one.folder)
    assert store.rows().total == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        ("", "is not valid JSON"),
        ('{"schema": 1, "id": "x", "resu', "is not valid JSON"),
        ("[]", "is not a result of edgekit"),
        ('{"schema": 7, "result": {}}', "is not a result of edgekit"),
        ('{"schema": 1, "result": {}}', "is not a complete result: 'series'"),
    ],
)
def test_a_damaged_result_is_shown_as_such_and_hides_no_other(store: Store, content: str | None, problem: str) -> None:
    bad, good = add(store), add(store)
    assert bad.folder is not None
    path = bad.folder / "result.json"
    path.unlink() if content is None else path.write_text(content)
    rows = {row.id: row for row in store.rows().rows}
    assert rows[good.id].problem is None
    assert problem in (rows[bad.id].problem or "")
    assert rows[bad.id].created.startswith(bad.created[:10])
    with pytest.raises(DataError, match=problem):
        store.find(bad.id)
    path.write_text(json.dumps(bad.to_json()))
    assert {row.problem for row in store.rows().rows} == {None}, "a restored file counts again"


def test_samples_that_are_missing_or_damaged(store: Store) -> None:
    record = add(store)
    assert record.folder is not None
    path = record.folder / "samples-0.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"samples-0.npy' cannot be read"):
        record.samples("latency")
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read: Object arrays cannot be loaded"):
        record.samples("latency")
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match="is not a samples file"):
        record.samples("latency")
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        record.samples("latency")
    with pytest.raises(DataError, match="has no samples of 'other'"):
        record.samples("other")


def test_a_record_cannot_name_a_file_outside_its_folder(store: Store) -> None:
    record = add(store)
    assert record.folder is not None
    (record.folder / "result.json").write_text(json.dumps({**record.to_json(), "series": {"x": "../../secret.npy"}}))
    with pytest.raises(DataError, match=r"'../../secret.npy' is not the name of a samples file"):
        store.find(record.id)


def test_an_unfinished_folder_of_a_killed_writer_does_not_count(store: Store) -> None:
    record = add(store)
    (store.folder / ".20260101T000000-bench-deadbeef.tmp-0123").mkdir()
    assert [row.id for row in store.rows().rows] == [record.id]


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100])
def test_a_damaged_index_is_built_anew(store: Store, damage: bytes) -> None:
    ids = {add(store).id, add(store).id}
    assert store.rows().total == 2
    (store.folder / "index.sqlite").write_bytes(damage)
    assert {row.id for row in store.rows().rows} == ids
    with sqlite3.connect(store.folder / "index.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (2,)


def test_an_index_of_another_version_is_built_anew(store: Store) -> None:
    add(store)
    store.rows()
    connection = sqlite3.connect(store.folder / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert store.rows().total == 1


def test_a_locked_index_does_not_stop_a_reader(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.results_store.index._BUSY_S", 0.05)
    add(store)
    store.rows()
    connection = sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    add(store)
    assert store.rows().total == 2
    connection.close()
    assert store.rows().total == 2


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import numpy as np
from edgekit.results_store import Store, keep
store = Store(Path(sys.argv[1]))
for _ in range(5):
    assert keep("bench", {"schema": 1, "latency": {}, "device": {}}, {"x": [[np.ones(3)]]}, store=store).note is None
    store.rows()
"""


def test_writers_and_readers_at_once(store: Store) -> None:
    command = [sys.executable, "-c", WRITER, str(store.folder), str(Path.cwd())]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err
    rows = store.rows().rows
    assert len({row.id for row in rows}) == 20
    assert {row.problem for row in rows} == {None}


def test_a_place_that_cannot_be_written_gives_a_note(tmp_path: Path) -> None:
    (tmp_path / ".edgekit").write_text("a file")
    kept = keep("bench", BENCH, {"latency": SAMPLES}, store=Store(tmp_path / ".edgekit" / "results"))
    assert kept.record.folder is None
    assert kept.note is not None
    assert kept.note.startswith("the result was not kept: cannot write '")
    (tmp_path / "taken").write_text("a file")
    note = keep("bench", BENCH, store=Store(tmp_path / "taken")).note
    assert note is not None and "its folder is not a folder" in note


READER = """
import os, sys
from pathlib import Path
from edgekit.results_store import Store, keep
if os.getuid() == 0:  # root may write anything: go on as nobody
    os.setegid(65534)
    os.seteuid(65534)
store = Store(Path(sys.argv[1]))
assert [row.problem for row in store.rows().rows] == [None], store.rows()
print(keep("bench", {"schema": 1, "latency": {}, "device": {}}, store=store).note)
"""


def test_a_read_only_store_is_listed_and_not_written(store: Store) -> None:
    add(store)
    for place in (store.folder, *store.folder.iterdir()):
        place.chmod(0o555)
    for parent in store.folder.parents:
        if os.getuid() == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(0o755)  # pytest's own folders are root's alone
    done = subprocess.run([sys.executable, "-c", READER, str(store.folder)], capture_output=True, text=True)
    store.folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "the result was not kept: cannot write" in done.stdout
    assert "permission denied" in done.stdout
    assert not (store.folder / "index.sqlite").exists()


def test_the_store_is_that_of_the_project_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_folder() == tmp_path / ".edgekit" / "results"  # the variable EDGEKIT_RESULTS, set for every test
    monkeypatch.delenv("EDGEKIT_RESULTS")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert default_folder() == inner / ".edgekit" / "results"
    (tmp_path / ".edgekit" / "results").mkdir(parents=True)
    assert default_folder() == tmp_path / ".edgekit" / "results"


def test_git_is_told_to_leave_the_store_alone_once(store: Store) -> None:
    add(store)
    ignore = store.folder.parent / ".gitignore"
    assert ignore.read_text() == "*\n"
    ignore.write_text("")
    add(store)
    assert ignore.read_text() == ""


def test_a_saved_json_object_is_a_result_too(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(BENCH))
    record = find_result(str(path), store)
    assert (record.kind, record.id, record.fingerprint) == ("bench", "saved", fingerprint(BENCH["device"]))
    path.write_text(json.dumps({"schema": 1, "error": {"message": "no"}}))
    with pytest.raises(DataError, match="holds an error, not a result"):
        find_result(str(path), store)
    path.write_text(json.dumps({"schema": 1, "targets": []}))
    with pytest.raises(DataError, match="is not a result of edgekit export, bench, compare or evaluate"):
        find_result(str(path), store)
    with pytest.raises(UsageError, match="there is no result at"):
        find_result(str(tmp_path / "gone.json"), store)
    kept = add(store)
    assert kept.folder is not None
    assert find_result(str(kept.folder), store) == kept


ODD = {
    "a path that is not UTF-8": {"bundle": "mod\udcc3\udca8le.edgekit"},
    "half a surrogate pair": {"bundle": "\ud83d.edgekit", "verdict": "\udfff"},
    "a verdict that is a table": {"verdict": {"verdict": "steady"}},
    "candidates that are text": {"candidates": ["a", "b"], "chosen": "a"},
    "candidates that are a number": {"candidates": 7},
    "a latency that is a list": {"latency": [1, 2]},
    "a number beyond any float": {"latency": {"p50_s": {"value": 10**400, "low": 1, "high": 2}}},
    "not a number": {"latency": {"p50_s": {"value": float("nan"), "low": 1, "high": float("inf")}}},
    "a metric that is text": {"metric": "top1"},
    "a metric whose name is a list": {"metric": {"name": ["top1"], "value": True}},
    "a device that is a list": {"device": [1]},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_an_odd_record_is_odd_alone(store: Store, odd: dict[str, Any]) -> None:
    bad, good = add(store), add(store)
    assert bad.folder is not None
    content = {**bad.to_json(), "result": {**BENCH, **odd}}
    (bad.folder / "result.json").write_text(json.dumps(content))
    rows = {row.id: row for row in store.rows().rows}
    assert rows[good.id].problem is None and rows[good.id].bundle == "net.edgekit"
    assert bad.id in rows
    json.dumps([row.to_json() for row in rows.values()]).encode()
    listing_text(store.rows(), colour=False, width=100).encode()
    page = report_html([store.find(good.id), store.find(bad.id)])
    assert good.id in page.encode().decode() and bad.id in page


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
def test_what_is_no_file_is_not_waited_for(store: Store, make: Callable[[Path], None]) -> None:
    bad, good = add(store), add(store)
    assert bad.folder is not None
    (bad.folder / "result.json").unlink()
    make(bad.folder / "result.json")
    rows = {row.id: row for row in store.rows().rows}
    assert rows[good.id].problem is None
    assert "is not a file" in (rows[bad.id].problem or "")


def test_a_path_that_is_not_utf8_is_kept_in_a_form_that_every_reader_takes(store: Store) -> None:
    record = add(store, value={**BENCH, "bundle": "mod\udcc3\udca8le-\udce8.edgekit"})
    assert store.find(record.id).bundle == r"modèle-\xe8.edgekit"
