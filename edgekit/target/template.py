"""A commented profile to start from: every key that `target` knows, explained, with the value it inherits."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import OutputError, UsageError
from ..tempdir import work_folder, writing
from .load import CANDIDATE_KEYS, KEYS, RUNTIME_KEYS, SECTIONS, load_target
from .profile import Candidate, PassSpec, Target

_WIDTH = 110
_UNSTATED = "…"
_HEAD = """\
A target profile of edgekit: `edgekit targets show {file}` prints what it amounts to, and `--target {file}` uses it.
A line that is commented out shows what holds without it: take the # away to change it. `{unstated}`: not stated."""


def new_target(name: str, extends: str, output: Path | None = None) -> Target:
    """Write a profile that inherits all of another one, and load it.

    Args:
        name: the new target's.
        extends: a target's name, or the path of its TOML file.
        output: the file, ``NAME.toml``, or the folder for it; default: in the current folder.

    Raises:
        UsageError: the name cannot be a target's, or ``extends`` is unknown.
        OutputError: the file exists, or cannot be written.
    """
    path = output if output is not None else Path(f"{name}.toml")
    path = path / f"{name}.toml" if path.is_dir() else path
    _refuse_name(name, path)
    parent = load_target(extends)
    if _is_file(extends):  # a profile's `extends` is relative to its own folder
        extends = Path(os.path.relpath(Path(extends).resolve(), path.resolve().parent)).as_posix()
    if os.path.lexists(path):
        raise OutputError(f"'{path}' exists", fix="Choose another name, or another file with -o.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write '{path}': its folder does not exist", fix="Create it first.")
    with work_folder(beside=path) as folder:
        draft = folder / path.name
        with writing(path):
            draft.write_text(template(name, extends, parent, path.as_posix()), encoding="utf-8")
            os.link(draft, path)  # unlike a rename it fails where somebody was faster
    return load_target(path.resolve())


def _is_file(name: str) -> bool:
    return name.endswith(".toml") or "/" in name or "\\" in name


def _refuse_name(name: str, path: Path) -> None:
    if not re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", name):
        raise UsageError(
            f"'{name}' cannot be a target's name",
            fix="Allowed: lower-case letters and digits, in parts joined by '-' or '.': my-board.",
        )
    if name in plugins.target_files():
        raise UsageError(f"target '{name}' exists already ({plugins.target_files()[name]})", fix="Choose another name.")
    if path.name != f"{name}.toml":
        raise UsageError(f"a target's file must have the name of the target: {name}.toml, got '{path.name}'")


def template(name: str, extends: str, parent: Target, file: str) -> str:
    """The text of a profile that adds nothing to ``parent`` yet.

    Args:
        name: the new target's.
        extends: what it calls its parent.
        parent: after inheritance.
        file: its own path, for the examples.
    """
    lines = [*_comment(_HEAD.format(file=file, unstated=_UNSTATED)), ""]
    lines += [*_comment(KEYS["name"]), f"name = {_toml(name)}"]
    lines += [*_comment(KEYS["extends"]), f"extends = {_toml(extends)}"]
    lines += [*_comment(KEYS["description"]), f"description = {_toml(f'{name}: like {parent.name}')}"]
    lines += _inherited("abstract", KEYS["abstract"], False)
    lines += _inherited("arch", KEYS["arch"], parent.arch)
    lines += [*_comment(KEYS["passes"]), "# passes = ["]
    lines += [*(f"#     {_toml(_pass(item))}," for item in parent.passes), "# ]"]
    for section, cls in SECTIONS.items():
        if section != "verified":
            lines += _section(section, cls, getattr(parent, section))
    lines += ["", *_comment(KEYS["runtime"]), "[runtime]"]
    lines += _inherited("name", RUNTIME_KEYS["name"], parent.candidates[0].runtime)
    lines += _inherited("options", RUNTIME_KEYS["options"], None)
    tune = _shared_tune(parent.candidates)
    lines += ["", *_comment(KEYS["tune"]), "[tune]"]
    lines += [f"# {key} = {_toml(values)}" for key, values in tune.items()]
    for section in ("tolerance", "tolerance_with_metric"):
        lines += ["", *_comment(KEYS[section])]
        for precision, tolerance in getattr(parent, section).items():
            lines.append(f"[{section}.{precision}]")
            lines += [f"# {key} = {_toml(value)}" for key, value in tolerance.to_json().items()]
    lines += _section("verified", SECTIONS["verified"], SECTIONS["verified"]())
    lines += ["", *_comment(f"{KEYS['candidates']} Their keys:")]
    lines += [line for key, doc in CANDIDATE_KEYS.items() for line in _comment(f"{key}: {doc}", indent=2)]
    for item in parent.candidates:
        lines += ["#", "# [[candidates]]"]
        lines += [f"# {key} = {_toml(value)}" for key, value in _candidate(item, tune).items()]
    return "\n".join(lines) + "\n"


def _section(name: str, cls: type[Any], values: Any) -> list[str]:
    lines = ["", *_comment(KEYS[name]), f"[{name}]"]
    for field in dataclasses.fields(cls):
        lines += _inherited(field.name, field.metadata["doc"], getattr(values, field.name))
    return lines


def _inherited(key: str, doc: str, value: Any) -> list[str]:
    unstated = value is None or value == ""
    return [*_comment(doc), f"# {key} = {_UNSTATED if unstated else _toml(value)}"]


def _candidate(item: Candidate, shared_tune: Mapping[str, Any]) -> dict[str, Any]:
    """What a candidate states, key by key; what is empty is left out."""
    values = {
        "name": item.name,
        "runtime": item.runtime,
        "precision": item.precision,
        "format": item.format,
        "passes": [_pass(step) for step in item.passes],
        "export_options": item.export_options,
        "options": item.options,
        "tune": {key: values for key, values in item.tune.items() if key not in shared_tune},
        "arch": item.arch,
    }
    return {key: value for key, value in values.items() if value}


def _shared_tune(candidates: Sequence[Candidate]) -> Mapping[str, Any]:
    first = candidates[0].tune
    return {key: value for key, value in first.items() if all(item.tune.get(key) == value for item in candidates)}


def _pass(step: PassSpec) -> dict[str, Any]:
    return {"name": step.name, **step.options}


def _comment(text: str, indent: int = 0) -> list[str]:
    head = "# " + " " * indent
    return [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, _WIDTH, initial_indent=head, subsequent_indent=head, break_on_hyphens=False)
    ]


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are written alike
