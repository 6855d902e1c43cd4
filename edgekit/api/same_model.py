"""Whether two bundles hold forms of one model, which is what a comparison of their speed is about."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bundle import Bundle
from ..contracts import Feeds, TensorSpec
from ..errors import BundleError
from ..measure.parity import ParityMeter
from ..results import ARE_DIFFERENT, different_sources

Shape = tuple[int | str, ...]

SAME_DB = 60.0
"""The references of one model agree at least so well: float32's of two machines, of two versions of PyTorch."""


def different_models(a: Bundle, b: Bundle) -> str | None:
    """``A and B are different models: …``, by the first of these that tells; None where none does.

    1. Their inputs or outputs: names, dtypes and sizes; a free dimension fits any size.
    2. Golden inputs that both hold: their expected outputs are the references', so no precision comes into it.
    3. What they were exported from (`different_sources`).
    """
    for what, ours, theirs in (
        ("inputs", a.manifest.inputs, b.manifest.inputs),
        ("outputs", a.manifest.outputs, b.manifest.outputs),
    ):
        if not _fit(ours, theirs):
            return f"{ARE_DIFFERENT}: their {what} are {', '.join(map(str, ours))} and {', '.join(map(str, theirs))}"
    agreement_db = _agreement_db(a, b)
    if agreement_db is None:
        return different_sources(a.manifest.source, b.manifest.source)
    return (
        None
        if agreement_db >= SAME_DB
        else f"{ARE_DIFFERENT}: their references answer the same golden inputs differently"
    )


def _fit(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> bool:
    """Whether two lists of tensors may be the same one's."""
    others = {spec.name: spec for spec in theirs}
    return {spec.name for spec in ours} == others.keys() and all(
        spec.dtype == others[spec.name].dtype and _sizes_fit(spec.shape, others[spec.name].shape) for spec in ours
    )


def _sizes_fit(ours: Shape, theirs: Shape) -> bool:
    return len(ours) == len(theirs) and all(
        x == y or isinstance(x, str) or isinstance(y, str) for x, y in zip(ours, theirs, strict=True)
    )


def _agreement_db(a: Bundle, b: Bundle) -> float | None:
    """The SQNR of b's golden outputs to a's for the inputs that both hold; None where there are no such."""
    meter, shared = ParityMeter(), 0
    try:
        ours, theirs = a.golden(), b.golden()
    except BundleError:
        return None
    for feeds, expected in ours:
        for outputs in (outputs for other, outputs in theirs if _equal(feeds, other)):
            meter.add(expected, outputs)
            shared += 1
    found = meter.result().sqnr_db if shared else math.nan
    return None if math.isnan(found) else found


def _equal(feeds: Feeds, others: Feeds) -> bool:
    return feeds.keys() == others.keys() and all(np.array_equal(feeds[name], others[name]) for name in feeds)
