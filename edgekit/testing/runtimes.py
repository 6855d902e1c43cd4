"""The conformance kit for runtimes: what every adapter must do, whatever its engine.

Subclass `RuntimeConformance` in your own tests and supply one fixture; pytest does the rest:

    class TestMyEngine(RuntimeConformance):
        @pytest.fixture
        def runtime_case(self, tmp_path):
            return RuntimeCase(MyEngine(), artifact, feeds, expected, Tolerance(rel_l2=1e-5))
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..bundle.read import Model, StatefulModel
from ..contracts import (
    Array,
    Artifact,
    Feeds,
    Outputs,
    Placement,
    Profiles,
    Runtime,
    Session,
    StatePair,
    Tolerance,
    options_from,
)
from ..errors import EngineError, UsageError
from ..facts import runtime_facts
from ..measure.parity import ParityMeter
from ..measure.stream import shown_outputs

ENGINES = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "executorch", "ai_edge_litert")
"""Packages that no adapter may import when it is imported itself."""
_NO_MODULE = 3
THREADS, RUNS = 6, 40
STEPS = 5


@dataclass(frozen=True)
class RuntimeCase:
    """One small model for one runtime.

    Args:
        runtime: an instance of the adapter.
        artifact: a model in a format that the adapter opens, with at least one floating-point input.
        feeds: inputs for it.
        expected: its outputs, by something other than this engine.
        tolerance: how far the engine may be from ``expected``; state why where you state it.
    """

    runtime: Runtime
    artifact: Artifact
    feeds: Feeds
    expected: Outputs
    tolerance: Tolerance

    def open(self, **options: Any) -> Session:
        """A session with the given options."""
        return self.runtime.open(self.artifact, self.runtime.Options(**options))


class RuntimeConformance:
    """Subclass it and supply the fixture ``runtime_case``."""

    @pytest.fixture
    def runtime_case(self) -> RuntimeCase:
        """The one thing a subclass supplies."""
        raise NotImplementedError("supply the fixture `runtime_case`")

    def test_describes_itself(self, runtime_case: RuntimeCase) -> None:
        """Name, formats, install line and version are there."""
        runtime = runtime_case.runtime
        assert runtime.name.isidentifier()
        assert runtime_case.artifact.format in runtime.formats
        for line in (runtime.install, *runtime_facts(runtime).install_on.values()):
            assert line.startswith(("pip install ", "apt install ", "https://"))
        assert runtime.version()[0].isdigit()

    def test_options_are_a_frozen_dataclass_with_threads(self, runtime_case: RuntimeCase) -> None:
        """A target's [runtime.options] become this class; ``threads`` is what edgekit tunes on every engine."""
        assert dataclasses.is_dataclass(runtime_case.runtime.Options)
        options: Any = runtime_case.runtime.Options
        assert options.__dataclass_params__.frozen
        assert options().threads == 0
        with pytest.raises(UsageError, match="'threads' must be int"):
            options_from(options, {"threads": "many"}, "[runtime.options]")

    def test_importing_the_adapter_imports_no_engine(self, runtime_case: RuntimeCase) -> None:
        """`edgekit --help` must stay fast, and a bundle needs its one engine only."""
        module = type(runtime_case.runtime).__module__
        code = (
            f"import sys\ntry:\n    import {module}\nexcept ModuleNotFoundError:\n    sys.exit({_NO_MODULE})\n"
            f"print([name for name in {ENGINES} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == _NO_MODULE:
            pytest.skip("the adapter is not part of an installed package")
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr

    def test_times_of_nodes_if_it_tells_them(self, runtime_case: RuntimeCase) -> None:
        """`contracts.Profiles` is optional: the times are finite, and the session works on as before."""
        session = runtime_case.open(threads=1)
        if isinstance(session, Profiles):
            times = session.profile(runtime_case.feeds, 3)
            assert times
            assert all(item.name and item.op_type and 0 <= item.time_s < 60 for item in times)
        assert session.run(runtime_case.feeds).keys() == runtime_case.expected.keys()
        session.close()

    def test_computes_what_is_expected(self, runtime_case: RuntimeCase) -> None:
        """Right names, dtypes, shapes and values."""
        session = runtime_case.open()
        meter = ParityMeter()
        meter.add(runtime_case.expected, session.run(runtime_case.feeds))
        assert meter.result().misses(runtime_case.tolerance) == []
        assert [spec.name for spec in session.outputs] == list(runtime_case.expected)
        assert {spec.name for spec in session.inputs} <= set(runtime_case.feeds)

    def test_specs_fit_the_arrays(self, runtime_case: RuntimeCase) -> None:
        """A session's own account of its inputs and outputs holds for real arrays."""
        session = runtime_case.open()
        for spec in session.inputs:
            assert spec.refuses(runtime_case.feeds[spec.name]) is None
        for spec in session.outputs:
            assert spec.refuses(runtime_case.expected[spec.name]) is None

    def test_outputs_are_fresh(self, runtime_case: RuntimeCase) -> None:
        """What `run` returned does not change when it runs again, and may be written to."""
        session = runtime_case.open()
        first = session.run(runtime_case.feeds)
        kept = {name: array.copy() for name, array in first.items()}
        second = session.run({name: _other(array) for name, array in runtime_case.feeds.items()})
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])
            assert array.flags.writeable
            assert not np.shares_memory(array, second[name])

    def test_feeds_are_left_as_they_were(self, runtime_case: RuntimeCase) -> None:
        """Also where they are read-only, or not in C order."""
        feeds = {name: np.asfortranarray(array) for name, array in runtime_case.feeds.items()}
        for array in feeds.values():
            array.flags.writeable = False
        session = runtime_case.open()
        meter = ParityMeter()
        meter.add(runtime_case.expected, session.run(feeds))
        assert meter.result().misses(runtime_case.tolerance) == []
        for name, array in runtime_case.feeds.items():
            np.testing.assert_array_equal(feeds[name], array)

    def test_bind_runs_each_time_and_survives_run(self, runtime_case: RuntimeCase) -> None:
        """The hot call is independent of `run`, and several may live at once."""
        session = runtime_case.open()
        one, other = session.bind(runtime_case.feeds), session.bind(runtime_case.feeds)
        for _ in range(3):
            one()
            other()
        meter = ParityMeter()
        meter.add(runtime_case.expected, session.run(runtime_case.feeds))
        one()
        assert meter.result().misses(runtime_case.tolerance) == []

    def test_threads_are_in_force(self, runtime_case: RuntimeCase) -> None:
        """What was asked for is what the engine reports."""
        assert runtime_case.open(threads=1).in_force()["threads"] == 1
        assert "precision" in runtime_case.open().in_force()

    def test_placement_tells_or_says_why_not(self, runtime_case: RuntimeCase) -> None:
        """Never an empty answer."""
        placement = runtime_case.open().placement()
        assert isinstance(placement, Placement)
        assert bool(placement.nodes) != bool(placement.unknown)
        assert all(node.device and node.op_type for node in placement.nodes)

    def test_threads_get_their_own_answers(self, runtime_case: RuntimeCase) -> None:
        """Through a bundle's `Model`, as an app's threads call it: locked, or at once where the adapter says so."""
        with Model(runtime_case.open(threads=1), "") as model:
            feeds = [_shifted(runtime_case.feeds, number) for number in range(THREADS)]
            alone = [model.run(item) for item in feeds]
            bound = model.bind(runtime_case.feeds)

            def serve(number: int) -> int:
                wrong = 0
                for _ in range(RUNS):
                    answer = model.run(feeds[number])
                    wrong += not all(np.array_equal(answer[name], want) for name, want in alone[number].items())
                    if number == 0:
                        bound()
                return wrong

            with ThreadPoolExecutor(THREADS) as pool:
                assert list(pool.map(serve, range(THREADS))) == [0] * THREADS

    def test_streams_keep_their_own_state(self, runtime_case: RuntimeCase) -> None:
        """Through a bundle's model: where an output fits an input, two streams at once answer as `run` in a loop does.

        Whether the engine keeps the state in its own memory (`contracts.KeepsState`) or it is fed again: see
        `measure.stream`.
        """
        case, pairs = runtime_case, _fitting(runtime_case)
        if not pairs:
            return  # no output of this model could be its input: there is no state that could be mixed up
        session = case.open(threads=1)
        first = {pair.input: case.feeds[pair.input] for pair in pairs}
        frames = [
            {name: array for name, array in _shifted(case.feeds, number).items() if name not in first}
            for number in range(STEPS)
        ]
        state, by_hand = dict(first), []
        for frame in frames:
            by_hand.append(session.run({**frame, **state}))
            state = {pair.input: by_hand[-1][pair.output] for pair in pairs}
        shown = shown_outputs([spec.name for spec in session.outputs], pairs)
        with StatefulModel(session, "", case.artifact.inputs, pairs, first) as model:
            one, other = model.stream(), model.stream()
            meter, second = ParityMeter(), ParityMeter()
            for frame, want in zip(frames, by_hand, strict=True):
                wanted = {name: want[name] for name in shown}
                meter.add(wanted, one.run(frame))
                other.run(frames[0])  # a stream of other frames meanwhile
            assert meter.result().misses(case.tolerance) == []
            for name, array in one.state().items():
                np.testing.assert_allclose(array, state[name], rtol=1e-4, atol=1e-4)
            other.reset()
            call = other.bind(frames[0])
            call()
            second.add({name: by_hand[1][name] for name in shown}, other.run(frames[1]))
            assert second.result().misses(case.tolerance) == []
            with pytest.raises(EngineError, match=f"'{pairs[0].input}' is the model's state"):
                one.run({**frames[0], **first})

    def test_feeds_in_other_forms(self, runtime_case: RuntimeCase) -> None:
        """Through a bundle's `Model`: another byte order is the same numbers; no names, masked values are refused."""
        session = Model(runtime_case.open(), "")
        swapped = {name: array.astype(array.dtype.newbyteorder()) for name, array in runtime_case.feeds.items()}
        meter = ParityMeter()
        meter.add(runtime_case.expected, session.run(swapped))
        assert meter.result().misses(runtime_case.tolerance) == []
        name, array = next((name, array) for name, array in runtime_case.feeds.items() if array.size)
        positional: Any = array
        with pytest.raises(EngineError, match="given by name, in a dict, got ndarray"):
            session.run(positional)
        masked = np.ma.masked_array(array, mask=np.ones(array.shape, bool))
        with pytest.raises(EngineError, match=f"'{name}' has masked values"):
            session.run({**runtime_case.feeds, name: masked})

    def test_refuses_wrong_feeds(self, runtime_case: RuntimeCase) -> None:
        """By name, with what was got and what is allowed."""
        session = runtime_case.open()
        name = session.inputs[0].name
        feeds: Mapping[str, Array] = runtime_case.feeds
        for call in (session.run, session.bind):
            with pytest.raises(EngineError, match=f"input '{name}' .*was not fed"):
                call({key: array for key, array in feeds.items() if key != name})
            with pytest.raises(EngineError, match="no input 'surplus'"):
                call({**feeds, "surplus": np.zeros(1, np.float32)})
            with pytest.raises(EngineError, match=f"'{name}' must be .*, got complex64"):
                call({**feeds, name: feeds[name].astype(np.complex64)})

    def test_refuses_a_file_that_is_no_model(self, runtime_case: RuntimeCase, tmp_path: Path) -> None:
        """In the engine's own words, on one line."""
        path = tmp_path / f"broken{runtime_case.artifact.path.suffix}"
        path.write_bytes(b"this is no model")
        with pytest.raises(EngineError) as raised:
            runtime_case.runtime.open(
                dataclasses.replace(runtime_case.artifact, path=path), runtime_case.runtime.Options()
            )
        assert "\n" not in raised.value.what
        assert "broken" in raised.value.what

    def test_refuses_a_missing_file(self, runtime_case: RuntimeCase, tmp_path: Path) -> None:
        """By its path."""
        missing = dataclasses.replace(runtime_case.artifact, path=tmp_path / "nowhere.model")
        with pytest.raises(EngineError, match=r"nowhere\.model' does not exist"):
            runtime_case.runtime.open(missing, runtime_case.runtime.Options())

    def test_close(self, runtime_case: RuntimeCase) -> None:
        """Twice is fine; using it afterwards is an error that says so."""
        session = runtime_case.open()
        session.close()
        session.close()
        with pytest.raises(EngineError, match="closed"):
            session.run(runtime_case.feeds)


def _fitting(case: RuntimeCase) -> list[StatePair]:
    """An input that an output has the dtype and shape of, if any."""
    return [
        StatePair(name, output)
        for name, array in case.feeds.items()
        for output, answer in case.expected.items()
        if (array.dtype, array.shape) == (answer.dtype, answer.shape)
    ][:1]


def _other(array: Array) -> Array:
    """An array of the same dtype and shape with other values; integers (which may be indices) keep theirs."""
    return (array + 1).astype(array.dtype) if array.dtype.kind == "f" else array


def _shifted(feeds: Feeds, number: int) -> Feeds:
    """Other values for each number, of the same dtypes and shapes; integers (which may be indices) keep theirs."""
    return {
        name: (array + number / 8).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in feeds.items()
    }
