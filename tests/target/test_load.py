from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.contracts import Tolerance
from edgekit.errors import UsageError
from edgekit.target.load import load_target, profile
from edgekit.target.profile import Target, Verified, machine
from edgekit.testing.targets import TargetConformance


class TestOurs(TargetConformance):
    """Every built-in target passes the kit that plug-in authors use."""

    @pytest.fixture(params=sorted(plugins.target_files()))
    def target(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)


def written(folder: Path, text: str, name: str = "board") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_each_candidate_keeps_its_engine() -> None:
    for item in load_target("cpu").candidates:
        assert item.name.startswith(item.runtime)


def test_a_file_extends_a_builtin_target(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'name = "board"\nextends = "raspberry-pi-5"\n[tolerance.int8]\nsqnr_db = 30.0\n[measure]\nwarmup_s = 2.0\n',
    )
    board = load_target(path)
    assert board.arch == ("aarch64",)
    assert board.tolerance["int8"] == Tolerance(sqnr_db=30.0, part_db=8.0)
    assert board.tolerance["fp32"] == Tolerance(rel_l2=1e-3, part_db=40.0)
    assert (board.measure.where, board.measure.warmup_s) == ("device", 2.0)
    assert board.origins["measure.warmup_s"] == path
    assert board.origins["measure.where"].name == "raspberry-pi-5.toml"
    assert [item.stem for item in board.files] == ["board", "raspberry-pi-5", "cpu-arm64", "cpu-base"]


def test_candidates_merge_by_name_and_can_be_disabled(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
name = "board"
extends = "cpu"
[[candidates]]
name = "openvino bf16"
disabled = true
[[candidates]]
name = "openvino fp32"
options = { precision = "f32", threads = 3 }
""",
    )
    board = load_target(path)
    names = [item.name for item in board.candidates]
    assert "openvino bf16" not in names
    assert len(names) == len(load_target("cpu").candidates) - 1
    fp32 = next(item for item in board.candidates if item.name == "openvino fp32")
    assert fp32.options == {"precision": "f32", "threads": 3}
    assert fp32.format == "openvino_ir"


def test_a_profile_beside_the_file_can_be_extended(tmp_path: Path) -> None:
    written(tmp_path, 'name = "family"\nextends = "cpu-arm64"\ndescription = "a family"\n', "family")
    path = written(tmp_path, 'name = "board"\nextends = "family"\n')
    assert load_target(path).description == "a family"


def test_one_runtime_without_candidates_is_one_candidate(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "board"\n[runtime]\nname = "onnxruntime"\n[runtime.options]\nthreads = 2\n')
    (item,) = load_target(path).candidates
    assert (item.name, item.runtime, item.precision, item.options) == (
        "onnxruntime fp32",
        "onnxruntime",
        "fp32",
        {"threads": 2},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "board', "board.toml is not valid TOML: "),
        ('name = "other"', "'name' must be the file's name, 'board', got 'other'"),
        ('name = "board"\nexport = 3', "'export' must be a table, got 3"),
        ('name = "board"\ncandidate = []', "unknown key 'candidate'. Did you mean 'candidates'?"),
        ('name = "board"\n[export]\nopsett = 20', "has no option 'opsett'. Did you mean 'opset'?"),
        ('name = "board"\n[export]\nopset = "20"', "'opset' must be int, got '20'"),
        (
            'name = "board"\n[runtime]\nname = "onnxruntime"\n[measure]\nwhere = "there"',
            "'where' must be 'here' or 'device', got 'there'",
        ),
        (
            'name = "board"\n[runtime]\nname = "onnxruntime"\n[tolerance.int8]\nsqnr = 20',
            "has no option 'sqnr'. Did you mean 'sqnr_db'?",
        ),
        (
            'name = "board"\n[runtime]\nname = "onnxruntime"\n[verified]\ncpuu = "x"',
            "[verified] of ",
        ),
        ('name = "board"\nextends = "cpuu"', "target 'cpuu' is not known. Did you mean 'cpu'?"),
        ('name = "board"\nextends = 3', "'extends' must be a name or a list of names"),
        ('name = "board"\nextends = "board.toml"', "target profiles extend each other in a cycle: board → board"),
        ('name = "board"', "a profile needs [runtime] with a name, or [[candidates]]"),
        ('name = "board"\ncandidates = 3', "'candidates' must be an array of tables"),
        ('name = "board"\n[[candidates]]\nprecision = "fp32"', "every candidate is a table with a 'name'"),
        ('name = "board"\n[[candidates]]\nname = "x"', "candidate 'x' of "),
        ('name = "board"\n[[candidates]]\nname = "x"\nruntim = "y"', "unknown key 'runtim'. Did you mean 'runtime'?"),
        ('name = "board"\npasses = ["fold"]\n[runtime]\nname = "onnxruntime"', "'passes' must be tables with a 'name'"),
        ('name = "board"\n[tune]\nthreads = 1', "must map a session option to a list of values to try"),
        (
            'name = "board"\narch = "aarch64"\n[runtime]\nname = "onnxruntime"',
            "'arch' must be a list of strings, got 'aarch64'",
        ),
    ],
)
def test_a_malformed_profile_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_target(written(tmp_path, text))
    assert message in str(caught.value)


def test_what_was_verified_is_not_inherited(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "board"\nextends = "cpu-arm64"\n')
    assert load_target("cpu-arm64").verified.emulated_device
    board = load_target(path)
    assert board.verified == Verified()
    assert not any(key.startswith("verified") for key in board.origins)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"target file '.*gone\.toml' does not exist"):
        load_target(tmp_path / "gone.toml")


def test_an_unknown_name_has_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"target 'raspbery-pi-5' is not known. Did you mean 'raspberry-pi-5'\?"):
        load_target("raspbery-pi-5")


def test_candidates_of_another_machine_are_left_out() -> None:
    target = load_target("cpu")
    names = [item.name for item in target.candidates_for("aarch64")]
    assert "onnxruntime int8 static s8" in names
    assert "onnxruntime int8 static" not in names


def test_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    target: Target = load_target("cpu-arm64")
    for said, ours, here in (("x86_64", "x86_64", False), ("arm64", "aarch64", True), ("aarch64", "aarch64", True)):
        monkeypatch.setattr(platform, "machine", lambda said=said: said)
        assert machine() == ours
        assert target.runs_here() is here
        assert target.device_arch() == "aarch64"
    assert load_target("raspberry-pi-5").runs_here() is False


def test_profile_tells_where_each_value_comes_from() -> None:
    value = json.loads(json.dumps(profile(load_target("cpu"))))
    assert value["origins"]["tolerance.int8.sqnr_db"].endswith("cpu-base.toml")
    assert value["origins"]["candidates.openvino fp32"].endswith("cpu-openvino.toml")
    assert value["tolerance"]["int8"] == {"sqnr_db": 20.0, "part_db": 8.0}


def test_a_stand_in_is_the_candidates_own_or_that_of_its_profiles_runtime(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[runtime]\nname = "tensorrt"\ncheck_with = "onnxruntime"\n'
        '[[candidates]]\nname = "a"\n[[candidates]]\nname = "b"\nruntime = "openvino"\n'
        '[[candidates]]\nname = "c"\ncheck_with = ""\n'
    )
    found = {item.name: item.check_with for item in load_target(tmp_path / "mine.toml").candidates}
    assert found == {"a": "onnxruntime", "b": "", "c": ""}


@pytest.mark.parametrize("name", ["jetson", "jetson-orin-nano", "jetson-agx-orin"])
def test_a_jetson_is_exported_for_anywhere_and_measured_on_itself(name: str) -> None:
    target = load_target(name)
    assert (target.measure.where, target.arch, target.runs_here()) == ("device", ("aarch64",), False)
    assert all((item.runtime, item.check_with) == ("tensorrt", "onnxruntime") for item in target.candidates)
    dla = [item.name for item in target.candidates if "dla_core" in item.export_options]
    assert bool(dla) == (name == "jetson-agx-orin")  # the Orin Nano has none


def test_a_device_beside_the_targets_own_may_be_allowed() -> None:
    agx, nano = load_target("jetson-agx-orin"), load_target("jetson-orin-nano")
    assert agx.devices_of(agx.candidates[0]) == ("TensorRT", "DLA")
    assert nano.devices_of(nano.candidates[0]) == ("TensorRT",)
