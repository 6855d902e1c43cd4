"""Which combinations of session options a candidate is timed with.

All combinations of five options are too many: each costs opening the model. So the options are varied one at a time, in
the profile's order, and each keeps the value that was the fastest with those found before; this is repeated from the
best found until a round improves nothing (coordinate descent). A round costs 1 + Σ (values − 1) openings, a second one
only what the first has not tried. A profile names first what hides the others: a better convolution shows once launches
cost nothing. What a single round misses is an option that pays only with a later one: MobileNetV3 wants channels last
with one way of choosing its convolutions and not with the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ..target.toolchain import Toolchain


@dataclass(frozen=True, slots=True)
class Choices:
    """The session options to begin with, and what else to try."""

    first: dict[str, Any]
    values: Mapping[str, tuple[Any, ...]]  # session option → its values, the one of ``first`` among them


def choices(
    toolchain: Toolchain,
    threads: int | None,
    cores: Sequence[int],
    operators: Collection[str] = (),
    allow_fallback: Collection[str] = (),
) -> Choices:
    """What a candidate is to be timed with.

    An adapter may say which operators an option is about (``affects``: option → operators): on a graph without any of
    them it changes nothing and is not varied.

    Args:
        toolchain: of a candidate, which states fixed ``options`` and lists to ``tune``, the value to begin with first.
        threads: fixes the number of threads, or None.
        cores: what "every core" may mean on the device: 0 threads in a profile stands for each of these.
        operators: the operators of the candidate's graph; empty: not known, and every option is varied.
        allow_fallback: operators that may run elsewhere, for an engine that itself refuses to run any there.

    Raises:
        UsageError: the engine does not know an option or a value.
    """
    candidate = toolchain.candidate
    tune = {key: tuple(values) for key, values in candidate.tune.items() if key not in candidate.options}
    if threads is not None:
        tune["threads"] = (threads,)
    elif "threads" in tune:
        expanded = [number for value in tune["threads"] for number in ((value,) if value else cores)]
        tune["threads"] = tuple(dict.fromkeys(expanded))
    affects = toolchain.runtime_facts.affects
    for key in tune:
        if key in affects and operators and not set(affects[key]) & set(operators):
            tune[key] = tune[key][:1]
    fixed = dict(candidate.options)
    if allow_fallback and toolchain.has_option("fallback"):
        fixed["fallback"] = sorted(allow_fallback)
    first = {**fixed, **{key: values[0] for key, values in tune.items()}}
    for key, values in tune.items():
        for value in values:
            toolchain.session_options({**first, key: value})
    return Choices(first, tune)


def explore(given: Choices, measure: Callable[[dict[str, Any]], float | None]) -> None:
    """Measure the first combination, then others one option at a time from the best so far, until none is better.

    No combination is measured twice, so this ends.

    Args:
        given: where to begin and what to try.
        measure: combination → seconds a run, or None where the engine refuses it. Keeps what it finds.
    """
    known: dict[tuple[Any, ...], float | None] = {}
    names = tuple(given.first)

    def seconds(options: dict[str, Any]) -> float:
        key = tuple(options[name] for name in names)
        if key not in known:
            known[key] = measure(dict(options))
        taken_s = known[key]
        return inf if taken_s is None else taken_s

    seconds(given.first)  # also where there is nothing to vary
    best, round_began_with = given.first, None
    while best != round_began_with:
        round_began_with = best
        for key, values in given.values.items():
            best = min(({**best, key: value} for value in (best[key], *values)), key=seconds)
