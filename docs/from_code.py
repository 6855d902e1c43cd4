"""The pages that are written from the code: every command, the Python API, every error, the JSON of every command.

`docs/hooks.py` calls this while the site is built; `python docs/from_code.py commands.md` prints a page. It needs the
core of edgekit alone: click, numpy and packaging.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import edgekit
from edgekit import cli, errors

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "docs" / "schemas"
SOURCES = ("edgekit", "exporters", "runtimes", "examples")
"""The folders whose code may raise errors."""


# ── Every command ────────────────────────────────────────────────────────────────────────────────────────────────────

_COMMANDS = """\
# Commands

Written from the command line itself, while this page was built. Every command takes `--json` (one object on standard
output, everything else on standard error), `-q` (no progress), `--debug` (tracebacks, and what libraries print) and
`-h`. What `--json` prints is on [its page](json.md), the exit codes on [theirs](errors.md).

The environment variables that edgekit reads: `EDGEKIT_RESULTS` names the folder in which results are kept,
`EDGEKIT_BROWSER` and `EDGEKIT_BROWSER_ARGS` another browser and its arguments, `EDGEKIT_ORT_WEB` a folder with
onnxruntime-web, `EDGEKIT_ENGINE_TIMEOUT` after how many seconds without a sign of life an engine is given up (0: never;
by default 1800 for opening a model, which may build it, and 600 for all else).
"""
_COMMON = {"--json", "--quiet", "--debug", "--help", "--version"}


@dataclass(frozen=True, slots=True)
class Command:
    """A command that does something, not a group of others."""

    path: str
    command: click.Command
    context: click.Context

    @property
    def examples(self) -> list[str]:
        """The lines that its help shows."""
        text = str(self.command.epilog or "").partition("Example:")[2]
        return [line.strip() for line in text.splitlines() if line.strip()]


def walk(
    command: click.Command = cli.main, path: str = "edgekit", parent: click.Context | None = None
) -> Iterator[Command]:
    """Every command, depth first, a group before what is in it."""
    context = click.Context(command, info_name=path.split()[-1], parent=parent)
    yield Command(path, command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, f"{path} {name}", context)


def commands() -> str:
    """The page of all commands."""
    items = list(walk())[1:]
    lines = [_COMMANDS, "| | |", "|---|---|"]
    for item in items:
        if item.path.count(" ") == 1:
            first = paragraphs(item.command)[0]
            lines.append(f"| [`{item.path}`](#{anchor(item.path)}) | {cell(first)} |")
    for item in items:
        lines += _command(item)
    return "\n".join(lines) + "\n"


def _command(item: Command) -> list[str]:
    level = "##" if item.path.count(" ") == 1 else "###"
    lines = ["", f"{level} {item.path} {{ #{anchor(item.path)} }}", ""]
    for part in paragraphs(item.command):
        lines += [part, ""]
    if isinstance(item.command, click.Group):
        return lines
    usage = " ".join([item.path, *item.command.collect_usage_pieces(item.context)])
    lines += ["```text", usage, "```", ""]
    options = [
        option
        for option in item.command.get_params(item.context)
        if isinstance(option, click.Option) and not option.hidden and max(option.opts, key=len) not in _COMMON
    ]
    if options:
        lines += ["| option | default | |", "|---|---|---|"]
        lines += [_option(option, item.context) for option in options]
        lines += [""]
    if item.examples:
        lines += ["```sh", *item.examples, "```", ""]
    return lines


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    metavar = "" if option.is_flag or option.count else f" {option.make_metavar(context)}"
    told = option.help or ""
    default = option.get_default(context, call=False)
    shown = "" if option.is_flag or not isinstance(default, (str, int, float)) else f"`{default}`"
    needed = "required" if option.required else shown
    return f"| `{names}{metavar}` | {needed} | {cell(markdown(told))} |"


def paragraphs(command: click.Command) -> list[str]:
    """The help's text, each paragraph on one line, without click's marks."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    return [markdown(" ".join(part.split())) for part in re.split(r"\n\s*\n", text) if part.strip()]


def markdown(text: str) -> str:
    """Plain text as Markdown shows it unchanged, but for options and addresses, which become code."""
    text = re.sub(r"([*_<>\[\]])", r"\\\1", text)
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]+)", r"`\1`", text)


def cell(text: str) -> str:
    """Markdown for a table's cell."""
    return text.replace("|", "\\|")


def anchor(path: str) -> str:
    return path.removeprefix("edgekit ").replace(" ", "-")


# ── The Python API ───────────────────────────────────────────────────────────────────────────────────────────────────

_API = """\
# Python API

Written from the docstrings. `import edgekit` costs nothing; what is listed here is loaded when it is first used.

"""
_RESULTS = """
## What they return

Each result has `to_json()`: the object that the command's `--json` prints, whose keys are on [its page](json.md).

"""
_CONTRACTS = """
## Contracts

What a runtime, an exporter and a pass hand to each other. They need numpy alone, and are part of every bundle.

"""
_TESTING = """
## Conformance kits

A plug-in's test subclasses one of these and supplies a fixture: see [extending](extend/runtime.md).

"""
CONTRACTS = (
    "TensorSpec", "Artifact", "NodePlacement", "Placement", "Runtime", "Session", "Profiles", "Emulated",
    "OutOfProcess", "Embeddable", "AppGlue", "Tolerance", "PassRecord", "Progress",
)  # fmt: skip
TESTING = ("runtimes", "passes", "exporters", "targets")


def api() -> str:
    """The page of the Python API: mkdocstrings fills in what stands after `:::`."""
    names = [name for name in edgekit.__all__ if not name.startswith("_")]
    lines = [_API, "## Functions", ""]
    lines += [f"::: edgekit.{name}\n" for name in names]
    lines += [
        _RESULTS,
        *(f"::: {name}\n    options:\n      members: [pick, drop, verdict, runs, to_json]\n" for name in results()),
    ]
    lines += ["::: edgekit.bundle.Bundle\n", "::: edgekit.bundle.Model\n"]
    lines += ["\n## Errors\n\nEach class with its exit code and its cures: [errors and exit codes](errors.md).\n"]
    lines += ["::: edgekit.errors.EdgekitError\n"]
    lines += [_CONTRACTS, *(f"::: edgekit.contracts.{name}\n" for name in CONTRACTS)]
    lines += ["\n## Passes\n", "::: edgekit.passes.GraphPass\n", "::: edgekit.passes.Change\n"]
    lines += [
        _TESTING,
        *(f"::: edgekit.testing.{name}\n    options:\n      show_if_no_docstring: false\n" for name in TESTING),
    ]
    return "\n".join(lines)


def results() -> list[str]:
    """The classes that the API's functions return, by their full names, wherever their modules lie."""
    found = []
    for name in edgekit.__all__:
        function = getattr(edgekit, name)
        if inspect.isfunction(function):
            returned = str(function.__annotations__["return"])
            owner = sys.modules[function.__module__]
            cls = getattr(owner, returned, None)
            if inspect.isclass(cls) and returned != "Bundle":
                found.append(f"{cls.__module__}.{cls.__qualname__}")
    return found


# ── Every error ──────────────────────────────────────────────────────────────────────────────────────────────────────

_ERRORS = """\
# Errors and exit codes

An error says what is wrong, with the values that made it so, and how to fix it. It is one line on standard error, or a
few where it lists nodes, layers or samples:

```text
edgekit: target 'jetsen' is not known. Did you mean 'jetson'? (edgekit targets list)
```

With `--json`, standard output holds `{{"schema": 1, "error": {{"message", "details", "fix", "exit_code"}}}}`; `--debug`
shows the traceback too. From Python, each is an exception with `what`, `details`, `fix` and `exit_code`.

## Exit codes

| code | exception | meaning |
|---|---|---|
| 0 | | done |
{rows}
| 130, 143 | | interrupted (Ctrl-C), terminated |

## Every error

Gathered from the code while this page was built: each place that raises one, by its exception. `…` stands for a value.
"""
_NEVER = "Nothing in this version raises it: it belongs to budgets, which are not there yet."
_CODES = {
    1: "unexpected: a bug, or out of memory. --debug shows where",
}
_TYPICAL = {
    "UsageError": "Look at the command's `--help`. Names that nearly fit are suggested.",
    "OutputError": "Choose another place with `-o`, free some space, or add `--overwrite`.",
    "SourceError": "The message names your file and line. [Your model](models.md) says what a source can be.",
    "DataError": "The message names the array, the sample and what the model takes. [Data](data.md) has the forms.",
    "ParityError": "It names the first layer that diverges. Another precision, calibration data that resemble the real "
    "ones, or a tolerance loosened by name: [data, metrics, accuracy](data.md#where-a-candidate-misses-it).",
    "AccuracyError": "More or better calibration data, another candidate, a larger `--max-drop`.",
    "PlacementError": "Change the operators that it names, or allow them to run elsewhere: `--allow-fallback OP`.",
    "EngineError": "`edgekit doctor` says what is missing and prints the line that installs it; with `--device`, "
    "what is missing there.",
    "BundleError": "Copy it again, or export it again. Nothing in it was executed.",
    "BudgetError": "",
}


@dataclass(frozen=True, slots=True)
class Raised:
    """A place that raises an error."""

    what: str
    fix: str


def error_classes() -> list[type[errors.EdgekitError]]:
    """The classes of `edgekit.errors`, by exit code."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.EdgekitError)]
    return sorted(kinds, key=lambda kind: (kind.exit_code, len(kind.__mro__)))


def error_page() -> str:
    """The page of all errors."""
    raised = raise_sites()
    rows = []
    for kind in error_classes():
        meaning = _CODES.get(kind.exit_code) or one_line(kind.__doc__)
        rows.append(f"| {kind.exit_code} | [`{kind.__name__}`](#{kind.__name__.lower()}) | {cell(markdown(meaning))} |")
    lines = [_ERRORS.format(rows="\n".join(rows))]
    for kind in error_classes():
        found = raised.get(kind.__name__, [])
        lines += ["", f"### {kind.__name__}", "", f"Exit code {kind.exit_code}. {one_line(kind.__doc__)}"]
        if _TYPICAL.get(kind.__name__):
            lines += ["", f"**Typical cure.** {_TYPICAL[kind.__name__]}"]
        if not found:
            lines += ["", _NEVER]
            continue
        lines += ["", f'??? note "Every message: {len(found)}"', "", "    | message | cure |", "    |---|---|"]
        lines += [
            f"    | {_code_free(item.what)} | {_code_free(item.fix) or 'as the message says'} |" for item in found
        ]
    return "\n".join(lines) + "\n"


def raise_sites() -> dict[str, list[Raised]]:
    """Class → the messages that are made with it, each once, in the order of their text."""
    known = {kind.__name__ for kind in error_classes()}
    found: dict[str, set[Raised]] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            constants = _constants(tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and _name(node.func) in known and node.args:
                    fix = next((item.value for item in node.keywords if item.arg == "fix"), None)
                    what = in_words(node.args[0], constants)
                    if re.search(r"[a-z]{3}", what):  # else it hands on another one's message
                        found.setdefault(_name(node.func), set()).add(
                            Raised(what, "" if fix is None else in_words(fix, constants))
                        )
    return {name: sorted(items, key=lambda item: item.what.lower().lstrip("…'. ")) for name, items in found.items()}


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _constants(tree: ast.Module) -> dict[str, str]:
    """A module's own names of texts."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def in_words(node: ast.expr, constants: Mapping[str, str]) -> str:
    """A message's expression as a text, with … for what is known only when it is raised."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.JoinedStr(values=values):
            return "".join(in_words(item, constants) for item in values)
        case ast.FormattedValue(value=value):
            return in_words(value, constants)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return in_words(left, constants) + in_words(right, constants)
        case ast.IfExp(body=body, orelse=orelse):
            parts = [part for part in (in_words(body, constants), in_words(orelse, constants)) if part.strip("… ")]
            return " / ".join(dict.fromkeys(parts)) if len(parts) > 1 else (parts or ["…"])[0]
        case ast.BoolOp(values=[*_, last]):
            return in_words(last, constants)
        case ast.Call(func=function) if _name(function) in ("suggestion", "_near"):
            return "Did you mean '…'?"
        case ast.Call(func=ast.Attribute(value=ast.Constant() | ast.JoinedStr() as text, attr="format")):
            return re.sub(r"\{[^}]*\}", "…", in_words(text, constants))
        case ast.Call(func=ast.Attribute(value=inner, attr="rstrip" | "strip")):
            return in_words(inner, constants)
    return "…"


def one_line(text: str | None) -> str:
    return inspect.cleandoc(text or "").splitlines()[0]


def _code_free(text: str) -> str:
    text = re.sub(r"(…[\s,]*)+…", "…", " ".join(text.split()))
    return re.sub(r"([*_<>\[\]`])", r"\\\1", text).replace("|", "\\|").replace("{", "&#123;")


# ── The JSON of every command ────────────────────────────────────────────────────────────────────────────────────────

_JSON = """\
# JSON output

Every command takes `--json`: one object on standard output, everything else on standard error. A change that would
break a reader raises the number under `schema`; a new key does not.

A quantity that was not measured is `null`, never 0, and where a table can tell why, `not_measured` does, by its path:
`{"latency.p99_s": "p99 needs 662 samples, have 200"}`. Units stand in the names: `p50_s` is in seconds, `size_bytes` in
bytes, `energy_j` in joules.

```python
import json
import subprocess

done = subprocess.run(["edgekit", "bench", "build.edgekit", "--json"], capture_output=True)
told = json.loads(done.stdout)
print(told["latency"]["p50_s"]["value"], told["verdict"], told["reasons"])
```
"""
_SHARED = ("Interval", "Device", "Tolerance", "PassRecord")
"""Types that so many objects hold that each has a section of its own, which the others link to."""


def json_page() -> str:
    """The page of the schemas: an object's keys with their meaning, from docs/schemas."""
    lines = [
        _JSON,
        "Each object as JSON Schema, which the tests hold real outputs against. A key in *italics* may be absent.",
    ]
    shared: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        shared |= {name: (schema["$defs"][name], schema) for name in _SHARED if name in schema.get("$defs", {})}
        lines += ["", f"## {schema['title']} {{ #{path.name.removesuffix('.schema.json')} }}", ""]
        for kind in schema.get("anyOf", [schema]):
            lines += _table_of(resolved(kind, schema), schema)
        lines += ["", f"Schema: [{path.name}](schemas/{path.name})"]
    lines += ["", "## Parts that several share { #shared }"]
    for name in _SHARED:
        lines += ["", f"### {name} {{ #{name.lower()} }}", "", *_table_of(*shared[name])]
    return "\n".join(lines) + "\n"


def _table_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    rows = ["| key | type | |", "|---|---|---|", *_keys(schema, root, "")]
    return [
        markdown(schema.get("description", "")),
        "",
        '<div class="edgekit-keys" markdown>',
        "",
        *rows,
        "",
        "</div>",
        "",
    ]


def _keys(schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str, depth: int = 0) -> list[str]:
    """A row a key, nested ones under their path."""
    rows = []
    required = schema.get("required", ())
    for key, item in schema.get("properties", {}).items():
        name = f"`{prefix}{key}`" if key in required else f"*`{prefix}{key}`*"
        told = item.get("description") or _described(item, root)
        rows.append(f"| {name} | {cell(type_of(item, root))} | {cell(markdown(told))} |")
        if depth < 4:
            for inner, path in _inside(item, root, f"{prefix}{key}"):
                rows += _keys(inner, root, f"{path}.", depth + 1)
    return rows


def _inside(item: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The tables of keys that a value may hold, each with its path, but for those that have a section of their own."""
    if item.get("$ref", "").rpartition("/")[2] in _SHARED:
        return
    item = resolved(item, root)
    if "properties" in item:
        yield item, path
    for part in item.get("anyOf", ()):
        yield from _inside(part, root, path)
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(item.get(key), Mapping):
            yield from _inside(item[key], root, f"{path}{mark}")


def _described(item: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What the type says of itself, where the key says nothing."""
    if item.get("$ref", "").rpartition("/")[2] in _SHARED:
        return ""
    found = resolved(item, root)
    parts = [part for part in found.get("anyOf", ()) if "$ref" in part]
    return str(found.get("description") or "".join(_described(part, root) for part in parts))


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a local ``$ref`` points to, with what stands beside it."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found: Any = root
    for part in reference[2:].split("/"):
        found = found[part]
    return {**resolved(found, root), **{key: value for key, value in schema.items() if key != "$ref"}}


def type_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Markdown: ``string | null``, ``array of number``, a link to a shared type."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if name in _SHARED:
        return f"[{name}](#{name.lower()})"
    schema = resolved(schema, root)
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " | ".join(f"`{json.dumps(item)}`" for item in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(type_of(part, root) for part in schema["anyOf"]))
    kind = schema.get("type", "any")
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    if isinstance(inner, Mapping):
        return f"{kind} of {type_of(inner, root) if inner else 'anything'}"
    return str(kind)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "api.md": api,
    "errors.md": error_page,
    "json.md": json_page,
}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
