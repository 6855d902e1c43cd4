"""The models that the benchmarks run: real weights where a package brings them, else the architecture from its config.

Random weights do for speed. They amplify every rounding error, so accuracy proper is judged on the trained ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Feeds = dict[str, NDArray[Any]]
SEED = 0
TOKENS = 128
CALIBRATION, EVALUATION = 64, 32
WEIGHTS = "weights.pt"
EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Subject:
    """A model with what it is calibrated and judged on."""

    name: str
    module: nn.Module  # in eval mode; its forward's arguments are the feeds' names
    calibration: list[Feeds]
    evaluation: list[Feeds]
    labels: NDArray[np.int64] | None = None
    is_transformer: bool = False  # NNCF wants to be told
    accuracy: Mapping[str, Any] = field(default_factory=dict)  # what edgekit.export is asked to hold

    @property
    def example(self) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array) for array in self.evaluation[0].values())


class _Classifier(nn.Module):
    """A transformers model: image → logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=image).logits
        return logits


def _resnet(layer: str, depths: list[int], hidden: list[int]) -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(layer_type=layer, depths=depths, hidden_sizes=hidden, num_labels=1000)
    return _Classifier(ResNetForImageClassification(config))


def _mobilenet_v2() -> nn.Module:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return _Classifier(MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000)))


def _vit_tiny() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
    config.num_labels = 1000
    return _Classifier(ViTForImageClassification(config))


IMAGE_MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: _resnet("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet50": lambda: _resnet("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "mobilenet_v2": _mobilenet_v2,
    "vit_tiny": _vit_tiny,
}
NAMES = ("digits", "resnet18", "resnet50", "mobilenet_v2", "vit_tiny", "minilm")


def load(name: str, folder: Path) -> Subject:
    """The model; its weights (and what it was trained on) are kept in ``folder``, so every process gets the same."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "digits":
        return _digits(folder)
    if name == "minilm":
        return _minilm()
    module = IMAGE_MODELS[name]()
    weights = folder / WEIGHTS
    if not weights.is_file():
        torch.manual_seed(SEED)
        module = IMAGE_MODELS[name]()
        settle(module)
        torch.save(module.state_dict(), weights)
    module.load_state_dict(torch.load(weights, weights_only=True))
    images = random_images(CALIBRATION + EVALUATION)
    return Subject(
        name=name,
        module=module.eval(),
        calibration=images[:CALIBRATION],
        evaluation=images[CALIBRATION:],
        is_transformer=name == "vit_tiny",
        # Relative L2 0.4: a guard against computing something else, no more, for weights that mean nothing.
        accuracy={"tolerance": ["sqnr_db=8", "part_db=0"]},
    )


def settle(module: nn.Module) -> None:
    """Give BatchNorm the statistics of its inputs, as training would; without, activations grow from layer to layer."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None  # a plain average over the batches
    if not norms:
        return
    module.train()
    with torch.no_grad():
        for start in range(0, 32, 8):
            module(torch.from_numpy(np.concatenate([item["image"] for item in random_images(32)[start : start + 8]])))
    module.eval()


def random_images(count: int) -> list[Feeds]:
    """``count`` images [1, 3, 224, 224]: smooth random fields, as natural images have most power at low frequencies."""
    generator = torch.Generator().manual_seed(SEED)
    coarse = torch.randn(count, 3, 14, 14, generator=generator)
    images = nn.functional.interpolate(coarse, size=(224, 224), mode="bicubic")
    images = images + 0.1 * torch.randn(images.shape, generator=generator)
    return [{"image": image[None].numpy()} for image in images]


def _example(name: str, part: str) -> Any:
    """A file of an example as a module of its own: two examples have a ``data.py``."""
    spec = importlib.util.spec_from_file_location(f"{name}_{part}", EXAMPLES / name / f"{part}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _digits(folder: Path) -> Subject:
    data, net = _example("digits", "data"), _example("digits", "net")
    if not (folder / net.WEIGHTS).is_file():
        data.write(folder)
        net.train(folder)
    module = net.ResNet()
    module.load_state_dict(torch.load(folder / net.WEIGHTS, weights_only=True))
    train, test, _, labels = data.load()
    return Subject(
        name="digits",
        module=module.eval(),
        calibration=[{"image": image[None]} for image in train[:CALIBRATION]],
        evaluation=[{"image": image[None]} for image in test],
        labels=labels,
        accuracy={"metric": "top1", "max_drop": 0.005},
    )


def _minilm() -> Subject:
    data = _example("minilm", "data")
    module, _ = _example("minilm", "encoder").build()

    def texts(calibration: bool, count: int) -> list[Feeds]:
        """Runs of whole sentences, each cut at `TOKENS` tokens, every one starting at another sentence."""
        known = data.sentences(data.pairs(calibration=calibration))
        starts = [known[index % len(known) :] + known[: index % len(known)] for index in range(count)]
        return [data.feeds(" ".join(sentences[:40])) for sentences in starts]

    assert data.MAX_TOKENS == TOKENS
    return Subject(
        name="minilm",
        module=module,
        calibration=texts(True, 40),
        evaluation=texts(False, EVALUATION),
        is_transformer=True,
        accuracy={"metric": "cosine", "max_drop": 0.01},
    )
