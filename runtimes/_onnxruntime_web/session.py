"""A model open in a page: `contracts.Session`, with a sampler whose clock is the page's own."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...contracts import Array, Artifact, Feeds, LayerTime, NodePlacement, Outputs, Placement, TensorSpec
from ...errors import EngineError
from ...measure import npz
from ...measure.latency import MAX_RUNS, PATIENCE, poisson_arrivals
from .._ort import layer_times
from .._values import prepare
from .browser import Browser, Page
from .package import Package
from .server import Server
from .tensors import SUPPORTED, read_outputs

_HERE = Path(__file__).resolve().parent
_LIMIT_S = 600.0
"""Whatever a page is told to do takes no longer than this beyond the time it was given to measure."""
_DEVICES = {"CPUExecutionProvider": "CPU", "WebGpuExecutionProvider": "WebGPU"}


class WebSession:
    """An open model, in a browser of its own.

    Args:
        artifact: an ONNX file.
        options: of `load` in ``edgekit.mjs``.
        flags: the browser's.
        package: onnxruntime-web's files.
    """

    def __init__(self, artifact: Artifact, options: Mapping[str, Any], flags: Sequence[str], package: Package) -> None:
        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        # Where nodes fall back to the CPU, `placement` names them: whoever measures decides. An app's page refuses.
        self._options = {**options, "fallback": True}
        self._server = Server(_files(artifact, package, str(options["backend"])))
        try:
            self._browser = Browser(flags)
        except BaseException:
            self._server.close()
            raise
        self._close = weakref.finalize(self, _close, self._browser, self._server)
        try:
            self._page: Page | None = self._browser.page(f"{self._server.url}measure.html")
            told = self._ask("open", self._options, doing="open the model")
        except BaseException:
            self.close()
            raise
        self._inputs, self._outputs = _specs(told["inputs"]), _specs(told["outputs"])
        for spec in (*self._inputs, *self._outputs):
            if spec.dtype not in SUPPORTED:
                self.close()
                raise EngineError(f"'{spec.name}' is {spec.dtype}, which JavaScript has no arrays for")
        self._seen = npz.dump({spec.name: _zeros(spec) for spec in self._inputs})
        self._in_force = {
            **told["inForce"],
            "precision": "as the graph says",
            "browser": self._browser.version,
            "emulated": _emulator(told["inForce"]["adapter"]),
            "version": package.version,
        }

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, as onnxruntime-web lists them."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, as onnxruntime-web lists them."""
        return self._outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run."""
        with self._offered(feeds) as path:
            self._ask("once", path, "result/outputs", doing="run the model")
        return read_outputs(self._server.take("result/outputs"))

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind. The page gets a copy of the feeds; what the call costs is mostly the way there.

        To time runs, take `sampler`.
        """
        return partial(self._ask, "run", self._bind(feeds), doing="run the model")

    def sampler(self, feeds: Sequence[Feeds]) -> PageSampler:
        """See contracts.OutOfProcess."""
        return PageSampler([self._bind(item) for item in feeds], self._ask, self._server)

    def processes(self) -> Sequence[int]:
        """See contracts.OutOfProcess: the page's process first, where the browser tells which it is."""
        page = self._opened().process()
        return () if page is None else (page, *(number for number in self._browser.processes() if number != page))

    def placement(self) -> Placement:
        """Node by node, as onnxruntime-web tells when it opens the model once more, in another page.

        Its log names the nodes where several providers share them. Where one has them all it says how many they are;
        their names then come from a profile of one run, on the inputs seen last.
        """
        path = self._server.offer(self._seen)
        try:
            with self._twin() as page:
                # One thread does: where nodes run does not depend on it.
                options = {**self._options, "threads": 1}
                told = self._ask("explain", options, path, doing="tell where nodes run", page=page)
        finally:
            self._server.forget(path)
        nodes, total = placements(told["lines"])
        if told["refused"] is not None:
            raise _error(told["refused"])
        if total is None:
            return Placement(nodes, None if nodes else "onnxruntime-web's log does not say where nodes run")
        named = [NodePlacement(item.name, item.op_type, total.device) for item in layer_times(_events(told["profile"]))]
        # Those that did not run have no name here: the branch of an If, say, or all if the model takes no zeros.
        unnamed = [NodePlacement("", "node", total.device)] * (total.count - len(named))
        return Placement((*named[: total.count], *unnamed))

    def profile(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """See contracts.Profiles. onnxruntime-web's timers step as the page's clock does."""
        with self._offered(feeds) as path, self._twin() as page:
            lines = self._ask("profile", self._options, path, runs, doing="time its nodes", page=page)
        return layer_times(_events(lines))

    def in_force(self) -> dict[str, Any]:
        """The settings in force, as the page sees them. ``clock`` is the smallest step of its clock, in seconds."""
        self._opened()
        return dict(self._in_force)

    def close(self) -> None:
        """End the page, the browser and the server; a second call does nothing."""
        self._page = None
        self._close()

    def _opened(self) -> Page:
        if self._page is None:
            raise EngineError("this session is closed")
        return self._page

    def _bind(self, feeds: Feeds) -> int:
        with self._offered(feeds) as path:
            return int(self._ask("bind", path, doing="take the inputs"))

    @contextmanager
    def _offered(self, feeds: Feeds) -> Iterator[str]:
        """Feeds where the page can fetch them."""
        self._opened()
        self._seen = npz.dump(prepare(feeds, self._inputs))
        path = self._server.offer(self._seen)
        try:
            yield path
        finally:
            self._server.forget(path)

    @contextmanager
    def _twin(self) -> Iterator[Page]:
        """Another page, so that the first one's memory and log stay as they are."""
        self._opened()
        page = self._browser.page(f"{self._server.url}measure.html")
        try:
            yield page
        finally:
            page.close()

    def _ask(self, function: str, *values: Any, doing: str, page: Page | None = None, seconds: float = 0.0) -> Any:
        """Call a function of ``measure.mjs``.

        Raises:
            EngineError: it failed, in its own words; or the page crashed, or did not answer in time.
        """
        words = ", ".join(json.dumps(value) for value in values)
        answer = (page or self._opened()).evaluate(
            f"edgekit.{function}({words})", doing, timeout_s=_LIMIT_S + 2 * seconds
        )
        if "error" in answer:
            raise _error(answer["error"])
        return answer["ok"]


class PageSampler:
    """Times runs in the page, with ``performance.now()``: see contracts.Sampler and measure.latency.

    A sample holds what an app waits for: the module's call, and from WebGPU the way of the outputs back.

    Args:
        numbers: of the bound feeds.
        ask: calls a function of the page.
        server: where results arrive.
    """

    def __init__(self, numbers: Sequence[int], ask: Callable[..., Any], server: Server) -> None:
        self._numbers = list(numbers)
        self._ask = ask
        self._server = server
        self._next = 0

    def warm_up(self, seconds: float) -> int:
        """See measure.latency.Sampler.warm_up."""
        return int(self._ask("warmUp", self._numbers, seconds, doing="warm up", seconds=seconds))

    def block(self, seconds: float = 0.0, *, min_runs: int = 1, max_runs: int = MAX_RUNS) -> NDArray[np.float64]:
        """See measure.latency.Sampler.block."""
        if not 1 <= min_runs <= max_runs:
            raise ValueError(f"`1 <= min_runs <= max_runs` must hold, got min_runs={min_runs}, max_runs={max_runs}")
        limits = (seconds, min_runs, max_runs, "result/times")
        self._next = self._ask("block", self._numbers, self._next, *limits, doing="time runs", seconds=seconds)
        return self._times()

    def serve(self, rate_per_s: float, seconds: float, *, seed: int = 0) -> NDArray[np.float64]:
        """See measure.latency.Sampler.serve."""
        arrivals = poisson_arrivals(rate_per_s, seconds, seed)
        path = self._server.offer(npz.dump({"at": arrivals}))
        limit_s = PATIENCE * seconds
        try:
            values = (self._numbers, self._next, path, limit_s, "result/times")
            self._next = self._ask("serve", *values, doing="answer requests", seconds=limit_s)
        finally:
            self._server.forget(path)
        return self._times()

    def harness(self, seconds: float, *, max_runs: int = MAX_RUNS) -> NDArray[np.float64]:
        """The same loop around a call that does nothing."""
        self._ask("harness", seconds, max_runs, "result/times", doing="time the harness", seconds=seconds)
        return self._times()

    def _times(self) -> NDArray[np.float64]:
        return np.frombuffer(self._server.take("result/times"), "<f8").copy()


@dataclass(frozen=True, slots=True)
class Total:
    """One provider has all nodes."""

    device: str
    count: int


def placements(lines: Sequence[str]) -> tuple[tuple[NodePlacement, ...], Total | None]:
    """What ONNX Runtime's verbose log tells of its nodes: each of them, or that one provider has all.

    It says " All nodes placed on [X]. Number of nodes: 3"; or, for each provider, " Node(s) placed on [X]. Number of
    nodes: 2", and below a line "  Conv (name)" a node.
    """
    nodes: list[NodePlacement] = []
    device = None
    for line in lines:
        text = re.sub(r"^.*?VerifyEachNodeIsAssignedToAnEp\] ?", "", line)
        if text == line:
            device = None
        elif found := re.match(r" ?All nodes placed on \[(\w+)\]\. Number of nodes: (\d+)", text):
            return (), Total(_DEVICES.get(found[1], found[1]), int(found[2]))
        elif found := re.match(r" ?Node\(s\) placed on \[(\w+)\]", text):
            device = _DEVICES.get(found[1], found[1])
        elif device is not None and (found := re.match(r" *(\S+) \((.*)\)", text)):
            nodes.append(NodePlacement(found[2], found[1], device))
    return tuple(nodes), None


def _events(lines: Sequence[str]) -> list[dict[str, Any]]:
    """The events of a profile as the engine prints it; none where it printed nothing."""
    try:
        events: list[dict[str, Any]] = json.loads("".join(lines) or "[]")
    except ValueError as error:
        raise EngineError(f"onnxruntime-web's profile cannot be read: {error}") from error
    return events


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    return np.zeros(shape, "U1" if spec.dtype == "string" else spec.dtype)


def _specs(told: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(item["name"], item["dtype"], tuple(item["shape"])) for item in told)


def _emulator(adapter: Mapping[str, Any] | None) -> str | None:
    """Who plays the GPU, if there is none."""
    return f"WebGPU's software adapter ({adapter['name']})" if adapter and adapter["software"] else None


def _error(told: Mapping[str, Any]) -> EngineError:
    what = re.sub(r"\s+", " ", str(told["what"])).strip().rstrip(".")
    return EngineError(what, fix=f"{told['fix'].rstrip('.')}." if told["fix"] else "")


def page_environment(browser: Browser) -> dict[str, Any]:
    """What a page in ``browser`` can have: ``environment()`` of ``edgekit.mjs``.

    Raises:
        EngineError: the browser crashed.
    """
    with Server(_page_files()) as server:
        page = browser.page(f"{server.url}measure.html")
        answer = page.evaluate("edgekit.environment()", "tell what it can do", timeout_s=_LIMIT_S)
    if "error" in answer:
        raise _error(answer["error"])
    return dict(answer["ok"])


def _page_files() -> dict[str, Path | bytes]:
    return {
        **{name: _HERE / name for name in ("measure.html", "measure.mjs")},
        **{f"web/{path.name}": path for path in (_HERE / "web").glob("*.mjs")},
    }


def _files(artifact: Artifact, package: Package, backend: str) -> dict[str, Path | bytes]:
    """What the page finds at its server, laid out like a bundle."""
    beside = artifact.path.parent
    model = {f"model/{path.relative_to(beside).as_posix()}": path for path in beside.rglob("*") if path.is_file()}
    manifest = {
        "artifact": {"file": f"model/{artifact.path.name}"},
        "precision": artifact.precision,
        "runtime": {"options": {}},
        "files": dict.fromkeys(model),
    }
    return {
        "manifest.json": json.dumps(manifest).encode(),
        **model,
        **_page_files(),
        **{f"web/ort/{name}": path for name, path in package.files(backend).items()},
    }


def _close(browser: Browser, server: Server) -> None:
    try:
        browser.close()
    finally:
        server.close()
