from __future__ import annotations

import click
import pytest

from edgekit.cli.quantities import duration, share


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("30 min", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("50ms", 0.05),
        (2.5, 2.5),
    ],
)
def test_times(text: str | float, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "10x", "m", "1h 30", "5s!", "-5s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a time\. Allowed: 90, 90s, 30m, 1h30m, 50ms\."):
        duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "-1", "nan", "inf"])
def test_a_time_is_more_than_nothing(text: str) -> None:
    with pytest.raises(click.BadParameter, match="a time must be more than 0, got"):
        duration(text)


@pytest.mark.parametrize(("text", "value"), [("2%", 0.02), ("0.5 %", 0.005), ("0.02", 0.02), (0.1, 0.1)])
def test_shares(text: str | float, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("much", "is not a share"), ("2", "must lie between 0% and 100%"), ("0%", "must lie"), ("nan", "must lie")],
)
def test_what_is_no_share(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        share(text)
