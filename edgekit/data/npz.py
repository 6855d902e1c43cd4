"""``.npz``: arrays named as the inputs, plus optional ``labels``; the first axis counts samples."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..contracts import Array, TensorSpec
from ..errors import DataError
from . import fit
from .dataset import Dataset, Sample

LABELS = ("labels", "label")
_LOCAL_HEADER = 30  # bytes of a zip member's fixed local header; name and extra field follow (APPNOTE 4.3.7)


def load(spec: str, path: Path, inputs: tuple[TensorSpec, ...], optional: Collection[str] = ()) -> Dataset:
    """Open ``path`` (or a lone ``.npy`` for a model of one input) and check every value once.

    Raises:
        DataError: see `edgekit.data.load.load_data`.
    """
    if path.suffix == ".npz":
        arrays = open_arrays(path)
        inputs = fit.present(arrays, inputs, optional)
    else:
        inputs = fit.present((), inputs, optional)
        arrays = {inputs[0].name: _read_npy(path)}
    label_name = next((name for name in LABELS if name in arrays and name not in {i.name for i in inputs}), None)
    labels = arrays.pop(label_name) if label_name else None
    fit.check_names(list(arrays), inputs, spec)
    return from_arrays(spec, path.name, arrays, labels, inputs)


def from_arrays(
    spec: str, name: str, arrays: dict[str, Array], labels: Array | None, inputs: tuple[TensorSpec, ...]
) -> Dataset:
    """Samples cut from whole arrays (which may be memory-mapped): nothing is copied but the sample at hand."""
    notes = []
    cuts: dict[str, fit.Cut] = {}
    lengths: dict[str, int] = {}
    for item in inputs:
        array = arrays[item.name]
        note = fit.cast_note(item.name, array.dtype, item)
        if note:
            notes.append(note)
        cuts[item.name] = cut = fit.cut_for(item.name, array.shape, item)
        lengths[item.name] = cut.length(array.shape[0])
        left = array.shape[0] - lengths[item.name] * max(cut.batch, 1)
        if array.shape[0] and not lengths[item.name]:
            raise DataError(
                f"{spec} holds {array.shape[0]} rows of '{item.name}', but the model takes {cut.batch} at once"
            )
        if left:
            notes.append(f"the last {left} rows of '{item.name}' were left out: the model takes {cut.batch} at once")
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"'{key}' {value}" for key, value in lengths.items())
        raise DataError(f"the arrays of {spec} hold different numbers of samples: {counts}")
    length = next(iter(lengths.values()))
    batch = next((cut.batch for cut in cuts.values() if cut.batch), 1)
    if labels is not None:
        rows = next((arrays[key].shape[0] for key, cut in cuts.items() if cut.batch), length)
        _check_labels(spec, labels, rows)

    def fetch(indices: Sequence[int]) -> Iterator[Sample]:
        for index in indices:
            where = f"sample {index} of {spec}"
            feeds = {
                item.name: fit.cast(cuts[item.name].take(arrays[item.name], index), item, where) for item in inputs
            }
            fit.check_shared(feeds, inputs, where)
            label = None if labels is None else np.array(labels[index * batch : (index + 1) * batch])
            yield Sample(feeds, label)

    dataset = Dataset(name, spec, fetch, length, has_labels=labels is not None, notes=notes)
    for _ in dataset.samples():  # a value that no model should get is an error now, not after the export
        pass
    return dataset


def _check_labels(spec: str, labels: Array, rows: int) -> None:
    if labels.dtype == object:
        raise DataError(f"the labels of {spec} are Python objects, which are stored as a pickle and are refused")
    if labels.ndim == 0 or labels.shape[0] != rows:
        raise DataError(
            f"{spec} holds {rows} samples but {labels.shape[0] if labels.ndim else 1} labels",
            fix="'labels' needs one entry per sample, along its first axis.",
        )
    fit.check_finite(np.asarray(labels), "labels", spec)


def open_arrays(path: Path) -> dict[str, Array]:
    """Name → array. What is stored uncompressed (``numpy.savez``) is mapped, what is compressed is read once.

    Raises:
        DataError: no archive, a damaged one, or one that holds pickled objects.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.filename == name:
                    raise DataError(f"{path} holds '{info.filename}', which is not a numpy array")
                if name in arrays:
                    raise DataError(f"{path} holds two arrays named '{name}'", fix="Write it again, with numpy.savez.")
                with archive.open(info) as member:
                    if info.compress_type == zipfile.ZIP_STORED:
                        arrays[name] = _map(path, info)
                    else:
                        arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is not an .npz file: {error}") from error
    except ValueError as error:
        raise _unreadable(path, error) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return arrays


def _map(path: Path, info: zipfile.ZipInfo) -> Array:
    """The array of an uncompressed member, mapped from the file: it costs no memory of its own."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
        name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        file.seek(info.header_offset + _LOCAL_HEADER + name_length + extra_length)
        return _map_npy(path, file)


def _read_npy(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            return _map_npy(path, file)
    except ValueError as error:
        raise _unreadable(path, error) from error


def _map_npy(path: Path, file: object) -> Array:
    """Map the .npy that begins at the position of ``file``.

    Raises:
        ValueError: no .npy, or one of Python objects.
    """
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)  # type: ignore[arg-type]
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if 0 in shape:
        return np.empty(shape, dtype)
    offset = file.tell()  # type: ignore[attr-defined]
    array: Array = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    return array


def _unreadable(path: Path, error: ValueError) -> DataError:
    if "pickle" in str(error):
        return DataError(
            f"{path} holds an array of Python objects, which is a pickle and is refused: opening it can run any code",
            fix="Save arrays of numbers: numpy.savez(path, image=images.astype('float32'), labels=labels)",
        )
    return DataError(f"{path} cannot be read: {error}")
