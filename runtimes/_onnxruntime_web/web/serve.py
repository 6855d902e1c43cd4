"""Serve this bundle on this machine, with the headers that WebAssembly threads need.

    python web/serve.py [--port 8000]

Then open the address it prints. A web server of your own must send the same two headers with the page that runs the
model: see `HEADERS`. Needs Python 3.10 or later and nothing else.
"""

from __future__ import annotations

import argparse
import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HEADERS = {
    # Without these two a page gets no shared memory, hence no threads: https://web.dev/articles/coop-coep
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    # Whatever the page loads may be embedded by it alone.
    "Cross-Origin-Resource-Policy": "same-origin",
    # All that the module needs; an app's own policy must allow as much.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "worker-src 'self'; img-src 'self' data:",
    "Cache-Control": "no-store",
}
TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}


class Handler(SimpleHTTPRequestHandler):
    """Files below a folder, with `HEADERS` and the content types that modules and WebAssembly need."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}  # noqa: RUF012 - as its base class has it

    def end_headers(self) -> None:
        """Add the headers to every answer."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


def main() -> int:
    """Serve until interrupted. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="serve.py", description="Serve this bundle for a browser on this machine.")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one (default: 8000)")
    port = parser.parse_args().port
    folder = Path(__file__).resolve().parent.parent
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))
    except OSError as error:
        print(f"serve.py: cannot listen on port {port}: {error.strerror}. Try: --port 0", file=sys.stderr)
        return 6
    with server:
        print(f"http://127.0.0.1:{server.server_port}/web/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
