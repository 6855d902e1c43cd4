"""What a person writes about the sizes of free dimensions: ``--range DIM=MIN..OPT..MAX``."""

from __future__ import annotations

import pytest

from edgekit.errors import UsageError
from edgekit.sources.flags import parse_ranges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch=1..8..32", (1, 8, 32)),
        ("batch=2..64", (2, 4, 64)),
        ("batch=8..64", (8, 8, 64)),
        ("batch=1..2", (1, 2, 2)),
    ],
)
def test_a_range_without_a_usual_size_is_tuned_for_the_examples(text: str, expected: tuple[int, int, int]) -> None:
    assert parse_ranges([text], {"batch": 4}) == {"batch": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch", r"--range 'batch' does not have the form DIM=MIN\.\.OPT\.\.MAX"),
        ("batch=1", "does not have the form"),
        ("batch=a..b", "does not have the form"),
        ("bach=1..2", r"'bach' is not a free dimension of the model\. Did you mean 'batch'"),
        ("batch=0..2", r"1 <= MIN <= OPT <= MAX must hold, got 0"),
        ("batch=4..2..8", "must hold, got 4, 2, 8"),
    ],
)
def test_a_range_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_ranges([text], {"batch": 4})


def test_a_range_of_a_model_without_free_dimensions() -> None:
    with pytest.raises(UsageError, match="The model has none: name one with --dynamic"):
        parse_ranges(["batch=1..2"], {})
