"""Measure a bundle on this or another device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..bundle import Bundle, open_bundle
from ..contracts import Progress, Quiet
from ..devices import device_for
from ..devices.prepare import bring
from ..json_output.bench import Bench
from ..measure.benchmark import Measured, benchmark_bundle, to_json
from ..measure.modes import Mode
from ..measure.sampling import PROCESSES, Plan


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, on what, and what may be concluded from it."""

    bundle: Path
    model_bytes: int
    device: dict[str, Any]
    measured: Measured
    arch: tuple[str, ...] = ()  # the machines that the bundle was made for; empty: any
    source: Mapping[str, Any] = field(default_factory=dict)  # what it was exported from: of its manifest

    def to_json(self) -> Bench:
        """The object of ``bench --json`` (schema 1); `results_store.keep` says where the raw samples went."""
        value = to_json(
            str(self.bundle), self.model_bytes, self.measured, device=self.device, samples=None, arch=self.arch
        )
        value["source"] = {key: self.source.get(key) for key in ("spec", "parameters")}
        return cast("Bench", value)


def bench(
    bundle: str | Path | Bundle,
    device: str = "local",
    *,
    threads: int | None = None,
    precision: float | None = 0.02,
    max_time_s: float = 60.0,
    processes: int = PROCESSES,
    warmup_s: float = 0.3,
    seconds: float | None = None,
    mode: Mode | None = None,
    batch: int | None = None,
    profile: bool = False,
    cores: Sequence[int] | None = None,
    nice: int | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure a bundle's latency and memory with the session options it was exported with.

    Args:
        bundle: its folder or zip, or an open one.
        device: ``local``, ``ssh://[user@]host[:port]`` or ``adb://serial``.
        threads: instead of the measured session option.
        precision: stop when p50 is known to ± this share of it; None: use all the time.
        max_time_s: stop after so much time.
        processes: fresh processes to measure in, at least.
        warmup_s: untimed runs before a process's first block.
        seconds: instead of ``precision`` and ``max_time_s``: so much time for timed runs, in exactly ``processes``.
        mode: `Throughput`, `Sustained` or `Server` of `measure.modes`; None: one run at a time.
        batch: samples in one run, for a model whose first axis is free; None: as the golden inputs come.
        profile: also time each layer.
        cores: keep the measured processes on these logical cores; those that are not there are an error.
        nice: their priority, −20 (first) to 19; what the system does not allow is told, no error.
        progress: where to say how far it is.

    Raises:
        PlacementError: nodes run on a device that the bundle was not exported for.
        BundleError: the bundle is damaged, or is none.
        EngineError: the device or the engine is missing, or it crashed.
        UsageError: an option that cannot be.
    """
    if not isinstance(bundle, Bundle):
        with open_bundle(bundle) as opened:
            return bench(
                opened,
                device,
                threads=threads,
                precision=precision,
                max_time_s=max_time_s,
                processes=processes,
                warmup_s=warmup_s,
                seconds=seconds,
                mode=mode,
                batch=batch,
                profile=profile,
                cores=cores,
                nice=nice,
                progress=progress,
            )
    progress = progress or Quiet()
    plan = Plan(precision, max_time_s, processes, warmup_s, seconds)
    with device_for(device) as place:
        bring(bundle, place, progress)
        described = place.describe()
        with progress.stage("measure"):
            measured = benchmark_bundle(
                bundle,
                place.open,
                runtime=bundle.manifest.runtime.name,
                options=bundle.options(**({} if threads is None else {"threads": threads})),
                plan=plan,
                mode=mode,
                batch=batch,
                profile=profile,
                cores=cores,
                nice=nice,
                progress=progress,
            )
    manifest = bundle.manifest
    return BenchResult(bundle.path, bundle.model_bytes, described, measured, manifest.arch, manifest.source)
