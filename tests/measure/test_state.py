from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit.measure.nvml import GpuState
from edgekit.measure.state import Battery, DeviceState, LoadMeter, Reader, Snapshot, complaints, judge

pytestmark = pytest.mark.alone

NO_GPU = "no GPU in this test"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def a_machine(root: Path) -> Path:
    """Two cores of a laptop, eleven to see that cpu10 comes after cpu2."""
    files = {f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq": str(1_000_000 + i) for i in (0, 1, 2, 10)}
    files |= {f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor": "powersave" for i in (0, 1, 2)}
    files |= {"sys/devices/system/cpu/cpu10/cpufreq/scaling_governor": "performance"}
    files |= {f"sys/devices/system/cpu/cpu{i}/thermal_throttle/core_throttle_count": "2" for i in (0, 1)}
    files |= {
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone0/temp": "47000",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone1/temp": "48500",
        "sys/class/hwmon/hwmon0/name": "coretemp",
        "sys/class/hwmon/hwmon0/temp1_input": "51000",
        "sys/class/hwmon/hwmon0/temp1_label": "Core 0",
        "sys/class/hwmon/hwmon0/temp2_input": "52000",
        "sys/class/power_supply/AC/type": "Mains",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/capacity": "83",
        "sys/class/power_supply/BAT0/status": "Discharging",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
    }
    return write(root, files)


def test_everything_of_a_fabricated_machine_is_read(tmp_path: Path) -> None:
    reader = Reader(a_machine(tmp_path), gpus=NO_GPU)
    found = reader.read()
    assert found.governors == ("performance", "powersave")
    assert found.frequencies_hz == (1_000_000_000, 1_000_001_000, 1_000_002_000, 1_000_010_000)
    assert found.temperatures_c == {
        "x86_pkg_temp": 47.0,
        "x86_pkg_temp 2": 48.5,
        "coretemp Core 0": 51.0,
        "coretemp temp2": 52.0,
    }
    assert found.throttle_count == 4
    assert found.throttled == ("under-voltage", "throttled")  # the bits from 16 on are of the past
    assert found.battery == Battery(83, "Discharging")
    assert set(reader.unread) == {"other_load", "gpus"}
    assert reader.unread["gpus"] == NO_GPU


def test_what_cannot_be_read_is_none_with_its_reason(tmp_path: Path) -> None:
    reader = Reader(tmp_path, gpus=NO_GPU)
    found = reader.read()
    unset = {field.name for field in dataclasses.fields(Snapshot)} - {"time_s"}
    assert {name for name in unset if getattr(found, name) is None} == unset
    assert set(reader.unread) == {name for name in unset if not name.startswith("quota_")}  # none is not unread
    assert "no cpufreq" in reader.unread["governors"]
    assert reader.unread["battery"] == "there is no battery"


def test_a_sensor_that_answers_nonsense_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/thermal/thermal_zone0/type": "gpu", "sys/class/thermal/thermal_zone0/temp": ""})
    assert Reader(tmp_path, gpus=NO_GPU).read().temperatures_c is None


def test_a_snapshot_survives_json(tmp_path: Path) -> None:
    snapshot = dataclasses.replace(
        Reader(a_machine(tmp_path), gpus=NO_GPU).read(),
        other_load=0.25,
        gpus=(GpuState("H200", 1_980_000_000, None, 120.5, 40, ("power cap",)),),
    )
    assert Snapshot.from_json(json.loads(json.dumps(snapshot.to_json()))) == snapshot


def stat(user: int, idle: int, steal: int = 0) -> str:
    return f"cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3"


def test_load_of_others_leaves_out_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = iter([10.0, 11.0])
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    meter = LoadMeter(write(tmp_path, {"proc/stat": stat(1000, 5000)}))
    meter.begin()
    write(tmp_path, {"proc/stat": stat(1000 + 150, 5000 + 40, steal=10)})
    meter.end()
    # 2 s of two cores: busy 1.6 s, of which 1 s is ours, so 0.6 s of 2 s belong to others
    assert meter.take() == pytest.approx(0.3)
    assert meter.take() is None


def test_what_others_do_between_our_blocks_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    meter = LoadMeter(write(tmp_path, {"proc/stat": stat(0, 0)}))
    meter.begin()
    write(tmp_path, {"proc/stat": stat(0, 100)})
    meter.end()
    write(tmp_path, {"proc/stat": stat(500, 100)})
    meter.begin()
    write(tmp_path, {"proc/stat": stat(500, 200)})
    meter.end()
    assert meter.take() == 0.0


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="needs Linux")
def test_a_busy_loop_in_another_process_is_seen() -> None:
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        meter = LoadMeter()
        meter.begin()
        time.sleep(1.0)
        meter.end()
        load = meter.take()
    finally:
        spinner.kill()
        spinner.wait()
    assert load is not None and load > 0.4 / (os.cpu_count() or 1)


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="needs Linux")
def test_reading_costs_little() -> None:
    reader = Reader()
    costs = []
    for _ in range(20):
        start = time.perf_counter()
        reader.read()
        costs.append(time.perf_counter() - start)
    assert sorted(costs)[10] < 0.02  # a fraction of a block, twice a second


def at(time_s: float, **values: Any) -> Snapshot:
    return Snapshot(time_s, **values)


def series(*during: Snapshot, before: Snapshot | None = None, after: Snapshot | None = None) -> DeviceState:
    return DeviceState(before or at(0), during, after or at(9))


@pytest.mark.parametrize(
    ("state", "drifting", "noisy"),
    [
        (series(at(1, other_load=0.02), at(2, other_load=0.05)), [], []),
        (series(at(1, other_load=0.0), at(2, other_load=0.5)), [], ["other processes used 25% of the machine"]),
        (series(*[at(i, other_load=0.0) for i in range(9)], at(9, other_load=0.5)), [], ["used up to 50%"]),
        (series(before=at(0, throttle_count=4), after=at(9, throttle_count=7)), ["were throttled 3 times"], []),
        (series(at(1, throttled=("under-voltage",))), ["held down: under-voltage"], []),
        (series(at(1, gpus=(GpuState("g", 1, 1, 1.0, 1, ("power cap",)),))), ["GPU: power cap"], []),
        (
            series(at(1, frequencies_hz=(800_000_000, 2_400_000_000)), at(2, frequencies_hz=(1_500_000_000,) * 2)),
            ["the fastest core ran at 1.50 to 2.40 GHz"],
            [],
        ),
        # A core that idles slowly says nothing: the fastest one is the one that works.
        (series(at(1, frequencies_hz=(800, 2400)), at(2, frequencies_hz=(2400, 900))), [], []),
    ],
)
def test_complaints(state: DeviceState, drifting: list[str], noisy: list[str]) -> None:
    found = complaints(state)
    for got, want in zip(found, (drifting, noisy), strict=True):
        assert len(got) == len(want)
        assert all(part in text for part, text in zip(want, got, strict=True))


def test_the_state_makes_a_verdict_worse_never_better() -> None:
    loud = series(at(1, other_load=0.9))
    assert judge("steady", [], None) == ("steady", [])
    assert judge("steady", [], loud) == ("noisy", ["other processes used 90% of the machine"])
    assert judge("drifting", ["got slower"], loud)[0] == "drifting"
    assert judge("noisy", ["spread"], series(at(1, throttled=("throttled",)))) == (
        "drifting",
        ["clocks were held down: throttled", "spread"],
    )


def test_times_are_told_from_the_start() -> None:
    value = series(at(101.0), before=at(100.0), after=at(103.0)).to_json()
    assert [value["before"]["time_s"], value["during"][0]["time_s"], value["after"]["time_s"]] == [0.0, 1.0, 3.0]
