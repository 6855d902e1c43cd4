"""Streams in ONNX Runtime: the state stays in its memory from run to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..contracts import Array, Feeds, Outputs, StatePair, TensorSpec
from ..errors import EngineError
from ._values import engine_errors, prepare


class OrtTensors(Protocol):
    """What a stream needs of a session: see `_ort.OrtSession`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of the model."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Of the model."""
        ...

    def native(self) -> Any:
        """The InferenceSession."""
        ...

    def to_native(self, value: Any, spec: TensorSpec) -> Any:
        """An OrtValue."""
        ...

    def from_native(self, value: Any, spec: TensorSpec) -> Any:
        """What an OrtValue holds."""
        ...


class _Steps:
    """What both kinds share: which tensor is what."""

    def __init__(self, session: OrtTensors, pairs: Sequence[StatePair], shown: Sequence[str]) -> None:
        self._session = session
        self._pairs = tuple(pairs)
        self._shown = tuple(shown)
        state = {pair.input for pair in pairs}
        self._frame = tuple(spec for spec in session.inputs if spec.name not in state)
        self._specs: dict[str, TensorSpec] = {spec.name: spec for spec in (*session.inputs, *session.outputs)}


class BoundSteps(_Steps):
    """For static shapes: two sets of memory for the state, which is read from one and written to the other, in turn.

    An engine may write an output before it has read all of an input, so one set would not do.
    """

    def __init__(self, session: OrtTensors, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> None:
        super().__init__(session, pairs, shown)
        self._turn = 0  # the set that holds the present state
        self._sets = tuple({pair.input: self._empty(pair.input) for pair in pairs} for _ in range(2))
        written = {pair.output for pair in pairs}
        answered = [name for name in shown if name not in written]
        self._outputs = {name: self._empty(name) for name in answered}
        self._own = {spec.name: self._empty(spec.name) for spec in self._frame}
        self.set_state(state)
        self._bindings = self._bound(self._own)

    def run(self, frame: Feeds) -> Outputs:
        """See contracts.Steps.run."""
        ready = prepare(frame, self._frame)
        for spec in self._frame:
            refused = spec.refuses(ready[spec.name])
            if refused:
                raise EngineError(f"input {refused}")
            np.copyto(self._own[spec.name], ready[spec.name])
        native = self._session.native()
        with engine_errors("ONNX Runtime"):
            native.run_with_iobinding(self._bindings[self._turn])
        self._turn ^= 1
        return {name: array.copy() for name, array in self._outputs.items()} | self._shown_state()

    def bind(self, frame: Feeds) -> Callable[[], object]:
        """See contracts.Steps.bind: the frame where it lies."""
        ready = prepare(frame, self._frame)
        for spec in self._frame:
            refused = spec.refuses(ready[spec.name])
            if refused:
                raise EngineError(f"input {refused}")
        bindings, run = self._bound(ready), self._session.native().run_with_iobinding

        def step() -> None:
            run(bindings[self._turn])
            self._turn ^= 1

        vars(step)["held"] = ready  # the arrays must live as long as the call
        return step

    def set_state(self, state: Feeds) -> None:
        """See contracts.Steps.set_state."""
        for name, array in self._sets[self._turn].items():
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise EngineError(
                    f"the state '{name}' must be {self._specs[name]}, got {state[name].dtype} {state[name].shape}"
                )
            np.copyto(array, state[name])

    def state(self) -> Outputs:
        """See contracts.Steps.state."""
        return {name: array.copy() for name, array in self._sets[self._turn].items()}

    def _shown_state(self) -> Outputs:
        """Where the state is an answer too; it was just written to the set that is now the present one."""
        now = self._sets[self._turn]
        return {pair.output: now[pair.input].copy() for pair in self._pairs if pair.output in self._shown}

    def _empty(self, name: str) -> Array:
        spec = self._specs[name]
        return np.zeros([int(size) for size in spec.shape], spec.dtype)

    def _bound(self, frame: Feeds) -> tuple[Any, Any]:
        """A binding that reads the first set and writes the second, and one the other way round."""
        session, made = self._session, []
        written = {pair.output: pair.input for pair in self._pairs}
        with engine_errors("ONNX Runtime"):
            for now, after in (self._sets, self._sets[::-1]):
                binding = session.native().io_binding()
                for spec in session.inputs:
                    array = now[spec.name] if spec.name in now else frame[spec.name]
                    binding.bind_ortvalue_input(spec.name, session.to_native(array, spec))
                for spec in session.outputs:
                    if spec.name in written:
                        value = session.to_native(after[written[spec.name]], spec)
                        binding.bind_ortvalue_output(spec.name, value)
                    elif spec.name in self._outputs:
                        binding.bind_ortvalue_output(spec.name, session.to_native(self._outputs[spec.name], spec))
                made.append(binding)
        return made[0], made[1]


class ValueSteps(_Steps):
    """For free shapes, and types that numpy has not: the values that a run returned are fed to the next, uncopied."""

    def __init__(self, session: OrtTensors, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> None:
        super().__init__(session, pairs, shown)
        self._wanted = tuple(dict.fromkeys([*shown, *(pair.output for pair in pairs)]))
        self._state: dict[str, Any] = {}
        self.set_state(state)

    def run(self, frame: Feeds) -> Outputs:
        """See contracts.Steps.run."""
        found = self._step(prepare(frame, self._frame))
        with engine_errors("ONNX Runtime"):
            return {name: np.array(self._session.from_native(found[name], self._specs[name])) for name in self._shown}

    def bind(self, frame: Feeds) -> Callable[[], object]:
        """See contracts.Steps.bind."""
        ready = prepare(frame, self._frame)
        return lambda: self._step(ready)

    def set_state(self, state: Feeds) -> None:
        """See contracts.Steps.set_state."""
        with engine_errors("ONNX Runtime"):
            self._state = {
                # Its own copy: the engine reads a caller's array where it lies.
                name: self._session.to_native(np.array(array, order="C"), self._specs[name])
                for name, array in state.items()
            }

    def state(self) -> Outputs:
        """See contracts.Steps.state."""
        with engine_errors("ONNX Runtime"):
            return {
                name: np.array(self._session.from_native(value, self._specs[name]))
                for name, value in self._state.items()
            }

    def _step(self, ready: Feeds) -> dict[str, Any]:
        session = self._session
        with engine_errors("ONNX Runtime"):
            values = {spec.name: session.to_native(ready[spec.name], spec) for spec in self._frame}
            answers = session.native().run_with_ort_values(list(self._wanted), {**values, **self._state})
        found = dict(zip(self._wanted, answers, strict=True))
        self._state = {pair.input: found[pair.output] for pair in self._pairs}
        return found
