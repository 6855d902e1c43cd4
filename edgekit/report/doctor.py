"""What `doctor` found, and the profile of a target, as a person reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .. import units
from ..api.doctor import Report, feature_use
from .layout import Ink, cores_text, labelled, table, wrap


def doctor_text(report: Report, colour: bool, width: int) -> str:
    """The machine, the packages, the engines, the targets; what is wrong comes last, where it is seen."""
    ink = Ink(colour)
    facts = report.machine
    lines = labelled("edgekit", f"{report.edgekit}, Python {report.python}, {facts['os']}", ink, width)
    cpu = f"{facts['cpu'] or 'CPU'} ({facts['machine']}), {cores_text(facts, ' usable')}"
    lines += labelled("machine", f"{facts['board']}, {cpu}" if facts["board"] else cpu, ink, width)
    if report.cpu_features is not None:
        has = [f"{name} ({feature_use(name)})" for name, present in report.cpu_features.items() if present]
        lacks = [name for name, present in report.cpu_features.items() if not present]
        text = ", ".join(has) or "none of those that matter"
        lines += labelled("cpu has", text + (f"; not {', '.join(lacks)}" if lacks else ""), ink, width)
    memory = [units.size(facts["memory_bytes"])] if facts["memory_bytes"] else []
    if report.memory_available_bytes is not None:
        memory.append(f"{units.size(report.memory_available_bytes)} available")
    disk = ", ".join(f"{units.size(free)} free in {folder}" for folder, free in report.disk_free_bytes.items())
    lines += labelled("memory", f"{', '.join(memory) or 'not reported by this system'}; disk: {disk}", ink, width)
    lines += ["", ink.label("packages")]
    rows = [[f"  {item.name}", item.version or "—", item.extra and f"[{item.extra}]"] for item in report.packages]
    for item, line in zip(report.packages, table(rows, "<<<"), strict=True):
        too_old = item.version is not None and item.problem
        lines.append(f"{line}   {ink.bad(str(item.problem))}" if too_old else line if item.version else ink.faint(line))
    lines += ["", ink.label("engines")]
    rows = [[f"  {item.name}", item.version or "—"] for item in report.engines]
    for engine, line in zip(report.engines, table(rows, "<<"), strict=True):
        lines.append(line if engine.reason is None else ink.faint(line))
        lines += [f"      {ink.bad(part)}" for part in wrap(engine.reason or "", width - 6) if part]
    lines += ["", ink.label("targets")]
    rows = [[f"  {item.name}", "ready" if item.ready else "not ready"] for item in report.targets]
    for target, line in zip(report.targets, table(rows, "<<"), strict=True):
        beside = f"{line}   {target.measured or ''}".rstrip()
        fits = len(beside) <= width
        lines.append((beside if fits else line) if target.ready else ink.bad(beside if fits else line))
        lines += [] if fits else [f"      {part}" for part in wrap(target.measured or "", width - 6)]
        lines += [f"      {part}" for need in target.needs for part in wrap(need, width - 6)]
        lines += [f"      {ink.label(command)}" for command in target.install]
    for problem in report.problems:
        lines += ["", *(ink.bad(part) for part in wrap(problem, width))]
    return "\n".join(lines)


def targets_text(rows: list[dict[str, Any]], colour: bool, width: int) -> str:
    """One line a target: name and description."""
    ink = Ink(colour)
    indent = max(len(row["name"]) for row in rows) + 3
    return "\n".join(line for row in rows for line in labelled(row["name"], row["description"], ink, width, indent))


def profile_text(profile: dict[str, Any], colour: bool, width: int) -> str:
    """A target's profile after inheritance: each value with the file it came from."""
    ink = Ink(colour)
    indent = max(len(profile["name"]) + 3, 12)
    lines = labelled(profile["name"], profile["description"], ink, width, indent)
    lines += labelled("files", " ← ".join(short_path(item) for item in profile["files"]), ink, width)
    rows = [[f"  {key}", _toml(value), _origin(key, profile["origins"])] for key, value in _flat(profile)]
    key_width = max(len(row[0]) for row in rows)
    for key, value, origin in rows:
        room = max(width - key_width - 5 - len(origin), 24)
        first, *rest = wrap(value, room)
        lines.append(f"{key:<{key_width}}  {first:<{room}}  {ink.faint(origin)}".rstrip())
        lines += [f"{'':<{key_width}}  {part}" for part in rest]
    return "\n".join(lines)


def short_path(path: str | Path) -> str:
    """The path as a person would type it here: relative to the current folder, or to home, if that is shorter."""
    full = Path(path)
    choices = [str(full)]
    if full.is_relative_to(Path.cwd()):
        choices.append(str(full.relative_to(Path.cwd())))
    elif full.parent.name == "targets":  # one that is installed: its package says enough
        choices.append(full.name)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - "~" itself where there is none; Path.home would raise
    if full.is_relative_to(home):
        choices.append(f"~/{full.relative_to(home)}")
    return min(choices, key=len)


_SKIPPED = {"name", "description", "files", "origins"}


def _flat(profile: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in profile.items():
        if key in _SKIPPED or value in ({}, [], None, ()):
            continue
        if key == "candidates":
            rows += [(f"candidates.{item['name']}", _without_defaults(item)) for item in value]
        elif key == "passes":
            rows.append((key, [_pass(item) for item in value]))
        elif isinstance(value, dict):
            rows += [(f"{key}.{name}", item) for name, item in value.items() if item is not None and item != ""]
        else:
            rows.append((key, value))
    return rows


def _without_defaults(candidate: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in candidate.items() if key != "name" and value not in ({}, [], (), None)}
    if "passes" in shown:
        shown["passes"] = [_pass(item) for item in shown["passes"]]
    return shown


def _pass(item: dict[str, Any]) -> str:
    options = ", ".join(f"{key}={_toml(value)}" for key, value in item["options"].items())
    return f"{item['name']}({options})" if options else str(item["name"])


def _toml(value: Any) -> str:
    """A value as one would write it in a profile; names without quotes, because this is for reading."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value)


def _origin(key: str, origins: dict[str, str]) -> str:
    """The file that states ``key``, or a part of it; "default" where none does."""
    files = [path for name, path in origins.items() if name == key or name.startswith(f"{key}.")]
    return short_path(files[0]) if files else "default"
