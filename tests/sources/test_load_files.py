"""Sources that are files: `.pt2` and `.onnx`, and that neither can run code or reach out of its folder."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest
import torch

from edgekit.errors import SourceError, UsageError
from edgekit.sources.load import load_source

from .refusals import Bomb, refusal

# .pt2


def save(path: Path, module: torch.nn.Module, *args: torch.Tensor, **options: object) -> Path:
    torch.export.save(torch.export.export(module.eval(), args, **options), path)  # type: ignore[arg-type]
    return path


def test_exported_program(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    path = save(tmp_path / "net.pt2", module, torch.randn(5, 3), dynamic_shapes=({0: torch.export.Dim("n")},))
    source = load_source(path)
    assert (source.kind, source.name, source.parameters) == ("exported-program", "net", 26)
    assert source.inputs[0].shape == ("batch", 3) and source.outputs[0].shape == ("batch", 2)
    assert load_source(path, dynamic=[f"{source.inputs[0].name}:0=rows"]).inputs[0].shape == ("rows", 3)
    with torch.no_grad():
        want = module(torch.ones(7, 3)).numpy()
    feeds = {source.inputs[0].name: np.ones((7, 3), "f4")}
    np.testing.assert_allclose(source.forward(feeds)["output"], want, rtol=1e-6)
    found = list(source.layers(feeds))
    assert [path for path, _ in found] == ["0", "1", "2"]
    np.testing.assert_allclose(found[-1][1], want, rtol=1e-6)


def test_an_exported_programs_shapes_are_its_own(tmp_path: Path) -> None:
    path = save(tmp_path / "net.pt2", torch.nn.Linear(3, 2), torch.randn(1, 3))
    assert "brings its own inputs" in refusal(path, UsageError, inputs=["input:float32:1x3"])
    assert "has fixed this dimension" in refusal(path, UsageError, dynamic=["input:0"])


def _rewrite(path: Path, change: object) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    changed = [(info.filename, change(info.filename, data)) for info, data in entries]  # type: ignore[operator]
    assert changed != [(info.filename, data) for info, data in entries]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in changed:
            archive.writestr(name, data)


def test_a_pt2_cannot_run_code(tmp_path: Path) -> None:
    module, boom = torch.nn.Linear(3, 2), tmp_path / "boom"
    path = save(tmp_path / "pickled.pt2", module, torch.randn(1, 3))
    _rewrite(path, lambda name, data: data.replace(b'"use_pickle": false', b'"use_pickle": true'))
    assert "as pickled, and unpickling can run any code" in refusal(path)

    path = save(tmp_path / "inputs.pt2", module, torch.randn(1, 3))
    bomb = _torch_bomb(boom)
    _rewrite(path, lambda name, data: bomb if "sample_inputs" in name else data)
    assert "cannot be read" in refusal(path)

    path = save(tmp_path / "expr.pt2", module, torch.randn(4, 3), dynamic_shapes=({0: torch.export.Dim("n")},))
    evil = f"__import__(os).system(touch {boom})".encode()
    _rewrite(path, lambda name, data: re.sub(rb'("expr_str": ?")', rb"\1" + evil + b"+", data))
    assert "which is not arithmetic on sizes" in refusal(path)

    for target in (b"torch.hub.load", b"torch.ops.load_library", b"torch.ops.load_library.__call__", b"_operator.call"):
        path = save(tmp_path / "call.pt2", module, torch.randn(1, 3))
        _rewrite(path, lambda name, data, target=target: data.replace(b"torch.ops.aten.linear.default", target))
        assert "which is not an operator of a model" in refusal(path)

    path = save(tmp_path / "guards.pt2", module, torch.randn(1, 3))
    guard = f"open({str(boom)!r}, chr(119))".encode()
    _rewrite(path, lambda name, data: re.sub(rb'"guards_code": ?\[[^]]*\]', b'"guards_code":["' + guard + b'"]', data))
    load_source(path)
    assert not boom.exists()


def _torch_bomb(boom: Path) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(((Bomb(boom),), {}), buffer)
    return buffer.getvalue()


def test_a_damaged_pt2(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"not a zip")
    assert "is not an exported program" in refusal(path)


# .onnx


def onnx_file(
    path: Path, nodes: list[onnx.NodeProto], inputs: list[object], outputs: list[object], **kw: object
) -> Path:
    model = oh.make_model(oh.make_graph(nodes, "g", inputs, outputs, **kw), opset_imports=[oh.make_opsetid("", 20)])  # type: ignore[arg-type]
    model.ir_version = 10
    onnx.save(model, path)
    return path


def tensor(name: str, shape: list[int | str | None] | None) -> onnx.ValueInfoProto:
    return oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def test_onnx_file(tmp_path: Path) -> None:
    path = onnx_file(
        tmp_path / "m.onnx",
        [oh.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", [None, "rows", 3])],
        [tensor("y", [None, "rows", 2])],
        initializer=[onnx.numpy_helper.from_array(np.ones((3, 2), "f4"), "w")],
    )
    source = load_source(path)
    assert (source.kind, source.name, source.parameters) == ("onnx", "m", 6)
    assert source.inputs[0].shape == ("batch", "rows", 3) and source.example["x"].shape == (1, 32, 3)
    with pytest.raises(SourceError, match="has no PyTorch model to run"):
        source.forward(source.example)
    fixed = load_source(path, inputs=["x:float32:batchx7x3"])
    assert fixed.inputs[0].shape == ("batch", 7, 3) and fixed.outputs[0].shape == ("batch", 7, 2)
    assert "dimension 'rows' was fixed at 7 by --input" in fixed.notes
    assert "the file fixes dimension 2 at 3" in refusal(path, UsageError, inputs=["x:float32:1x1x4"])
    assert "the file says float32, got int64" in refusal(path, UsageError, inputs=["x:int64:1x1x3"])
    assert load_source(path, dynamic=["x:0=n"]).inputs[0].shape == ("n", "rows", 3)
    assert "has fixed this dimension at 3" in refusal(path, UsageError, dynamic=["x:2"])


def test_onnx_outputs_without_a_shape_say_how_to_get_one(tmp_path: Path) -> None:
    relu = oh.make_node("Relu", ["x"], ["y"])
    path = onnx_file(tmp_path / "m.onnx", [relu], [tensor("x", [1, 3])], [tensor("y", None)])
    assert "onnx.shape_inference.infer_shapes_path('m.onnx')" in refusal(path)
    onnx.shape_inference.infer_shapes_path(str(path))
    assert load_source(path).outputs[0].shape == (1, 3)


def test_onnx_that_fails_the_checker(tmp_path: Path) -> None:
    path = onnx_file(
        tmp_path / "m.onnx", [oh.make_node("Nonsense", ["x"], ["y"])], [tensor("x", [1])], [tensor("y", [1])]
    )
    assert "fails onnx's checker" in refusal(path)
    path.write_bytes(b"garbage" * 100)
    assert "is not an ONNX model" in refusal(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n")
    assert "is a pointer of Git LFS, not the model itself. Fetch it with git lfs pull." in refusal(path)


def external(folder: Path, location: str) -> Path:
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), "f4"), "w")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return onnx_file(
        folder / "m.onnx",
        [oh.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", [1, 3])],
        [tensor("y", [1, 2])],
        initializer=[weight],
    )


def test_external_data_stays_in_its_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "secret.bin"
    inside.mkdir()
    outside.write_bytes(bytes(24))
    for location in ("../secret.bin", str(outside)):
        assert "outside the model's folder, which is refused" in refusal(external(inside, location))
    (inside / "link.bin").symlink_to(outside)
    assert "outside the model's folder, which is refused" in refusal(external(inside, "link.bin"))
    assert "which is not there" in refusal(external(inside, "none.bin"))
    (inside / "short.bin").write_bytes(bytes(20))
    assert "which is truncated: 24 bytes are needed, but it has 20" in refusal(external(inside, "short.bin"))
    (inside / "good.bin").write_bytes(bytes(24))
    assert load_source(external(inside, "good.bin")).parameters == 6
