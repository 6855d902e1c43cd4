from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.contracts import Tolerance
from edgekit.measure.parity import OutputParity, Parity, ParityMeter
from edgekit.measure.parts import Part

Array = NDArray[np.float32]


def compare(want: list[Array], got: list[Array]) -> OutputParity:
    meter = ParityMeter()
    for one, other in zip(want, got, strict=True):
        meter.add({"y": one}, {"y": other.astype(one.dtype)})
    return meter.result().outputs["y"]


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def detector(samples: int = 8, anchors: int = 64, classes: int = 4) -> list[Array]:
    """Boxes in pixels beside scores in 0 to 1: [1, 4 + classes, anchors]."""
    generator = np.random.default_rng(1)
    boxes = generator.uniform(0, 640, (samples, 1, 4, anchors))
    scores = generator.beta(0.2, 1.0, (samples, 1, classes, anchors))
    return list(np.concatenate([boxes, scores], 2).astype(np.float32))


def test_scores_that_are_gone_beside_boxes_that_are_right() -> None:
    want = detector()
    got = [item.copy() for item in want]
    for item in got:
        item[:, 4:] = 0.1
    found = compare(want, got)
    assert found.sqnr_db > 50
    assert found.part is not None and found.part.index == "[:, 4:8, ...]" and found.part.sqnr_db < 1
    (miss,) = found.misses(Tolerance(sqnr_db=20.0, part_db=8.0))
    assert miss.startswith("output 'y' [:, 4:8, ...]: ") and miss.endswith(" dB), needs 8 dB")
    assert found.misses(Tolerance(sqnr_db=20.0)) == []


@pytest.mark.parametrize("layout", ["columns first", "columns last"])
def test_the_axis_with_a_meaning_is_found(layout: str) -> None:
    want = [item if layout == "columns first" else item.transpose(0, 2, 1) for item in detector(classes=20)]
    got = [item.copy() for item in want]
    for item in got:
        item[(slice(None), slice(4, None)) if layout == "columns first" else (..., slice(4, None))] = 0.1
    part = compare(want, got).part
    assert part is not None
    assert part.index == ("[:, 4:24, ...]" if layout == "columns first" else "[:, :, 4:24]")


def test_an_offset_does_not_hide_the_signal() -> None:
    want = [np.array([[101325 + 400 * x]], np.float32) for x in random(100)]
    found = compare(want, [np.full((1, 1), 101325, np.float32)] * 100)
    assert found.sqnr_db > 45
    assert found.part is not None and found.part.sqnr_db == pytest.approx(0, abs=0.5)
    assert found.part.index == ""
    assert "against what varies" in found.told()


@settings(deadline=None)
@given(st.floats(0.01, 0.3), st.integers(0, 2**32 - 1))
def test_even_noise_is_the_same_for_the_worst_part_and_the_whole(size: float, seed: int) -> None:
    # One unit, centred, many values: then both are the same ratio.
    want = list(random(16, 1, 10, 20, seed=seed))
    got = [one + size * other for one, other in zip(want, random(16, 1, 10, 20, seed=seed ^ 1), strict=True)]
    found = compare(want, got)
    assert found.part is not None
    assert found.part.sqnr_db == pytest.approx(-20 * math.log10(size), abs=4)  # the worst of 20 parts of 160 values
    assert found.part.sqnr_db <= found.sqnr_db + 0.1


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_it_does_not_depend_on_the_unit(factor: float, seed: int) -> None:
    want = [item * 3 - 1 for item in random(12, 1, 6, 5, seed=seed)]
    got = [one + 0.1 * other for one, other in zip(want, random(12, 1, 6, 5, seed=seed ^ 1), strict=True)]
    plain = compare(want, got).part
    scaled = compare([x * np.float32(factor) for x in want], [x * np.float32(factor) for x in got]).part
    assert plain is not None and scaled is not None
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db, abs=0.05)


def test_streamed_in_other_samples_it_is_the_same() -> None:
    want, noise = random(24, 3, 7), random(24, 3, 7, seed=1)
    one = compare([want], [want + 0.1 * noise]).part
    many = compare(list(want[:, None]), list((want + 0.1 * noise)[:, None])).part
    assert one is not None and many is not None
    assert many.sqnr_db == pytest.approx(one.sqnr_db, abs=1.0)


def test_a_class_that_no_sample_shows_is_not_held_to_its_own_digits() -> None:
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.beta(0.3, 1, (32, 1, 9)), generator.uniform(0, 2e-5, (32, 1, 1))], 2)
    want = list(scores.astype(np.float32))
    got = [np.round(item * 255) / 255 for item in want]  # 8 bits over 0 to 1: the rare class is 0
    part = compare(want, got).part
    assert part is not None and part.sqnr_db > 30


def test_a_mass_fraction_is_no_probability() -> None:
    want = [np.array([[290 + 10 * a, 0.005 + 0.001 * b]], np.float32) for a, b in random(64, 2)]
    got = [np.array([[item[0, 0], 0.005]], np.float32) for item in want]
    part = compare(want, got).part
    assert part is not None and part.index == "[:, 1]" and part.sqnr_db < 1


def test_a_constant_part_is_held_against_its_own_size() -> None:
    want = [np.concatenate([item, np.full((1, 1), 7, np.float32)], 1) for item in random(64, 1, 3)]
    near, far = ([np.concatenate([w[:, :3], w[:, 3:] + error], 1) for w in want] for error in (0.01, 3.0))
    fine, bad = compare(want, near).part, compare(want, far).part
    assert fine is not None and fine.sqnr_db == pytest.approx(20 * math.log10(700), abs=1.0)
    assert bad is not None and bad.sqnr_db < 10


def test_the_rounding_of_float32_does_not_count() -> None:
    want = [np.array([[1e5 + x]], np.float32) for x in random(64)]
    got = [np.nextafter(item, np.float32(np.inf)) for item in want]
    part = compare(want, got).part
    assert part is not None and part.sqnr_db == math.inf


@pytest.mark.parametrize("samples", [1, 3])
def test_few_values_are_not_told_apart(samples: int) -> None:
    want = list(random(samples, 1, 2))
    assert compare(want, [item + 1 for item in want]).part is None


def test_lengths_that_change_leave_the_other_axis() -> None:
    want = [random(1, length, 4, seed=length) * np.array([100, 1, 1, 1], np.float32) for length in range(3, 20)]
    got = [item.copy() for item in want]
    for item in got:
        item[..., 2] = 0
    part = compare(want, got).part
    assert part is not None and part.index == "[:, :, 2]"


def test_equal_infinities_do_not_count() -> None:
    want = list(random(16, 1, 4, 8))
    for item in want:
        item[0, 0, 0] = np.inf
    found = compare(want, [item.copy() for item in want])
    assert found.part == Part("", math.inf) and found.failure is None


def test_a_position_that_is_blank_is_no_part() -> None:
    # A text detector's map: most rows hold nothing but 1e-4.
    want = []
    for index in range(12):
        item = np.full((1, 1, 40, 40), 1e-4, np.float32)
        item[:, :, 10 + index : 14 + index, 8:30] = 0.9
        want.append(item)
    got = [item + np.float32(0.02) * noise for item, noise in zip(want, random(12, 1, 1, 40, 40), strict=True)]
    part = compare(want, got).part
    assert part is not None and part.sqnr_db > 15


@settings(deadline=None)
@given(st.integers(0, 100))
def test_integers_are_told_as_a_share(differing: int) -> None:
    want = np.zeros((1, 10_000), np.int64)
    got = want.copy()
    got[0, :differing] = 1
    found = compare([want], [got])
    assert found.differ == differing / 10_000 and found.part is None
    assert bool(found.misses(Tolerance(rel_l2=1e-3))) == (differing > 1)  # a tie in ten thousand may fall either way
    assert found.misses(Tolerance(sqnr_db=20.0)) == []  # 1 %
    assert bool(found.misses(Tolerance(sqnr_db=60.0))) == (differing > 10)  # 10^(-60/20): 0.1 %
    if differing > 10:
        (miss,) = found.misses(Tolerance(sqnr_db=60.0))
        assert miss == f"{differing / 100:.3g} % of the values of output 'y' differ, at most 0.1 % may"


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_a_rare_class_that_is_gone(dtype: type) -> None:
    want = np.zeros((1, 100, 100), dtype)
    want[0, :7, :7] = 1  # 0.5 % of the pixels
    found = compare([want], [np.zeros_like(want)])
    assert found.lost == (1, 1.0)
    assert found.misses(Tolerance(sqnr_db=20.0)) == ["100 % of what is 1 in output 'y' is gone"]
    edges = want.copy()
    edges[0, :7, 0] = 0
    assert compare([want], [edges]).misses(Tolerance(sqnr_db=20.0)) == []


def test_indices_are_no_classes() -> None:
    want = [np.arange(300)[None] for _ in range(40)]
    got = [item.copy() for item in want]
    for item in got:
        item[0, 3] = 4
    assert compare(want, got).lost is None


def test_json_and_back() -> None:
    meter = ParityMeter()
    for one, other in zip(detector(), detector(), strict=True):
        meter.add({"y": one, "i": np.arange(3)}, {"y": other + 1, "i": np.arange(3)})
    parity = meter.result()
    assert Parity.from_json(parity.to_json()) == parity
    assert parity.worst is not None and parity.worst.name == "y" and parity.part_db < parity.sqnr_db


def test_what_a_self_test_says() -> None:
    def told(want: np.ndarray, got: np.ndarray) -> str:
        meter = ParityMeter()
        meter.add({"y": want}, {"y": got})
        return meter.result().told()

    large, whole = random(1, 4, 100) + 1e3, np.arange(100)[None]
    assert told(large, large) == "all equal"
    assert told(large[0, 0, :3], large[0, 0, :3] + 1).startswith("SQNR 60.")  # too few to tell parts apart
    assert told(large, np.nextafter(large, np.float32(np.inf))).count("dB") == 1  # rounding alone: no part is worse
    assert re.fullmatch(r"SQNR [\d.]+ dB, worst part [\d.]+ dB", told(large, large + random(1, 4, 100, seed=1) / 10))
    assert told(whole, np.where(whole == 3, 4, whole)) == "1 % of the integers differ"
