"""The README.md inside a bundle: how to embed it, and what was measured where."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ..contracts import StatePair, TensorSpec
from .manifest import Substitute


def bundle_readme(
    *,
    name: str,
    target: str,
    engine: str,
    install: str,
    precision: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    parity: str,
    measured: str,
    substitute: Substitute | None = None,
    note: str = "",
    device: str = "",
    app: str = "",
    state: Sequence[StatePair] = (),
) -> str:
    """Markdown for people who get the bundle and have never heard of edgekit.

    Args:
        name: the bundle's name.
        target: the device profile it was made for.
        engine: engine and version it was checked with.
        install: the line that installs the engine.
        precision: what the model computes in.
        inputs: the model's inputs.
        outputs: the model's outputs.
        parity: one line: how far it is from the reference.
        measured: one line: what was measured where, or why nothing was.
        substitute: what checked it where its engine could not run.
        note: what else is worth knowing about installing the engine.
        device: what the device itself needs, where that is more than the engine's package.
        app: sections on how to use it in apps of other languages, in Markdown.
        state: what goes from one run to the next.
    """
    buffers = {name for pair in state if pair.buffer for name in (pair.input, pair.output)}
    inputs, outputs = ([spec for spec in specs if spec.name not in buffers] for specs in (inputs, outputs))
    feeds = _feeds(inputs)
    rows = [f"| in | `{spec.name}` | {spec.dtype} | {_shape(spec)} |" for spec in inputs]
    other = ""
    if substitute is not None:
        other = f"""
The first start on a device prepares the model for it, which may take minutes; later starts do not.
On a machine that cannot run the engine, the numerics can be checked all the same, as they were when this was made:

    {substitute.install} numpy
    python run.py test --substitute      # in {substitute.name}
"""
    rows += [f"| out | `{spec.name}` | {spec.dtype} | {_shape(spec)} |" for spec in outputs]
    made = f"A model for target `{target}` in {precision}, made by edgekit."
    needs = f"It needs Python 3.10 or later, numpy and {engine}:"
    intro = f"{made}\n\n{app}\n## In Python\n\n{needs}" if app else f"{made} {needs}"
    model = "## The model\n\n" if app else ""
    return f"""# {name}

{intro}

{_install_lines(install)}
    python run.py            # self-test: checks every file's hash, then the answers against the golden ones
    python run.py bench      # latency on this machine
{note and chr(10) + note + chr(10)}{other}
In an app (put this folder on `sys.path`, or copy it into the app):

```python
from run import load

with load() as model:
    outputs = model.run({{{feeds}}})
```

`run` checks its inputs and makes fresh outputs, a few microseconds a call. `bench` measures the engine's call without
that, and says in its line `run()` what `run` adds.

{_stream(state, inputs)}{model}| | name | dtype | shape |
|---|---|---|---|
{chr(10).join(rows)}

{parity}

{measured}
{f"{chr(10)}{device}{chr(10)}" if device else ""}
`manifest.json` lists every file with its SHA-256, the session options, and how the model was made.
"""


def _stream(state: Sequence[StatePair], inputs: Sequence[TensorSpec]) -> str:
    """How to run frame after frame of a model with memory."""
    if not state:
        return ""
    kept = {pair.input for pair in state}
    frame = _feeds([spec for spec in inputs if spec.name not in kept])
    names = ", ".join(f"`{name}`" for name in kept)
    return f"""The model has memory ({names}). A stream keeps it from frame to frame, where the engine has it:

```python
with load() as model, model.stream() as stream:
    outputs = stream.run({{{frame}}})     # frame after frame, in order
    stream.reset()                        # before the first frame of another one
```

A stream belongs to one caller; open as many as there are sources, they are independent.

"""


def _feeds(inputs: Sequence[TensorSpec]) -> str:
    """What stands between the braces of ``run({...})``; a name that is none in Python gets a variable that is."""
    names = [spec.name for spec in inputs]
    variables = [name if name.isidentifier() else re.sub(r"\W+|^(?=\d)", "_", name) for name in names]
    return ", ".join(
        f"{json.dumps(name, ensure_ascii=False)}: {var}" for name, var in zip(names, variables, strict=True)
    )


def _install_lines(install: str) -> str:
    if install.startswith("pip "):
        lines = [f"{install} numpy"]
    else:
        lines = [install] if "numpy" in install else [install, "pip install numpy"]
    return "\n".join(f"    {line}" for line in lines)


def _shape(spec: TensorSpec) -> str:
    return " x ".join(map(str, spec.shape)) or "scalar"
