"""What nobody reads is 0 on both sides."""

from __future__ import annotations

import numpy as np

from edgekit.bundle.manifest import _ignore
from edgekit.measure.ignore import IgnoreWhere, blank
from edgekit.measure.parity import ParityMeter

RULE = IgnoreWhere("mask", 0.0, ("logits", "pooled"))
FEEDS = {"mask": np.array([[0, 1, 1], [1, 0, 1]])}
LOGITS = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2)


def test_masked_positions_are_0_and_the_rest_is_as_it_was() -> None:
    outputs = {"logits": LOGITS, "pooled": np.ones((2, 4), np.float32), "other": np.full((2, 3), 7)}
    found = blank([RULE], FEEDS, outputs)
    assert found["logits"].tolist() == [[[0, 0], [3, 4], [5, 6]], [[7, 8], [0, 0], [11, 12]]]
    assert found["pooled"] is outputs["pooled"], "its shape is not the mask's"
    assert found["other"] is outputs["other"], "no rule names it"
    assert LOGITS.min() == 1, "the engine's own array is left alone"
    assert blank([], FEEDS, outputs) is outputs


def test_what_is_not_read_has_no_part_in_the_parity() -> None:
    wrong = LOGITS.copy()
    wrong[0, 0] = np.nan
    meter = ParityMeter()
    meter.add(blank([RULE], FEEDS, {"logits": LOGITS}), blank([RULE], FEEDS, {"logits": wrong}))
    assert meter.result().rel_l2 == 0
    wrong[0, 1] += 1
    meter.add(blank([RULE], FEEDS, {"logits": LOGITS}), blank([RULE], FEEDS, {"logits": wrong}))
    assert meter.result().rel_l2 > 0


def test_it_is_kept_in_a_manifest() -> None:
    assert _ignore(RULE.to_json()) == RULE
