"""A folder written by Hugging Face's ``datasets.save_to_disk``: columns named as the inputs, plus ``label(s)``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..contracts import TensorSpec
from ..errors import DataError, EngineError
from . import fit
from .dataset import Dataset, Sample
from .factory import as_label
from .npz import LABELS


def is_arrow(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder (a data set, or a dictionary of them)."""
    return (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file()


def load(spec: str, folder: Path, inputs: tuple[TensorSpec, ...], optional: Collection[str] = ()) -> Dataset:
    """Open the folder; rows are read from the memory-mapped file one by one.

    Raises:
        DataError, EngineError: see `edgekit.data.load.load_data`.
    """
    try:
        import datasets  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise EngineError(
            f"{spec} is a Hugging Face data set: reading it needs the package datasets",
            fix="Install it: pip install datasets",
        ) from error
    if (folder / "dataset_dict.json").is_file():
        parts = sorted(item.name for item in folder.iterdir() if is_arrow(item))
        raise DataError(f"{spec} holds several parts: {', '.join(parts)}", fix=f"Name one: {folder / parts[0]}")
    try:
        table = datasets.load_from_disk(str(folder)).with_format("numpy")
    except Exception as error:
        raise DataError(f"{spec} cannot be read: {' '.join(str(error).split())[:300]}") from error
    inputs = fit.present(table.column_names, inputs, optional)
    names = [item.name for item in inputs]
    label = next((name for name in LABELS if name in table.column_names and name not in names), None)
    ignored = [name for name in table.column_names if name not in (*names, label)]
    fit.check_names([name for name in table.column_names if name in names], inputs, spec)
    table = table.select_columns([*names, *([label] if label else [])])

    def fetch(indices: Sequence[int]) -> Iterator[Sample]:
        for index in indices:
            row, where = table[int(index)], f"row {index} of {spec}"
            feeds, _ = fit.fit_feeds({name: np.asarray(row[name]) for name in names}, inputs, where)
            yield Sample(feeds, as_label(row[label], where) if label else None)

    notes = [f"columns that are not inputs were ignored: {', '.join(ignored)}"] if ignored else []
    dataset = Dataset(folder.name, spec, fetch, len(table), has_labels=label is not None, notes=notes)
    for _ in dataset.samples():  # a value that no model should get is an error now, not after the export
        pass
    return dataset
