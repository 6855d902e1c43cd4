"""A skip under CI=true is a failure: run pytest on small files with the suite's own conftest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
CASES = {
    "call": 'import pytest\ndef test():\n    pytest.skip("no engine: pip install engine")\n',
    "mark": 'import pytest\n@pytest.mark.skip(reason="no engine: pip install engine")\ndef test():\n    pass\n',
    "setup": 'import pytest\n@pytest.fixture\ndef f():\n    pytest.skip("no engine: pip install engine")\n'
    "def test(f):\n    pass\n",
    "module": 'import pytest\npytest.importorskip("no_such_engine", reason="no engine: pip install engine")\n'
    "def test():\n    pass\n",
}


def run(tmp_path: Path, source: str, ci: str | None) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_case.py").write_text(source)
    env = {key: value for key, value in os.environ.items() if key != "CI"} | ({"CI": ci} if ci else {})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", CASES)
def test_a_skip_fails_under_ci_and_says_why(tmp_path: Path, case: str) -> None:
    done = run(tmp_path, CASES[case], ci="true")
    assert done.returncode in (1, 2), done.stdout
    assert "skipped, which CI=true does not allow:" in done.stdout
    assert "no engine: pip install engine" in done.stdout


def test_a_skip_is_allowed_elsewhere(tmp_path: Path) -> None:
    done = run(tmp_path, CASES["call"], ci=None)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = 'import pytest\n@pytest.mark.xfail(reason="known")\ndef test():\n    assert False\n'
    done = run(tmp_path, source, ci="true")
    assert done.returncode == 0, done.stdout
    assert "1 xfailed" in done.stdout
