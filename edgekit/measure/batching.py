"""Several samples in one run: golden inputs stacked along the free first axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..contracts import Array, Feeds, TensorSpec
from ..errors import UsageError


def batched(feeds: Sequence[Feeds], inputs: Sequence[TensorSpec], batch: int) -> list[Feeds]:
    """Stack real samples into feeds of ``batch`` each: every input [b, …] → [batch, …].

    The i-th result begins with the i-th sample and goes on with those after it, in rotation; where they differ in
    another dimension (sentences of unequal length), it repeats the i-th alone.

    Args:
        feeds: golden inputs, each with one or more samples along the first axis.
        inputs: the artifact's inputs.
        batch: samples in one run, at least 1.

    Raises:
        UsageError: the model's first axis is fixed, or ``batch`` is below 1.
    """
    if batch < 1:
        raise UsageError(f"the batch must be 1 or more, got {batch}")
    for spec in inputs:
        if not spec.shape or not isinstance(spec.shape[0], str):
            raise UsageError(
                f"a batch of {batch} needs a free first axis, but input '{spec}' has none",
                fix=f"Export with --dynamic {spec.name}:0, or measure several streams.",
            )
    return [_stack([feeds[(start + i) % len(feeds)] for i in range(batch)], batch) for start in range(len(feeds))]


def _stack(samples: Sequence[Feeds], batch: int) -> Feeds:
    names = list(samples[0])
    alike = all(sample[name].shape[1:] == samples[0][name].shape[1:] for sample in samples for name in names)
    chosen = samples if alike else [samples[0]] * batch
    stacked: Mapping[str, Array] = {name: np.concatenate([sample[name] for sample in chosen])[:batch] for name in names}
    return stacked
