"""Keep this process on some cores, and change its priority. Nothing beyond this process is touched."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .quota import cpus, worth


def parse_cores(text: str) -> tuple[int, ...]:
    """``0,2-3`` → (0, 2, 3).

    Raises:
        UsageError: not a list of cores.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"'{text}' is not a list of cores", fix="Write 0,2-3.")
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Applied:
    """What is in force after `apply`."""

    cores: tuple[int, ...] | None  # that the process may run on; None: the system does not tell
    nice: int | None
    refused: tuple[str, ...] = ()  # what the system did not allow, in its words

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        cores = None if self.cores is None else list(self.cores)
        return {"cores": cores, "nice": self.nice, "refused": list(self.refused)}


def apply(cores: Sequence[int] | None, nice: int | None, processes: Sequence[int] = ()) -> Applied:
    """Keep every thread of this process, those that an engine started included, on ``cores``, at priority ``nice``.

    Args:
        cores: numbers of logical cores; None: as it is.
        nice: −20 (first) to 19; below 0 mostly needs a privilege; None: as it is.
        processes: others that work for this one, and are treated likewise; what comes out is told of the first.
    """
    refused: list[str] = []
    threads = [*_threads("self"), *(tid for process in processes for tid in _threads(process))]
    if cores is not None:
        _for_all(threads, f"cores {','.join(map(str, cores))}", lambda tid: _set_cores(tid, cores), refused)
    if nice is not None:
        _for_all(threads, f"nice {nice}", lambda tid: os.setpriority(os.PRIO_PROCESS, tid, nice), refused)
    told = processes[0] if processes else 0
    return Applied(
        cores=tuple(sorted(os.sched_getaffinity(told))) if hasattr(os, "sched_getaffinity") else None,
        nice=os.getpriority(os.PRIO_PROCESS, told) if hasattr(os, "getpriority") else None,
        refused=tuple(dict.fromkeys(refused)),
    )


def _set_cores(tid: int, cores: Sequence[int]) -> None:
    os.sched_setaffinity(tid, cores)


def _for_all(threads: Sequence[int], what: str, change: Callable[[int], None], refused: list[str]) -> None:
    """On Linux affinity and priority are each thread's own; new threads take over their maker's."""
    for tid in threads:
        try:
            change(tid)
        except ProcessLookupError:  # it ended meanwhile
            continue
        except (OSError, AttributeError) as error:
            refused.append(f"{what}: {error.strerror if isinstance(error, OSError) else 'not on this system'}")


def _threads(process: int | str) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    if not tasks.is_dir():
        return [0] if process == "self" else []
    return sorted(int(path.name) for path in tasks.iterdir())


def cores() -> tuple[int, ...]:
    """What "every core" may mean here: the physical cores this process may use, and the logical ones if they differ.

    Under a CPU quota (a container's) neither is more than the quota is worth.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in usable:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text().strip() if path.is_file() else str(cpu))
    limit = cpus()
    return tuple(dict.fromkeys(worth(count, limit) for count in (len(siblings), len(usable))))
