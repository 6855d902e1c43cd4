"""A browser of this machine, headless: the engines that run in a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import plugins
from ..contracts import Artifact, Feeds
from ..errors import UsageError
from ..measure.client import Worker
from .local import LocalDevice

_PRICED = "null"  # runs beside every engine: what timing costs


class BrowserDevice(LocalDevice):
    """``browser``: the Chromium that is installed; ``browser:/path/to/chrome``: that one.

    Raises:
        UsageError: the URL names no path.
    """

    def __init__(self, url: str = "browser") -> None:
        self.url = url
        _, colon, path = url.partition(":")
        if colon and not path.startswith("/"):
            raise UsageError(f"'{url}' is not a device", fix="Write browser, or browser:/path/to/chrome.")
        self._path = path or None

    def describe(self) -> dict[str, Any]:
        """See `measure.machine.describe`, with the ``browser`` and its version; None: there is none."""
        from ..errors import EngineError
        from ..runtimes._onnxruntime_web.browser import browser_version, find_browser

        try:
            found = browser_version(self._path or find_browser())
        except EngineError:
            found = None
        return {**super().describe(), "browser": found}

    def open(self, artifact: Artifact, runtime: str, options: Any, feeds: Sequence[Feeds] = ()) -> Worker:
        """Start a worker, which starts the browser. See `devices.Device.open`.

        Raises:
            UsageError: the runtime does not run in a browser.
            EngineError: there is no browser, or it crashed; the engine is missing or refuses the model.
        """
        from ..runtimes._onnxruntime_web.browser import BROWSER
        from ..runtimes._onnxruntime_web.package import bundled

        if runtime != _PRICED and getattr(plugins.load("runtimes", runtime), "host", None) != "browser":
            raise UsageError(
                f"runtime '{runtime}' does not run in a browser", fix="Export the model for one: --target web"
            )
        environment = {} if self._path is None else {BROWSER: self._path}
        return self._start(artifact, runtime, options, feeds, {**environment, **bundled(artifact.path)})
