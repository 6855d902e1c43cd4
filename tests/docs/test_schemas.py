"""docs/schemas: up to date, one for every command that has --json, closed, and true of what the commands print."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner

from edgekit.cli import main

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in (ROOT / "docs" / "schemas").glob("*.schema.json")}
OPEN = {
    "options", "export_options", "check_options", "in_force", "tune",  # an engine's, a pass's, an exporter's own
    "device", "result", "webgpu",  # `results show`: as it was kept, by whichever version; as the browser tells it
    "parity", "metric", "source", "calibration",  # of a manifest, which holds what an older version wrote too
    "limits", "export", "measure",  # a profile's tables: `edgekit targets new` explains their keys
}  # fmt: skip
"""Keys that may hold more than a schema knows."""
Holds = Callable[[str, Any], None]


def test_they_are_up_to_date() -> None:
    script = [sys.executable, str(ROOT / "docs" / "make_schemas.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run: python docs/make_schemas.py\n{done.stdout}{done.stderr}"


def test_every_command_that_prints_json_has_one() -> None:
    named = {path.replace(" ", "-") for path, command in walk(main, "") if takes_json(command)}
    assert named == SCHEMAS.keys() - {"error"}


def walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def takes_json(command: click.Command) -> bool:
    return any("--json" in item.opts for item in command.params)


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema_and_closed_where_the_keys_are_known(name: str) -> None:
    schema = json.loads(SCHEMAS[name].read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"]
    for key, table in tables(schema, ""):
        if "properties" in table:
            assert table["additionalProperties"] is False, key
            assert {*table.get("required", ())} <= {*table["properties"]}
        elif table.get("additionalProperties") is True:
            assert key in OPEN, f"{name}: '{key}' may hold anything"


def tables(value: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of an object in a schema, with the key that it stands under."""
    if isinstance(value, Mapping):
        if value.get("type") == "object":
            yield key, value
        for name, item in value.items():
            if name == "properties":
                for inner, below in item.items():
                    yield from tables(below, inner)
            elif name != "additionalProperties":
                yield from tables(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from tables(item, key)


def test_a_key_that_is_not_known_and_one_that_is_missing_are_refused(holds_schema: Holds) -> None:
    row = {"schema": 1, "bundle": "a", "packed": "a.zip", "size_bytes": 3}
    holds_schema("bundle pack", row)
    with pytest.raises(AssertionError, match="'surprise' was unexpected"):
        holds_schema("bundle pack", {**row, "surprise": 1})
    with pytest.raises(AssertionError, match="'packed' is a required property"):
        holds_schema("bundle pack", {key: row[key] for key in row if key != "packed"})


# ── What the commands print ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def printed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds_schema: Holds
) -> Callable[..., dict[str, Any]]:
    """Runs a command line with --json in a copy of the project, and holds what it prints to its schema."""
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("EDGEKIT_RESULTS")
    names = {path for path, _ in walk(main, "")}

    def run(line: str, code: int = 0) -> dict[str, Any]:
        words = shlex.split(line)
        done = CliRunner().invoke(main, [*words, "--json"])
        assert done.exit_code == code, done.output
        value: dict[str, Any] = json.loads(done.stdout)
        command = " ".join(words[:2]) if " ".join(words[:2]) in names else words[0]
        holds_schema("error" if "error" in value else command, value)
        return value

    return run


QUICK = [
    "results list",
    "results show latest",
    "report latest",
    "targets list",
    "targets show cpu",
    "targets show desktop-tensorrt",
    "targets show web",
    "targets new my-board --extends cpu-arm64",
    "bundle verify build.edgekit",
    "bundle pack build.edgekit",
    "bundle run build.edgekit",
    "bundle run build.edgekit --data test.npz -o outputs.npz",
    "inspect build.edgekit",
]


@pytest.mark.parametrize("line", QUICK)
def test_quick(line: str, printed: Callable[..., dict[str, Any]]) -> None:
    printed(line)


def test_unpack(printed: Callable[..., dict[str, Any]]) -> None:
    printed("bundle pack build.edgekit")
    printed("bundle unpack build.edgekit.zip -o copy.edgekit")


@pytest.mark.parametrize(
    ("line", "code"), [("bench nothing.edgekit", 7), ("export net.py:nothing -t cpu", 3), ("export net.py -t cpuu", 2)]
)
def test_an_error(line: str, code: int, printed: Callable[..., dict[str, Any]]) -> None:
    assert printed(line, code)["error"]["exit_code"] == code


SLOW = [
    "doctor",
    "inspect net.py:build --target cpu",
    "bench build.edgekit --max-time 2 --profile --cores 0 --nice 1",
    "bench build.edgekit --max-time 1 --mode throughput",
    "bench build.edgekit --max-time 1 --mode server --rate 50 --deadline 20ms",
    "bench build.edgekit --mode sustained --duration 5s",
    "evaluate build.edgekit --data test.npz --metric top1 --source net.py:build",
    "evaluate build.edgekit --data test.npz --metric cosine --ignore-labels --source net.py:build",
    "export net.py:build -t raspberry-pi-5 --candidate 'onnxruntime fp32' --overwrite",
]


@pytest.mark.slow
@pytest.mark.parametrize("line", SLOW)
def test_slow(line: str, printed: Callable[..., dict[str, Any]]) -> None:
    printed(line)


@pytest.mark.slow
def test_an_export_and_what_follows(printed: Callable[..., dict[str, Any]]) -> None:
    candidates = (
        "--candidate 'onnxruntime fp32' --candidate 'onnxruntime int8 static' --candidate 'onnxruntime int4 weights'"
    )
    data = "--data test.npz --calibration-data train.npz --metric top1 --max-drop 1"
    told = printed(f"export net.py:build -t cpu {candidates} {data} --max-time 2 --threads 1 -o int8.edgekit")
    assert len(told["candidates"]) == 3
    assert told["result"]
    printed("inspect int8.edgekit")
    assert printed("compare build.edgekit int8.edgekit --max-time 2")["result"]
    for name in ("build", "int8"):  # in enough processes for an interval, however busy the machine is
        printed(f"bench {name}.edgekit --seconds 1 --processes 5")
    printed("results compare latest latest~1")
    for back in ("latest", "latest~2", "latest~3"):
        printed(f"results show {back}")
    printed("results list")
