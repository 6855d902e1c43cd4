"""``edgekit results … --json`` and ``edgekit report --json``."""

from typing import Any, Literal, TypedDict

from .common import Interval


class Row(TypedDict):
    """A kept result. What it does not tell is null."""

    id: str
    kind: str
    """export, bench, compare, evaluate"""
    created: str
    """ISO 8601, UTC"""
    bundle: str | None
    bundle_sha256: str | None
    fingerprint: str | None
    """equal on equal hardware"""
    device: str | None
    p50_s: float | None
    p50_low_s: float | None
    p50_high_s: float | None
    metric: str | None
    metric_value: float | None
    conclusion: str | None
    """a verdict, or the candidate that was picked"""
    problem: str | None
    """why it cannot be read"""
    folder: str


class ResultsList(TypedDict):
    """The results of a project, the newest first."""

    schema: Literal[1]
    store: str
    """the folder"""
    total: int
    """how many there are, shown or not"""
    results: list[Row]


class ResultsShow(TypedDict):
    """A kept result with what it was made with."""

    schema: Literal[1]
    id: str
    kind: str
    created: str
    bundle_sha256: str | None
    device: dict[str, Any]
    """of a saved `--json` object that tells none: empty"""
    fingerprint: str | None
    versions: dict[str, str]
    command: list[str]
    """the words that make it again"""
    series: dict[str, str]
    """what was timed → the file of its raw latencies"""
    result: dict[str, Any]
    """the object that the command printed"""


class Median(TypedDict):
    """A result and its median latency."""

    result: str
    """its id"""
    p50_s: Interval


class ResultsCompare(TypedDict):
    """Two results that were measured apart."""

    schema: Literal[1]
    a: Median
    b: Median
    different_models: str | None
    """why these are not two forms of one model; null: nothing says so"""
    ratio: Interval
    """b's p50 over a's: below 1, b is faster"""
    verdict: Literal["faster", "slower", "indistinguishable"]
    """of b, against a"""
    machine: float | None
    """how many times slower the machine was for b, by the probe that ran beside both; null: not known"""
    differences: list[str]
    """what else differed between the two"""
    unsteady: list[str]
    """why nothing may be concluded"""
    interleaved: Literal[False]
    """they did not take turns, as those of `edgekit compare` do"""


class Report(TypedDict):
    """`edgekit report`."""

    schema: Literal[1]
    report: str
    """the page that was written"""
    size_bytes: int
    results: list[str]
    """the ids of those it shows"""
