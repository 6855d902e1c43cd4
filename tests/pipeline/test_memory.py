"""A target's memory is a limit: what does not fit is out, with both numbers, and what was not checked is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import units
from edgekit.api.export import export
from edgekit.errors import BudgetError
from edgekit.report.text import memory_text
from edgekit.results import MemoryReport
from edgekit.target.profile import machine

HEAD = """
arch = [{arch}]
[limits]
memory_bytes = {limit}
source = "made up"
"""


@pytest.fixture
def board(two_engines: Callable[..., str]) -> Callable[..., str]:
    """Writes the target ``board`` with so much memory."""

    def write(limit_bytes: int, arch: str = "") -> str:
        return two_engines("board", HEAD.format(limit=limit_bytes, arch=f'"{arch}"' if arch else ""))

    return write


def test_what_needs_more_than_the_target_has_is_out_with_both_numbers(folder: Path, board: Callable[..., str]) -> None:
    roomy = export("net.py:build", board(2**40), max_time_s=1)
    peaks = {item.name: item.peak_rss_bytes for item in roomy.candidates}
    small, large = sorted((peak, name) for name, peak in peaks.items() if peak is not None)
    assert 20e6 < small[0] < large[0] < 2e9, peaks  # at least the interpreter and numpy; two engines are never equal
    assert roomy.memory == MemoryReport(2**40, peaks[roomy.chosen], None)

    limit = (small[0] + large[0]) // 2
    tight = export("net.py:build", board(limit), max_time_s=1, overwrite=True)
    assert tight.chosen == small[1]
    out = next(item for item in tight.candidates if item.name == large[1])
    assert out.rejected is not None and out.latency is None
    assert f"and target 'board' has {units.size(limit)}" in out.rejected
    assert out.peak_rss_bytes is not None and units.size(out.peak_rss_bytes) in out.rejected


def test_where_nothing_fits_it_is_exit_8_and_no_bundle(folder: Path, board: Callable[..., str]) -> None:
    command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--target", board(1_000_000)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == BudgetError.exit_code == 8, done.stderr
    assert "no candidate fits into the memory of target 'board'" in done.stderr
    assert done.stderr.count("and target 'board' has 1 MB") == 2
    assert not (folder / "build.edgekit").exists()


def test_what_was_not_measured_here_is_told(folder: Path, board: Callable[..., str]) -> None:
    other = "aarch64" if machine() == "x86_64" else "x86_64"
    command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--target", board(10**9, other)]
    done = subprocess.run([*command, "--json"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["memory"] == {
        "limit_bytes": 10**9,
        "peak_rss_bytes": None,
        "not_checked_because": value["not_measured_because"],
    }
    assert all(item["peak_rss_bytes"] is None for item in value["candidates"])


def test_in_words() -> None:
    assert memory_text(MemoryReport(4_000_000_000, 120_000_000, None)) == "0.12 GB at its peak, of the target's 4 GB"
    unknown = memory_text(MemoryReport(4_000_000_000, None, "this machine is x86_64"))
    assert unknown == "not checked against the target's 4 GB: this machine is x86_64"
