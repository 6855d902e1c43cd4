"""A candidate's plug-ins, and what follows from them."""

from __future__ import annotations

import pytest

from edgekit import plugins
from edgekit.errors import UsageError
from edgekit.target.load import load_target
from edgekit.target.profile import Candidate, PassSpec
from edgekit.target.toolchain import Toolchain, steps


def test_each_plug_in_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[tuple[str, str]] = []
    real = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: looked_up.append((kind, name)) or real(kind, name))
    toolchain = Toolchain(
        next(item for item in load_target("cpu").candidates if item.name == "onnxruntime int8 static")
    )
    for _ in range(2):
        assert toolchain.needs_calibration and not toolchain.takes_program
        assert toolchain.has_option("threads") and not toolchain.has_option("fallback")
        assert toolchain.runtime.name == "onnxruntime" and toolchain.exporter.name == "onnx"
        assert toolchain.emulator is None
        assert toolchain.runtime_facts.by_pip and toolchain.exporter_facts.packages == ()
    assert len(looked_up) == len(set(looked_up)) == 2 + len(toolchain.candidate.passes)


@pytest.mark.parametrize(("runtime", "format"), [("onnxruntim", "onnx"), ("onnxruntime", "onx")])
def test_an_unknown_plug_in_is_an_error_when_it_is_asked_for(runtime: str, format: str) -> None:
    toolchain = Toolchain(Candidate("c", runtime, "fp32", format))
    with pytest.raises(UsageError, match="is not known"):
        _ = toolchain.runtime, toolchain.exporter


def test_options_of_a_profile_are_checked() -> None:
    toolchain = Toolchain(Candidate("c", "onnxruntime", "fp32", "openvino_ir", export_options={"preset": "mixed"}))
    assert toolchain.session_options({"threads": 2}).threads == 2
    assert (toolchain.export_options().preset, toolchain.export_options({}).preset) == ("mixed", "auto")
    with pytest.raises(UsageError, match=r"session options of candidate 'c' has no option 'thread'.*'threads'"):
        toolchain.session_options({"thread": 2})
    with pytest.raises(UsageError, match=r"candidate 'c', exporter has no option 'quantise'.*'quantize'"):
        toolchain.export_options({"quantise": "nncf"})


def test_steps_are_the_passes_with_their_options() -> None:
    (step,) = steps([PassSpec("quantize_static", {"symmetric": True})])
    assert step.plugin is plugins.load("passes", "quantize_static")
    assert step.options == {"symmetric": True}
