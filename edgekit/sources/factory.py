"""``file.py:factory``, ``package.module:factory``, and a module handed over from Python."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from .. import user_code
from ..errors import SourceError, UsageError, suggestion
from . import build
from .flags import FreeAxis, flag_for, parse_input
from .flat import argument_names, required_arguments
from .source import NoExampleError, Source


def load(spec: str, inputs: Sequence[str], dynamic: Sequence[str]) -> Source:
    """Import the factory that ``spec`` names, call it, and describe the model it returns.

    Raises:
        SourceError, UsageError: see `edgekit.sources.load.load_source`.
    """
    target, _, query = spec.partition("?")
    function, attribute = user_code.find(target, "a factory that returns an nn.Module")
    arguments = user_code.arguments(spec, query, function)
    try:
        with user_code.users_output():
            made = function(**arguments)
    except Exception as error:
        raise SourceError(
            f"{target} {user_code.raised(error)}", details=user_code.lines(error.__traceback__)
        ) from error
    return _from_made(spec, target, attribute, made, inputs, dynamic, owned=True)


def load_module(spec: object, inputs: Sequence[str], dynamic: Sequence[str]) -> Source:
    """Describe a module, or (module, example inputs), that a Python caller hands over and keeps."""
    module = spec[0] if isinstance(spec, tuple) and spec else spec
    name = type(module).__name__
    return _from_made(name, name, name.lower(), spec, inputs, dynamic, owned=False)


def _from_made(
    spec: str, target: str, name: str, made: object, inputs: Sequence[str], dynamic: Sequence[str], *, owned: bool
) -> Source:
    module, example = _split(target, made)
    prepared = build.prepare(module, owned=owned)
    module, notes = prepared.module, list(prepared.notes)
    free: list[FreeAxis] = []
    if inputs:
        args, kwargs, free = example_from_flags(module, inputs)
        if example is not None:
            notes.append("the factory's example inputs were replaced by --input")
    elif example is None:
        raise _no_example(target, module)
    else:
        args, kwargs = example
    return build.from_module(
        spec,
        "factory",
        name,
        module,
        args,
        kwargs,
        dynamic=dynamic,
        free=free,
        converted=prepared.converted,
        notes=notes,
        made=[flag.name for flag in map(parse_input, inputs) if flag.value is None],
    )


def _split(target: str, made: object) -> tuple[torch.nn.Module, tuple[tuple[Any, ...], dict[str, Any]] | None]:
    """The module, and the arguments of an example call as (args, kwargs) if there are any."""
    if isinstance(made, torch.nn.Module):
        return made, None
    if isinstance(made, torch.export.ExportedProgram):
        raise SourceError(
            f"{target} returned an ExportedProgram", fix="Save it with torch.export.save and name the .pt2."
        )
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
        raise SourceError(
            f"{target} returned {_what(made)}, which is neither an nn.Module nor (nn.Module, example inputs)",
            fix="Return an instance of the class, not the class." if inspect.isclass(made) else "",
        )
    module, example = made
    if isinstance(example, tuple) and not hasattr(example, "_fields"):
        return module, (example, {})
    if isinstance(example, dict) and all(isinstance(key, str) for key in example):
        if set(example) <= set(argument_names(module)) or len(required_arguments(module)) != 1:
            return module, ((), example)
        return module, ((example,), {})  # a forward that takes one dictionary
    return module, ((example,), {})


def _what(value: object) -> str:
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def example_from_flags(
    module: torch.nn.Module, inputs: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any], list[FreeAxis]]:
    """Example arguments by the names of ``forward``, and the dimensions made free, from ``--input`` flags.

    Raises:
        UsageError: a name is unknown, twice there, or missing.
    """
    flags = [parse_input(text) for text in inputs]
    known, names = argument_names(module), [flag.name for flag in flags]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(module.forward).parameters.values())
    for name in names:
        if name not in known and not takes_any:
            raise UsageError(
                f"--input '{name}': {type(module).__name__}.forward has no argument '{name}'",
                fix=suggestion(name, known),
            )
        if names.count(name) > 1:
            raise UsageError(f"--input '{name}' is given twice")
    missing = [name for name in required_arguments(module) if name not in names]
    if missing:
        raise UsageError(
            f"{type(module).__name__}.forward also needs {', '.join(missing)}",
            fix=f"Add {' '.join(flag_for(name, None) for name in missing)}",
        )
    kwargs = {flag.name: torch.from_numpy(flag.make()) for flag in flags}
    free = [FreeAxis(flag.name, axis, dim, chosen=True) for flag in flags for axis, dim in flag.free.items()]
    positional = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind is p.POSITIONAL_ONLY]
    args = tuple(kwargs.pop(name) for name in positional if name in kwargs)
    return (
        args,
        {name: kwargs[name] for name in sorted(kwargs, key=lambda n: known.index(n) if n in known else 99)},
        free,
    )


def _no_example(target: str, module: torch.nn.Module) -> NoExampleError:
    needed = required_arguments(module) or argument_names(module)[:1]
    optional = [name for name in argument_names(module) if name not in needed]
    flags = " ".join(_guess(module, name) for name in needed)
    return NoExampleError(
        f"{target} returned {type(module).__name__} without example inputs",
        needed=needed,
        details=[
            f"forward takes: {', '.join(needed)}" + (f"; optional: {', '.join(optional)}" if optional else ""),
        ],
        fix=f"Return (module, example inputs), or add {flags}",
    )


def _guess(module: torch.nn.Module, name: str) -> str:
    """A ``--input`` flag for one argument, as far as the module's first layer tells."""
    first = next((part for part in module.modules() if next(part.parameters(recurse=False), None) is not None), None)
    shape, dtype = "SHAPE", "float32"
    if isinstance(first, torch.nn.Conv2d):
        shape = f"1x{first.in_channels}x224x224"
    elif isinstance(first, torch.nn.Conv1d):
        shape = f"1x{first.in_channels}x128"
    elif isinstance(first, torch.nn.Linear):
        shape = f"1x{first.in_features}"
    elif isinstance(first, torch.nn.Embedding):
        dtype, shape = "int64", "1x128"
    return f"--input {name}:{dtype}:{shape}"
