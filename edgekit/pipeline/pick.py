"""Which of the candidates that may be picked ships: the finest, unless a coarser one pays beyond doubt.

The finest form is the first champion. Fineness by fineness (`target.fineness`), the best of the next coarser ones takes
its place where the gain over it is at least ``min_gain`` and the interval of the gain lies above 1. Else the finer one
stays, and the line says why. Of candidates of one fineness that are not distinguishable the one with more accuracy left
is taken, then the smaller.

What a gain is follows from what is preferred: time a run, measured in the race; bytes of the artifact; the peak of a
process's memory. The latter two are exact to far less than any ``min_gain``, so they have no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

from .. import units
from ..errors import EngineError, UsageError
from ..target.fineness import coarseness, is_full
from .assess import Assessed, confirm
from .evidence import UNCHECKED, thin_evidence, worst_db
from .memory import peak_memory
from .race import Contender, LostContender, fp32_baseline, gain_over, is_faster, is_slower, race, shortlist

if TYPE_CHECKING:
    from .job import Job

T = TypeVar("T")
Prefer = Literal["latency", "size", "memory"]
PREFERENCES: tuple[str, ...] = get_args(Prefer)
MIN_GAIN = 1.05
"""A coarser form that pays less is not worth what it loses."""
EQUAL_DB = 1.0
"""Accuracies this close are the same: another few samples move them by as much."""
EQUAL_WEIGHT = 1.01
"""Sizes and peaks this close are the same, and the faster one is taken."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants of the pick."""

    prefer: Prefer = "latency"
    min_gain: float = MIN_GAIN

    def __post_init__(self) -> None:
        if self.prefer not in PREFERENCES:
            raise UsageError(f"--prefer must be one of {', '.join(PREFERENCES)}, got '{self.prefer}'")
        if not 1 <= self.min_gain < float("inf"):
            raise UsageError(
                f"--min-gain must be 1 or more, got {self.min_gain:g}", fix="1.05 asks for 5 % over the finer form."
            )


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a coarser form does not take the place of a finer one."""

    short: str
    detail: str  # the same with its numbers, for the candidate's row; "": the row says it already


Doubts: TypeAlias = dict[str, Doubt]
"""By candidate."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The pick, with all candidates as they stand after it."""

    picked: Assessed
    assessed: list[Assessed]
    finalists: list[Contender]  # the pick's first; empty where nothing was measured
    baseline: Contender | None  # fp32's fastest
    reason: str  # one line: why this one
    standing: list[Assessed]  # ``assessed`` without what it says of this pick


def decide(assessed: Sequence[Assessed], job: Job, wish: Wish, max_time_s: float) -> Decision:
    """Measure those that may be picked, and pick.

    A contender that misses the accuracy with the session options that made it fast is out; the options that a candidate
    was first checked with always stay, so that one is found in the end.

    Args:
        assessed: all candidates in the profile's order; at least one may be picked.
        job: the export.
        wish: what the user wants.
        max_time_s: seconds for measuring.

    Raises:
        UsageError: the preferred quantity is not known here.
    """
    standing = list(assessed)
    if wish.prefer == "memory":
        standing = [_with_peak(item) if item.free else item for item in standing]
    while True:
        doubts: Doubts = {}
        free = [item for item in standing if item.free]
        if wish.prefer != "latency":
            free = [_lightest(free, wish, doubts)]
        try:
            finalists, baseline = _measure(free, standing, job, max_time_s)
        except LostContender as lost:
            standing = _after_loss(standing, lost)
            continue
        if not finalists:
            told = _told(standing, doubts, baseline)
            picked = next(item for item in told if item.candidate is free[0].candidate)
            return Decision(picked, told, [], baseline, _unmeasured_reason(picked, told, wish), standing)
        while finalists:
            if wish.prefer == "latency":
                doubts = {}
            contender = _champion(finalists, free, wish, doubts)
            finalists.remove(contender)
            place = next(i for i, item in enumerate(standing) if contender in item.contenders)
            try:
                confirmed = confirm(standing[place], contender)
            except EngineError as error:
                standing = _after_loss(standing, LostContender(contender, error))
                break
            if confirmed.passed:  # what is told of it is told of what ships
                standing[place] = replace(confirmed, contenders=(contender,))
                told = _told(standing, doubts, baseline)
                reason = _reason(told, told[place], wish, doubts)
                return Decision(told[place], told, [contender, *finalists], baseline, reason, standing)
            standing[place] = _without(standing[place], contender, confirmed.why_not or "")


def _after_loss(standing: Sequence[Assessed], lost: LostContender) -> list[Assessed]:
    """The candidates without a contender whose engine failed, ready for another race.

    Raises:
        EngineError: no candidate is left that may be picked.
    """
    left = []
    for item in standing:
        for contender in item.contenders:
            contender.reset()
        if lost.contender in item.contenders:
            item = _without(item, lost.contender, lost.error.what)
            if not item.contenders:
                item = replace(item, error=lost.error, note=None)
        left.append(item)
    if not any(item.free for item in left):
        lines = [f"{item.candidate.name}: {item.why_not}" for item in left if item.why_not]
        raise EngineError("no candidate is left that can be measured", details=lines, fix=lost.error.fix)
    return left


def _without(item: Assessed, contender: Contender, why: str) -> Assessed:
    """A candidate that misses with the session options of one of its contenders."""
    others = tuple(other for other in item.contenders if other is not contender)
    return replace(item, contenders=others, note=f"{item.candidate.name} with {dict(contender.options)}: {why}")


def _measure(
    free: Sequence[Assessed], standing: Sequence[Assessed], job: Job, max_time_s: float
) -> tuple[list[Contender], Contender | None]:
    """The contenders of ``free`` that were measured to the end, the fastest first; and fp32's fastest.

    Beside them are measured the fastest in fp32, to compare with, and the fastest that is withheld, if it is faster
    than all that may be picked: what the user would gain by giving data. Where this machine cannot stand for the device
    nothing is measured.
    """
    entrants = shortlist([contender for item in free for contender in item.contenders])
    if not entrants:
        return [], None
    everybody = [contender for item in standing if item.passed for contender in item.contenders]
    plain = fp32_baseline(everybody)
    beside = [] if plain is None else [plain]
    withheld = [contender for item in standing if item.passed and item.withheld for contender in item.contenders]
    tempting = min(withheld, key=lambda item: item.p50_s, default=None)
    if tempting is not None and tempting.p50_s < min(item.p50_s for item in entrants):
        beside.append(tempting)
    ranked = race(entrants, [item for item in beside if item not in entrants], job, max_time_s)
    mine = [contender for item in free for contender in item.contenders]
    return [item for item in ranked if item in mine], fp32_baseline([*ranked, *([plain] if plain else [])])


def _champion(finalists: Sequence[Contender], items: Sequence[Assessed], wish: Wish, doubts: Doubts) -> Contender:
    """The pick by latency, of finalists with the fastest first. ``doubts``: candidate → why it is not the pick."""
    owner = {id(contender): item for item in items for contender in item.contenders}
    champion: Contender | None = None
    for group in _by_fineness(finalists, lambda contender: contender.built.candidate.precision):
        better = group
        if champion is not None:
            better = []
            for contender in group:
                doubt = _doubt(contender, champion, wish)
                if doubt is None:
                    better.append(contender)
                else:
                    doubts.setdefault(contender.built.candidate.name, doubt)
        if better:
            champion = _best(better, owner, wish)
    assert champion is not None, "there is a finalist"
    doubts.pop(champion.built.candidate.name, None)
    return champion


def _doubt(contender: Contender, champion: Contender, wish: Wish) -> Doubt | None:
    """Why a gain over a finer form is not enough, or None where it is."""
    gain, finer = gain_over(contender, champion), champion.built.candidate.name
    if is_faster(contender, champion) and gain.value >= wish.min_gain:
        return None
    if gain.value <= 1:
        return Doubt(f"not faster than {finer}", "")
    short = "not faster beyond doubt" if gain.low <= 1 else f"gains less than --min-gain {wish.min_gain:g}"
    return Doubt(short, f"{units.ratio_interval(gain)} of {finer}'s speed: {short}")


def _best(group: Sequence[Contender], owner: dict[int, Assessed], wish: Wish) -> Contender:
    """Of one fineness, the fastest first: among those that equal it, the most accurate, then the smallest."""
    first = group[0]
    firsts = {contender.built.candidate.name: contender for contender in reversed(group)}  # the fastest of each
    equal = [first]
    for contender in firsts.values():
        if contender.built.candidate.name == first.built.candidate.name:
            continue
        gain = gain_over(first, contender)
        if gain.low <= 1 and gain.value < wish.min_gain:
            equal.append(contender)
    return max(equal, key=lambda contender: (*_merit(owner[id(contender)]), -contender.p50_s))


def _merit(item: Assessed) -> tuple[float, int]:
    """What decides between equals: the accuracy that is left, then the size. Full precisions are equally accurate."""
    size = item.built.size_bytes if item.built else 0
    if item.check is None or is_full(item.candidate.precision):
        return 0.0, -size
    accuracy_db = worst_db(item.check.parity)
    return round(min(accuracy_db, 1e3) / EQUAL_DB), -size


def _lightest(free: Sequence[Assessed], wish: Wish, doubts: Doubts) -> Assessed:
    """The pick by size or by memory; ``doubts``: candidate → why it is not the pick."""
    champion: Assessed | None = None
    for group in _by_fineness(free, lambda item: item.candidate.precision):
        least = min(_weight(item, wish.prefer) for item in group)
        equal = [item for item in group if _weight(item, wish.prefer) <= EQUAL_WEIGHT * least]
        best = min(equal, key=lambda item: item.best.p50_s if item.best else 0.0)
        if champion is None:
            champion = best
            continue
        gain = _weight(champion, wish.prefer) / max(_weight(best, wish.prefer), 1)
        if gain >= wish.min_gain and gain > 1:
            champion = best
        else:
            found = f"saves less {_UNIT[wish.prefer]} over {champion.candidate.name} than --min-gain {wish.min_gain:g}"
            doubts[best.candidate.name] = Doubt(found, found)
    assert champion is not None, "there is a candidate"
    doubts.pop(champion.candidate.name, None)
    return champion


_UNIT = {"size": "bytes", "memory": "memory"}


def _weight(item: Assessed, prefer: Prefer) -> int:
    if prefer == "size":
        return item.built.size_bytes if item.built else 0
    return item.peak_bytes or 0


def _with_peak(item: Assessed) -> Assessed:
    """With its peak memory measured, where it was not."""
    assert item.built is not None and item.options is not None
    if item.peak_bytes is not None:
        return item
    measurable = bool(item.contenders)
    peak = peak_memory(item.built, item.options) if measurable else None
    if peak is None:
        raise UsageError(
            f"--prefer memory: the memory that '{item.candidate.name}' needs is not known here",
            fix="Name the device with --device, or use --prefer size.",
        )
    return replace(item, peak_bytes=peak)


def _by_fineness(items: Iterable[T], precision: Callable[[T], str]) -> list[list[T]]:
    """Groups of equal fineness, the finest first; the order within stays."""
    groups: dict[tuple[int, ...], list[T]] = {}
    for item in items:
        groups.setdefault(coarseness(precision(item)), []).append(item)
    return [groups[key] for key in sorted(groups)]


def _told(standing: Sequence[Assessed], doubts: Doubts, baseline: Contender | None) -> list[Assessed]:
    """The candidates with what speaks against each as a note. What is slower than fp32 says that already."""

    def note(item: Assessed) -> str | None:
        slower = item.best is not None and baseline is not None and is_slower(item.best, baseline)
        detail = "" if slower else doubts[item.candidate.name].detail
        return "; ".join(filter(None, (item.note, detail))) or None

    return [replace(item, note=note(item)) if item.candidate.name in doubts else item for item in standing]


def _unmeasured_reason(picked: Assessed, standing: Sequence[Assessed], wish: Wish) -> str:
    first = {
        "latency": "the first of the profile's candidates that holds the accuracy; nothing was measured",
        "size": "the smallest of the candidates that hold the accuracy",
        "memory": "the one with the lowest peak of memory of those that hold the accuracy",
    }[wish.prefer]
    return "; ".join([first, *thin_evidence(picked), *_withheld(standing)])


def _reason(standing: Sequence[Assessed], picked: Assessed, wish: Wish, doubts: Doubts) -> str:
    """One line on why this candidate."""
    if wish.prefer != "latency":
        what = "smallest" if wish.prefer == "size" else "one with the lowest peak of memory"
        first = f"the {what} of the candidates that hold the accuracy (--prefer {wish.prefer})"
        return "; ".join([first, *thin_evidence(picked), *_withheld(standing)])
    if not is_full(picked.candidate.precision):
        aside = [*thin_evidence(picked), *_withheld(standing)]
        return "; ".join(["the fastest of the candidates that hold the accuracy", *aside])
    missed = [item.candidate.name for item in standing if item.check is not None and item.check.miss]
    why: list[str] = []
    rest = [item.candidate.name for item in standing if item.free and not is_full(item.candidate.precision)]
    source = picked.built.variant.source if picked.built else None
    whole = "fp32" if source is None or source.quantized is None else "it"
    by_reason: dict[str, list[str]] = {}
    for name in rest:
        doubt = doubts.get(name)
        short = doubt.short if doubt is not None and doubt.detail else f"not faster than {whole} here"
        by_reason.setdefault(short, []).append(name)
    why += [f"{', '.join(names)} {short}" for short, names in by_reason.items()]
    why += [f"{', '.join(missed)} not accurate enough"] if missed else []
    why += _withheld(standing)
    if source is not None and source.quantized is not None:
        return "; ".join([f"shipped as it was brought: {source.quantized}", *why])
    return f"not quantized: {'; '.join(why)}" if why else "the only candidate that can be used"


def _withheld(standing: Sequence[Assessed]) -> list[str]:
    """``onnxruntime int8 dynamic not checked on real data: --data``."""
    withheld = [(item.candidate.name, item.withheld) for item in standing if item.passed and item.withheld]
    names = [name for name, why in withheld if why.endswith(UNCHECKED)]
    others = [f"{name} at {why}" for name, why in withheld if not why.endswith(UNCHECKED)]
    return [*([f"{', '.join(names)} {UNCHECKED}"] if names else []), *others]
