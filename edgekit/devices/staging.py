"""Candidates of an export on a remote device: each goes there with the code that a bundle would bring along."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..bundle.manifest import MANIFEST
from ..bundle.read import hash_file
from ..bundle.write import place_files, place_runner
from ..contracts import Artifact, Feeds, Progress
from ..measure.client import Worker
from ..measure.telling import Listener
from ..tempdir import work_folder
from .local import self_test_error
from .remote import RemoteDevice, RemoteWorker

if TYPE_CHECKING:
    from ..bundle import Bundle

SELF_TEST_TIMEOUT_S = 1800.0  # a slow board, its engine's first start


class StagingDevice:
    """A remote device that opens artifacts which are in no bundle yet.

    Args:
        remote: stays the caller's to close.
    """

    def __init__(self, remote: RemoteDevice) -> None:
        self.url = remote.url
        self._remote = remote
        self._copies: dict[tuple[Path, str], str] = {}  # an artifact's folder here, its engine → their copy there

    def describe(self) -> dict[str, Any]:
        """See `devices.Device.describe`."""
        return self._remote.describe()

    def push(self, bundle: Bundle, progress: Progress) -> None:
        """See `devices.Device.push`."""
        self._remote.push(bundle, progress)

    def open(
        self,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds] = (),
        told: Listener | None = None,
    ) -> Worker:
        """A fresh process there with ``artifact`` open. See `devices.Device.open`."""
        copy = self._copy(artifact.path.parent, runtime)
        moved = replace(artifact, path=Path(f"{copy}/model/{artifact.path.name}"))
        return RemoteWorker(self._remote.session, copy, moved, runtime, options, feeds, told)

    def self_test(self, folder: Path, *, substitute: bool = False) -> str:
        """Run a bundle's ``run.py`` there, and return the line it prints.

        Raises:
            ParityError: it failed; with its own words.
            EngineError: its engine is missing or refuses the model, it was killed, or the connection is lost.
            BundleError: it found its own files damaged.
        """
        copy = self._remote.session.push(folder)
        command = ["run.py", *(["test", "--substitute"] if substitute else [])]
        done = self._remote.execute(command, copy, SELF_TEST_TIMEOUT_S)
        if done["code"]:
            words = (done["err"] or done["out"]).strip().splitlines()
            raise self_test_error(int(done["code"]), words[-20:], f" on {self.url}")
        return str(done["out"]).strip().splitlines()[-1]

    def __enter__(self) -> StagingDevice:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end: the connection is `remote`'s."""

    def _copy(self, model: Path, runtime: str) -> str:
        """The artifact's folder on the device, with the engine's adapter and what runs it; sent when first asked for.

        The device keeps files by their content, so that of a second candidate only the model is sent.
        """
        key = (model, runtime)
        if key not in self._copies:
            adapter = plugins.load("runtimes", runtime)
            with work_folder() as folder:
                source = Path(str(sys.modules[adapter.__module__].__file__))
                place_runner(folder, source, adapter.__qualname__, runtime)
                place_files(model, folder / "model")
                # run.py names its code after this file's hash, and checks it against the hashes in it.
                code = sorted(path for path in (folder / "runtime").rglob("*") if path.is_file())
                files = {path.relative_to(folder).as_posix(): {"sha256": hash_file(path).sha256} for path in code}
                (folder / MANIFEST).write_text(json.dumps({"files": files}), encoding="utf-8")
                self._copies[key] = self._remote.session.push(folder)
        return self._copies[key]
