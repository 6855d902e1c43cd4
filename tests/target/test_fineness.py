"""The order of precisions, from fine to coarse."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.target.fineness import coarseness, is_full, needs_evidence
from edgekit.target.load import load_target

ORDER = (
    "fp32", "tf32", ("fp16", "bf16"), "int8-weights", "w8a16", "int8-dynamic", "int8", "int4", "w4a16", "unheard-of",
)  # fmt: skip


def test_the_order_is_that_of_the_docstring() -> None:
    groups = [(item,) if isinstance(item, str) else item for item in ORDER]
    keys = [{coarseness(name) for name in group} for group in groups]
    assert all(len(found) == 1 for found in keys)
    flat = [next(iter(found)) for found in keys]
    assert flat == sorted(flat) and len(set(flat)) == len(flat)


@pytest.mark.parametrize(
    ("precision", "full", "evidence"),
    [
        ("fp64", True, False),
        ("fp32", True, False),
        ("tf32", False, False),
        ("bf16", False, False),
        ("int8", False, True),
        ("int4", False, True),
        ("w8a16", False, True),
        ("fp8", False, True),  # a float that needs a scale
        ("unheard-of", False, True),
    ],
)
def test_who_needs_real_data(precision: str, full: bool, evidence: bool) -> None:
    assert (is_full(precision), needs_evidence(precision)) == (full, evidence)


def test_every_precision_of_every_profile_is_known() -> None:
    unknown = coarseness("unheard-of")
    profiles = sorted((Path(__file__).parents[2] / "targets").glob("*.toml"))
    precisions = {candidate.precision for path in profiles for candidate in load_target(path).candidates}
    assert len(precisions) > 5 and all(coarseness(precision) < unknown for precision in precisions)
