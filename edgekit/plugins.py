"""The only reader of entry points: finds runtimes, exporters, passes and targets, ours and everybody else's.

An entry point of group ``edgekit.runtimes`` (``exporters``, ``passes``) names either

- a package: each of its public modules is one plug-in, called as the module and held in its attribute ``PLUGIN``
  (names are found without importing any of them), or
- an object, ``name = "package.module:Class"``: one plug-in, called as the entry point.

One of group ``edgekit.targets`` names a package whose ``*.toml`` files are target profiles.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any, Literal

from .errors import EdgekitError, EngineError, UsageError, suggestion

Kind = Literal["runtimes", "exporters", "passes"]
_SINGULAR = {"runtimes": "runtime", "exporters": "exporter", "passes": "pass"}


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    origin: str  # "edgekit 0.1.0"
    load: Callable[[], Any]


def names(kind: Kind) -> list[str]:
    """The names of every installed plug-in of a kind, sorted; imports none of them."""
    return sorted(_found(kind))


def load(kind: Kind, name: str) -> Any:
    """Import the plug-in ``name`` and return what its entry point stands for: a class.

    Raises:
        UsageError: there is no such plug-in (with the nearest name).
        EngineError: its module raises when it is imported.
        ModuleNotFoundError: it is edgekit's own, and needs a package of an extra that is not installed.
    """
    found = _found(kind)
    if name not in found:
        raise UsageError(f"{_SINGULAR[kind]} '{name}' is not known", fix=suggestion(name, found))
    try:
        return found[name].load()
    except EdgekitError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and found[name].origin.startswith("edgekit "):
            raise  # an extra that is not installed: whoever asked knows which
        raise EngineError(
            f"{_SINGULAR[kind]} '{name}' of {found[name].origin} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def target_files() -> dict[str, Path]:
    """Target name → its TOML file, from every package that offers targets.

    Raises:
        EdgekitError: two packages offer a target of the same name.
    """
    files: dict[str, Path] = {}
    for point in _entry_points("targets"):
        for folder in _package_folders(point.module):
            for path in sorted(Path(folder).glob("*.toml")):
                if path.stem in files and files[path.stem] != path:
                    raise EdgekitError(f"two packages offer target '{path.stem}': {files[path.stem]} and {path}")
                files[path.stem] = path
    return files


@functools.cache
def _found(kind: Kind) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for point in _entry_points(kind):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        if point.attr:
            offers = [_Found(point.name, origin, point.load)]
        else:
            modules = [item.name for item in pkgutil.iter_modules(_package_folders(point.module))]
            offers = [
                _Found(name, origin, functools.partial(_load_module, f"{point.module}.{name}"))
                for name in modules
                if not name.startswith("_")
            ]
        for offer in offers:
            if offer.name in found:
                other = found[offer.name].origin
                raise EdgekitError(f"{other} and {offer.origin} both offer {_SINGULAR[kind]} '{offer.name}'")
            found[offer.name] = offer
    return found


def _load_module(module: str) -> Any:
    try:
        return import_module(module).PLUGIN
    except AttributeError as error:
        raise EdgekitError(f"{module} is offered as a plug-in but has no attribute PLUGIN") from error


def _package_folders(package: str) -> list[str]:
    spec = util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise EdgekitError(f"an entry point names the package '{package}', which cannot be found")
    return list(spec.submodule_search_locations)


def _entry_points(kind: str) -> list[metadata.EntryPoint]:
    points = sorted(metadata.entry_points(group=f"edgekit.{kind}"), key=lambda point: (point.name, point.value))
    # A distribution can be seen twice (an editable install and the clone it points to): once is enough.
    unique = {(point.name, point.value): point for point in points}
    if not any(point.dist and point.dist.name == "edgekit" for point in unique.values()):
        raise EdgekitError(
            "edgekit is imported from a folder but not installed, so its plug-ins cannot be found",
            fix='Install it: pip install -c constraints.txt -e ".[cpu]"',
        )
    return list(unique.values())
