"""The models of `peers_gpu.py`, from their configurations with random weights: speed does not depend on the values.

``tiny`` versions have the same structure and a few layers: they try the script, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _models
import torch
from torch import Tensor, nn

TOKENS = 128
_RESIDUAL = 0.2
SAMPLES = 4
"""Different inputs each contender answers for the error: a replayed graph that reads old inputs must show."""


@dataclass(frozen=True)
class Subject:
    """A model in eval mode and in float32 on the CPU, with inputs for it: each a tuple of tensors [batch, …]."""

    name: str
    module: nn.Module
    inputs: list[tuple[Tensor, ...]]


class _Encoder(nn.Module):
    """A transformers encoder: its last hidden state alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


class _Classifier(nn.Module):
    """A transformers image model: image → logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=image).logits
        return logits


def _resnet50(tiny: bool) -> nn.Module:
    if tiny:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
    from torchvision.models import resnet50

    module = resnet50(weights=None)
    # Training begins with residual branches near zero and leaves them small. At full strength random ones amplify
    # every rounding error: float16 then is 1e-2 away whoever computes it, and says nothing of an engine.
    for name, part in module.named_modules():
        if name.endswith(".bn3"):
            nn.init.constant_(part.weight, _RESIDUAL)
    return module


def _mobilenet_v3_small(tiny: bool) -> nn.Module:
    if tiny:
        return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    from torchvision.models import mobilenet_v3_small

    return mobilenet_v3_small(weights=None)


def _vit_b_16(tiny: bool) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(num_labels=1000, attn_implementation="sdpa")  # the defaults are ViT-B/16 at 224
    if tiny:
        _shrink(config)
    return _Classifier(ViTForImageClassification(config))


def _bert_base(tiny: bool) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(attn_implementation="sdpa")  # the defaults are BERT-base, uncased
    if tiny:
        _shrink(config)
    return _Encoder(BertModel(config, add_pooling_layer=False))


def _shrink(config: Any) -> None:
    config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads = 64, 128, 2, 2


_BUILD: dict[str, Callable[[bool], nn.Module]] = {
    "resnet50": _resnet50,
    "mobilenet_v3_small": _mobilenet_v3_small,
    "vit_b_16": _vit_b_16,
    "bert_base": _bert_base,
}
NAMES = tuple(_BUILD)


def load(name: str, batch: int, tiny: bool = False) -> Subject:
    """The model with `SAMPLES` different inputs of ``batch``. The same values at every call."""
    torch.manual_seed(_models.SEED)
    module = _BUILD[name](tiny)
    if name == "bert_base":
        generator = torch.Generator().manual_seed(_models.SEED)
        inputs: list[tuple[Tensor, ...]] = []
        for _ in range(SAMPLES):
            ids = torch.randint(1000, 30000, (batch, TOKENS), generator=generator)
            inputs.append((ids, torch.ones_like(ids)))
        return Subject(name, module.eval(), inputs)
    _models.settle(module)
    images = torch.cat([torch.from_numpy(item["image"]) for item in _models.random_images(SAMPLES * batch)])
    return Subject(name, module.eval(), [(chunk.contiguous(),) for chunk in images.split(batch)])
