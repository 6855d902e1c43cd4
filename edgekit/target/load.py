"""Target profiles: read, inherit, validate.

A profile is a TOML file (see ``targets/``). ``extends`` names one profile or several; later ones win. Tables merge key
by key; ``candidates`` merge by their name; every other value replaces the inherited one.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import plugins
from ..contracts import Tolerance, options_from
from ..errors import UsageError, suggestion
from .profile import (
    Candidate,
    ExportRules,
    Limits,
    MeasureRules,
    PassSpec,
    Target,
    Verified,
)


def load_target(name_or_path: str | Path) -> Target:
    """Read a profile by its name or by the path of its TOML file, with all it inherits.

    Raises:
        UsageError: unknown name (with the nearest), malformed TOML, unknown key, wrong type, or a cycle.
    """
    path = _find(str(name_or_path), relative_to=None)
    merged, origins, files = _inherit(path, seen=())
    return _build(merged, origins, files)


def _find(name: str, relative_to: Path | None) -> Path:
    if name.endswith(".toml") or "/" in name or "\\" in name:
        path = Path(name) if relative_to is None else relative_to / name
        if not path.is_file():
            raise UsageError(f"target file '{path}' does not exist", fix="List the built-in ones: edgekit targets list")
        return path.resolve()
    files = plugins.target_files()
    if name in files:
        return files[name]
    if relative_to is not None and (relative_to / f"{name}.toml").is_file():
        return (relative_to / f"{name}.toml").resolve()
    raise UsageError(f"target '{name}' is not known", fix=f"{suggestion(name, files)} (edgekit targets list)")


def _inherit(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, Path], tuple[Path, ...]]:
    if path in seen:
        chain = " → ".join(item.stem for item in (*seen, path))
        raise UsageError(f"target profiles extend each other in a cycle: {chain}")
    own = _read(path)
    own.setdefault("abstract", False)  # never inherited
    parents = own.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(item, str) for item in parents):
        raise UsageError(f"{path}: 'extends' must be a name or a list of names, got {parents!r}")
    merged: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    files: tuple[Path, ...] = (path,)
    for parent in parents:
        above, above_origins, above_files = _inherit(_find(parent, relative_to=path.parent), (*seen, path))
        above.pop("verified", None)  # what was tried there says nothing about this one
        above_origins = {key: item for key, item in above_origins.items() if not key.startswith("verified.")}
        _merge(merged, above, origins, above_origins)
        files += tuple(item for item in above_files if item not in files)
    _merge(merged, own, origins, dict.fromkeys(_dotted(own), path))
    _bind_runtime(merged)
    return merged, origins, files


def _bind_runtime(table: dict[str, Any]) -> None:
    """Give each candidate without a runtime its own profile's: a profile that extends this one may name another."""
    runtime, candidates = table.get("runtime"), table.get("candidates")
    if isinstance(runtime, Mapping) and "name" in runtime and isinstance(candidates, list):
        own = {"runtime": runtime["name"]}
        table["candidates"] = [{**own, **item} if isinstance(item, Mapping) else item for item in candidates]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read target file '{path}': {error.strerror}") from error


def _dotted(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            keys += _dotted(value, f"{prefix}{key}.")
        elif key == "candidates" and isinstance(value, list):
            keys += [f"candidates.{item.get('name', '?')}" for item in value if isinstance(item, Mapping)]
        else:
            keys.append(prefix + key)
    return keys


def _merge(
    into: dict[str, Any], table: Mapping[str, Any], origins: dict[str, Path], table_origins: Mapping[str, Path]
) -> None:
    for key, value in table.items():
        if key == "candidates" and isinstance(value, list):
            into[key] = _merge_candidates(into.get(key, []), value)
        elif isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value, {}, {})
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value
    origins.update(table_origins)


def _merge_candidates(above: Sequence[Any], own: Sequence[Any]) -> list[Any]:
    by_name = {
        item.get("name", index) if isinstance(item, Mapping) else index: item for index, item in enumerate(above)
    }
    for index, item in enumerate(own):
        name = item.get("name", index) if isinstance(item, Mapping) else index
        known = by_name.get(name)
        by_name[name] = {**known, **item} if isinstance(known, Mapping) and isinstance(item, Mapping) else item
    return list(by_name.values())


KEYS = {
    "name": "The file's name without .toml.",
    "extends": "The profile or profiles to start from: a name, a file, or a list of them; later ones win.",
    "description": "One line for `edgekit targets list`.",
    "abstract": "Only there to be extended: no device by itself. Not inherited.",
    "arch": 'The machines it is for, as Python\'s platform.machine() says: "x86_64", "aarch64". Empty: any.',
    "limits": "What the device has.",
    "export": "How the graph and the artifact are written.",
    "passes": "Graph passes for every candidate, in order, before its own: a name, and the pass's options beside it.",
    "runtime": "The engine, and the session options, of candidates that name none.",
    "candidates": "The ways to ship a model: each is built, checked and measured, and the fastest within the accuracy "
    "is picked; where nothing can be measured, the first. They merge by name with those above.",
    "tune": "Session option → values to try on every candidate, measured. 0 threads: every physical core.",
    "tolerance": "Precision → how far its outputs may be from PyTorch's in fp32. Bounds: max_abs, rel_l2, sqnr_db, "
    "atol with rtol.",
    "tolerance_with_metric": "The same where a metric on labels judges the accuracy; this then only guards against a "
    "graph that computes something else.",
    "measure": "How the device is measured.",
    "verified": "Where this very profile was tried, a line each. Not inherited.",
}
"""The keys of a profile, and what they mean."""
CANDIDATE_KEYS = {
    "name": "What the tables and --candidate call it. One of above with this name is changed key by key.",
    "runtime": "The engine's adapter.",
    "precision": "What it computes in: names its tolerance.",
    "format": "The artifact exporter.",
    "passes": "Graph passes of its own.",
    "export_options": "Options of the artifact exporter.",
    "options": "Session options, fixed.",
    "tune": "Session option → values to try.",
    "arch": "Machines that it is made for.",
    "check_with": "The runtime that checks the numerics where this machine cannot run the engine.",
    "check_options": "The session options of that one.",
    "device": "Where its nodes have to run; without it: where [measure] says.",
    "disabled": "true takes an inherited candidate out.",
}
"""The keys of one of its candidates."""
RUNTIME_KEYS = {
    "name": "The engine's adapter.",
    "options": "Session options of each candidate of this engine.",
    "check_with": CANDIDATE_KEYS["check_with"],
    "check_options": CANDIDATE_KEYS["check_options"],
}
SECTIONS: Mapping[str, type[Any]] = {
    "limits": Limits,
    "export": ExportRules,
    "measure": MeasureRules,
    "verified": Verified,
}
"""The tables whose keys are the fields of a class."""


def _build(table: dict[str, Any], origins: Mapping[str, Path], files: tuple[Path, ...]) -> Target:
    where = str(files[0])
    _refuse_unknown(table, KEYS, where)
    name = table.get("name")
    if not isinstance(name, str) or name != files[0].stem:
        raise UsageError(f"{where}: 'name' must be the file's name, '{files[0].stem}', got {name!r}")
    export = options_from(ExportRules, _table(table, "export", where), f"[export] of {where}")
    runtime = _table(table, "runtime", where)
    _refuse_unknown(runtime, RUNTIME_KEYS, f"[runtime] of {where}")
    tune = _tune(table.get("tune", {}), f"[tune] of {where}")
    raw = table.get("candidates", [])
    if not isinstance(raw, list):
        raise UsageError(f"{where}: 'candidates' must be an array of tables ([[candidates]]), got {raw!r}")
    candidates = tuple(
        _candidate(item, export, runtime, tune, where)
        for item in raw
        if not (isinstance(item, Mapping) and item.get("disabled"))
    )
    if not candidates:
        if "name" not in runtime:
            raise UsageError(f"{where}: a profile needs [runtime] with a name, or [[candidates]]")
        candidates = (_candidate({"name": f"{runtime['name']} fp32"}, export, runtime, tune, where),)
    return Target(
        name=name,
        description=str(table.get("description", "")),
        abstract=bool(table["abstract"]),
        arch=_strings(table.get("arch", []), f"{where}: 'arch'"),
        limits=options_from(Limits, _table(table, "limits", where), f"[limits] of {where}"),
        export=export,
        passes=_passes(table.get("passes", []), where),
        candidates=candidates,
        tolerance=_tolerances(table, "tolerance", where),
        tolerance_with_metric=_tolerances(table, "tolerance_with_metric", where),
        measure=options_from(MeasureRules, _table(table, "measure", where), f"[measure] of {where}"),
        verified=options_from(Verified, _table(table, "verified", where), f"[verified] of {where}"),
        files=files,
        origins=dict(origins),
    )


def _candidate(
    item: object, export: ExportRules, runtime: Mapping[str, Any], tune: Mapping[str, tuple[Any, ...]], where: str
) -> Candidate:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise UsageError(f"{where}: every candidate is a table with a 'name', got {item!r}")
    here = f"candidate '{item['name']}' of {where}"
    _refuse_unknown(item, CANDIDATE_KEYS, here)
    engine = item.get("runtime", runtime.get("name"))
    if not isinstance(engine, str):
        raise UsageError(f"{here} needs a 'runtime'")
    above = runtime if engine == runtime.get("name") else {}
    inherited = above.get("options", {})
    written = str(item.get("format", export.format))
    shared = export.options if written == export.format else {}
    return Candidate(
        name=item["name"],
        runtime=engine,
        precision=str(item.get("precision", "fp32")),
        format=written,
        passes=_passes(item.get("passes", []), here),
        export_options={**shared, **_table(item, "export_options", here)},
        options={**inherited, **_table(item, "options", here)},
        tune={**tune, **_tune(item.get("tune", {}), f"'tune' of {here}")},
        arch=_strings(item.get("arch", []), f"{here}: 'arch'"),
        check_with=str(item.get("check_with", above.get("check_with", ""))),
        check_options=_table(item, "check_options", here) or _table(above, "check_options", f"[runtime] of {where}"),
        device=_optional_string(item, "device", here),
    )


def _optional_string(table: Mapping[str, Any], key: str, where: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}: '{key}' must be a string, got {value!r}")
    return value


def _passes(items: object, where: str) -> tuple[PassSpec, ...]:
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and "name" in item for item in items):
        raise UsageError(f"{where}: 'passes' must be tables with a 'name' ([[passes]]), got {items!r}")
    return tuple(PassSpec(str(item["name"]), {k: v for k, v in item.items() if k != "name"}) for item in items)


def _tolerances(table: Mapping[str, Any], key: str, where: str) -> dict[str, Tolerance]:
    rows = _table(table, key, where)
    return {
        precision: options_from(
            Tolerance, _table(rows, precision, f"[{key}] of {where}"), f"[{key}.{precision}] of {where}"
        )
        for precision in rows
    }


def _tune(value: object, where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, Mapping) or not all(isinstance(choices, list) and choices for choices in value.values()):
        raise UsageError(f"{where} must map a session option to a list of values to try, got {value!r}")
    return {key: tuple(choices) for key, choices in value.items()}


def _table(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: '{key}' must be a table, got {value!r}")
    return dict(value)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{where} must be a list of strings, got {value!r}")
    return tuple(value)


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: unknown key '{key}'", fix=suggestion(key, known))


def profile(target: Target) -> dict[str, Any]:
    """The profile after inheritance as plain JSON values, with the file each value came from under ``origins``."""
    value = dataclasses.asdict(target)
    value["tolerance"] = {key: item.to_json() for key, item in target.tolerance.items()}
    value["tolerance_with_metric"] = {key: item.to_json() for key, item in target.tolerance_with_metric.items()}
    value["files"] = [str(item) for item in target.files]
    value["origins"] = {key: str(item) for key, item in target.origins.items()}
    return value
