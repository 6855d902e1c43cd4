"""What can be read about this machine and this process. What cannot be read is None, never a guess."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """This machine, as plain JSON values.

    ``machine`` is the architecture as ``platform.machine()`` says it, ``board`` the device's own name where firmware
    tells it ("Raspberry Pi 5 Model B Rev 1.0"), ``cores`` what the machine has, ``usable_cores`` what this process
    may use. A device is sent this one file, so it imports no other of ours.
    """
    return {
        "machine": platform.machine() or None,
        "board": _first_line(Path("/proc/device-tree/model")),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}".strip() or None,
        "python": platform.python_version(),
        "emulated": emulator(),
    }


def architecture(name: str) -> str:
    """``x86_64`` or ``aarch64``, whatever an operating system calls it."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name.lower())


def not_the_device(facts: Mapping[str, Any], arch: Sequence[str]) -> list[str]:
    """Why latencies taken on a machine say nothing about the device that a bundle was made for; empty: they do.

    Args:
        facts: `describe` of the machine.
        arch: the machines that the bundle was made for; empty: any.
    """
    why = []
    if facts.get("emulated"):
        why.append(f"emulated by {facts['emulated']}: this latency says nothing about a real device")
    here = architecture(str(facts.get("machine")))
    if arch and here not in arch:
        why.append(f"made for {' or '.join(arch)}, measured on {here}: this latency says nothing about its device")
    return why


def emulator() -> str | None:
    """The emulator that runs this process's instructions, where one can be told: its latencies mean nothing elsewhere.

    qemu's user mode hides itself from a process that looks at itself, but not from one that looks at its parent.
    Android's emulator has a pipe to it, and qemu's virtual board calls itself so (KVM may run it at full speed, but it
    is no device either way).
    """
    try:
        parent = Path(f"/proc/{os.getppid()}/exe").readlink().name
    except OSError:  # no /proc, or not ours to look at
        parent = ""
    if parent.startswith("qemu-"):
        return parent.removesuffix("-static")
    if Path("/dev/qemu_pipe").exists() or Path("/dev/goldfish_pipe").exists():
        return "Android emulator"
    board = _first_line(Path("/proc/device-tree/model")) or _first_line(Path("/proc/device-tree/compatible"))
    return "qemu virtual machine" if board and "dummy-virt" in board else None


def memory_bytes() -> int | None:
    """The machine's main memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def rss_bytes(process: int | None = None) -> int | None:
    """The memory of this process, or of another, that is resident now."""
    return _proc_status("VmRSS", process)


def peak_rss_bytes(process: int | None = None) -> int | None:
    """The most memory that was ever resident in this process, or in another.

    Linux's ``VmHWM`` and not ``ru_maxrss``, which a process inherits from the one that started it.
    """
    if sys.platform == "darwin" and process is None:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return _proc_status("VmHWM", process)


def cpu_s(processes: Sequence[int]) -> float:
    """The CPU time that other processes have used so far, all together; one that is gone, or not told of, adds none."""
    ticks = 0
    for number in processes:
        try:
            # The name, in parentheses, may hold anything: count from its end. Fields 14 and 15 of proc(5).
            words = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def _proc_status(key: str, process: int | None) -> int | None:
    try:
        text = Path(f"/proc/{'self' if process is None else process}/status").read_text(
            encoding="utf-8", errors="replace"
        )
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor() or None
    # x86 says "model name"; ARM has no such line, only part numbers, which a name could not be made of without a table.
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    if found:
        return found[1].strip()
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(\S+)$", text, re.MULTILINE)))
    implementer = re.search(r"^CPU implementer\s*:\s*(\S+)$", text, re.MULTILINE)
    return f"implementer {implementer[1]} part {'+'.join(parts)}" if implementer and parts else None


def usable_cores() -> int | None:
    """The logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
