"""ONNX Runtime in a browser: onnxruntime-web, by WebAssembly or WebGPU, in a headless Chromium of this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..contracts import AppGlue, Artifact, Session
from ._onnxruntime_web.browser import CPU_FLAGS, GPU_FLAGS, SOFTWARE_GPU_FLAGS, find_browser
from ._onnxruntime_web.package import VERSION, can_fetch, find_package, get_package, missing

_BACKENDS = ("wasm", "webgpu")
_OPTIMIZATIONS = ("all", "extended", "basic", "disabled")
_ADAPTERS = ("gpu", "software")


class OnnxRuntimeWeb:
    """Opens ``onnx`` artifacts with onnxruntime-web, in a page of a fresh browser."""

    name = "onnxruntime_web"
    formats = ("onnx",)
    install = "apt install chromium npm"
    host = "browser"  # the device of this machine that it runs on

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options; the defaults are onnxruntime-web's own."""

        backend: str = "wasm"  # or "webgpu"
        threads: int = 0  # of WebAssembly, with SIMD always; 0: its choice, half of the cores and 4 at most
        optimization: str = "all"  # "all", "extended", "basic", "disabled"
        adapter: str = "gpu"  # WebGPU's; "software": one that the CPU plays, to check numbers without a GPU

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")
            for key, allowed in (
                ("backend", _BACKENDS),
                ("optimization", _OPTIMIZATIONS),
                ("adapter", _ADAPTERS),
            ):
                if getattr(self, key) not in allowed:
                    raise ValueError(f"{key} must be one of {', '.join(allowed)}, got '{getattr(self, key)}'")

    def version(self) -> str:
        """onnxruntime-web's version: of the files that are here, or else of those that `open` will fetch by npm."""
        find_browser()
        package = find_package()
        if package is None and not can_fetch():
            raise missing()
        return VERSION if package is None else package.version

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open.

        Raises:
            EngineError: also where threads, WebGPU or the GPU cannot be had as ``options`` ask.
        """
        from ._onnxruntime_web.session import WebSession

        return WebSession(artifact, asdict(options), _flags(options), get_package())

    def app_glue(self, artifact: Artifact, options: Options) -> AppGlue:
        """See contracts.Embeddable: an ES module, a demo page, a server, and the engine's files."""
        from ._onnxruntime_web.glue import app_glue

        return app_glue(asdict(options), get_package(), artifact)


def _flags(options: OnnxRuntimeWeb.Options) -> tuple[str, ...]:
    if options.backend == "wasm":
        return CPU_FLAGS
    return SOFTWARE_GPU_FLAGS if options.adapter == "software" else GPU_FLAGS


PLUGIN = OnnxRuntimeWeb
