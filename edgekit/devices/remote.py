"""A device that is not this machine: bundles go there, their own runner measures there, results come back."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..bundle import Bundle
from ..contracts import Artifact, Feeds, Progress
from ..errors import EngineError
from ..measure.client import Worker
from ..measure.telling import Listener
from ._session import Session, explain
from ._transport import Transport

LIMIT_S = 4 * 3600.0
"""What runs on a device is ended after so long, in case this host is cut off and nobody there notices."""


class RemoteDevice:
    """A device that a `Transport` leads to. Connects when first used; close it, or leave it as a context manager.

    Args:
        transport: the way there; closed with the device.
        limit_s: the time limit of every process there.
    """

    def __init__(self, transport: Transport, limit_s: float = LIMIT_S) -> None:
        self.url = transport.url
        self._transport = transport
        self._limit_s = limit_s
        self._session: Session | None = None
        self._copies: dict[Path, str] = {}  # a bundle's folder here → its copy there

    @property
    def session(self) -> Session:
        """The session, opened when first asked for.

        Raises:
            EngineError: the device is unreachable, or cannot run edgekit's part there.
        """
        if self._session is None:
            self._session = Session(self._transport, self._limit_s)
        return self._session

    def describe(self) -> dict[str, Any]:
        """See `measure.here.describe`: executed there."""
        return self.session.describe()

    def push(self, bundle: Bundle, progress: Progress) -> None:
        """Bring a bundle to the device; files that are there already are not sent again.

        Raises:
            EngineError: the connection is lost, or the device has no room.
        """
        if bundle.folder not in self._copies:
            with progress.stage(f"send to {self.url}"):
                self._copies[bundle.folder] = self.session.push(
                    bundle.folder, lambda done, total: progress.step(done, total, "bytes")
                )

    def open(
        self,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds] = (),
        told: Listener | None = None,
    ) -> Worker:
        """A worker of the bundle that holds ``artifact``, by the bundle's own ``run.py``. See `devices.Device.open`.

        Raises:
            ValueError: that bundle was not pushed.
            EngineError: the engine is missing there, refuses the model, or crashed; or the connection is lost.
        """
        for folder, copy in self._copies.items():
            if artifact.path.is_relative_to(folder):
                there = f"{copy}/{artifact.path.relative_to(folder).as_posix()}"
                moved = dataclasses.replace(artifact, path=Path(there))
                return RemoteWorker(self.session, copy, moved, runtime, options, feeds, told)
        raise ValueError(f"'{artifact.path}' is in no bundle that was pushed to {self.url}")

    def execute(self, words: list[str], folder: str, timeout_s: float) -> dict[str, Any]:
        """Run Python there with ``words``, in ``folder``.

        Returns:
            ``code`` (negative: a signal), ``out`` and ``err``.

        Raises:
            EngineError: the connection is lost.
        """
        session = self.session
        environment = {} if session.packages is None else {"PYTHONPATH": session.packages}
        values = {"argv": [session.python, *words], "cwd": folder, "env": environment, "timeout_s": timeout_s}
        return session.ask("execute", values)

    def clean(self) -> str:
        """Delete edgekit's cache on the device. Returns its path.

        Raises:
            EngineError: another session is using it.
        """
        deleted = str(self.session.ask("clean")["deleted"])
        self._copies.clear()
        return deleted

    def close(self) -> None:
        """End the session and the connection; the device deletes what was run. A second call does nothing."""
        try:
            if self._session is not None:
                self._session.close()
        finally:
            self._session = None
            self._copies.clear()
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RemoteWorker(Worker):
    """A bundle's worker on a device.

    Args:
        session: of the device.
        copy: the bundle's folder there.
        artifact: with its path there.
        runtime: the adapter's name in the bundle.
        options: session options.
        feeds: the inputs to measure with.
        told: called when the engine says how far it is with opening the model.
    """

    def __init__(
        self,
        session: Session,
        copy: str,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds],
        told: Listener | None = None,
    ) -> None:
        self._device = session
        environment = "" if session.packages is None else f"PYTHONPATH={shlex.quote(session.packages)} "
        script = (
            f"cd {shlex.quote(copy)} && {environment}"
            f"timeout -k 10 {session.limit_s} {shlex.quote(session.python)} run.py worker; exit $?"
        )
        command = session.transport.argv(script)
        super().__init__(command, artifact, runtime, options, feeds, told)

    def _died(self, command: str) -> EngineError:
        code = self._process.wait()
        what = f"the process of runtime '{self.runtime}' was asked to {command}"
        return explain(self._device.transport, code, "\n".join(self._last_words()), self._device.limit_s, what)
