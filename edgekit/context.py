"""What passes and exporters may look at beside the model: the data, the engine, the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .contracts import Feeds, Progress, Quiet


@dataclass(frozen=True, slots=True)
class PassContext:
    """What a pass may look at beside the graph."""

    arch: str = "x86_64"  # the device's machine: "x86_64", "aarch64"
    runtime: str = "onnxruntime"  # the engine that will load the result
    calibration: Callable[[], Iterator[Feeds]] | None = None  # each call streams the calibration samples anew
    calibration_samples: int = 0
    keep_float: frozenset[str] = frozenset()  # names of nodes that must stay in floating point
    target: str = ""  # the profile's name
    device: str = "CPU"  # where its nodes must run; "" : anywhere
    allow_fallback: frozenset[str] = frozenset()  # operators that may run elsewhere all the same
    workdir: Path | None = None  # a private folder for large temporary files
    progress: Progress = field(default_factory=Quiet)
    # Ranges of the float graph's tensors that were calibrated before, by method: candidates of one export share them.
    ranges: dict[object, dict[str, tuple[float, float]]] = field(default_factory=dict)
    # Free dimension → its smallest, usual and largest size, where the user states them: engines that plan need it.
    dimensions: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
