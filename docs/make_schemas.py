"""Write docs/schemas/: what each command's --json prints, as JSON Schema (draft 2020-12).

    python docs/make_schemas.py             writes them
    python docs/make_schemas.py --check     exit code 1 where one of them is not up to date

They come from the types in edgekit/json_output; the string below a key is its description. A table of known keys is
closed: a key that it does not name is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import typing
from pathlib import Path
from typing import Any

import typing_extensions
from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

# Pydantic reads the standard library's TypedDict only from Python 3.12 on; before, it wants this one, which is equal.
typing.TypedDict = typing_extensions.TypedDict

from edgekit.json_output import (  # noqa: E402
    bench,
    bundle,
    common,
    compare,
    doctor,
    evaluate,
    export,
    inspect,
    results,
    targets,
)

SCHEMAS = Path(__file__).resolve().parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMMANDS: dict[str, Any] = {
    "demo": export.Export,
    "export": export.Export,
    "build": bundle.Build,
    "bench": bench.Bench,
    "compare": compare.Compare,
    "evaluate": evaluate.Evaluate,
    "results list": results.ResultsList,
    "results show": results.ResultsShow,
    "results compare": results.ResultsCompare,
    "report": results.Report,
    "inspect": inspect.Inspect,
    "targets list": targets.TargetsList,
    "targets show": targets.TargetsShow,
    "targets new": targets.TargetsNew,
    "bundle verify": bundle.BundleFacts,
    "bundle run": bundle.BundleRun,
    "bundle pack": bundle.BundlePack,
    "bundle unpack": bundle.BundleFacts,
    "doctor": doctor.AnyDoctor,
    "error": common.Error,  # of any command that fails
}
"""Command → the type of its object."""


class Generate(GenerateJsonSchema):
    """Without the titles that pydantic makes of the keys' names, which say nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schemas() -> dict[str, str]:
    """File name → content."""
    for module in (bench, bundle, common, compare, doctor, evaluate, export, inspect, results, targets):
        for item in vars(module).values():
            if typing_extensions.is_typeddict(item):
                item.__pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    return {f"{command.replace(' ', '-')}.schema.json": text(command) for command in COMMANDS}


def text(command: str) -> str:
    made = TypeAdapter(COMMANDS[command]).json_schema(schema_generator=Generate)
    title = "a command that fails" if command == "error" else f"edgekit {command}"
    schema = {"$schema": DIALECT, **made, "title": title}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where one is not up to date")
    arguments = parser.parse_args()
    wanted = schemas()
    found = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.schema.json")}
    if arguments.check:
        stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        print("".join(f"{name}\n" for name in stale), end="")
        return int(bool(stale))
    SCHEMAS.mkdir(exist_ok=True)
    for name in found.keys() - wanted.keys():
        (SCHEMAS / name).unlink()
    for name, content in wanted.items():
        (SCHEMAS / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
