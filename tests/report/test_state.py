"""The machine's state in one line."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.measure.nvml import GpuState
from edgekit.measure.state import Battery, DeviceState, Snapshot
from edgekit.report.state import state_line


def snapshot(time_s: float, **values: Any) -> Snapshot:
    return Snapshot(time_s, **values)


def test_a_machine_that_tells_all() -> None:
    gpu = GpuState("NVIDIA H100", 1_980_000_000, 2_619_000_000, 101.0, 31)
    hot = GpuState("NVIDIA H100", 1_755_000_000, 2_619_000_000, 410.0, 52)
    shared: dict[str, Any] = {"governors": ("performance",), "throttle_count": 7}
    state = DeviceState(
        before=snapshot(0, frequencies_hz=(2_600_000_000, 800_000_000), temperatures_c={"cpu": 41.0}, **shared),
        during=(snapshot(1, temperatures_c={"cpu": 47.0}, other_load=0.031, gpus=(hot,), throttled=("power",)),),
        after=snapshot(
            2, frequencies_hz=(2_400_000_000,), battery=Battery(80, "Discharging"), gpus=(gpu,), throttle_count=9
        ),
    )
    assert state_line(state.to_json()) == (
        "governor performance; 2.4 to 2.6 GHz; 41 to 47 °C; 2 throttle events; held down by power; "
        "others used 3% of the machine; battery 80 % Discharging; "
        "NVIDIA H100 1.75 to 1.98 GHz, 101 to 410 W, 31 to 52 °C"
    )


@pytest.mark.parametrize("unread", [{}, {"frequencies_hz": "no cpufreq", "temperatures_c": "no", "other_load": "no"}])
def test_a_machine_that_tells_nothing(unread: dict[str, str]) -> None:
    line = state_line(DeviceState(snapshot(0), (), snapshot(1), unread).to_json())
    assert line == ("not readable: frequencies, temperatures, other load" if unread else "")
