from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.passes.gathernd_to_gather import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of, run

X = {"x": np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)}
ROWS, COLUMNS = np.array([0, 2, -1, 2]), np.array([4, 0, 3])
MESH = np.stack(np.meshgrid(ROWS, COLUMNS, indexing="ij"), -1)
BROKEN = MESH.copy()
BROKEN[1, 2, 0] = 1


def model_of(
    body: str, indices: np.ndarray | None, shape: tuple[int, ...], data: str = "float[2, 3, 4, 5] x"
) -> ir.Model:
    kind = "int64[7, 1]" if indices is None else f"int64{list(indices.shape)}"
    text = f"(float[2, 3, 4, 5] x, {kind} i) => (float{list(shape)} y) {{ {body} }}"
    model = graph_of(text, {} if indices is None else {"i": indices})
    for node in model.graph:
        for value in node.outputs:
            if value.name == "t":
                value.shape = ir.Shape([None] * 4)
    return model


# name → (graph, indices, output shape, nodes that remain)
REWRITTEN = {
    "first axis": ("y = GatherND (x, i)", np.array([[1], [0], [-1]]), (3, 3, 4, 5), ["Gather"]),
    "indices of two axes": ("y = GatherND (x, i)", np.array([[[1], [0]]]), (1, 2, 3, 4, 5), ["Gather"]),
    "between transposes": (
        "t = Transpose <perm = [1, 0, 2, 3]> (x) g = GatherND (t, i) y = Transpose <perm = [1, 0, 2, 3]> (g)",
        np.array([[2], [0]]), (2, 2, 4, 5), ["Gather"],
    ),
    "a mesh between transposes": (
        "t = Transpose <perm = [2, 3, 0, 1]> (x) g = GatherND (t, i) y = Transpose <perm = [2, 3, 0, 1]> (g)",
        MESH, (2, 3, 4, 3), ["Gather", "Gather"],
    ),
    "a mesh": ("y = GatherND (x, i)", MESH % 2, (4, 3, 4, 5), ["Gather", "Gather"]),
    "transposes that do not cancel": (
        "t = Transpose <perm = [2, 0, 1, 3]> (x) g = GatherND (t, i) y = Transpose <perm = [3, 0, 1, 2]> (g)",
        np.array([[3], [1]]), (5, 2, 2, 3), ["Gather", "Transpose"],
    ),
    "a transpose that is read elsewhere": (
        "t = Transpose <perm = [1, 0, 2, 3]> (x) g = GatherND (t, i) y = Sub (g, t)",
        np.array([[2], [0], [1]]), (3, 2, 4, 5), ["Transpose", "Gather", "Sub"],
    ),
}  # fmt: skip
LEFT = {
    "scattered points": (BROKEN, "1 left: its indices are not a mesh of one vector for each axis"),
    "a list of points": (np.array([[0, 1], [1, 2]]), "1 left: its indices are not a mesh of one vector for each axis"),
}


class TestGatherNDToGather(PassConformance):
    PASS = PLUGIN
    rtol, atol = 0.0, 0.0  # numbers are moved, not computed

    @pytest.fixture(params=[*REWRITTEN, *LEFT, "batch axes", "fed indices", "none"])
    def case(self, request: pytest.FixtureRequest) -> Case:
        name = request.param
        if name in REWRITTEN:
            body, indices, shape, _ = REWRITTEN[name]
            return Case(model_of(body, indices, shape), X, changes=True, says="rewrote 1 of 1 GatherND")
        if name in LEFT:
            indices, says = LEFT[name]
            model = model_of("y = GatherND (x, i)", indices % 2, (*indices.shape[:-1], 4, 5))
            return Case(model, X, changes=False, says=says)
        if name == "batch axes":
            model = model_of("y = GatherND <batch_dims = 1> (x, i)", np.array([[1], [0]]), (2, 4, 5))
            return Case(model, X, changes=False, says="1 left: it has batch axes")
        if name == "fed indices":
            feeds = {**X, "i": np.array([[0], [1], [1], [0], [-1], [-2], [0]])}
            return Case(model_of("y = GatherND (x, i)", None, (7, 3, 4, 5)), feeds, changes=True)
        model = graph_of("(float[2] x) => (float[2] y) { y = Relu (x) }")
        return Case(model, {"x": np.ones(2, np.float32)}, changes=False, says="the graph has no GatherND")


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_is_left(name: str) -> None:
    body, indices, shape, left = REWRITTEN[name]
    model = model_of(body, indices, shape)
    PLUGIN()(model)
    assert [node.op_type for node in model.graph] == left


def test_fed_indices_of_unknown_length_of_a_point() -> None:
    model = model_of("y = GatherND (x, i)", None, (7, 3, 4, 5))
    model.graph.inputs[1].shape = ir.Shape(("n", "k"))
    assert "1 left: its indices are not constant" in PLUGIN()(model).record.detail


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_mesh_and_transposes(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    rank = len(sizes)
    perm = data.draw(st.permutations(range(rank)))
    count = data.draw(st.integers(1, min(2, rank)))
    picks = [
        data.draw(st.lists(st.integers(-sizes[axis], sizes[axis] - 1), min_size=1, max_size=4)) for axis in perm[:count]
    ]
    mesh = np.stack(np.meshgrid(*map(np.array, picks), indexing="ij"), -1).astype(np.int64)
    back = data.draw(st.permutations(range(rank)))
    text = f"""(float{sizes} x, int64{list(mesh.shape)} i) => (float[{", ".join("abcd"[:rank])}] y) {{
        t = Transpose <perm = {list(perm)}> (x) g = GatherND (t, i) y = Transpose <perm = {list(back)}> (g) }}"""
    model = graph_of(text, {"i": mesh})
    next(iter(model.graph)).outputs[0].shape = ir.Shape([None] * rank)
    feeds = {"x": np.random.default_rng(0).standard_normal(sizes).astype(np.float32)}
    want = run(model, feeds)["y"]
    assert PLUGIN()(model).record.modified
    assert "GatherND" not in [node.op_type for node in model.graph]
    np.testing.assert_array_equal(run(model, feeds)["y"], want)
