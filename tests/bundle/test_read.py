from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle, open_bundle
from edgekit.contracts import Tolerance
from edgekit.errors import BundleError, EngineError, UsageError


@pytest.fixture
def folder(make_bundle: Callable[..., Bundle]) -> Path:
    return make_bundle().path


def test_opens_and_runs(folder: Path) -> None:
    with open_bundle(folder) as bundle:
        assert bundle.path == bundle.folder == folder
        assert bundle.artifact.path == folder / "model" / "model.onnx"
        assert bundle.model_bytes == (folder / "model" / "model.onnx").stat().st_size
        with bundle.session() as model:
            assert model.in_force()["threads"] == 1
            assert model.placement().counts() == {"CPU": 1}
            outputs = model.run({"x": np.ones((1, 8), np.float32)})
            assert outputs["y"].tolist() == [[28.0, 36.0, 44.0]]
        with bundle.session(threads=2) as model:
            assert model.in_force()["threads"] == 2


def test_the_identity_is_the_manifests_hash(folder: Path) -> None:
    from hashlib import sha256

    assert open_bundle(folder).sha256 == sha256((folder / "manifest.json").read_bytes()).hexdigest()


def test_a_wrong_option(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"has no option 'thread'. Did you mean 'threads'"):
        open_bundle(folder).session(thread=1)


def test_golden_samples_come_back(folder: Path) -> None:
    golden = open_bundle(folder).golden()
    assert len(golden) == 3
    inputs, outputs = golden[0]
    assert inputs["x"].shape == (1, 8) and outputs["y"].shape == (1, 3)


def test_self_test(folder: Path) -> None:
    result = open_bundle(folder).self_test()
    assert result.passed
    assert result.parity.samples == 3
    assert result.parity.sqnr_db > 100


def test_self_test_misses(make_bundle: Callable[..., Bundle]) -> None:
    wrong = [({"x": np.ones((1, 8), np.float32)}, {"y": np.array([[28.0, 36.0, 45.0]], np.float32)})]
    result = make_bundle(golden=wrong, golden_tolerance=Tolerance(max_abs=0.5)).self_test()
    assert not result.passed
    assert result.misses == ("max_abs 1 > 0.5 (output 'y')",)


def test_no_golden_samples_prove_nothing(make_bundle: Callable[..., Bundle]) -> None:
    assert make_bundle(golden=[]).self_test().misses == ("no samples were compared",)


def test_a_runtime_that_is_not_here(make_bundle: Callable[..., Bundle]) -> None:
    from edgekit.bundle import EngineUse

    bundle = make_bundle(changes={"runtime": EngineUse("tensorrt9", "1", {}, "pip install x")})
    with pytest.raises(EngineError, match="runtime 'tensorrt9' is not available here"):
        bundle.session()


@pytest.mark.parametrize(
    "name", ["model/model.onnx", "run.py", "README.md", "golden/0.inputs.npz", "runtime/edgekit/contracts.py"]
)
@pytest.mark.parametrize("damage", ["changed", "longer", "missing"])
def test_damage_names_the_file(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    path.unlink()  # never write through a hard link
    if damage == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "longer":
        path.write_bytes(data + b"x")
    expected = {
        "changed": f"'{name}' in '.*' is damaged: its SHA-256 is not the manifest's",
        "longer": f"'{name}' in '.*' is damaged: {len(data) + 1} bytes, expected {len(data)}",
        "missing": f"is not complete: '{name}' missing",
    }
    with pytest.raises(BundleError, match=expected[damage]):
        open_bundle(folder)
    open_bundle(folder, verify=False)  # only the manifest is read


@pytest.mark.parametrize("name", ["extra.bin", "model/extra.bin", ".hidden", "golden/sub/x", "runtime/edgekit/x.py"])
def test_a_file_that_is_not_listed(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    with pytest.raises(BundleError, match=f"holds '{name}', not listed in manifest.json. Delete or move it"):
        open_bundle(folder)


def test_pythons_caches_are_no_damage(folder: Path) -> None:
    for parent in (folder, folder / "runtime" / "edgekit"):
        (parent / "__pycache__").mkdir()
        (parent / "__pycache__" / "x.cpython-311.pyc").touch()
    open_bundle(folder)


@pytest.mark.parametrize("name", ["model/model.onnx", "extra", "model/__pycache__", "__pycache__"])
def test_links_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    with pytest.raises(BundleError, match=f"'{name}' in '.*' is a link: a bundle holds none"):
        open_bundle(folder)


def test_a_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model").rename(tmp_path / "elsewhere")
    (folder / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"'model' in '.*' is a link"):
        open_bundle(folder)


def test_special_files_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(BundleError, match=r"'pipe' in '.*' is not a regular file"):
        open_bundle(folder)


def test_a_linked_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match=r"is not a bundle: it holds no manifest.json"):
        open_bundle(folder)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no manifest.json"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"'.*/none' does not exist. Name a bundle's folder or its .edgekit.zip"):
        open_bundle(tmp_path / "none")


def test_a_damaged_golden_file_without_verification(folder: Path) -> None:
    (folder / "golden" / "0.inputs.npz").write_bytes(b"PK")
    with pytest.raises(BundleError, match=r"'golden/0.inputs.npz' in '.*' cannot be read"):
        open_bundle(folder, verify=False).golden()
