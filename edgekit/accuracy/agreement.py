"""The reference of an ONNX file: evaluators that share no code are asked; where they differ, the first node is named.

`onnx.reference` and unoptimised ONNX Runtime both run a few samples. Where they agree, ONNX Runtime, which is the
cheaper one, runs the rest. Where they differ, or one of them cannot run the file, OpenVINO is asked too, and two of
three decide; or the user does (``--reference``). How fast the machine is decides at most how many samples are asked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..contracts import Feeds, Outputs, Tolerance
from ..errors import EngineError, SourceError, UnusableSourceError
from ..graph import all_graphs
from ..json_output.export import DecidedBy
from ..measure.ignore import IgnoreWhere, blank
from ..measure.parity import Parity, ParityMeter
from ..results import Opinion, ReferenceReport
from .evaluators import Evaluator, TooSlowError, open_evaluator
from .expose import add_outputs
from .walk import Walk

ASKED = 8
"""Samples that both evaluators run, evenly strided: what one of them gets wrong may show on some samples only."""
FIRST_S = 30.0
"""What ``onnx.reference`` may take for the first of them; slower than that, it is not asked."""
MORE_S = 10.0
"""What it may take for all others together."""
SAME = Tolerance(rel_l2=1e-3, part_db=40.0)
"""Two that agree are this close: what the targets ask of a float32 candidate. Float32 sums in another order differ by
1e-7 to 1e-5."""
NOTHING = 1e-6
"""A difference of this and less is none, whatever the outputs' size: a float32 sigmoid or softmax is no finer."""
SAME_QUANTIZED = Tolerance(rel_l2=0.1, part_db=8.0)
"""In a graph that holds quantized values: a sum that lies between two steps is rounded to either."""


@dataclass(slots=True)
class _Asked:
    """An evaluator and its answers to the samples; or why there are none."""

    name: str
    evaluator: Evaluator | None = None
    answers: list[Outputs] = field(default_factory=list)
    why: str = ""
    opened: bool = False  # it took the file, whatever it then said of the samples

    @property
    def title(self) -> str:
        return self.evaluator.title if self.evaluator else self.name

    def blank(self, samples: Sequence[Feeds], ignore: Sequence[IgnoreWhere]) -> None:
        """Forget what nobody reads."""
        self.answers = [blank(ignore, feeds, outputs) for feeds, outputs in zip(samples, self.answers, strict=False)]


def agreed(
    path: Path, samples: Sequence[Feeds], choice: str | None = None, ignore: Sequence[IgnoreWhere] = ()
) -> tuple[Evaluator, ReferenceReport]:
    """The evaluator to compare with, and how it was found.

    Args:
        path: the ``.onnx`` file; external data lies in its folder.
        samples: what they are asked, at least one.
        choice: one of `evaluators.NAMES`: it is taken, and the others are asked for the record alone.
        ignore: what nobody reads of the outputs.

    Raises:
        SourceError: none can run the file, or they differ and none has a majority.
    """
    tolerance = SAME_QUANTIZED if _is_quantized(path) else SAME
    first = _ask("onnx.reference", path, samples)
    count = len(first.answers) or None
    asked = [first, _ask("onnxruntime", path, samples[:count])]
    for item in asked:
        item.blank(samples, ignore)
    if not _agree(asked[0], asked[1], tolerance) or choice == "openvino":
        asked.append(_ask("openvino", path, samples[:count]))
        asked[-1].blank(samples, ignore)
    taken, decided_by = _decide(path, asked, tolerance, choice, samples)
    assert taken.evaluator is not None
    others = [item for item in asked if item is not taken]
    told = tuple(_opinion(taken, item, tolerance) for item in others)
    against = next((item for item, opinion in zip(others, told, strict=True) if opinion.agrees is False), None)
    node = None if against is None else _first_node(path, taken, against, samples, tolerance)
    most = max((len(item.answers) for item in others), default=0)
    return taken.evaluator, ReferenceReport(taken.title, decided_by, most, told, node)


def _ask(name: str, path: Path, samples: Sequence[Feeds]) -> _Asked:
    """Run the samples, as many of them as there is time for."""
    asked, start = _Asked(name), time.perf_counter()
    timed = name == "onnx.reference"
    try:
        asked.evaluator = open_evaluator(name, path, deadline=start + FIRST_S if timed else None)
        asked.opened = True
        asked.answers.append(asked.evaluator.run(samples[0]))
        if not timed:
            asked.answers += [asked.evaluator.run(feeds) for feeds in samples[1:]]
            return asked
        took = time.perf_counter() - start
        asked.evaluator = open_evaluator(name, path)
        for feeds in samples[1 : 1 + int(MORE_S / took)]:
            asked.answers.append(asked.evaluator.run(feeds))
    except TooSlowError:
        asked.evaluator, asked.why = None, f"it takes over {FIRST_S:g} s a sample"
    except EngineError as error:
        asked.evaluator, asked.answers, asked.why = None, [], "; ".join((error.what, *error.details[:1]))
    return asked


def _decide(
    path: Path, asked: list[_Asked], tolerance: Tolerance, choice: str | None, samples: Sequence[Feeds]
) -> tuple[_Asked, DecidedBy]:
    able = [item for item in asked if item.evaluator is not None]
    reasons = [f"{item.title} cannot run it: {item.why}" for item in asked if item.evaluator is None]
    if not able:
        kind = SourceError if any(item.opened for item in asked) else UnusableSourceError
        raise kind(f"{path.name} has no reference to compare with", details=reasons, fix="Check the file.")
    if choice is not None:
        for item in able:
            if item.name == choice:
                return item, "option"
        raise SourceError(f"--reference {choice} cannot run {path.name}", details=reasons)
    if len(able) == 1:
        return able[0], "alone"
    # ONNX Runtime where it is among those that agree: it is the cheapest, and has every operator.
    ranked = sorted(able, key=lambda item: ("onnxruntime", "openvino", "onnx.reference").index(item.name))
    for item in ranked:
        if any(_agree(item, other, tolerance) for other in able if other is not item):
            return item, "agreement" if len(able) == 2 else "majority"
    best, other = ranked[0], ranked[1]
    node = _first_node(path, best, other, samples, tolerance)
    drawn = _random_node(path)
    if drawn is not None:
        raise UnusableSourceError(
            f"{path.name} answers differently each time: {drawn} draws random numbers, so nothing can be compared",
            fix="Make the random values an input of the model, or export it in evaluation mode.",
        )
    raise SourceError(
        f"what {path.name} computes is not known: no two of its evaluators agree",
        details=[
            *(f"{item.title} against {best.title}: {_difference(best, item, tolerance)}" for item in ranked[1:]),
            *reasons,
            *([f"{best.title} and {other.title} differ first at {node}"] if node else []),
        ],
        fix=f"Say which is right: --reference {' or '.join(item.name for item in ranked)}",
    )


def _compare(one: _Asked, other: _Asked) -> Parity:
    """``one`` as the reference, over the samples that both answered."""
    meter = ParityMeter()
    for expected, got in zip(one.answers, other.answers, strict=False):
        meter.add(expected, _in_the_types_of(expected, got))
    return meter.result()


def _in_the_types_of(expected: Outputs, got: Outputs) -> Outputs:
    """`onnx.reference` is free with its dtypes: a float64 stands for a float32."""
    cast = dict(got)
    for name, want in expected.items():
        value = got.get(name)
        if isinstance(want, np.ndarray) and isinstance(value, np.ndarray) and value.dtype.kind == want.dtype.kind:
            cast[name] = value.astype(want.dtype)
    return cast


def _missed(expected: Outputs, got: Outputs, tolerance: Tolerance) -> tuple[str, ...]:
    """The outputs of one sample that differ."""
    meter = ParityMeter()
    meter.add(expected, _in_the_types_of(expected, got))
    outputs = meter.result().outputs
    return tuple(name for name, row in outputs.items() if _misses(Parity({name: row}, 1), tolerance))


def _misses(parity: Parity, tolerance: Tolerance) -> list[str]:
    return [] if parity.max_abs <= NOTHING and not parity.failures else parity.misses(tolerance)


def _agree(one: _Asked, other: _Asked, tolerance: Tolerance) -> bool:
    return bool(one.answers and other.answers) and not _misses(_compare(one, other), tolerance)


def _difference(one: _Asked, other: _Asked, tolerance: Tolerance) -> str:
    return "; ".join(_misses(_compare(one, other), tolerance)[:2])


def _opinion(taken: _Asked, other: _Asked, tolerance: Tolerance) -> Opinion:
    if other.evaluator is None:
        return Opinion(other.title, None, None, other.why)
    missed = _difference(taken, other, tolerance)
    return Opinion(other.title, _compare(taken, other).sqnr_db, not missed, missed)


def _first_node(path: Path, one: _Asked, other: _Asked, samples: Sequence[Feeds], tolerance: Tolerance) -> str | None:
    """The first node at which two evaluators differ, on the first sample for which their outputs do.

    Its inputs are alike and its outputs are not; and the difference lives on, node by node, up to an output. None where
    that cannot be looked into: an evaluator does not run the graph with every value among its outputs.
    """
    found_at = next(
        (
            (feeds, missed)
            for feeds, expected, got in zip(samples, one.answers, other.answers, strict=False)
            if (missed := _missed(expected, got, tolerance))
        ),
        None,
    )
    if found_at is None:
        return None
    feeds, missed = found_at
    model = ir.load(path)
    names = [value.name for node in model.graph for value in node.outputs if value.name]
    with tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True) as folder:
        found = add_outputs(model, set(names))
        exposed = Path(folder) / "exposed.onnx"
        ir.save(model, exposed, external_data="exposed.onnx.data")
        try:
            wanted, seen = (open_evaluator(item.name, exposed).run(feeds) for item in (one, other))
        except EngineError:
            return None
    errors = {name: _error(wanted[at], seen[at]) for name, at in found.items() if at in wanted and at in seen}
    limit = tolerance.rel_l2 or 0.0
    where = Walk(model.graph, one.title, limit, missed).first(errors)
    return None if where is None else f"{where.op_type} '{where.node or where.tensor}'"


def _error(want: Any, got: Any) -> float:
    """rel_l2 of one value; of what is no tensor 0: what is in it is compared where it is made."""
    if not isinstance(want, np.ndarray) or not isinstance(got, np.ndarray):
        return 0.0
    meter = ParityMeter()
    meter.add({"": want}, _in_the_types_of({"": want}, {"": got}))
    return meter.result().rel_l2


def _random_node(path: Path) -> str | None:
    """The first node that draws numbers at every run."""
    for graph in all_graphs(ir.load(path)):
        for node in graph:
            trains = node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None
            if node.op_type in _RANDOM or trains:
                return f"{node.op_type} '{node.name or node.outputs[0].name}'"
    return None


_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


def _is_quantized(path: Path) -> bool:
    """Whether any operator rounds to integers: its name says so."""
    return any(
        any(word in node.op_type for word in ("Quantize", "QLinear", "Integer", "MatMulNBits"))
        for graph in all_graphs(ir.load(path))
        for node in graph
    )
