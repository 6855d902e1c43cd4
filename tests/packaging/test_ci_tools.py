"""What `.ci/run` tests as a stranger with: a PATH without some programs, and the list of what was left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CI = Path(__file__).parents[2] / ".ci"
CASES = {
    "test_skips.py": 'import pytest\ndef test():\n    pytest.skip("no engine")\n',
    "test_skips_whole.py": 'import pytest\npytest.importorskip("no_such_engine")\ndef test():\n    pass\n',
    "test_fails_as_expected.py": "import pytest\n@pytest.mark.xfail\ndef test():\n    assert 1 == 2\n",
    "test_passes.py": "def test():\n    pass\n",
}


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_a_program_is_hidden_and_the_others_are_not(tmp_path: Path) -> None:
    look = "command -v git || echo 'no git'; command -v sh; python -c 'import sys; print(sys.prefix)'"
    done = run(CI / "without", "git", "no-such-*", "--", "bash", "-c", look, folder=tmp_path)
    missing, shell, prefix = done.stdout.splitlines()
    assert missing == "no git" and shell.endswith("/sh"), done
    assert prefix == run("python", "-c", "import sys; print(sys.prefix)", folder=tmp_path).stdout.strip()


def test_its_exit_code_is_the_commands_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    command = f"TMPDIR={tmp_path}/tmp {CI}/without git -- bash -c 'exit 7'"
    assert run("bash", "-c", command, folder=tmp_path).returncode == 7
    assert list((tmp_path / "tmp").iterdir()) == []


def test_files_of_which_something_was_skipped(tmp_path: Path) -> None:
    for name, text in CASES.items():
        (tmp_path / name).write_text(text)
    report = tmp_path / "report.xml"
    pytest_line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    run(*pytest_line, f"--junitxml={report}", "-o", "junit_family=xunit1", folder=tmp_path)
    done = run(sys.executable, CI / "skipped", report, folder=tmp_path)
    assert done.stdout.split() == ["test_skips.py", "test_skips_whole.py"], done


def test_where_nothing_was_skipped_nothing_was_hidden(tmp_path: Path) -> None:
    (tmp_path / "test_passes.py").write_text(CASES["test_passes.py"])
    report = tmp_path / "report.xml"
    run(sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-o", "junit_family=xunit1", folder=tmp_path)
    done = run(sys.executable, CI / "skipped", report, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "ci: nothing was skipped, so nothing was hidden"
