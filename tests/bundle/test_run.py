"""A bundle's own runner, as an app's author uses it: no edgekit on the path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.bundle import Bundle, open_bundle
from edgekit.contracts import Artifact, Tolerance

# An environment without edgekit: site-packages stay for numpy and the engine, but edgekit cannot be imported from them.
NO_EDGEKIT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("edgekit", "click", "torch", "onnx", "scipy"):
            raise ModuleNotFoundError(f"{name} must not be imported", name=name)
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle()


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process refuses to import edgekit."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_EDGEKIT)
    return {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}


def run(
    bundle: Bundle, *arguments: str, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(bundle.path / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd)


def test_the_bare_environment_has_no_edgekit(bare: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", "import edgekit"], capture_output=True, text=True, env=bare)
    assert "must not be imported" in done.stderr


def test_self_test(bundle: Bundle, bare: dict[str, str]) -> None:
    done = run(bundle, env=bare)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("self-test passed on onnxruntime ")
    assert "(measured with 1.0)" in done.stdout
    assert "3 golden inputs" in done.stdout
    open_bundle(bundle.path)  # nothing was left in it
    assert not list(bundle.path.rglob("__pycache__"))


def test_a_missed_self_test_is_exit_4(make_bundle: Callable[..., Bundle], bare: dict[str, str]) -> None:
    wrong = [({"x": np.ones((1, 8), np.float32)}, {"y": np.zeros((1, 3), np.float32)})]
    done = run(make_bundle(golden=wrong, golden_tolerance=Tolerance(max_abs=1.0)), env=bare)
    assert done.returncode == 4
    assert "FAILED" in done.stdout and "max_abs 44 > 1" in done.stdout


def test_damage_is_exit_7(bundle: Bundle, bare: dict[str, str]) -> None:
    (bundle.path / "README.md").write_text("changed")
    done = run(bundle, env=bare)
    assert done.returncode == 7
    assert done.stderr.startswith("run.py: 'README.md' in '")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["onnxruntime", "numpy"])
def test_a_missing_package_names_its_install_line(bundle: Bundle, bare: dict[str, str], missing: str) -> None:
    hook = Path(bare["PYTHONPATH"]) / "sitecustomize.py"
    if missing == "numpy":
        hook.write_text(
            "import importlib.util as util\nfind = util.find_spec\n"
            "util.find_spec = lambda name, *more: None if name == 'numpy' else find(name, *more)\n"
        )
    else:
        hook.write_text(NO_EDGEKIT.replace('"edgekit",', '"edgekit", "onnxruntime",'))
    done = run(bundle, env=bare)
    assert done.returncode == (6 if missing == "onnxruntime" else 1)
    assert f"{missing} is not installed. Install it: pip install {missing}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bench(bundle: Bundle, bare: dict[str, str]) -> None:
    done = run(bundle, "bench", "--json", "--threads", "2", "--seconds", "0.3", "--processes", "2", env=bare)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["runtime"]["options"] == {"threads": 2}
    assert result["runtime"]["in_force"]["threads"] == 2
    assert result["latency"]["processes"] == 2
    p50 = result["latency"]["p50_s"]
    if p50 is None:  # this machine was too noisy just now: it must say so, twice
        assert result["not_measured"]["latency.p50_s"].startswith("p50 needs ") and result["verdict"] == "noisy"
    else:
        assert p50["low"] <= p50["value"]
    assert result["samples"] is None and result["not_measured"]["samples"]
    human = run(bundle, "bench", "--seconds", "0.1", "--processes", "1", env=bare)
    assert "p50" in human.stdout and ("ms" in human.stdout or "not stated: p50 needs " in human.stdout)


@pytest.mark.parametrize(("arguments", "code"), [(("bench", "--processes", "0"), 2), (("nothing",), 2)])
def test_wrong_options_are_exit_2(bundle: Bundle, bare: dict[str, str], arguments: tuple[str, ...], code: int) -> None:
    assert run(bundle, *arguments, env=bare).returncode == code


def test_a_folder_of_the_users_does_not_get_in_the_way(bundle: Bundle, bare: dict[str, str], tmp_path: Path) -> None:
    """A file beside the app, or in the bundle's folder, that is named like a module."""
    place = tmp_path / "app"
    place.mkdir()
    for name in ("contracts.py", "bundle.py", "measure.py", "runtimes.py"):
        (place / name).write_text("raise ImportError('not this one')")
    assert run(bundle, env=bare, cwd=place).returncode == 0


APP = """
import importlib.util, sys
import numpy as np
def load(folder):
    spec = importlib.util.spec_from_file_location("run_" + str(abs(hash(folder))), folder + "/run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load
if "with edgekit" in sys.argv:
    import edgekit.contracts, edgekit.bundle
    theirs = edgekit.bundle.Model
x = np.ones((1, 8), np.float32)
with load(sys.argv[1])() as first, load(sys.argv[2])(threads=2, verify=False) as second:
    print(first.run({"x": x})["y"].tolist(), second.in_force()["threads"], type(first) is type(second))
    print([spec.name for spec in first.inputs], first.placement().counts())
    try:
        first.run({"y": x})
    except Exception as error:
        print(type(error).__name__, error)
if "with edgekit" in sys.argv:
    assert theirs is not type(first)
    assert sys.modules["edgekit.bundle"].Model is theirs
else:
    assert "edgekit" not in sys.modules
"""


@pytest.mark.parametrize("installed", [False, True])
def test_two_bundles_and_an_installed_edgekit_in_one_program(
    make_bundle: Callable[..., Bundle], bare: dict[str, str], tmp_path: Path, installed: bool
) -> None:
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", readme="another")
    arguments = [str(first.path), str(second.path), *(["with edgekit"] if installed else [])]
    env = {"PATH": bare["PATH"]} if installed else bare
    done = subprocess.run([sys.executable, "-c", APP, *arguments], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[[28.0, 36.0, 44.0]] 2 False"
    assert lines[1] == "['x'] {'CPU': 1}"
    assert lines[2].startswith("EngineError the model has no input 'y'")


AS_THE_README_SAYS = """
import sys, numpy as np
x, models = np.arange(8, dtype=np.float32)[None], []
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    from run import load
    models.append(load())
print([model.run({"x": x})["y"].ravel()[0] for model in models])
import run as a
answer = a.load().run({"x": x})["y"].ravel()[0]
sys.path.insert(0, sys.argv[1])
import run as b
print(answer, b.load().run({"x": x})["y"].ravel()[0], sorted(name for name in sys.modules if name == "run"))
"""


def test_three_bundles_loaded_by_the_same_lines_each_answer_for_themselves(
    make_bundle: Callable[..., Bundle], linear: Artifact, bare: dict[str, str], tmp_path: Path
) -> None:
    folders = []
    for factor in (1, 2, 3):
        source = tmp_path / f"times-{factor}"
        source.mkdir()
        model = onnx.load(linear.path)
        weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight * np.float32(factor), "w"))
        onnx.save(model, source / "model.onnx")
        folders.append(str(make_bundle(tmp_path / f"{factor}.edgekit", model_dir=source).path))
    command = [sys.executable, "-c", AS_THE_README_SAYS, *folders]
    done = subprocess.run(command, capture_output=True, text=True, env=bare)
    assert done.returncode == 0, done.stderr
    each, last = done.stdout.splitlines()
    one = 140.0  # 0·0 + 1·1 + … + 7·7
    assert [float(part) for part in re.findall(r"\d+\.\d+", each)] == [one, 2 * one, 3 * one]
    assert last == f"{3 * one} {one} []"


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "manifest", "no manifest"])
def test_code_is_checked_before_it_runs(bundle: Bundle, bare: dict[str, str], tmp_path: Path, damage: str) -> None:
    mark = tmp_path / "it-ran"
    code = f"open({str(mark)!r}, 'w').close()\n"
    floor = bundle.path / "runtime" / "edgekit"
    if damage == "changed":
        (floor / "contracts.py").write_text(code + (floor / "contracts.py").read_text())
    elif damage == "added":
        (floor / "numpy.py").write_text(code)
    elif damage == "removed":
        (floor / "facts.py").unlink()
    elif damage == "manifest":
        (bundle.path / "manifest.json").write_text('{"files": []}')
    else:
        (bundle.path / "manifest.json").unlink()
    done = run(bundle, env=bare)
    assert done.returncode == 7, done
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    named = {"changed": "contracts.py", "added": "numpy.py", "removed": "facts.py"}
    assert named.get(damage, "manifest.json") in done.stderr
    assert not mark.exists()


def test_a_moved_copy_in_a_read_only_place(bundle: Bundle, bare: dict[str, str], tmp_path: Path) -> None:
    moved = tmp_path / "with space"
    shutil.copytree(bundle.path, moved)
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run([sys.executable, "run.py"], capture_output=True, text=True, env=bare, cwd=moved)
        assert done.returncode == 0, done.stderr
    finally:
        for path in (moved, *moved.rglob("*")):
            path.chmod(0o755)
