"""``edgekit evaluate --json``."""

from typing import Literal, NotRequired, TypedDict

from .common import Device, Runtime


class Bounds(TypedDict):
    """The ends of an interval."""

    low: float
    high: float


class EvaluatedMetric(TypedDict):
    """The metric, its loss, and what is known of both."""

    name: str
    value: float | None
    """null: infinite, as the SQNR of equal outputs is"""
    reference: float | None
    """PyTorch's; null: nobody knows it, or it is infinite"""
    drop: float | None
    """how much worse than the reference, in the metric's unit; negative: better"""
    reference_source: str | None
    higher_is_better: bool
    compared_with: NotRequired[str | None]
    """labels, or whose outputs; null: only the metric's author knows"""
    details: NotRequired[dict[str, float]]
    """what the value alone does not tell, by name; {} for most metrics"""
    interval: Bounds | None
    """of the value; null: one sample, or all alike"""
    reference_interval: Bounds | None
    drop_interval: Bounds | None
    """paired, over the same samples"""
    confidence: float
    verdict: Literal["worse", "better", "indistinguishable"] | None
    """against the reference; null: the drop has no interval"""


class Evaluate(TypedDict):
    """A metric through the bundle's own engine, beside the reference's."""

    schema: Literal[1]
    bundle: str
    metric: EvaluatedMetric
    data: str
    samples: int
    streamed: NotRequired[bool]
    """a model with memory ran with its own state, from sample to sample"""
    notes: NotRequired[list[str]]
    """what of the data was changed or left out"""
    device: Device
    runtime: Runtime
    result: NotRequired[str | None]
    """the id under which it is kept; null: it could not be kept"""
