"""What all adapters share: engine lookup, checks of feeds, dtypes that numpy has not, errors in the engine's words.

A tensor whose dtype numpy lacks (bfloat16, float8, int4, …) is an ml_dtypes array on our side and its bare bits on the
engine's. Dtypes under a byte are packed on the engine's side, the first element in the lowest bits. An ONNX sequence is
a list of arrays, an empty optional is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Array, TensorSpec
from ..errors import EngineError, suggestion
from ..measure.engines import installed_version

_PLAIN = frozenset(
    ["bool"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    + ["float16", "float32", "float64", "complex64", "complex128"]
)
_NATIVE = {name: np.dtype(name) for name in _PLAIN}
"""Numpy's own objects, one each: an array of this machine's byte order holds the same object."""
_BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}


def import_engine(module: str, install: str, *, exclusive: Sequence[str] = ()) -> ModuleType:
    """Import an engine's Python package.

    Args:
        module: what to import: the package, or a module of it.
        install: the line that installs it.
        exclusive: distributions that write the same package folder, so that at most one of them may be installed.

    Raises:
        EngineError: not installed, installed twice over, or broken; with the line that helps.
    """
    present = [name for name in exclusive if installed_version(name)]
    if len(present) > 1:
        names = " and ".join(present)
        raise EngineError(
            f"{names} are both installed; they overwrite each other's files in the folder '{module}'",
            fix=f"Keep one: pip uninstall -y {' '.join(present)} && {install}",
        )
    try:
        engine = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise EngineError(f"{error.name} is not installed", fix=f"Install it: {install}") from error
        raise EngineError(f"{module} cannot be imported: {one_line(error)}", fix=f"Install it: {install}") from error
    except (ImportError, OSError) as error:
        raise EngineError(f"{module} cannot be imported: {one_line(error)}", fix=f"Reinstall it: {install}") from error
    if not hasattr(engine, "__version__") and getattr(engine, "__file__", None) is None:
        # A folder without code, left by pip when one of two distributions that share it was removed.
        raise EngineError(f"{module} is damaged: its folder holds no package", fix=f"Reinstall it: {install}")
    return engine


class engine_errors:  # noqa: N801 - used as a function is; a generator would cost each run a microsecond
    """Turn whatever an engine raises inside the with into an EngineError: ``{doing}: {its own words}``."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, EngineError):
            raise EngineError(f"{self._doing}: {one_line(error)}") from error


def unconverted(error: BaseException) -> str:
    """``STFT 'image': Shape of signal must be static``, of OpenVINO's report on what it cannot convert; else ""."""
    found = []
    for operator, message in re.findall(r"-- (\w+)-\d+ with a message:\n(.*?)(?=\n\n|\Z)", str(error), re.DOTALL):
        node = re.search(r"<Node\(\w+\): (.*?)>'", message)
        reason = message.strip().splitlines()[-1].strip().rstrip(".")
        found.append(f"{operator} '{node[1]}': {reason}" if node else f"{operator}: {reason}")
    return "; ".join(dict.fromkeys(found))


def one_line(error: BaseException, limit: int = 500) -> str:
    """An engine's message on one line, without the places in its own source that say nothing to a user."""
    if found := unconverted(error):
        return f"it cannot convert {found}"
    lines = (line.strip() for line in str(error).splitlines())
    text = " ".join(line for line in lines if line and not re.match(r"Exception from src/\S+:$", line))
    text = re.sub(r"/onnxruntime_src/\S+:\d+ .*? was false\. *", "", text)
    # The same refusal of several candidates is one cause: their files' places are none.
    text = re.sub(r"Load model from .*? failed: *", "", text)
    text = re.sub(r"Check '.*?' failed at src/\S+:\d+: *", "", text) or str(error).strip() or type(error).__name__
    text = re.sub(r"\s+", " ", text).rstrip(". ")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def prepare(feeds: Mapping[str, Any], inputs: Sequence[TensorSpec], *, unused: Iterable[str] = ()) -> dict[str, Any]:
    """Feeds as an engine can read them: one for each input, checked, arrays in C order.

    Names and dtypes are checked here, because engines cast some of these silently. Shapes are left to the engine, which
    checks them against its own account of what is free.

    Args:
        feeds: input name → array, or list of arrays (a sequence), or None (an empty optional).
        inputs: what the engine wants.
        unused: further names that may be fed, because the model has them and the engine found no use for them.

    Raises:
        EngineError: an input is missing or unknown, or has another dtype.
    """
    if len(feeds) == len(inputs):  # what an app passes a million times costs 0.1 µs an input
        for spec in inputs:
            value = feeds.get(spec.name)
            if type(value) is not np.ndarray or value.dtype is not _NATIVE.get(spec.dtype):
                break
            if not value.flags.c_contiguous:
                break
        else:
            return dict(feeds)
    known = {spec.name for spec in inputs}
    for name in feeds:
        if name not in known and name not in unused:
            raise EngineError(f"the model has no input '{name}'", fix=suggestion(str(name), known))
    ready: dict[str, Any] = {}
    for spec in inputs:
        if spec.name not in feeds:
            raise EngineError(f"input '{spec.name}' ({spec}) was not fed, got {', '.join(feeds) or 'nothing'}")
        value = feeds[spec.name]
        if is_tensor(spec.dtype):
            if not isinstance(value, (np.ndarray, np.generic)):
                raise EngineError(f"input '{spec.name}' must be an array ({spec.dtype}), got {type(value).__name__}")
            # ascontiguousarray alone would turn a scalar into one dimension.
            value = np.ascontiguousarray(value).reshape(value.shape)
            refused = TensorSpec(spec.name, spec.dtype, ("any",) * value.ndim).refuses(value)
            if refused:
                raise EngineError(f"input {refused}")
        ready[spec.name] = value
    return ready


def is_tensor(dtype: str) -> bool:
    """Whether a TensorSpec's dtype is a tensor's, not ``sequence(…)``, ``optional(…)`` or the like."""
    return "(" not in dtype


def is_plain(dtype: str) -> bool:
    """Whether numpy itself has the dtype, with a fixed size: not ml_dtypes', not strings."""
    return dtype in _PLAIN


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
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8)
    return packed


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
        found: np.dtype[Any] = np.dtype(getattr(import_module("ml_dtypes"), name))
    except ModuleNotFoundError as error:
        raise EngineError(f"{name} tensors need ml_dtypes", fix="Install it: pip install ml_dtypes") from error
    return found
