"""Which of the candidates that may be picked ships."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgekit.api.export import export
from edgekit.contracts import Tolerance
from edgekit.errors import AccuracyError, EngineError, UsageError
from edgekit.pipeline.assess import Assessed
from edgekit.pipeline.evidence import UNCHECKED, reject_beside_wrong_fp32, thin_evidence, withhold
from edgekit.pipeline.job import Check
from edgekit.pipeline.pick import Doubts, Wish, _champion, _lightest
from edgekit.pipeline.race import Contender
from edgekit.results import ParityReport


def item(
    name: str,
    precision: str,
    times: tuple[float, ...] = (),
    *,
    db: float = 50.0,
    size: int = 100,
    peak: int | None = None,
    calibrated: bool = False,
) -> Assessed:
    """A candidate that was built and checked, and timed in so many rounds."""
    candidate: Any = SimpleNamespace(name=name, precision=precision)
    variant = SimpleNamespace(source=SimpleNamespace(made_up="images 1x3x8x8"))
    built: Any = SimpleNamespace(candidate=candidate, size_bytes=size, variant=variant)
    parity = ParityReport(True, 0.0, 0.0, db, 1, Tolerance(), "PyTorch", part_db=db)
    runs = [[np.full(30, seconds)] for seconds in times]
    contender = Contender(built, {"threads": 1}, np.full(30, times[0] if times else 1.0), runs)
    return Assessed(
        cast(Any, SimpleNamespace(candidate=candidate, needs_calibration=calibrated)),
        built,
        Check(parity, None, db),
        contenders=(contender,),
        peak_bytes=peak,
    )


def picked(*items: Assessed, **wish: Any) -> tuple[str, Doubts]:
    """The pick's name, and what speaks against the others."""
    finalists = sorted((contender for one in items for contender in one.contenders), key=lambda one: one.p50_s)
    doubts: Doubts = {}
    return _champion(finalists, items, Wish(**wish), doubts).built.candidate.name, doubts


def test_a_coarser_form_must_be_faster_beyond_doubt() -> None:
    plain = item("plain", "fp32", (2.0, 2.0, 2.0))
    assert picked(plain, item("sure", "int8", (1.0, 1.01, 1.0)))[0] == "sure"
    name, doubts = picked(plain, item("unsure", "int8", (1.0, 2.2, 1.9)))
    assert name == "plain"
    assert doubts["unsure"].short == "not faster beyond doubt"
    assert doubts["unsure"].detail == "1.24x ±>100 % of plain's speed: not faster beyond doubt"


def test_it_must_be_faster_by_more_than_nothing() -> None:
    plain, little = item("plain", "fp32", (1.04, 1.04, 1.04)), item("little", "bf16", (1.0, 1.0, 1.0))
    name, doubts = picked(plain, little)
    assert (name, doubts["little"].short) == ("plain", "gains less than --min-gain 1.05")
    assert picked(plain, little, min_gain=1.0)[0] == "little"


def test_it_is_compared_with_the_best_finer_one_and_not_with_fp32() -> None:
    plain, half = item("plain", "fp32", (3.0, 3.0, 3.0)), item("half", "bf16", (1.02, 1.02, 1.02))
    assert picked(plain, half, item("int8", "int8", (1.0, 1.0, 1.0)))[0] == "half"
    assert picked(plain, half, item("int8", "int8", (0.5, 0.5, 0.5)))[0] == "int8"


def test_a_finer_form_that_is_slower_than_a_coarser_one_is_no_step_on_the_way() -> None:
    plain, half = item("plain", "fp32", (1.0, 1.0, 1.0)), item("half", "bf16", (2.0, 2.0, 2.0))
    assert picked(plain, half)[0] == "plain"
    assert picked(plain, half, item("int8", "int8", (0.8, 0.8, 0.8)))[0] == "int8"


def test_between_equals_the_more_accurate_then_the_smaller() -> None:
    first = item("first", "int8", (1.0, 1.1, 0.9), db=30.0)
    better = item("better", "int8", (1.01, 0.9, 1.1), db=36.0)
    smaller = item("smaller", "int8", (1.01, 0.9, 1.1), db=30.2, size=50)
    slow = item("slow", "int8", (1.5, 1.5, 1.5), db=60.0)
    assert picked(first, better)[0] == "better"
    assert picked(first, smaller)[0] == "smaller"
    assert picked(first, slow)[0] == "first"


def test_full_precisions_are_equally_accurate() -> None:
    first, other = item("first", "fp32", (1.0, 1.1, 0.9), db=120.0), item("other", "fp32", (1.01, 0.9, 1.1), db=140.0)
    assert picked(first, other)[0] == "first"


def test_by_size_the_smallest_that_passes() -> None:
    items = [
        item("plain", "fp32", (1.0,), size=400),
        item("int8", "int8", (9.0,), size=100),
        item("int4", "int4", (1.0,), size=98),  # too little less for what it loses
    ]
    doubts: Doubts = {}
    assert _lightest(items, Wish("size"), doubts).candidate.name == "int8"
    assert doubts["int4"].short == "saves less bytes over int8 than --min-gain 1.05"
    assert _lightest(items, Wish("size", 1.01), {}).candidate.name == "int4"


def test_by_memory_the_lowest_peak() -> None:
    items = [item("plain", "fp32", (1.0,), peak=400), item("bf16", "bf16", (0.5,), peak=500)]
    assert _lightest(items, Wish("memory"), {}).candidate.name == "plain"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"prefer": "speed"}, "--prefer must be one of latency, size, memory, got 'speed'"),
        ({"min_gain": 0.5}, "--min-gain must be 1 or more, got 0.5"),
        ({"min_gain": float("nan")}, "--min-gain must be 1 or more, got nan"),
    ],
)
def test_wishes_that_make_no_sense(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Wish(**wish)
    assert message in str(caught.value)


def test_without_data_integers_are_withheld_and_floats_only_below_40_db() -> None:
    items = [item("plain", "fp32", db=20.0), item("half", "fp16", db=41.0), item("bf", "bf16", db=39.0)]
    items += [item("int8", "int8-dynamic", db=90.0), item("static", "int8", db=90.0, calibrated=True)]
    plain, half, bf, int8, static = withhold(items, real=False, unverified=False)
    assert plain.free and half.free and not bf.free and not int8.free
    assert bf.withheld == "39 dB on inputs that are no data, and without data 40 dB are needed: --data"
    assert int8.withheld == UNCHECKED
    assert static.withheld == f"ranges of made-up images 1x3x8x8 alone, {UNCHECKED}"
    shipped = withhold(items, real=False, unverified=True)
    assert all(one.free for one in shipped) and shipped[3].unverified == UNCHECKED and shipped[0].unverified is None
    assert all(one.free and one.unverified is None for one in withhold(items, real=True, unverified=True))


WIDE = """
import torch

def build():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 4))
    return net, torch.randn(1, 256)
"""
NAMES = ("onnxruntime fp32", "onnxruntime int8 dynamic")


def test_without_data_an_integer_form_is_shown_and_not_shipped(folder: Path) -> None:
    (folder / "wide.py").write_text(WIDE)
    result = export("wide.py:build", "cpu-onnxruntime", candidates=NAMES, max_time_s=0.1, threads=1)
    row = result.candidates[1]
    assert result.chosen == "onnxruntime fp32" and result.unverified is None
    assert (row.rejected, row.withheld) == (None, UNCHECKED) and row.latency is not None
    assert row.note is not None and row.note.endswith(UNCHECKED)
    assert json.loads((folder / "build.edgekit" / "manifest.json").read_text())["unverified"] is None

    with pytest.raises(AccuracyError) as caught:
        export("wide.py:build", "cpu-onnxruntime", candidates=NAMES[1:], output="no.edgekit", threads=1)
    assert caught.value.what == "nothing can be shipped without real data" and "--unverified" in caught.value.fix
    assert not (folder / "no.edgekit").exists()

    bundle = folder / "un.edgekit"
    result = export(
        "wide.py:build", "cpu-onnxruntime", candidates=NAMES[1:], output=bundle, max_time_s=1.5, unverified=True
    )
    assert (result.chosen, result.unverified, result.to_json()["unverified"]) == (NAMES[1], UNCHECKED, UNCHECKED)
    assert json.loads((bundle / "manifest.json").read_text())["unverified"] == UNCHECKED
    assert "**Unverified** (not checked on real data" in (bundle / "README.md").read_text()


RESIZE = """
import torch

class Shrink(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.interpolate(image, size=(8, 8), mode="bicubic", antialias=True)

def build():
    torch.manual_seed(0)
    return Shrink(), torch.randn(1, 3, 16, 16)
"""


def test_nothing_coarse_wins_over_fp32_that_was_rejected(folder: Path) -> None:
    """OpenVINO resizes otherwise than PyTorch: its bf16 passes a loose bound only because that is loose."""
    (folder / "resize.py").write_text(RESIZE)
    names = ("onnxruntime fp32", "openvino fp32", "openvino bf16")
    result = export(
        "resize.py:build", candidates=names, tolerance=["bf16.sqnr_db=1", "bf16.part_db=-20"], max_time_s=0.1, threads=1
    )
    rows = {row.name: row for row in result.candidates}
    assert result.chosen == "onnxruntime fp32" and rows["openvino bf16"].rejected is not None
    assert rows["openvino bf16"].rejected.startswith(
        "openvino fp32, the same graph in the same engine, missed: the engine is at fault, for ONNX Runtime without"
    )


def test_where_fp32_of_an_engine_was_not_checked_nothing_is_said() -> None:
    int8, other = item("int8", "int8"), item("fp32", "fp32")
    missing = replace(other, check=None, error=EngineError("no such engine"))
    toolchain = {"takes_program": False}
    for one in (int8, missing):
        vars(one.toolchain).update(toolchain)
        vars(one.candidate).update(runtime="engine", device=None)
    assert reject_beside_wrong_fp32([int8, missing])[0].passed


def test_an_integer_form_that_few_samples_checked_is_told() -> None:
    few = item("int8", "int8")  # one sample
    assert thin_evidence(few) == ["int8 was checked on 1 sample only: thin evidence"]
    assert thin_evidence(item("bf16", "bf16")) == []
    assert thin_evidence(replace(few, unverified=UNCHECKED)) == [f"int8 ships unverified: {UNCHECKED}"]
