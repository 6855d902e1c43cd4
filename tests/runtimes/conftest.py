"""One small model in every format, with PyTorch's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgekit.contracts import Artifact, TensorSpec

INPUTS = (TensorSpec("image", "float32", ("batch", 3, 8, 8)), TensorSpec("ids", "int64", ("batch",)))
OUTPUTS = (TensorSpec("logits", "float32", ("batch", 5)), TensorSpec("best", "int64", ("batch",)))


class Net(torch.nn.Module):
    """Two inputs of two dtypes, two outputs of two dtypes, a free dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.embedding = torch.nn.Embedding(7, 8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.head(self.conv(image).relu().mean((2, 3)) + self.embedding(ids))
        return logits, logits.argmax(1)


@pytest.fixture(scope="session")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="session")
def feeds() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "image": generator.standard_normal((2, 3, 8, 8)).astype(np.float32),
        "ids": np.array([3, 5], dtype=np.int64),
    }


@pytest.fixture(scope="session")
def expected(net: Net, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        logits, best = net(torch.from_numpy(feeds["image"]), torch.from_numpy(feeds["ids"]))
    return {"logits": logits.numpy(), "best": best.numpy()}


@pytest.fixture(scope="session")
def artifacts(net: Net, feeds: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Format → artifact."""
    import openvino as ov

    folder: Path = tmp_path_factory.mktemp("artifacts")
    args = (torch.from_numpy(feeds["image"]), torch.from_numpy(feeds["ids"]))
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, args, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(program, folder / "model.pt2")
    exported = torch.onnx.export(program, input_names=["image", "ids"], output_names=["logits", "best"], verbose=False)
    ir.save(exported.model, folder / "model.onnx")
    ov.save_model(ov.Core().read_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    files = {"exported-program": "model.pt2", "onnx": "model.onnx", "openvino-ir": "model.xml"}
    return {format: Artifact(folder / file, format, "fp32", INPUTS, OUTPUTS) for format, file in files.items()}
