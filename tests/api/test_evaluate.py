from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.accuracy.metric import make_metric
from edgekit.api.evaluate import evaluate
from edgekit.bundle import Bundle
from edgekit.contracts import Artifact
from edgekit.data.dataset import Sample
from edgekit.data.digest import SamplesDigest
from edgekit.errors import DataError, UsageError
from edgekit.report.bench import evaluate_text

WEIGHT = np.add.outer(np.arange(8), np.arange(3)).astype(np.float32)
OWN = """
import numpy as np

def mean_error(outputs, label):
    return abs(outputs["y"].sum() - label)
mean_error.higher_is_better = False

def not_a_number(outputs, label):
    return np.nan

def broken(outputs, label):
    return outputs["z"]

value = 3
"""


def sha256_of(data: str) -> str:
    """As export records it."""
    digest = SamplesDigest()
    with np.load(data) as arrays:
        for x, label in zip(arrays["x"], arrays["labels"], strict=True):
            digest.add(Sample({"x": x[None]}, np.array([label])))
    return digest.hexdigest()


@pytest.fixture
def data(tmp_path: Path) -> str:
    """200 samples whose label is the model's own answer, but for the first 20."""
    x = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    labels = (x @ WEIGHT).argmax(axis=1)
    labels[:20] = (labels[:20] + 1) % 3
    path = tmp_path / "data.npz"
    np.savez(path, x=x, labels=labels)
    return str(path)


@pytest.fixture
def unlabelled(tmp_path: Path) -> str:
    path = tmp_path / "unlabelled.npz"
    np.savez(path, x=np.ones((4, 8), np.float32))
    return str(path)


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_metric.py"
    path.write_text(OWN)
    return str(path)


def test_top1_through_the_engine(make_bundle: Callable[..., Bundle], data: str) -> None:
    recorded = {"name": "top1", "reference": 0.95, "samples": 200, "data_sha256": sha256_of(data)}
    bundle = make_bundle(changes={"metric": recorded})
    result = evaluate(bundle.path, data, "top1", threads=2)
    assert result.value == 0.9
    assert result.samples == 200
    assert result.drop == pytest.approx(0.05)
    value = json.loads(json.dumps(result.to_json(), allow_nan=False))
    low, high = (value["metric"]["interval"][key] for key in ("low", "high"))
    assert 0.85 <= low < 0.9 < high <= 0.95  # 0.9 ± 1.96 · sqrt(0.9 · 0.1 / 200)
    told = ("interval", "reference_interval", "drop_interval", "confidence", "verdict")
    assert [value["metric"][key] for key in told[1:]] == [None, None, 0.95, None]  # a recorded number is no pair
    assert {key: item for key, item in value["metric"].items() if key not in told} == {
        "name": "top1", "value": 0.9, "reference": 0.95, "drop": pytest.approx(0.05),
        "reference_source": "recorded at export, on the same 200 samples", "higher_is_better": True,
        "compared_with": "labels", "details": {},
    }  # fmt: skip
    assert value["runtime"]["options"] == {"threads": 2}


def test_without_a_reference_none_is_made_up(make_bundle: Callable[..., Bundle], data: str) -> None:
    result = evaluate(make_bundle().path, data, "top1", samples=10)
    assert result.samples == 10
    assert result.reference is result.drop is None
    other = make_bundle(changes={"metric": {"name": "top5", "reference": 0.95}}, overwrite=True)
    assert evaluate(other, data, "top1").reference is None


@pytest.mark.parametrize("change", [{"samples": 100}, {"other": True}, {"old": True}])
def test_what_was_recorded_on_other_data_is_not_compared_with(
    make_bundle: Callable[..., Bundle], data: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    """Fewer samples, other ones, or a bundle that does not say which it was recorded on."""
    recorded = {"name": "top1", "reference": 0.95, "samples": 200, "data_sha256": sha256_of(data)}
    if change.pop("old", None):
        del recorded["data_sha256"]
    bundle = make_bundle(changes={"metric": recorded})
    if change.pop("other", None):
        with np.load(data) as arrays:
            np.savez(tmp_path / "other.npz", x=arrays["x"] + 0.001, labels=arrays["labels"])
        data = str(tmp_path / "other.npz")
    result = evaluate(bundle.path, data, "top1", **change)
    assert result.reference is result.drop is None
    told = evaluate_text(json.loads(json.dumps(result.to_json())), False, 120)
    assert "reference   not known (export recorded it on other data): name the model with --source" in told


@pytest.fixture
def model(tmp_path: Path) -> str:
    """What the bundle was made of."""
    (tmp_path / "net.py").write_text(
        "import numpy as np, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, shift):\n"
        "        super().__init__()\n"
        "        weight = np.add.outer(np.arange(8), np.arange(3)).astype('float32') + shift\n"
        "        self.weight = torch.nn.Parameter(torch.from_numpy(weight))\n"
        "    def forward(self, x):\n"
        "        return x @ self.weight\n"
        "def build(shift=0.0):\n"
        "    return Net(shift), torch.zeros(1, 8)\n"
        "def bare():\n"
        "    return Net(0.0)\n"
        "def five():\n"
        "    return Net(0.0), torch.zeros(5, 8)\n"
    )
    return str(tmp_path / "net.py") + ":build"


def test_beside_the_model_itself(make_bundle: Callable[..., Bundle], data: str, model: str) -> None:
    bundle = make_bundle(changes={"outputs": make_bundle().manifest.outputs}, overwrite=True)
    result = evaluate(bundle, data, "top1", source=model)
    assert (result.value, result.reference, result.drop) == (0.9, 0.9, 0.0)
    assert result.reference_source is not None and result.reference_source.endswith("same samples")


@pytest.mark.parametrize("factory", ["bare", "five"])
def test_the_model_is_run_at_the_bundles_size(
    make_bundle: Callable[..., Bundle], data: str, model: str, factory: str
) -> None:
    """Whatever its factory brings as example inputs, or whether it brings any."""
    bundle = make_bundle(changes={"outputs": make_bundle().manifest.outputs}, overwrite=True)
    result = evaluate(bundle, data, "top1", source=model.replace(":build", f":{factory}"))
    assert (result.value, result.reference, result.samples) == (0.9, 0.9, 200)


def test_the_user_says_what_runs_an_onnx_file(
    make_bundle: Callable[..., Bundle], unlabelled: str, model: str, linear: Artifact
) -> None:
    bundle, source = make_bundle(), str(linear.path)
    told = evaluate(bundle, unlabelled, "mse", source=source, reference="onnx.reference").reference_source
    assert told == f"onnx.reference {onnx.__version__}, as --reference says, same samples"
    assert (evaluate(bundle, unlabelled, "mse", source=source).reference_source or "").startswith("ONNX Runtime ")
    with pytest.raises(UsageError, match="--reference says what runs --source, which was not given"):
        evaluate(bundle, unlabelled, "mse", reference="onnxruntime")
    with pytest.raises(UsageError, match=r"--reference is for \.onnx files"):
        evaluate(bundle, unlabelled, "mse", source=model, reference="onnxruntime")


@pytest.mark.parametrize("metric", ["agreement", "cosine", "sqnr_db", "mse", "f1"])
def test_metrics_against_pytorch_need_the_model(
    make_bundle: Callable[..., Bundle], unlabelled: str, metric: str
) -> None:
    with pytest.raises(
        UsageError, match=rf"'{metric}' compares with PyTorch's outputs.*\. Name the model with --source"
    ):
        evaluate(make_bundle().path, unlabelled, metric)


def test_labels_that_are_not_used(make_bundle: Callable[..., Bundle], data: str, model: str) -> None:
    """An error, and the way out of it works."""
    bundle = make_bundle()
    with pytest.raises(UsageError, match=r"'agreement' does not use labels, and .*data.npz has them.*--ignore-labels"):
        evaluate(bundle, data, "agreement", source=model)
    assert evaluate(bundle, data, "agreement", source=model, ignore_labels=True).value == 1.0
    assert evaluate(bundle, data, "mse", source=model, ignore_labels=True).value == pytest.approx(0, abs=1e-9)


def test_it_is_said_what_a_metric_compares_with(make_bundle: Callable[..., Bundle], data: str, model: str) -> None:
    def title(metric: str, **options: Any) -> str:
        value = evaluate(make_bundle(overwrite=True), data, metric, **options).to_json()
        return evaluate_text(json.loads(json.dumps(value)), False, 120)

    assert "\nf1 to labels" in title("f1")
    assert "\nf1 to PyTorch" in title("f1", source=model, ignore_labels=True)
    assert "\ntop1  " in title("top1")


def test_an_infinite_sqnr_is_told_as_what_it_is(make_bundle: Callable[..., Bundle], model: str, tmp_path: Path) -> None:
    """PyTorch's own is infinite: no loss in decibels is told, and not that nobody knows it."""
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32))
    value = evaluate(make_bundle(), str(tmp_path / "few.npz"), "sqnr_db", source=model).to_json()
    told = evaluate_text(json.loads(json.dumps(value, allow_nan=False)), False, 120)
    assert "sqnr_db to PyTorch" in told and "reference   PyTorch" in told and "not known" not in told
    assert value["metric"]["drop"] is None
    np.savez(tmp_path / "zeros.npz", x=np.zeros((5, 8), np.float32))
    exact = evaluate(make_bundle(overwrite=True), str(tmp_path / "zeros.npz"), "sqnr_db", source=model)
    assert exact.value == np.inf and exact.to_json()["metric"]["value"] is None


def test_labels_that_are_missing(make_bundle: Callable[..., Bundle], unlabelled: str) -> None:
    with pytest.raises(UsageError, match=r"metric 'top1' needs labels, and .*unlabelled.npz has none"):
        evaluate(make_bundle().path, unlabelled, "top1")


def test_data_that_do_not_fit(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", image=np.ones((4, 8), np.float32), labels=np.zeros(4, int))
    with pytest.raises(DataError, match=r"wrong\.npz has no array 'x', which the model takes; it holds image"):
        evaluate(make_bundle().path, str(tmp_path / "wrong.npz"), "top1")


def test_a_metric_of_ones_own(make_bundle: Callable[..., Bundle], data: str, own: str) -> None:
    result = evaluate(make_bundle().path, data, f"{own}:mean_error")
    with np.load(data) as arrays:
        want = np.abs((arrays["x"] @ WEIGHT).sum(axis=1) - arrays["labels"]).mean()
    assert result.value == pytest.approx(want, rel=1e-5)
    assert not result.higher_is_better


def test_a_metric_of_ones_own_that_fails(make_bundle: Callable[..., Bundle], data: str, own: str) -> None:
    bundle = make_bundle()
    with pytest.raises(DataError, match=r"must return a finite number, got nan at sample 0"):
        evaluate(bundle, data, f"{own}:not_a_number")
    with pytest.raises(DataError, match=r"raised KeyError at .*own_metric.py:12: 'z'"):
        evaluate(bundle, data, f"{own}:broken")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("top2", "metric 'top2' is not known. Did you mean"),
        ("{own}:mean_eror", "has no 'mean_eror'. Did you mean 'mean_error'"),
        ("{own}:value", "is a int, not a function"),
        ("none.py:f", "metric there is no file none.py"),
    ],
)
def test_metrics_that_are_none(own: str, spec: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make_metric(spec.format(own=own))


def test_a_named_output() -> None:
    metric = make_metric("top1:logits")
    metric.add({"other": np.zeros((1, 2)), "logits": np.array([[0.0, 1.0]])}, 1)
    assert metric.value() == 1.0
