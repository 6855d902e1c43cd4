"""NVIDIA GPUs by NVML, the driver's own library: no Python package needed.

Source: NVIDIA, "NVML API Reference Guide" (nvml.h): names, enumerations and units.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from typing import Any

_LIBRARY = "nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1"
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_TEMPERATURE_GPU = 0
# Bits of nvmlDeviceGetCurrentClocksThrottleReasons that hold the clock below what the load asks for.
THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU at one moment. None: this GPU does not tell."""

    name: str | None
    sm_clock_hz: int | None
    memory_clock_hz: int | None
    power_w: float | None
    temperature_c: int | None
    throttled: tuple[str, ...] = ()  # why its clock is held down now

    def __post_init__(self) -> None:
        object.__setattr__(self, "throttled", tuple(self.throttled))  # from JSON it comes as a list


class Nvml:
    """The GPUs of this machine. `load` opens the library once a process and leaves it open."""

    def __init__(self, library: Any) -> None:
        self._library = library
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        self._handles = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
                self._handles.append(handle)

    def __len__(self) -> int:
        """Number of GPUs that can be asked."""
        return len(self._handles)

    def states(self) -> tuple[GpuState, ...]:
        """Every GPU now."""
        return tuple(self._state(handle) for handle in self._handles)

    def energy_j(self) -> list[float]:
        """Energy each GPU has used since the driver was loaded, in joules; [] unless all of them tell (Volta on)."""
        found = [self._number("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.c_ulonglong) for handle in self]
        return [] if None in found else [value / 1e3 for value in found if value is not None]

    def __iter__(self) -> Any:
        """The handles, for calls."""
        return iter(self._handles)

    def _state(self, handle: Any) -> GpuState:
        sm = self._number("nvmlDeviceGetClockInfo", handle, ctypes.c_uint, _CLOCK_SM)
        memory = self._number("nvmlDeviceGetClockInfo", handle, ctypes.c_uint, _CLOCK_MEMORY)
        power = self._number("nvmlDeviceGetPowerUsage", handle, ctypes.c_uint)
        bits = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", handle, ctypes.c_ulonglong) or 0
        return GpuState(
            name=self._name(handle),
            sm_clock_hz=None if sm is None else sm * 1_000_000,
            memory_clock_hz=None if memory is None else memory * 1_000_000,
            power_w=None if power is None else power / 1e3,
            temperature_c=self._number("nvmlDeviceGetTemperature", handle, ctypes.c_uint, _TEMPERATURE_GPU),
            throttled=tuple(reason for bit, reason in THROTTLE_REASONS.items() if bits & bit),
        )

    def _name(self, handle: Any) -> str | None:
        buffer = ctypes.create_string_buffer(96)
        done = self._library.nvmlDeviceGetName(handle, buffer, len(buffer))
        return buffer.value.decode(errors="replace") if done == 0 else None

    def _number(self, function: str, handle: Any, kind: Any, *arguments: int) -> int | None:
        value = kind()
        done = getattr(self._library, function)(handle, *arguments, ctypes.byref(value))
        return int(value.value) if done == 0 else None


@functools.cache
def load() -> Nvml | str:
    """NVML with at least one GPU, or why there is none."""
    try:
        library: Any = ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"NVIDIA's driver library {_LIBRARY} is not on this machine"
    done = library.nvmlInit_v2()
    if done != 0:
        return f"NVML cannot be used: nvmlInit says error {done}"
    found = Nvml(library)
    return found if len(found) else "NVML finds no GPU"
