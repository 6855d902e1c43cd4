"""The race of the candidates: who takes part, who leaves, and what is said of their speed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgekit.pipeline.race import (
    MAX_CONTENDERS,
    Contender,
    _leave,
    fp32_baseline,
    gain_over,
    is_faster,
    is_slower,
    shortlist,
    speedup,
)


def contender(screening_s: float, precision: str = "int8", rounds: tuple[float, ...] = ()) -> Contender:
    """With so many runs that all take exactly the time given; ``rounds``: a process each."""
    built = cast(Any, SimpleNamespace(candidate=SimpleNamespace(name=precision, precision=precision)))
    runs = [[np.full(30, seconds)] for seconds in rounds]
    return Contender(built, {"threads": 1}, np.full(30, screening_s), runs)


def test_a_slow_moment_in_the_screening_costs_nobody_the_race() -> None:
    fast, unlucky, slow = contender(1.0), contender(1.5), contender(1.7)
    assert shortlist([slow, unlucky, fast]) == [fast, unlucky]


def test_no_more_take_part_than_fit() -> None:
    assert len(shortlist([contender(1.0) for _ in range(20)])) == MAX_CONTENDERS
    assert shortlist([]) == []


def test_the_baseline_is_the_fastest_in_fp32() -> None:
    plain = contender(2.0, "fp32")
    assert fp32_baseline([contender(1.0), contender(3.0, "fp32"), plain]) is plain
    assert fp32_baseline([contender(1.0)]) is None


def test_after_the_first_round_the_slow_leave_and_the_finest_stays() -> None:
    best, close, slow, plain = (
        contender(1.0, rounds=(1.0,)),
        contender(1.0, rounds=(1.29,)),
        contender(1.0, rounds=(1.31,)),
        contender(3.0, "fp32", rounds=(3.0,)),
    )
    assert _leave([slow, best, close, plain], []) == [best, close, plain]
    assert [item.finished for item in (best, close, slow, plain)] == [True, True, False, True]
    assert slow.latency().screening


def test_a_coarse_form_pushes_no_finer_one_out() -> None:
    """Else the pick would be compared with whatever fp32 was lucky in the screening, and bf16 not at all."""
    int8, bf16, plain = contender(1.0), contender(2.0, "bf16"), contender(3.0, "fp32")
    lost = contender(5.0, "fp32")  # another fp32 is much faster
    late = contender(6.0, "int8-dynamic")  # a finer form is faster
    assert shortlist([lost, plain, int8, late, bf16]) == [int8, bf16, plain]
    for item, seconds in ((int8, 1.0), (bf16, 2.0), (plain, 3.0)):
        item.blocks = [[np.full(30, seconds)]]
    assert _leave([int8, bf16, plain], []) == [int8, bf16, plain]


def test_the_best_of_each_fineness_takes_part_however_many_there_are() -> None:
    many, plain = [contender(1.0) for _ in range(20)], contender(9.0, "fp32")
    chosen = shortlist([*many, plain])
    assert len(chosen) == MAX_CONTENDERS and plain in chosen


def test_what_is_kept_beside_stays_whatever_its_time() -> None:
    fast, slow = contender(1.0, "fp32", rounds=(1.0,)), contender(9.0, rounds=(9.0,))
    assert _leave([fast, slow], [slow]) == [fast, slow] and slow.finished


def rounds(contender_: Contender, seconds: list[list[float]]) -> Contender:
    contender_.blocks = [[np.full(30, block) for block in one] for one in seconds]
    return contender_


@pytest.mark.parametrize(
    ("ours", "theirs", "faster"),
    [
        ([[1.0], [1.0], [1.0]], [[1.1], [1.1], [1.1]], True),  # the interval lies above 1
        ([[1.0], [1.0], [1.0]], [[1.0], [1.3], [1.1]], False),
        ([[1.0, 1.0], [1.0, 1.0]], [[5.0, 9.0], [2.0, 1.4]], True),  # wide, but every block of both rounds says so
        ([[1.0, 1.0], [1.0, 1.0]], [[5.0, 9.0], [2.0, 1.2]], False),
        ([[1.0, 1.0]], [[1.2, 1.2]], False),  # one process: its luck may be all
        ([[1.0, 1.0]], [[5.0, 9.0]], True),
    ],
)
def test_what_is_faster_beyond_doubt(ours: list[list[float]], theirs: list[list[float]], faster: bool) -> None:
    assert is_faster(rounds(contender(1.0), ours), rounds(contender(1.0, "fp32"), theirs)) is faster


def test_any_two_can_be_compared_by_the_worse_ends_of_their_intervals() -> None:
    found = gain_over(contender(1.0), contender(2.0, "fp32"))
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_machine_at_half_its_speed_changes_the_medians_and_not_the_ratio() -> None:
    ours, plain = contender(1.0, rounds=(1.0, 2.0, 1.0)), contender(3.0, "fp32", rounds=(3.0, 6.0, 3.0))
    found = ours.latency(plain)
    assert found.speedup is not None
    assert (found.speedup.low, found.speedup.value, found.speedup.high) == pytest.approx((3.0, 3.0, 3.0))
    assert found.p50_s.value == pytest.approx(ours.p50_s) == pytest.approx(2 ** (1 / 3))
    assert found.p50_s.high > 2 * found.p50_s.value


@pytest.mark.parametrize(("ours", "theirs"), [((1.0,), (2.0,)), ((), (2.0, 2.0)), ((1.0, 1.0), ())])
def test_without_two_rounds_together_nothing_is_said(ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    assert speedup(contender(1.0, rounds=ours), contender(2.0, "fp32", rounds=theirs)) is None


def test_the_baseline_is_not_compared_with_itself() -> None:
    plain = contender(2.0, "fp32", rounds=(2.0, 2.0))
    assert plain.latency(plain).speedup is None


@pytest.mark.parametrize(
    ("ours", "slower"),
    [
        (contender(1.0, rounds=(3.0, 3.1, 3.2)), True),  # in every round
        (contender(1.0, rounds=(1.0, 1.1, 1.2)), False),
        (contender(1.0, rounds=(2.1, 1.9, 2.0)), False),  # not distinguishable
        (contender(2.9), True),  # so far behind in the screening that it did not race
        (contender(2.2), False),
    ],
)
def test_what_is_slower_than_fp32_beyond_doubt(ours: Contender, slower: bool) -> None:
    assert is_slower(ours, contender(2.0, "fp32", rounds=(2.0, 2.0, 2.0))) is slower


@pytest.mark.parametrize("rounds", [(10e-6, 15e-6, 15e-6), ()])
def test_what_lies_within_the_steps_of_its_clock_is_not_slower(rounds: tuple[float, ...]) -> None:
    """A page's clock goes in steps of 5 µs: 10 and 15 µs are the same to it, in the race and in the screening."""
    plain, ours = contender(10e-6, "fp32", rounds=(10e-6, 10e-6, 10e-6)), contender(15e-6, rounds=rounds)
    for item in (plain, ours):
        item.in_force = {"clock": 5e-6}
    assert not is_slower(ours, plain)
    if rounds:
        gain = ours.latency(plain).speedup
        assert gain is not None and gain.low < 1 < gain.high
        assert gain.high - gain.value > 0.5  # a step of each


def test_the_baseline_is_not_slower_than_itself() -> None:
    plain = contender(2.0, "fp32", rounds=(2.0, 2.0))
    assert not is_slower(plain, plain)
