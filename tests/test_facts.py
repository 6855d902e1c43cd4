"""What plug-ins state of themselves: every installed one's, and mistakes in it."""

from __future__ import annotations

import pytest

from edgekit import plugins
from edgekit.errors import UsageError
from edgekit.facts import ExporterFacts, RuntimeFacts, exporter_facts, install_on, runtime_facts
from edgekit.runtimes.null import PLUGIN as NULL


@pytest.mark.parametrize("name", plugins.names("runtimes"))
def test_every_runtime_states_what_is_known(name: str) -> None:
    assert isinstance(runtime_facts(plugins.load("runtimes", name)), RuntimeFacts)


@pytest.mark.parametrize("name", plugins.names("exporters"))
def test_every_exporter_states_what_is_known(name: str) -> None:
    facts = exporter_facts(plugins.load("exporters", name))
    assert isinstance(facts, ExporterFacts)
    assert bool(facts.kinds) == hasattr(plugins.load("exporters", name), "to_graph")


def test_what_is_stated_is_read_through_the_class_and_its_bases() -> None:
    class Board(NULL):  # type: ignore[misc, valid-type]
        prepares = "plan"
        install_on = {"aarch64": "apt install it"}  # noqa: RUF012

    class Later(Board):
        prepares = "engine"

    assert runtime_facts(Later()) == RuntimeFacts(prepares="engine", install_on={"aarch64": "apt install it"})
    assert (install_on(Board, "aarch64"), install_on(Board, "x86_64")) == ("apt install it", NULL.install)


def test_a_misspelt_value_is_an_error_that_names_the_nearest() -> None:
    class Board(NULL):  # type: ignore[misc, valid-type]
        prepare = "plan"

    with pytest.raises(UsageError, match=r"'prepare', which edgekit does not know. Did you mean 'prepares'\?"):
        runtime_facts(Board)


def test_a_misspelt_method_is_one_too() -> None:
    class Board(NULL):  # type: ignore[misc, valid-type]
        def emulater(self) -> None:
            return None

    with pytest.raises(UsageError, match=r"has 'emulater', .*Did you mean 'emulator'\?"):
        runtime_facts(Board)


def test_what_is_the_plug_ins_own_is_left_alone() -> None:
    class Board(NULL):  # type: ignore[misc, valid-type]
        timing_cache = 3

        def build(self) -> None:
            return None

        @property
        def folder(self) -> str:
            return ""

    assert runtime_facts(Board) == RuntimeFacts()
