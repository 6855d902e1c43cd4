"""The conformance kit for a target profile.

from edgekit.testing.targets import TargetConformance

class TestMyBoard(TargetConformance):
    @pytest.fixture
    def target(self):
        return "my-board"            # or the path of the TOML file
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .. import plugins
from ..context import PassContext
from ..contracts import options_from
from ..target.load import load_target, profile
from ..target.profile import Candidate, PassSpec, Target


class TargetConformance:
    """What holds for every target. Needs no engine: only that what the profile names exists and takes its options."""

    @pytest.fixture
    def target(self) -> str | Path:
        """The name of the target under test, or the path of its file."""
        raise NotImplementedError("supply the fixture `target`")

    @pytest.fixture
    def loaded(self, target: str | Path) -> Target:
        """The profile after inheritance."""
        return load_target(target)

    def test_says_what_it_is(self, loaded: Target) -> None:
        """A name, and a description for `edgekit targets list`."""
        assert loaded.name
        assert loaded.description, "give it a description: it is what `edgekit targets list` shows"

    def test_offers_a_candidate_for_its_device(self, loaded: Target) -> None:
        """At least one way to ship a model on each architecture it is for."""
        for arch in loaded.arch or ("x86_64", "aarch64"):
            assert loaded.candidates_for(arch), f"no candidate is made for {arch}"

    def test_candidate_names_are_unique(self, loaded: Target) -> None:
        """A name stands for one candidate in tables, JSON and --candidate."""
        names = [item.name for item in loaded.candidates]
        assert len(set(names)) == len(names)

    def test_engines_exist_and_take_their_options(self, loaded: Target) -> None:
        """Every session option, fixed or to be tried, is one that the engine's adapter knows."""
        for item in loaded.candidates:
            options_of = plugins.load("runtimes", item.runtime).Options
            options_from(options_of, item.options, f"candidate '{item.name}', options")
            for key, values in item.tune.items():
                for value in values:
                    options_from(options_of, {**item.options, key: value}, f"candidate '{item.name}', tune")

    def test_engines_open_what_the_exporters_write(self, loaded: Target) -> None:
        """Each candidate's format has an exporter that takes its options, and its engine opens what that writes."""
        for item in loaded.candidates:
            exporter = plugins.load("exporters", item.format)
            options_from(exporter.Options, item.export_options, f"candidate '{item.name}', export_options")
            opens = plugins.load("runtimes", item.runtime).formats
            assert exporter.format in opens, (
                f"{item.runtime} opens {opens}, candidate '{item.name}' writes {exporter.format}"
            )

    def test_passes_exist_and_take_their_options(self, loaded: Target) -> None:
        """Every pass is installed and accepts what the profile states for it."""
        for item in loaded.candidates:
            for step in (*loaded.passes, *item.passes):
                _make(step, item)

    def test_every_precision_has_a_tolerance(self, loaded: Target) -> None:
        """Nothing is bundled without a stated bound on its error, with a metric or without."""
        for item in loaded.candidates:
            for key, rows in (("tolerance", loaded.tolerance), ("tolerance_with_metric", loaded.tolerance_with_metric)):
                stated = rows[item.precision].to_json() if item.precision in rows else {}
                assert stated, f"add [{key}.{item.precision}]: candidate '{item.name}' has this precision"

    def test_every_value_has_its_origin(self, loaded: Target) -> None:
        """`edgekit targets show` can tell which file each value came from."""
        for path in (*loaded.files, *loaded.origins.values()):
            assert path.is_file()
        assert loaded.files[0].stem == loaded.name
        for item in loaded.candidates:
            assert f"candidates.{item.name}" in loaded.origins or item.name == f"{item.runtime} fp32"

    def test_a_stated_limit_has_its_source(self, loaded: Target) -> None:
        """A number about the device comes from somewhere."""
        if loaded.limits.memory_bytes is not None:
            assert loaded.limits.source, "say where memory_bytes comes from: the datasheet's name or address"

    def test_profile_is_plain_json(self, loaded: Target) -> None:
        """What `edgekit targets show --json` prints."""
        value = profile(loaded)
        assert json.loads(json.dumps(value))["name"] == loaded.name


def _make(step: PassSpec, item: Candidate) -> None:
    context = PassContext(runtime=item.runtime)
    plugins.load("passes", step.name).from_table(dict(step.options), context)
