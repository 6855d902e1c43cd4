"""A small residual network for 32x32 digits: the model of `edgekit demo`, in one file as a user would write it.

``build`` is the factory to export: ``edgekit export net.py:build --target cpu``. Run the file to train the weights
that it loads: ``python net.py [directory]``, where ``python data.py`` has put ``train.npz``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
EPOCHS = 3
BATCH = 8
WEIGHTS = "weights.pt"


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut. [n, inputs, h, w] → [n, outputs, h / stride, w / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Image [n, 1, 32, 32] → logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.blocks = nn.Sequential(Block(24, 24, 1), Block(24, 64, 2), Block(64, 128, 2))
        self.head = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(image)).mean(dim=(2, 3)))
        return logits


def build() -> tuple[nn.Module, Tensor]:
    """The trained network and an example input, for `edgekit export`."""
    model = ResNet()
    model.load_state_dict(torch.load(Path(__file__).with_name(WEIGHTS), weights_only=True))
    return model.eval(), torch.zeros(1, 1, 32, 32)


def train(directory: Path, step: Callable[[int, int, str], None] = lambda done, total, note: None) -> None:
    """Train on ``train.npz`` and write ``weights.pt`` beside it. The seed is fixed; about ten seconds."""
    with np.load(directory / "train.npz") as data:
        images, labels = torch.from_numpy(data["image"]), torch.from_numpy(data["labels"])
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(SEED)
        model = ResNet().train()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        total = EPOCHS * -(-len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total)
        for epoch in range(EPOCHS):
            order = torch.randperm(len(images))
            for start in range(0, len(images), BATCH):
                batch = order[start : start + BATCH]
                loss = functional.cross_entropy(model(images[batch]), labels[batch])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            step(epoch + 1, EPOCHS, f"loss {loss.item():.4f}")
    partial = directory / f"{WEIGHTS}.partial"
    torch.save(model.state_dict(), partial)
    partial.replace(directory / WEIGHTS)  # a killed run leaves no half-written weights


@contextmanager
def one_thread() -> Iterator[None]:
    """Batches of eight small images are not worth sharing: on a busy machine threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    train(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent), lambda *progress: print(*progress))
