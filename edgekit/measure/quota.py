"""The CPU time that a container may use: cgroup quotas, of version 1 and 2.

A process in a group with ``docker run --cpus=0.5`` sees all cores, and stands still for a part of every period once its
share of it is spent. Sources: the Linux kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.max, cpu.stat) and
Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us, cpu.cfs_period_us). A device is sent this one file, so it
imports no other of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Quota(NamedTuple):
    """The tightest limit over this process' groups."""

    cpus: float  # seconds of CPU time a second
    periods: int | None  # that have passed so far; None: not told
    throttled: int | None  # in how many of them the group had to stand still


def quota(root: Path = Path("/")) -> Quota | None:
    """The quota that this process runs under; None: there is none, or this system does not tell.

    Args:
        root: where ``proc`` and ``sys`` lie; another one than ``/`` in tests.
    """
    found = [item for folder in _groups(root) if (item := _read(folder)) is not None]
    return min(found, key=lambda item: item.cpus, default=None)


def cpus() -> float | None:
    """The quota of this process in CPUs; None: there is none, or this system does not tell."""
    limit = quota()
    return None if limit is None else limit.cpus


def worth(cores: int, cpus: float | None) -> int:
    """How many threads a number of cores is worth under a quota of ``cpus``: more would only spend it sooner.

    At least 1, but 0 cores, which stands for an engine's own choice, stay 0.
    """
    return cores if cpus is None else min(cores, max(1, int(cpus + 1e-9)))


def _groups(root: Path) -> Iterator[Path]:
    """This process' groups that may limit CPU time, each with all above it as far as they can be seen."""
    mounts = list(_mounts(root))
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        version = 2 if number == "0" and not controllers else 1
        if version == 1 and "cpu" not in controllers.split(","):
            continue
        for mounted, inside, of in mounts:
            if of != version:
                continue
            try:
                own = PurePosixPath(path).relative_to(inside)  # a container may see but a part of the tree
            except ValueError:
                own = PurePosixPath(path.lstrip("/"))
            folder = mounted / own
            yield from (item for item in (folder, *folder.parents) if item == mounted or mounted in item.parents)


def _mounts(root: Path) -> Iterator[tuple[Path, str, int]]:
    """Where trees of groups with the CPU controller are mounted: the place, the group that is its root, the version."""
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        head, _, tail = line.partition(" - ")
        words, kind = head.split(), tail.split()
        if len(words) < 5 or not kind:
            continue
        place = root / words[4].replace("\\040", " ").lstrip("/")
        if kind[0] == "cgroup2":
            yield place, words[3], 2
        elif kind[0] == "cgroup" and "cpu" in kind[-1].split(","):
            yield place, words[3], 1


def _read(folder: Path) -> Quota | None:
    words = (_text(folder / "cpu.max") or "").split()
    if len(words) == 2:
        spent, period = (int(word) if word.isdecimal() else None for word in words)  # "max": no limit
    else:
        spent, period = (_integer(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if spent is None or period is None or spent <= 0 or period <= 0:
        return None
    told = dict(line.split(" ", 1) for line in (_text(folder / "cpu.stat") or "").splitlines() if " " in line)
    counts = [int(told[key]) if told.get(key, "").isdecimal() else None for key in ("nr_periods", "nr_throttled")]
    return Quota(spent / period, counts[0], counts[1])


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _integer(path: Path) -> int | None:
    text = _text(path) or ""
    return int(text) if text.removeprefix("-").isdecimal() else None
