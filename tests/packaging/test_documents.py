"""What README and CONTRIBUTING say is so: files they name are there, their profile loads, their tables are true.

What their command blocks and those of docs/ do is in tests/docs.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
import types
from pathlib import Path

from edgekit import errors, plugins
from edgekit.target.load import load_target

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def module(code: str, name: str) -> types.ModuleType:
    made = types.ModuleType(name)
    exec(compile(code, f"<{name}>", "exec"), made.__dict__)
    return made


def test_the_readme_holds_the_two_command_lines_that_ci_runs() -> None:
    lines = [line for line in README.splitlines() if line.startswith("pip install -c constraints.txt -e ")]
    assert lines == [
        'pip install -c constraints.txt -e ".[cpu]" && edgekit demo',
        'pip install -c constraints.txt -e ".[dev]" && pytest -n 2',
    ]


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.split()) <= 1300
    links = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert {"docs/pictures/demo.svg", "docs/pictures/report.png", "docs/pictures/stages.svg", "docs/index.md"} <= {
        *links
    }
    for link in links:
        assert (ROOT / link).is_file(), link


def test_every_file_and_folder_that_is_named_is_there() -> None:
    pattern = r"`((?:edgekit|exporters|runtimes|targets|tests|benchmarks|examples|docs|\.ci)/[\w/.]*)`"
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    for name in re.findall(pattern, "".join([README, CONTRIBUTING, *pages])):
        if not re.search(r"my_|drop_identity", name):  # those are the reader's to write
            assert (ROOT / name).exists(), name
    scripts = re.findall(r"`(\w+\.py)`", (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    assert scripts
    for name in scripts:
        assert (ROOT / "benchmarks" / name).is_file(), name


def test_the_profile_of_contributing_loads(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(CONTRIBUTING, "toml") if block.startswith("name = "))
    path = tmp_path / f"{tomllib.loads(block)['name']}.toml"
    path.write_text(block)
    target = load_target(path)
    assert target.name == "my-board"
    assert target.candidates


def test_exit_codes_of_the_documentation_are_those_of_the_errors() -> None:
    page = from_docs("from_code").error_page()
    table: dict[int, str] = {}
    for code, text in re.findall(r"^\| (\d) \| (.*) \|$", page, flags=re.MULTILINE):
        table[int(code)] = table.get(int(code), "") + text
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgekitError)]
    assert {0, *(kind.exit_code for kind in kinds)} == set(table)
    for kind, word in (
        (errors.ParityError, "PyTorch"),
        (errors.PlacementError, "node"),
        (errors.BundleError, "bundle"),
    ):
        assert word in table[kind.exit_code]


def test_targets_of_the_readme_are_all_there_are() -> None:
    section = README[README.index("## Targets") : README.index("## How it works")]
    assert from_docs("make_targets").render_summary() in section, "run: python docs/make_targets.py"
    named = set(re.findall(r"`([a-z0-9-]+)`", section))
    assert named == {name for name in plugins.target_files() if not load_target(name).abstract}


def from_docs(name: str) -> types.ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # its dataclasses look their module up
    spec.loader.exec_module(made)
    return made


def test_the_pass_of_contributing_does_what_it_says() -> None:
    from edgekit.testing.passes import graph_of

    code = next(block for block in blocks(CONTRIBUTING, "python") if "GraphPass" in block)
    assert code in (ROOT / "docs" / "extend" / "pass.md").read_text(encoding="utf-8")
    drop = module(code, "drop_identity").PLUGIN
    graph = graph_of("(float[2] x) => (float[2] y) { a = Identity (x)  b = Relu (a)  y = Identity (b) }")
    result = drop()(graph)
    assert [node.op_type for node in result.model.graph] == ["Relu", "Identity"]  # the second one makes an output
    assert result.record.detail == "removed 1 Identity"
    assert drop()(result.model).record.detail == "the graph has no Identity to remove"
