"""onnx's backend node tests through edgekit's adapters and verification, one engine at a time.

Each of the 1,884 cases is one model with its inputs and expected outputs. It runs through the engine's plain API and
through edgekit, in a process that may crash without taking the others along, and must hold:

- what the engine passes alone, it passes through the adapter;
- the adapter refuses with an EngineError, and with nothing else;
- every wrong answer is caught: `ParityCheck`, which `export` runs, says so against the expected outputs, under the
  tolerance a bundle must hold and, element by element, the case's own (some answers are off by rounding alone, which
  only the latter sees);
- and what is right is let through.

The exceptions are listed by name, each with its reason.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest

pytestmark = pytest.mark.slow

CASES = 1884  # onnx 1.23
ENGINES = ["onnxruntime", "openvino"]
Results: TypeAlias = dict[str, dict[str, Any]]

# Random by definition: the expected output is one draw of onnx's own generator, which no engine can repeat. Nothing can
# be verified about it but dtype and shape, so neither a pass nor a miss says anything.
RANDOM = {
    "test_bernoulli": "draws from a Bernoulli distribution",
    "test_bernoulli_double": "draws from a Bernoulli distribution",
    "test_bernoulli_double_expanded": "draws from a uniform distribution",
    "test_bernoulli_expanded": "draws from a uniform distribution",
    "test_bernoulli_seed": "a seed names a stream within one implementation only",
    "test_bernoulli_seed_expanded": "a seed names a stream within one implementation only",
    "test_training_dropout": "drops elements at random",
    "test_training_dropout_default": "drops elements at random",
    "test_training_dropout_default_mask": "drops elements at random",
    "test_training_dropout_mask": "drops elements at random",
}

# Right by onnx's comparison, which allows integers 0.1 %; edgekit compares integers exactly.
INTEGER_ROUNDING = {"test_quantizelinear_uint16"}


def results(engine: str) -> Results:
    """What one engine's worker says of each case."""
    return all_results()[engine]


@functools.cache
def all_results() -> dict[str, Results]:
    """Engine → results. Both run at once: each keeps one core busy."""
    with ThreadPoolExecutor(len(ENGINES)) as pool:
        return dict(zip(ENGINES, pool.map(run_worker, ENGINES), strict=True))


def run_worker(engine: str) -> Results:
    """Case → what the worker says of it, or ``{"crash": exit code}``."""
    worker = [sys.executable, str(Path(__file__).with_name("worker.py")), engine]
    found: Results = {}
    names: list[str] = []
    while True:
        done = subprocess.run([*worker, *names], stdout=subprocess.PIPE, text=True, check=False)
        lines = done.stdout.splitlines()
        running = None
        for line in lines:
            if line.startswith("{"):
                assert running is not None
                found[running] = json.loads(line)
            elif line.startswith("["):
                names = json.loads(line)  # what is to come, printed first
            else:
                running = line
        if done.returncode == 0:
            return found
        assert running is not None and running not in found, (
            f"the worker failed with {done.returncode} outside of a case"
        )
        found[running] = {"crash": done.returncode}
        names = [name for name in names if name not in found]
        if not names:
            return found


def outcomes(engine: str) -> Results:
    return {name: item for name, item in results(engine).items() if name not in RANDOM}


@pytest.mark.parametrize("engine", ENGINES)
def test_all_cases_run_and_none_crashes(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = results(engine)
    with capsys.disabled():
        print(table(engine, found))
    assert len(found) == CASES
    assert [name for name, item in found.items() if "crash" in item] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_engine_passes_alone_passes_through_the_adapter(engine: str) -> None:
    lost = {
        name: item["edgekit"].get("why")
        for name, item in outcomes(engine).items()
        if item["bare"]["outcome"] == "pass" and item["edgekit"]["outcome"] != "pass"
    }
    assert lost == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_refusal_is_an_engine_error_on_one_line(engine: str) -> None:
    told = {name: item["edgekit"] for name, item in results(engine).items()}
    refused = {name: item for name, item in told.items() if item["outcome"] == "refuse"}
    assert refused  # else this test looks at nothing
    for name, item in refused.items():
        assert item["error"] == "EngineError", f"{name}: {item['why']}"
        assert item["why"].strip(), name
        assert "\n" not in item["why"], name


@pytest.mark.parametrize("engine", ENGINES)
def test_every_wrong_answer_is_caught(engine: str) -> None:
    wrong = {name: item["edgekit"] for name, item in outcomes(engine).items() if item["edgekit"]["outcome"] == "wrong"}
    assert wrong  # else this test compares nothing
    assert {name for name, item in wrong.items() if item["verified"]} == set()
    assert all(item["misses"] for item in wrong.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_right_is_let_through(engine: str) -> None:
    """A verification that refuses everything would catch every wrong answer too."""
    missed = {
        name: item["edgekit"]["misses"]
        for name, item in outcomes(engine).items()
        if item["edgekit"]["outcome"] == "pass" and not item["edgekit"]["verified"]
    }
    assert missed.keys() <= INTEGER_ROUNDING, missed


def table(engine: str, found: Results) -> str:
    """Counts, the random cases apart."""
    kept = {name: item for name, item in found.items() if name not in RANDOM and "crash" not in item}
    rows = [f"\n{engine:<24}{'pass':>6}{'refuse':>8}{'wrong':>7}"]
    for way in ("bare", "edgekit"):
        counts = Counter(item[way]["outcome"] for item in kept.values())
        rows.append(f"  {way:<22}{counts['pass']:>6}{counts['refuse']:>8}{counts['wrong']:>7}")
    wrong = [item["edgekit"] for item in kept.values() if item["edgekit"]["outcome"] == "wrong"]
    caught = sum(not item["verified"] for item in wrong)
    rows.append(f"  wrong and caught by verify: {caught} of {len(wrong)}; random: {len(RANDOM)}")
    return "\n".join(rows)
