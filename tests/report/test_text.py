"""The picture of an export, on hand-made results."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.contracts import PassRecord, Tolerance
from edgekit.measure.statistics import Estimate
from edgekit.report.text import conclusion, export_text, parity_line, source_line
from edgekit.results import CandidateResult, ExportResult, Latency, MetricReport, ParityReport


def parity(sqnr_db: float, passed: bool = True) -> ParityReport:
    return ParityReport(
        passed=passed,
        max_abs=0.0123,
        rel_l2=0.02,
        sqnr_db=sqnr_db,
        samples=200,
        tolerance=Tolerance(sqnr_db=25.0),
        reference="PyTorch 2.13.0 fp32",
    )


def latency(p50_s: float, half_s: float, screening: bool = False) -> Latency:
    nan = float("nan")
    low, high = (nan, nan) if screening else (p50_s - half_s, p50_s + half_s)
    return Latency(Estimate(p50_s, low, high), None, 600, 1 if screening else 3, screening)


def candidate(name: str, p50_s: float | None, sqnr_db: float = 34.0, **more: Any) -> CandidateResult:
    fields: dict[str, Any] = {
        "runtime": name.split()[0],
        "precision": "int8",
        "options": {"threads": 1},
        "size_bytes": 400_000,
        "nodes": 31,
        "parity": parity(sqnr_db),
        "metric": MetricReport("top1", 0.9844, 0.9844, 0.0, 0.005, 899),
        "latency": None if p50_s is None else latency(p50_s, 0.9e-5),
    }
    return CandidateResult(name=name, **{**fields, **more})


RESULT = ExportResult(
    target="cpu",
    bundle=Path("build.edgekit"),
    size_bytes=400_000,
    fp32_size_bytes=1_240_000,
    source={
        "spec": "net.py:build",
        "description": "ResNet",
        "parameters": 309_000,
        "macs": 41_200_000,
        "inputs": [{"name": "image", "dtype": "float32", "shape": [1, 1, 32, 32]}],
    },
    passes=(PassRecord("fold_constants", True, "folded 4"), PassRecord("fuse_gelu", False, "there is no Gelu")),
    candidates=(
        candidate("onnxruntime int8 static", 0.000212),
        candidate("openvino bf16", 0.00038, 48.0),
        candidate(
            "onnxruntime fp32",
            0.0006,
            140.0,
            precision="fp32",
            latency=latency(0.0006, 0, screening=True),
            size_bytes=1_240_000,
        ),
        candidate("onnxruntime int8 dynamic", 0.00281, 30.0, note="slower than fp32"),
        candidate("openvino int8", None, 12.0, rejected="parity: sqnr_db 12 < 25 (output 'logits')"),
    ),
    chosen="onnxruntime int8 static",
    reason="2.8x faster than fp32 at the same top1",
    placement={"CPU": 31},
    measured=None,
    calibration={"samples": 128},
    stages=(("load the model", 0.4), ("export to ONNX", 3.4)),
    opset=20,
    graph_nodes=(58, 31),
    self_test="self-test passed",
)


def lines(result: ExportResult, width: int = 110) -> list[str]:
    return export_text(result, colour=False, width=width).splitlines()


def test_says_everything_in_order() -> None:
    text = lines(RESULT, width=120)
    assert text[0] == ("source      net.py:build   ResNet, 309 k parameters, 41.2 M MACs   image float32 1x1x32x32")
    assert text[1] == "exported    ONNX opset 20, 58 → 31 nodes after 1 of 2 passes   3.4 s"
    assert text[2].split() == [
        "candidates",
        "(3",
        "processes",
        "each)",
        "threads",
        "nodes",
        "size",
        "p50",
        "top1",
        "SQNR",
    ]
    assert re.search(r"onnxruntime int8 static .* 0\.21 ms ±0\.01 +98\.44 % +34 dB   ◀ picked$", text[3])
    assert text[-3].startswith("parity      PyTorch 2.13.0 fp32 → bundle: 34 dB, max abs 0.0123")
    assert text[-3].endswith("on 200 samples; tolerance SQNR ≥ 25 dB")
    assert text[-2] == "bundle      build.edgekit   0.4 MB (fp32: 1.24 MB)   self-test passed"
    assert text[-1] == "About 2.8x faster than onnxruntime fp32 at the same top1 (98.44 % ±0.9 on 899 samples)."


def test_columns_line_up() -> None:
    rows = lines(RESULT)[3:7]
    assert len({row.index(" dB") for row in rows}) == 1
    assert len({row.index(" %") for row in rows}) == 1
    assert len({row.index(" ms") for row in rows}) == 1


def test_marks_the_short_round_and_tells_what_it_is() -> None:
    text = "\n".join(lines(RESULT))
    assert re.search(r"onnxruntime fp32 .*~0\.60 ms ", text)
    assert "~ from a short round" in text


def test_notes_and_rejections_stand_beside_the_row() -> None:
    text = "\n".join(lines(RESULT, width=170))
    assert re.search(r"onnxruntime int8 dynamic .*   slower than fp32\n", text)
    assert re.search(r"openvino int8 .*   rejected: parity: sqnr_db 12 < 25 \(output 'logits'\)\n", text)


def test_a_long_reason_goes_under_the_row_and_is_wrapped() -> None:
    reason = "OpenVINO refuses the model: " + "operator Erf is not supported, " * 8
    bad = replace(RESULT.candidates[-1], rejected=reason, parity=None, metric=None)
    text = lines(replace(RESULT, candidates=(*RESULT.candidates[:-1], bad)), width=80)
    start = next(index for index, line in enumerate(text) if "rejected:" in line)
    assert text[start - 1].split()[:2] == ["openvino", "int8"]
    assert text[start].startswith("      rejected: OpenVINO refuses")
    assert max(map(len, text[start:])) <= 80


@pytest.mark.parametrize("width", [50, 60, 72, 80, 100, 200])
def test_fits_the_terminal(width: int) -> None:
    table = lines(RESULT, width)
    picked = next(line for line in table if "◀ picked" in line)
    assert len(picked) <= max(width, 60)
    assert "0.21 ms" in picked


def test_narrow_terminal_keeps_the_latency_and_drops_what_tells_least() -> None:
    header = next(line for line in lines(RESULT, 72) if line.startswith("candidates"))
    assert "p50" in header
    assert "nodes" not in header


def test_long_names_are_shortened_in_the_middle() -> None:
    name = "onnxruntime int8 static with a very long description of what it does"
    result = replace(RESULT, candidates=(candidate(name, 0.000212),), chosen=name)
    row = next(line for line in lines(result) if "picked" in line)
    assert row.startswith("  onnxruntime int8 st…")
    assert "of what it does" in row


def test_not_measured_here() -> None:
    unmeasured = replace(RESULT.candidates[0], latency=None, options={"threads": 4})
    result = replace(RESULT, candidates=(unmeasured,), measured="this machine is x86_64, the target aarch64")
    text = "\n".join(lines(result))
    assert "measured    nothing: this machine is x86_64, the target aarch64" in text
    assert "p50" not in text
    assert "processes" not in text


def test_what_was_kept_in_float_and_what_it_cost() -> None:
    note = "4 MatMul left in floating point: all int8 had 14.2 dB"
    kept = replace(RESULT.candidates[0], kept_float=("ffn.0", "ffn.1", "ffn.2", "ffn.3"), note=note)
    text = lines(replace(RESULT, candidates=(kept, *RESULT.candidates[1:])))
    assert "kept float  4 of 31 nodes, to hold the accuracy: ffn.0, ffn.1, ffn.2 and 1 more" in text
    assert f"      {note}" in text


def test_equal_outputs_are_exact_not_infinite() -> None:
    same = replace(RESULT.candidates[0], parity=parity(float("inf")))
    text = "\n".join(lines(replace(RESULT, candidates=(same,))))
    assert "exact" in text
    assert "inf" not in text.replace("information", "")


def test_placement_is_told_where_more_than_one_device_takes_part() -> None:
    assert "placement" not in "\n".join(lines(RESULT))
    assert "placement   29 on CUDA, 2 on CPU" in lines(replace(RESULT, placement={"CUDA": 29, "CPU": 2}))


def test_colour_changes_nothing_but_the_colour() -> None:
    coloured = export_text(RESULT, colour=True, width=110)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == export_text(RESULT, colour=False, width=110)


def test_unknown_facts_of_the_source_are_left_out() -> None:
    assert source_line({"spec": "m.onnx"}) == "m.onnx"
    assert source_line({"spec": "m.onnx", "parameters": 0}) == "m.onnx   0 parameters"


def test_one_sample_is_not_plural() -> None:
    assert " on 1 sample;" in parity_line(replace(parity(30.0), samples=1))


def against(fp32: Latency, **pick: Any) -> str:
    """The conclusion for a pick at 0.212 ms beside an fp32 candidate."""
    plain = candidate("openvino fp32", 0.0006, precision="fp32", latency=fp32)
    return conclusion(replace(RESULT, candidates=(replace(RESULT.candidates[0], **pick), plain)))


def test_conclusion_tells_the_gain_and_the_accuracy() -> None:
    dropped = MetricReport("top1", 0.9844, 0.9833, 0.0011, 0.005, 899)
    assert against(latency(0.0006, 1e-5), metric=dropped) == (
        "2.8x faster than openvino fp32, top1 98.33 % instead of 98.44 % (±0.9 on 899 samples)."
    )
    assert (
        against(latency(0.0006, 1e-5), metric=None)
        == "2.8x faster than openvino fp32, at 34 dB to PyTorch 2.13.0 fp32."
    )


def test_conclusion_claims_nothing_where_the_intervals_overlap() -> None:
    assert against(latency(0.00022, 2e-5), metric=None).startswith("Not distinguishable in speed from openvino fp32")


def test_conclusion_is_the_reason_where_fp32_won_or_nothing_was_measured() -> None:
    assert against(latency(0.0006, 1e-5), precision="fp32") == "2.8x faster than fp32 at the same top1."
    assert against(latency(0.0006, 1e-5), latency=None) == "2.8x faster than fp32 at the same top1."


def test_inputs_that_nobody_gave_are_told_under_the_source() -> None:
    told = replace(RESULT, source={**RESULT.source, "made_up": "images 1x3x32x32"})
    lines = export_text(told, colour=False, width=120).splitlines()
    assert lines[1] == "inputs      made-up images 1x3x32x32: latency and parity hold for these alone"
    assert "made-up" not in export_text(RESULT, colour=False, width=120)
