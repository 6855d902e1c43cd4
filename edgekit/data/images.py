"""A folder of images, one sub-folder a class, and how an image becomes the model's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import Array, TensorSpec
from ..errors import DataError, EngineError, SourceError, UsageError, suggestion
from . import fit
from .dataset import Dataset, Sample
from .factory import is_factory

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's ImageNet constants


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Resize the shorter side, crop the centre, scale to 0…1, normalise: (x / 255 − mean) / std, per channel."""

    resize: int | None = None  # shorter side in pixels, aspect kept; None: the image's own size
    crop: int | None = None  # side of the centre square in pixels
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "nchw"  # or "nhwc"
    channels: str = "rgb"  # or "bgr", "gray"
    interpolation: str = "bilinear"  # or "bicubic", "nearest"; Pillow's, with antialiasing

    def __call__(self, image: Any) -> Array:
        """A Pillow image → float32 [1, C, H, W] (or [1, H, W, C]).

        Raises:
            DataError: its pixels have more than 8 bits: Pillow's conversion would cut them off at 255.
        """
        from PIL import Image

        if image.mode == "F" or image.mode.startswith("I"):
            raise DataError(
                f"its pixels are {_DEPTHS.get(image.mode, 'of 16 bits')}, and --preprocess is for those of 8 bits",
                fix="Say how they become the input: --preprocess file.py:function",
            )
        image = image.convert("L" if self.channels == "gray" else "RGB")
        if self.resize is not None:
            width, height = image.size
            scale = self.resize / min(width, height)
            size = (max(self.resize, round(width * scale)), max(self.resize, round(height * scale)))
            image = image.resize(size, getattr(Image.Resampling, self.interpolation.upper()))
        if self.crop is not None:
            width, height = image.size
            left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        pixels: Array = np.asarray(image, np.float32) / np.float32(255)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self.channels == "bgr":
            pixels = pixels[..., ::-1]
        pixels = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        batch = pixels[None] if self.layout == "nhwc" else pixels.transpose(2, 0, 1)[None]
        return np.ascontiguousarray(batch, np.float32)


_DEPTHS = {"F": "floats", "I": "integers of 32 bits"}
PRESETS = {
    "imagenet": Preprocess(resize=256, crop=224, mean=_MEAN, std=_STD),
    "unit": Preprocess(),
}
_CHOICES = {
    "layout": ("nchw", "nhwc"),
    "channels": ("rgb", "bgr", "gray"),
    "interpolation": ("bilinear", "bicubic", "nearest"),
}


def parse_preprocess(text: str) -> Preprocess:
    """Read ``imagenet``, or ``resize=256,crop=224,mean=0.5/0.5/0.5,std=0.5,layout=nchw``, or a preset with changes.

    ``imagenet,crop=192`` is the preset but for the crop. mean and std have one number, or one a channel, separated by
    ``/``.

    Raises:
        UsageError: an unknown key or preset, or a value that is not allowed.
    """
    first, *rest = (part.strip() for part in text.split(","))
    if "=" in first:
        start, rest = Preprocess(), [first, *rest]
    elif first in PRESETS:
        start = PRESETS[first]
    else:
        raise UsageError(f"--preprocess '{text}': there is no preset '{first}'", fix=suggestion(first, PRESETS))
    values: dict[str, Any] = {name: getattr(start, name) for name in Preprocess.__dataclass_fields__}
    for part in rest:
        key, equals, value = part.partition("=")
        if key not in values or not equals:
            raise UsageError(f"--preprocess '{text}': '{part}' is not known", fix=suggestion(key, values))
        values[key] = _value(text, key, value)
    made = Preprocess(**values)
    if made.resize is not None and made.crop is not None and made.crop > made.resize:
        raise UsageError(f"--preprocess '{text}': crop must not exceed resize, got {made.crop} and {made.resize}")
    channels = 1 if made.channels == "gray" else 3
    for key, numbers in (("mean", made.mean), ("std", made.std)):
        if len(numbers) not in (1, channels):
            raise UsageError(f"--preprocess '{text}': {key} needs 1 or {channels} numbers, got {len(numbers)}")
    if any(number <= 0 for number in made.std):
        raise UsageError(f"--preprocess '{text}': std must be above 0")
    return made


def _value(text: str, key: str, value: str) -> object:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise UsageError(f"--preprocess '{text}': {key} cannot be '{value}'", fix=suggestion(value, _CHOICES[key]))
        return value
    try:
        if key in ("mean", "std"):
            return tuple(float(number) for number in value.split("/"))
        if value == "none":
            return None
        if int(value) < 1:
            raise ValueError("it must be above 0")
        return int(value)
    except ValueError as error:
        raise UsageError(f"--preprocess '{text}': '{value}' is not a value for {key}") from error


def keeps_sizes(data: str, preprocess: str | None) -> bool:
    """Whether ``data`` are images that ``preprocess`` leaves at their own sizes: none of those is the samples' size."""
    if preprocess is None or not Path(data).is_dir():
        return False
    return not is_factory(preprocess) and parse_preprocess(preprocess).crop is None


def load(spec: str, folder: Path, inputs: tuple[TensorSpec, ...], preprocess: str | None) -> Dataset:
    """Images in the sorted order of their classes and names; the label is the class's place among the sorted folders.

    Images that lie in the folder itself have no label.

    Raises:
        DataError, UsageError, EngineError: see `edgekit.data.load.load_data`.
    """
    if preprocess is None:
        raise UsageError(
            f"{spec} is a folder of images: --preprocess must say how they become the input",
            fix="For example: --preprocess imagenet, or resize=256,crop=224,mean=0.5,std=0.5, or file.py:function",
        )
    item = _image_input(spec, inputs)
    _need_pillow()
    change = _function(preprocess) if is_factory(preprocess) else parse_preprocess(preprocess)
    files, classes, left = _files(spec, folder)
    batch = item.shape[0] if item.shape and isinstance(item.shape[0], int) else 1
    count = len(files) // batch
    notes = [_classes_note(classes)] if classes else []
    if left:
        notes.append(f"left out, because they are no images of a known ending: {len(left)}, such as '{left[0]}'")
    if len(files) % batch:
        notes.append(f"the last {len(files) % batch} images were left out: the model takes {batch} at once")
    if files and not count:
        raise DataError(f"{spec} holds {len(files)} images, but the model takes {batch} at once")

    def fetch(indices: Sequence[int]) -> Iterator[Sample]:
        for index in indices:
            chosen = files[index * batch : (index + 1) * batch]
            parts = [_read(path, change, item) for path, _ in chosen]
            array = np.concatenate(parts) if batch > 1 else parts[0]
            where = str(chosen[0][0])
            reason = item.refuses(array)
            if reason:
                raise DataError(f"{where}: after --preprocess {preprocess}, {reason}", fix=_shape_fix(item))
            fit.check_finite(array, item.name, where)
            yield Sample({item.name: array}, np.array([label for _, label in chosen]) if classes else None)

    dataset = Dataset(folder.name, spec, fetch, count, has_labels=bool(classes), notes=notes)
    next(dataset.samples())  # a preprocess that does not fit the model is an error now
    return dataset


def _image_input(spec: str, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise DataError(
            f"{spec} is a folder of images, but the model takes {len(inputs)} inputs: {names}",
            fix="Give an .npz or file.py:factory instead.",
        )
    return inputs[0]


def _shape_fix(item: TensorSpec) -> str:
    sides = [size for size in item.shape[1:] if isinstance(size, int) and size > 4]
    return f"Try resize={sides[0]},crop={sides[0]}" if sides else ""


def _need_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise EngineError("reading images needs the package Pillow", fix="Install it: pip install pillow") from error


def _classes_note(classes: Sequence[str]) -> str:
    note = f"{len(classes)} classes, in the order of their folders' names"
    wrong = next(((i, name) for i, name in enumerate(classes) if name.isdecimal() and int(name) != i), None)
    if wrong is not None and all(name.isdecimal() for name in classes):
        note += f" as text: folder '{wrong[1]}' is class {wrong[0]}"
    return note


def _files(spec: str, folder: Path) -> tuple[list[tuple[Path, int]], list[str], list[str]]:
    """(image, class index) in order, the classes' names, and what was left out.

    Images without a class have the index −1. Hidden files are no part of the data.
    """
    folders = [item for item in _shown(folder) if item.is_dir()]
    inside = [(item, index) for index, part in enumerate(folders) for item in _shown(part)]
    found = [(item, index) for item, index in inside if _is_image(item)]
    loose = [(item, -1) for item in _shown(folder) if _is_image(item)]
    if found and loose:
        raise DataError(
            f"{spec} holds images beside its class folders ({loose[0][0].name})",
            fix="Move each image into the folder of a class.",
        )
    if not found and not loose:
        raise DataError(f"{spec} holds no images", fix=f"Known endings: {', '.join(SUFFIXES)}")
    left = [item for item, _ in inside if not _is_image(item)]
    left += [item for item in _shown(folder) if not item.is_dir() and not _is_image(item)]
    return (
        found or loose,
        [item.name for item in folders] if found else [],
        [str(item.relative_to(folder)) for item in left],
    )


def _shown(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if not item.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read(path: Path, change: Callable[[Any], Any], item: TensorSpec) -> Array:
    from PIL import Image, ImageOps, UnidentifiedImageError

    from .. import user_code

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            upright.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    try:
        made = change(upright)
    except DataError as error:
        raise DataError(f"{path}: {error.what}", details=error.details, fix=error.fix) from error
    except UsageError:
        raise
    except Exception as error:
        raise DataError(
            f"--preprocess on {path} {user_code.raised(error)}", details=user_code.lines(error.__traceback__)
        ) from error
    array = fit.as_array(made, item.name, str(path))
    array = array[None] if array.ndim == len(item.shape) - 1 else array
    fit.cast_note(item.name, array.dtype, item)
    return fit.cast(array, item, str(path))


def _function(text: str) -> Callable[[Any], Any]:
    from .. import user_code

    try:
        return user_code.find(text, "a function that takes a Pillow image and returns an array")[0]
    except SourceError as error:
        raise UsageError(error.what, details=error.details, fix=error.fix) from error
