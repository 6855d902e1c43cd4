"""What ``--data`` names → calibration and evaluation samples that fit the model.

What a model should never get (a wrong name, shape or dtype, NaN, infinity) is refused here.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..contracts import Feeds, TensorSpec
from ..errors import DataError
from .dataset import Dataset

DEFAULT_LIMIT = 10_000


def load_data(
    spec: str,
    inputs: tuple[TensorSpec, ...],
    *,
    preprocess: str | None = None,
    limit: int = DEFAULT_LIMIT,
    optional: Collection[str] = (),
) -> Dataset:
    """Open the data that ``spec`` names and check that it fits ``inputs``.

    Args:
        spec: an ``.npz`` file whose arrays are named as the inputs, plus optional ``labels``, first axis samples; a
            folder of images with one sub-folder a class (``preprocess`` is needed); ``file.py:factory`` returning an
            iterable of feeds or (feeds, label); a folder written by Hugging Face's ``save_to_disk``.
        inputs: the model's inputs. A sample has the batch size they state, or 1 where it is free.
        preprocess: for images: see `edgekit.data.images.parse_preprocess`.
        optional: inputs that the data may do without, all of them at once: a model's state.
        limit: number of samples after which a factory's iterable is cut off.

    Raises:
        DataError: it is missing, unreadable, empty, or does not fit; says what, and what was expected.
        UsageError: ``preprocess`` is malformed, or given for what is no image folder.
        EngineError: a package that this form needs is not installed.
    """
    from . import arrow, factory, fit, images, npz

    path = Path(spec)
    is_images = path.is_dir() and not arrow.is_arrow(path)
    if preprocess is not None and not is_images:
        from ..errors import UsageError

        raise UsageError(f"--preprocess is for image folders, and '{spec}' is not one")
    if is_images:
        return images.load(spec, path, fit.present((), inputs, optional), preprocess)
    if path.is_dir():
        return arrow.load(spec, path, inputs, optional)
    if factory.is_factory(spec):
        return factory.load(spec, inputs, limit, optional)
    if not path.exists():
        raise DataError(
            f"there is no {spec}",
            fix="--data takes an .npz file, an image folder, file.py:factory, or a folder written by save_to_disk",
        )
    if path.suffix == ".npz":
        return npz.load(spec, path, inputs, optional)
    if path.suffix == ".npy" and len(fit.present((), inputs, optional)) == 1:
        return npz.load(spec, path, inputs, optional)
    raise DataError(
        f"{spec} is not data that edgekit can read",
        fix=f"Save it as .npz: numpy.savez('data.npz', {', '.join(f'{item.name}=…' for item in inputs)}, labels=…)",
    )


def load_with_values(spec: str, inputs: tuple[TensorSpec, ...], values: Feeds, **options: Any) -> Dataset:
    """See `load_data`; inputs that the data do not hold have one value in all samples.

    Args:
        spec: see `load_data`.
        inputs: the model's inputs.
        values: of some of them (``--input sr=16000``).
        options: of `load_data`.
    """
    try:
        return load_data(spec, inputs, **options)
    except DataError as error:
        others = tuple(item for item in inputs if item.name not in values)
        if len(others) == len(inputs) or not others:
            raise
        try:
            return load_data(spec, others, **options).with_constants(values)
        except DataError as second:
            # Data that hold such an input are wrong in another way.
            raise (error if any(f"'{name}'" in second.what for name in values) else second) from None
