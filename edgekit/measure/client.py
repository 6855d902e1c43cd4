"""The host's end of a worker: start it, talk to it, know why it died."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Artifact, Feeds, LayerTime, Outputs, Placement
from ..errors import EngineError, signal_name
from . import npz
from .affinity import Applied
from .call_price import CallPrice
from .energy import Energy
from .latency import MAX_RUNS
from .patience import VARIABLE, Watchdog, limit_s
from .peaks import Peaks
from .peaks import from_json as peaks_from_json
from .probe import Speed
from .protocol import artifact_to_json, error_from_json, placement_from_json, read_message, write_message
from .scratch import scratch_file
from .state import Snapshot
from .telling import Listener

if TYPE_CHECKING:  # Python 3.11 has it, a device may have 3.10
    from typing import Self  # novm

_CLOSE_S = 5.0  # how long an engine may take to free its memory before the process is killed
_STDERR_LINES = 5


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker learned by opening its model."""

    version: str  # the engine's
    cold_start_s: float  # process start (after `reopen`: the request) to first result, interpreter and all
    import_s: float  # loading the engine itself
    load_s: float  # opening the model
    first_run_s: float | None  # None: opened without inputs
    placement: Placement
    in_force: Mapping[str, Any]
    own_clock: bool = False  # the session times its runs itself: contracts.OutOfProcess
    state_bound: bool | None = None  # whether timed runs keep their state in the engine; None: they have none

    @property
    def clock_s(self) -> float:
        """The step of the engine's own clock in seconds: a page's goes in steps of 5 µs. 0: ours, which has none."""
        return float(self.in_force.get("clock") or 0.0)


@dataclass(frozen=True, slots=True)
class Memory:
    """A worker's memory. None: the system does not tell."""

    peak_rss_bytes: int | None
    rss_before_open_bytes: int | None  # with the engine loaded and no model open


class Worker:
    """One fresh process with one model open in one engine. A context manager; not thread-safe.

    Args:
        command: the process to start: ``python -m edgekit.measure.worker``, or a bundle's runner, or ssh to one.
        artifact: what it opens; the path is the worker's.
        runtime: the engine's adapter, as `engines.load_runtime` takes it.
        options: session options, a table or the runtime's ``Options``.
        feeds: the inputs to measure with, in rotation; without any, only `run` works.
        told: called when the engine says how far it is with opening the model.
        environment: variables on top of this process's.

    Attributes:
        snapshots: the machine's state between the blocks of `measure`, at most one every `state.INTERVAL_S`.
        snapshot_costs_s: what reading each took.
        unread: what cannot be read of it there, and why.
        state_bound: whether the state of `stream` stays in the engine's own memory.

    Raises:
        EngineError: the process cannot be started, the engine is missing or refuses the model, it crashed, or did not
            answer in time (`patience`).
        UsageError: an option that the runtime does not have.
    """

    def __init__(
        self,
        command: Sequence[str],
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds] = (),
        told: Listener | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.runtime = runtime
        self._told = told
        self.snapshots: list[Snapshot] = []
        self.snapshot_costs_s: list[float] = []
        self.unread: dict[str, str] = {}
        self.state_bound: bool | None = None
        self._stderr = scratch_file()  # a pipe could fill up
        started = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            self._stderr.close()
            raise EngineError(f"cannot start the worker {command[0]}: {error.strerror}") from error
        self._watchdog = Watchdog(self._process.kill, self._silent)
        try:
            answer, _ = self._ask(
                "open",
                {"artifact": artifact_to_json(artifact), "runtime": runtime, "options": _table(options)},
                [npz.dump(item) for item in feeds],
            )
        except BaseException:
            self.close()
            raise
        self.info = _info(answer, time.perf_counter() - started)

    def reopen(self, options: Any) -> None:
        """Close the model and open it again with other session options, in the same process. Renews `info`."""
        started = time.perf_counter()
        answer, _ = self._ask("reopen", {"options": _table(options)})
        self.info = _info(answer, time.perf_counter() - started)

    def measure(
        self, seconds: float = 0.0, *, min_runs: int = 1, max_runs: int = MAX_RUNS, warmup_s: float = 0.0
    ) -> NDArray[np.float64]:
        """One block of back-to-back runs, after ``warmup_s`` of untimed ones: see `latency.Sampler.block`.

        Returns:
            Latencies in seconds, in order, shape [n], 1 <= n <= max_runs.
        """
        request = {"seconds": seconds, "min_runs": min_runs, "max_runs": max_runs, "warmup_s": warmup_s}
        answer, blobs = self._ask("measure", request)
        if "state" in answer:
            self.snapshots.append(self._snapshot(answer))
        return np.frombuffer(blobs[0], dtype="<f8").astype(np.float64)

    def serve(self, rate_per_s: float, seconds: float, *, seed: int) -> NDArray[np.float64]:
        """Runs at the random arrivals of requests: see `latency.Sampler.serve`."""
        answer, blobs = self._ask("serve", {"rate_per_s": rate_per_s, "seconds": seconds, "seed": seed})
        self.snapshots.append(self._snapshot(answer))
        return np.frombuffer(blobs[0], dtype="<f8").astype(np.float64)

    def harness(self, seconds: float, *, max_runs: int = MAX_RUNS) -> NDArray[np.float64]:
        """What timing costs where the session has its own clock: a run that does nothing, in seconds, shape [n]."""
        _, blobs = self._ask("harness", {"seconds": seconds, "max_runs": max_runs})
        return np.frombuffer(blobs[0], dtype="<f8").astype(np.float64)

    def observe(self, seconds: float) -> Snapshot:
        """The state of the worker's machine after ``seconds`` in which the worker did nothing."""
        answer, _ = self._ask("observe", {"seconds": seconds})
        return self._snapshot(answer)

    def _snapshot(self, answer: Mapping[str, Any]) -> Snapshot:
        self.snapshot_costs_s.append(answer["cost_s"])
        self.unread = dict(answer["unread"])
        return Snapshot.from_json(answer["state"])

    def run(self, feeds: Feeds) -> Outputs:
        """Run once and return the outputs."""
        return self.run_many([feeds])[0]

    def run_many(self, feeds: Sequence[Feeds]) -> list[Outputs]:
        """Run once for each of ``feeds`` and return the outputs in the same order."""
        _, blobs = self._ask("run", {}, [npz.dump(item) for item in feeds])
        return [npz.load(blob) for blob in blobs]

    def stream(self, frames: Sequence[Feeds], state: Feeds | None = None) -> list[Outputs]:
        """The next frames of a stream, whose state the worker keeps: the outputs that are none, in the same order.

        Args:
            frames: the inputs that are no state.
            state: begin a new stream with it, by the inputs' names; zeros where it says nothing. None: go on.
        """
        blobs = [npz.dump(item) for item in (*(() if state is None else (state,)), *frames)]
        told, answers = self._ask("stream", {"start": state is not None}, blobs)
        self.state_bound = told["state_bound"]
        return [npz.load(blob) for blob in answers]

    def price(self, seconds: float) -> CallPrice:
        """What ``run`` costs beside ``bind``: see `call_price`.

        Raises:
            EngineError: the engine runs elsewhere, or the worker is an older one.
        """
        answer, _ = self._ask("price", {"seconds": seconds})
        return CallPrice(**answer)

    def probe(self, seconds: float) -> Speed:
        """How fast the worker's machine is now: see `probe`.

        Raises:
            EngineError: the worker is an older one.
        """
        answer, _ = self._ask("probe", {"seconds": seconds})
        return Speed(**answer)

    def pin(self, cores: Sequence[int] | None, nice: int | None) -> Applied:
        """Keep the process on ``cores``, at priority ``nice``, as far as its system allows: see `affinity.apply`."""
        answer, _ = self._ask("pin", {"cores": None if cores is None else list(cores), "nice": nice})
        told = answer["cores"]
        return Applied(None if told is None else tuple(told), answer["nice"], tuple(answer["refused"]))

    def meters(self) -> tuple[int, list[str]]:
        """How many energy meters the worker's machine has, and why others cannot be used."""
        answer, _ = self._ask("meters", {})
        return answer["count"], answer["reasons"]

    def energy(self, seconds: float, idle_s: float) -> list[Energy]:
        """The energy of a run by each meter, the one that sees most first: see `energy.measure_energy`.

        Raises:
            EngineError: a sensor went away.
        """
        answer, _ = self._ask("energy", {"seconds": seconds, "idle_s": idle_s})
        return [Energy(**item) for item in answer["energy"]]

    def profile(self, seconds: float) -> tuple[list[LayerTime], int]:
        """The time of each of the engine's nodes, in the order they ran, and over how many runs in about ``seconds``.

        Raises:
            EngineError: this runtime's adapter, or its engine, cannot tell.
        """
        answer, _ = self._ask("profile", {"seconds": seconds})
        layers = [LayerTime(**{**item, "covers": tuple(item["covers"])}) for item in answer["layers"]]
        return layers, answer["runs"]

    def peaks(self, threads: int) -> Peaks | str:
        """What the worker's machine can do at best with so many threads, or why that is not known."""
        answer, _ = self._ask("peaks", {"threads": threads})
        return str(answer["reason"]) if answer["peaks"] is None else peaks_from_json(answer["peaks"])

    def memory(self) -> Memory:
        """The memory of the worker's process so far."""
        answer, _ = self._ask("memory", {})
        return Memory(**answer)

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self._watchdog.close()
        _close_quietly(self._process.stdin)  # the worker ends at the end of its input, in whatever it is doing
        if self._process.returncode is None:
            try:
                self._process.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _close_quietly(self._process.stdout)
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, command: str, values: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        if self._stderr.closed:
            raise EngineError(f"the worker of '{self.runtime}' is closed")
        limit = limit_s(command, values)
        try:
            self._watchdog.expect(limit)
            write_message(requests, {"command": command, **values}, blobs)
            message = read_message(replies)
            while message is not None and "told" in message[0]:
                self._watchdog.sign()
                if self._told is not None:
                    self._told(message[0]["told"]["doing"], message[0]["told"]["share"])
                message = read_message(replies)
        except OSError:
            message = None
        finally:
            self._watchdog.expect(None)
        if self._watchdog.gave_up is not None:
            self._process.wait()
            raise EngineError(
                f"runtime '{self.runtime}' did not answer within {self._watchdog.gave_up:g} s when it was asked to "
                f"{command}: its process was ended",
                details=self._last_words(),
                fix=f"An engine that needs longer gets it by {VARIABLE}=SECONDS (0: no limit).",
            )
        if message is None:
            raise self._died(command)
        header, payload = message
        if "error" in header:
            raise error_from_json(header["error"])
        answer: dict[str, Any] = header["ok"]
        return answer, payload

    def _silent(self, silent_s: float, limit: float) -> None:
        """Nothing was heard for a while: say so."""
        if self._told is not None:
            self._told(f"no answer for {silent_s:.0f} s (given up after {limit:g} s)", None)

    def _died(self, command: str) -> EngineError:
        code = self._process.wait()
        if code < 0:
            how = f"was killed by {signal_name(-code)}"
        else:
            how = f"ended with exit code {code}"
        fix = "Was the memory enough? The system kills a process that takes too much." if code == -9 else ""
        return EngineError(
            f"the process of runtime '{self.runtime}' {how} while it was asked to {command}",
            details=self._last_words(),
            fix=fix,
        )

    def _last_words(self) -> list[str]:
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-_STDERR_LINES:]


def _info(answer: Mapping[str, Any], cold_start_s: float) -> WorkerInfo:
    return WorkerInfo(
        version=answer["version"],
        cold_start_s=cold_start_s - answer.get("placement_s", 0.0),  # which no app asks for; older workers do not tell
        import_s=answer["import_s"],
        load_s=answer["load_s"],
        first_run_s=answer["first_run_s"],
        placement=placement_from_json(answer["placement"]),
        in_force=answer["in_force"],
        own_clock=answer.get("own_clock", False),  # a bundle's own worker may be older
        state_bound=answer.get("state_bound"),
    )


def _table(options: Any) -> dict[str, Any]:
    return dataclasses.asdict(options) if dataclasses.is_dataclass(options) else dict(options)  # type: ignore[arg-type]


def _close_quietly(stream: IO[bytes] | None) -> None:
    """Close a pipe whose other end may be gone."""
    if stream is not None:
        with contextlib.suppress(BrokenPipeError):
            stream.close()
