from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.measure.energy import WINDOWS, Meter, PowerMeter, find_meters, measure_energy

pytestmark = pytest.mark.alone

NO_GPU = "no GPU in this test"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def only(root: Path) -> Meter:
    meters, _ = find_meters(root, gpus=NO_GPU)
    (make,) = meters
    return make()


RAPL = {
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "500000",
    "sys/class/powercap/intel-rapl:0:1/name": "dram",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": "200000",
    "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": "65712999613",
    "sys/class/powercap/intel-rapl:1/name": "psys",
    "sys/class/powercap/intel-rapl:1/energy_uj": "9000000",
}


def test_rapl_counts_packages_and_memory_once(tmp_path: Path) -> None:
    meter = only(write(tmp_path, RAPL))
    assert meter.method == "RAPL: dram, package"
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": "3000000"})
    write(tmp_path, {"sys/class/powercap/intel-rapl:0:0/energy_uj": "2500000"})  # part of the package
    write(tmp_path, {"sys/class/powercap/intel-rapl:0:1/energy_uj": "300000"})
    assert meter.energy_j() == pytest.approx(2.1)


def test_rapl_starts_again_at_its_range(tmp_path: Path) -> None:
    span = 1_000_000
    files = {"name": "package-0", "energy_uj": "999000", "max_energy_range_uj": str(span)}
    meter = only(write(tmp_path, {f"sys/class/powercap/intel-rapl:0/{k}": v for k, v in files.items()}))
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": "499"})
    assert meter.energy_j() == pytest.approx((span - 999_000 + 1 + 499) / 1e6)
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": "10499"})
    assert meter.energy_j() == pytest.approx((span - 999_000 + 1 + 10_499) / 1e6)


def test_rapl_that_only_root_may_read(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/name": "package-0"})  # energy_uj cannot be read
    meters, reasons = find_meters(tmp_path, gpus=NO_GPU)
    assert meters == []
    assert any("may be read by root only" in reason for reason in reasons)


def test_a_machine_without_any_meter_says_why(tmp_path: Path) -> None:
    meters, reasons = find_meters(tmp_path, gpus=NO_GPU)
    assert meters == []
    assert reasons == [
        "no INA3221 power sensor (a Jetson's)",
        "there is no battery",
        "no RAPL in /sys/class/powercap",
        NO_GPU,
    ]


ORIN_NANO = {
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "5000",
    "sys/class/hwmon/hwmon1/curr1_input": "1200",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "sys/class/hwmon/hwmon1/in2_input": "5000",
    "sys/class/hwmon/hwmon1/curr2_input": "400",
}
AGX = {
    "sys/class/hwmon/hwmon3/name": "ina3221",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC",
    "sys/class/hwmon/hwmon3/in1_input": "19000",
    "sys/class/hwmon/hwmon3/curr1_input": "100",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_CV",
    "sys/class/hwmon/hwmon3/in2_input": "19000",
    "sys/class/hwmon/hwmon3/curr2_input": "50",
    "sys/class/hwmon/hwmon3/in3_label": "NC",
    "sys/class/hwmon/hwmon3/in3_input": "19000",
    "sys/class/hwmon/hwmon3/curr3_input": "9000",
}
BATTERY = {"type": "Battery", "status": "Discharging"}


def battery(**values: str) -> dict[str, str]:
    return {f"sys/class/power_supply/BAT0/{key}": value for key, value in {**BATTERY, **values}.items()}


@pytest.mark.parametrize(
    ("files", "method", "power_w"),
    [
        (ORIN_NANO, "INA3221: VDD_IN", 6.0),
        (AGX, "INA3221: VDD_CPU_CV + VDD_GPU_SOC", 2.85),
        (battery(power_now="7500000"), "battery BAT0", 7.5),
        (battery(current_now="-500000", voltage_now="4000000"), "battery BAT0", 2.0),
    ],
)
def test_a_power_sensor_is_integrated(tmp_path: Path, files: dict[str, str], method: str, power_w: float) -> None:
    meter = only(write(tmp_path, files))
    assert meter.method == method
    start, before = time.monotonic(), meter.energy_j()
    time.sleep(0.2)
    used, took = meter.energy_j() - before, time.monotonic() - start
    meter.close()
    assert used / took == pytest.approx(power_w, rel=0.1)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (battery(status="Charging", power_now="1"), "the battery is not discharging"),
        (battery(), "battery BAT0 does not report its power"),
        ({**battery(scope="Device", power_now="1")}, "there is no battery"),  # a mouse's
    ],
)
def test_a_battery_that_says_nothing_of_the_machine(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    meters, reasons = find_meters(write(tmp_path, files), gpus=NO_GPU)
    assert meters == []
    assert any(reason in text for text in reasons)


def test_the_meter_that_sees_most_comes_first(tmp_path: Path) -> None:
    meters, _ = find_meters(write(tmp_path, {**RAPL, **ORIN_NANO}), gpus=NO_GPU)
    opened = [make() for make in meters]
    assert [meter.method.partition(":")[0] for meter in opened] == ["INA3221", "RAPL"]
    for meter in opened:
        meter.close()


def test_a_sensor_that_goes_away_is_an_error(tmp_path: Path) -> None:
    meter = only(write(tmp_path, battery(power_now="1000000")))
    (tmp_path / "sys/class/power_supply/BAT0/power_now").unlink()
    with pytest.raises(FileNotFoundError):
        meter.energy_j()
    meter.close()


class Simulated:
    """10 W idle, 25 W while it runs."""

    method = "simulated"

    def __init__(self) -> None:
        self.power_w, self._joules, self._since = 10.0, 0.0, time.monotonic()

    def energy_j(self) -> float:
        now = time.monotonic()
        self._joules += self.power_w * (now - self._since)
        self._since = now
        return self._joules

    def switch(self, power_w: float) -> None:
        self.energy_j()
        self.power_w = power_w

    def close(self) -> None: ...


def loaded(meter: Simulated, run_s: float) -> Callable[[float], int]:
    def run_for(seconds: float) -> int:
        meter.switch(25.0)
        runs = max(1, round(seconds / run_s))
        time.sleep(runs * run_s)
        meter.switch(10.0)
        return runs

    return run_for


def test_idle_power_is_subtracted() -> None:
    meter = Simulated()
    (found,) = measure_energy([meter], loaded(meter, 0.01), seconds=0.8, idle_s=0.1)
    assert found.idle_w == pytest.approx(10.0, rel=0.02)
    # 15 W above idle for 10 ms a run
    assert found.value == pytest.approx(0.15, rel=0.15)
    assert found.low <= found.value <= found.high
    assert found.gross_j == pytest.approx(0.25, rel=0.15)
    assert found.runs == 10 * WINDOWS
    assert found.method == "simulated"


def test_a_power_meter_stops() -> None:
    reads = []

    def power_w() -> float:
        reads.append(1)
        return 1.0

    meter = PowerMeter("counted", power_w)
    meter.close()
    count = len(reads)
    time.sleep(0.1)
    assert len(reads) == count
