"""Measure a bundle on this or another device, and keep the raw samples."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle, open_bundle
from .contracts import Progress, Quiet
from .devices import device_for
from .measure.benchmark import Measured, benchmark_bundle, to_json
from .measure.statistics import Samples
from .tempdir import writing

RESULTS = Path(".edgekit") / "results"
"""Where samples are kept, in the folder that holds the bundle: never inside it, so that its hash holds."""

SAMPLE = np.dtype([("process", "<i4"), ("block", "<i4"), ("latency_s", "<f8")])
"""One row of a samples file."""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, on what, and what may be concluded from it."""

    bundle: Path
    model_bytes: int
    device: dict[str, Any]
    measured: Measured
    samples: Path

    def to_json(self) -> dict[str, Any]:
        """The object of ``bench --json`` (schema 1)."""
        return to_json(str(self.bundle), self.model_bytes, self.measured, device=self.device, samples=self.samples)


def bench(
    bundle: str | Path | Bundle,
    device: str = "local",
    *,
    threads: int | None = None,
    seconds: float = 10.0,
    processes: int = 3,
    warmup_s: float = 0.3,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure a bundle's latency and memory with the session options it was exported with.

    Args:
        bundle: its folder or zip, or an open one.
        device: ``local``; ``ssh://`` and ``adb://`` are not in this version.
        threads: instead of the measured session option.
        seconds: time for timed runs, over all processes.
        processes: fresh processes to measure in.
        warmup_s: untimed runs before a process's first block.
        progress: where to say how far it is.

    Raises:
        BundleError: the bundle is damaged, or is none.
        EngineError: the device or the engine is missing, or it crashed.
        UsageError: an option that cannot be.
        OutputError: the samples cannot be written.
    """
    if not isinstance(bundle, Bundle):
        with open_bundle(bundle) as opened:
            return bench(
                opened,
                device,
                threads=threads,
                seconds=seconds,
                processes=processes,
                warmup_s=warmup_s,
                progress=progress,
            )
    place, progress = device_for(device), progress or Quiet()
    folder = _results_folder(bundle)
    with progress.stage("measure"):
        measured = benchmark_bundle(
            bundle,
            place.open,
            runtime=bundle.manifest.runtime.name,
            options=bundle.options(**({} if threads is None else {"threads": threads})),
            seconds=seconds,
            processes=processes,
            warmup_s=warmup_s,
            progress=progress,
        )
    samples = folder / f"{bundle.manifest.name}-{_now()}-{bundle.sha256[:8]}.npy"
    with writing(samples):
        np.save(samples, flatten(measured.samples), allow_pickle=False)
    return BenchResult(bundle.path, bundle.model_bytes, place.describe(), measured, samples)


def flatten(samples: Samples) -> np.ndarray[Any, np.dtype[np.void]]:
    """``samples[process][block]`` as rows of `SAMPLE`, in the order they were taken within each process."""
    rows = [
        np.rec.fromarrays([np.full(series.size, process), np.full(series.size, block), series], dtype=SAMPLE)
        for process, blocks in enumerate(samples)
        for block, series in enumerate(blocks)
    ]
    return np.concatenate(rows)


def unflatten(rows: np.ndarray[Any, np.dtype[np.void]]) -> Samples:
    """The reverse of `flatten`: statistics are computed anew from kept samples."""
    return [
        [rows["latency_s"][(rows["process"] == process) & (rows["block"] == block)] for block in blocks]
        for process in np.unique(rows["process"])
        for blocks in [np.unique(rows["block"][rows["process"] == process])]
    ]


def _results_folder(bundle: Bundle) -> Path:
    folder = bundle.path.absolute().parent / RESULTS
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
