"""How far an engine's outputs are from the reference, streamed over samples.

With r the reference, y the engine's answer, and sums over every element of every sample, accumulated in float64:

    max_abs = max |y − r|
    rel_l2  = √( Σ (y − r)² / Σ r² )
    sqnr_db = 10 · log10( Σ r² / Σ (y − r)² )
    atol    = max( |y − r| − rtol·|r| ), 0 if that is negative: the least atol with which numpy.allclose holds

A reference of zeros has rel_l2 0 and sqnr_db ∞ where the answer is equal, rel_l2 ∞ and sqnr_db −∞ where it is not.
Errors that float32 cannot resolve (`resolution`) are in none of the ratios, only in max_abs and atol.

A ratio over everything does not see a small part beside a large one: part_db is that of the worst part (`parts`).

Integers, booleans and strings are compared exactly: an element that differs counts as an error of 1 on a signal of 1.
So with f the fraction that differs: max_abs is 1 if any differs, rel_l2 = √f, sqnr_db = −10·log10(f); 20 dB allows 1 %.
Two scores that are nearly equal change places, and how many do is in proportion to the error, not to its power: a
bound of more than 20 dB allows f = 10^(−dB/20), at most 1 %, and no bound asks for fewer than `TIES`.

NaN equals NaN and an infinity equals itself; such elements add nothing to the sums. Where only one of the two is finite
(an fp16 overflow), or shape, dtype or the set of outputs differ, the comparison has failed, whatever the tolerance.

Device floor: the standard library and numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Array, Outputs, Tolerance, describe
from .parts import Part, PartSums
from .resolution import least_error
from .values import GONE, ValueCounts

TIES = 1e-4
"""The share of integers that may differ whatever the bound."""


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output against its reference, over all samples."""

    name: str
    max_abs: float
    rel_l2: float
    sqnr_db: float
    n: int  # elements compared
    atol: float = 0.0
    failure: str | None = None  # the first thing that no tolerance excuses
    part: Part | None = None  # its worst; None: not told apart (too few values, integers)
    differ: float | None = None  # of integers, booleans and strings: the share that is not equal; None: of numbers
    lost: tuple[int, float] | None = None  # of those, the value lost most, and how much of it; see `values`

    def misses(self, tolerance: Tolerance) -> list[str]:
        """Every stated bound that does not hold, as `Parity.misses` has it."""
        if self.failure:
            return [self.failure]
        if self.differ is not None:
            most = max(TIES, *_shares(tolerance)) if _shares(tolerance) else 1.0
            found = [] if self.differ <= most else [f"{self.told()}, at most {_percent(most)} may"]
            if self.lost is not None and self.lost[1] > GONE and most < 1.0:
                value, share = self.lost
                found.append(f"{_percent(share)} of what is {value} in output '{self.name}' is gone")
            return found
        found = []
        for bound, at_least in (("max_abs", False), ("rel_l2", False), ("sqnr_db", True), ("atol", False)):
            limit, value = getattr(tolerance, bound), getattr(self, bound)
            # Written so that NaN, which compares false with everything, is a miss.
            if limit is not None and not (value >= limit if at_least else value <= limit):
                sign = "<" if at_least else ">"
                found.append(f"{bound} {value:.3g} {sign} {limit:g} (output '{self.name}')")
        if self.part is not None and tolerance.part_db is not None and not self.part.sqnr_db >= tolerance.part_db:
            found.append(f"{self.told()}, needs {tolerance.part_db:g} dB")
        return found

    def told(self) -> str:
        """``output 'output' [:, 4:8]: −1.0 dB (whole: 29.1 dB)``, or how many of its integers differ."""
        if self.differ is not None:
            return f"{_percent(self.differ)} of the values of output '{self.name}' differ"
        if self.part is None:
            return f"output '{self.name}': {_decibels(self.sqnr_db)}"
        place = f" {self.part.index}" if self.part.index else " against what varies"
        return f"output '{self.name}'{place}: {_decibels(self.part.sqnr_db)} (whole: {_decibels(self.sqnr_db)})"


@dataclass(frozen=True, slots=True)
class Parity:
    """All outputs against their references. The overall figures are those of the worst output."""

    outputs: Mapping[str, OutputParity]  # by name
    samples: int

    @property
    def max_abs(self) -> float:
        """The largest of any output; 0 where nothing was compared."""
        return max((item.max_abs for item in self.outputs.values()), default=0.0)

    @property
    def rel_l2(self) -> float:
        """The largest of any output; 0 where nothing was compared."""
        return max((item.rel_l2 for item in self.outputs.values()), default=0.0)

    @property
    def sqnr_db(self) -> float:
        """The lowest of any output; ∞ where nothing was compared."""
        return min((item.sqnr_db for item in self.outputs.values()), default=math.inf)

    @property
    def worst(self) -> OutputParity | None:
        """The output with the worst part; of those that are not told apart, the one of the lowest ratio."""
        numeric = list(self.outputs.values())
        return min(numeric, key=lambda item: (_part_db(item), item.sqnr_db), default=None)

    @property
    def part_db(self) -> float:
        """The worst part of any output; where an output's parts are not told apart, of all of it."""
        return min((_part_db(item) for item in self.outputs.values()), default=math.inf)

    def told(self) -> str:
        """``SQNR 29.1 dB, worst part 8.1 dB``; ``all equal`` or ``equal within 1e-07``; how many integers differ."""
        if self.outputs and all(item.n == 0 and not item.failure for item in self.outputs.values()):
            return "every output empty: nothing was compared"
        if all(item.max_abs == 0.0 for item in self.outputs.values()):
            return "all equal"
        shares = [item.differ for item in self.outputs.values() if item.differ is not None]
        if len(shares) == len(self.outputs):
            return f"{_percent(max(shares))} of the integers differ"
        parts = [item.part.sqnr_db for item in self.outputs.values() if item.part is not None]
        if min([self.sqnr_db, *parts]) == math.inf:
            return f"equal within {self.max_abs:.2g}"
        worst = min(parts, default=math.inf)  # ∞: within float32's own rounding
        return f"SQNR {_decibels(self.sqnr_db)}" + (f", worst part {_decibels(worst)}" if worst < math.inf else "")

    @property
    def failures(self) -> tuple[str, ...]:
        """What no tolerance excuses, one line an output."""
        return tuple(item.failure for item in self.outputs.values() if item.failure)

    def misses(self, tolerance: Tolerance) -> list[str]:
        """Every failure and every stated bound that does not hold: ``"sqnr_db 12.3 < 20 (output 'logits')"``.

        Nothing compared is a miss too: parity of no samples proves nothing.
        """
        if not self.samples:
            return ["no samples were compared"]
        return [line for item in self.outputs.values() for line in item.misses(tolerance)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. Infinities and NaN, which JSON has not, are the strings "inf", "-inf" and "nan"."""
        return {
            "max_abs": _to_json(self.max_abs),
            "rel_l2": _to_json(self.rel_l2),
            "sqnr_db": _to_json(self.sqnr_db),
            "part_db": _to_json(self.part_db),
            "samples": self.samples,
            "outputs": [
                {
                    "name": item.name,
                    "max_abs": _to_json(item.max_abs),
                    "rel_l2": _to_json(item.rel_l2),
                    "sqnr_db": _to_json(item.sqnr_db),
                    "n": item.n,
                    "atol": _to_json(item.atol),
                    "failure": item.failure,
                    "part": item.part and {"index": item.part.index, "sqnr_db": _to_json(item.part.sqnr_db)},
                    "differ": item.differ,
                    "lost": list(item.lost) if item.lost else None,
                }
                for item in self.outputs.values()
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Parity:
        """What `to_json` wrote."""
        return cls(
            outputs={
                item["name"]: OutputParity(
                    name=str(item["name"]),
                    max_abs=float(item["max_abs"]),
                    rel_l2=float(item["rel_l2"]),
                    sqnr_db=float(item["sqnr_db"]),
                    n=int(item["n"]),
                    atol=float(item["atol"]),
                    failure=item["failure"],
                    part=item.get("part") and Part(str(item["part"]["index"]), float(item["part"]["sqnr_db"])),
                    differ=item.get("differ"),
                    lost=(int(item["lost"][0]), float(item["lost"][1])) if item.get("lost") else None,
                )
                for item in value["outputs"]
            },
            samples=int(value["samples"]),
        )


class ParityMeter:
    """Adds up samples; memory does not grow with their number.

    Args:
        rtol: the part of an element's error that is in proportion to the element, for the bound ``atol``.
    """

    def __init__(self, rtol: float = 0.0) -> None:
        self._rtol = rtol
        self._sums: dict[str, _Sums] = {}
        self._samples = 0

    def add(self, reference: Outputs, got: Outputs) -> None:
        """Compare one sample. A value that is a list (an ONNX sequence) is compared element by element."""
        for name, want in reference.items():
            sums = self._sums.setdefault(name, _Sums(self._rtol))
            if name in got:
                for problem in _compare(sums, want, got[name]):
                    sums.fail(f"output '{name}' {problem} (sample {self._samples})")
            else:
                sums.fail(f"output '{name}' is missing: the engine gave {', '.join(got) or 'nothing'}")
        for name in got:
            if name not in reference:
                self._sums.setdefault(name, _Sums(self._rtol)).fail(f"output '{name}' is not in the reference")
        self._samples += 1

    def result(self) -> Parity:
        """Everything added so far."""
        return Parity({name: sums.result(name) for name, sums in self._sums.items()}, self._samples)


@dataclass(slots=True)
class _Sums:
    """The running sums of one output."""

    rtol: float
    signal: float = 0.0  # Σ r²
    noise: float = 0.0  # Σ (y − r)²
    max_abs: float = 0.0
    atol: float = 0.0
    n: int = 0
    failure: str | None = None
    parts: PartSums = field(default_factory=PartSums)
    values: ValueCounts = field(default_factory=ValueCounts)
    exact: int = 0  # integers, booleans and strings compared, of ``n``

    def fail(self, why: str) -> None:
        self.failure = self.failure or why

    def result(self, name: str) -> OutputParity:
        if self.failure:
            return OutputParity(name, math.inf, math.inf, -math.inf, self.n, math.inf, self.failure)
        part = self.parts.worst() if self.exact == 0 else None
        differ = self.noise / self.exact if self.exact and self.exact == self.n else None
        resolved = self.parts.whole_noise() if self.exact == 0 and self.noise else None
        noise = self.noise if resolved is None else resolved
        if noise == 0.0:
            rel_l2, sqnr_db = 0.0, math.inf
        elif self.signal == 0.0:
            rel_l2, sqnr_db = math.inf, -math.inf
        else:
            # Logarithms apart: the quotient of two float64 may overflow where their difference in dB does not.
            sqnr_db = 10.0 * (math.log10(self.signal) - math.log10(noise))
            rel_l2 = math.sqrt(noise) / math.sqrt(self.signal)
        lost = None if differ is None else self.values.worst()
        return OutputParity(name, self.max_abs, rel_l2, sqnr_db, self.n, self.atol, None, part, differ, lost)


def _compare(sums: _Sums, want: Any, got: Any) -> Iterator[str]:
    """Add one value to ``sums``; yield what no tolerance excuses."""
    if isinstance(want, (list, tuple)) or isinstance(got, (list, tuple)):
        if not (isinstance(want, (list, tuple)) and isinstance(got, (list, tuple))) or len(want) != len(got):
            yield f"must be {_kind(want)}, got {_kind(got)}"
            return
        for i, (one, other) in enumerate(zip(want, got, strict=True)):
            yield from (f"element {i} {problem}" for problem in _compare(sums, one, other))
    elif want is None or got is None:
        if want is not got:
            yield f"must be {_kind(want)}, got {_kind(got)}"
    else:
        yield from _compare_arrays(sums, np.asarray(want), np.asarray(got))


def _compare_arrays(sums: _Sums, want: Array, got: Array) -> Iterator[str]:
    same_dtype = want.dtype == got.dtype or (_is_string(want) and _is_string(got))
    if want.shape != got.shape or not same_dtype:
        yield f"must be {describe(want)}, got {describe(got)}"
        return
    sums.n += want.size
    if _is_exact(want):
        differ = int(np.count_nonzero(want != got))
        sums.exact += want.size
        if want.dtype.kind in "biu":
            sums.values.add(want, got)
        sums.signal += want.size
        sums.noise += differ
        sums.max_abs = max(sums.max_abs, float(differ > 0))
        sums.atol = sums.max_abs
        return
    reference, answer = _as_float64(want), _as_float64(got)
    with np.errstate(all="ignore"):
        finite = np.isfinite(reference) & np.isfinite(answer)
        error = answer - reference
        if not finite.all():
            unequal = ~finite & (reference != answer) & ~(np.isnan(reference) & np.isnan(answer))
            if unequal.any():
                yield _non_finite(reference, answer, unequal)
        counted = np.where(np.abs(error) <= least_error(want.dtype), 0.0, error)
        sums.parts.add(reference, answer, counted, finite)
        if not finite.all():
            reference, error, counted = reference[finite], error[finite], counted[finite]
        sums.signal += float(np.dot(reference.ravel(), reference.ravel()))
        sums.noise += float(np.dot(counted.ravel(), counted.ravel()))
        sums.max_abs = max(sums.max_abs, float(np.max(np.abs(error), initial=0.0)))
        beyond = np.abs(error) - sums.rtol * np.abs(reference)
        sums.atol = max(sums.atol, float(np.max(beyond, initial=0.0)))


def _non_finite(reference: NDArray[np.float64], answer: NDArray[np.float64], unequal: NDArray[np.bool_]) -> str:
    at = np.unravel_index(int(np.argmax(unequal)), unequal.shape)
    return (
        f"is {answer[at]:g} where the reference is {reference[at]:g}, at {[int(i) for i in at]} and in "
        f"{int(np.count_nonzero(unequal))} of {unequal.size} values"
    )


def _is_string(array: Array) -> bool:
    return array.dtype.kind in "OUST"


def _is_exact(array: Array) -> bool:
    """Whether a dtype is compared exactly; ml_dtypes' small integers have numpy's kind "V", so the name decides."""
    return _is_string(array) or array.dtype.name.startswith(("int", "uint", "bool"))


def _as_float64(array: Array) -> NDArray[np.float64]:
    """Values as float64; a complex array [...] becomes its parts [..., 2]."""
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], axis=-1).astype(np.float64)
    return array.astype(np.float64)


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return f"a sequence of {len(value)}"
    return describe(value)


def _to_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _part_db(item: OutputParity) -> float:
    return item.sqnr_db if item.part is None else item.part.sqnr_db


def _shares(tolerance: Tolerance) -> list[float]:
    """What the stated bounds allow to differ, each as a share."""
    bounds = []
    if tolerance.sqnr_db is not None:
        bounds.append(max(10.0 ** (-tolerance.sqnr_db / 10.0), min(10.0 ** (-tolerance.sqnr_db / 20.0), 0.01)))
    bounds += [] if tolerance.rel_l2 is None else [tolerance.rel_l2**2]
    bounds += [] if tolerance.max_abs is None else [0.0 if tolerance.max_abs < 1 else 1.0]
    return bounds


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else f"{value:g} dB"
