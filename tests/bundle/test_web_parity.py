"""The page's parity is Python's: the same numbers, words and misses from runtimes/_onnxruntime_web/web/parity.mjs."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.contracts import Tolerance
from edgekit.measure.ignore import IgnoreWhere, blank
from edgekit.measure.parity import ParityMeter
from edgekit.runtimes._onnxruntime_web.glue import _WEB

BOUNDS = Tolerance(max_abs=0.05, rel_l2=0.02, sqnr_db=25.0, part_db=12.0)
Case = list[tuple[np.ndarray, np.ndarray]]
SCRIPT = """
import { readFileSync } from "node:fs";
import { readNpz } from "WEB/npz.mjs";
import { ParityMeter } from "WEB/parity.mjs";
const arrays = readNpz(new Uint8Array(readFileSync("cases.npz")).buffer);
const { counts, bounds } = JSON.parse(readFileSync("cases.json", "utf8"));
const text = (value) => (Number.isFinite(value) ? value : String(value));
const found = counts.map((count, which) => {
  const meter = new ParityMeter();
  for (let at = 0; at < count; at += 1) meter.add({ y: arrays[`w${which}_${at}`] }, { y: arrays[`g${which}_${at}`] });
  const [{ max_abs, rel_l2, sqnr_db, part, differ, lost, failure }] = meter.outputs();
  return { max_abs: text(max_abs), rel_l2: text(rel_l2), sqnr_db: text(sqnr_db), differ, lost, failed: failure !== null,
    part: part && [part.index, text(part.sqnr_db)], told: meter.told(), misses: meter.misses(bounds) };
});
console.log(JSON.stringify(found));
"""


def near_one(random: np.random.Generator, *shape: int) -> np.ndarray:
    """A sigmoid as ONNX Runtime's, of logits far below 0."""
    return (np.rint(2**25 / (1 + np.exp(-random.uniform(-18, -6, shape)))) / 2**25).astype(np.float32)


def drawn(random: np.random.Generator) -> np.ndarray:
    """The reference's answer to one sample: of one of the kinds that are judged apart."""
    shape = [(1, 6), (1, 40), (12,), (1, 9, 5), (1, 5, 9), (2, 1, 6, 7), (1, 6, 7, 3), (1, 3, 1, 2, 12)]
    size = shape[random.integers(len(shape))]
    kind = random.choice(
        ["unit", "mixed", "offset", "probable", "softmax", "log", "near one", "small", "sparse", "class"]
    )
    plain = random.standard_normal(size)
    scale = 10.0 ** random.uniform(-4, 4, size[1] if len(size) > 1 else size[0])
    return np.asarray(
        {
            "unit": lambda: plain,
            "mixed": lambda: np.moveaxis(
                np.moveaxis(plain, min(1, plain.ndim - 1), -1) * scale, -1, min(1, plain.ndim - 1)
            ),
            "offset": lambda: plain + 1e4,
            "probable": lambda: random.beta(0.2, 1, size),
            "softmax": lambda: np.exp(4 * plain) / np.exp(4 * plain).sum(-1, keepdims=True),
            "log": lambda: 4 * plain - np.log(np.exp(4 * plain).sum(-1, keepdims=True)),
            "near one": lambda: near_one(random, *size),
            "small": lambda: 1e-7 * random.uniform(0, 1, size),
            "sparse": lambda: np.where(plain > 1.5, plain, 0),
            "class": lambda: random.integers(0, 3, size),
        }[str(kind)]()
    )


def spoilt(random: np.random.Generator, want: np.ndarray, how: str) -> np.ndarray:
    if want.dtype.kind != "f":
        return np.where(random.uniform(size=want.shape) < 0.02, 2, want).astype(want.dtype)
    with np.errstate(all="ignore"):
        size = np.std(want.astype(np.float64)) + 1e-12
        got = {
            "equal": want.copy(),
            "rounded": np.nextafter(want, want.dtype.type(1)),
            "near": want + 0.01 * size * random.standard_normal(want.shape),
            "far": want + size * random.standard_normal(want.shape),
            "resolution": want + 2e-7 * random.uniform(-1, 1, want.shape),
            "zero": np.zeros_like(want),
            "nan": np.where(random.uniform(size=want.shape) < 0.2, np.nan, want),
        }[how]
        if how == "far" and want.ndim > 1:
            got[:, 1:] = want[:, 1:]
    return np.asarray(got, want.dtype)


def cases(random: np.random.Generator, count: int) -> list[Case]:
    found: list[Case] = []
    hows = ["equal", "rounded", "near", "far", "resolution", "zero", "nan"]
    for which in range(count):
        seed, dtype = random.integers(2**32), [np.float32, np.float32, np.float16, np.float64][which % 4]
        case: Case = []
        for sample in range(int(random.integers(1, 9))):
            want = drawn(np.random.default_rng(seed))  # the same kind and shape
            if want.dtype.kind == "f":
                factor = 1 if want.max() <= 1 else 1 + 0.3 * sample
                want = (want * factor)[..., :: -1 if sample % 2 else 1].astype(dtype)
            case.append((want, spoilt(random, want, hows[which % len(hows)])))
        if which % 5 == 0:  # an infinity on both sides, which does not count
            for want, got in case:
                if want.dtype.kind == "f":
                    want.flat[0] = got.flat[0] = np.inf
        found.append(case)
    return found


def in_the_page(found: list[Case], folder: Path) -> list[dict[str, Any]]:
    arrays = {
        f"{side}{which}_{at}": array
        for which, case in enumerate(found)
        for at, pair in enumerate(case)
        for side, array in zip("wg", pair, strict=True)
    }
    np.savez(folder / "cases.npz", **arrays)
    counts = {"counts": [len(case) for case in found], "bounds": BOUNDS.to_json()}
    (folder / "cases.json").write_text(json.dumps(counts))
    (folder / "compare.mjs").write_text(SCRIPT.replace("WEB", _WEB.as_posix()))
    done = subprocess.run(["node", "compare.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node: apt install nodejs")


@needs_node
def test_what_nobody_reads_is_zero_as_in_python(tmp_path: Path) -> None:
    rule = IgnoreWhere("mask", 0.0, ("y", "ids", "pooled"))
    random = np.random.default_rng(0)
    outputs = {
        "y": random.standard_normal((2, 3, 4)).astype(np.float32),
        "ids": random.integers(1, 9, (2, 3)),
        "pooled": random.standard_normal((2, 4)).astype(np.float32),
        "other": random.standard_normal((2, 3)).astype(np.float32),
    }
    mask = np.array([[1, 1, 0], [0, 1, 0]])
    np.savez(tmp_path / "arrays.npz", mask=mask, **outputs)
    (tmp_path / "blank.mjs").write_text(
        """
        import { readFileSync } from "node:fs";
        import { readNpz } from "WEB/npz.mjs";
        import { valuesOf } from "WEB/selftest.mjs";
        const { mask, ...outputs } = readNpz(new Uint8Array(readFileSync("arrays.npz")).buffer);
        for (const tensor of Object.values(outputs)) tensor.type = tensor.dtype;
        const found = valuesOf({ manifest: { ignore: [RULE] } }, { mask }, outputs);
        console.log(JSON.stringify(Object.fromEntries(
          Object.entries(found).map(([name, { data }]) => [name, Array.from(data, Number)]))));
        """.replace("WEB", _WEB.as_posix()).replace("RULE", json.dumps(rule.to_json()))
    )
    done = subprocess.run(["node", "blank.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    wanted = blank([rule], {"mask": mask}, outputs)
    assert not np.array_equal(wanted["y"], outputs["y"]) and not np.array_equal(wanted["ids"], outputs["ids"])
    assert json.loads(done.stdout) == {name: array.ravel().tolist() for name, array in wanted.items()}


@needs_node
def test_random_tensors_are_judged_as_in_python(tmp_path: Path) -> None:
    empty = np.zeros((0, 4), np.float32)
    found = [*cases(np.random.default_rng(3), 210), [(empty, empty)]]
    with_parts = failed = resolved = 0
    for which, (case, page) in enumerate(zip(found, in_the_page(found, tmp_path), strict=True)):
        meter = ParityMeter()
        for want, got in case:
            meter.add({"y": want}, {"y": got})
        parity = meter.result()
        (item,) = parity.outputs.values()
        name = f"case {which}: {case[0][0].dtype} {case[0][0].shape}"
        assert page["failed"] == (item.failure is not None), name
        if item.failure is not None:
            failed += 1
            continue
        for key in ("max_abs", "rel_l2", "sqnr_db"):
            assert float(page[key]) == pytest.approx(getattr(item, key), rel=1e-9, abs=1e-9), f"{name}: {key}"
        assert page["differ"] == item.differ and page["lost"] == (list(item.lost) if item.lost else None), name
        assert (page["part"] is None) == (item.part is None), name
        if item.part is not None:
            assert float(page["part"][1]) == pytest.approx(item.part.sqnr_db, rel=1e-6, abs=1e-6), name
            assert page["part"][0] == item.part.index, name
        assert page["told"] == parity.told() and page["misses"] == parity.misses(BOUNDS), name
        with_parts += bool(item.part and item.part.index)
        resolved += item.max_abs > 0 and item.rel_l2 == 0 and math.isinf(item.sqnr_db)
    assert with_parts > 15 and failed > 10 and resolved > 3, (with_parts, failed, resolved)
