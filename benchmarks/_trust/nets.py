"""The small nets of the cases: `edgekit export nets.py:NAME`. Each has its weights from a seed and is used as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Any]


class Coordinates(nn.Module):
    """Pixel coordinates join the features, and one head answers boxes in pixels and class scores of 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU())
        self.features = nn.Sequential(nn.Conv2d(24, 22, 3, 2, 1), nn.Sigmoid())
        self.head = nn.Conv2d(24, 7, 1)
        rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
        self.register_buffer("cells", torch.stack([columns, rows])[None] * 64)
        for layer in (self.stem[0], self.stem[2], self.features[0]):
            nn.init.kaiming_normal_(layer.weight)
        weight = torch.zeros(7, 24)
        weight[:4, :22] = torch.randn(4, 22) * 5
        weight[0, 22] = weight[2, 22] = weight[1, 23] = weight[3, 23] = 1.0
        weight[4:, :22] = torch.randn(3, 22) * 3.5
        self.head.weight.data.copy_(weight[:, :, None, None])
        self.head.bias.data[4:] = -weight[4:, :22].sum(1) / 2 - 0.5

    def forward(self, image: Tensor) -> Tensor:
        found = self.head(torch.cat([self.features(self.stem(image)), self.cells], 1)).flatten(2)
        return torch.cat([found[:, :4], torch.sigmoid(found[:, 4:])], 1)


class Mixed(nn.Module):
    """The head of a YOLO: boxes of 0..416 and scores of 0..1 from two branches, side by side in one output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.Hardswish(), nn.Conv2d(16, 24, 3, 2, 1), nn.Hardswish())
        self.box, self.score = nn.Conv2d(24, 4, 1), nn.Conv2d(24, 2, 1)
        nn.init.normal_(self.score.weight, std=3.0)
        nn.init.constant_(self.score.bias, -0.5)

    def forward(self, image: Tensor) -> Tensor:
        body = self.body(image)
        return torch.cat(
            [416 * torch.sigmoid(self.box(body)).flatten(2), torch.sigmoid(self.score(body)).flatten(2)], 1
        )


class Segmenter(nn.Module):
    """Class numbers are all that comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 5, 1, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image).argmax(1)


class Leaky(nn.Module):
    """A detector of events over a slowly leaking state, a frame a call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.around = nn.Linear(24, 48), nn.Linear(48, 48, bias=False)
        self.gate, self.out = nn.Linear(72, 48), nn.Linear(48, 1)
        nn.init.orthogonal_(self.around.weight, 1.15)
        nn.init.constant_(self.gate.bias, 3.0)

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        keep = torch.sigmoid(self.gate(torch.cat([frame, state], -1)))
        state = keep * state + (1 - keep) * torch.tanh(self.inner(frame) + self.around(state))
        return torch.sigmoid(6 * self.out(state)), state


class Delay(nn.Module):
    """A causal filter that keeps the last samples in a buffer which forward overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.mix = nn.Conv1d(8, 16, 7), nn.Conv1d(16, 8, 1)
        self.register_buffer("tail", torch.zeros(1, 8, 6))

    def forward(self, piece: Tensor) -> Tensor:
        whole = torch.cat([self.tail, piece], -1)
        self.tail.copy_(whole[..., -6:])
        return self.mix(torch.tanh(self.filter(whole)))


def seeded(make: Any, seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return make().eval()


def coordinates() -> Made:
    return seeded(Coordinates, 11), torch.rand(1, 3, 96, 96)


def mixed() -> Made:
    return seeded(Mixed), torch.rand(1, 3, 96, 96)


def segmenter() -> Made:
    return seeded(Segmenter), torch.randn(1, 3, 32, 32)


def pressure() -> Made:
    """A regression of 40,000 ± some tens: the offset hides the signal."""
    net = seeded(lambda: nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1)))
    with torch.no_grad():
        net[4].weight.mul_(250)
        net[4].bias.fill_(40_000)
    return net, torch.randn(1, 12)


def classifier(seed: int = 5) -> Made:
    made = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 12, 3, 2), nn.ReLU(), nn.Conv2d(12, 24, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, 8),
    )  # fmt: skip
    return seeded(made, seed), torch.randn(1, 3, 24, 24)


def another() -> Made:
    return classifier(6)


def wide() -> Made:
    """Matrices so large that integers are faster."""
    return seeded(lambda: nn.Sequential(*[nn.Linear(768, 768), nn.ReLU()] * 3)), torch.randn(1, 768)


def tiny() -> Made:
    return seeded(lambda: nn.Linear(6, 3)), torch.randn(1, 6)


def leaky() -> Made:
    return seeded(Leaky, 0), (torch.randn(1, 24), torch.zeros(1, 48))


def delay() -> Made:
    return seeded(Delay), torch.randn(1, 8, 40)
