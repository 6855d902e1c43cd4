"""The device's end of a session: keeps the cache, puts bundles together from it, and tidies up when the host is gone.

This file is sent to the device and executed there, by any Python >= 3.10 with its standard library alone; nothing of
edgekit is installed. It reads requests on standard input and answers on standard output, framed as in
`measure.protocol`: one line of JSON, then the blobs whose lengths its key ``blobs`` lists.

The cache, ``~/.cache/edgekit`` (``$XDG_CACHE_HOME/edgekit``; without a usable home ``/tmp/edgekit-UID``, on Android
``/data/local/tmp/edgekit``):

    blobs/SHA256      files by their content; those unused for `KEEP_DAYS` are deleted
    runs/ID/          what this session runs: hard links into blobs, deleted when the session ends, however it ends
    packages/pyXY/    Python packages that ``edgekit doctor --device URL --install`` put here
    .lock             held shared by every session; a session that gets it alone deletes what a crash left in runs/
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

KEEP_DAYS = 30
CHUNK = 1 << 20
MARKER = b"edgekit-agent 1\n"


class RefusedError(Exception):
    """An error that the host shows to its user."""

    def __init__(self, what: str, details: Sequence[str] = (), fix: str = "") -> None:
        self.message = {"type": "EngineError", "what": what, "details": list(details), "fix": fix}
        super().__init__(what)


class Agent:
    """The commands, by name. Each takes the request and returns the reply."""

    def __init__(self, requests: BinaryIO) -> None:
        self.requests = requests
        self.root = usable_root()
        self.blobs, self.runs = self.root / "blobs", self.root / "runs"
        self.packages = self.root / "packages" / f"py{sys.version_info[0]}{sys.version_info[1]}"
        self.lock = open(self.root / ".lock", "wb")  # noqa: SIM115, PTH123 - held until the process ends
        if self._alone():
            self._tidy()
        fcntl.flock(self.lock, fcntl.LOCK_SH)
        self.blobs.mkdir(exist_ok=True)
        self.runs.mkdir(exist_ok=True)
        self.run_folder = Path(tempfile.mkdtemp(dir=self.runs))

    def hello(self, request: dict[str, Any]) -> dict[str, Any]:
        """Who answers, and where the cache is."""
        return {
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "root": str(self.root),
            "packages": str(self.packages) if self.packages.is_dir() else None,
        }

    def missing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Which of ``files`` (a list of SHA-256) must be sent; a cached file that is damaged is dropped first."""
        absent = []
        for sha in request["files"]:
            blob = self.blobs / sha
            try:
                intact = _sha256(blob) == sha
            except FileNotFoundError:
                absent.append(sha)
                continue
            if intact:
                os.utime(blob)
            else:
                blob.unlink()
                absent.append(sha)
        return {"missing": absent}

    def put(self, request: dict[str, Any]) -> dict[str, Any]:
        """Receive the files ``files`` (a list of SHA-256), one blob each. All of them are read whatever happens."""
        sizes: list[int] = request["blobs"]
        problem = self._no_room(sum(sizes))
        for sha, size in zip(request["files"], sizes, strict=True):
            try:
                if problem is None:
                    self._receive(sha, size)
                    continue
            except OSError as error:
                problem = self._from_system(error)
            except RefusedError as error:
                problem = error
            else:
                self._rest = size
            while self._rest:
                self._next_chunk()
        if problem is not None:
            raise problem
        return {}

    def tree(self, request: dict[str, Any]) -> dict[str, Any]:
        """Put a folder together: ``files`` maps names to SHA-256. Returns its path."""
        folder = Path(tempfile.mkdtemp(dir=self.run_folder))
        for name, sha in request["files"].items():
            target = folder / name
            if ".." in target.parts:
                raise RefusedError(f"{name!r} is not a safe name for a file")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.blobs / sha, target)
            except FileNotFoundError:
                raise RefusedError(f"'{name}' has gone from the device's cache", fix="Start again.") from None
            except OSError:  # a file system without hard links
                shutil.copyfile(self.blobs / sha, target)
        return {"folder": str(folder)}

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call ``function`` of the Python ``source`` without arguments; returns its value, plain JSON."""
        names: dict[str, Any] = {"__name__": "edgekit_sent"}
        exec(compile(request["source"], "sent by the host", "exec"), names)
        return {"value": names[request["function"]]()}

    def execute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run ``argv``, by itself, so that a crash of it is only its own."""
        environment = {**os.environ, **request["env"], "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                request["argv"],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=request["timeout_s"],
                env=environment,
                cwd=request["cwd"],
            )
        except subprocess.TimeoutExpired:
            return {"code": 124, "out": "", "err": f"no answer within {request['timeout_s']:g} s"}
        text = [part.decode(errors="replace") for part in (done.stdout, done.stderr)]
        return {"code": done.returncode, "out": text[0], "err": text[1]}

    def install(self, request: dict[str, Any]) -> dict[str, Any]:
        """Unpack the wheels ``wheels`` (a list of SHA-256) into a fresh packages folder."""
        self.packages.parent.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=self.run_folder))
        for sha in request["wheels"]:
            with zipfile.ZipFile(self.blobs / sha) as wheel:
                wheel.extractall(fresh)  # refuses nothing but normalises: no member leaves the folder
        shutil.rmtree(self.packages, ignore_errors=True)
        fresh.rename(self.packages)
        for sha in request["wheels"]:
            (self.blobs / sha).unlink(missing_ok=True)  # they are large, and needed once
        return {"packages": str(self.packages)}

    def clean(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete the whole cache, unless another session uses it."""
        if not self._alone():
            raise RefusedError(
                f"another session is using the device's cache {self.root}", fix="Try again when it is done."
            )
        shutil.rmtree(self.root)
        return {"deleted": str(self.root)}

    def close(self) -> None:
        """Delete what this session ran."""
        shutil.rmtree(self.run_folder, ignore_errors=True)

    _rest = 0  # bytes of the current blob that are still to come

    def _next_chunk(self) -> bytes:
        data = self.requests.read(min(CHUNK, self._rest))
        if not data:
            raise EOFError
        self._rest -= len(data)
        return data

    def _receive(self, sha: str, size: int) -> None:
        self._rest = size
        digest = hashlib.sha256()
        arriving = self.run_folder / sha
        try:
            with arriving.open("wb") as file:
                while self._rest:
                    data = self._next_chunk()
                    digest.update(data)
                    file.write(data)
            if digest.hexdigest() != sha:
                raise RefusedError("a file arrived damaged on the device", [f"SHA-256 {sha}"], "Try again.")
            arriving.rename(self.blobs / sha)
        finally:
            arriving.unlink(missing_ok=True)

    def _no_room(self, needed: int) -> RefusedError | None:
        free = shutil.disk_usage(self.root).free
        if needed <= free:
            return None
        return RefusedError(
            f"no space left on the device: {self.root} has {free / 1e6:.1f} MB free, the files to send take "
            f"{needed / 1e6:.1f} MB",
            fix="Free some space there.",
        )

    def _from_system(self, error: OSError) -> RefusedError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return RefusedError(f"no space left on the device in {self.root}", fix="Free some space there.")
        return RefusedError(f"the device cannot write to {self.root}: {error.strerror}")

    def _alone(self) -> bool:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _tidy(self) -> None:
        """Delete what a crash left behind, and what nobody used for long."""
        shutil.rmtree(self.runs, ignore_errors=True)
        if self.blobs.is_dir():
            for blob in self.blobs.iterdir():
                if time.time() - blob.stat().st_mtime > KEEP_DAYS * 86400:
                    blob.unlink()


def usable_root() -> Path:
    """The first cache folder that is ours and can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    own = f"edgekit-{os.getuid()}"
    choices = [Path(home, "edgekit"), Path(tempfile.gettempdir(), own), Path("/data/local/tmp/edgekit")]
    refused = []
    for choice in choices:
        try:
            choice.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=choice):
                pass
            # Nobody else may have made it in a folder that all can write to.
            if choice.is_symlink() or choice.stat().st_uid != os.getuid():
                raise PermissionError(errno.EACCES, "it belongs to somebody else")
        except OSError as error:
            refused.append(f"{choice}: {error.strerror}")
            continue
        return choice
    raise RefusedError(
        "the device has no folder to write to", refused, "Free some space, or give its user a home folder."
    )


def main() -> None:
    """Serve until the end of the input."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGHUP):  # `timeout` sends the first: end tidily
        signal.signal(number, lambda *_: sys.exit(124))
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def answer(message: dict[str, Any]) -> None:
        replies.write(json.dumps({**message, "blobs": []}).encode() + b"\n")
        replies.flush()

    replies.write(MARKER)
    replies.flush()
    agent: Agent | None = None
    requests = sys.stdin.buffer
    with contextlib.suppress(BrokenPipeError, EOFError):
        try:
            for line in iter(requests.readline, b""):
                if not line.endswith(b"\n"):
                    break
                request = json.loads(line)
                try:
                    agent = agent or Agent(requests)
                    answer({"ok": getattr(agent, request["command"])(request)})
                except RefusedError as error:
                    answer({"error": error.message})
                except (OSError, ValueError) as error:
                    refusal = (
                        agent._from_system(error) if agent and isinstance(error, OSError) else RefusedError(str(error))
                    )
                    answer({"error": refusal.message})
        finally:
            if agent:
                agent.close()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "edgekit_agent":
    main()
