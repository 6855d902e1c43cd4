"""The lines that an app copies are Python, whatever a model calls its inputs."""

from __future__ import annotations

import ast

from edgekit.bundle.readme import bundle_readme
from edgekit.contracts import StatePair, TensorSpec


def test_names_that_are_none_in_python() -> None:
    inputs = [TensorSpec(name, "float32", (1,)) for name in ("my input:0", "1a/ü", 'quo"te', "x", "h")]
    text = bundle_readme(
        name="n",
        target="cpu",
        engine="e",
        install="pip install e",
        precision="fp32",
        inputs=inputs,
        outputs=inputs[:1],
        parity="",
        measured="",
        state=[StatePair("h", "y")],
    )
    run, stream = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    ast.parse(run)
    ast.parse(stream)
    assert '{"my input:0": my_input_0, "1a/ü": _1a_ü, "quo\\"te": quo_te, "x": x, "h": h}' in run
    assert '"x": x})' in stream
