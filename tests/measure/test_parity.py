from __future__ import annotations

import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.contracts import Tolerance
from edgekit.measure.parity import OutputParity, Parity, ParityMeter

FINITE = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=5),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
)


def parity(*samples: tuple[object, object]) -> Parity:
    """Parity of one output 'y' over samples of (reference, got)."""
    meter = ParityMeter()
    for want, got in samples:
        meter.add({"y": want}, {"y": got})  # type: ignore[dict-item]
    return meter.result()


@given(FINITE)
def test_equal_is_perfect(array: np.ndarray) -> None:
    found = parity((array, array.copy()))
    assert (found.max_abs, found.rel_l2, found.sqnr_db, found.failures) == (0.0, 0.0, math.inf, ())
    assert found.outputs["y"].n == array.size
    assert found.misses(Tolerance(max_abs=0.0, rel_l2=0.0, sqnr_db=1000.0)) == []


@given(FINITE, st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_matches_the_formulas(array: np.ndarray, size: float, seed: int) -> None:
    want = array.astype(np.float64)
    got = want + size * np.random.default_rng(seed).standard_normal(array.shape)
    found = parity((want, got))
    error = np.linalg.norm((got - want).ravel())
    assert found.max_abs == pytest.approx(np.abs(got - want).max())
    if np.linalg.norm(want.ravel()) > 0 and error > 0:
        assert found.rel_l2 == pytest.approx(error / np.linalg.norm(want.ravel()))
        assert found.sqnr_db == pytest.approx(-20 * math.log10(found.rel_l2))


@given(FINITE, st.integers(1, 4))
def test_streaming_equals_one_piece(array: np.ndarray, pieces: int) -> None:
    flat = array.reshape(-1).astype(np.float64)
    noisy = flat * 1.25 + 1.0
    whole, parts = (
        parity((flat, noisy)),
        parity(*zip(np.array_split(flat, pieces), np.array_split(noisy, pieces), strict=True)),
    )
    assert parts.rel_l2 == pytest.approx(whole.rel_l2)
    assert parts.max_abs == whole.max_abs
    assert parts.outputs["y"].n == whole.outputs["y"].n
    assert (parts.samples, whole.samples) == (pieces, 1)


@given(FINITE, st.floats(0.5, 4))
def test_does_not_depend_on_the_unit(array: np.ndarray, factor: float) -> None:
    want = array.astype(np.float64)
    got = want + 1.0
    assert parity((want * factor, got * factor)).rel_l2 == pytest.approx(parity((want, got)).rel_l2)


def test_sums_are_float64() -> None:
    # In float32, 1e8 + 1 = 1e8, and the second half of the signal would be lost.
    want = np.full(1 << 20, 1.0, np.float32)
    want[0] = 1e4
    found = parity((want, want + np.float32(0.5)))
    assert found.rel_l2 == pytest.approx(math.sqrt(0.25 * (1 << 20) / (1e8 + (1 << 20) - 1)), rel=1e-9)


def test_zero_reference() -> None:
    zero = np.zeros(3, np.float32)
    assert parity((zero, zero)).sqnr_db == math.inf
    wrong = parity((zero, zero + 1))
    assert (wrong.max_abs, wrong.rel_l2, wrong.sqnr_db) == (1.0, math.inf, -math.inf)
    assert wrong.misses(Tolerance(sqnr_db=-100.0)) == ["sqnr_db -inf < -100 (output 'y')"]


def test_overflow_is_a_failure_that_names_output_place_and_sample() -> None:
    want = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = want.copy()
    got[1, 2] = np.inf
    found = parity((want, want), (want, got))
    message = "output 'y' is inf where the reference is 5, at [1, 2] and in 1 of 6 values (sample 1)"
    assert found.failures == (message,)
    assert found.misses(Tolerance(max_abs=1e9)) == [message]
    assert found.misses(Tolerance()) == [message]  # no bound stated: a failure is still one
    assert (found.rel_l2, found.sqnr_db) == (math.inf, -math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_same_non_finite_value_is_equal(value: float) -> None:
    array = np.array([1.0, value], np.float32)
    found = parity((array, array))
    assert found.failures == ()
    assert found.rel_l2 == 0.0


@pytest.mark.parametrize(("want", "got"), [(math.inf, -math.inf), (math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_other_non_finite_values_are_failures(want: float, got: float) -> None:
    assert len(parity((np.array([want], np.float32), np.array([got], np.float32))).failures) == 1


def test_what_cannot_be_compared_is_a_failure() -> None:
    one = np.zeros((2, 3), np.float32)
    assert parity((one, one[:1])).failures == ("output 'y' must be float32 2x3, got float32 1x3 (sample 0)",)
    assert parity((one, one.astype(np.float64))).failures == (
        "output 'y' must be float32 2x3, got float64 2x3 (sample 0)",
    )
    meter = ParityMeter()
    meter.add({"a": one}, {"b": one})
    assert meter.result().failures == (
        "output 'a' is missing: the engine gave b",
        "output 'b' is not in the reference",
    )


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "int4"])
def test_integers_are_compared_exactly(dtype: str) -> None:
    numpy = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "int4" else np.dtype(dtype)
    want = np.zeros(100, np.int8).astype(numpy)
    got = want.copy()
    got[7] = 1
    found = parity((want, got))
    assert found.max_abs == 1.0
    assert found.rel_l2 == pytest.approx(0.1)  # √(1/100)
    assert found.sqnr_db == pytest.approx(20.0)  # 1 % differ
    assert parity((want, want)).sqnr_db == math.inf


def test_large_integers_are_not_rounded() -> None:
    # 2⁵³ and 2⁵³ + 1 are the same float64.
    assert parity((np.array([2**53]), np.array([2**53 + 1]))).max_abs == 1.0


def test_strings_are_compared_exactly_whatever_their_dtype() -> None:
    want = np.array(["cat", "dog"], dtype=object)
    assert parity((want, np.array(["cat", "dog"]))).sqnr_db == math.inf
    assert parity((want, np.array(["cat", "cow"]))).rel_l2 == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats_are_compared_as_numbers(dtype: str) -> None:
    want = np.array([1.0, 2.0]).astype(getattr(ml_dtypes, dtype))
    got = np.array([1.0, 2.5]).astype(getattr(ml_dtypes, dtype))
    assert parity((want, got)).max_abs == 0.5


def test_complex_numbers() -> None:
    assert parity((np.array([3 + 4j]), np.array([3 + 4.5j]))).rel_l2 == pytest.approx(0.1)


def test_sequences_and_optionals() -> None:
    one, two = np.ones(2, np.float32), np.ones(3, np.float32)
    assert parity(([one, two], [one, two])).outputs["y"].n == 5
    assert parity(([one, two], [one])).failures == (
        "output 'y' must be a sequence of 2, got a sequence of 1 (sample 0)",
    )
    assert parity(([one, two], [one, one])).failures == (
        "output 'y' element 1 must be float32 3, got float32 2 (sample 0)",
    )
    assert parity((None, None)).failures == ()
    assert parity((None, one)).failures == ("output 'y' must be none, got float32 2 (sample 0)",)


def test_empty_arrays_are_equal() -> None:
    assert parity((np.zeros((0, 3)), np.zeros((0, 3)))).sqnr_db == math.inf


def test_nothing_compared_never_passes() -> None:
    assert ParityMeter().result().misses(Tolerance()) == ["no samples were compared"]


def test_misses_name_the_output_and_both_numbers() -> None:
    meter = ParityMeter()
    want = np.ones(4, np.float32)
    meter.add({"good": want, "bad": want}, {"good": want, "bad": want + np.float32(0.25)})
    assert meter.result().misses(Tolerance(max_abs=0.1, rel_l2=1e-3, sqnr_db=20.0)) == [
        "max_abs 0.25 > 0.1 (output 'bad')",
        "rel_l2 0.25 > 0.001 (output 'bad')",
        "sqnr_db 12 < 20 (output 'bad')",
    ]
    assert meter.result().rel_l2 == 0.25  # overall: the worst output


def test_nan_never_passes() -> None:
    broken = Parity({"y": OutputParity("y", math.nan, math.nan, math.nan, 1)}, 1)
    assert len(broken.misses(Tolerance(max_abs=1.0, rel_l2=1.0, sqnr_db=1.0))) == 3


def test_json_round_trip() -> None:
    want = np.ones(4, np.float32)
    for found in (parity((want, want)), parity((want, want * 2)), parity((want, want * np.nan))):
        text = json.dumps(found.to_json(), allow_nan=False)  # strict JSON: no Infinity, no NaN
        assert Parity.from_json(json.loads(text)) == found


@given(
    hnp.arrays(np.float64, 6, elements=st.floats(-1e3, 1e3)),
    hnp.arrays(np.float64, 6, elements=st.floats(-1e3, 1e3)),
    st.sampled_from([0.0, 1e-3, 0.1]),
)
def test_atol_is_the_least_with_which_allclose_holds(reference, error, rtol):
    meter = ParityMeter(rtol)
    meter.add({"y": reference}, {"y": reference + error})
    least = meter.result().outputs["y"].atol
    assert np.allclose(reference + error, reference, rtol=rtol, atol=least * (1 + 1e-9) + 1e-9)
    assert least == 0 or not np.allclose(reference + error, reference, rtol=rtol, atol=least * (1 - 1e-6))


def test_an_element_beyond_atol_and_rtol_is_a_miss():
    meter = ParityMeter(rtol=0.1)
    meter.add({"y": np.array([100.0, 0.0])}, {"y": np.array([105.0, 0.5])})
    assert meter.result().misses(Tolerance(atol=0.5, rtol=0.1)) == []
    assert meter.result().misses(Tolerance(atol=0.4, rtol=0.1)) == ["atol 0.5 > 0.4 (output 'y')"]


def test_rtol_alone_is_refused():
    with pytest.raises(ValueError, match="'rtol' needs 'atol'"):
        Tolerance(rtol=0.1)
