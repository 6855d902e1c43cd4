"""The MiniLM example: real weights, dynamic length, judged by embeddings and by ranking."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "minilm"


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minilm_data", FOLDER / "data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pairs_are_graded_and_no_sentence_both_calibrates_and_evaluates(data: ModuleType) -> None:
    evaluation, calibration = data.pairs(), data.pairs(calibration=True)
    assert (len(evaluation), len(calibration)) == (90, 30)
    assert {pair.score for pair in evaluation} <= {0, 1, 2, 3, 4, 5}
    assert all(pair.first and pair.second for pair in evaluation + calibration)
    assert not set(data.sentences(evaluation)) & set(data.sentences(calibration))


def test_feeds_have_the_length_of_their_sentence(data: ModuleType) -> None:
    short, long = data.feeds("Rain."), data.feeds("It rained for three days without a break.")
    assert short["input_ids"].shape == short["attention_mask"].shape
    assert short["input_ids"].shape < long["input_ids"].shape
    assert data.feeds("rain " * 500)["input_ids"].shape == (1, data.MAX_TOKENS)


@pytest.mark.slow
def test_it_exports_and_keeps_its_embeddings_and_ranking(tmp_path: Path) -> None:
    from edgekit import export

    bundle = tmp_path / "minilm.edgekit"
    result = export(
        f"{FOLDER / 'encoder.py'}:build",
        target="cpu",
        output=bundle,
        data=f"{FOLDER / 'data.py'}:evaluation",
        calibration_data=f"{FOLDER / 'data.py'}:calibration",
        dynamic=[f"{name}:{axis}" for name in ("input_ids", "attention_mask") for axis in ("0=batch", "1=length")],
        metric="cosine",
        max_drop=0.01,
        max_time_s=10.0,  # no test here looks at the latencies
    )
    assert any(item.precision.startswith("int8") and item.rejected is None for item in result.candidates)

    done = subprocess.run([sys.executable, FOLDER / "evaluate.py", bundle], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sentences"] == 120
    assert found["cosine_mean"] >= 0.99
    assert found["cosine_min"] >= 0.95
    assert found["spearman_pytorch"] >= 0.9
    assert found["spearman_bundle"] >= found["spearman_pytorch"] - 0.02
    assert found["neighbour_agreement"] >= 0.9
