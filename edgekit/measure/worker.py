"""A process that holds one model open in one engine and does what it is told: measure, run, report memory.

``python -m edgekit.measure.worker`` on this machine, ``python run.py worker`` from a bundle on another. It speaks
`protocol` over standard input and output, uses no CPU while it waits, and ends as soon as its input is closed, so it
outlives no host, however that one died.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO, NoReturn

import numpy as np

from ..contracts import Artifact, Feeds, OutOfProcess, Outputs, Profiles, Runtime, Session, TimedRuns, options_from
from ..errors import EngineError
from . import affinity, energy, machine, npz, peaks, probe, state
from .call_price import call_price
from .engines import load_runtime
from .latency import Sampler
from .protocol import Message, artifact_from_json, error_to_json, placement_to_json, read_message, write_message
from .stream import Stream
from .telling import listening, tell

ALIVE_S = 5.0
"""A host that waits for many runs hears so often how many are done."""
MIN_PROFILED_RUNS, MAX_PROFILED_RUNS = 5, 500


def main() -> NoReturn:
    """Serve until the end of the input."""
    requests, replies = _claim_standard_streams()

    def listener(doing: str, share: float | None) -> None:
        with contextlib.suppress(OSError):  # the host is gone, and this process about to end
            write_message(replies, {"told": {"doing": doing, "share": share}})

    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the host decides
    server = _Server()
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, inbox, server), daemon=True).start()
    while True:
        header, blobs = inbox.get()
        try:
            with listening(listener):
                answer, payload = server.handle(header, blobs)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises goes to the host, which raises it there
            with contextlib.suppress(OSError):  # nowhere to write it: the host is told all the same
                traceback.print_exc()
            write_message(replies, {"error": error_to_json(error)})
        else:
            write_message(replies, {"ok": answer}, payload)


def _claim_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for the protocol; what an engine prints to fd 1 goes to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests, replies


def _read_requests(requests: BinaryIO, inbox: queue.SimpleQueue[Message], server: _Server) -> None:
    """Pass requests on. When the host is gone, end the process even if an engine is still busy."""
    while (message := read_message(requests)) is not None:
        inbox.put(message)
    try:
        server.end_helpers()
    finally:
        os._exit(0)


class _Server:
    """The commands, by name. Each takes the request's header and blobs and returns the reply's."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._version = ""
        self._artifact: Artifact | None = None
        self._feeds: list[Feeds] = []
        self._session: Session | None = None
        self._sampler: TimedRuns | None = None
        self._steps: Stream | None = None
        self._import_s = 0.0
        self._rss_before_open: int | None = None
        self._reader = state.Reader()
        self._read_at = 0.0  # when the machine's state was last read
        self._commands: dict[str, Callable[[dict[str, Any], list[bytes]], Message]] = {
            "open": self._open,
            "reopen": self._reopen,
            "measure": self._measure,
            "serve": self._serve,
            "observe": self._observe,
            "energy": self._energy,
            "harness": self._harness,
            "meters": self._meters,
            "peaks": self._peaks,
            "pin": self._pin,
            "probe": self._probe,
            "profile": self._profile,
            "price": self._price,
            "run": self._run,
            "stream": self._stream,
            "memory": self._memory,
        }

    def handle(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        command = header.get("command")
        if command not in self._commands:
            raise EngineError(f"the worker does not know the command {command!r}", fix=_allowed(self._commands))
        return self._commands[command](header, blobs)

    def _open(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        if self._artifact is not None:
            raise EngineError("this worker already holds a model; start another")
        runtime = load_runtime(header["runtime"])
        start = time.perf_counter()
        self._version = runtime.version()  # imports the engine
        self._import_s = time.perf_counter() - start
        self._runtime = runtime
        self._artifact = artifact_from_json(header["artifact"])
        self._feeds = [npz.load(blob) for blob in blobs]
        self._rss_before_open = machine.rss_bytes()
        return self._start_session(runtime, self._artifact, header["options"]), []

    def _reopen(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        if self._runtime is None or self._artifact is None:
            raise EngineError("no model was opened in this worker")
        if self._session is not None:
            self._session.close()
            self._session = self._sampler = self._steps = None
        return self._start_session(self._runtime, self._artifact, header["options"]), []

    def _start_session(self, runtime: Runtime, artifact: Artifact, table: dict[str, Any]) -> dict[str, Any]:
        options = options_from(runtime.Options, table, f"options of runtime '{runtime.name}'")
        start = time.perf_counter()
        session = runtime.open(artifact, options)
        load_s = time.perf_counter() - start
        self._session = session
        first_run_s = bound = None
        if self._feeds:
            start = time.perf_counter()
            outputs = session.run(self._feeds[0])
            first_run_s = time.perf_counter() - start
            if isinstance(session, OutOfProcess):
                self._sampler = session.sampler(self._feeds)
            elif artifact.state and not _grows(artifact, self._feeds[0], outputs):
                steps = self._new_stream(session, artifact, self._feeds[0])
                self._sampler = Sampler(steps, [_frame(artifact, feeds) for feeds in self._feeds])
                bound = steps.bound  # known now that its calls are bound
            else:
                self._sampler = Sampler(session, self._feeds)
        self._reader.load.helpers = self._helpers()
        start = time.perf_counter()
        placement = placement_to_json(session.placement())
        placement_s = time.perf_counter() - start
        return {
            "version": self._version,
            "own_clock": isinstance(session, OutOfProcess),
            "import_s": self._import_s,
            "load_s": load_s,
            "first_run_s": first_run_s,
            "placement": placement,
            "placement_s": placement_s,
            "in_force": session.in_force(),
            "state_bound": bound,
        }

    def _measure(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        if self._sampler is None:
            raise EngineError("nothing to measure: the worker was opened without inputs")
        self._reader.load.begin()
        if header["warmup_s"] > 0:
            self._sampler.warm_up(header["warmup_s"])
        samples = self._sampler.block(header["seconds"], min_runs=header["min_runs"], max_runs=header["max_runs"])
        self._reader.load.end()
        due = time.monotonic() >= self._read_at + state.INTERVAL_S
        return self._snapshot() if due else {}, [samples.astype("<f8").tobytes()]

    def _serve(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        if self._sampler is None:
            raise EngineError("nothing to measure: the worker was opened without inputs")
        self._reader.load.begin()
        samples = self._sampler.serve(header["rate_per_s"], header["seconds"], seed=header["seed"])
        self._reader.load.end()
        return self._snapshot(), [samples.astype("<f8").tobytes()]

    def _harness(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        session = self._opened()
        if not isinstance(session, OutOfProcess):
            raise EngineError("this engine runs in the worker: the null runtime prices its timing")
        samples = session.sampler(self._feeds).harness(header["seconds"], max_runs=header["max_runs"])
        return {}, [samples.astype("<f8").tobytes()]

    def _observe(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        self._reader.load.begin()
        time.sleep(header["seconds"])
        self._reader.load.end()
        return self._snapshot(), []

    def _snapshot(self) -> dict[str, Any]:
        """The machine's state, and what reading it took; between blocks, never while runs are timed."""
        start = time.perf_counter()
        self._read_at = time.monotonic()
        snapshot = self._reader.read()
        cost_s = time.perf_counter() - start
        return {"state": snapshot.to_json(), "unread": self._reader.unread, "cost_s": cost_s}

    def _run(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        session = self._opened()
        answers, told_s = [], time.monotonic()
        for done, blob in enumerate(blobs):
            if time.monotonic() - told_s > ALIVE_S:  # a slow engine is no hung one
                told_s = time.monotonic()
                tell("running", done / len(blobs))
            answers.append(npz.dump(session.run(npz.load(blob))))
        return {}, answers

    def _stream(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        """Frames of one stream, which goes on from request to request; ``start``: a new one, from the first blob."""
        session, artifact = self._opened(), self._artifact
        assert artifact is not None
        frames = [npz.load(blob) for blob in blobs]
        if header["start"]:
            self._steps = self._new_stream(session, artifact, frames.pop(0))
        if self._steps is None:
            raise EngineError("no stream was begun in this worker")
        answers = [npz.dump(self._steps.run(frame)) for frame in frames]
        return {"state_bound": self._steps.bound}, answers

    def _new_stream(self, session: Session, artifact: Artifact, feeds: Feeds) -> Stream:
        """A stream whose state begins as ``feeds`` has it."""
        first = {pair.input: feeds[pair.input] for pair in artifact.state if pair.input in feeds}
        return Stream(session, artifact.inputs, artifact.state, first)

    def _price(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        session = self._opened()
        if isinstance(session, OutOfProcess) or not self._feeds:
            raise EngineError("this engine's calls are not timed here")
        return call_price(session, self._feeds[0], header["seconds"]).to_json(), []

    def _probe(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        return probe.probe(header["seconds"]).to_json(), []

    def _pin(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        return affinity.apply(header["cores"], header["nice"], self._helpers()).to_json(), []

    def _meters(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        meters, reasons = energy.find_meters()
        return {"count": len(meters), "reasons": reasons}, []

    def _energy(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        sampler = self._sampler
        if sampler is None:
            raise EngineError("nothing to measure: the worker was opened without inputs")
        meters = [make() for make in energy.find_meters()[0]]
        try:
            found = energy.measure_energy(meters, sampler.warm_up, header["seconds"], header["idle_s"])
        except OSError as error:
            raise EngineError(f"an energy sensor cannot be read any more: {error}") from error
        finally:
            for meter in meters:
                meter.close()
        return {"energy": [item.to_json() for item in found]}, []

    def _profile(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        session = self._opened()
        if not self._feeds:
            raise EngineError("nothing to profile: the worker was opened without inputs")
        if not isinstance(session, Profiles):
            raise EngineError("this runtime's adapter does not report the times of single nodes")
        session.run(self._feeds[0])
        start = time.perf_counter()
        session.run(self._feeds[0])
        once_s = max(time.perf_counter() - start, 1e-6)
        runs = round(min(max(header["seconds"] / once_s, MIN_PROFILED_RUNS), MAX_PROFILED_RUNS))
        return {"runs": runs, "layers": [asdict(item) for item in session.profile(self._feeds[0], runs)]}, []

    def _peaks(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        try:
            return {"peaks": asdict(peaks.measure(header["threads"]))}, []
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            return {"peaks": None, "reason": str(error)}, []

    def _memory(self, header: dict[str, Any], blobs: list[bytes]) -> Message:
        session = self._opened()
        if isinstance(session, OutOfProcess):
            helpers = session.processes()  # the engine starts with the model: there is no memory "before"
            peak = machine.peak_rss_bytes(helpers[0]) if helpers else None
            return {"peak_rss_bytes": peak, "rss_before_open_bytes": None}, []
        peak = machine.peak_rss_bytes()
        return {"peak_rss_bytes": peak, "rss_before_open_bytes": self._rss_before_open}, []

    def end_helpers(self) -> None:
        """End the processes in which an engine runs, so that the next worker finds the machine quiet."""
        session = self._session
        if session is not None and isinstance(session, OutOfProcess):
            session.close()

    def _helpers(self) -> Sequence[int]:
        """The processes in which the engine runs; none: it runs in this one."""
        session = self._session
        return session.processes() if session is not None and isinstance(session, OutOfProcess) else ()

    def _opened(self) -> Session:
        if self._session is None:
            raise EngineError("no model is open in this worker")
        return self._session


def _frame(artifact: Artifact, feeds: Feeds) -> Feeds:
    """The feeds that are no state."""
    kept = {pair.input for pair in artifact.state}
    return {name: array for name, array in feeds.items() if name not in kept}


def _grows(artifact: Artifact, feeds: Feeds, outputs: Outputs) -> bool:
    """Whether a step of a stream takes longer than the one before: only one step of it is a measure."""
    return any(np.shape(feeds[pair.input]) != np.shape(outputs[pair.output]) for pair in artifact.state)


def _allowed(commands: dict[str, Any]) -> str:
    return f"Allowed: {', '.join(sorted(commands))}."


if __name__ == "__main__":
    main()
