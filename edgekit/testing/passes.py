"""The conformance kit for graph passes: subclass `PassConformance`, give it models, run pytest.

    from edgekit.testing.passes import Case, PassConformance

    class TestMyPass(PassConformance):
        PASS = MyPass
        rtol, atol = 1e-5, 1e-6          # float32, sums in another order

        @pytest.fixture(params=["plain", "already done"])
        def case(self, request):
            return Case(model=..., feeds={"x": ...}, changes=request.param == "plain")

Every test below then runs on every case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ..context import PassContext
from ..contracts import Array, PassRecord
from ..graph import MODULE_PATH, all_graphs, clone, specs
from ..passes import GraphPass, Result


@dataclass(frozen=True)
class Case:
    """One model that the pass must treat rightly.

    Args:
        model: the graph; it is cloned for every test.
        feeds: one input for it.
        changes: whether the pass is expected to change it.
        says: what the record's detail must contain.
        options: for the pass; None: its defaults.
        context: for the pass.
    """

    model: ir.Model
    feeds: Mapping[str, Array]
    changes: bool
    says: str = ""
    options: Any = None
    context: PassContext = field(default_factory=PassContext)


class PassConformance:
    """What holds for every graph pass. Subclass it, set ``PASS``, ``rtol`` and ``atol``, and supply ``case``."""

    PASS: ClassVar[type[GraphPass]]
    rtol: ClassVar[float]
    atol: ClassVar[float]

    @pytest.fixture
    def case(self) -> Case:
        """The models to try the pass on: override it, with ``params`` for several."""
        raise NotImplementedError(f"{type(self).__name__} must supply the fixture 'case'")

    def test_outputs_stay_equal(self, case: Case) -> None:
        """ONNX Runtime, with its own optimizations off, computes the same before and after."""
        before = _named(case.model)
        after = self._apply(case, clone(before)).model
        got, want = run(after, case.feeds), run(before, case.feeds)
        for name, value in want.items():
            assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
            np.testing.assert_allclose(
                got[name].astype(np.float64), value.astype(np.float64), rtol=self.rtol, atol=self.atol, err_msg=name
            )

    def test_it_changes_what_it_should_and_says_so(self, case: Case) -> None:
        """The record tells whether and what, or why nothing changed; node counts are those of the graph."""
        record = self._record(case, clone(case.model))
        assert record.modified is case.changes, record.detail
        assert record.detail, "a record says what was done, or why nothing was"
        assert case.says in record.detail, record.detail
        assert record.name == self.PASS.name
        if not record.modified:
            assert record.nodes_before == record.nodes_after

    def test_no_change_is_no_change(self, case: Case) -> None:
        """A pass that says that it changed nothing has changed nothing."""
        model = clone(_named(case.model))
        before = _text(model)
        result = self._apply(case, model)
        if not result.modified:
            assert _text(result.model) == before

    def test_a_second_run_changes_nothing(self, case: Case) -> None:
        """Once done, there is nothing left to do."""
        once = self._apply(case, clone(case.model)).model
        record = self._record(case, once)
        assert not record.modified, record.detail

    def test_the_result_is_a_valid_model(self, case: Case) -> None:
        """The checker of onnx accepts it, shapes and types included."""
        model = self._apply(case, clone(_named(case.model))).model
        onnx.checker.check_model(ir.to_proto(model), full_check=True)

    def test_inputs_and_outputs_keep_name_order_and_type(self, case: Case) -> None:
        """Nobody who uses the model has to know that it was rewritten."""
        before = specs(case.model)
        assert specs(self._apply(case, clone(case.model)).model) == before

    def test_module_paths_are_kept(self, case: Case) -> None:
        """Every node still tells its PyTorch module, or the one that holds all that it was made of."""
        model = clone(case.model)
        for graph in all_graphs(model):
            for place, node in enumerate(graph):
                node.metadata_props[MODULE_PATH] = f"net.layer{place % 2}.part{place}"
        after = self._apply(case, model).model
        for graph in all_graphs(after):
            for node in graph:
                path = node.metadata_props.get(MODULE_PATH, "")
                assert path == "net" or path.startswith("net.layer"), f"{node.op_type} '{node.name}': '{path}'"

    def test_the_original_of_a_clone_stays_as_it_was(self, case: Case) -> None:
        """A clone shares its weights with the original, which must not see what the pass does."""
        original = _named(case.model)
        before = _text(original)
        self._apply(case, clone(original))
        assert _text(original) == before

    def _apply(self, case: Case, model: ir.Model) -> Result:
        result = self.PASS(case.options, case.context)(model)
        assert isinstance(result, Result)
        return result

    def _record(self, case: Case, model: ir.Model) -> PassRecord:
        return self._apply(case, model).record


def graph_of(text: str, weights: Mapping[str, Array] | None = None, opset: int = 20) -> ir.Model:
    """A model from onnx's text form, whose inputs named in ``weights`` become initializers.

    For example ``graph_of("(float[2, 3] x, float[3, 4] w) => (float[2, 4] y) { y = MatMul (x, w) }", {"w": array})``.
    """
    more = ', "com.microsoft" : 1' if "com.microsoft." in text else ""
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {opset}{more}]> case {text}')
    for name, array in (weights or {}).items():
        value = next(item for item in model.graph.inputs if item.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        value.dtype, value.shape = value.const_value.dtype, ir.Shape(np.shape(array))
        model.graph.register_initializer(value)
    return model


def run(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by ONNX Runtime on the CPU as the graph stands: its own optimizations are off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    proto = ir.to_proto(_named(model)).SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _named(model: ir.Model) -> ir.Model:
    """The checker wants graphs to have a name."""
    model.graph.name = model.graph.name or "case"
    return model


def _text(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))
