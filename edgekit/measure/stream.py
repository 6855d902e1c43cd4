"""A stream: run after run of a model whose state goes from one to the next, kept where the engine has it.

Between two runs the state stays in the engine's memory where its adapter can do that (`contracts.KeepsState`); in every
other engine it comes out as arrays and is fed again, which is right everywhere and costs two copies of it.

Device floor: the standard library and numpy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contracts import Array, Feeds, KeepsState, Outputs, Session, StatePair, Steps, TensorSpec
from ..errors import EngineError

if TYPE_CHECKING:  # Python 3.11 has it, a device may have 3.10
    from typing import Self  # novm


def shown_outputs(outputs: Sequence[str], pairs: Sequence[StatePair]) -> tuple[str, ...]:
    """What a step answers: the outputs that are no state; where there is no other (an ``nn.GRUCell``), the state."""
    state = {pair.output for pair in pairs}
    return tuple(name for name in outputs if name not in state) or tuple(
        pair.output for pair in pairs if not pair.buffer
    )


def without_state(feeds: Feeds, pairs: Sequence[StatePair]) -> Outputs:
    """The feeds that are no state."""
    state = {pair.input for pair in pairs}
    return {name: array for name, array in feeds.items() if name not in state}


def has_state(feeds: Feeds, pairs: Sequence[StatePair]) -> bool:
    """Whether a sample of the data brings the model's state along."""
    return all(pair.input in feeds for pair in pairs)


def frame_inputs(
    inputs: Sequence[TensorSpec], pairs: Sequence[StatePair]
) -> tuple[tuple[TensorSpec, ...], frozenset[str]]:
    """The inputs that data may hold (a buffer is none of them), and those of them that they may do without."""
    buffers = {pair.input for pair in pairs if pair.buffer}
    named = frozenset(pair.input for pair in pairs if not pair.buffer)
    return tuple(spec for spec in inputs if spec.name not in buffers), named


def first_state(pairs: Sequence[StatePair], inputs: Sequence[TensorSpec], given: Feeds, frame: Feeds) -> Outputs:
    """The state before the first step, by the inputs' names: what is given, else zeros.

    Args:
        pairs: the model's.
        inputs: all inputs of the model.
        given: arrays for some of the state's inputs.
        frame: the first frame; a free dimension of the state has the size that it has there, else 1.
    """
    sizes = {
        name: size
        for spec in inputs
        if spec.name in frame
        for name, size in zip(spec.shape, np.shape(frame[spec.name]), strict=False)
        if isinstance(name, str)
    }
    specs = {spec.name: spec for spec in inputs}
    state: Outputs = {}
    for pair in pairs:
        if pair.input in given:
            state[pair.input] = np.array(given[pair.input], order="C")
            continue
        spec = specs[pair.input]
        shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape]
        state[pair.input] = np.zeros(shape, _dtype(spec.dtype))
    return state


def _dtype(name: str) -> Any:
    try:
        return np.dtype(name)
    except TypeError:  # bfloat16 and the like, which ml_dtypes adds to numpy
        import ml_dtypes  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return np.dtype(getattr(ml_dtypes, name))


class Stream:
    """Frames of one stream, in order: ``with model.stream() as s: out = s.run(frame)``.

    It belongs to one caller at a time: a second thread in it is an error. Streams of one model are independent.

    Args:
        session: an open session; stays the caller's to close.
        inputs: all inputs of the model; free dimensions by the names that the bundle gives them.
        pairs: the model's state, at least one.
        initial: its value before the first frame, by the inputs' names; zeros where nothing is said.
        turn: held while the engine runs, where its session cannot run in several threads at once.
    """

    def __init__(
        self,
        session: Session,
        inputs: Sequence[TensorSpec],
        pairs: Sequence[StatePair],
        initial: Feeds,
        turn: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._session, self._pairs, self._given = session, tuple(pairs), dict(initial)
        self._specs = tuple(inputs)
        self._turn = turn if turn is not None else nullcontext()
        self._state_names = {pair.input for pair in pairs}
        shown = set(shown_outputs([spec.name for spec in session.outputs], pairs))
        #: Name, dtype and shape of what a step takes, and of what it answers.
        self.inputs = tuple(spec for spec in session.inputs if spec.name not in self._state_names)
        self.outputs = tuple(spec for spec in session.outputs if spec.name in shown)
        self._busy = threading.Lock()
        self._steps: Steps | None = None
        self._first: Outputs = {}
        self._closed = False

    @property
    def bound(self) -> bool | None:
        """Whether the engine keeps the state in its own memory; None: not known before the first frame."""
        return None if self._steps is None else not isinstance(self._steps, _Fed)

    def run(self, frame: Feeds) -> Outputs:
        """One step: the inputs that are no state → the outputs that are none, as fresh arrays.

        Raises:
            EngineError: an input is missing, unknown or does not fit, the engine fails, or another thread is in here.
        """
        with self._alone():
            return self._open(frame).run(frame)

    def bind(self, frame: Feeds) -> Callable[[], object]:
        """The hot call of one step; see `contracts.Steps.bind`."""
        with self._alone():
            call = self._open(frame).bind(frame)
        if isinstance(self._turn, nullcontext):
            return call
        turn = self._turn

        def in_turn() -> object:
            with turn:
                return call()

        return in_turn

    def reset(self) -> None:
        """Begin a new stream: the state is what it was before the first frame."""
        with self._alone():
            if self._steps is not None:
                self._steps.set_state(self._first)

    def state(self) -> Outputs:
        """Copies of the present state, by the inputs' names; empty before the first frame."""
        with self._alone():
            return {} if self._steps is None else self._steps.state()

    def close(self) -> None:
        """Free its memory; a second call does nothing."""
        self._steps, self._closed = None, True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, frame: Feeds) -> Steps:
        if self._closed:
            raise EngineError("this stream is closed")
        for name in frame:
            if name in self._state_names:
                raise EngineError(
                    f"'{name}' is the model's state, which the stream keeps", fix="Feed the other inputs only."
                )
        if self._steps is None:
            self._first = first_state(self._pairs, self._specs, self._given, frame)
            names = [spec.name for spec in self.outputs]
            # An engine may have dropped a state that nothing reads.
            known = {spec.name for spec in self._session.inputs}
            pairs = [pair for pair in self._pairs if pair.input in known]
            state = {pair.input: self._first[pair.input] for pair in pairs}
            steps = None
            if isinstance(self._session, KeepsState):
                steps = self._session.open_steps(pairs, state, names)
            self._first = state
            self._steps = steps or _Fed(self._session, pairs, state, names)
        return self._steps

    def _alone(self) -> AbstractContextManager[Any]:
        return _Alone(self._busy, self._turn)


class _Alone:
    """One caller at a time, and the engine's own turn."""

    def __init__(self, busy: threading.Lock, turn: AbstractContextManager[Any]) -> None:
        self._busy, self._turn = busy, turn

    def __enter__(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise EngineError(
                "another thread is in this stream: its frames would be mixed up",
                fix="Open a stream for each: model.stream()",
            )
        self._turn.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._turn.__exit__(*error)
        self._busy.release()


class _Fed:
    """The state comes out as arrays and is fed again: for every engine."""

    def __init__(
        self, session: Session, pairs: Sequence[StatePair], state: Mapping[str, Array], shown: Sequence[str]
    ) -> None:
        self._session, self._pairs, self._shown = session, pairs, shown
        self._state = dict(state)

    def run(self, frame: Feeds) -> Outputs:
        outputs = self._session.run({**frame, **self._state})
        self._state = {pair.input: outputs[pair.output] for pair in self._pairs}
        return {name: np.array(outputs[name]) if self._is_state(name) else outputs[name] for name in self._shown}

    def bind(self, frame: Feeds) -> Callable[[], object]:
        kept = dict(frame)
        return lambda: self.run(kept)

    def set_state(self, state: Feeds) -> None:
        self._state = dict(state)

    def state(self) -> Outputs:
        return {name: np.array(array) for name, array in self._state.items()}

    def _is_state(self, name: str) -> bool:
        return any(pair.output == name for pair in self._pairs)
