"""Two kept results beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ..errors import DataError, UsageError
from ..json_output.results import ResultsCompare
from ..measure import probe
from ..measure.statistics import Estimate
from ..results import different_sources
from .index import summary
from .record import Record, device_name
from .store import Store


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ratio of two medians that were measured apart, and what else differed between the two."""

    a: Record
    b: Record
    p50_a: Estimate  # seconds
    p50_b: Estimate
    ratio: Estimate  # b over a: below 1, b is faster
    differences: tuple[str, ...]
    unsteady: tuple[str, ...] = ()  # "a was noisy": why nothing may be concluded from these two
    machine: float | None = None  # how many times slower it was for b, by the probe; None: not known
    different_models: str | None = None  # why these are not two forms of one model

    @property
    def verdict(self) -> Literal["faster", "slower", "indistinguishable"]:
        """What b is against a. Of two runs apart in time, one that was not steady supports no difference."""
        if self.unsteady or self.ratio.low <= 1 <= self.ratio.high:
            return "indistinguishable"
        return "faster" if self.ratio.high < 1 else "slower"

    def to_json(self) -> ResultsCompare:
        """The object of ``results compare --json`` (schema 1)."""
        value = {
            "schema": 1,
            "a": {"result": self.a.id, "p50_s": self.p50_a.to_json()},
            "b": {"result": self.b.id, "p50_s": self.p50_b.to_json()},
            "different_models": self.different_models,
            "ratio": self.ratio.to_json(),
            "verdict": self.verdict,
            "machine": self.machine,
            "differences": list(self.differences),
            "unsteady": list(self.unsteady),
            "interleaved": False,
        }
        return cast("ResultsCompare", value)


def compare_records(a: Record, b: Record) -> Comparison:
    """Compare the median latencies of two kept results.

    Raises:
        DataError: a result states no median with an interval.
    """
    first, second = _median(a), _median(b)
    unlike = different_sources(_source(a), _source(b))
    found, machine = ratio(first, second), machine_change(a, b)
    doubts = [*_unsteady(a, b), *_machine_doubt(found, machine)]
    return Comparison(a, b, first, second, found, tuple(_differences(a, b)), tuple(doubts), machine, unlike)


def since_last(store: Store, id: str) -> Comparison | None:
    """A kept benchmark beside what was measured last before it of the same bundle, alike and on the same hardware.

    That is a benchmark, or the export that made the bundle.

    None where there is none, or one of the two states no median.
    """
    b = store.find(id)
    if b.bundle_sha256 is None or b.fingerprint is None:
        return None
    for row in store.rows(bundle=b.bundle_sha256).rows:
        if row.kind not in ("bench", "export") or row.id == b.id or row.problem:
            continue
        if row.folder >= (b.folder.name if b.folder else ""):
            continue
        try:
            found = compare_records(store.find(row.id), b)
        except (DataError, UsageError):
            continue
        if _how(found.a) == _how(b) and not found.differences:
            return found
    return None


def machine_change(a: Record, b: Record) -> float | None:
    """How many times slower the machine was for b (`measure.probe.change`); None: other hardware, or no probe ran."""
    speeds = [probe.from_json(_speed(record)) for record in (a, b)]
    if speeds[0] is None or speeds[1] is None or a.fingerprint is None or a.fingerprint != b.fingerprint:
        return None
    return probe.change(speeds[0], speeds[1])


def _machine_doubt(found: Estimate, machine: float | None) -> Iterator[str]:
    """Why the machine alone may explain a ratio R; nothing where its change M is within `probe.SAME`.

    It does where R ÷ M, widened by what a probe cannot tell, holds 1: [R_low / (M · SAME), R_high · SAME / M].
    """
    if machine is None or 1 / probe.SAME <= machine <= probe.SAME:
        return
    if found.low / (machine * probe.SAME) <= 1 <= found.high * probe.SAME / machine:
        word = f"{machine:.2f}x slower" if machine > 1 else f"{1 / machine:.2f}x faster"
        yield f"the machine was {word} for b by its probe, which explains it"


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """B / a of two independent estimates, with an interval from theirs.

    On the logarithms x = ln a, y = ln b, each with its interval [low, high], the difference d = y − x has

        low  = d − sqrt((y − y_low)² + (x_high − x)²),   high = d + sqrt((y_high − y)² + (x − x_low)²)

    Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
    Medicine 27 (2008): MOVER, the method of variance estimates recovery.
    """
    x, x_low, x_high = (math.log(value) for value in (a.value, a.low, a.high))
    y, y_low, y_high = (math.log(value) for value in (b.value, b.low, b.high))
    d = y - x
    low, high = d - math.hypot(y - y_low, x_high - x), d + math.hypot(y_high - y, x - x_low)
    return Estimate(math.exp(d), math.exp(low), math.exp(high))


def _median(record: Record) -> Estimate:
    row = summary(record)
    value, low, high = row["p50_s"], row["p50_low_s"], row["p50_high_s"]
    if value is None or low is None or high is None or low <= 0:
        raise DataError(
            f"result {record.id} ({record.kind}) states no median latency with an interval",
            fix="Compare results of edgekit bench, or of an export that measured here.",
        )
    return Estimate(value, low, high)


def _differences(a: Record, b: Record) -> Iterator[str]:
    """Whatever else may explain a difference in speed."""
    if a.bundle_sha256 != b.bundle_sha256:
        yield f"bundle: {a.bundle or 'unknown'} and {b.bundle or 'unknown'}"
    if a.fingerprint != b.fingerprint:
        yield f"device: {device_name(a.device)} and {device_name(b.device)}"
    alike = a.kind == b.kind  # an export knows packages and options that a benchmark does not
    versions = set(a.versions) | set(b.versions) if alike else set(a.versions) & set(b.versions)
    for name in sorted(versions):
        if a.versions.get(name) != b.versions.get(name):
            yield f"version of {name}: {a.versions.get(name, 'none')} and {b.versions.get(name, 'none')}"
    left, right = _options(a), _options(b)
    for name in sorted(set(left) | set(right) if alike else set(left) & set(right)):
        if left.get(name) != right.get(name):
            yield f"option {name}: {left.get(name)} and {right.get(name)}"


def _unsteady(a: Record, b: Record) -> Iterator[str]:
    for name, record in (("a", a), ("b", b)):
        verdict = record.value.get("verdict")
        if verdict in ("noisy", "drifting"):
            yield f"{name} was {verdict}"


def _source(record: Record) -> Mapping[str, Any]:
    """What the model was exported from, where the result tells."""
    source = record.value.get("source")
    return source if isinstance(source, Mapping) else {}


def _how(record: Record) -> tuple[str, int | None]:
    """Mode and batch; an export times single runs."""
    return record.value.get("mode", "latency"), record.value.get("batch")


def _picked(record: Record) -> Mapping[str, Any]:
    """Of an export, the candidate that became the bundle."""
    rows = record.value.get("candidates")
    named = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return next((row for row in named if row.get("name") == record.value.get("chosen")), {})


def _speed(record: Record) -> object:
    latency = _picked(record).get("latency")
    return latency.get("speed") if isinstance(latency, Mapping) else record.value.get("speed")


def _options(record: Record) -> Mapping[str, Any]:
    runtime = record.value.get("runtime") or _picked(record)
    return runtime.get("options", {}) if isinstance(runtime, Mapping) else {}
