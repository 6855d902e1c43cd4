"""The Chrome DevTools protocol over a pair of pipes (``--remote-debugging-pipe``): no port, nobody else can join.

A message is JSON, ended by a zero byte. Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import os
import select
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

_CHUNK = 1 << 16


class DisconnectedError(Exception):
    """The browser closed the pipe: it ended, or crashed."""


class TimedOutError(Exception):
    """The browser did not answer in time."""


class RefusedError(Exception):
    """The browser answered with an error, in its words."""


class DevTools:
    """One connection. Not thread-safe.

    Args:
        read: the descriptor to read answers from; closed by `close`.
        write: the descriptor to write commands to; closed by `close`.

    Attributes:
        events: what the browser told without being asked, the newest last; whoever reads them takes them out.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = bytearray()
        self._last = 0
        self._open = True
        self.events: deque[dict[str, Any]] = deque(maxlen=1000)

    def call(
        self, method: str, values: Mapping[str, Any] | None = None, *, session: str | None = None, timeout_s: float
    ) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Args:
            method: ``Domain.method``.
            values: its parameters.
            session: of the page that it is for; None: the browser.
            timeout_s: seconds.

        Raises:
            DisconnectedError: the browser is gone.
            TimedOutError: no answer.
            RefusedError: an error is the answer.
        """
        number = self.send(method, values, session=session)
        end = time.monotonic() + timeout_s
        while True:
            message = self._receive(end)
            if message.get("id") != number:
                if "method" in message:
                    self.events.append(message)
                    if message["method"] == "Inspector.targetCrashed":
                        raise DisconnectedError("the page crashed")
                continue
            if "error" in message:
                raise RefusedError(f"{method}: {message['error'].get('message', message['error'])}")
            result: dict[str, Any] = message["result"]
            return result

    def send(self, method: str, values: Mapping[str, Any] | None = None, *, session: str | None = None) -> int:
        """Send a command without waiting. Returns its number.

        Raises:
            DisconnectedError: the browser is gone.
        """
        self._last += 1
        message = {"id": self._last, "method": method, "params": dict(values or {})}
        if session is not None:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        try:
            while data:
                data = data[os.write(self._write, data) :]
        except OSError as error:
            raise DisconnectedError(str(error)) from error
        return self._last

    def wait_for(self, event: str, *, session: str, timeout_s: float) -> dict[str, Any]:
        """The first event of that name in a page, from those already told or still to come.

        Raises:
            DisconnectedError: the browser is gone.
            TimedOutError: it did not come.
        """
        end = time.monotonic() + timeout_s
        while True:
            for message in list(self.events):
                if message["method"] == event and message.get("sessionId") == session:
                    self.events.remove(message)
                    return message
            message = self._receive(end)
            if "method" in message:
                self.events.append(message)

    def close(self) -> None:
        """Close the pipes, at which the browser ends. A second call does nothing."""
        if self._open:
            self._open = False
            os.close(self._write)
            os.close(self._read)

    def _receive(self, end: float) -> dict[str, Any]:
        while (stop := self._buffer.find(0)) < 0:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimedOutError
            data = os.read(self._read, _CHUNK)
            if not data:
                raise DisconnectedError("the browser ended")
            self._buffer += data
        message: dict[str, Any] = json.loads(self._buffer[:stop])
        del self._buffer[: stop + 1]
        return message
