"""benchmarks/peers_gpu.py: its table, and the whole script on tiny models with the CPU in the GPU's place."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers_gpu.py"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("peers_gpu")


FACTS = {"gpu": "NVIDIA Test", "versions": "torch 2", "date": "2026-01-01"}


def result(**changes: Any) -> dict[str, Any]:
    return {
        "model": "bert_base",
        "batch": 1,
        "pick": "fp16 fused cuda_graph=True",
        "p50_ms": {"torch eager": 4.0, "reduce-overhead": 0.8, "onnxruntime defaults": 0.5, "edgekit": 0.6},
        "rel_l2": {"torch eager": 1e-3, "reduce-overhead": 1e-3, "onnxruntime defaults": 0.5, "edgekit": 2e-3},
        "failures": {"max-autotune": "TimeoutError: not ready within 240 s"},
        "limit": 0.9,
        "best_peer": {"peer": "reduce-overhead", "ratio": 0.75, "low": 0.74, "high": 0.76},
        **changes,
    }


def test_the_table(peers: Any) -> None:
    lines = peers.table([result()], FACTS).splitlines()
    assert lines[0] == "p50 in ms; NVIDIA Test, torch 2, 2026-01-01"
    assert lines[4] == (
        "| bert_base | 1 | 4.000 | 0.800 | – | 0.500 (error 5.0e-01) | **0.600** | fp16 fused cuda_graph=True "
        "| 2.0e-03 | 0.75 (0.74 to 0.76, reduce-overhead) | 0.9: holds |"
    )
    assert lines[5] == "- bert_base, batch 1, max-autotune: TimeoutError: not ready within 240 s"


def test_verdicts(peers: Any) -> None:
    best = {"peer": "reduce-overhead", "ratio": 0.95, "low": 0.9, "high": 1.0}
    assert peers.verdict(result(best_peer=best)) == "MISSES 0.9"
    assert peers.verdict(result(best_peer=best, limit=1.0)) == "holds"
    assert peers.verdict(result(best_peer=None)) == "not measured"


def test_a_peer_that_is_wrong_is_no_rival(peers: Any) -> None:
    import numpy as np

    def opened(name: str, p50_s: float, error: float) -> Any:
        return peers.Opened(peers.Peer(name, "", {}, [np.full(9, p50_s)] * 4), lambda: None, error)

    row = peers.summarize(
        "m", 16, [opened("edgekit", 2.0, 1e-3), opened("torch eager", 1.0, 0.5), opened("max-autotune", 4.0, 1e-3)], {}
    )
    assert row["best_peer"] == {"peer": "max-autotune", "ratio": 0.5, "low": 0.5, "high": 0.5}
    assert row["limit"] == 1.0


def test_whoever_takes_too_long_is_left_out(peers: Any) -> None:
    import time

    with pytest.raises(TimeoutError, match="not ready within 1 s"), peers.limited(1):
        time.sleep(5)


@pytest.mark.slow
def test_the_whole_script_without_a_gpu(tmp_path: Path) -> None:
    """Exports, passes, adapter, search, turns, table; rows of an earlier call are kept."""
    kept = {"rows": [result(model="earlier", tried=[])]}
    (tmp_path / "rows.json").write_text(json.dumps(kept))
    words = [
        "--provider",
        "cpu",
        "--tiny",
        "--models",
        "resnet50",
        "--batches",
        "1",
        "--blocks",
        "2",
        "--block-s",
        "0.01",
    ]
    files = ["--json", str(tmp_path / "rows.json"), "--markdown", str(tmp_path / "table.md")]
    skip = ["--skip", "reduce-overhead,max-autotune"]
    done = subprocess.run([sys.executable, SCRIPT, *words, *files, *skip], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # 1: a row does not hold, which says nothing here
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["earlier", "resnet50"]
    assert set(rows[1]["p50_ms"]) == {"torch eager", "onnxruntime defaults", "edgekit"}
    assert all(error < 1e-2 for error in rows[1]["rel_l2"].values())
    assert "| resnet50 | 1 |" in (tmp_path / "table.md").read_text()
