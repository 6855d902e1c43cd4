"""Samples of another size than the example inputs: the model follows them, or both shapes are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, SourceError
from edgekit.pipeline.follow_data import load_at_data, read_data
from edgekit.sources.load import load_source
from edgekit.sources.source import Source
from edgekit.sources.state import settle

NETS = """
import numpy as np
import torch


class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.register_buffer("count", torch.zeros(1, 4))

    def forward(self, x):
        self.count += self.conv(x).mean((0, 2, 3))[None]
        return self.count * 2


class Nested(torch.nn.Module):
    def forward(self, batch, scale: float = 2.0):
        return batch["image"].mean((2, 3)) * scale


class Flat(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1))


def pooled():
    return Pooled().eval(), torch.randn(1, 3, 8, 8)


def bare():
    return Pooled().eval()


def nested():
    return Nested().eval(), {"image": torch.randn(1, 3, 8, 8)}


def flat():
    return Flat(192, 2).eval(), torch.randn(1, 3, 8, 8)


def batches(size=12):
    for _ in range(2):
        yield {"x": np.ones((4, 3, size, size), np.float32)}


def varied():
    for size in (8, 10, 12):
        yield {"x": np.ones((1, 3, 8, size), np.float32)}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    for name, size in (("same", 8), ("large", 12)):
        np.savez(tmp_path / f"{name}.npz", x=np.random.default_rng(0).normal(size=(6, 3, size, size)))
    np.savez(tmp_path / "image.npz", **{"batch.image": np.ones((6, 3, 12, 9), np.float32)})  # type: ignore[arg-type]
    np.savez(tmp_path / "gray.npz", x=np.ones((6, 1, 8, 8), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(source: str | Source, data: str, **options: Any) -> tuple[Source, Dataset]:
    dynamic = options.pop("dynamic", ())
    model = load_source(source, dynamic=dynamic) if isinstance(source, str) else source
    settle(model, [])
    found: Callable[..., tuple[Source, Dataset]] = partial(read_data, settle=partial(settle, named=[]))
    return found(model, data, **{"preprocess": None, "stated": None, **options})


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "data", "shape", "note"),
    [
        ("nets.py:pooled", "same.npz", (1, 3, 8, 8), ""),
        ("nets.py:pooled", "large.npz", (1, 3, 12, 12), "'x' is 1x3x12x12 as in large.npz, not 1x3x8x8 as in the"),
        ("nets.py:nested", "image.npz", (1, 3, 12, 9), "'batch.image' is 1x3x12x9 as in image.npz, not 1x3x8x8"),
        ("nets.py:pooled", "nets.py:batches", (4, 3, 12, 12), "'x' is 4x3x12x12 as in nets.py:batches"),
    ],
)
def test_a_factorys_model_is_taken_at_the_samples_size(
    source: str, data: str, shape: tuple[int, ...], note: str
) -> None:
    model, samples = read(source, data)
    assert model.inputs[0].shape == shape
    assert model.program is not None
    feeds = next(samples.feeds())
    assert next(iter(feeds.values())).shape == shape
    assert any(note in line for line in model.notes) if note else not model.notes
    # A buffer begins with what it held before the model was tried at two sizes.
    assert all(not value.any() for value in model.initial.values())
    model.forward({**model.example, **feeds})


@pytest.mark.usefixtures("folder")
def test_a_free_dimension_stays_free() -> None:
    model, _ = read("nets.py:pooled", "large.npz", dynamic=["x:2=height"])
    assert model.inputs[0].shape == (1, 3, "height", 12)
    assert model.state[0].buffer


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "data", "options", "text"),
    [
        ("nets.py:flat", "large.npz", {}, r"'x' is 1x3x12x12 as in large\.npz, not 1x3x8x8:.*mat1 and mat2"),
        ("nets.py:pooled", "gray.npz", {}, r"'x' is 1x1x8x8 as in gray\.npz, not 1x3x8x8:.*to have 3 channels"),
        ("nets.py:pooled", "nets.py:varied", {}, r"x 1x3x8x8, got 1x3x8x10\. .*differ in size: --dynamic x:3$"),
        ("nets.py:pooled", "large.npz", {"stated": "--input"}, r"Nx3x8x8.*6x3x12x12.*--input x:float32:1x3x12x12$"),
        ("nets.py:pooled", "large.npz", {"stated": "--example"}, r"6x3x12x12\. --example states this size"),
        ("nets.py:pooled", "large.npz", {"stated": "--data"}, r"6x3x12x12\. The samples of --data have this size"),
        ("nets.py:pooled", "image.npz", {}, r"image\.npz has no array 'x'"),
    ],
)
def test_what_cannot_follow_names_both_shapes(source: str, data: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError) as raised:
        read(source, data, **options)
    said = " ".join(str(raised.value).split()).replace("'x' must have the shape", "x")
    assert re.search(text, said), said


def test_a_file_has_fixed_its_shapes(folder: Path) -> None:
    program = torch.export.export(torch.nn.Conv2d(3, 4, 3).eval(), (torch.randn(1, 3, 8, 8),))
    torch.export.save(program, folder / "m.pt2")
    model = load_source("m.pt2")
    np.savez("input.npz", **{model.inputs[0].name: np.ones((6, 3, 12, 12), np.float32)})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"got 6x3x12x12\. The file fixes this size: give samples of it, or free"):
        read(model, "input.npz")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("data", "shape"), [("large.npz", (1, 3, 12, 12)), ("nets.py:batches?size=9", (4, 3, 9, 9))])
def test_the_first_sample_says_what_a_model_takes_that_does_not(data: str, shape: tuple[int, ...]) -> None:
    model = load_at_data(lambda more: load_source("nets.py:bare", inputs=list(more)), data, None)
    assert (model.inputs[0].shape, model.inputs[0].dtype) == (shape, "float32")


@pytest.mark.usefixtures("folder")
def test_without_data_it_must_be_said() -> None:
    with pytest.raises(SourceError, match="returned Pooled without example inputs"):
        load_at_data(lambda more: load_source("nets.py:bare", inputs=list(more)), None, None)


def test_images_of_their_own_sizes_are_not_followed(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (folder / "images" / "cat").mkdir(parents=True)
    for number, size in enumerate([(20, 10), (30, 40)]):
        image.new("RGB", size).save(folder / "images" / "cat" / f"{number}.png")
    with pytest.raises(DataError, match=r"must have the shape 1x3x8x8, got 1x3x10x20\. Try resize=8,crop=8"):
        read("nets.py:pooled", "images", preprocess="unit")
    model, _ = read("nets.py:pooled", "images", preprocess="resize=9,crop=9")
    assert model.inputs[0].shape == (1, 3, 9, 9)
    bare = load_at_data(lambda more: load_source("nets.py:bare", inputs=list(more)), "images", "resize=9,crop=9")
    assert bare.inputs[0].shape == (1, 3, 9, 9)
