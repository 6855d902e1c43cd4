from __future__ import annotations

import dataclasses

import pytest

from edgekit.accuracy.rules import DEFAULT_MAX_DROP, accuracy_rules
from edgekit.errors import UsageError
from edgekit.target.load import load_target


@pytest.fixture(scope="module")
def cpu():
    return load_target("cpu")


def test_without_a_metric_the_targets_parity_tolerances_decide(cpu):
    rules = accuracy_rules(cpu, None, None, (), has_labels=False)
    assert rules.max_drop is None
    assert rules.tolerance("int8") == cpu.tolerance["int8"]


def test_with_a_metric_the_drop_has_a_default_and_parity_is_only_a_guard(cpu):
    rules = accuracy_rules(cpu, "top1", None, (), has_labels=True)
    assert rules.max_drop == DEFAULT_MAX_DROP
    assert rules.tolerance("int8") == cpu.tolerance_with_metric["int8"]


def test_a_bound_without_a_precision_loosens_every_precision_that_states_it(cpu):
    rules = accuracy_rules(cpu, None, None, ("sqnr_db=3",), has_labels=False)
    assert rules.tolerance("int8").sqnr_db == rules.tolerance("bf16").sqnr_db == 3
    assert rules.tolerance("fp32") == cpu.tolerance["fp32"]


def test_a_bound_with_a_precision_loosens_that_one_alone(cpu):
    rules = accuracy_rules(cpu, None, None, ("fp32.max_abs=2",), has_labels=False)
    assert rules.tolerance("fp32") == dataclasses.replace(cpu.tolerance["fp32"], max_abs=2)
    assert rules.tolerance("int8") == cpu.tolerance["int8"]


@pytest.mark.parametrize(
    ("loosened", "message"),
    [
        ("sqnr=3", "'sqnr' is not a bound. Did you mean 'sqnr_db'?"),
        ("int9.sqnr_db=3", "no precision 'int9'. Did you mean 'int8'?"),
        ("sqnr_db=low", "'low' is not a number. Write sqnr_db=15."),
    ],
)
def test_a_malformed_tolerance_is_refused_with_the_nearest(cpu, loosened, message):
    with pytest.raises(UsageError, match="--tolerance") as caught:
        accuracy_rules(cpu, None, None, (loosened,), has_labels=False)
    assert message in str(caught.value)


def test_labels_without_a_metric_are_refused(cpu):
    with pytest.raises(UsageError, match="the data have labels but no metric"):
        accuracy_rules(cpu, None, None, (), has_labels=True)


def test_a_drop_without_a_metric_is_refused(cpu):
    with pytest.raises(UsageError, match="--max-drop needs a metric"):
        accuracy_rules(cpu, None, 0.1, (), has_labels=False)


def test_a_negative_drop_is_refused(cpu):
    with pytest.raises(UsageError, match="must be 0 or more, got -1"):
        accuracy_rules(cpu, "top1", -1, (), has_labels=True)


def test_a_precision_without_a_tolerance_is_refused(cpu):
    with pytest.raises(UsageError, match=r"states no tolerance for precision 'fp8'.*\[tolerance.fp8\]"):
        accuracy_rules(cpu, None, None, (), has_labels=False).tolerance("fp8")
