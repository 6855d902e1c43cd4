"""A device over plain OpenSSH: the user's own configuration, keys, agent and known hosts apply."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

from ..errors import EngineError
from ..tempdir import work_folder
from ._address import Address

CONNECT_S = 15
_SOCKET_PATH_MAX = 80  # a Unix socket's path holds 104 characters on macOS, and ssh adds 17 while it makes one
_LOST_EXIT = 255  # ssh's own failure; the remote command's exit code otherwise
_LOST = "the connection was lost"
_LOST_FIX = "Did it reboot, or lose its network? Try again when it is back."

# What ssh says → what to tell. The first that matches counts.
_FAILURES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key has changed: another machine answers there, or it was installed again",
        "If you know why: ssh-keygen -R {known}, then connect once by hand: {ssh}",
    ),
    (
        r"Host key verification failed|host key is known for",
        "its host key is not known here",
        "Connect once by hand and compare the key: {ssh}",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "there is no host by that name",
        "Check the name, or give the address.",
    ),
    (
        r"Permission denied|Too many authentication failures|No more authentication methods",
        "permission denied: it accepts none of the keys offered",
        "Install your key there: ssh-copy-id {copy}",
    ),
    (r"Connection refused", "nothing listens there: connection refused", "Is sshd running there, on this port?"),
    (
        r"timed out during banner|Connection timed out|Operation timed out|No route to host|[Uu]nreachable",
        "it does not answer",
        "Is it on, and on this network?",
    ),
    (
        r"not responding|closed by|Broken pipe|reset by peer|[Cc]onnection.*(closed|aborted)|disconnect",
        _LOST,
        _LOST_FIX,
    ),
    (r"[Bb]ad configuration|Bad owner|terminating", "your ssh configuration is refused", "Try: {ssh}"),
)


class SshTransport:
    """ssh to one device, all commands over one connection."""

    unverified: str | None = None

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self.python = address.python
        self._cleanup = contextlib.ExitStack()
        self._control: Path | None = None
        self._where = [
            *(["-p", str(address.port)] if address.port else []),
            *(["-l", address.user] if address.user else []),
        ]
        self._host = address.host
        self._options = [
            "-T",  # no terminal: the streams carry binary data
            "-oBatchMode=yes",  # never ask: an answer would come from nobody
            f"-oConnectTimeout={CONNECT_S}",
            "-oServerAliveInterval=5",  # a device that is gone is noticed within 30 s
            "-oServerAliveCountMax=6",
            "-oForwardAgent=no",
            "-oForwardX11=no",
            "-oClearAllForwardings=yes",
            "-oRequestTTY=no",
            "-oRemoteCommand=none",
            "-oPermitLocalCommand=no",
            *self._shared_connection(),
        ]

    def argv(self, script: str) -> list[str]:
        """See `_transport.Transport.argv`. The account's own shell, whichever it is, starts ``sh``."""
        return ["ssh", *self._options, *self._where, "--", self._host, f"sh -c {shlex.quote(script)}"]

    def failure(self, code: int, stderr: str) -> EngineError | None:
        """Sort what ssh said when it ended with 255."""
        if code != _LOST_EXIT:
            return None
        said = [line.strip() for line in stderr.splitlines() if line.strip()]
        user = self._where[self._where.index("-l") + 1] + "@" if "-l" in self._where else ""
        port = self._where[self._where.index("-p") + 1] if "-p" in self._where else None
        hints = {
            "ssh": f"ssh {f'-p {port} ' if port else ''}{user}{self._host}",
            "copy": f"{f'-p {port} ' if port else ''}{user}{self._host}",
            "known": shlex.quote(f"[{self._host}]:{port}") if port else self._host,
        }
        for pattern, what, fix in _FAILURES:
            if re.search(pattern, stderr):
                return EngineError(f"device '{self.url}': {what}", details=said[-3:], fix=fix.format(**hints))
        if not said:  # a connection that others shared ends without a word
            return EngineError(f"device '{self.url}': {_LOST}", fix=_LOST_FIX)
        return EngineError(f"device '{self.url}': ssh failed", details=said[-3:], fix=f"Try: {hints['ssh']}")

    def close(self) -> None:
        """End the shared connection."""
        if self._control is not None and self._control.exists():
            subprocess.run(
                ["ssh", *self._options, "-O", "exit", *self._where, "--", self._host],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,  # it may have ended by itself
            )
        self._control = None
        self._cleanup.close()

    def _shared_connection(self) -> list[str]:
        """Options for one connection that all commands share: a command then takes 0.1 s instead of a log-in."""
        if os.name == "nt":  # OpenSSH for Windows has no control sockets
            return []
        folder = self._cleanup.enter_context(work_folder())
        if len(str(folder)) > _SOCKET_PATH_MAX:  # a deep TMPDIR
            folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-", dir="/tmp")))
        self._control = folder / "ssh"
        # It ends by itself a while after the last command, should this process be killed.
        return ["-oControlMaster=auto", f"-oControlPath={self._control}", "-oControlPersist=30"]
