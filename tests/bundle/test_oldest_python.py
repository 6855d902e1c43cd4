"""A device may have an older Python than the host: JetPack 6 brings 3.10, and numpy 1.21 with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.bundle import Bundle, write
from edgekit.devices._session import PYTHON_FLOOR

_ROOT = Path(__file__).parents[2]
_OLDEST = ".".join(map(str, PYTHON_FLOOR))
_JETPACK_6 = ("numpy==1.21.6", "onnxruntime==1.23.2")  # the last wheels of ONNX Runtime for Python 3.10


def test_nothing_that_a_device_runs_needs_a_later_one() -> None:
    """The whole device floor and all adapters, by every name they use; `Self` is there for the type checker alone."""
    floor = [path for pattern in write._FLOOR for path in (_ROOT / "edgekit").glob(pattern)]
    sent = [_ROOT / "edgekit/bundle/run.py", _ROOT / "edgekit/devices/_agent.py"]
    command = [sys.executable, "-c", "import vermin; vermin.main()", f"-t={_OLDEST}-", "--no-tips", "--violations"]
    done = subprocess.run([*command, *floor, *sent, _ROOT / "runtimes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with numpy and ONNX Runtime alone: 3.10 where this machine has one, else the tests' own version."""
    python = next(_found(), None)
    engine = ("numpy", "onnxruntime") if python is None else _JETPACK_6
    folder = tmp_path_factory.mktemp("device") / "venv"
    for command in (
        [python or sys.executable, "-m", "venv", folder],
        [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *engine],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "bin/python"


def _found() -> Iterator[Path]:
    named = shutil.which(f"python{_OLDEST}")
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for path in [*([Path(named)] if named else []), *sorted(versions.glob(f"{_OLDEST}.*/bin/python"))]:
        ask = [path, "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.stdout.strip() == _OLDEST:  # pyenv's shim is there for versions too that are not in use
            yield path


@pytest.mark.slow
def test_a_bundle_runs_there(
    device_python: Path, make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = make_bundle()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "statistics.py").write_text("raise RuntimeError('the user has a file of this name')")

    def run(*words: str) -> str:
        done = subprocess.run([device_python, bundle.folder / "run.py", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "self-test passed on onnxruntime " in run()
    result = json.loads(run("bench", "--json", "--seconds", "0.3", "--processes", "2", "--profile"))
    assert result["latency"]["processes"] == 2
    assert result["profile"]["peaks"]["macs_per_s"] > 0  # measured in a process of its own
    import_it = "import sys; sys.path.insert(0, sys.argv[1]); from run import load; load().close()"
    done = subprocess.run([device_python, "-c", import_it, bundle.folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_host_measures_there(
    device_python: Path, make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in = tmp_path / "bin/adb"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nexec sh -c "$5"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "device"))
    url = f"adb://SERIAL1?python={device_python}"
    command = [sys.executable, "-m", "edgekit", "bench", make_bundle().folder, "--device", url, "--json"]
    done = subprocess.run(
        [*command, "--seconds", "0.3", "--processes", "2"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    asked = subprocess.run([device_python, "--version"], capture_output=True, text=True).stdout.split()[1]
    assert result["device"]["python"] == asked
