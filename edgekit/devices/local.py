"""This machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .. import plugins
from ..bundle import Bundle
from ..contracts import Artifact, Feeds, Progress
from ..errors import ParityError
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


def self_test(folder: Path, *, substitute: bool = False) -> str:
    """Run a bundle's ``run.py`` as its user would, in a process of its own, and return the line it prints.

    Args:
        folder: the bundle's.
        substitute: in the runtime that stands in for its engine.

    Raises:
        ParityError: it failed; with its own words.
    """
    # -I: nothing of this process' folder or environment; what runs is the bundle's own code.
    command = [sys.executable, "-I", "run.py", *(["test", "--substitute"] if substitute else [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SELF_TEST_TIMEOUT_S)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise ParityError(f"the bundle's self-test failed with exit code {done.returncode}", details=words[-20:])
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "passed"
