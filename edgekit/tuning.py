"""Which combinations of session options a candidate is timed with.

All combinations of five options are too many: each costs opening the model. So the options are varied one at a time, in
the profile's order, and each keeps the value that was the fastest with those found before: 1 + Σ (values − 1) openings
instead of their product. Options interact in one direction mostly (a better convolution shows once launches cost
nothing), so a profile names first what hides the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import plugins
from .candidates import has_option
from .contracts import options_from
from .target import Candidate


@dataclass(frozen=True, slots=True)
class Choices:
    """The session options to begin with, and what else to try."""

    first: dict[str, Any]
    values: Mapping[str, tuple[Any, ...]]  # session option → its values, the one of ``first`` among them


def choices(
    candidate: Candidate,
    threads: int | None,
    cores: Sequence[int],
    operators: Collection[str] = (),
    allow_fallback: Collection[str] = (),
) -> Choices:
    """What a candidate is to be timed with.

    An adapter may say which operators an option is about (``affects``: option → operators): on a graph without any of
    them it changes nothing and is not varied.

    Args:
        candidate: states fixed ``options`` and lists to ``tune``, the value to begin with first.
        threads: fixes the number of threads, or None.
        cores: what "every core" may mean on the device: 0 threads in a profile stands for each of these.
        operators: the operators of the candidate's graph; empty: not known, and every option is varied.
        allow_fallback: operators that may run elsewhere, for an engine that itself refuses to run any there.

    Raises:
        UsageError: the engine does not know an option or a value.
    """
    runtime = plugins.load("runtimes", candidate.runtime)
    tune = {key: tuple(values) for key, values in candidate.tune.items() if key not in candidate.options}
    if threads is not None:
        tune["threads"] = (threads,)
    elif "threads" in tune:
        expanded = [number for value in tune["threads"] for number in ((value,) if value else cores)]
        tune["threads"] = tuple(dict.fromkeys(expanded))
    affects: Mapping[str, Sequence[str]] = getattr(runtime, "affects", {})
    for key in tune:
        if key in affects and operators and not set(affects[key]) & set(operators):
            tune[key] = tune[key][:1]
    fixed = dict(candidate.options)
    if allow_fallback and has_option(candidate.runtime, "fallback"):
        fixed["fallback"] = sorted(allow_fallback)
    first = {**fixed, **{key: values[0] for key, values in tune.items()}}
    for key, values in tune.items():
        for value in values:
            options_from(runtime.Options, {**first, key: value}, f"session options of candidate '{candidate.name}'")
    return Choices(first, tune)


def explore(given: Choices, measure: Callable[[dict[str, Any]], float | None]) -> None:
    """Measure the first combination, then the others one option at a time from the best so far.

    Args:
        given: where to begin and what to try.
        measure: combination → seconds a run, or None where the engine refuses it. Keeps what it finds.
    """
    best, best_s = given.first, measure(dict(given.first))
    for key, values in given.values.items():
        base = best
        for value in values:
            if value == base[key]:
                continue
            options = {**base, key: value}
            taken_s = measure(dict(options))
            if taken_s is not None and (best_s is None or taken_s < best_s):
                best, best_s = options, taken_s
