"""This machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .. import plugins
from ..bundle import Bundle
from ..contracts import Artifact, Feeds, Progress
from ..errors import BundleError, EdgekitError, EngineError, ParityError, signal_name
from ..measure import here
from ..measure.client import Worker
from ..measure.telling import Listener

__all__ = ["LocalDevice", "Worker"]

# -P: a file in the user's folder named like a standard module (random.py) must not end up in the worker.
_COMMAND = (sys.executable, "-P", "-m", "edgekit.measure.worker")
SELF_TEST_TIMEOUT_S = 600


class LocalDevice:
    """This machine, with the engines of this Python environment."""

    url: str = "local"

    def describe(self) -> dict[str, Any]:
        """See `measure.here.describe`."""
        return {**here.describe(), "url": self.url}

    def push(self, bundle: Bundle, progress: Progress) -> None:
        """Do nothing: it is here."""

    def open(
        self,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds] = (),
        told: Listener | None = None,
    ) -> Worker:
        """Start a worker here. See `devices.Device.open`.

        Raises:
            UsageError: there is no runtime of that name.
            EngineError: the engine is missing, refuses the model, or crashed.
        """
        return self._start(artifact, runtime, options, feeds, told, {})

    def _start(
        self,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds],
        told: Listener | None,
        environment: Mapping[str, str],
    ) -> Worker:
        adapter = plugins.load("runtimes", runtime)
        reference = f"{adapter.__module__}:{adapter.__qualname__}"
        return Worker(_COMMAND, artifact, reference, options, feeds, told, environment=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""


def self_test(folder: Path, *, substitute: bool = False, limit_s: float | None = SELF_TEST_TIMEOUT_S) -> str:
    """Run a bundle's ``run.py`` as its user would, in a process of its own, and return the line it prints.

    Args:
        folder: the bundle's.
        substitute: in the runtime that stands in for its engine.
        limit_s: it is ended after so long.

    Raises:
        ParityError: it failed; with its own words.
        EngineError: its engine is missing or refuses the model, it was killed, or did not end.
        BundleError: it found its own files damaged.
    """
    # In the environment of the workers that checked and measured it: PYTHONPATH counts, relative to the same folder.
    # What runs is the bundle's own code all the same, which it loads by a name of its own.
    command = [sys.executable, "-P", str(folder / "run.py"), *(["test", "--substitute"] if substitute else [])]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"the bundle's self-test did not end within {limit_s:g} s", details=_words(error.stderr or b"")
        ) from error
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode == 0:
        return said.splitlines()[-1] if said else "passed"
    raise self_test_error(done.returncode, _words(done.stderr or done.stdout))


def self_test_error(code: int, words: list[str], where: str = "") -> EdgekitError:
    """What a self-test that failed is told as.

    Args:
        code: of its process; negative: the signal that ended it.
        words: the last lines that it printed.
        where: `` on ssh://…``; "": on this machine.
    """
    if code < 0:
        return EngineError(f"the bundle's self-test{where} was killed by {signal_name(-code)}", details=words)
    return _KINDS.get(code, ParityError)(f"the bundle's self-test{where} failed with exit code {code}", details=words)


_KINDS: Mapping[int, type[EdgekitError]] = {error.exit_code: error for error in (EngineError, BundleError)}


def _words(said: bytes) -> list[str]:
    return said.decode(errors="replace").strip().splitlines()[-20:]
