from __future__ import annotations

from edgekit.contracts import NodePlacement, Placement
from edgekit.placement import refusal

WHY = "QNN: operators of type `Erf` are not supported"
NODES = (
    NodePlacement("conv", "Conv", "HTP"),
    NodePlacement("q", "QuantizeLinear", "CPU", reason=WHY),
    NodePlacement("erf", "Erf", "CPU", reason=WHY),
    NodePlacement("dq", "DequantizeLinear", "CPU"),
    NodePlacement("erf_2", "Erf", "CPU", reason=WHY),
)


def test_names_modules_reasons_and_what_to_do() -> None:
    error = refusal(
        Placement(NODES),
        devices=("HTP",),
        target="mobile-npu",
        modules={"erf": "layers.0.act"},
        advice={"Erf": "Use GELU's tanh form"},
    )
    assert str(error) == (
        "2 of 5 nodes would run on the CPU, which target 'mobile-npu' does not allow:\n"
        f"  Erf  (layers.0.act)  {WHY}\n"
        "  Erf  (erf_2)  same\n"
        "Use GELU's tanh form, or allow it: --allow-fallback Erf"
    )


def test_quantizers_go_with_their_operator_and_count_alone() -> None:
    assert refusal(Placement(NODES), devices=("HTP",), target="t", allowed={"Erf"}) is None
    alone = refusal(Placement(NODES[:2]), devices=("HTP",), target="t", allowed={"Erf"})
    assert alone is not None
    assert "QuantizeLinear  (q)" in str(alone)
    assert "Change the model, or allow it: --allow-fallback QuantizeLinear" in str(alone)


def test_nothing_elsewhere_is_no_error() -> None:
    assert refusal(Placement(NODES[:1]), devices=("HTP",), target="t") is None
