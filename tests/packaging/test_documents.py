"""What README and CONTRIBUTING show must be so: their code runs, their profiles load, their tables are true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

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


def test_every_file_and_folder_that_is_named_is_there() -> None:
    pattern = r"`((?:edgekit|exporters|runtimes|targets|tests|benchmarks|examples|docs|\.ci)/[\w/.]*)`"
    named = re.findall(pattern, README + CONTRIBUTING)
    for name in named:
        if not re.search(r"my_|drop_identity", name):  # those are the reader's to write
            assert (ROOT / name).exists(), name
    for name in re.findall(r"`(\w+\.py)`", README[README.index("`benchmarks/` holds") :]):
        assert (ROOT / "benchmarks" / name).is_file(), name


def test_the_factory_of_the_readme_is_a_source() -> None:
    import torch

    code = next(block for block in blocks(README, "python") if "def build" in block)
    net, example = module(code, "net").build()
    assert isinstance(net, torch.nn.Module)
    assert net(example).shape == (1, 10)


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_profiles_load(text: str, tmp_path: Path) -> None:
    profiles = [block for block in blocks(text, "toml") if block.startswith("name = ")]
    assert profiles
    for block in profiles:
        path = tmp_path / f"{tomllib.loads(block)['name']}.toml"
        path.write_text(block)
        target = load_target(path)
        assert target.name == "my-board"
        assert target.candidates


def test_exit_codes_are_those_of_the_errors() -> None:
    table = {int(code): text for code, text in re.findall(r"^\| (\d) \| (.*) \|$", README, flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgekitError)]
    assert {0, *(kind.exit_code for kind in kinds)} == set(table)
    for kind, word in ((errors.ParityError, "parity"), (errors.PlacementError, "node"), (errors.BundleError, "bundle")):
        assert word in table[kind.exit_code]


def test_targets_of_the_readme_are_installed() -> None:
    section = README[README.index("## Targets") : README.index("## Calibration")]
    table = "".join(line for line in section.splitlines(keepends=True) if line.startswith("|"))
    named = set(re.findall(r"`([a-z0-9-]+)`", table))
    assert named == {name for name in plugins.target_files() if not load_target(name).abstract}
    for name in named:
        assert load_target(name).name == name


def test_the_pass_of_contributing_does_what_it_says() -> None:
    from edgekit.testing.passes import graph_of

    code = next(block for block in blocks(CONTRIBUTING, "python") if "GraphPass" in block)
    drop = module(code, "drop_identity").PLUGIN
    graph = graph_of("(float[2] x) => (float[2] y) { a = Identity (x)  b = Relu (a)  y = Identity (b) }")
    result = drop()(graph)
    assert [node.op_type for node in result.model.graph] == ["Relu", "Identity"]  # the second one makes an output
    assert result.record.detail == "removed 1 Identity"
    assert drop()(result.model).record.detail == "the graph has no Identity to remove"


@pytest.mark.slow
def test_the_readme_from_a_file_of_ten_lines_to_an_app(tmp_path: Path) -> None:
    factory, app = (next(b for b in blocks(README, "python") if key in b) for key in ("def build", "from run import"))
    (tmp_path / "net.py").write_text(factory)
    export = next(line for line in README.splitlines() if line.startswith("edgekit export net.py:build"))
    run([sys.executable, "-m", *export.split()], tmp_path)
    assert "self-test passed" in run([sys.executable, "build.edgekit/run.py"], tmp_path)

    image = "import numpy as np\nimage = np.ones((1, 3, 64, 64), np.float32)\n"
    (tmp_path / "app.py").write_text(f"{image}{app}    print(*(y.shape for y in outputs.values()))\n")
    assert run([sys.executable, "app.py"], tmp_path).split("\n")[-2] == "(1, 10)"


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
