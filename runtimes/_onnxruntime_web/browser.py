"""A headless Chromium of its own: an empty profile, no network, gone when its user is."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import EngineError
from ...measure.scratch import scratch_file
from . import devtools

BROWSER = "EDGEKIT_BROWSER"
"""The environment variable that names another browser (a path, or a name on the PATH)."""
ARGUMENTS = "EDGEKIT_BROWSER_ARGS"
"""The environment variable that adds arguments to its command line."""
INSTALL = "apt install chromium"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
GPU_FLAGS = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")
"""WebGPU by the machine's GPU, which Chromium on Linux does not offer by itself."""
SOFTWARE_GPU_FLAGS = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
"""WebGPU without a GPU: SwiftShader computes it on the CPU."""
CPU_FLAGS = ("--disable-gpu",)

_START_S = 60.0  # a cold start from a slow disk
_ANSWER_S = 30.0  # for what the browser does by itself
_CLOSE_S = 15.0
_LAST_WORDS = 5
_LONGEST_PATH = 30  # a Unix socket's path holds 104 characters on macOS; the profile and Chromium add 74
_FOLDERS = ("TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")  # all that it writes lies in its profile, and goes with it
_LOOKS = 5
_CPU_TICK_S = 0.02  # CPU times come in ticks of 10 ms
# The first: which process is the page's must be known. The others work beside it.
_FEATURES = (
    "SpareRendererForSitePerProcess",
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "Translate",
    "OptimizationHints",
    "MediaRouter",
)
# Nothing but the page may run or be fetched, and nothing may hold the measured page back.
_FLAGS = (
    "--headless",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    f"--disable-features={','.join(_FEATURES)}",
    "--disable-quic",
    "--disable-renderer-backgrounding",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    "--password-store=basic",
    "--use-mock-keychain",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)


def find_browser(named: str | None = None) -> str:
    """The path of the browser to use: the one ``named``, or `BROWSER`'s, or the first Chromium that is installed.

    Raises:
        EngineError: there is none, or this system cannot start one.
    """
    if os.name != "posix":
        raise EngineError(
            "a browser is started on Linux and macOS only", fix="Use WSL, or python web/serve.py by hand."
        )
    named = named or os.environ.get(BROWSER)
    if named:
        found = shutil.which(named)
        if found is None:
            raise EngineError(f"browser '{named}' is not a program", fix=f"Name another, or install one: {INSTALL}")
        return found
    for name in (*_NAMES, *_APPLICATIONS):
        found = shutil.which(name)
        if found is not None:
            return found
    raise EngineError(
        f"no Chromium is installed (looked for {', '.join(_NAMES)})",
        fix=f"Install it: {INSTALL}; or name one: {BROWSER}=/path/to/chrome",
    )


def browser_version(path: str) -> str | None:
    """``Chromium 156.0.8078.79``; None where it does not tell."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^\S.* \d+\.\d+\.\d+\.\d+", done.stdout, re.MULTILINE)
    return found[0] if found else None


class Browser:
    """A running browser. Close it; if this process dies first, `guard` ends it.

    Args:
        flags: further arguments.
        path: of the browser; None: see `find_browser`.

    Raises:
        EngineError: there is no browser, or it does not start; with its last words.
    """

    def __init__(self, flags: Sequence[str] = (), path: str | None = None) -> None:
        self.path = find_browser(path)
        profile = _short_temporary_folder() / f"edgekit-browser-{secrets.token_hex(8)}"
        command = [self.path, *_FLAGS, f"--user-data-dir={profile}", *_sandbox(), *flags, *_asked_for(), "about:blank"]
        guard = str(Path(__file__).with_name("guard.py"))
        self._log = scratch_file()  # a pipe could fill up
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()
        try:
            self._guard = subprocess.Popen(
                # -I -S: nothing of the user's environment or site-packages.
                [sys.executable, "-I", "-S", guard, str(profile), str(their_read), str(their_write), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=(their_read, their_write),
                start_new_session=True,  # Ctrl-C and a kill of the process group must not reach it
                env={**os.environ, **dict.fromkeys(_FOLDERS, str(profile))},
            )
        finally:
            os.close(their_read)
            os.close(their_write)
        self._devtools = devtools.DevTools(our_read, our_write)
        try:
            # A browser of another kind does not answer.
            told = self.ask("Browser.getVersion", "start (is it a Chromium?)", timeout_s=_START_S)
            self.version = str(told["product"])
        except BaseException:
            self.close()
            raise

    def page(self, url: str) -> Page:
        """Open a page in a context, hence a process, of its own. What it loads at once has run when this returns.

        Raises:
            EngineError: the browser crashed, or the page does not load.
        """
        context = self.ask("Target.createBrowserContext", "open a page")["browserContextId"]
        where = {"url": "about:blank", "browserContextId": context}
        target = self.ask("Target.createTarget", "open a page", where)["targetId"]
        attach = {"targetId": target, "flatten": True}
        session = str(self.ask("Target.attachToTarget", "open a page", attach)["sessionId"])
        for domain in ("Page", "Runtime", "Inspector", "Log", "Performance"):
            self.ask(f"{domain}.enable", "open a page", session=session)
        failed = self.ask("Page.navigate", "open a page", {"url": url}, session=session).get("errorText")
        if failed:
            raise EngineError(f"the browser cannot open its page: {failed}")
        try:
            self._devtools.wait_for("Page.loadEventFired", session=session, timeout_s=_ANSWER_S)
        except (devtools.DisconnectedError, devtools.TimedOutError) as error:
            raise self._failed(error, "load its page", _ANSWER_S) from error
        return Page(self, session, context)

    def console(self) -> list[str]:
        """What pages and the browser wrote to the console lately, a line each."""
        lines = []
        for event in list(self._devtools.events):
            if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                words = [str(item.get("value", item.get("description", ""))) for item in event["params"]["args"]]
                lines.append(" ".join(words).strip())
            elif event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                lines.append(details.get("exception", {}).get("description", details["text"]).splitlines()[0])
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                lines.append(event["params"]["entry"]["text"])
        return [line for line in lines if line][-_LAST_WORDS:]

    def processes(self) -> dict[int, str]:
        """Its processes: the system's number → ``browser``, ``renderer``, ``GPU``, …."""
        found = self.ask("SystemInfo.getProcessInfo", "list its processes")["processInfo"]
        return {int(item["id"]): str(item["type"]) for item in found}

    def renderers(self) -> dict[int, float]:
        """The CPU time that each process which shows pages has used, in seconds."""
        found = self.ask("SystemInfo.getProcessInfo", "list its processes")["processInfo"]
        return {int(item["id"]): float(item["cpuTime"]) for item in found if item["type"] == "renderer"}

    def ask(
        self,
        method: str,
        doing: str,
        values: dict[str, Any] | None = None,
        *,
        session: str | None = None,
        timeout_s: float = _ANSWER_S,
    ) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its answer.

        Raises:
            EngineError: the browser crashed, does not answer, or refuses; "… while it was asked to ``doing``".
        """
        try:
            return self._devtools.call(method, values, session=session, timeout_s=timeout_s)
        except (devtools.DisconnectedError, devtools.TimedOutError) as error:
            raise self._failed(error, doing, timeout_s) from error
        except devtools.RefusedError as error:
            raise EngineError(f"the browser refuses to {doing}: {error}") from error

    def close(self) -> None:
        """End the browser and delete its profile; a second call does nothing."""
        with contextlib.suppress(devtools.DisconnectedError):
            if self._guard.poll() is None:
                self._devtools.send("Browser.close")
        self._devtools.close()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._log.close()

    def _failed(self, error: Exception, doing: str, timeout_s: float) -> EngineError:
        if isinstance(error, devtools.TimedOutError):
            return EngineError(
                f"the browser did not answer within {timeout_s:g} s while it was asked to {doing}",
                details=self.console(),
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(1.0)
        code = self._guard.returncode
        how = str(error) if code in (None, 0) else f"the browser {self.path} {_ended(code)}"
        return EngineError(f"{how} while it was asked to {doing}", details=self._last_words(), fix=self._advice())

    def _last_words(self) -> list[str]:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and "dbus" not in line]
        return [*self.console(), *said[-_LAST_WORDS:]]

    def _advice(self) -> str:
        if any("sandbox" in line for line in self._last_words()):
            return f"Its sandbox does not work here (in a container?). Without it: {ARGUMENTS}=--no-sandbox"
        return ""


class Page:
    """An open page."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self._process: int | None = None

    def process(self) -> int | None:
        """The system's number of the process that the page runs in; None: it cannot be told.

        The protocol does not name it, but tells the CPU time of the page's process, and of each process by its number.
        """
        for _ in range(_LOOKS if self._process is None else 0):
            before = self._browser.renderers()
            metrics = self._browser.ask("Performance.getMetrics", "tell its CPU time", session=self._session)["metrics"]
            used_s = next((item["value"] for item in metrics if item["name"] == "ProcessTime"), None)
            self._process = None if used_s is None else _process_of(used_s, before, self._browser.renderers())
            if self._process is not None:
                break
        return self._process

    def evaluate(self, expression: str, doing: str, *, timeout_s: float) -> Any:
        """The JSON value of a JavaScript expression; a promise is waited for.

        Args:
            expression: JavaScript.
            doing: for the message: "the browser … while it was asked to ``doing``".
            timeout_s: seconds.

        Raises:
            EngineError: it throws, the page or the browser crashed, or it takes too long.
        """
        values = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self._browser.ask("Runtime.evaluate", doing, values, session=self._session, timeout_s=timeout_s)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            told = details.get("exception", {}).get("description") or details.get("text", "an error without a message")
            raise EngineError(f"the page failed to {doing}: {told.splitlines()[0]}", details=self._browser.console())
        return answer["result"].get("value")

    def close(self) -> None:
        """Close it, with its process.

        Raises:
            EngineError: the browser crashed.
        """
        self._browser.ask("Target.disposeBrowserContext", "close a page", {"browserContextId": self._context})


def _short_temporary_folder() -> Path:
    """The system's folder for temporary files, or /tmp where its path is too long for the browser's own sockets."""
    folder = Path(tempfile.gettempdir())
    return folder if len(str(folder)) <= _LONGEST_PATH else Path("/tmp")


def _process_of(used_s: float, before: Mapping[int, float], after: Mapping[int, float]) -> int | None:
    """The one process that had used so much CPU time between two looks at all of them; None where several fit."""
    fitting = [
        number
        for number, start_s in before.items()
        if number in after and start_s - _CPU_TICK_S <= used_s <= after[number] + _CPU_TICK_S
    ]
    return fitting[0] if len(fitting) == 1 else None


def _ended(code: int) -> str:
    return f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"


def _sandbox() -> list[str]:
    """Chromium refuses to start as root with its sandbox; the only pages it gets are ours."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


def _asked_for() -> list[str]:
    return shlex.split(os.environ.get(ARGUMENTS, ""))
