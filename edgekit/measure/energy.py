"""Energy by the counters and sensors a machine has: RAPL, NVML, Jetson's INA3221, the battery.

A meter counts the energy of what it sees (a CPU package, a GPU, the whole board), whoever uses it. So what the machine
uses when it idles is measured first and subtracted:

    energy of a run = (ΔE − P_idle · Δt) / runs          in several windows; the interval is Student's over them

Verified on real hardware: NVML's counter (NVIDIA H200: it moves ten times a second). RAPL, INA3221 and batteries are
tested on fabricated trees of files only, as none of our machines has one that can be read.

Sources: Linux's Documentation/power/powercap/powercap.rst (energy_uj, max_energy_range_uj), Documentation/ABI
sysfs-class-power (µV, µA, µW), Documentation/hwmon/ina3221.rst (mV, mA), NVIDIA's "Jetson Linux Developer Guide" on the
rails of each module, NVML's API reference.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import nvml, sysfs

WINDOWS = 8
_T_95 = 2.365  # Student's two-sided 95 % quantile with WINDOWS − 1 degrees of freedom
_SAMPLE_S = 0.02  # a power sensor is read so often


class Meter(Protocol):
    """Something that says how much energy was used."""

    @property
    def method(self) -> str:
        """What it is and what it sees."""
        ...

    def energy_j(self) -> float:
        """Joules since some moment in the past.

        Raises:
            OSError: the sensor is gone.
        """
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


@dataclass(frozen=True, slots=True)
class Energy:
    """What one run takes, by one meter."""

    value: float  # joules a run, above the idle machine
    low: float
    high: float
    gross_j: float  # joules a run, idle machine included
    idle_w: float  # what was subtracted
    method: str
    runs: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class RaplMeter:
    """Intel's and AMD's running average power limit: every CPU package, and the memory where it is counted apart."""

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = [(zone / "energy_uj", sysfs.integer(zone / "max_energy_range_uj") or 2**32) for zone in zones]
        names = sorted({(sysfs.text(zone / "name") or zone.name).partition("-")[0] for zone in zones})
        self.method = f"RAPL: {', '.join(names)}"
        self._last = [_read_integer(path) for path, _ in self._zones]
        self._total_uj = 0

    def energy_j(self) -> float:
        """See Meter. A counter starts again at 0 above its range, which a load takes minutes to reach."""
        for index, (path, span) in enumerate(self._zones):
            now = _read_integer(path)
            self._total_uj += (now - self._last[index]) % (span + 1)
            self._last[index] = now
        return self._total_uj / 1e6

    def close(self) -> None:
        """Nothing runs."""


class NvmlMeter:
    """What NVIDIA's driver counts for all GPUs."""

    def __init__(self, gpus: nvml.Nvml) -> None:
        self._gpus = gpus
        self.method = f"NVML: total energy of {len(gpus)} GPU{'s' if len(gpus) != 1 else ''}"

    def energy_j(self) -> float:
        """See Meter."""
        found = self._gpus.energy_j()
        if not found:
            raise OSError("NVML no longer reports the energy")
        return sum(found)

    def close(self) -> None:
        """The library stays open."""


class PowerMeter:
    """Integrates a power sensor over time (trapezoids), in a thread of its own.

    Args:
        method: what it is.
        power_w: reads it; raises OSError.
    """

    def __init__(self, method: str, power_w: Callable[[], float]) -> None:
        self.method = method
        self._power_w = power_w
        self._lock = threading.Lock()
        self._total_j = 0.0
        self._last = (time.monotonic(), power_w())
        self._error: OSError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def energy_j(self) -> float:
        """See Meter."""
        self._add()
        if self._error is not None:
            raise self._error
        return self._total_j

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S) and self._error is None:
            self._add()

    def _add(self) -> None:
        with self._lock:
            try:
                now = (time.monotonic(), self._power_w())
            except OSError as error:
                self._error = error
                return
            self._total_j += (now[0] - self._last[0]) * (now[1] + self._last[1]) / 2
            self._last = now


def find_meters(
    root: Path = Path("/"), gpus: nvml.Nvml | str | None = None
) -> tuple[list[Callable[[], Meter]], list[str]]:
    """What opens each meter of this machine, the one that sees most first, and why the others cannot be used.

    Args:
        root: where ``sys`` lies; another one than ``/`` in tests.
        gpus: NVML, or why there is none; None: load it.
    """
    meters: list[Callable[[], Meter]] = []
    reasons: list[str] = []
    for found in (_ina3221(root), _battery(root), _rapl(root), _nvml(nvml.load() if gpus is None else gpus)):
        if isinstance(found, str):
            reasons.append(found)
        else:
            meters.append(found)
    return meters, reasons


def _rapl(root: Path) -> Callable[[], Meter] | str:
    folder = root / "sys/class/powercap"
    named = {zone: sysfs.text(zone / "name") or "" for zone in sysfs.entries(folder, "intel-rapl:*")}
    # A package holds its cores' and its GPU's energy; the memory is counted beside it.
    zones = [zone for zone, name in named.items() if name.startswith("package") or name == "dram"]
    if not zones:
        return "no RAPL in /sys/class/powercap"
    if any(sysfs.integer(zone / "energy_uj") is None for zone in zones):
        return "RAPL's counters may be read by root only (CVE-2020-8694): run as root"
    return lambda: RaplMeter(zones)


def _nvml(gpus: nvml.Nvml | str) -> Callable[[], Meter] | str:
    if isinstance(gpus, str):
        return gpus
    return (lambda: NvmlMeter(gpus)) if gpus.energy_j() else "NVML counts no energy for this GPU"


def _ina3221(root: Path) -> Callable[[], Meter] | str:
    """Jetson's sensor: channels 1 to 3 each with a voltage, a current and the rail's name.

    VDD_IN is the whole module (Orin Nano, Orin NX); modules without it (AGX) are the sum of their rails.
    """
    rails: dict[str, list[tuple[Path, Path]]] = {}
    for chip in sysfs.entries(root / "sys/class/hwmon", "hwmon*"):
        if sysfs.text(chip / "name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = sysfs.text(chip / f"in{channel}_label")
            pair = chip / f"in{channel}_input", chip / f"curr{channel}_input"
            if label and label != "NC" and all(sysfs.integer(path) is not None for path in pair):
                rails.setdefault(label, []).append(pair)
    if not rails:
        return "no INA3221 power sensor (a Jetson's)"
    chosen = ["VDD_IN"] if "VDD_IN" in rails else sorted(rails)
    pairs = [pair for name in chosen for pair in rails[name]]

    def power_w() -> float:
        return sum(_read_integer(volt) * _read_integer(ampere) for volt, ampere in pairs) / 1e6  # mV · mA = µW

    return lambda: PowerMeter(f"INA3221: {' + '.join(chosen)}", power_w)


def _battery(root: Path) -> Callable[[], Meter] | str:
    supplies = [
        supply
        for supply in sysfs.entries(root / "sys/class/power_supply", "*")
        if sysfs.text(supply / "type") == "Battery" and sysfs.text(supply / "scope") != "Device"
    ]
    return _battery_meter(supplies[0]) if supplies else "there is no battery"


def _battery_meter(supply: Path) -> Callable[[], Meter] | str:
    if sysfs.text(supply / "status") != "Discharging":
        return "the battery is not discharging: its current is not what the machine uses"
    power, current, voltage = supply / "power_now", supply / "current_now", supply / "voltage_now"
    if sysfs.integer(power) is not None:
        return lambda: PowerMeter(f"battery {supply.name}", lambda: abs(_read_integer(power)) / 1e6)
    if sysfs.integer(current) is not None and sysfs.integer(voltage) is not None:
        return lambda: PowerMeter(
            f"battery {supply.name}", lambda: abs(_read_integer(current)) * _read_integer(voltage) / 1e12
        )
    return f"battery {supply.name} does not report its power"


def _read_integer(path: Path) -> int:
    return int(path.read_text())


def measure_energy(
    meters: Sequence[Meter], run_for: Callable[[float], int], seconds: float, idle_s: float
) -> list[Energy]:
    """The energy of a run by each meter.

    Args:
        meters: open ones; stay the caller's to close.
        run_for: runs back to back for so many seconds and returns how often.
        seconds: to run, in `WINDOWS` windows.
        idle_s: to look at the idle machine before.

    Raises:
        OSError: a sensor is gone.
    """
    idle_w = _watts(meters, idle_s)
    rows = []
    for _ in range(WINDOWS):
        start_s, before = time.monotonic(), [meter.energy_j() for meter in meters]
        runs = run_for(seconds / WINDOWS)
        after, took_s = [meter.energy_j() for meter in meters], time.monotonic() - start_s
        rows.append((runs, took_s, [b - a for a, b in zip(before, after, strict=True)]))
    return [
        _energy(meter.method, idle_w[index], [(runs, took_s, used[index]) for runs, took_s, used in rows])
        for index, meter in enumerate(meters)
    ]


def _watts(meters: Sequence[Meter], seconds: float) -> list[float]:
    start_s, before = time.monotonic(), [meter.energy_j() for meter in meters]
    time.sleep(seconds)
    after, took_s = [meter.energy_j() for meter in meters], time.monotonic() - start_s
    return [(b - a) / took_s for a, b in zip(before, after, strict=True)]


def _energy(method: str, idle_w: float, windows: Sequence[tuple[int, float, float]]) -> Energy:
    net = np.array([(joules - idle_w * took_s) / runs for runs, took_s, joules in windows])
    error = _T_95 * float(net.std(ddof=1)) / math.sqrt(len(net))
    runs, seconds, joules = (sum(row[i] for row in windows) for i in range(3))
    value = float(net.mean())
    return Energy(value, value - error, value + error, joules / runs, idle_w, method, int(runs), seconds)
