"""Raw latencies as rows of a ``.npy`` file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..measure.statistics import Samples

SAMPLE = np.dtype([("process", "<i4"), ("block", "<i4"), ("latency_s", "<f8")])
"""One row of a samples file."""

Rows = np.ndarray[Any, np.dtype[np.void]]


def flatten(samples: Samples) -> Rows:
    """``samples[process][block]`` as rows of `SAMPLE`, in the order they were taken within each process."""
    rows = [
        np.rec.fromarrays([np.full(series.size, process), np.full(series.size, block), series], dtype=SAMPLE)
        for process, blocks in enumerate(samples)
        for block, series in enumerate(blocks)
    ]
    return np.concatenate(rows) if rows else np.empty(0, SAMPLE)


def unflatten(rows: Rows) -> Samples:
    """The reverse of `flatten`: statistics are computed anew from kept samples."""
    return [
        [rows["latency_s"][(rows["process"] == process) & (rows["block"] == block)] for block in blocks]
        for process in np.unique(rows["process"])
        for blocks in [np.unique(rows["block"][rows["process"] == process])]
    ]


def load_samples(path: Path) -> Samples:
    """Read a samples file. Nothing in it is executed: pickles are refused.

    Raises:
        DataError: it is missing, cut short, or no samples file.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"the samples file '{path}' is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the samples file '{path}' cannot be read: {error}") from error
    if not isinstance(rows, np.ndarray) or rows.dtype != SAMPLE or rows.ndim != 1:
        raise DataError(f"'{path}' is not a samples file", fix="Its rows must be (process, block, latency_s).")
    return unflatten(rows)
