"""Export for a device whose engine cannot run here: the numerics are checked all the same, and nothing else is claimed.

The real thing end to end: a network trained on scikit-learn's digits, through the command line, to a Jetson's bundle.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgekit import plugins
from edgekit.api.export import export
from edgekit.bundle import open_bundle
from edgekit.errors import EngineError, UsageError
from edgekit.runtimes._tensorrt_recipe import ShapeRange, read_recipe

pytestmark = pytest.mark.slow

NET = """
from pathlib import Path

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.head = nn.Linear(12, 10)

    def forward(self, image):
        x = self.stem(image)
        return self.head(nn.functional.max_pool2d(torch.relu(self.body(x) + x), 2).mean((2, 3)))


def build():
    net = Net()
    net.load_state_dict(torch.load(Path(__file__).with_name("weights.pt"), weights_only=True))
    return net, torch.zeros(1, 1, 8, 8)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.volume = nn.Conv2d(1, 2, 3), Volume()

    def forward(self, image):
        return self.volume(self.first(image))


class Volume(nn.Module):
    def forward(self, x):
        return torch.linalg.det(x)


def odd():
    return Odd(), torch.zeros(1, 1, 8, 8)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network with its data; trained in a process of its own, so that torch's threads are not ours."""
    place = tmp_path_factory.mktemp("digits")
    (place / "net.py").write_text(NET)
    train = """
import numpy as np, torch
from sklearn.datasets import load_digits
from net import Net
torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, labels = (digits.images[:, None] / 16).astype(np.float32), digits.target
net, x, y = Net(), torch.tensor(images[:900]), torch.tensor(labels[:900])
optimizer = torch.optim.Adam(net.parameters(), 2e-2)
for epoch in range(20):
    for batch in torch.randperm(900).split(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
torch.save(net.eval().state_dict(), "weights.pt")
np.savez("train.npz", image=images[:64])
np.savez("test.npz", image=images[900:1100], labels=labels[900:1100])
"""
    subprocess.run([sys.executable, "-c", train], cwd=place, check=True, timeout=120)
    return place


@pytest.fixture(scope="module")
def exported(folder: Path) -> dict[str, Any]:
    """What ``edgekit export --target jetson --json`` says, with dynamic batch."""
    words = "net.py:build --target jetson --data test.npz --calibration-data train.npz --metric top1 --max-drop 0.03"
    done = edgekit(folder, "export", *words.split(), "--dynamic", "image:0", "--range", "batch=1..4..16", "--json")
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def edgekit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    yield folder


def tensorrt_is_missing() -> str:
    """Why; the tests below are about machines without it."""
    try:
        plugins.load("runtimes", "tensorrt")().version()
    except EngineError as error:
        return error.what
    pytest.skip("TensorRT runs here: these tests are about machines without it (pip uninstall tensorrt)")


def test_the_export_says_what_was_checked_with_what_and_what_was_not_done(exported: dict[str, Any]) -> None:
    missing = tensorrt_is_missing()
    rows = {item["name"]: item for item in exported["candidates"]}
    assert set(rows) == {"tensorrt int8 fp16", "tensorrt fp16", "tensorrt fp32"}
    assert all(item["checked_with"] == "onnxruntime" and item["runtime"] == "tensorrt" for item in rows.values())
    assert all(item["latency"] is None and item["nodes"] is None for item in rows.values())
    assert exported["chosen"] == "tensorrt int8 fp16" and exported["measured"] is False
    assert exported["placement"] == {}
    version = onnxruntime.__version__
    assert exported["not_measured_because"] == (
        f"{missing}; no plan was built on this machine, the device builds it at first open; "
        f"the numerics were checked with onnxruntime {version}"
    )
    assert exported["self_test"].startswith(
        f"self-test passed on onnxruntime {version}, in place of tensorrt: 4 golden"
    )
    assert rows["tensorrt fp32"]["parity"]["sqnr_db"] > 100 > rows["tensorrt fp16"]["parity"]["sqnr_db"] > 45
    assert rows["tensorrt int8 fp16"]["parity"]["sqnr_db"] > 20 and exported["metric"]["value"] > 0.9


def test_the_bundle_says_it_too(exported: dict[str, Any], inside: Path) -> None:
    with open_bundle("build.edgekit") as bundle:
        manifest = bundle.manifest
        assert (manifest.runtime.name, manifest.runtime.version, manifest.artifact_format) == (
            "tensorrt",
            "",
            "tensorrt",
        )
        assert manifest.checked_with is not None and manifest.checked_with.name == "onnxruntime"
        assert "no plan was built on this machine" in manifest.checked_with.reason
        assert manifest.placement == {}
        recipe = read_recipe(bundle.artifact.path.parent)
    assert recipe.profiles == {"image": ShapeRange((1, 1, 8, 8), (4, 1, 8, 8), (16, 1, 8, 8))}
    assert recipe.precision == "int8"
    readme = Path("build.edgekit/README.md").read_text()
    for words in (
        "no plan was built on this machine",
        "Checked with onnxruntime",
        "python run.py test --substitute",
        "\n    apt install python3-libnvinfer python3-numpy\n",  # pip's TensorRT is none for a Jetson
    ):
        assert words in readme
    assert "pip install tensorrt" not in readme
    shown = edgekit(inside, "inspect", "build.edgekit")
    assert "with onnxruntime" in shown.stdout and "not in its engine" in shown.stdout


def test_the_graph_is_quantized_as_tensorrt_wants_it(exported: dict[str, Any], inside: Path) -> None:
    graph = onnx.load("build.edgekit/model/model.onnx").graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    quantizing = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantizing) >= 8
    for node in quantizing:
        scale, zero = arrays[node.input[1]], arrays[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
        assert scale.dtype == np.float16, "the types around a Q/DQ pair must agree: the rest computes in float16"
        assert scale.size == 1 or node.input[0] in arrays, "activations have one scale, weights one for each channel"
    per_axis = [node for node in quantizing if arrays[node.input[1]].size > 1]
    assert len(per_axis) == 3  # two convolutions and the head
    assert not any(array.dtype == np.int32 for array in arrays.values()), "no bias in integers"
    assert {array.dtype for array in arrays.values()} <= {np.dtype(kind) for kind in (np.int8, np.float16, np.int64)}


def test_the_graphs_answers_are_what_was_reported(exported: dict[str, Any], inside: Path) -> None:
    """By ONNX Runtime's plain API, none of edgekit in between."""
    session = onnxruntime.InferenceSession("build.edgekit/model/model.onnx", providers=["CPUExecutionProvider"])
    data = np.load("test.npz")
    answers = np.concatenate([session.run(None, {"image": image[None]})[0] for image in data["image"]])
    assert answers.dtype == np.float32
    accuracy = float((answers.argmax(1) == data["labels"]).mean())
    assert accuracy == pytest.approx(exported["metric"]["value"], abs=1e-9)
    together = session.run(None, {"image": data["image"][:16]})[0]  # the largest batch of the profile
    # Rows do not depend on each other, but kernels for other shapes add up in another order.
    np.testing.assert_allclose(together, answers[:16], rtol=0, atol=0.1)


def test_the_bundles_own_runner_tells_what_is_missing_and_checks_in_the_stand_in(exported, inside: Path) -> None:
    missing = tensorrt_is_missing()
    plain = subprocess.run([sys.executable, "-I", "run.py"], cwd="build.edgekit", capture_output=True, text=True)
    assert plain.returncode == 6 and missing in plain.stderr and "Traceback" not in plain.stderr
    other = subprocess.run(
        [sys.executable, "-I", "run.py", "test", "--substitute"], cwd="build.edgekit", capture_output=True, text=True
    )
    assert other.returncode == 0 and "in place of tensorrt" in other.stdout


@pytest.mark.parametrize("command", ["build", "bench", "evaluate"])
def test_what_needs_the_engine_ends_with_its_install_line(command: str, exported, inside: Path) -> None:
    tensorrt_is_missing()
    more = ["--data", "test.npz", "--metric", "top1"] if command == "evaluate" else []
    done = edgekit(inside, command, "build.edgekit", *more)
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr and re.search("pip install tensorrt|NVIDIA driver", done.stderr)


def test_a_damaged_weight_is_caught_by_the_stand_ins_self_test(exported: dict[str, Any], inside: Path) -> None:
    """One weight, in a file whose hash is right: what a wrong tool would have written."""
    with open_bundle("build.edgekit") as bundle:
        assert bundle.self_test(substitute=True).passed
    shutil.copytree("build.edgekit", "damaged.edgekit")
    path = Path("damaged.edgekit/model/model.onnx")
    model = onnx.load(path)
    bias = next(item for item in model.graph.initializer if onnx.numpy_helper.to_array(item).shape == (10,))
    bias.CopyFrom(onnx.numpy_helper.from_array(-8 - onnx.numpy_helper.to_array(bias), bias.name))
    onnx.save(model, path)
    manifest = json.loads(Path("damaged.edgekit/manifest.json").read_text())
    data = path.read_bytes()
    manifest["files"]["model/model.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    Path("damaged.edgekit/manifest.json").write_text(json.dumps(manifest))
    with open_bundle("damaged.edgekit") as bundle:
        assert not bundle.self_test(substitute=True).passed


def test_an_operator_that_tensorrt_cannot_take_is_refused_before_any_build(inside: Path) -> None:
    done = edgekit(inside, "export", "net.py:odd", "--target", "jetson")
    assert done.returncode == 6 and "Traceback" not in done.stderr
    assert "Det  (volume)  TensorRT's parser does not have it. Rewrite the module with other operators" in done.stderr
    assert not Path("odd.edgekit").exists()
    seen = edgekit(inside, "inspect", "net.py:odd", "--target", "jetson", "--json")
    assert seen.returncode == 5
    (engine,) = json.loads(seen.stdout)["engines"]
    assert engine["by_rules"] and not engine["takes"]
    assert (engine["refusals"][0]["op_type"], engine["refusals"][0]["modules"]) == ("Det", ["volume"])


def test_a_free_dimension_without_a_range_is_refused_with_the_flag(inside: Path) -> None:
    with pytest.raises(EngineError) as caught:
        export("net.py:build", "jetson", dynamic=["image:0"], output="free.edgekit", candidates=["tensorrt fp32"])
    assert "--range batch=1..8..32" in str(caught.value)
    with pytest.raises(UsageError, match=r"'bach' is not a free dimension of the model\. Did you mean 'batch'"):
        export("net.py:build", "jetson", dynamic=["image:0"], ranges=["bach=1..4"], output="free.edgekit")


def test_the_dla_is_there_to_choose_on_an_agx_orin(inside: Path) -> None:
    name = "tensorrt fp16 dla"
    found = export("net.py:build", "jetson-agx-orin", candidates=[name], output="dla.edgekit", overwrite=True)
    assert found.chosen == name
    recipe = read_recipe(Path("dla.edgekit/model"))
    assert (recipe.dla_core, recipe.gpu_fallback) == (0, True)
    with open_bundle("dla.edgekit") as bundle:
        on_gpu = bundle.manifest.source["export"]["on_gpu"]
    assert all(line.startswith(("Cast", "ReduceMean", "Squeeze")) for line in on_gpu) and len(on_gpu) >= 2


def test_where_the_stand_in_is_missing_too_nothing_is_exported(inside: Path) -> None:
    profile = inside / "lost.toml"
    profile.write_text('name = "lost"\nextends = "jetson"\n[[candidates]]\nname = "tensorrt fp32"\ncheck_with = ""\n')
    with pytest.raises(EngineError, match=re.escape(tensorrt_is_missing())):
        export("net.py:build", profile, candidates=["tensorrt fp32"], output="lost.edgekit")
