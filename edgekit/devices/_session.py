"""The host's end of a session with a device: start `_agent` there, send files, ask it things."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..bundle.read import hash_file
from ..errors import EngineError, signal_name
from ..measure import machine, quota
from ..measure.protocol import error_from_json, read_message
from ..measure.scratch import scratch_file
from ._transport import Transport

PYTHON_FLOOR = (3, 10)  # JetPack 6 (Ubuntu 22.04) brings it
_MARKER = b"edgekit-agent 1\n"
_AGENT = Path(__file__).with_name("_agent.py")
_CHUNK = 1 << 20
_CLOSE_S = 5.0
_START_S = 120.0  # connecting, and starting Python twice on a slow board
_NO_TIMEOUT, _NO_PYTHON, _TIMED_OUT = 96, 97, 124  # exit codes: the first two are `_START`'s
_PYTHONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10")

# Finds a Python that is new enough and starts the agent in it, whose source follows on standard input.
# `timeout` ends it even where nobody notices that the host has gone.
_START = """
command -v timeout >/dev/null 2>&1 || exit {no_timeout}
for p in {pythons}; do
  v=$("$p" -c "import sys; print(\\"%d.%d\\" % sys.version_info[:2]); sys.exit(sys.version_info < {floor})" \
</dev/null 2>/dev/null)
  if [ $? = 0 ]; then timeout -k 10 {limit} "$p" -c {boot}; exit $?; fi
  if [ -n "$v" ]; then echo "edgekit-old $p is Python $v" >&2; fi
done
exit {no_python}
"""
_BOOT = (
    "import sys; s=sys.stdin.buffer; exec(compile(s.read(int(s.readline())), 'edgekit-agent', 'exec'), "
    "{'__name__': 'edgekit_agent'})"
)


class Session:
    """A running agent on the device. Not thread-safe.

    Args:
        transport: the way there; stays the caller's to close.
        limit_s: what runs there is ended after so long, whatever happens to this host.

    Attributes:
        python: the interpreter's path there.
        root: the cache's folder there.
        packages: the folder of packages that were put there, if any.

    Raises:
        EngineError: the device is unreachable, or has no Python >= 3.10.
    """

    def __init__(self, transport: Transport, limit_s: float) -> None:
        self.transport = transport
        self.limit_s = round(limit_s)
        self._stderr = scratch_file()  # a pipe could fill up
        argv = transport.argv(_start_script(transport.python, self.limit_s))
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, start_new_session=True
            )
        except OSError as error:
            self._stderr.close()
            raise no_client(argv[0], error) from error
        try:
            self._send_agent()
            hello = self.ask("hello")
        except BaseException:
            self.close()
            raise
        self.python: str = hello["executable"]
        self.root: str = hello["root"]
        self.packages: str | None = hello["packages"]

    def ask(
        self,
        command: str,
        values: Mapping[str, Any] | None = None,
        blobs: Sequence[Path] = (),
        sent: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Send a request, with the content of ``blobs`` behind it, and return the answer.

        Args:
            command: the name of a method of `_agent.Agent`.
            values: the request's other keys.
            blobs: files to send, in chunks.
            sent: told the bytes sent so far, and of how many.

        Raises:
            EngineError: the device refuses, or the connection is lost.
        """
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        sizes = [path.stat().st_size for path in blobs]
        done = 0
        if requests.closed:  # an earlier request found it gone
            raise EngineError(
                f"device '{self.transport.url}': the connection was lost before it was asked to {command}",
                fix="Try again when it is back.",
            )
        try:
            requests.write(json.dumps({"command": command, **(values or {}), "blobs": sizes}).encode() + b"\n")
            for chunk in _chunks(blobs):
                requests.write(chunk)
                done += len(chunk)
                if sent is not None:
                    sent(done, sum(sizes))
            requests.flush()
            message = read_message(replies)
        except OSError as error:
            if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                raise
            message = None
        if message is None:
            raise self.ended(f"was asked to {command}")
        header, _ = message
        if "error" in header:
            found = error_from_json(header["error"])
            raise type(found)(f"device '{self.transport.url}': {found.what}", details=found.details, fix=found.fix)
        answer: dict[str, Any] = header["ok"]
        return answer

    def send(self, files: Mapping[str, Path], sent: Callable[[int, int], None] | None = None) -> None:
        """Bring files into the device's cache, those that are not there yet.

        Args:
            files: SHA-256 → file.
            sent: told the bytes sent so far, and of how many.
        """
        missing = self.ask("missing", {"files": sorted(files)})["missing"]
        if missing:
            self.ask("put", {"files": missing}, [files[sha] for sha in missing], sent)

    def push(self, folder: Path, sent: Callable[[int, int], None] | None = None) -> str:
        """Put a copy of ``folder`` on the device, sending only the files that its cache lacks.

        Args:
            folder: with plain files and folders alone.
            sent: told the bytes sent so far, and of how many.

        Returns:
            The copy's path there. It is deleted when the session ends.
        """
        paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        names = {path.relative_to(folder).as_posix(): hash_file(path).sha256 for path in paths}
        self.send({names[path.relative_to(folder).as_posix()]: path for path in paths}, sent)
        return str(self.ask("tree", {"files": names})["folder"])

    def describe(self) -> dict[str, Any]:
        """The device, by what `measure.here.describe` consists of, executed there."""
        facts: dict[str, Any] = self._call(machine, "describe")
        return {
            **facts,
            "cpu_quota": self._call(quota, "cpus"),
            "url": self.transport.url,
            "unverified": self.transport.unverified,
        }

    def _call(self, module: ModuleType, function: str) -> Any:
        """What a function of one of our modules, which imports no other, answers there."""
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        return self.ask("call", {"source": source, "function": function})["value"]

    def close(self) -> None:
        """End the session: the device deletes what it ran. A second call does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()  # the agent ends at the end of its input
            try:
                self._process.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def ended(self, when: str) -> EngineError:
        """Why the agent is no longer there."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            code = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._stderr.seek(0)
        return explain(
            self.transport, code, self._stderr.read().decode(errors="replace"), self.limit_s, f"the agent {when}"
        )

    def _send_agent(self) -> None:
        """Send the agent's source, and wait for it to say that it is there."""
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        source = _AGENT.read_bytes()
        watchdog = threading.Timer(_START_S, self._process.kill)
        try:
            requests.write(b"%d\n" % len(source) + source)
            requests.flush()
            watchdog.start()
            first = replies.readline()
        except BrokenPipeError:
            first = b""
        finally:
            watchdog.cancel()
        if not first and self._process.poll() == -signal.SIGKILL:
            raise EngineError(f"device '{self.transport.url}' did not start Python within {_START_S:g} s")
        if not first:
            raise self.ended("was started")
        if first != _MARKER:
            raise EngineError(
                f"device '{self.transport.url}': its shell prints text when it starts, which would mix with the data",
                details=[first.decode(errors="replace").strip()[:200]],
                fix="Let its start-up files (.bashrc) print only in interactive shells.",
            )


def explain(transport: Transport, code: int, stderr: str, limit_s: int, what: str) -> EngineError:
    """Why a process on the device ended that should not have.

    Args:
        transport: the way there.
        code: the exit code, as the transport's client gave it.
        stderr: what the process and the client printed.
        limit_s: the time limit it ran under.
        what: the process, for the message: "the process of runtime 'onnxruntime' was asked to open".
    """
    where = f"device '{transport.url}'"
    found = transport.failure(code, stderr)
    if found is not None:
        return found
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    floor = ".".join(map(str, PYTHON_FLOOR))
    if code == _NO_PYTHON:
        old = [line.removeprefix("edgekit-old ") for line in lines if line.startswith("edgekit-old ")]
        named = transport.python
        return EngineError(
            f"{where}: '{named}' is not Python {floor} or later"
            if named
            else f"{where} has no Python {floor} or later",
            details=old,
            fix=f"Name one as in {transport.url.partition('?')[0]}?python=/path/to/python3. "
            "Or install it there, on Debian, Ubuntu and Raspberry Pi OS: sudo apt-get install python3",
        )
    if code == _NO_TIMEOUT:
        return EngineError(f"{where} has no command 'timeout'", fix="Install coreutils or busybox there.")
    if code == _TIMED_OUT:
        return EngineError(f"{where}: ended after its time limit of {limit_s} s: {what}", details=lines[-5:])
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        fix = "Was the memory enough? The system kills a process that takes too much." if number == 9 else ""
        return EngineError(f"{where}: killed by {signal_name(number)}: {what}", details=lines[-5:], fix=fix)
    return EngineError(f"{where}: ended with exit code {code}: {what}", details=lines[-5:])


def _start_script(python: str | None, limit_s: int) -> str:
    pythons = " ".join(_PYTHONS) if python is None else _home(python)
    return _START.format(
        no_timeout=_NO_TIMEOUT,
        no_python=_NO_PYTHON,
        pythons=pythons,
        floor=PYTHON_FLOOR,
        limit=limit_s,
        boot=shlex.quote(_BOOT),
    ).strip()


def _home(path: str) -> str:
    """Quoted for a shell, which still has to know what ``~/`` stands for."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def no_client(command: str, error: OSError) -> EngineError:
    """The host lacks ssh or adb."""
    packages = {"ssh": "openssh-client", "adb": "adb"}
    if isinstance(error, FileNotFoundError) and command in packages:
        return EngineError(
            f"the command '{command}' is not installed here",
            fix=f"Install it: sudo apt-get install {packages[command]}",
        )
    return EngineError(f"cannot start {command}: {error.strerror}")
