"""The whole export through the Python API, with the real engines."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.api.evaluate import evaluate
from edgekit.api.export import export
from edgekit.errors import AccuracyError, EngineError, OutputError, ParityError, UsageError
from edgekit.report.text import export_text

QUICK_S = 1.5  # enough to measure something where no test looks at the numbers
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.BatchNorm2d(width), torch.nn.ReLU()
        )
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.BatchNorm2d(width), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(width, 5)

    def forward(self, image):
        return {"logits": self.head((self.body(self.stem(image))).mean((2, 3)))}

def build(width=16):
    torch.manual_seed(0)
    return Net(width), torch.randn(1, 3, 16, 16)

class Resize(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.before = torch.nn.Conv2d(3, 3, 1)
        self.shrink = Shrink()

    def forward(self, image):
        return self.shrink(self.before(image))

class Outlier(torch.nn.Module):
    # One channel of what `harmful` reads is 500 times the others: one scale for all of them loses the others.

    def __init__(self):
        super().__init__()
        self.first, self.harmful, self.last = (torch.nn.Linear(32, size) for size in (32, 32, 8))
        self.register_buffer("scale", torch.ones(32))
        self.scale[0] = 500
        with torch.no_grad():
            self.harmful.weight[:, 0] /= 500

    def forward(self, image):
        return self.last(torch.relu(self.harmful(torch.relu(self.first(image)) * self.scale)))

def outlier():
    torch.manual_seed(0)
    return Outlier(), torch.randn(1, 32)

class Shrink(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.interpolate(image, size=(8, 8), mode="bicubic", antialias=True)

def resize():
    torch.manual_seed(0)
    return Resize(), torch.randn(1, 3, 16, 16)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    random = np.random.default_rng(0)
    images = random.normal(size=(48, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=images)
    np.savez(tmp_path / "labelled.npz", image=images, labels=random.integers(0, 5, 48))
    return tmp_path


def left_behind(folder: Path) -> list[str]:
    made = {"net.py", "images.npz", "labelled.npz", "__pycache__"}
    return sorted(path.name for path in folder.iterdir() if path.name not in made)


@pytest.mark.slow
def test_an_export_builds_checks_measures_and_bundles_every_candidate(folder):
    result = export("net.py:build?width=24", data="images.npz", calibration_samples=16)
    assert left_behind(folder) == ["build.edgekit"]
    passed = [item for item in result.candidates if item.rejected is None]
    assert {item.precision for item in passed} >= {"fp32", "bf16", "int8"}
    assert all(item.parity.passed and item.parity.samples == 48 and item.latency for item in passed)
    assert result.chosen == result.candidates[0].name
    # Those of a short round were measured at another moment: no comparison with them counts.
    timed = [item for item in passed if not item.latency.screening]
    finer = min((item for item in timed if item.precision == "fp32"), key=lambda item: item.latency.p50_s.value)
    assert result.chosen == finer.name or result.pick.latency.speedup.value >= 1.05
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["chosen"] == result.chosen
    done = subprocess.run([sys.executable, "run.py"], cwd=folder / "build.edgekit", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "self-test passed" in done.stdout


def test_without_data_static_int8_takes_its_ranges_from_the_example_and_does_not_ship(folder):
    names = ("onnxruntime fp32", "onnxruntime int8 static")
    result = export("net.py:build", candidates=names, max_time_s=0.1, threads=1)
    fp32, int8 = result.candidates
    why = "ranges of the example input alone, not checked on real data: --data"
    assert result.chosen == fp32.name == names[0]
    assert (int8.rejected, int8.withheld) == (None, why) and int8.note.endswith(why)
    assert int8.parity.passed and int8.latency and int8.size_bytes < fp32.size_bytes
    assert (result.calibration["real"], result.calibration["samples"]) == (False, 1)
    assert "calibration no data: ranges of the example input alone" in export_text(result, False, 120)
    assert json.loads((folder / "build.edgekit" / "manifest.json").read_text())["calibration"] is None

    shipped = export("net.py:build", "raspberry-pi-5", candidates=names[1:], unverified=True, overwrite=True)
    manifest = json.loads((folder / "build.edgekit" / "manifest.json").read_text())
    assert shipped.unverified == manifest["unverified"] == why
    assert manifest["calibration"]["warnings"] == ["no data: the ranges are of the example input alone"]


def test_static_int8_that_misses_on_the_example_is_told_what_it_was_calibrated_on(folder):
    with pytest.raises(ParityError) as caught:
        export("net.py:build", candidates=("onnxruntime int8 static",), tolerance=["int8.sqnr_db=80"])
    assert "; its ranges are of the example input alone: --data" in str(caught.value)
    assert caught.value.fix.startswith("Give samples with --data, to calibrate and to check on. Or: ")


def test_a_target_for_another_machine_is_checked_here_but_not_measured(folder):
    result = export("net.py:build", "raspberry-pi-5", data="images.npz")
    assert result.chosen == "onnxruntime int8 static"
    assert result.measured == "target 'raspberry-pi-5' is measured on the device itself (--device)"
    assert all(item.latency is None for item in result.candidates)
    manifest = json.loads((folder / "build.edgekit" / "manifest.json").read_text())
    assert manifest["runtime"]["options"]["threads"] == 4
    assert "was not measured" in (folder / "build.edgekit" / "README.md").read_text()


def test_a_wrong_engine_is_caught_and_the_layer_is_named(folder):
    with pytest.raises(ParityError) as caught:
        export("net.py:resize", "cpu-openvino", candidates=("openvino fp32",))
    assert "shrink (Resize" in str(caught.value)
    assert "This is more than rounding" in caught.value.fix and "--tolerance" not in str(caught.value)
    assert caught.value.exit_code == 4
    assert left_behind(folder) == []


def test_a_wrong_engine_does_not_stop_the_right_one(folder):
    result = export("net.py:resize", candidates=("onnxruntime fp32", "openvino fp32"), max_time_s=QUICK_S)
    assert result.chosen == "onnxruntime fp32"
    assert "rel_l2" in result.candidates[1].rejected


def test_the_most_harmful_node_stays_in_floating_point_until_the_accuracy_holds(folder):
    np.savez(folder / "rows.npz", image=np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32))
    result = export(
        "net.py:outlier",
        data="rows.npz",
        candidates=("onnxruntime fp32", "onnxruntime int8 static", "openvino int8 qdq"),
        max_time_s=QUICK_S,
    )
    rows = {item.name: item for item in result.candidates}
    for item in (rows["onnxruntime int8 static"], rows["openvino int8 qdq"]):
        assert item.rejected is None and item.parity.sqnr_db >= 20
        assert len(item.kept_float) == 1
        assert item.note.startswith("1 of 3 nodes (harmful) left in floating point: all int8 had")
    (folder / "rows.npz").unlink()
    assert left_behind(folder) == ["outlier.edgekit"]


def test_what_is_checked_in_another_engine_is_repaired_there_too(folder):
    """int8 in a float16 graph for TensorRT, which is not on this machine: what harms it is found without it."""
    np.savez(folder / "rows.npz", image=np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32))
    (folder / "strict.toml").write_text('name = "strict"\nextends = "jetson"\n[tolerance.int8]\nsqnr_db = 20.0\n')
    result = export("net.py:outlier", "strict.toml", data="rows.npz", candidates=("tensorrt int8 fp16",))
    assert (result.pick.rejected, result.pick.checked_with) == (None, "onnxruntime")
    assert result.pick.kept_float
    assert "(harmful) left in floating point: all int8 had" in result.pick.note


def test_a_missed_metric_is_an_accuracy_error(folder):
    with pytest.raises(AccuracyError, match="no candidate holds mse within 0") as caught:
        export("net.py:build", data="images.npz", metric="mse", max_drop=0.0, candidates=("openvino bf16",))
    assert "openvino bf16: mse to PyTorch drops by" in str(caught.value)
    assert left_behind(folder) == []


@pytest.mark.parametrize(("metric", "ignored", "told"), [("f1", False, "labels"), ("agreement", True, "PyTorch")])
def test_labels_are_used_or_left_out_by_name(folder, metric, ignored, told):
    candidates = ("onnxruntime fp32",)
    result = export(
        "net.py:build", data="labelled.npz", metric=metric, ignore_labels=ignored, candidates=candidates, max_time_s=0.5
    )
    kept = json.loads((folder / "build.edgekit" / "manifest.json").read_text())["metric"]
    assert kept == result.pick.metric.to_json()
    assert (kept["compared_with"], len(kept["data_sha256"])) == (told, 64)
    assert kept["reference"] == 1.0 if ignored else kept["reference"] < 1.0
    assert evaluate(result.bundle, "labelled.npz", metric, source="net.py:build", ignore_labels=ignored).drop == 0.0


def test_what_is_in_the_way_is_not_overwritten_unasked(folder):
    export("net.py:build", candidates=("onnxruntime fp32",), max_time_s=QUICK_S)
    before = (folder / "build.edgekit" / "manifest.json").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        export("net.py:build", candidates=("onnxruntime fp32",))
    assert (folder / "build.edgekit" / "manifest.json").read_bytes() == before
    export("net.py:build?width=8", candidates=("onnxruntime fp32",), overwrite=True, max_time_s=QUICK_S)
    assert (folder / "build.edgekit" / "manifest.json").read_bytes() != before
    assert left_behind(folder) == ["build.edgekit"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "cpuu"}, "target 'cpuu' is not known. Did you mean 'cpu'?"),
        ({"candidates": ("openvino fp23",)}, "Did you mean 'openvino fp32'?"),
        ({"threads": 0}, "--threads must be 1 or more, got 0"),
        ({"samples": 0}, "--samples must be 1 or more, got 0"),
        ({"data": "labelled.npz"}, "the data have labels but no metric"),
        ({"data": "images.npz", "metric": "top1"}, "metric 'top1' needs labels, and images.npz has none"),
        ({"data": "labelled.npz", "metric": "agreement"}, "'agreement' does not use labels, and labelled.npz has them"),
        ({"data": "images.npz", "metric": "sqnr_db"}, "is infinite, so it has no drop that could be bounded"),
        ({"metric": "mse,by=2"}, "metric 'mse,by=2' has no option 'by'. It takes no options."),
        ({"max_drop": 0.1}, "--max-drop needs a metric"),
        ({"output": "nowhere/net.edgekit"}, "does not exist"),
    ],
)
def test_bad_input_gets_one_clear_line_and_leaves_nothing(folder, arguments, message):
    with pytest.raises(UsageError) as caught:
        export("net.py:build", **arguments)
    assert message in str(caught.value)
    assert left_behind(folder) == []


def test_a_target_whose_engine_is_missing_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # Python's import then fails as where it is not installed
    with pytest.raises(EngineError) as caught:
        export("net.py:build", "cpu-openvino")
    assert str(caught.value) == "openvino is not installed. Install it: pip install openvino"
    assert caught.value.exit_code == 6
    assert left_behind(folder) == []


def test_a_free_dimension_where_a_target_takes_none(tmp_path: Path) -> None:
    """The file's own one as well as --dynamic's; refused before any work, with the flag that fixes it."""
    import torch

    torch.onnx.export(
        torch.nn.Linear(3, 2).eval(),
        (torch.randn(4, 3),),
        tmp_path / "free.onnx",
        dynamo=True,
        verbose=False,
        input_names=["x"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
    )
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "free.onnx", "cpu-executorch", output=tmp_path / "x.edgekit", inputs=["x:float32:rowsx3"])
    assert "target 'cpu-executorch' takes static shapes only, and input 'x float32 rowsx3' has a free dimension" in str(
        caught.value
    )
    assert "Fix the sizes: --input x:float32:" in str(caught.value)
    (tmp_path / "net.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Linear(3, 2), torch.randn(4, 3)\n"
    )
    with pytest.raises(UsageError, match=r"input 'input float32 \w+x3' has a free dimension\. Drop --dynamic"):
        export(f"{tmp_path / 'net.py'}:build", "cpu-executorch", output=tmp_path / "x.edgekit", dynamic=["input:0"])


LEVELS = """
name = "levels"
extends = "cpu-base"
description = "One candidate whose graph optimization is measured"
[[candidates]]
name = "fp32"
precision = "fp32"
[tune]
optimization = ["none", "all"]
arena = [true, false]
"""
SUBNORMAL = """
import torch

class Subnormal(torch.nn.Module):
    # What it adds to its input is computed in subnormal numbers: a session that flushes them to zero adds nothing.

    def forward(self, x):
        tiny = torch.tanh(x) * 1e-39
        return x + tiny.abs() * 1e20 * 1e19

def build():
    return Subnormal(), torch.linspace(-2, 2, 64).reshape(1, 64)
"""
FLUSH = """
name = "flush"
extends = "cpu-base"
description = "One candidate with a session option that changes what it computes"
[[candidates]]
name = "fp32"
precision = "fp32"
[tune]
denormals_as_zero = [false, true]
"""


@pytest.fixture
def ranking(monkeypatch):
    """Let the race measure all contenders to its end, and rank them by a rule: which is the fastest is chance here."""
    from edgekit.pipeline import pick, race

    real = race.race
    monkeypatch.setattr(race, "SCREENING_RATIO", float("inf"))
    monkeypatch.setattr(race, "RACE_RATIO", float("inf"))

    def rank(key, count=None):
        monkeypatch.setattr(pick, "race", lambda *arguments: sorted(real(*arguments), key=key)[:count])

    return rank


def test_options_that_change_kernels_are_checked_again_before_they_ship(folder, ranking):
    """The first check is of the first combination; what the bundle states are the answers of the one that ships."""
    import onnxruntime
    import torch

    (folder / "levels.toml").write_text(LEVELS)
    ranking(lambda item: (item.options["optimization"] != "all", not item.options["arena"]))
    result = export("net.py:build?width=64", "levels.toml", data="images.npz", max_time_s=QUICK_S)
    manifest = json.loads((folder / "build.edgekit" / "manifest.json").read_text())
    shipped = manifest["runtime"]["options"]
    assert (shipped["optimization"], shipped["arena"]) == ("all", True)
    assert result.pick.note == "with optimization = all"

    reference = {}
    exec(NET, reference)
    model, _ = reference["build"](64)
    images = np.load("images.npz")["image"]
    with torch.no_grad():
        want = np.stack([model.eval()(torch.tensor(image[None]))["logits"].numpy() for image in images]).astype(float)

    def rel_l2(level):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession("build.edgekit/model/model.onnx", options)
        got = np.stack([session.run(None, {"image": image[None]})[0] for image in images]).astype(float)
        return np.linalg.norm(got - want) / np.linalg.norm(want)

    stated, plain, optimized = manifest["parity"]["rel_l2"], rel_l2("ORT_DISABLE_ALL"), rel_l2("ORT_ENABLE_ALL")
    assert stated == result.pick.parity.rel_l2 == pytest.approx(optimized, rel=1e-3)
    assert stated != pytest.approx(plain, rel=1e-3)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="ONNX Runtime flushes subnormals on x86-64")
def test_a_finalist_that_computes_something_else_does_not_ship(folder, ranking):
    (folder / "subnormal.py").write_text(SUBNORMAL)
    (folder / "flush.toml").write_text(FLUSH)
    ranking(lambda item: not item.options["denormals_as_zero"])
    result = export("subnormal.py:build", "flush.toml", max_time_s=QUICK_S)
    manifest = json.loads((folder / "build.edgekit" / "manifest.json").read_text())
    assert manifest["runtime"]["options"]["denormals_as_zero"] is False
    assert result.pick.note.startswith("fp32 with {'denormals_as_zero': True}: parity: rel_l2 ")
    assert result.pick.parity.passed

    ranking(lambda item: not item.options["denormals_as_zero"], count=1)  # the others left the race: it is run again
    result = export("subnormal.py:build", "flush.toml", output="again.edgekit", max_time_s=QUICK_S)
    assert result.pick.parity.passed
    assert json.loads((folder / "again.edgekit" / "manifest.json").read_text())["runtime"]["options"] == {
        **manifest["runtime"]["options"]
    }


def test_a_target_whose_gpu_is_not_here(folder):
    """Exit 6, with what is missing: nothing is checked on another engine in its place."""
    from edgekit.runtimes.onnxruntime_cuda import OnnxRuntimeCuda

    try:
        version = OnnxRuntimeCuda().version()
    except EngineError:
        pass
    else:
        pytest.skip(f"needs a machine without a GPU for onnxruntime-gpu, this one runs {version}")
    with pytest.raises(EngineError) as raised:
        export("net.py:build", "desktop-gpu")
    assert raised.value.exit_code == 6
    assert "NVIDIA" in raised.value.what
    assert not raised.value.details  # one cause for six candidates is said once
    assert left_behind(folder) == []
