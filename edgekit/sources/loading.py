"""Functions a person names: ``file.py:name?key=value`` or ``package.module:name``."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

from ..errors import SourceError, UsageError, suggestion
from . import frames


def users_output() -> contextlib.AbstractContextManager[Any]:
    """What the user's code prints goes to stderr: stdout is for edgekit's own answer, which scripts read."""
    return contextlib.redirect_stdout(sys.stderr)


def find(target: str, what: str) -> tuple[Callable[..., Any], str]:
    """The function that ``file.py:name`` or ``package.module:name`` names, and its name.

    Raises:
        SourceError: there is no such file, module or function, or importing it raises.
    """
    head, _, attribute = target.rpartition(":")
    if target.endswith(".py") or not head:
        head, attribute = target, ""
    module = _import_file(Path(head)) if head.endswith(".py") else _import_module(head)
    offers = sorted(
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )
    if not attribute:
        raise SourceError(
            f"'{target}' does not say what to call: name {what}",
            details=[f"{head}:{name}" for name in offers],
            fix=f"For example {head}:{offers[0]}" if offers else f"{head} defines no function",
        )
    if not hasattr(module, attribute):
        raise SourceError(f"{head} has no '{attribute}'", fix=suggestion(attribute, offers))
    function = getattr(module, attribute)
    if not callable(function):
        raise SourceError(f"{target} is a {type(function).__name__}, not a function", fix=suggestion(attribute, offers))
    return function, attribute


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its stem, with its folder on ``sys.path`` as Python does for a script."""
    if not path.is_file():
        near = [item.name for item in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise SourceError(f"there is no file {path}", fix=suggestion(path.name, near) if near else "")
    resolved = path.resolve()
    folder = str(resolved.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A name of its own, so that a user's `json.py` or `net.py` neither shadows a library nor another file of that name.
    name = f"edgekit_user_{resolved.stem}_{abs(hash(str(resolved))):x}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look the module up by name while it runs
    try:
        with users_output():
            spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise SourceError(f"{path} cannot be read as Python: {error.msg} at line {error.lineno}") from error
    except Exception as error:
        del sys.modules[name]
        raise SourceError(
            f"importing {path} {frames.raised(error)}", details=frames.lines(error.__traceback__)
        ) from error
    return module


def _import_module(name: str) -> ModuleType:
    # As `python -m` does, look in the current folder too.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with users_output():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SourceError(
                f"there is no Python module '{error.name}'", fix="A file is named with its ending: net.py:build"
            ) from error
        raise SourceError(
            f"importing {name} {frames.raised(error)}", details=frames.lines(error.__traceback__)
        ) from error
    except Exception as error:
        raise SourceError(
            f"importing {name} {frames.raised(error)}", details=frames.lines(error.__traceback__)
        ) from error


def arguments(spec: str, query: str, function: Callable[..., Any]) -> dict[str, Any]:
    """``width=64&name=tiny`` → ``{"width": 64, "name": "tiny"}``, checked against the factory's signature."""
    given: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key in given:
            raise UsageError(f"'{spec}' gives '{key}' twice")
        try:
            given[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            given[key] = text
    if query and not given:
        raise UsageError(f"'{spec}': '{query}' has not the form key=value&key=value")
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin without one
        return given
    parameters = signature.parameters.values()
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in given:
            if key not in known:
                raise UsageError(f"'{spec}': the factory has no argument '{key}'", fix=suggestion(key, known))
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in given
    ]
    if missing:
        main = spec.partition("?")[0]
        raise UsageError(
            f"'{spec}': the factory needs {', '.join(missing)}",
            fix=f"Give it: '{main}?{'&'.join(name + '=…' for name in missing)}'",
        )
    return given
