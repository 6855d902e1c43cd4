"""Session options: which are varied, and how the best combination is found without trying all."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.pipeline.tuning import Choices, choices, explore
from edgekit.target.profile import Candidate
from edgekit.target.toolchain import Toolchain

GPU = {
    "cuda_graph": (False, True),
    "prefer_nhwc": (False, True),
    "conv_search": ("exhaustive", "heuristic"),
    "attention": ("auto", "flash", "cudnn"),
}


def candidate(tune: dict[str, tuple[Any, ...]], runtime: str = "onnxruntime_cuda", **options: Any) -> Toolchain:
    return Toolchain(Candidate("c", runtime, "fp16", "onnx", options=options, tune=tune))


def test_options_of_operators_that_the_graph_has_not_are_left_alone() -> None:
    attention = choices(candidate(GPU), None, (2,), {"MatMul", "Attention", "Softmax"})
    assert {key: len(values) for key, values in attention.values.items()} == {
        "cuda_graph": 2,
        "prefer_nhwc": 1,
        "conv_search": 1,
        "attention": 3,
    }
    convolution = choices(candidate(GPU), None, (2,), {"Conv", "Relu"})
    assert [len(values) for values in convolution.values.values()] == [2, 2, 2, 1]
    assert [len(values) for values in choices(candidate(GPU), None, (2,)).values.values()] == [2, 2, 2, 3]


def test_the_first_combination_has_the_first_values_and_what_is_fixed() -> None:
    found = choices(candidate(GPU, tf32=True, cuda_graph=True), None, (2,))
    assert found.first == {
        "tf32": True,
        "cuda_graph": True,
        "prefer_nhwc": False,
        "conv_search": "exhaustive",
        "attention": "auto",
    }
    assert "cuda_graph" not in found.values


def test_threads_stand_for_the_cores_of_this_machine_or_are_given() -> None:
    cpu = candidate({"threads": (1, 0)}, "onnxruntime")
    assert choices(cpu, None, (2, 4)).values["threads"] == (1, 2, 4)
    assert choices(cpu, 3, (2, 4)).values["threads"] == (3,)
    assert choices(candidate({}, "onnxruntime"), 3, (2,)).first == {"threads": 3}


def test_an_unknown_value_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="attention must be one of"):
        choices(candidate({"attention": ("auto", "fast")}), None, (1,))


def test_each_option_keeps_its_best_value_and_the_cost_is_a_sum() -> None:
    seconds = {"graph": {False: 4.0, True: 1.0}, "nhwc": {False: 1.0, True: 1.5}, "kernel": {0: 1.0, 1: 0.5, 2: 0.9}}
    asked: list[dict[str, Any]] = []

    def cost(options: dict[str, Any]) -> float:
        return (
            seconds["graph"][options["graph"]] * seconds["nhwc"][options["nhwc"]] * seconds["kernel"][options["kernel"]]
        )

    def measure(options: dict[str, Any]) -> float:
        asked.append(options)
        return cost(options)

    values = {key: tuple(row) for key, row in seconds.items()}
    explore(Choices({"graph": False, "nhwc": False, "kernel": 0}, values), measure)
    assert len(asked) == 1 + 1 + 1 + 2 + 2  # the second round: the other graph, the other nhwc, with the kernel found
    assert asked[2] == {"graph": True, "nhwc": True, "kernel": 0}  # from the best so far
    assert min(asked, key=cost) == {"graph": True, "nhwc": False, "kernel": 1}


def test_an_option_that_pays_only_with_a_later_one_is_found() -> None:
    seconds = {(False, 0): 4.0, (True, 0): 5.0, (False, 1): 3.0, (True, 1): 1.0}
    asked: list[tuple[Any, ...]] = []

    def measure(options: dict[str, Any]) -> float:
        asked.append((options["nhwc"], options["search"]))
        return seconds[asked[-1]]

    explore(Choices({"nhwc": False, "search": 0}, {"nhwc": (False, True), "search": (0, 1)}), measure)
    assert asked == [(False, 0), (True, 0), (False, 1), (True, 1)]  # and nothing twice


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.floats(0, 0.5, allow_nan=False),
)
def test_what_is_found_cannot_be_bettered_by_one_option(sizes: list[int], random: Random, refused: float) -> None:
    """Whatever the times: every combination at most once, and at the end no single option makes it faster."""
    values = {f"option_{index}": tuple(range(size)) for index, size in enumerate(sizes)}
    known: dict[tuple[Any, ...], float | None] = {}

    def measure(options: dict[str, Any]) -> float | None:
        key = tuple(options.values())
        assert key not in known
        known[key] = None if random.random() < refused else random.random()
        return known[key]

    explore(Choices(dict.fromkeys(values, 0), values), measure)
    found = {key: taken for key, taken in known.items() if taken is not None}
    if not found:
        return
    best = min(found, key=lambda key: found[key])
    for index, size in enumerate(sizes):
        for value in range(size):
            assert (*best[:index], value, *best[index + 1 :]) in known


def test_a_combination_that_the_engine_refuses_is_passed_over() -> None:
    asked: list[dict[str, Any]] = []

    def measure(options: dict[str, Any]) -> float | None:
        asked.append(options)
        return None if options["graph"] else 2.0 - options["nhwc"]

    explore(Choices({"graph": False, "nhwc": False}, {"graph": (False, True), "nhwc": (False, True)}), measure)
    assert asked == [
        {"graph": False, "nhwc": False},
        {"graph": True, "nhwc": False},
        {"graph": False, "nhwc": True},
        {"graph": True, "nhwc": True},  # refused with the one value, perhaps not with the other
    ]


def test_a_profile_that_varies_nothing_is_measured_all_the_same() -> None:
    seen: list[dict[str, Any]] = []
    explore(Choices({"threads": 1}, {}), lambda options: seen.append(options))
    assert seen == [{"threads": 1}]
