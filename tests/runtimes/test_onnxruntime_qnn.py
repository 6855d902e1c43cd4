"""Qualcomm's HTP, emulated by its own libraries on x86-64."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.contracts import Artifact, Emulated, Tolerance, options_from
from edgekit.errors import EngineError, PlacementError, UsageError
from edgekit.runtimes._htp import reasons
from edgekit.runtimes.onnxruntime_qnn import EMULATED_SOC, SOC_KEY, SOCS, OnnxRuntimeQnn
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance

X = np.linspace(-2, 2, 8, dtype=np.float32)[None]


class TestConformance(RuntimeConformance):
    """The kit that plug-in authors use."""

    @pytest.fixture
    def runtime_case(self, htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact]) -> RuntimeCase:
        # fp16 has 11 significant bits: 5e-4, as was measured over many operators.
        expected = {"y": np.tanh(np.maximum(X, 0))}
        return RuntimeCase(htp, onnx_chain("Relu", "Tanh"), {"x": X}, expected, Tolerance(rel_l2=1e-3))


def test_says_what_it_is_opened_for(htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact]) -> None:
    session = htp.open(onnx_chain("Relu"), htp.Options(performance="balanced"))
    told = session.in_force()
    assert told["soc_model"] == EMULATED_SOC
    assert told["performance"] == "balanced"
    assert told["emulated"] == htp.emulator() == "Qualcomm's HTP emulator"
    assert isinstance(htp, Emulated)
    assert session.placement().counts() == {"HTP": 1}


def test_a_refused_operator_is_named_with_the_engines_reason(
    htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact], capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = onnx_chain("Relu", "Erf", "Tanh", "Erf")
    with pytest.raises(PlacementError) as raised:
        htp.open(artifact, htp.Options())
    assert str(raised.value) == (
        "2 of 4 nodes would not run on the HTP:\n"
        "  Erf  (node_1)  QNN: operators of type `Erf` are not supported\n"
        "  Erf  (node_3)  QNN: operators of type `Erf` are not supported\n"
        "Change the model, or name them in the session option 'fallback': Erf"
    )
    assert capfd.readouterr() == ("", ""), "the log that the reasons come from is no output of ours"


def test_an_operator_that_is_allowed_runs_on_the_cpu(
    htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact], capfd: pytest.CaptureFixture[str]
) -> None:
    from math import erf

    session = htp.open(onnx_chain("Relu", "Erf", "Tanh"), htp.Options(fallback=("Erf",)))
    placement = session.placement()
    assert placement.counts() == {"HTP": 2, "CPU": 1}
    (stray,) = placement.elsewhere(("HTP",))
    assert (stray.op_type, stray.reason) == ("Erf", "QNN: operators of type `Erf` are not supported")
    assert placement.elsewhere(("HTP",), {"Erf"}) == ()
    want = np.tanh(np.vectorize(erf)(np.maximum(X, 0)))
    np.testing.assert_allclose(session.run({"x": X})["y"], want, atol=2e-3)  # fp16
    assert capfd.readouterr() == ("", "")


def test_what_is_allowed_must_be_what_is_refused(htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact]) -> None:
    with pytest.raises(PlacementError, match="1 of 2 nodes"):
        htp.open(onnx_chain("Relu", "Erf"), htp.Options(fallback=("Einsum",)))


def test_refuses_free_dimensions(htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact]) -> None:
    artifact = onnx_chain("Relu", shape=("batch", 8))
    with pytest.raises(EngineError, match="static shapes only, but input 'x float32 batchx8' has a free dimension"):
        htp.open(artifact, htp.Options())


def test_a_process_serves_one_soc(htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact]) -> None:
    """The libraries keep the first that they were told: what a second one computed would be for the first."""
    code = (
        "import sys; from pathlib import Path\n"
        "from edgekit.contracts import Artifact\n"
        "from edgekit.runtimes.onnxruntime_qnn import OnnxRuntimeQnn as R\n"
        "a = Artifact(Path(sys.argv[1]), 'onnx', 'fp32', (), ())\n"
        "for soc in (69, 69, 57): R().open(a, R.Options(soc_model=soc))"
    )
    path = onnx_chain("Relu").path
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert "this process has opened a model for soc_model 69, and QNN keeps that; got 57" in done.stderr


def test_a_context_binary_of_another_soc_is_refused(
    htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact], tmp_path: Path
) -> None:
    """The emulator loads it and computes with it, which proves nothing about the device."""
    import onnx

    compiled = tmp_path / "context.onnx"
    htp.open(onnx_chain("Relu"), htp.Options(context_file=str(compiled))).close()
    artifact = Artifact(compiled, "qnn-context", "fp32", (), ())
    np.testing.assert_allclose(htp.open(artifact, htp.Options()).run({"x": X})["y"], np.maximum(X, 0), atol=2e-3)
    model = onnx.load(compiled, load_external_data=False)
    onnx.helper.set_model_props(model, {SOC_KEY: "69"})
    onnx.save(model, compiled)
    with pytest.raises(EngineError, match=r"compiled for Snapdragon 8 Elite .* opened for Snapdragon 8 Gen 2"):
        htp.open(artifact, htp.Options())


def test_a_damaged_context_binary_is_refused_with_what_it_belongs_to(
    htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact], tmp_path: Path
) -> None:
    compiled = tmp_path / "context.onnx"
    htp.open(onnx_chain("Relu"), htp.Options(context_file=str(compiled))).close()
    binary = next(tmp_path.glob("*.bin"))
    binary.write_bytes(b"another device's".ljust(binary.stat().st_size, b"\0"))
    with pytest.raises(EngineError, match=r"A context binary belongs to its SoC .* and QNN release"):
        htp.open(Artifact(compiled, "qnn-context", "fp32", (), ()), htp.Options())


def test_without_its_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    with pytest.raises(EngineError, match=r"onnxruntime_qnn.*Install it: pip install onnxruntime-qnn"):
        OnnxRuntimeQnn().version()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"soc_model": -1}, "soc_model must be >= 0, got -1"),
        ({"performance": "fast"}, "performance must be one of default, burst"),
        ({"finalization": 4}, "finalization must be 0 to 3, got 4"),
        ({"soc_mode": 69}, "has no option 'soc_mode'. Did you mean 'soc_model'?"),
    ],
)
def test_refuses_options(table: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        options_from(OnnxRuntimeQnn.Options, table, "[runtime.options]")
    assert message in str(raised.value)


def test_reasons_of_a_quantized_operator_hold_for_the_nodes_around_it() -> None:
    """As onnxruntime-qnn 2.7.0 writes it; what it accepts is listed in the same way and is no reason."""
    log = (
        "2026-11-25 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation PASSED for 1 nodes in "
        "OrtNodeUnit (Relu) :\n\tOperator type: Relu Node name: r0 Node index: 0\n\n"
        "2026-11-25 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation FAILED for 2 nodes in "
        "OrtNodeUnit (Einsum) :\n\tOperator type: DequantizeLinear Node name: a DQ Node index: 1\n"
        "\tOperator type: Einsum Node name: ein Node index: 2\n\tREASON : Einsum requires at least 2 inputs.\n\n"
    )
    assert reasons(log) == dict.fromkeys(["a DQ", "ein"], "QNN: einsum requires at least 2 inputs")


def test_every_soc_has_its_target() -> None:
    from edgekit.target.load import load_target

    for soc, name in SOCS.items():
        target = load_target(name.lower().replace("gen ", "gen").replace(" ", "-"))
        for item in target.candidates:
            assert item.export_options["soc_model"] == item.options["soc_model"] == soc
        assert dataclasses.asdict(target.limits)["source"].count(f"SoC model {soc}") == 1
