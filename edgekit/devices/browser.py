"""A browser of this machine, headless: the engines that run in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import plugins
from ..contracts import Artifact, Feeds
from ..errors import EngineError, UsageError
from ..facts import runtime_facts
from ..measure.client import Worker
from ..measure.telling import Listener
from .local import LocalDevice

_PRICED = "null"  # runs beside every engine: what timing costs


@dataclass(frozen=True, slots=True)
class BrowserReport:
    """What a page can have in the browser of this machine."""

    url: str
    path: str  # the browser's
    version: str  # "Chrome/156.0.8078.79"
    engine: str | None  # onnxruntime-web's version; None: not here
    engine_folder: str | None
    no_engine: str | None  # why not, and how it comes
    cores: int | None
    threads: bool  # whether WebAssembly may have several
    webgpu: Mapping[str, Any] | None  # the adapter: its name, whether the CPU plays it, whether it has fp16
    no_webgpu: str | None

    def to_json(self) -> dict[str, Any]:
        """The object of ``doctor --device browser --json`` (schema 1)."""
        return {"schema": 1, **asdict(self), "ready": self.no_engine is None}


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
        """See `measure.here.describe`, with the ``browser`` and its version; None: there is none."""
        from ..runtimes._onnxruntime_web.browser import browser_version, find_browser

        try:
            found = browser_version(find_browser(self._path))
        except EngineError:
            found = None
        return {**super().describe(), "browser": found}

    def examine(self, *, fetch: bool = False) -> BrowserReport:
        """Start the browser and ask a page what it can have.

        Args:
            fetch: bring onnxruntime-web here by npm, if it is not.

        Raises:
            EngineError: there is no browser, or it does not start; or npm fails.
        """
        from ..runtimes._onnxruntime_web.browser import GPU_FLAGS, Browser
        from ..runtimes._onnxruntime_web.package import VERSION, can_fetch, find_package, get_package, missing
        from ..runtimes._onnxruntime_web.session import page_environment

        package = get_package() if fetch else find_package()
        no_engine = None
        if package is None:
            wait = (
                f"onnxruntime-web {VERSION} comes by npm at the first use, or now: edgekit doctor --device {self.url}"
            )
            no_engine = f"{wait} --install" if can_fetch() else str(missing())
        browser = Browser(GPU_FLAGS, path=self._path)
        try:
            told = page_environment(browser)
        finally:
            browser.close()
        return BrowserReport(
            url=self.url,
            path=browser.path,
            version=browser.version,
            engine=None if package is None else package.version,
            engine_folder=None if package is None else str(package.folder),
            no_engine=no_engine,
            cores=told["cores"],
            threads=told["noThreads"] is None,
            webgpu=told["webgpu"],
            no_webgpu=told["noWebgpu"],
        )

    def open(
        self,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds] = (),
        told: Listener | None = None,
    ) -> Worker:
        """Start a worker, which starts the browser. See `devices.Device.open`.

        Raises:
            UsageError: the runtime does not run in a browser.
            EngineError: there is no browser, or it crashed; the engine is missing or refuses the model.
        """
        from ..runtimes._onnxruntime_web.browser import BROWSER
        from ..runtimes._onnxruntime_web.package import bundled

        if runtime != _PRICED and runtime_facts(plugins.load("runtimes", runtime)).host != "browser":
            raise UsageError(
                f"runtime '{runtime}' does not run in a browser", fix="Export the model for one: --target web"
            )
        environment = {} if self._path is None else {BROWSER: self._path}
        return self._start(artifact, runtime, options, feeds, told, {**environment, **bundled(artifact.path)})
