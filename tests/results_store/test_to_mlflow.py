"""Results in a real MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EngineError, UsageError
from edgekit.results_store import Store, keep
from edgekit.results_store.to_mlflow import log_to_mlflow, metrics

VALUE: dict[str, Any] = {
    "schema": 1,
    "bundle": "net.edgekit",
    "device": {"cores": 2},
    "runtime": {"name": "onnxruntime", "version": "1.32.0", "options": {"threads": 1}},
    "latency": {"p50_s": {"value": 1e-3, "low": 0.9e-3, "high": 1.1e-3}, "p99_s": None},
    "candidates": [],
    "verdict": "steady",
}
NO_MLFLOW = "no MLflow: pip install -e '.[mlflow]'"


def test_every_number_has_a_name() -> None:
    assert dict(metrics({**VALUE, "ok": True})) == {
        "latency.p50_s.value": 1e-3,
        "latency.p50_s.low": 0.9e-3,
        "latency.p50_s.high": 1.1e-3,
    }
    assert list(metrics({"p (50 %)": 1})) == [("p _50 __", 1.0)]


def test_without_mlflow_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch, results_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    record = keep("bench", VALUE, store=Store(results_folder)).record
    with pytest.raises(EngineError, match=r'--mlflow needs mlflow.* pip install "edgekit\[mlflow\]"'):
        log_to_mlflow(record)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_result_is_a_run(results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow puts the artifacts of a local database into the current folder
    mlflow = pytest.importorskip("mlflow", reason=NO_MLFLOW)
    store = Store(results_folder)
    if not kept:
        (tmp_path / ".edgekit").write_text("a file")
    record = keep("bench", VALUE, {"latency": [[np.ones(3)]]}, store=store).record
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    line = log_to_mlflow(record, uri)
    assert line.startswith(f"Logged to MLflow: {uri}, experiment 'edgekit', run ")
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(line.rpartition(" ")[2])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["latency.p50_s.value"] == 1e-3
    assert run.data.params == {"bundle": "net.edgekit", "threads": "1", "runtime": "onnxruntime"}
    assert run.data.tags["edgekit.result"] == record.id
    assert run.data.tags["edgekit.verdict"] == "steady"
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == ({"result.json", "samples-0.npy"} if kept else {"result.json"})


@pytest.mark.slow
def test_a_uri_that_is_none(results_folder: Path) -> None:
    pytest.importorskip("mlflow", reason=NO_MLFLOW)
    record = keep("bench", VALUE, store=Store(results_folder)).record
    with pytest.raises(UsageError, match="'nonsense://x' is not an MLflow tracking URI"):
        log_to_mlflow(record, "nonsense://x")


@pytest.mark.slow
def test_mlflow_has_a_local_store_by_default(results_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason=NO_MLFLOW)
    record = keep("bench", VALUE, store=Store(results_folder)).record
    assert record.folder is not None
    code = (
        "import sys; from edgekit.results_store import find_result; "
        "from edgekit.results_store.to_mlflow import log_to_mlflow; "
        "print(log_to_mlflow(find_result(sys.argv[1])))"
    )
    folder = tmp_path / "work"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(record.folder)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "Logged to MLflow: " in done.stdout
    assert list(folder.iterdir()), "it lies in the current folder"
