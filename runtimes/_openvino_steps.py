"""Streams in OpenVINO: infer requests that share memory for the state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..contracts import Array, Feeds, Outputs, StatePair, TensorSpec
from ..errors import EngineError
from ._values import engine_errors, prepare


class Requests(Protocol):
    """What a stream needs of a session: see `openvino.OpenVinoSession`."""

    unused: set[str]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of the model."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Of the model."""
        ...

    def new_request(self) -> Any:
        """An infer request."""
        ...

    def tensor(self, array: Array) -> Any:
        """A tensor over an array's own memory."""
        ...


class RequestSteps:
    """For static shapes: the state is read from one set of memory and written to another, in turn.

    One infer request reads the first and writes the second, another one goes the other way.
    """

    def __init__(self, session: Requests, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> None:
        self._session, self._pairs, self._shown = session, tuple(pairs), tuple(shown)
        kept = {pair.input for pair in pairs}
        self._frame = tuple(spec for spec in session.inputs if spec.name not in kept)
        self._held: list[object] = []  # memory that requests read and write
        self._turn = 0  # the set that holds the present state
        self._sets = tuple({name: np.array(state[name], order="C") for name in kept} for _ in range(2))
        self._own = {spec.name: np.zeros([int(n) for n in spec.shape], spec.dtype) for spec in self._frame}
        self._requests = self._made(self._own)
        written = {pair.output: pair.input for pair in pairs}
        self._places = {spec.name: i for i, spec in enumerate(session.outputs) if spec.name in shown}
        self._shown_state = {name: written[name] for name in shown if name in written}

    def run(self, frame: Feeds) -> Outputs:
        """See contracts.Steps.run."""
        ready = self._checked(frame)
        for name, array in self._own.items():
            np.copyto(array, ready[name])
        request = self._requests[self._turn]
        with engine_errors("OpenVINO"):
            request.infer(share_outputs=True)
        self._turn ^= 1
        now = self._sets[self._turn]
        return {
            name: now[self._shown_state[name]].copy()
            if name in self._shown_state
            else np.array(request.get_output_tensor(self._places[name]).data)
            for name in self._shown
        }

    def bind(self, frame: Feeds) -> Callable[[], object]:
        """See contracts.Steps.bind: its own two requests over the arrays."""
        ready = self._checked(frame)
        calls = tuple(functools.partial(request.infer, share_outputs=True) for request in self._made(ready))

        def step() -> None:
            calls[self._turn]()
            self._turn ^= 1

        return step

    def set_state(self, state: Feeds) -> None:
        """See contracts.Steps.set_state."""
        for name, array in self._sets[self._turn].items():
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise EngineError(
                    f"the state '{name}' must be {array.dtype} {array.shape}, got {state[name].dtype} "
                    f"{state[name].shape}"
                )
            np.copyto(array, state[name])

    def state(self) -> Outputs:
        """See contracts.Steps.state."""
        return {name: array.copy() for name, array in self._sets[self._turn].items()}

    def _checked(self, frame: Feeds) -> dict[str, Array]:
        ready = prepare(frame, self._frame, unused=self._session.unused)
        for spec in self._frame:
            refused = spec.refuses(ready[spec.name])
            if refused:
                raise EngineError(f"input {refused}")
        return ready

    def _made(self, frame: dict[str, Array]) -> tuple[Any, Any]:
        """A request that reads the first set and writes the second, and one the other way round."""
        session, made = self._session, []
        written = {pair.output: pair.input for pair in self._pairs}
        for now, after in (self._sets, self._sets[::-1]):
            request, held = session.new_request(), []
            for i, spec in enumerate(session.inputs):
                tensor = session.tensor(now[spec.name] if spec.name in now else frame[spec.name])
                with engine_errors(f"OpenVINO refuses input '{spec.name}'"):
                    request.set_input_tensor(i, tensor)
                held.append(tensor)
            for i, spec in enumerate(session.outputs):
                if spec.name in written:
                    tensor = session.tensor(after[written[spec.name]])
                    with engine_errors(f"OpenVINO refuses output '{spec.name}'"):
                        request.set_output_tensor(i, tensor)
                    held.append(tensor)
            self._held.append((held, frame))
            made.append(request)
        return made[0], made[1]
