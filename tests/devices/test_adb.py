"""The way over adb, with a stand-in for adb that runs the shell line on this machine: not tested on a phone."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.devices import remote_device
from edgekit.devices.examine import examine_device
from edgekit.errors import EngineError

URL = f"adb://SERIAL1?python={sys.executable}"


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts an ``adb`` on the PATH that does ``body`` once it has checked how it is called."""

    def write(body: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        script = folder / "adb"
        check = '[ "$1 $2 $3 $4" = "-s SERIAL1 shell -T" ] || { echo "stand-in: $*" >&2; exit 9; }'
        script.write_text(f"#!/bin/sh\n{check}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "phone"))
    return write


def test_bench(adb: Callable[[str], None], make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    adb('exec sh -c "$5"')
    bundle = make_bundle()
    command = [sys.executable, "-m", "edgekit", "bench", str(bundle.folder), "--device", URL, "--json"]
    done = subprocess.run(
        [*command, "--seconds", "0.3", "--processes", "2"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["device"]["url"] == URL
    assert result["latency"]["processes"] == 2
    assert any("not on a phone" in reason for reason in result["reasons"])
    assert list((tmp_path / "phone/edgekit/runs").iterdir()) == []


def test_doctor_says_what_is_not_verified(adb: Callable[[str], None]) -> None:
    adb('exec sh -c "$5"')
    with remote_device(URL) as device:
        report = examine_device(device, "cpu-arm64")
    assert report.missing == []
    assert report.to_json()["unverified"] == "adb devices were tested with a stand-in for adb only, not on a phone"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("adb: device 'SERIAL1' not found", "adb knows no device of that serial"),
        ("error: device unauthorized.", "it has not authorized this computer"),
        ("adb: device offline", "it is offline"),
        ("error: closed", "the connection was lost"),
        ("error: something new", "adb failed"),
    ],
)
def test_what_adb_says(said: str, told: str, adb: Callable[[str], None]) -> None:
    adb(f"echo {shlex.quote(said)} >&2; exit 1")
    with pytest.raises(EngineError) as caught, remote_device(URL) as device:
        device.describe()
    assert told in str(caught.value)
    assert said in str(caught.value)


def test_no_python_on_it(adb: Callable[[str], None], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "timeout").symlink_to("/bin/true")
    (empty / "python3").write_text("#!/bin/sh\necho 3.8\nexit 1\n")
    (empty / "python3").chmod(0o755)
    adb(f'PATH={empty}; eval "$5"')
    with (
        pytest.raises(
            EngineError, match=r"has no Python 3\.10 or later:\n  python3 is Python 3\.8\nName one as in adb://"
        ),
        remote_device("adb://SERIAL1") as device,
    ):
        device.describe()


def test_no_adb_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"'adb' is not installed here. Install it: sudo apt-get install adb"):
        remote_device("adb://SERIAL1").describe()
