"""One small model in every format, with PyTorch's answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgekit import plugins
from edgekit.context import PassContext
from edgekit.contracts import Artifact, TensorSpec
from edgekit.sources.load import load_source

INPUTS = (TensorSpec("image", "float32", ("batch", 3, 8, 8)), TensorSpec("ids", "int64", ("batch",)))
INSTALL = {"litert": "pip install --no-deps -r constraints-litert.txt"}
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
def artifact(
    net: Net, feeds: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Artifact]:
    """Makes the artifact of a format when it is first asked for: static shapes where the format has no others."""
    folder: Path = tmp_path_factory.mktemp("artifacts")
    args = (torch.from_numpy(feeds["image"]), torch.from_numpy(feeds["ids"]))

    def program() -> torch.export.ExportedProgram:
        batch = torch.export.Dim("batch")
        return torch.export.export(net, args, dynamic_shapes=({0: batch}, {0: batch}))

    def exported_program() -> Artifact:
        torch.export.save(program(), folder / "model.pt2")
        return Artifact(folder / "model.pt2", "exported-program", "fp32", INPUTS, OUTPUTS)

    def onnx() -> Artifact:
        exported = torch.onnx.export(
            program(), input_names=["image", "ids"], output_names=["logits", "best"], verbose=False
        )
        assert exported is not None
        ir.save(exported.model, folder / "model.onnx")
        return Artifact(folder / "model.onnx", "onnx", "fp32", INPUTS, OUTPUTS)

    def openvino_ir() -> Artifact:
        import openvino as ov

        ov.save_model(ov.Core().read_model(make("onnx").path), folder / "model.xml", compress_to_fp16=False)
        return Artifact(folder / "model.xml", "openvino-ir", "fp32", INPUTS, OUTPUTS)

    def by_exporter(name: str) -> Artifact:
        """By our own exporter, which passes a kit of its own: its converter is the vendor's."""
        source = load_source((net, args))
        exporter = plugins.load("exporters", name)()
        for package in exporter.packages:
            if not list(metadata.distributions(name=package)):
                pytest.skip(f"{package} is not installed: {INSTALL.get(name, f'pip install {package}')}")
        (folder / name).mkdir()
        made, _ = exporter.write_program(source, folder / name, "fp32", exporter.Options(), PassContext())
        named = [
            tuple(replace(spec, name=like.name) for spec, like in zip(specs, wanted, strict=True))
            for specs, wanted in ((made.inputs, INPUTS), (made.outputs, OUTPUTS))
        ]
        return replace(made, inputs=named[0], outputs=named[1])

    makers = {
        "exported-program": exported_program,
        "onnx": onnx,
        "openvino-ir": openvino_ir,
        "executorch-pte": lambda: by_exporter("executorch"),
        "tflite": lambda: by_exporter("litert"),
    }

    @functools.cache
    def make(format: str) -> Artifact:
        assert format in makers, f"no model in format '{format}': add a maker to {__file__}"
        return makers[format]()

    return make


@pytest.fixture(scope="session")
def artifacts(artifact: Callable[[str], Artifact]) -> dict[str, Artifact]:
    """Format → artifact, of the formats that need no engine of their own."""
    return {format: artifact(format) for format in ("exported-program", "onnx", "openvino-ir")}
