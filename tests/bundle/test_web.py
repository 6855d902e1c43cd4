"""What a bundle for the web gives to an app: its page in a real browser, its server, its self-test."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle, EngineUse, open_bundle
from edgekit.bundle.readme import bundle_readme
from edgekit.bundle.write import GoldenStream
from edgekit.contracts import Artifact, Embeddable, StatePair, TensorSpec, Tolerance
from edgekit.runtimes import onnxruntime_web
from edgekit.runtimes._onnxruntime_web.browser import CPU_FLAGS, Browser, Page
from edgekit.runtimes._onnxruntime_web.glue import app_glue
from edgekit.runtimes._onnxruntime_web.package import Package
from edgekit.runtimes.onnxruntime_web import OnnxRuntimeWeb


@pytest.fixture
def web_bundle(make_bundle: Callable[..., Bundle], linear: Artifact, web_engine: Package) -> Bundle:
    """The bundle of `linear`, measured with two threads."""
    runtime = OnnxRuntimeWeb()
    assert isinstance(runtime, Embeddable)
    glue = runtime.app_glue(linear, OnnxRuntimeWeb.Options(threads=2))
    return make_bundle(
        changes={
            "target": "web",
            "runtime": EngineUse("onnxruntime_web", web_engine.version, {"threads": 2}, "apt install chromium"),
        },
        runtime_module_file=Path(onnxruntime_web.__file__),
        app=glue.files,
    )


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    running = Browser(CPU_FLAGS)
    yield running
    running.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """By the bundle's own server."""
    command = [sys.executable, "web/serve.py", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def served_plainly(folder: Path) -> Iterator[str]:
    """By a server that knows nothing of the headers."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/web/"
        server.shutdown()


def ask(page: Page, expression: str) -> Any:
    return page.evaluate(expression, "answer the test", timeout_s=60)


def settled(page: Page) -> str:
    """The state of the demo page's status line, once it has one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = ask(page, "document.getElementById('status').dataset.state")
        if state:
            return str(state)
        time.sleep(0.05)
    raise AssertionError(ask(page, "document.body.innerText"))


def facts(page: Page) -> dict[str, str]:
    rows = "Array.from(document.querySelectorAll('tr'), row => [row.cells[0].textContent, row.cells[1].textContent])"
    return dict(ask(page, rows))


@pytest.mark.slow
def test_the_demo_page_runs_a_golden_input_with_threads(web_bundle: Bundle, browser: Browser) -> None:
    with served(web_bundle.folder) as url:
        page = browser.page(url)
        assert settled(page) == "done", ask(page, "document.body.innerText")
        told = facts(page)
        assert told["threads"].startswith("2 of ")
        assert told["cross-origin isolated"].startswith("yes")
        assert told["WebGPU"].startswith("no: ")
        said = ask(page, "document.getElementById('status').textContent")
        # As near as float32 sums in any order are.
        assert re.match(r"Self-test passed: 3 golden inputs, (SQNR 1[2-9]\d\.|all equal|equal within )", said), said
        assert any(name.startswith("to ") for name in told), told
        assert "median of" in told["latency"]
        assert ask(page, "document.title") == "linear"
        assert browser.console() == []  # no violation of its own content security policy
        page.close()


@pytest.mark.slow
def test_the_pages_self_test_refuses_what_pythons_refuses(
    web_bundle: Bundle, make_bundle: Callable[..., Bundle], browser: Browser, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    golden = []
    for _ in range(12):
        x = random.standard_normal((1, 8)).astype(np.float32)
        y = x @ np.add.outer(np.arange(8), np.arange(3)).astype(np.float32)
        y[:, 2] = 20 * random.standard_normal()  # what the engine does not answer
        golden.append(({"x": x}, {"y": y}))
    glue = OnnxRuntimeWeb().app_glue(_artifact(web_bundle), OnnxRuntimeWeb.Options(threads=1))
    bundle = make_bundle(
        tmp_path / "wrong.edgekit",
        changes={"target": "web", "runtime": replace(web_bundle.manifest.runtime, options={"threads": 1})},
        golden=golden,
        golden_tolerance=Tolerance(part_db=8.0),
        runtime_module_file=Path(onnxruntime_web.__file__),
        app=glue.files,
    )
    with served(bundle.folder) as url:
        page = browser.page(url)
        assert settled(page) == "failed"
        said = ask(page, "document.getElementById('status').textContent")
        page.close()
    (miss,) = bundle.self_test().misses
    assert miss.startswith("output 'y' ") and miss.endswith("needs 8 dB")
    assert said == f"Self-test FAILED: {miss}"


def _artifact(bundle: Bundle) -> Artifact:
    manifest = bundle.manifest
    return Artifact(bundle.folder / "model" / "model.onnx", "onnx", "fp32", manifest.inputs, manifest.outputs)


@pytest.mark.slow
def test_without_the_headers_it_says_so_and_does_nothing_in_silence(web_bundle: Bundle, browser: Browser) -> None:
    with served_plainly(web_bundle.folder) as url:
        page = browser.page(url)
        assert settled(page) == "failed"
        said = ask(page, "document.getElementById('status').textContent")
        assert said.startswith(
            "2 threads were asked for, but this page is not cross-origin isolated and would get one."
        )
        assert "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp" in said
        ask(page, "document.getElementById('one-thread').click()")
        ask(page, "document.getElementById('status').dataset.state = ''")
        assert settled(page) == "done"
        assert facts(page)["threads"].startswith("1 of ")
        page.close()


MODULE = """(async () => {{
  const {{ load }} = await import("./edgekit.mjs");
  try {{ {code} }} catch (error) {{ return `${{error.code}}: ${{error.message}}`; }}
}})()"""


@pytest.mark.slow
def test_the_module_runs_and_refuses_by_name(web_bundle: Bundle, browser: Browser) -> None:
    with served(web_bundle.folder) as url:
        page = browser.page(f"{url}serve.py")  # any page of that origin
        ones = "new Float32Array(8).fill(1)"

        def run(code: str) -> Any:
            return ask(page, MODULE.format(code=f"const model = await load(); {code}"))

        assert run(f"return Array.from((await model.run({{ x: {ones} }})).y.data)") == [28, 36, 44]
        assert run("return model.inForce.threads") == 2
        assert run("return model.inputs") == [{"name": "x", "dtype": "float32", "shape": [1, 8]}]
        assert run(f"await model.run({{ z: {ones} }})") == "input: the model has no input 'z'. Allowed: x"
        assert run("await model.run({})") == "input: input 'x' was not fed"
        assert run("await model.run({ x: new Float64Array(8) })") == (
            "input: 'x' must be a Float32Array (float32), got Float64Array"
        )
        assert run("await model.run({ x: new Float32Array(7) })") == (
            "input: 'x' must have the shape 1x8, got 7 elements"
        )
        assert run("await load({ threads: 1 })") == (
            "threads: this page runs onnxruntime-web with 2 threads. Reload the page."
        )
        assert ask(page, MODULE.format(code='await load({ backend: "webgpu" })')).startswith(
            "webgpu: WebGPU cannot be used here: "
        )
        page.close()


@pytest.fixture
def summing(make_bundle: Callable[..., Bundle], tmp_path: Path, web_engine: Package) -> Bundle:
    """y = x + 2·s, s_out = x + s: the sum of all that came before, in a buffer that begins with 0.5."""
    from onnx import TensorProto, helper, numpy_helper, save

    path = tmp_path / "summing" / "model.onnx"
    path.parent.mkdir()
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "s", "y", "s_out")}
    nodes = [("Add", ["x", "s"], "s_out"), ("Mul", ["s", "two"], "twice"), ("Add", ["x", "twice"], "y")]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes],
        "summing",
        [ends["x"], ends["s"]],
        [ends["y"], ends["s_out"]],
        [numpy_helper.from_array(np.full((1, 2), 2, "f4"), "two")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    specs = [TensorSpec(name, "float32", (1, 2)) for name in ends]
    state = (StatePair("s", "s_out", buffer=True),)
    artifact = Artifact(path, "onnx", "fp32", tuple(specs[:2]), tuple(specs[2:]), state)
    glue = app_glue({"backend": "wasm", "threads": 1}, web_engine, artifact)
    assert "await stream.run({ x })" in glue.readme and "model.run({ x })" in glue.readme
    one, half = np.ones((1, 2), "f4"), np.full((1, 2), 0.5, "f4")
    return make_bundle(
        changes={
            "target": "web",
            "runtime": EngineUse("onnxruntime_web", web_engine.version, {"threads": 1}, "apt install chromium"),
            "inputs": artifact.inputs,
            "outputs": artifact.outputs,
            "state": state,
        },
        model_dir=path.parent,
        golden=[({"x": one, "s": half}, {"y": 2 * one, "s_out": 1.5 * one})],
        stream=GoldenStream([({"x": one}, {"y": y * one}) for y in (2, 4, 6)], Tolerance(max_abs=0.0), {"s": half}),
        runtime_module_file=Path(onnxruntime_web.__file__),
        app=glue.files,
    )


@pytest.mark.slow
def test_a_stream_in_the_page_keeps_its_state_and_so_does_the_python_runner(summing: Bundle, browser: Browser) -> None:
    with served(summing.folder) as url:
        page = browser.page(f"{url}serve.py")
        code = """
            const model = await load();
            const ones = { x: new Float32Array(2).fill(1) };
            const [one, other] = [model.stream(), model.stream({ s: new Float32Array(2) })];
            const seen = [];
            for (const stream of [one, one, other, one, other]) seen.push((await stream.run(ones)).y.data[0]);
            one.reset();
            seen.push((await one.run(ones)).y.data[1], (await model.run(ones)).y.data[0]);
            seen.push(Object.keys(await model.run(ones)).join(), Object.keys(await one.run(ones)).join());
            return seen;"""
        # 1 + 2·0.5, then the sum grows by 1 a frame; the other stream begins with 0.
        assert ask(page, MODULE.format(code=code)) == [2, 4, 1, 6, 3, 2, 2, "y", "y"]
        busy = "const s = (await load()).stream(); const f = { x: new Float32Array(2) }; s.run(f); await s.run(f);"
        assert ask(page, MODULE.format(code=busy)).startswith("busy: the last frame of this stream is not done")
        fed = "await (await load()).stream().run({ x: new Float32Array(2), s: new Float32Array(2) });"
        assert ask(page, MODULE.format(code=fed)).startswith("input: 's' is the model's state")
        page.close()
        page = browser.page(url)
        assert settled(page) == "done"
        assert ask(page, "document.getElementById('status').textContent") == (
            "Self-test passed: 1 golden inputs, all equal to the reference; a stream of 3 steps: all equal."
        )
        page.close()
    test = summing.self_test()
    assert test.passed and test.stream is not None and test.stream.samples == 3


@pytest.mark.slow
def test_the_module_refuses_a_damaged_model(web_bundle: Bundle, browser: Browser) -> None:
    model = web_bundle.folder / "model" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.unlink()
    model.write_bytes(data)
    with served(web_bundle.folder) as url:
        page = browser.page(f"{url}serve.py")
        said = ask(page, MODULE.format(code="await load();"))
        page.close()
    assert said == "model: 'model/model.onnx' is damaged: its SHA-256 is not the manifest's"


@pytest.mark.slow
def test_its_self_test_runs_in_the_browser_with_the_engine_it_brings_along(web_bundle: Bundle, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}  # nothing was ever fetched there
    command = [sys.executable, "-I", "run.py"]
    done = subprocess.run(command, cwd=web_bundle.folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("self-test passed on onnxruntime_web ")
    assert list(tmp_path.glob("edgekit/*")) == []
    with open_bundle(web_bundle.folder):  # every hash still holds
        pass


@pytest.mark.slow
def test_its_self_test_without_a_browser_is_exit_6_with_the_line_that_helps(web_bundle: Bundle) -> None:
    environment = {"PATH": str(web_bundle.folder)}
    command = [sys.executable, "run.py"]
    done = subprocess.run(command, cwd=web_bundle.folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 6
    assert "run.py: no Chromium is installed" in done.stderr
    assert "apt install chromium" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_readme_tells_how_to_embed_it(linear: Artifact, tmp_path: Path) -> None:
    for name in ("package.json", "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).write_bytes(b"")
    package = Package(tmp_path, "1.2.3")
    threaded = app_glue({"backend": "wasm", "threads": 2}, package, linear)
    assert {"web/edgekit.mjs", "web/index.html", "web/serve.py", "web/ort/LICENSE"} <= set(threaded.files)
    assert all(path.is_file() for path in threaded.files.values())
    text = bundle_readme(
        name="linear",
        target="web",
        engine="onnxruntime_web 1.2.3",
        install=threaded.install or "",
        precision="fp32",
        inputs=linear.inputs,
        outputs=linear.outputs,
        parity="p",
        measured="m",
        app=threaded.readme,
    )
    assert "const outputs = await model.run({ x });" in text
    assert "outputs.y.data" in text
    assert "Cross-Origin-Embedder-Policy: require-corp" in text
    assert "    apt install chromium\n    pip install numpy\n" in text
    dotted = replace(linear, outputs=(TensorSpec("y.1", "float32", (1, 3)),))
    one = app_glue({"backend": "wasm", "threads": 1}, package, dotted)
    assert "need not send any special header" in one.readme
    assert 'outputs["y.1"].data' in one.readme
