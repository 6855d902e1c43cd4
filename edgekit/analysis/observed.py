"""What the calibration data make of the float graph: each tensor's range, the sample it comes from, and what is odd.

One run over the samples. The engine reduces every float32 tensor to its minimum and maximum, so these are exact; of
its values a regular part of at most 2 × `PART` a sample comes out and is counted by magnitude, in steps of 3.5 %, which
is enough for the 99.9th percentile. Of a sample one number a tensor stays in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..contracts import Feeds
from ..graph import add_initializer, clone, module_path
from ..passes.infer_shapes import InferShapes
from ..quantization.float_session import float_session, run

FEW_SAMPLES = 16
"""Of n samples the next one is beyond the largest with probability 1/(n + 1): over 6 % below this number."""
OUTLIER = 32.0
"""max ÷ p99.9 from which a tensor is told to have outliers: 8 bits over such a range leave 8 steps for the rest. The
same for the largest sample beside the usual one: a sample that is large as a whole is more than a thousandth of all."""
SATURATED = 0.01
"""The share of values that lie exactly at an end of the range, other than 0, from which something clips them."""
PART = 2048
_CLIPPED = 10  # values at an end; of a small tensor one value is a large share
_STEPS_AN_OCTAVE = 20
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -40, 128


@dataclass(frozen=True, slots=True)
class TensorRange:
    """A tensor of the float graph over the calibration samples."""

    tensor: str
    module: str  # of the node that makes it; '' for an input, or where the graph does not tell
    low: float
    high: float
    sample: int  # the one with the largest magnitude: its place in the data, from 0
    p999: float  # the 99.9th percentile of the magnitude
    usual: float  # the median over the samples of each one's largest magnitude
    saturated: float  # share of the values at an end that is not 0
    not_finite: tuple[int, ...] = ()  # samples in which it is infinite or not a number

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def by_value(self) -> float:
        """Max ÷ p99.9; ∞ where all but a thousandth of the values are 0, 1 where all are."""
        return _ratio(self.largest, self.p999)

    @property
    def by_sample(self) -> float:
        """Max ÷ the usual sample's maximum."""
        return _ratio(self.largest, self.usual)

    @property
    def outlier(self) -> float:
        """The larger of both."""
        return max(self.by_value, self.by_sample)

    @property
    def constant(self) -> bool:
        """Whether it has one value throughout."""
        return self.low == self.high

    def __str__(self) -> str:
        where = f"'{self.tensor}' ({self.module})" if self.module else f"'{self.tensor}'"
        rest = f"99.9 % of its values {self.p999:.3g}"
        if self.by_sample > self.by_value:
            rest = f"a usual sample {self.usual:.3g}"
        return f"{where} reaches {self.largest:.3g} in sample {self.sample}, {rest}"


@dataclass(frozen=True, slots=True)
class Observed:
    """The calibration data as the float graph sees them."""

    samples: int
    tensors: tuple[TensorRange, ...] = ()  # inputs first, then in the graph's order
    inputs: frozenset[str] = frozenset()

    @property
    def outliers(self) -> list[TensorRange]:
        """Tensors whose range a few values make, the worst first."""
        return sorted(
            (item for item in self.tensors if item.outlier >= OUTLIER and not item.constant),
            key=lambda item: -item.outlier,
        )

    @property
    def source(self) -> TensorRange | None:
        """The first tensor on the way through the graph that has outliers as large as the worst ones, or None."""
        found = self.outliers
        if not found:
            return None
        limit = min(found[0].outlier, 1e6) / 10
        return next(item for item in self.tensors if item.outlier >= limit and item in found)

    @property
    def constant_inputs(self) -> list[TensorRange]:
        """Inputs with one value throughout: nothing is learned of what they lead to."""
        return [item for item in self.tensors if item.tensor in self.inputs and item.constant]

    @property
    def not_finite(self) -> TensorRange | None:
        """The first tensor that is infinite or not a number in a sample."""
        return next((item for item in self.tensors if item.not_finite), None)

    @property
    def warnings(self) -> list[str]:
        """What makes these data doubtful, a line each."""
        found = []
        if self.samples < FEW_SAMPLES:
            beyond = f"{1 / (self.samples + 1):.0%}".replace("%", " %")
            found.append(f"thin evidence: {beyond} of further samples lie beyond the range of {self.samples}")
        if self.not_finite is not None:
            found.append(f"'{self.not_finite.tensor}' is not finite in sample {self.not_finite.not_finite[0]}")
        found += [f"input '{item.tensor}' is {item.low:g} in every sample" for item in self.constant_inputs]
        if self.source is not None:
            found.append(f"outliers: {self.source}")
        return found

    def to_json(self) -> dict[str, Any]:
        """As in `export --json`."""
        return {
            "warnings": self.warnings,
            "constant": [item.tensor for item in self.tensors if item.constant],
            "saturated": [item.tensor for item in self.tensors if item.saturated >= SATURATED and not item.constant],
            "outliers": [item.tensor for item in self.outliers],
            "tensors": [
                {
                    "tensor": item.tensor,
                    "module": item.module,
                    "low": _finite(item.low),
                    "high": _finite(item.high),
                    "sample": item.sample,
                    "p999": _finite(item.p999),
                    "usual": _finite(item.usual),
                    "max_over_p999": _finite(item.by_value),
                    "saturated": item.saturated,
                    "not_finite_in": list(item.not_finite),
                }
                for item in self.tensors
            ],
        }


def observe(model: ir.Model, samples: Iterable[Feeds], places: Sequence[int], workdir: Path | None = None) -> Observed:
    """Run the float graph over the samples.

    Args:
        model: the float graph; it is left as it was.
        samples: the calibration samples.
        places: each one's place in what the user gave.
        workdir: where a temporary file goes.

    Raises:
        EngineError: ONNX Runtime refuses the graph or a sample.
    """
    probe = InferShapes()(clone(model)).model  # tells which tensors are float32
    made = [value for node in probe.graph for value in node.outputs]
    values = [value for value in (*probe.graph.inputs, *made) if value.name and value.dtype == ir.DataType.FLOAT]
    notes = {value.name: module_path(node) for node in probe.graph for value in node.outputs}
    inputs = frozenset(value.name or "" for value in probe.graph.inputs)
    meters = [_Meter() for _ in values]
    _reduce(probe, values)
    count = 0
    with float_session(probe, workdir) as session:
        for feeds, place in zip(samples, places, strict=False):
            found = run(session, None, feeds)
            for index, meter in enumerate(meters):
                meter.add(place, *found[4 * index : 4 * index + 4])
            count += 1
    ranges = (
        meter.result(value.name or "", notes.get(value.name, "")) for meter, value in zip(meters, values, strict=True)
    )
    return Observed(count, tuple(ranges), inputs)


def _reduce(probe: ir.Model, values: Sequence[ir.Value]) -> None:
    """Make each value's minimum, maximum and a part of its values the only outputs."""
    graph = probe.graph
    graph.outputs.clear()
    constants = {
        name: add_initializer(graph, f"edgekit.{name}", np.array(array, np.int64))
        for name, array in (
            ("flat", [-1]),
            ("zero", [0]),
            ("end", [2**62]),
            ("part", 2 * PART),
            ("two", 2),
            ("one", [1]),
        )
    }
    for value in values:
        low, high = (ir.node(kind, [value], {"keepdims": 0}) for kind in ("ReduceMin", "ReduceMax"))
        flat, size = ir.node("Reshape", [value, constants["flat"]]), ir.node("Size", [value])
        # An odd step of 2·⌊size ÷ 2·PART⌋ + 1: one that shared a factor with a row's length would see few columns.
        chunks = ir.node("Div", [size.outputs[0], constants["part"]])
        even = ir.node("Mul", [chunks.outputs[0], constants["two"]])
        step = ir.node("Add", [even.outputs[0], constants["one"]])
        part = ir.node(
            "Slice",
            [flat.outputs[0], constants["zero"], constants["end"], constants["zero"], step.outputs[0]],
        )
        # The engine's minimum and maximum may pass over NaN.
        nan = ir.node("IsNaN", [value])
        number = ir.node("Cast", [nan.outputs[0]], {"to": ir.DataType.FLOAT.value})
        any_nan = ir.node("ReduceMax", [number.outputs[0]], {"keepdims": 0})
        graph.extend([low, high, flat, size, chunks, even, step, part, nan, number, any_nan])
        for node, kind, shape in ((low, "low", []), (high, "high", []), (part, "part", [None]), (any_nan, "nan", [])):
            output = node.outputs[0]
            output.name = f"{value.name}/edgekit.{kind}"
            output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
            graph.outputs.append(output)


@dataclass(slots=True)
class _Meter:
    """One tensor, sample by sample."""

    low: float = math.inf
    high: float = -math.inf
    largest: float = -1.0
    sample: int = 0
    not_finite: list[int] = field(default_factory=list)
    maxima: list[float] = field(default_factory=list)  # a sample each
    counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((_LARGEST_EXPONENT - _SMALLEST_EXPONENT) * _STEPS_AN_OCTAVE + 1, np.int64)
    )
    ends: dict[float, int] = field(default_factory=dict)  # an end of some sample → values equal to it

    def add(self, sample: int, low: NDArray[Any], high: NDArray[Any], part: NDArray[Any], nan: NDArray[Any]) -> None:
        if not part.size:  # an empty tensor has no range; ONNX Runtime answers ±∞
            return
        bottom, top = float(low), float(high)
        fine = part[np.isfinite(part)]
        if bool(nan) or not (math.isfinite(bottom) and math.isfinite(top)):
            self.not_finite.append(sample)
            if not fine.size:
                return
            bottom, top = float(fine.min()), float(fine.max())
        self.maxima.append(max(abs(bottom), abs(top)))
        if self.maxima[-1] > self.largest:
            self.largest, self.sample = self.maxima[-1], sample
        self.low, self.high = min(self.low, bottom), max(self.high, top)
        magnitudes = np.abs(fine.astype(np.float64))
        exponents = np.log2(np.maximum(magnitudes, 2.0**_SMALLEST_EXPONENT))
        bins = np.ceil((exponents - _SMALLEST_EXPONENT) * _STEPS_AN_OCTAVE).astype(np.int64)
        self.counts += np.bincount(np.minimum(bins, self.counts.size - 1), minlength=self.counts.size)
        for end in {bottom, top} & {self.low, self.high}:
            self.ends[end] = self.ends.get(end, 0) + int(np.count_nonzero(fine == np.float32(end)))
        self.ends = {end: count for end, count in self.ends.items() if end in (self.low, self.high)}

    def result(self, name: str, module: str) -> TensorRange:
        total = int(self.counts.sum())
        low, high = (self.low, self.high) if total else (math.nan, math.nan)
        at_end = max((count for end, count in self.ends.items() if end != 0.0), default=0)
        usual = float(np.median(self.maxima)) if self.maxima else math.nan
        return TensorRange(
            name,
            module,
            low,
            high,
            self.sample,
            self._p999(total),
            usual,
            at_end / max(total, 1),
            tuple(self.not_finite),
        )

    def _p999(self, total: int) -> float:
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), math.ceil(0.999 * total)))
        if place == 0:  # below the first bin's end: as good as zero
            return 0.0
        return float(min(2.0 ** (_SMALLEST_EXPONENT + place / _STEPS_AN_OCTAVE), max(self.largest, 0.0)))


def _ratio(largest: float, of: float) -> float:
    if largest == 0.0 or math.isnan(of):  # nothing in it, or nothing but what is not finite
        return 1.0
    return largest / of if of > 0 else math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
