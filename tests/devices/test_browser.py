"""The device `browser`: a real headless Chromium, what goes wrong with it, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.contracts import Artifact
from edgekit.devices import device_for
from edgekit.devices.browser import BrowserDevice
from edgekit.errors import EngineError, UsageError
from edgekit.runtimes._onnxruntime_web.browser import ARGUMENTS, BROWSER, CPU_FLAGS, Browser
from edgekit.runtimes._onnxruntime_web.package import Package

FEEDS = [{"x": np.full((1, 8), value, np.float32)} for value in (0.0, 1.0)]


def browser_processes() -> list[int]:
    """The processes of browsers that edgekit started: they all name their profile."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"edgekit-browser-" in words and b"guard.py" not in words:
            found.append(int(folder.name))
    return found


@pytest.fixture
def own_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for temporary files, with a short path: what is left in it was left by the test."""
    folder = Path(tempfile.mkdtemp(prefix="ek-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    monkeypatch.setattr(tempfile, "tempdir", None)
    shutil.rmtree(folder)


def test_urls() -> None:
    assert device_for("browser").url == "browser"
    assert isinstance(device_for("browser:/opt/chrome"), BrowserDevice)
    for url in ("browser:chrome", "browser:"):
        with pytest.raises(UsageError, match=r"Write browser, or browser:/path/to/chrome"):
            device_for(url)


def test_other_engines_do_not_run_in_it(linear: Artifact) -> None:
    with pytest.raises(UsageError, match="runtime 'onnxruntime' does not run in a browser") as raised:
        BrowserDevice().open(linear, "onnxruntime", {})
    assert "--target web" in str(raised.value)


def test_a_browser_that_is_not_there(linear: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        EngineError,
        match=r"browser '/opt/nowhere' is not a program. Name another, or install one: apt install chromium",
    ):
        BrowserDevice("browser:/opt/nowhere").open(linear, "onnxruntime_web", {}, FEEDS)
    monkeypatch.setenv(BROWSER, "/opt/nowhere")
    assert BrowserDevice().describe()["browser"] is None


def test_a_program_that_is_no_browser_tells_its_last_words(tmp_path: Path, own_temp: Path) -> None:
    program = tmp_path / "chrome"
    program.write_text("#!/bin/sh\necho 'cannot open display' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(EngineError) as raised:
        Browser(path=str(program))
    assert "ended with exit code 3 while it was asked to start" in str(raised.value)
    assert "cannot open display" in str(raised.value)
    assert list(own_temp.iterdir()) == []


@pytest.mark.slow
def test_measures_and_describes_itself(linear: Artifact, web_engine: Package, own_temp: Path) -> None:
    with device_for("browser") as place:
        assert "hrom" in place.describe()["browser"]
        with place.open(linear, "onnxruntime_web", {"threads": 2}, FEEDS) as worker:
            info = worker.info
            assert info.version == web_engine.version
            assert info.own_clock
            assert info.in_force["threads"] == 2
            assert info.placement.counts() == {"CPU": 1}
            assert info.cold_start_s > info.load_s > 0
            assert worker.measure(0.1).size > 10
            assert worker.memory().peak_rss_bytes > 50e6
            assert worker.pin([0], None).cores == (0,)
            worker.reopen({"threads": 1})
            assert worker.info.in_force["threads"] == 1
            np.testing.assert_allclose(worker.run(FEEDS[1])["y"], [[28, 36, 44]])
    assert [path for path in own_temp.iterdir() if "browser" in path.name] == []


HOST = """
import sys, numpy as np
from pathlib import Path
from edgekit.contracts import Artifact
from edgekit.devices import device_for
feeds = [{"x": np.ones((1, 8), np.float32)}]
worker = device_for("browser").open(Artifact(Path(sys.argv[1]), "onnx", "fp32", (), ()), "onnxruntime_web", {}, feeds)
print("open", flush=True)
worker.measure(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda item: item.name)
def test_nothing_stays_behind(linear: Artifact, web_engine: Package, own_temp: Path, number: signal.Signals) -> None:
    before = set(browser_processes())
    command = [sys.executable, "-c", HOST, str(linear.path)]
    host = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "open\n"
    assert set(browser_processes()) - before
    if number == signal.SIGINT:
        os.killpg(host.pid, number)  # as a terminal does: the host and its worker get it
    else:
        host.send_signal(number)
    host.wait(20)
    host.stdout.close()
    end = time.monotonic() + 15
    while time.monotonic() < end and (set(browser_processes()) - before or list(own_temp.iterdir())):
        time.sleep(0.05)
    assert set(browser_processes()) - before == set()
    assert list(own_temp.iterdir()) == []


@pytest.mark.slow
def test_a_page_that_crashes_hangs_or_throws(chromium: str, own_temp: Path) -> None:
    browser = Browser(CPU_FLAGS)
    try:
        page = browser.page("data:text/html,<title>t</title>")
        with pytest.raises(EngineError, match=r"the page failed to count: TypeError: x is not a function"):
            page.evaluate("const x = 1; x()", "count", timeout_s=10)
        with pytest.raises(EngineError, match=r"did not answer within 0\.3 s while it was asked to wait"):
            page.evaluate("new Promise(() => {})", "wait", timeout_s=0.3)
        page.evaluate("{ const end = performance.now() + 300; while (performance.now() < end); }", "spin", timeout_s=10)
        process = page.process()  # told by the CPU time it has used
        assert process is not None
        os.kill(process, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"the page crashed while it was asked to count"):
            page.evaluate("1 + 1", "count", timeout_s=10)
    finally:
        browser.close()
        browser.close()
    assert list(own_temp.iterdir()) == []


@pytest.mark.slow
def test_a_browser_that_is_killed(chromium: str, own_temp: Path) -> None:
    browser = Browser(CPU_FLAGS)
    page = browser.page("data:text/html,<title>t</title>")
    main_process = next(number for number, kind in browser.processes().items() if kind == "browser")
    os.kill(main_process, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"was ended by signal 9 while it was asked to count"):
        page.evaluate("1 + 1", "count", timeout_s=10)
    browser.close()
    assert list(own_temp.iterdir()) == []


@pytest.mark.slow
def test_a_deep_folder_for_temporary_files(chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser's own sockets would have too long a path in it."""
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setattr(tempfile, "tempdir", None)
    browser = Browser(CPU_FLAGS)
    browser.close()
    assert list(deep.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.slow
def test_arguments_of_ones_own(chromium: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ARGUMENTS, "--user-agent='my agent'")
    browser = Browser(CPU_FLAGS)
    try:
        assert browser.page("about:blank").evaluate("navigator.userAgent", "tell", timeout_s=10) == "my agent"
    finally:
        browser.close()


@pytest.mark.slow
def test_doctor_tells_what_a_page_can_have(
    web_engine: Package, capsys: pytest.CaptureFixture[str], holds_schema: Callable[[str, Any], None]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--device", "browser", "--json"])
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    holds_schema("doctor", told)
    assert told["threads"] is True
    assert told["engine"] == web_engine.version
    assert (told["webgpu"] is None) != (told["no_webgpu"] is None)
