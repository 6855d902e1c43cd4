"""``edgekit compare --json``."""

from typing import Literal, NotRequired, TypedDict

from .bench import Stopped
from .common import Device, Interval


class SideLatency(TypedDict):
    """Percentiles of one of the two. One that the samples cannot support is null."""

    p50_s: Interval | None
    p90_s: Interval | None
    p99_s: Interval | None
    n: int
    processes: int


class Sides(TypedDict):
    """Both bundles."""

    a: SideLatency
    b: SideLatency


class Compare(TypedDict):
    """What is known of B's median latency relative to A's."""

    schema: Literal[1]
    a: str
    b: str
    different_models: str | None
    """why these are not two forms of one model; null: nothing says so"""
    device: Device
    ratio: Interval
    """B's p50 over A's: below 1, B is faster"""
    control: Interval
    """A against itself: holds 1 where the machine can tell equals"""
    verdict: Literal["faster", "slower", "indistinguishable"]
    """of B, against A"""
    reasons: list[str]
    confidence: float
    """of the interval of the ratio"""
    rounds: int
    stopped: Stopped
    latency: Sides
    samples: str | list[str] | None
    """the files of the raw latencies"""
    not_measured: dict[str, str]
    """the path of a key that is null → why"""
    result: NotRequired[str | None]
    """the id under which it is kept; null: it could not be kept"""
