"""The digits that come with scikit-learn: 1,797 real scans of handwritten digits, split in half and scaled to 32x32.

Run it to write the three files that the other steps read: ``python data.py [directory]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 0
CALIBRATION_SAMPLES = 256


def load() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Training images, test images, training labels, test labels; each class is split evenly (stratified).

    Images: float32 [n, 1, 32, 32], 0 (paper) to 1 (ink). Labels: int64 [n].
    """
    digits = load_digits()
    small = torch.from_numpy(digits.images / 16.0).float().unsqueeze(1)  # 8x8 counts of 0 to 16 inked pixels
    images = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear").numpy()
    labels = digits.target.astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.5, stratify=labels, random_state=SEED
    )
    return train, test, train_labels, test_labels


def write(directory: Path) -> None:
    """Write ``train.npz`` and ``test.npz`` (``image``, ``labels``) and ``calibration.npz`` (``image``, from training).

    Nothing that judges the model, no test image, is ever seen by training or by calibration.
    """
    train, test, train_labels, test_labels = load()
    np.savez(directory / "train.npz", image=train, labels=train_labels)
    np.savez(directory / "test.npz", image=test, labels=test_labels)
    np.savez(directory / "calibration.npz", image=train[:CALIBRATION_SAMPLES])


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent))
