"""Making one sample fit the model: the batch it is cut into, lossless casts, and the refusal of everything else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..contracts import Array, Feeds, TensorSpec
from ..errors import DataError, suggestion


def present(given: Iterable[str], inputs: tuple[TensorSpec, ...], optional: Collection[str]) -> tuple[TensorSpec, ...]:
    """The inputs that the data must hold: all of them, without those ``optional`` ones of which they hold none."""
    if set(given) & set(optional):
        return inputs
    return tuple(item for item in inputs if item.name not in optional)


def check_names(given: list[str], inputs: tuple[TensorSpec, ...], where: str) -> None:
    """The data must have exactly one array per input.

    Raises:
        DataError: one is missing or unknown, with the nearest name.
    """
    wanted = [item.name for item in inputs]
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing:
        got = f"it holds {', '.join(given) or 'nothing'}"
        near = suggestion(missing[0], unknown) if unknown else ""
        fix = f"Rename the array {near[len('Did you mean ') : -1]} to '{missing[0]}'" if near.startswith("Did") else ""
        spec = next(item for item in inputs if item.name == missing[0])
        if not fix and len(spec.shape) < 2 and all(size == 1 for size in spec.shape):
            fix = f"Add it; for an .onnx file one value for all samples will do: --input {spec.name}=VALUE"
        raise DataError(f"{where} has no array '{missing[0]}', which the model takes; {got}", fix=fix)
    if unknown:
        raise DataError(
            f"{where} holds '{unknown[0]}', which is not an input of the model",
            fix=f"{suggestion(unknown[0], wanted)} Only the inputs and 'labels' may be there.",
        )


def cast_note(name: str, dtype: np.dtype[np.generic], spec: TensorSpec) -> str | None:
    """None where the dtype already fits, else a sentence on the cast that will be made.

    Allowed are floating point to floating point (float64 data for a float32 model: data has no more than 24 bits worth
    keeping) and integer to integer where every value fits.

    Raises:
        DataError: any other difference.
    """
    if dtype.name == spec.dtype:
        return None
    if dtype.hasobject:
        raise DataError(
            f"array '{name}' holds Python objects, which are stored as a pickle and are refused",
            fix=f"Store it as {spec.dtype}",
        )
    is_float = dtype.kind == "f" and spec.dtype.startswith(("float", "bfloat"))
    is_int = dtype.kind in "iu" and spec.dtype.startswith(("int", "uint"))
    if is_float or is_int:
        return f"'{name}' was cast from {dtype.name} to {spec.dtype}"
    fix = f"Store it as {spec.dtype}"
    if dtype.kind in "iu" and spec.dtype.startswith("float"):
        fix = f"Scale it as in training (for pixels often / 255) and store it as {spec.dtype}"
    raise DataError(f"array '{name}' must be {spec.dtype}, got {dtype.name}", fix=fix)


def cast(array: Array, spec: TensorSpec, where: str) -> Array:
    """A plain copy of ``array`` in the input's dtype and the machine's byte order; values checked.

    Raises:
        DataError: an integer does not fit, or there is NaN or infinity in it.
    """
    if array.dtype.name != spec.dtype:
        target = np.dtype(spec.dtype)
        if array.dtype.kind in "iu" and array.size:
            bounds = np.iinfo(target)
            low, high = int(array.min()), int(array.max())
            if low < bounds.min or high > bounds.max:
                raise DataError(
                    f"{where}: '{spec.name}' holds {low if low < bounds.min else high}, which {spec.dtype} cannot hold"
                )
        with np.errstate(over="ignore"):
            array = array.astype(target)
    # Its own memory, not a view of a mapped file, in this machine's byte order: engines read the bytes as they lie.
    array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    check_finite(array, spec.name, where)
    return array


def check_finite(array: Array, name: str, where: str) -> None:
    """Raise DataError where there is NaN or infinity in ``array``, saying where and how much."""
    if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return
    bad = np.argwhere(~np.isfinite(array))
    first = tuple(int(i) for i in bad[0])
    raise DataError(
        f"{where}: '{name}' holds {array[first]} at {list(first)} ({len(bad)} of {array.size} values are not finite)",
        fix="Remove or repair these values; edgekit does not guess them.",
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """How samples are cut from an array whose first axis counts them.

    ``batch`` = B > 0: sample i is ``array[i*B:(i+1)*B]``. ``batch`` = 0: sample i is ``array[i]``.
    """

    batch: int

    def length(self, rows: int) -> int:
        """Number of whole samples in ``rows`` rows."""
        return rows // self.batch if self.batch else rows

    def take(self, array: Array, index: int) -> Array:
        """Sample ``index``."""
        if self.batch:
            return array[index * self.batch : (index + 1) * self.batch]
        return np.asarray(array[index])


def cut_for(name: str, shape: tuple[int, ...], spec: TensorSpec) -> Cut:
    """How an array of ``shape`` is cut into samples of ``spec``: [N·B, C, H, W] or [N, B, C, H, W] → [B, C, H, W].

    Raises:
        DataError: neither fits.
    """
    want = spec.shape
    if len(shape) == len(want) and want and _fits(shape[1:], want[1:]):
        return Cut(want[0] if isinstance(want[0], int) else 1)
    if len(shape) == len(want) + 1 and _fits(shape[1:], want):
        return Cut(0)
    rest = "x".join(map(str, want[1:])) if want else ""
    forms = [f"N{'x' if rest else ''}{rest}"] if want else []
    forms.append("x".join(["N", *map(str, want)]))
    raise DataError(
        f"array '{name}' must have the shape {' or '.join(dict.fromkeys(forms))} (N samples), got "
        f"{'x'.join(map(str, shape)) or 'a scalar'}"
    )


def _fits(shape: tuple[int, ...], want: tuple[int | str, ...]) -> bool:
    return len(shape) == len(want) and all(isinstance(w, str) or w == s for s, w in zip(shape, want, strict=True))


def fit_feeds(
    feeds: Mapping[str, object], inputs: tuple[TensorSpec, ...], where: str
) -> tuple[dict[str, Array], set[str]]:
    """Whole feeds of one sample, checked and cast, and notes on the casts. A missing batch axis of 1 is added.

    Raises:
        DataError: a name, dtype, shape or value does not fit.
    """
    check_names([str(name) for name in feeds], inputs, where)
    fitted: dict[str, Array] = {}
    notes: set[str] = set()
    for spec in inputs:
        array = as_array(feeds[spec.name], spec.name, where)
        note = cast_note(spec.name, array.dtype, spec)
        if note:
            notes.add(note)
        batch_of_one = spec.shape and (spec.shape[0] == 1 or isinstance(spec.shape[0], str))
        if array.ndim == len(spec.shape) - 1 and batch_of_one:
            array = array[None]
        array = cast(array, spec, where)
        reason = spec.refuses(array)
        if reason:
            raise DataError(f"{where}: {reason}")
        fitted[spec.name] = array
    check_shared(fitted, inputs, where)
    return fitted, notes


def check_shared(feeds: Feeds, inputs: tuple[TensorSpec, ...], where: str) -> None:
    """Free dimensions of one name must have one size in a sample.

    Raises:
        DataError: they differ.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for spec in inputs:
        for dim, size in zip(spec.shape, feeds[spec.name].shape, strict=True):
            if isinstance(dim, str):
                first, owner = sizes.setdefault(dim, (size, spec.name))
                if first != size:
                    raise DataError(f"{where}: '{dim}' is {first} in '{owner}' and {size} in '{spec.name}'")


def as_array(value: object, name: str, where: str) -> Array:
    """``value`` (an array, a torch tensor, a number or nested lists of them) as a numpy array.

    Raises:
        DataError: it is ragged, or something else.
    """
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a torch tensor, without importing torch
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{where}: '{name}' is not an array: {error}") from error
    if array.dtype.kind in "OUSV":
        raise DataError(f"{where}: '{name}' is {type(value).__name__} of dtype {array.dtype}, not an array of numbers")
    return array
