"""What a bundle for the web holds beside its Python runner: ``web/``, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...contracts import AppGlue, Artifact, TensorSpec
from .browser import INSTALL
from .package import Package

_WEB = Path(__file__).resolve().parent / "web"
_PAGE = (
    "edgekit.mjs",
    "npz.mjs",
    "parts.mjs",
    "parity.mjs",
    "selftest.mjs",
    "index.html",
    "demo.mjs",
    "demo.css",
    "serve.py",
)
# numpy's dtype → the array that JavaScript has for it.
_ARRAYS = {
    "float16": "Float16Array",
    "float32": "Float32Array",
    "float64": "Float64Array",
    "int64": "BigInt64Array",
    "uint64": "BigUint64Array",
    "bool": "Uint8Array",
    "string": "Array",
}

_README = """## In a web page

Put `manifest.json`, `model/` and `web/` on your server, as they are, and:

```html
<script type="module">
  import {{ load }} from "./web/edgekit.mjs";

  const model = await load(); // with the session options that were measured
  const outputs = await model.run({{ {feeds} }});
  console.log(outputs.{output}.data, outputs.{output}.dims);
</script>
```

Feed {arrays}; a free dimension is taken from the length, or said with `{{ data, dims }}`.
{stream}`load({{ … }})` changes a session option, and `model.inForce` tells what is in force. To look at it at once:
`python web/serve.py`, then open the address that it prints.

{headers}

A content security policy has to allow `script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'`. `web/ort/` holds
{package}, under the MIT licence (`web/ort/LICENSE`). The demo page alone needs `golden/`.
"""
_STREAM = """The model has memory ({names}), which a stream keeps from frame to frame: `const stream = model.stream();`,
then `await stream.run({{ {frame} }})` for each frame in order, and `stream.reset()` before another one.

"""
_HEADERS = """It was measured with {threads}. A browser gives them only to a page whose server sends two headers:

    Cross-Origin-Opener-Policy: same-origin
    Cross-Origin-Embedder-Policy: require-corp

Without them `load()` throws and says so; `load({{ threads: 1 }})` does without threads."""
_NO_HEADERS = "One thread is all it uses{gpu}: the server need not send any special header."


def app_glue(options: Mapping[str, Any], package: Package, artifact: Artifact) -> AppGlue:
    """The files and the section of README.md.

    Args:
        options: the session options that were measured: ``backend``, ``threads``, ….
        package: onnxruntime-web's files.
        artifact: names the model's inputs, outputs and state.
    """
    inner = {name for pair in artifact.state if pair.buffer for name in (pair.input, pair.output)}
    inputs = [spec for spec in artifact.inputs if spec.name not in inner]
    output = next(spec.name for spec in artifact.outputs if spec.name not in inner)
    backend = str(options["backend"])
    files = {f"web/{name}": _WEB / name for name in _PAGE}
    files |= {f"web/ort/{name}": path for name, path in package.files(backend).items()}
    files["web/ort/LICENSE"] = _WEB / "LICENSE-onnxruntime"
    threads = options["threads"]
    if threads == 1:
        headers = _NO_HEADERS.format(gpu=", beside the GPU" if backend == "webgpu" else "")
    else:
        headers = _HEADERS.format(threads=f"{threads} threads" if threads else "threads")
    kept = {pair.input for pair in artifact.state}
    frame = _feeds([spec for spec in inputs if spec.name not in kept])
    readme = _README.format(
        feeds=_feeds(inputs),
        stream=_STREAM.format(names=", ".join(f"`{name}`" for name in sorted(kept)), frame=frame) if kept else "",
        arrays=", ".join(f"`{spec.name}` a {_array(spec.dtype)}" for spec in inputs),
        output=output if output.isidentifier() else f'["{output}"]',
        headers=headers,
        package=f"onnxruntime-web {package.version}",
    ).replace("outputs.[", "outputs[")
    return AppGlue(files, readme, INSTALL)


def _feeds(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name if spec.name.isidentifier() else f'"{spec.name}": value' for spec in inputs)


def _array(dtype: str) -> str:
    return _ARRAYS.get(dtype, f"{dtype.capitalize()}Array")  # int8 → Int8Array
