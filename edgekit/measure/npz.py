"""Named arrays as bytes and back: the format of golden data and of what a worker exchanges.

``numpy.savez`` alone will not do: it cannot take an array named ``file``, stamps the time into its output, and loses
the dtypes that numpy itself does not know (bfloat16, float8, int4). What is written here is an ordinary ``.npz`` that
``numpy.load(..., allow_pickle=False)`` reads; the same arrays always give the same bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ..contracts import Array

_DTYPES = "__dtypes__"  # the entry that names extension dtypes, present only where there are any
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip file can state


def dump(arrays: Mapping[str, Array]) -> bytes:
    """``arrays`` as the bytes of an ``.npz`` file. Arrays of Python strings become fixed-width strings.

    Raises:
        ValueError: a value is not an array (a sequence, None), or an array holds Python objects.
    """
    ready: dict[str, Array] = {}
    extended: dict[str, str] = {}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray | np.generic):
            raise ValueError(f"'{name}' is not an array but {type(array).__name__}, which is not saved")
        array = np.asarray(array)
        if array.dtype.kind == "O":
            if not all(isinstance(item, str | bytes) for item in array.flat):
                raise ValueError(f"'{name}' holds Python objects, which are not saved")
            array = array.astype(str)
        elif array.dtype.kind == "V":
            extended[name] = array.dtype.name
            array = array.view(np.dtype(f"uint{8 * array.dtype.itemsize}"))
        ready[name] = array
    if extended:
        ready[_DTYPES] = np.array(json.dumps(extended, sort_keys=True))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in ready.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return buffer.getvalue()


def load(data: bytes | Path) -> dict[str, Array]:
    """The arrays of an ``.npz``. Nothing in it is ever unpickled.

    Raises:
        ValueError: it is damaged, or holds a dtype that cannot be restored here (``ml_dtypes`` is missing).
        OSError: the file cannot be read.
    """
    with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
        try:
            arrays = _read(stream)
            extended: dict[str, str] = json.loads(str(arrays.pop(_DTYPES))) if _DTYPES in arrays else {}
        except Exception as error:  # damage can surface as nearly any exception of zipfile's and numpy's
            raise ValueError(f"not a readable .npz: {error}") from error
    return {
        name: array.view(_extension_dtype(extended[name])) if name in extended else array
        for name, array in arrays.items()
    }


def _read(stream: IO[bytes]) -> dict[str, Array]:
    with zipfile.ZipFile(stream) as archive:
        arrays = {}
        entries = archive.infolist()
        if len(entries) != _stated_entries(stream):  # zipfile takes a directory that ends too early for a whole one
            raise ValueError(f"its directory holds {len(entries)} entries, and states another number")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:  # so that it is no larger than it looks
                raise ValueError(f"'{entry.filename}' is compressed")
            with archive.open(entry) as file:
                arrays[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
        return arrays


def _stated_entries(stream: IO[bytes]) -> int:
    """How many entries the end of the zip file says that there are: 65,535 at most, and nobody has as many arrays."""
    stream.seek(0, io.SEEK_END)
    stream.seek(max(0, stream.tell() - 2**16 - 22))
    tail = stream.read()
    return int.from_bytes(tail[(at := tail.rfind(b"PK\5\6") + 10) : at + 2], "little")


def _extension_dtype(name: str) -> np.dtype[np.generic]:
    try:
        import ml_dtypes
    except ImportError as error:
        raise ValueError(f"arrays of {name} need the package ml_dtypes (pip install ml_dtypes)") from error
    dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
    return dtype
