from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit import plugins
from edgekit.api.doctor import Package, cpu_features, examine
from edgekit.cli import main
from edgekit.errors import EngineError, UsageError
from edgekit.report.doctor import doctor_text


def without(monkeypatch: pytest.MonkeyPatch, *gone: str, **present: str) -> None:
    """Make distributions look uninstalled, or installed in a version."""
    real = metadata.version

    def version(name: str) -> str:
        if name in present:
            return present[name]
        if name in gone:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_packages_come_from_our_own_metadata() -> None:
    packages = {item.name: item for item in examine("cpu").packages}
    assert packages["numpy"].extra == ""
    assert packages["torch"].extra == "export"
    assert packages["torch"].wanted == ">=2.9"
    assert packages["torch"].version == metadata.version("torch")
    assert "edgekit" not in packages
    assert "ruff" not in packages


@pytest.mark.parametrize(
    ("package", "problem"),
    [
        (Package("torch", "2.13.0+cpu", ">=2.9", "export"), None),
        (Package("torch", "2.9.0", ">=2.9", "export"), None),
        (Package("torch", "2.8.1", ">=2.9", "export"), "torch 2.8.1 is installed, and edgekit needs >=2.9"),
        (Package("torch", "2.10.0rc1", ">=2.9", "export"), None),
        (Package("nncf", "3.0", ">=2.9,<3", "cpu"), "nncf 3.0 is installed, and edgekit needs >=2.9,<3"),
        (Package("torch", None, ">=2.9", "export"), "torch is not installed"),
        (Package("gt", "0.1", "", "dev"), None),
    ],
)
def test_a_package_that_will_not_do(package: Package, problem: str | None) -> None:
    assert package.problem == problem


def test_a_missing_exporter_package_is_a_need(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxscript")
    (target,) = examine("cpu-onnxruntime").targets
    assert not target.ready
    assert "onnxscript is not installed" in target.needs
    assert 'pip install "edgekit[export]"' in target.install


def test_a_missing_quantizer_is_a_need_of_the_target_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "nncf")
    assert "nncf is not installed" in examine("cpu-openvino").targets[0].needs
    assert "nncf is not installed" not in examine("cpu-onnxruntime").targets[0].needs


def test_a_missing_converter_is_a_need_of_the_target_that_goes_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "litert-torch")
    (target,) = examine("cpu-litert").targets
    assert "exporter 'litert': litert-torch is not installed" in target.needs
    assert "pip install litert-torch" in target.install


def test_an_engine_that_does_not_load_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # Python's import then fails as where it is not installed
    report = examine("cpu")
    (target,) = report.targets
    assert "runtime 'openvino': openvino is not installed. Install it: pip install openvino" in target.needs
    assert "pip install openvino" in target.install
    text = doctor_text(report, colour=False, width=100)
    assert "openvino is not installed. Install it: pip install openvino" in text


def test_two_packages_that_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, **{"onnxruntime-gpu": "1.32.0"})
    report = examine("cpu")
    problems = report.problems
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime" in report.targets[0].install
    assert "pip install onnxruntime" not in report.targets[0].install, "one more install would not help"
    assert any("onnxruntime and onnxruntime-gpu are both installed" in line for line in problems)
    assert any("pip uninstall -y onnxruntime onnxruntime-gpu" in line for line in problems)


def test_a_target_for_another_machine_can_be_ready_and_says_it_is_measured_elsewhere() -> None:
    (target,) = examine("raspberry-pi-5").targets
    assert target.measured is not None


def test_an_unknown_target_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="target 'cpuu' is not known"):
        examine("cpuu")


X86 = "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n"
ARM = "processor : 0\nFeatures\t: fp asimd asimddp i8mm bf16\n"


@pytest.mark.parametrize(
    ("text", "features"),
    [
        (X86, {"avx2": True, "avx512_vnni": True, "amx_int8": False, "bf16": True, "fp16": False}),
        (ARM, {"dotprod": True, "i8mm": True, "bf16": True, "fp16": False}),
        ("processor : 0\n", None),
    ],
)
def test_cpu_features(tmp_path: Path, text: str, features: dict[str, bool] | None) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert cpu_features(path) == features


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert cpu_features(tmp_path / "gone") is None


def test_command_prints_one_object_and_exits_0() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["schema"] == 1
    assert {item["name"] for item in value["targets"]} >= {"cpu", "raspberry-pi-5"}
    assert {item["name"] for item in value["engines"]} >= {"onnxruntime", "openvino"}


def test_command_exits_6_where_the_target_needs_something(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch")
    result = CliRunner().invoke(main, ["doctor", "--target", "cpu-onnxruntime", "--json"])
    assert result.exit_code == 6
    assert json.loads(result.stdout)["targets"][0]["ready"] is False
    assert "edgekit: target 'cpu-onnxruntime' is not ready: torch is not installed" in result.stderr
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0


def test_a_target_whose_engine_cannot_run_here_is_ready_if_its_stand_in_is() -> None:
    try:
        plugins.load("runtimes", "tensorrt")().version()
    except EngineError:
        pass
    else:
        pytest.skip("TensorRT runs here: pip uninstall tensorrt")
    (jetson,) = examine("jetson").targets
    assert jetson.ready and jetson.measured == (
        "tensorrt cannot run here: checked with onnxruntime; the device builds the plan, none is built here"
    )
    assert "none is built here" in " ".join(doctor_text(examine("jetson"), False, 100).split())
