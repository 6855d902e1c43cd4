"""The session's own steps, on a GPU of host memory (`host_gpu`): what a real one adds is for a machine that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.contracts import Artifact, TensorSpec
from edgekit.errors import EngineError
from edgekit.runtimes._tensorrt_session import TensorRtSession

from .host_gpu import TRT, Doubling, HostCuda

X, Y = TensorSpec("x", "float32", ("batch", 3)), TensorSpec("y", "float32", ("batch", 3))
SPARE = TensorSpec("spare", "float32", (1,))  # an input that nothing reads: TensorRT drops it


class NoLog:
    def take(self) -> list[str]:
        return ["the engine's own words"]


def session(cuda: HostCuda, *, graph: bool = True, **engine: Any) -> TensorRtSession:
    artifact = Artifact(Path("model.onnx"), "tensorrt", "fp32", (X, SPARE), (Y,))
    facts = {"plan": "/cache/a.plan"}
    return TensorRtSession(TRT, cuda, NoLog(), Doubling(cuda, **engine), artifact, graph, facts)  # type: ignore[arg-type]


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def test_names_shapes_and_free_dimensions_are_the_artifacts() -> None:
    opened = session(HostCuda())
    assert (opened.inputs, opened.outputs) == ((X,), (Y,))


@pytest.mark.parametrize("graph", [True, False])
def test_runs_of_changing_shapes_and_values_give_fresh_answers(graph: bool) -> None:
    cuda = HostCuda()
    opened = session(cuda, graph=graph)
    kept = []
    for count in (1, 4, 4, 8, 1):
        x = rows(count, count + len(kept))
        kept.append((x, opened.run({"x": x, "spare": np.zeros(1, np.float32)})["y"]))
    for x, y in kept:  # none was overwritten by a later run
        np.testing.assert_array_equal(y, 2 * x)
    assert (cuda.launches > 0) is graph
    assert opened.in_force() == {
        "threads": 0,
        "precision": "as the graph says",
        "cuda_graph": graph,
        "plan": "/cache/a.plan",
    }


def test_bound_calls_see_what_the_caller_writes_into_the_feeds() -> None:
    opened = session(HostCuda())
    first, second = rows(2), rows(3, 1)
    calls = [opened.bind({"x": first}), opened.bind({"x": second})]
    first[:] = 5
    for call in (calls[0], calls[1], calls[0]):
        call()
    np.testing.assert_array_equal(calls[0].outputs()["y"], np.full((2, 3), 10))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(calls[1].outputs()["y"], 2 * second)  # type: ignore[attr-defined]


def test_a_model_that_cannot_be_captured_runs_without_a_graph_and_says_why() -> None:
    cuda = HostCuda()
    opened = session(cuda, capturable=False)
    x = rows(2)
    np.testing.assert_array_equal(opened.run({"x": x})["y"], 2 * x)
    told = opened.in_force()
    assert (
        told["cuda_graph"] is False
        and told["cuda_graph_refused"] == "TensorRT cannot run the plan; the engine's own words"
    )
    assert cuda.launches == 0


def test_an_output_whose_size_only_the_run_tells() -> None:
    cuda = HostCuda()
    opened = session(cuda, counting=True)
    x = np.array([[1, 2, 3], [-1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(opened.run({"x": x})["y"], [[2, 4, 6], [8, 10, 12]])
    assert opened.run({"x": -np.abs(x)})["y"].shape == (0, 3)
    assert opened.in_force()["cuda_graph"] is False  # its memory moves from run to run


def test_a_shape_outside_the_plan_is_refused_and_the_session_works_on() -> None:
    opened = session(HostCuda())
    with pytest.raises(EngineError, match=r"input 'x' has the shape 9x3, which the plan was not built for") as caught:
        opened.run({"x": rows(9)})
    assert caught.value.details == ("the engine's own words",) and "--range" in caught.value.fix
    np.testing.assert_array_equal(opened.run({"x": rows(8)})["y"], 2 * rows(8))


@pytest.mark.parametrize(
    ("feeds", "message"),
    [({}, "input 'x'"), ({"z": rows(1)}, "no input 'z'"), ({"x": rows(1).astype(np.float64)}, "must be float32")],
)
def test_feeds_that_do_not_fit(feeds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        session(HostCuda()).run(feeds)


def test_layers_are_timed_in_a_context_of_their_own() -> None:
    opened = session(HostCuda())
    (layer,) = opened.profile({"x": rows(2)}, 5)
    assert (layer.name, layer.op_type, layer.time_s, layer.covers) == ("double", "PointWise", 0.00025, ("the_mul",))
    placed = opened.placement()
    assert placed.counts() == {"TensorRT": 1} and placed.nodes[0].op_type == "PointWise"


@pytest.mark.parametrize("counting", [False, True])
def test_closing_gives_all_memory_back(counting: bool) -> None:
    cuda = HostCuda()
    opened = session(cuda, counting=counting)
    opened.run({"x": rows(2)})
    opened.run({"x": rows(5)})
    opened.bind({"x": rows(3)})
    opened.profile({"x": rows(2)}, 2)
    with pytest.raises(EngineError):
        opened.run({"x": rows(9)})
    opened.close()
    opened.close()
    assert cuda.memory == {} and cuda.streams == 0 and not any(cuda.graphs.values())
    with pytest.raises(EngineError, match="this session is closed"):
        opened.run({"x": rows(1)})
