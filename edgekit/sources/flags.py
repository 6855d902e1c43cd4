"""What a person writes to describe inputs: ``--input NAME:DTYPE:1x3x224x224`` or ``NAME=VALUE``, ``--dynamic``."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..contracts import Array
from ..errors import SourceError, UsageError, suggestion

DTYPES = (
    "float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
_DIM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DEFAULT_SIZE = 32  # of a free dimension that was given no example size
BATCH_NAMES = ("batch", "batch_size", "n", "N", "b", "B")
_FORM = (
    "Write it as NAME:DTYPE:SHAPE (with commas where a name holds an x: 1,max_len), or its value as NAME=VALUE, for "
    "example: --input image:float32:1x3x224x224, --input ids:int64:1xseq or --input sr=16000"
)
_VALUE = re.compile(r"(?P<name>[^:=]+)=(?P<value>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)")


@dataclass(frozen=True, slots=True)
class InputFlag:
    """One ``--input``. ``shape`` holds an example size for every dimension, ``free`` names those that are free."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    free: dict[int, str]
    given: frozenset[int] = frozenset()  # axes whose size was written; the others' is a guess
    value: float | None = None  # of every element, where it was written: ``sr=16000``

    def make(self) -> Array:
        """An example array, the same on every call: normal floats; integers 0 or 1, which every vocabulary holds."""
        if self.value is not None:
            return np.full(self.shape, self.value).astype(self.dtype)
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        if self.dtype == "bool":
            return np.ones(self.shape, bool)
        if self.dtype == "uint8":
            return rng.integers(0, 256, self.shape).astype(np.uint8)
        if self.dtype.startswith("int"):
            return rng.integers(0, 2, self.shape).astype(self.dtype)
        return np.asarray(rng.standard_normal(self.shape)).astype(self.dtype)


@dataclass(frozen=True, slots=True)
class FreeAxis:
    """A free dimension: which axis of which input, what it is called, and whether a person chose that name."""

    input: str
    axis: int
    dim: str
    chosen: bool


def parse_input(text: str) -> InputFlag:
    """Read one ``--input`` flag: ``ids:int64:1xseq``, ``x:float32:scalar``, ``x:float32:batch=4x3x64``, ``sr=16000``.

    A name makes a dimension free; ``name=64`` also says its size in the example. Where a name holds an ``x``, commas
    separate: ``ids:int64:1,max_len``. A value alone is a scalar, int64 or float32 as it is written; a file that knows
    better says so.

    Raises:
        UsageError: it has not that form, or the dtype is not known.
    """
    if found := _VALUE.fullmatch(text):
        whole = found["value"].lstrip("+-").isdigit()
        return InputFlag(found["name"], "int64" if whole else "float32", (), {}, value=float(found["value"]))
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not parts[0]:
        raise UsageError(f"--input '{text}' does not have the form NAME:DTYPE:SHAPE", fix=_FORM)
    name, dtype, shape_text = parts
    if dtype not in DTYPES:
        raise UsageError(f"--input '{text}': '{dtype}' is not a dtype of an input", fix=suggestion(dtype, DTYPES))
    if shape_text in ("", "scalar"):
        return InputFlag(name, dtype, (), {})
    shape: list[int] = []
    free: dict[int, str] = {}
    sizes: dict[str, int] = {}
    given: set[int] = set()
    for axis, token in enumerate(shape_text.split("," if "," in shape_text else "x")):
        dim, _, size_text = token.partition("=")
        if dim.isdigit() and not size_text and int(dim) > 0:
            shape.append(int(dim))
            given.add(axis)
        elif _DIM_NAME.fullmatch(dim) and (not size_text or (size_text.isdigit() and int(size_text) > 0)):
            default = 1 if dim in BATCH_NAMES else _DEFAULT_SIZE
            shape.append(sizes.setdefault(dim, int(size_text) if size_text else default))
            free[axis] = dim
            if size_text:
                given.add(axis)
        else:
            raise UsageError(
                f"--input '{text}': '{token}' is not a dimension, which is a size above 0 or a name", fix=_FORM
            )
    return InputFlag(name, dtype, tuple(shape), free, frozenset(given))


def states_shapes(inputs: Sequence[str]) -> str | None:
    """``--input``, where one of them states a shape and not a value alone; else None."""
    return "--input" if any(parse_input(text).value is None for text in inputs) else None


def stated_values(inputs: Sequence[str]) -> dict[str, float]:
    """The inputs of which ``--input`` gives the value alone, with it: ``sr=16000``."""
    return {flag.name: flag.value for flag in map(parse_input, inputs) if flag.value is not None}


def parse_dynamic(text: str, inputs: Sequence[tuple[str, int]], usual: dict[tuple[str, int], str]) -> FreeAxis:
    """Read one ``--dynamic`` flag against the model's inputs, given as (name, rank).

    ``usual`` names axes whose name is known (a Hugging Face config tells). Else axis 0 is ``batch``.

    Raises:
        UsageError: it does not have the form NAME:AXIS or NAME:AXIS=DIM, or there is no such input or axis.
    """
    match = re.fullmatch(r"(?P<name>.+):(?P<axis>-?\d+)(?:=(?P<dim>[A-Za-z_][A-Za-z0-9_]*))?", text)
    if match is None:
        raise UsageError(
            f"--dynamic '{text}' does not have the form NAME:AXIS or NAME:AXIS=DIM",
            fix="For example: --dynamic image:0 or --dynamic ids:1=sequence",
        )
    name, axis = match["name"], int(match["axis"])
    ranks = dict(inputs)
    if name not in ranks:
        raise UsageError(f"--dynamic '{text}': the model has no input '{name}'", fix=suggestion(name, ranks))
    rank = ranks[name]
    if not -rank <= axis < rank:
        raise UsageError(
            f"--dynamic '{text}': input '{name}' has {rank} dimensions, so AXIS must be below {rank}, got {axis}"
        )
    axis %= rank
    default = usual.get((name, axis), "batch" if axis == 0 else f"{name.replace('.', '_')}_dim{axis}")
    return FreeAxis(name, axis, match["dim"] or default, chosen=match["dim"] is not None)


def parse_ranges(texts: Sequence[str], sizes: Mapping[str, int]) -> dict[str, tuple[int, int, int]]:
    """Read the ``--range`` flags, ``DIM=MIN..OPT..MAX`` or ``DIM=MIN..MAX``, which is tuned for the example's size.

    Args:
        texts: the flags.
        sizes: free dimension of the model → its size in the example inputs.

    Raises:
        UsageError: not of that form, not in order, or no free dimension of the model.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for text in texts:
        match = re.fullmatch(r"(?P<dim>[^=]+)=(?P<min>\d+)(?:\.\.(?P<opt>\d+))?\.\.(?P<max>\d+)", text)
        if match is None:
            raise UsageError(
                f"--range '{text}' does not have the form DIM=MIN..OPT..MAX", fix="For example: --range batch=1..8..32"
            )
        dim = match["dim"]
        if dim not in sizes:
            fix = suggestion(dim, sizes) if sizes else "The model has none: name one with --dynamic."
            raise UsageError(f"--range '{text}': '{dim}' is not a free dimension of the model", fix=fix)
        low, high = int(match["min"]), int(match["max"])
        usual = int(match["opt"]) if match["opt"] else min(max(sizes[dim], low), high)
        if not 1 <= low <= usual <= high:
            raise UsageError(f"--range '{text}': 1 <= MIN <= OPT <= MAX must hold, got {low}, {usual}, {high}")
        found[dim] = (low, usual, high)
    return found


def flag_for(name: str, array: Array | None) -> str:
    """The ``--input`` flag that describes ``array``, for messages."""
    if array is None:
        return f"--input {name}:DTYPE:SHAPE"
    return f"--input {name}:{array.dtype.name}:{'x'.join(map(str, array.shape)) or 'scalar'}"


def check_sizes(axes: Sequence[FreeAxis], example: dict[str, Array]) -> None:
    """Dimensions of one name must have one size in the example inputs.

    Raises:
        SourceError: they differ.
    """
    sizes: dict[str, tuple[int, FreeAxis]] = {}
    for item in axes:
        size = example[item.input].shape[item.axis]
        first_size, first = sizes.setdefault(item.dim, (size, item))
        if first_size != size:
            raise SourceError(
                f"the free dimension '{item.dim}' is {first_size} in input '{first.input}' (axis {first.axis}) and "
                f"{size} in input '{item.input}' (axis {item.axis}) of the example inputs",
                fix=f"Give them one size, or two names: --dynamic {item.input}:{item.axis}=other",
            )
