from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.accuracy.metric import make_metric
from edgekit.errors import EdgekitError
from edgekit.measure.bootstrap import metric_interval

pytest.importorskip("jiwer")
IDS = st.lists(st.integers(1, 4), min_size=1, max_size=8)


def distance(a: list[int], b: list[int]) -> int:
    """Levenshtein's, by its recursion."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row = row, [i]
        for j, right in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1]


def value(spec: str, output: np.ndarray, label: object = None, reference: np.ndarray | None = None) -> float:
    metric = make_metric(spec)
    metric.add({"y": output}, label, None if reference is None else {"y": reference})
    return metric.value()


def ctc(ids: list[int], tokens: int = 6, blank: int = 0) -> np.ndarray:
    """Scores [1, steps, tokens] that read as ``ids``: each twice, a blank between."""
    steps = [step for item in ids for step in (item, item, blank)]
    return np.eye(tokens, dtype=np.float32)[steps][None]


@settings(max_examples=60, deadline=None)
@given(IDS, IDS)
def test_by_its_definition(found: list[int], truth: list[int]) -> None:
    expected = distance(found, truth) / len(truth)
    labels = np.array([truth + [-100] * 3])
    assert value("wer", np.array([found]), labels) == pytest.approx(expected)
    assert value("wer:y,blank=0", ctc(found), labels) == pytest.approx(expected)
    assert value("wer,blank=last", ctc(found, blank=5), labels) == pytest.approx(expected)
    both = ctc([*found, *truth])
    padded = [np.pad(ctc(item), ((0, 0), (0, both.shape[1] - 3 * len(item)), (0, 0))) for item in (found, truth)]
    assert value("wer,blank=0", padded[0], None, padded[1]) == pytest.approx(expected)


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens.txt"
    path.write_text("<blank>\n▁the\n▁cat\ns\n▁sat\n<end>\n", encoding="utf-8")
    return str(path)


def test_texts(tokens: str) -> None:
    output = ctc([1, 2, 3, 4])  # "the cats sat"
    assert value(f"wer,blank=0,tokens={tokens}", output, np.array(["the cats sat"])) == 0.0
    assert value(f"wer,blank=0,tokens={tokens}", output, np.array(["the cat sat"])) == pytest.approx(1 / 3)
    spec = f"wer,blank=0,tokens={tokens},unit=character"
    assert value(spec, output, np.array(["the cat sat"])) == pytest.approx(1 / len("the cat sat"))
    assert value(f"wer,tokens={tokens},ignore=0+5", np.array([[1, 2, 5, 0, 0]]), np.array(["the cat"])) == 0.0


def test_many_samples_have_an_interval() -> None:
    random = np.random.default_rng(0)
    metric = make_metric("wer")
    for _ in range(60):
        truth = random.integers(1, 50, (1, 8))
        metric.add({"y": np.where(random.random((1, 8)) < 0.9, truth, 0)}, truth)
    found = metric_interval(metric)
    assert found is not None and found.low < found.value < found.high < 0.2
    assert not metric.higher_is_better


@pytest.mark.parametrize(
    ("spec", "output", "label", "text"),
    [
        ("wer", np.zeros((1, 4, 6)), ["a"], r"is scores, and nothing says which token is CTC's blank.*wer,blank=0"),
        ("wer", np.ones((1, 4), int), [0.5], "needs texts or token ids as labels"),
        ("wer", np.ones((1, 4), int), ["a", "b"], "2 labels for 1 rows"),
        ("wer", np.ones((1, 4), int), [""], "the truth of 1 samples has no words"),
        ("wer,unit=character", np.ones((1, 4), int), ["a"], "nothing says which text a token is"),
        ("wer,tokens=none.txt", np.ones((1, 4), int), ["a"], "the tokens none.txt cannot be read"),
        ("wer,ignore=a", np.ones((1, 4), int), ["a"], "ignore must be token ids joined by"),
    ],
)
def test_what_cannot_be_judged(spec: str, output: np.ndarray, label: list[object], text: str) -> None:
    with pytest.raises(EdgekitError, match=text):
        value(spec, output, np.array(label))


def test_a_token_that_the_file_does_not_have(tokens: str) -> None:
    with pytest.raises(EdgekitError, match="sample 0 has token 9, and there are 6"):
        value(f"wer,tokens={tokens}", np.array([[9]]), np.array(["the"]))
