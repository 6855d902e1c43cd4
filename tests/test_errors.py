from __future__ import annotations

import pytest

from edgekit import errors
from edgekit.errors import EdgekitError, UsageError, signal_name, suggestion


def test_what_and_fix_are_one_line() -> None:
    assert str(UsageError("x is wrong", fix="Do y.")) == "x is wrong. Do y."
    assert str(UsageError("x is wrong")) == "x is wrong"


def test_details_are_lines_of_their_own() -> None:
    error = EdgekitError("2 nodes", details=["Erf (a)", "Erf (b)"], fix="Allow it.")
    assert str(error) == "2 nodes:\n  Erf (a)\n  Erf (b)\nAllow it."
    assert str(EdgekitError("2 nodes", details=["Erf (a)"])) == "2 nodes:\n  Erf (a)"


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert signal_name(9) == "SIGKILL" and signal_name(47) == "signal 47"


def test_every_error_has_a_documented_exit_code() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, EdgekitError)]
    assert {item.__name__: item.exit_code for item in classes} == {
        "EdgekitError": 1,
        "UsageError": 2,
        "OutputError": 2,
        "TakenError": 2,
        "SourceError": 3,
        "UnusableSourceError": 3,
        "DataError": 3,
        "ParityError": 4,
        "AccuracyError": 4,
        "PlacementError": 5,
        "EngineError": 6,
        "BundleError": 7,
        "BudgetError": 8,
    }


@pytest.mark.parametrize(
    ("got", "allowed", "text"),
    [
        ("jetsen", ["jetson", "cpu"], "Did you mean 'jetson'?"),
        ("zzz", ["jetson", "cpu"], "Allowed: cpu, jetson."),
        ("zzz", [], "There are none to choose from."),
    ],
)
def test_suggestion(got: str, allowed: list[str], text: str) -> None:
    assert suggestion(got, allowed) == text
