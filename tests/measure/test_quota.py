"""CPU quotas of containers: read from made-up trees of both versions, and from the kernel where we may set one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.measure.quota import Quota, quota, worth
from edgekit.measure.state import DeviceState, Snapshot, complaints

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_SEEN_FROM_INSIDE = "31 23 0:27 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu"
STAT = "nr_periods 674\nnr_throttled 607\nthrottled_time 123\n"


def tree(root: Path, mountinfo: str, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/mountinfo": mountinfo, "proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_version_2_and_its_parents(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/kube/pod/cpu.max": "max 100000\n",
        "sys/fs/cgroup/kube/cpu.max": "150000 100000\n",  # the tightest holds, wherever it stands
        "sys/fs/cgroup/kube/cpu.stat": STAT,
    }
    assert quota(tree(tmp_path, V2, "0::/kube/pod\n", files)) == Quota(1.5, 674, 607)


def test_version_1(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/cpu,cpuacct/box"
    files = {f"{base}/cpu.cfs_quota_us": "50000\n", f"{base}/cpu.cfs_period_us": "100000\n", f"{base}/cpu.stat": STAT}
    root = tree(tmp_path, V1, "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n", files)
    assert quota(root) == Quota(0.5, 674, 607)


def test_version_1_from_inside_a_container(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/cpu"
    files = {f"{base}/cpu.cfs_quota_us": "200000\n", f"{base}/cpu.cfs_period_us": "100000\n"}
    assert quota(tree(tmp_path, V1_SEEN_FROM_INSIDE, "3:cpu:/docker/abc\n", files)) == Quota(2.0, None, None)


@pytest.mark.parametrize("text", ["max 100000\n", "\n", "nonsense here\n", "0 0\n"])
def test_no_limit(tmp_path: Path, text: str) -> None:
    assert quota(tree(tmp_path, V2, "0::/\n", {"sys/fs/cgroup/cpu.max": text})) is None


def test_a_system_without_groups(tmp_path: Path) -> None:
    assert quota(tmp_path) is None
    assert quota(tree(tmp_path, "garbage\n", "garbage\n", {})) is None


@pytest.mark.parametrize(("cpus", "threads"), [(None, 8), (0.5, 1), (1.0, 1), (1.5, 1), (2.0, 2), (64.0, 8)])
def test_threads_follow(cpus: float | None, threads: int) -> None:
    assert worth(8, cpus) == threads
    assert worth(0, cpus) == 0  # an engine's own choice


def test_a_run_that_the_quota_stopped_is_noisy() -> None:
    def at(periods: int, throttled: int) -> Snapshot:
        return Snapshot(0.0, quota_periods=periods, quota_throttled=throttled, quota_cpus=0.5)

    stopped = DeviceState(at(100, 10), (), at(774, 617))
    assert complaints(stopped) == ([], ["a CPU quota of 0.5 CPUs stopped the process in 607 of 674 periods"])
    assert complaints(DeviceState(at(100, 10), (), at(774, 12))) == ([], [])
    assert complaints(DeviceState(Snapshot(0.0), (), Snapshot(1.0))) == ([], [])


GROUPS = Path("/sys/fs/cgroup/cpu")


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of this test's own with half a CPU, where the kernel lets us make one."""
    path = GROUPS / f"edgekit-test-{os.getpid()}"
    try:
        path.mkdir()
        (path / "cpu.cfs_period_us").write_text("100000")
        (path / "cpu.cfs_quota_us").write_text("50000")
    except OSError:
        if path.is_dir():
            path.rmdir()
        pytest.skip("no CPU quota can be set here: needs root and version 1 of cgroups")
    yield path
    path.rmdir()


@pytest.mark.slow
def test_a_real_quota_is_seen_told_and_followed(group: Path) -> None:
    code = (
        f"import os, json, time\nopen({str(group / 'tasks')!r}, 'w').write(str(os.getpid()))\n"
        "from edgekit.measure import here, state\nfrom edgekit.measure.affinity import cores\n"
        "reader = state.Reader(gpus='none'); before = reader.read(); end = time.monotonic() + 2\n"
        "while time.monotonic() < end: pass\n"
        "after = reader.read()\n"
        "print(json.dumps([here.describe()['cpu_quota'], cores(), state.complaints("
        "state.DeviceState(before, (), after))[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    cpus, threads, reasons = json.loads(done.stdout)
    assert (cpus, threads) == (0.5, [1])
    assert any(reason.startswith("a CPU quota of 0.5 CPUs stopped the process in ") for reason in reasons), reasons
