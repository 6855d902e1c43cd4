"""An export that is stopped at any moment leaves nothing behind, whatever stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NET = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()), torch.randn(1, 3, 16, 16)
"""

# More processes than any of the moments below leaves time for: no export is over before its signal.
TARGET = 'name = "endless"\nextends = "cpu"\n[measure]\nprocesses = 1000\n'
# Seconds after the start: Python starts, torch loads, the graph is exported, candidates are checked and measured.
# Each signal at moments of its own: where it comes from does not change what a moment leaves behind.
MOMENTS = [
    *[("SIGINT", moment_s) for moment_s in (0.3, 4.0, 8.0)],
    *[("SIGTERM", moment_s) for moment_s in (2.0, 6.0, 9.0)],
    *[("SIGKILL", moment_s) for moment_s in (3.0, 5.0, 7.0)],
]


def start(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "net.py").write_text(NET)
    (folder / "endless.toml").write_text(TARGET)
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--target", "endless.toml", "--json"]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def left_behind(folder: Path) -> list[str]:
    found = [path.name for path in folder.iterdir() if path.name not in ("net.py", "endless.toml", "tmp")]
    # torch makes an empty cache folder of its own wherever it is imported.
    return sorted(
        found + [path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("torchinductor")]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("what", "moment_s"), MOMENTS)
def test_a_stopped_export_leaves_nothing_behind(tmp_path, what, moment_s):
    process = start(tmp_path)
    time.sleep(moment_s)
    assert process.poll() is None
    process.send_signal(getattr(signal, what))
    result, errors = process.communicate(timeout=60)
    if moment_s > 1:  # before, Python itself may still be starting: it has its own words and codes for a stop
        expected = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -signal.SIGKILL}[what]
        assert process.returncode == expected, errors.decode()
        assert b"Traceback" not in errors
        assert what == "SIGKILL" or json.loads(result)["error"]["exit_code"] == expected
    deadline = time.monotonic() + 10  # after SIGKILL the reaper needs a moment
    while left_behind(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_behind(tmp_path) == []
