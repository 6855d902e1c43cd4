"""The state of the machine around a measurement: clocks, temperatures, throttling, load of others, battery, GPUs.

Read between blocks of timed runs, never during one, at most every `INTERVAL_S`; nothing is ever set. What cannot be
read is None, and `Reader.unread` says why.

Verified on real hardware: the load of other processes, NVML (NVIDIA H200). The rest is tested on fabricated trees of
files only.

Sources: the Linux kernel's Documentation/ABI (sysfs-devices-system-cpu, sysfs-class-thermal, sysfs-class-power,
hwmon/sysfs-interface) and proc(5); bits of get_throttled: Raspberry Pi's "vcgencmd" documentation.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import nvml, sysfs
from .machine import cpu_s
from .nvml import GpuState
from .quota import quota
from .statistics import Verdict

INTERVAL_S = 0.5
"""Seconds between two snapshots of a worker that is measuring: 2 Hz. One costs about a millisecond."""

_TICKS_PER_S = 100  # USER_HZ, which Linux fixes for /proc/stat on every architecture edgekit knows
_PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_BITS = {
    0: "under-voltage",
    1: "arm frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}


@dataclass(frozen=True, slots=True)
class Battery:
    """The first battery."""

    percent: int | None
    status: str | None  # "Charging", "Discharging", "Full", …


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The machine at one moment. None: not readable here."""

    time_s: float  # the machine's monotonic clock
    governors: tuple[str, ...] | None = None  # those in use over all cores
    frequencies_hz: tuple[int, ...] | None = None  # a core
    temperatures_c: Mapping[str, float] | None = None  # by the sensor's name
    throttle_count: int | None = None  # thermal throttle events of all cores and packages since boot
    throttled: tuple[str, ...] | None = None  # what holds the clocks down now (Raspberry Pi)
    # Share of all cores' time that other processes used since the last snapshot, while this one was running.
    other_load: float | None = None
    # A container's CPU quota: periods so far, in how many of them this process' group stood still, and its CPUs.
    quota_periods: int | None = None
    quota_throttled: int | None = None
    quota_cpus: float | None = None
    battery: Battery | None = None
    gpus: tuple[GpuState, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Snapshot:
        """The reverse of `to_json`."""

        def listed(key: str) -> Any:
            return None if value[key] is None else tuple(value[key])

        return cls(
            **{
                **value,
                **{key: listed(key) for key in ("governors", "frequencies_hz", "throttled")},
                "battery": None if value["battery"] is None else Battery(**value["battery"]),
                "gpus": None if value["gpus"] is None else tuple(GpuState(**item) for item in value["gpus"]),
            }
        )


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The machine before, during and after a measurement."""

    before: Snapshot
    during: tuple[Snapshot, ...]
    after: Snapshot
    unread: Mapping[str, str] = field(default_factory=dict)  # Snapshot's field → why it is None
    cost_s: float | None = None  # median time that one snapshot took

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; times are seconds since ``before``."""
        start = self.before.time_s

        def shown(item: Snapshot) -> dict[str, Any]:
            return {**item.to_json(), "time_s": item.time_s - start}

        return {
            "before": shown(self.before),
            "during": [shown(item) for item in self.during],
            "after": shown(self.after),
            "unread": dict(self.unread),
            "cost_s": self.cost_s,
        }


class Reader:
    """Reads snapshots.

    Args:
        root: where ``proc`` and ``sys`` lie; another one than ``/`` in tests.
        gpus: NVML, or why there is none; None: load it.
    """

    def __init__(self, root: Path = Path("/"), gpus: nvml.Nvml | str | None = None) -> None:
        self._root = root
        self._gpus = nvml.load() if gpus is None else gpus
        self._cpus = root / "sys/devices/system/cpu"
        self._pi = shutil.which("vcgencmd") if root == Path("/") else None
        self._load = LoadMeter(root)
        self.unread: dict[str, str] = {}

    @property
    def load(self) -> LoadMeter:
        """To be told when this process' own work begins and ends."""
        return self._load

    def read(self) -> Snapshot:
        """The machine now; renews ``unread``."""
        time_s = time.monotonic()
        self.unread = {}
        limit = quota(self._root)
        return Snapshot(
            time_s=time_s,
            governors=self._told("governors", self._governors(), f"{self._cpus} has no cpufreq"),
            frequencies_hz=self._told("frequencies_hz", self._frequencies(), f"{self._cpus} has no cpufreq"),
            temperatures_c=self._told("temperatures_c", self._temperatures(), "no thermal zone and no hwmon sensor"),
            throttle_count=self._told("throttle_count", self._throttle_count(), "the cores count no throttle events"),
            throttled=self._told("throttled", self._throttled(), "only a Raspberry Pi's firmware tells"),
            other_load=self._told(
                "other_load", self._load.take(), "/proc/stat cannot be read, or too little time passed"
            ),
            quota_periods=None if limit is None else limit.periods,
            quota_throttled=None if limit is None else limit.throttled,
            quota_cpus=None if limit is None else limit.cpus,
            battery=self._told("battery", self._battery(), "there is no battery"),
            gpus=self._told("gpus", *self._gpu_states()),
        )

    def _told(self, name: str, value: Any, reason: str) -> Any:
        if value is None:
            self.unread[name] = reason
        return value

    def _cores(self, name: str) -> list[Path]:
        return list(sysfs.entries(self._cpus, f"cpu[0-9]*/{name}"))

    def _governors(self) -> tuple[str, ...] | None:
        found = {sysfs.text(path) for path in self._cores("cpufreq/scaling_governor")}
        return tuple(sorted(name for name in found if name)) or None

    def _frequencies(self) -> tuple[int, ...] | None:
        # scaling_cur_freq is in kHz.
        read = [sysfs.integer(path) for path in self._cpu_order("cpufreq/scaling_cur_freq")]
        return tuple(1000 * value for value in read if value is not None) or None

    def _cpu_order(self, name: str) -> list[Path]:
        return sorted(self._cores(name), key=lambda path: int(path.relative_to(self._cpus).parts[0][3:]))

    def _temperatures(self) -> dict[str, float] | None:
        found: dict[str, float] = {}
        for zone in sysfs.entries(self._root / "sys/class/thermal", "thermal_zone*"):
            _add(found, sysfs.text(zone / "type") or zone.name, sysfs.integer(zone / "temp"))
        for sensor in sysfs.entries(self._root / "sys/class/hwmon", "hwmon*/temp*_input"):
            chip = sysfs.text(sensor.parent / "name") or sensor.parent.name
            label = sysfs.text(sensor.with_name(sensor.name.replace("_input", "_label")))
            _add(found, f"{chip} {label or sensor.name.removesuffix('_input')}", sysfs.integer(sensor))
        return found or None

    def _throttle_count(self) -> int | None:
        read = [sysfs.integer(path) for path in self._cores("thermal_throttle/*_throttle_count")]
        counted = [value for value in read if value is not None]
        return sum(counted) if counted else None

    def _throttled(self) -> tuple[str, ...] | None:
        word = sysfs.text(self._root / _PI_THROTTLED)
        if word is None and self._pi is not None:
            word = _vcgencmd(self._pi)
        try:
            bits = None if word is None else int(word.rpartition("=")[2], 16)
        except ValueError:
            return None
        return None if bits is None else tuple(name for bit, name in _PI_BITS.items() if bits >> bit & 1)

    def _battery(self) -> Battery | None:
        for supply in sysfs.entries(self._root / "sys/class/power_supply", "*"):
            if sysfs.text(supply / "type") == "Battery" and sysfs.text(supply / "scope") != "Device":
                return Battery(sysfs.integer(supply / "capacity"), sysfs.text(supply / "status"))
        return None

    def _gpu_states(self) -> tuple[tuple[GpuState, ...] | None, str]:
        return (None, self._gpus) if isinstance(self._gpus, str) else (self._gpus.states(), "")


class LoadMeter:
    """How much of the cores' time other processes used while this process worked.

    other = (Δbusy − Δown) / (Δbusy + Δidle), with busy and idle ticks of all cores from /proc/stat (steal is busy:
    another guest had the core) and own the CPU time of this process and of those that work for it. Between `begin` and
    `end` only, since other workers of the same benchmark run in between.

    Attributes:
        helpers: the processes that work for this one.
    """

    MIN_S = 0.1  # a tick is 10 ms

    def __init__(self, root: Path = Path("/")) -> None:
        self._stat = root / "proc/stat"
        self.helpers: Sequence[int] = ()
        self._start: tuple[int, int, float] | None = None
        self._busy_s = self._idle_s = self._own_s = 0.0

    def begin(self) -> None:
        """Own work starts."""
        self._start = self._now()

    def end(self) -> None:
        """Own work is over."""
        now = self._now()
        if now is None or self._start is None:
            return
        self._busy_s += (now[0] - self._start[0]) / _TICKS_PER_S
        self._idle_s += (now[1] - self._start[1]) / _TICKS_PER_S
        self._own_s += now[2] - self._start[2]
        self._start = None

    def take(self) -> float | None:
        """The share since it was last taken, 0 to 1; None where less than `MIN_S` were seen, and those are kept."""
        total = self._busy_s + self._idle_s
        if total < self.MIN_S:
            return None
        share = (self._busy_s - self._own_s) / total
        self._busy_s = self._idle_s = self._own_s = 0.0
        return min(max(share, 0.0), 1.0)

    def _now(self) -> tuple[int, int, float] | None:
        words = (sysfs.text(self._stat) or "").partition("\n")[0].split()
        if len(words) < 9 or words[0] != "cpu":
            return None
        user, nice, system, idle, wait, irq, soft, steal = map(int, words[1:9])
        own_s = time.process_time() + cpu_s(self.helpers)
        return user + nice + system + irq + soft + steal, idle + wait, own_s


def _add(found: dict[str, float], name: str, millidegrees: int | None) -> None:
    """Sensors of one name are told apart by a number; one that does not answer is left out."""
    if millidegrees is None:
        return
    unique, number = name, 2
    while unique in found:
        unique, number = f"{name} {number}", number + 1
    found[unique] = millidegrees / 1000


def _vcgencmd(program: str) -> str | None:
    """``throttled=0x50005``; None where the firmware may not be asked."""
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=1, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


LOAD_LIMIT = 0.10
"""Beyond this share of all cores used by others, over the whole measurement, a run is noisy."""
LOAD_PEAK_LIMIT = 0.25
"""Beyond this share in any one interval, too."""
QUOTA_LIMIT = 0.02
"""Beyond this share of the periods in which a CPU quota stopped the group, a run is noisy."""
CLOCK_LIMIT = 0.10
"""Beyond this relative range of the fastest core's clock a run is drifting."""


def complaints(state: DeviceState) -> tuple[list[str], list[str]]:
    """What speaks against a measurement in the machine's state: reasons for "drifting", and reasons for "noisy".

    Drifting: throttle events were counted, something held a clock down, or the fastest core's clock changed by more
    than `CLOCK_LIMIT`. Noisy: others used more than `LOAD_LIMIT` of the machine, or at times `LOAD_PEAK_LIMIT` of it,
    or a CPU quota stopped the process in more than `QUOTA_LIMIT` of its periods.
    """
    drifting, noisy = [], []
    every = (state.before, *state.during, state.after)
    counts = [item.throttle_count for item in every if item.throttle_count is not None]
    if counts and counts[-1] > counts[0]:
        drifting.append(f"the cores were throttled {counts[-1] - counts[0]} times for their temperature")
    holds = dict.fromkeys(name for item in every for name in item.throttled or ())
    holds.update(
        dict.fromkeys(f"GPU: {why}" for item in state.during for gpu in item.gpus or () for why in gpu.throttled)
    )
    if holds:
        drifting.append(f"clocks were held down: {', '.join(holds)}")
    clocks = [max(item.frequencies_hz) for item in state.during if item.frequencies_hz]
    if clocks and max(clocks) - min(clocks) > CLOCK_LIMIT * max(clocks):
        drifting.append(f"the fastest core ran at {min(clocks) / 1e9:.2f} to {max(clocks) / 1e9:.2f} GHz")
    loads = [item.other_load for item in state.during if item.other_load is not None]
    if loads and sum(loads) / len(loads) > LOAD_LIMIT:
        noisy.append(f"other processes used {sum(loads) / len(loads):.0%} of the machine")
    elif loads and max(loads) > LOAD_PEAK_LIMIT:
        noisy.append(f"other processes used up to {max(loads):.0%} of the machine")
    noisy += _quota_complaints(every)
    return drifting, noisy


def _quota_complaints(every: Sequence[Snapshot]) -> list[str]:
    told = [item for item in every if item.quota_periods is not None and item.quota_throttled is not None]
    if len(told) < 2:
        return []
    first, last = told[0], told[-1]
    periods = (last.quota_periods or 0) - (first.quota_periods or 0)
    throttled = (last.quota_throttled or 0) - (first.quota_throttled or 0)
    if throttled <= QUOTA_LIMIT * periods:
        return []
    return [f"a CPU quota of {last.quota_cpus:g} CPUs stopped the process in {throttled} of {periods} periods"]


def judge(verdict: Verdict, reasons: Sequence[str], state: DeviceState | None) -> tuple[Verdict, list[str]]:
    """A verdict from the samples alone, made no better and perhaps worse by the machine's state.

    Args:
        verdict: "steady", "noisy" or "drifting", as the statistics say.
        reasons: theirs.
        state: of the machine; None: not known, and nothing changes.

    Returns:
        The verdict and all reasons, those for drifting first.
    """
    drifting, noisy = complaints(state) if state is not None else ([], [])
    worst: Verdict = verdict
    if drifting:
        worst = "drifting"
    elif noisy and verdict == "steady":
        worst = "noisy"
    return worst, [*drifting, *reasons, *noisy]
