"""``recipe.json``: how a TensorRT plan is built from the ``model.onnx`` beside it. Written by the exporter, read on the
device: a plan is tied to the GPU, the driver and the TensorRT version, so each device builds its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError

RECIPE = "recipe.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes of one input that a plan must take, and the one it is tuned for (an optimisation profile's share)."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in ("min", "opt", "max"):
            object.__setattr__(self, field, tuple(getattr(self, field)))  # from JSON it comes as a list
        ordered = len(self.min) == len(self.opt) == len(self.max) and all(
            1 <= low <= usual <= high for low, usual, high in zip(self.min, self.opt, self.max, strict=True)
        )
        if not ordered:
            raise ValueError(f"1 <= min <= opt <= max must hold, got {self.min}, {self.opt}, {self.max}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The builder's settings. The network is strongly typed: the graph's own dtypes say what computes in what.

    Args:
        precision: what the graph computes in, for people: "fp32", "fp16", "int8".
        profiles: input → the shapes to plan for; an entry for every input with a free dimension.
        workspace_bytes: scratch memory a layer may use at most; 0: TensorRT's choice, all of the device's memory.
        optimization_level: 0 (builds fast) to 5 (searches longest); TensorRT's default is 3.
        tf32: whether float32 convolutions and products may round their inputs to 10 bits of mantissa.
        timing_cache: keep the measured times of kernels beside the plans, so that the next build is faster.
        dla_core: the deep learning accelerator to use, counted from 0; None: the GPU alone.
        gpu_fallback: whether layers that the DLA does not take may run on the GPU.
        tensorrt_min: the oldest TensorRT that takes the graph.
        tensorrt_below: the first TensorRT that it was not checked for.
    """

    precision: str
    profiles: Mapping[str, ShapeRange] = dataclasses.field(default_factory=dict)
    workspace_bytes: int = 0
    optimization_level: int = 3
    tf32: bool = False
    timing_cache: bool = True
    dla_core: int | None = None
    gpu_fallback: bool = False
    tensorrt_min: str = "10.3"
    tensorrt_below: str = "12"

    def dumps(self) -> bytes:
        """The bytes of recipe.json; equal recipes give equal bytes."""
        table = {"schema": SCHEMA, **dataclasses.asdict(self)}
        return (json.dumps(table, indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Of the recipe."""
        return hashlib.sha256(self.dumps()).hexdigest()

    def refuses(self, version: str) -> str | None:
        """Why a TensorRT of this version is not one that the graph was checked for, or None where it is."""
        if numbers(version) < numbers(self.tensorrt_min):
            return f"TensorRT {version} is older than {self.tensorrt_min}, the oldest that takes this graph"
        return None


def read_recipe(folder: Path) -> Recipe:
    """The recipe that lies in an artifact's folder.

    Raises:
        EngineError: there is none, or it is damaged; names what is wrong.
    """
    path = folder / RECIPE
    try:
        table = json.loads(path.read_bytes())
        if not isinstance(table, dict) or table.pop("schema", None) != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        table["profiles"] = {name: ShapeRange(**item) for name, item in table["profiles"].items()}
        return Recipe(**table)
    except FileNotFoundError as error:
        raise EngineError(f"'{path}' does not exist: there is no recipe to build a plan from") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(f"'{path}' cannot be used: {error}", fix="Export the model again.") from error


def numbers(version: str) -> tuple[int, ...]:
    """``10.16.1.11`` → (10, 16): what a TensorRT's features depend on."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
