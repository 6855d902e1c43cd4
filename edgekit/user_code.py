"""Code that a person names (``file.py:name?key=value``, ``package.module:name``): found, called, and told from ours.

What it raises is told by the person's own lines; those of libraries and of edgekit are left out of the traceback.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any
from urllib.parse import parse_qsl

from .errors import SourceError, UsageError, suggestion


def is_factory(spec: str) -> bool:
    """Whether ``spec`` has the form ``x.py``, ``x.py:f`` or ``package.module:f``, with or without ``?…``."""
    main = spec.partition("?")[0]
    head, _, attribute = main.rpartition(":")
    if main.endswith(".py"):
        return True
    return attribute.isidentifier() and (head.endswith(".py") or _is_module_name(head))


def _is_module_name(text: str) -> bool:
    return bool(text) and all(part.isidentifier() for part in text.split("."))


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
            fix=f"For example: {head}:{offers[0]}" if offers else f"{head} defines no function.",
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
        raise SourceError(f"importing {path} {raised(error)}", details=lines(error.__traceback__)) from error
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
        raise SourceError(f"importing {name} {raised(error)}", details=lines(error.__traceback__)) from error
    except Exception as error:
        raise SourceError(f"importing {name} {raised(error)}", details=lines(error.__traceback__)) from error


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
        raise UsageError(f"'{spec}': '{query}' does not have the form key=value&key=value")
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
            fix=f"Give it, as in '{main}?{'&'.join(name + '=…' for name in missing)}'.",
        )
    return given


_PACKAGE = Path(__file__).resolve().parent


@functools.cache
def _foreign_roots() -> tuple[Path, ...]:
    """Folders whose files are libraries: the standard library, site-packages, edgekit itself."""
    paths = sysconfig.get_paths()
    roots = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    beside = [_PACKAGE.parent / name for name in ("exporters", "runtimes")]  # in a clone they lie beside the package
    return (*(Path(root).resolve() for root in roots), _PACKAGE, *beside)


def is_users(filename: str) -> bool:
    """Whether ``filename`` is code that is neither a library's nor edgekit's."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    return not any(path.is_relative_to(root) for root in _foreign_roots())


def user_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames of a traceback that run the user's code, outermost first."""
    return [frame for frame in traceback.extract_tb(trace) if is_users(frame.filename)]


def short(filename: str) -> str:
    """``filename`` relative to the current folder where it lies in it."""
    path = Path(filename).resolve()
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def place(trace: TracebackType | None) -> str:
    """``net.py:12``, the innermost line of the user's code, or '' where there is none."""
    own = user_frames(trace)
    return f"{short(own[-1].filename)}:{own[-1].lineno}" if own else ""


def lines(trace: TracebackType | None) -> list[str]:
    """The user's frames for an error's details: ``net.py:12 in build: raise ValueError(…)``."""
    return [f"{short(f.filename)}:{f.lineno} in {f.name}: {f.line or '?'}" for f in user_frames(trace)]


def raised(error: BaseException) -> str:
    """``raised ValueError at net.py:12: expected 3 channels``, on one line."""
    where = place(error.__traceback__)
    message = " ".join(str(error).split()) or "(no message)"
    if len(message) > 300:
        message = message[:297] + "…"
    return f"raised {type(error).__name__}{f' at {where}' if where else ''}: {message}"
