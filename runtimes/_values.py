"""What all adapters share: engine lookup, checks of feeds, dtypes that numpy has not, errors in the engine's words.

A tensor whose dtype numpy lacks (bfloat16, float8, int4, …) is an ml_dtypes array on our side and its bare bits on the
engine's. Dtypes under a byte are packed on the engine's side, the first element in the lowest bits. An ONNX sequence is
a list of arrays, an empty optional is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Array, Feeds, TensorSpec
from ..errors import EngineError, suggestion

_BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}


def import_engine(module: str, install: str, *, exclusive: Sequence[str] = ()) -> ModuleType:
    """Import an engine's Python package.

    Args:
        module: what to import.
        install: the line that installs it.
        exclusive: distributions that write the same package folder, so that at most one of them may be installed.

    Raises:
        EngineError: not installed, installed twice over, or broken; with the line that helps.
    """
    present = [name for name in exclusive if _is_installed(name)]
    if len(present) > 1:
        names = " and ".join(present)
        raise EngineError(
            f"{names} are both installed; they overwrite each other's files in the folder '{module}'",
            fix=f"Keep one: pip uninstall -y {' '.join(present)} && {install}",
        )
    try:
        engine = import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise EngineError(f"{module} is not installed", fix=f"Install it: {install}") from error
        raise EngineError(f"{module} cannot be imported: {one_line(error)}", fix=f"Install it: {install}") from error
    except (ImportError, OSError) as error:
        raise EngineError(f"{module} cannot be imported: {one_line(error)}", fix=f"Reinstall it: {install}") from error
    if not hasattr(engine, "__version__"):
        # A folder without code, left by pip when one of two distributions that share it was removed.
        raise EngineError(f"{module} is damaged: its folder holds no package", fix=f"Reinstall it: {install}")
    return engine


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn whatever an engine raises into an EngineError: ``{doing}: {its own words}``."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"{doing}: {one_line(error)}") from error


def one_line(error: BaseException, limit: int = 500) -> str:
    """An engine's message on one line, without the places in its own source that say nothing to a user."""
    lines = (line.strip() for line in str(error).splitlines())
    text = " ".join(line for line in lines if line and not re.match(r"Exception from src/\S+:$", line))
    text = re.sub(r"Check '.*?' failed at src/\S+?:\s*", "", text) or str(error).strip() or type(error).__name__
    text = re.sub(r"\s+", " ", text).rstrip(". ")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def check_feeds(feeds: Mapping[str, Any], inputs: Iterable[TensorSpec]) -> None:
    """Check names and dtypes; shapes are the engine's to check, against its own account of what is free.

    Raises:
        EngineError: an input is missing or unknown, or has another dtype (engines cast some of these silently).
    """
    specs = {spec.name: spec for spec in inputs}
    for name in feeds:
        if name not in specs:
            raise EngineError(f"the model has no input '{name}'", fix=suggestion(name, specs))
    for name, spec in specs.items():
        if name not in feeds:
            raise EngineError(f"input '{name}' ({spec}) was not fed, got {', '.join(feeds) or 'nothing'}")
        value = feeds[name]
        if isinstance(value, (np.ndarray, np.generic)) and is_tensor(spec.dtype):
            refused = TensorSpec(name, spec.dtype, tuple("any" for _ in value.shape)).refuses(np.asarray(value))
            if refused:
                raise EngineError(f"input {refused}")


def is_tensor(dtype: str) -> bool:
    """Whether a TensorSpec's dtype is a tensor's, not ``sequence(…)``, ``optional(…)`` or the like."""
    return "(" not in dtype


def is_plain(dtype: str) -> bool:
    """Whether numpy itself has the dtype, with a fixed size: not ml_dtypes', not strings."""
    return dtype != "string" and is_tensor(dtype) and _is_numpy(dtype)


def _is_numpy(dtype: str) -> bool:
    try:
        return np.dtype(dtype).name == dtype and np.dtype(dtype).kind in "biufc"
    except TypeError:
        return False


def to_bits(array: Array) -> NDArray[np.uint8]:
    """The bytes an engine holds for an ml_dtypes array: [...] → [size_bytes], elements under a byte packed."""
    flat = np.ascontiguousarray(array).reshape(-1)
    bits = _BITS.get(array.dtype.name)
    if bits is None:
        return flat.view(np.uint8)
    per_byte = 8 // bits
    codes = flat.view(np.uint8) & ((1 << bits) - 1)
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = codes
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    return np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8)


def from_bits(data: NDArray[np.uint8], dtype: str, shape: Sequence[int]) -> Array:
    """The ml_dtypes array that an engine's bytes stand for; a fresh copy.

    Raises:
        EngineError: ml_dtypes is not installed.
    """
    target = extended_dtype(dtype)
    bits = _BITS.get(dtype)
    if bits is None:
        return data.copy().view(target).reshape(tuple(shape))
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    codes = ((data[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[: int(np.prod(shape, dtype=np.int64))]
    return codes.astype(np.uint8).view(target).reshape(tuple(shape))


def extended_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of ``bfloat16``, ``int4``, …, which ml_dtypes adds to numpy.

    Raises:
        EngineError: ml_dtypes is not installed.
    """
    try:
        return np.dtype(getattr(import_module("ml_dtypes"), name))
    except ModuleNotFoundError as error:
        raise EngineError(f"{name} tensors need ml_dtypes", fix="Install it: pip install ml_dtypes") from error


def contiguous(feeds: Feeds) -> dict[str, Any]:
    """Arrays in C order (engines read memory as it lies); anything that is not an array as it is."""
    return {
        name: np.ascontiguousarray(value).reshape(np.shape(value)) if isinstance(value, np.ndarray) else value
        for name, value in feeds.items()
    }
