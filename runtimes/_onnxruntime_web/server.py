"""The page's server: files laid out like a bundle, and tensors in both directions. On the loopback interface alone."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import EngineError
from .web.serve import HEADERS, TYPES

if TYPE_CHECKING:  # Python 3.11 has it, a device may have 3.10
    from typing import Self  # novm

_CHUNK = 1 << 20


class Server:
    """Serves until it is closed.

    Args:
        files: path below `url` → a file, or bytes.

    Attributes:
        url: where the page finds them; it holds a secret, so that nothing else on the machine does.
    """

    def __init__(self, files: Mapping[str, Path | bytes]) -> None:
        self._files = dict(files)
        self._received: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        self._prefix = f"/{secrets.token_urlsafe(16)}/"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}{self._prefix}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def offer(self, data: bytes) -> str:
        """Let the page fetch ``data`` at the path returned, until `forget`."""
        path = f"blob/{next(self._numbers)}"
        self._files[path] = data
        return path

    def forget(self, path: str) -> None:
        """Take back what was offered."""
        self._files.pop(path, None)

    def take(self, path: str) -> bytes:
        """What the page sent to a path.

        Raises:
            EngineError: it sent nothing there.
        """
        if path not in self._received:
            raise EngineError(f"the page sent no result to {path}")
        return self._received.pop(path)

    def close(self) -> None:
        """Stop. A second call does nothing."""
        self._http.shutdown()
        self._http.server_close()
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        files, received, prefix = self._files, self._received, self._prefix

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement of its header

            def do_GET(self) -> None:
                source = files.get(self.path.removeprefix(prefix)) if self.path.startswith(prefix) else None
                if source is None:
                    self._answer(HTTPStatus.NOT_FOUND, 0)
                elif isinstance(source, bytes):
                    self._answer(HTTPStatus.OK, len(source))
                    self.wfile.write(source)
                else:
                    with source.open("rb") as file:
                        self._answer(HTTPStatus.OK, source.stat().st_size)
                        while data := file.read(_CHUNK):
                            self.wfile.write(data)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if not self.path.startswith(prefix):
                    self._answer(HTTPStatus.NOT_FOUND, 0)
                    return
                received[self.path.removeprefix(prefix)] = data
                self._answer(HTTPStatus.NO_CONTENT, 0)

            def _answer(self, status: HTTPStatus, length: int) -> None:
                self.send_response(status)
                suffix = PurePosixPath(self.path).suffix
                self.send_header("Content-Type", TYPES.get(suffix, _HTML if suffix == ".html" else _BYTES))
                self.send_header("Content-Length", str(length))
                for name, value in HEADERS.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: what matters is told by the page."""

        return Handler


_HTML, _BYTES = "text/html; charset=utf-8", "application/octet-stream"
