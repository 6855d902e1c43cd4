"""What an engine is compared with: PyTorch in float32; for an ONNX source, what its evaluators agree on (`agreement`).

It is never the session under test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts import Feeds, Outputs
from ..errors import EngineError, SourceError, UsageError, suggestion
from ..measure.ignore import IgnoreWhere, blank
from ..results import ReferenceReport
from .evaluators import NAMES, open_evaluator

if TYPE_CHECKING:
    from ..sources.source import Source

SMALL_S = 0.05
"""A model that takes longer on one thread keeps PyTorch's own number of threads."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that is right by definition.

    Args:
        name: who computes, with its version, for the manifest: "PyTorch 2.13.0 fp32".
        run: feeds → outputs, fresh arrays.
        report: who else was asked, and who decided; None: by hand.
    """

    name: str
    run: Callable[[Feeds], Outputs]
    report: ReferenceReport | None = None


def reference_for(
    source: Source,
    samples: Sequence[Feeds] | None = None,
    choice: str | None = None,
    ignore: Sequence[IgnoreWhere] = (),
) -> Reference:
    """The reference of a source.

    Args:
        source: the model.
        samples: what the evaluators of an ONNX file are asked; None: its example inputs.
        choice: the evaluator that the user trusts (``--reference``).
        ignore: what nobody reads of its outputs, which is 0 in what the reference answers.

    Raises:
        SourceError: it is an ONNX file that no evaluator can run, or of which no two agree.
        UsageError: ``choice`` is not known, or the source has PyTorch.
    """
    if choice is not None and (choice not in NAMES or source.kind != "onnx"):
        if source.kind != "onnx":
            raise UsageError(f"--reference is for .onnx files, and {source.spec} runs in PyTorch", fix="Leave it out.")
        raise UsageError(f"--reference '{choice}' is not known", fix=suggestion(choice, NAMES))
    if source.kind != "onnx":
        import torch

        name = f"PyTorch {torch.__version__.split('+')[0]} fp32"
        run = _on_fitting_threads(source.forward, source.example)
        return Reference(name, _blanked(run, ignore), ReferenceReport(name, "pytorch"))
    if source.path is None:
        raise SourceError(f"{source.spec} is an ONNX source without a file")
    return onnx_reference(source.path, samples or [source.example], choice, ignore)


def _blanked(run: Callable[[Feeds], Outputs], ignore: Sequence[IgnoreWhere]) -> Callable[[Feeds], Outputs]:
    return (lambda feeds: blank(ignore, feeds, run(feeds))) if ignore else run


def _on_fitting_threads(forward: Callable[[Feeds], Outputs], example: Feeds) -> Callable[[Feeds], Outputs]:
    """``forward`` on one thread where that is faster for this model on this machine now, else as PyTorch is set.

    PyTorch's threads wait for each other without sleeping: beside another busy process a small model is up to forty
    times slower on two threads than on one. The setting is the process', so it is put back after every run.
    """
    import torch

    many = torch.get_num_threads()

    def run_on(threads: int, feeds: Feeds) -> Outputs:
        torch.set_num_threads(threads)
        try:
            return forward(feeds)
        finally:
            torch.set_num_threads(many)

    def seconds_on(threads: int) -> float:
        start = time.perf_counter()
        run_on(threads, example)
        return time.perf_counter() - start

    if seconds_on(1) > SMALL_S:  # this first run also warms up; a large model gains by threads
        return forward
    alone, together = (min(seconds_on(threads) for _ in range(3)) for threads in (1, many))
    return (lambda feeds: run_on(1, feeds)) if alone <= 1.2 * together else forward


def onnx_reference(
    path: Path, samples: Sequence[Feeds], choice: str | None = None, ignore: Sequence[IgnoreWhere] = ()
) -> Reference:
    """The reference for an ONNX file: see `agreement.agreed`.

    Raises:
        SourceError: no evaluator can run it, or they differ and none has a majority.
    """
    from .agreement import agreed

    evaluator, report = agreed(path, samples, choice, ignore)
    return Reference(evaluator.title, _blanked(evaluator.run, ignore), report)


def values_of(path: Path, feeds: Feeds) -> tuple[str, Outputs]:
    """One run of an ONNX file that edgekit wrote, and by whom: ONNX Runtime unoptimised, else ``onnx.reference``.

    Raises:
        SourceError: neither can run it.
    """
    reasons = []
    for name in ("onnxruntime", "onnx.reference"):
        try:
            evaluator = open_evaluator(name, path)
            return evaluator.title, evaluator.run(feeds)
        except EngineError as error:
            reasons.append(f"{name}: {error}")
    raise SourceError(f"{path.name} has no reference to compare with", details=reasons, fix="Check the file.")
