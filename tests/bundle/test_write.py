from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle, open_bundle
from edgekit.contracts import Artifact
from edgekit.errors import BundleError, OutputError, ParityError, TakenError
from edgekit.runtimes import onnxruntime
from edgekit.runtimes import openvino as openvino_adapter

IS_ROOT = os.geteuid() == 0


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_layout(make_bundle: Callable[..., Bundle]) -> None:
    folder = make_bundle().path
    assert names(folder) == ["README.md", "golden", "manifest.json", "model", "run.py", "runtime"]
    assert names(folder.parent) == ["linear.edgekit"]
    floor = folder / "runtime" / "edgekit"
    assert {"__init__.py", "contracts.py", "errors.py", "bundle", "measure", "runtimes"} <= set(names(floor))
    adapters = {name for name in names(floor / "runtimes") if not name.startswith("_")}
    assert adapters == {"onnxruntime.py", "null.py"}
    assert not list(folder.rglob("__pycache__"))
    open_bundle(folder)


def test_the_floor_is_copied_as_it_is(make_bundle: Callable[..., Bundle]) -> None:
    import edgekit

    package = Path(str(edgekit.__file__)).parent
    floor = make_bundle().path / "runtime" / "edgekit"
    for path in floor.rglob("*.py"):
        name = path.relative_to(floor)
        if name.parts[0] != "runtimes":
            assert path.read_bytes() == (package / name).read_bytes(), name


def test_the_model_is_not_copied_twice(make_bundle: Callable[..., Bundle], linear: Artifact) -> None:
    assert make_bundle().artifact.path.samefile(linear.path)


def test_the_same_inputs_give_the_same_bundle(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    assert make_bundle().sha256 == make_bundle(tmp_path / "other").sha256


def test_linked_files_are_followed_into_the_bundle(
    make_bundle: Callable[..., Bundle], linear: Artifact, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.onnx").symlink_to(linear.path)
    bundle = make_bundle(model_dir=source)
    assert not bundle.artifact.path.is_symlink()
    assert bundle.self_test().passed


def test_golden_samples_are_bounded(make_bundle: Callable[..., Bundle]) -> None:
    large = np.zeros((1, 2**21), np.float64)  # 16 MB
    golden = [({"x": large}, {"y": large})] * 3
    assert make_bundle(golden=golden).manifest.golden_samples == 1
    many = [({"x": np.zeros((1, 8), np.float32)}, {"y": np.zeros((1, 3), np.float32)})] * 20
    assert make_bundle(golden=many, overwrite=True).manifest.golden_samples == 8


def test_an_existing_bundle_is_kept_unless_told(make_bundle: Callable[..., Bundle]) -> None:
    before = make_bundle()
    with pytest.raises(OutputError, match=r"exists. Choose another name with -o, or add --overwrite"):
        make_bundle(readme="new")
    assert open_bundle(before.path).sha256 == before.sha256
    after = make_bundle(readme="new", overwrite=True)
    assert after.sha256 != before.sha256
    assert open_bundle(after.path).sha256 == after.sha256
    assert names(after.path.parent) == ["linear.edgekit"]


@pytest.mark.parametrize("kind", ["file", "folder", "empty", "link"])
def test_what_is_no_bundle_is_never_replaced(make_bundle: Callable[..., Bundle], tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("precious")
    elif kind == "link":
        place.symlink_to(make_bundle().path)
    else:
        place.mkdir()
        if kind == "folder":
            (place / "precious").write_text("x")
    before = names(tmp_path)
    with pytest.raises(OutputError, match="exists and is not a bundle"):
        make_bundle(place, overwrite=True)
    assert names(tmp_path) == before


def test_a_failing_check_leaves_what_was_there(make_bundle: Callable[..., Bundle]) -> None:
    before = make_bundle()

    def refuse(bundle: Bundle) -> None:
        assert bundle.self_test().passed
        raise ParityError("not good enough")

    with pytest.raises(ParityError):
        make_bundle(readme="new", overwrite=True, check=refuse)
    assert open_bundle(before.path).sha256 == before.sha256
    assert names(before.path.parent) == ["linear.edgekit"]


def test_an_artifact_that_is_not_there(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"the artifact 'model/other.onnx' is not among its files"):
        make_bundle(changes={"artifact_file": "model/other.onnx"})
    assert names(tmp_path) == []


def test_a_name_that_is_unsafe_on_some_system(
    make_bundle: Callable[..., Bundle], linear: Artifact, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(linear.path.parent, source)
    (source / "a:b").touch()
    with pytest.raises(BundleError, match="'model/a:b' is not a safe name"):
        make_bundle(model_dir=source)
    assert names(tmp_path) == ["source"]


def test_a_third_partys_adapter_is_made_relative(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    adapter = tmp_path / "acme" / "adapter.py"
    adapter.parent.mkdir()
    adapter.write_text("from edgekit.contracts import Artifact\nfrom edgekit.errors import EngineError\nPLUGIN = 1\n")
    folder = make_bundle(runtime_module_file=adapter).path
    copied = (folder / "runtime" / "edgekit" / "runtimes" / "onnxruntime.py").read_text()
    assert copied == "from ..contracts import Artifact\nfrom ..errors import EngineError\nPLUGIN = 1\n"


@pytest.mark.parametrize("in_a_helper", [False, True])
def test_an_adapter_that_builds_on_one_of_ours_brings_it_along(
    make_bundle: Callable[..., Bundle], tmp_path: Path, in_a_helper: bool
) -> None:
    adapter = tmp_path / "acme" / "adapter.py"
    adapter.parent.mkdir()
    base = "from edgekit.runtimes.openvino import OpenVino\n"
    if in_a_helper:
        (adapter.parent / "_base.py").write_text(base)
        base = "from ._base import OpenVino\n"
    adapter.write_text(f"{base}\nclass Board(OpenVino):\n    pass\n")
    path = make_bundle(runtime_module_file=adapter, runtime_class="Board").path
    runtimes = path / "runtime" / "edgekit" / "runtimes"
    importer = runtimes / ("_base.py" if in_a_helper else "onnxruntime.py")
    assert "from ..runtimes.openvino import OpenVino" in importer.read_text()
    assert (runtimes / "openvino.py").read_text() == Path(str(openvino_adapter.__file__)).read_text()


def test_a_class_that_its_entry_point_names_is_the_bundles_plugin(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text(Path(str(onnxruntime.__file__)).read_text().replace("PLUGIN = OnnxRuntime", ""))
    folder = make_bundle(runtime_module_file=adapter, runtime_class="OnnxRuntime").path
    done = subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_parent(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"its folder does not exist. Create it first"):
        make_bundle(tmp_path / "none" / "x.edgekit")


@pytest.mark.skipif(not IS_ROOT, reason="needs root: mounts a full and a read-only file system")
@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_full_or_read_only_disk(make_bundle: Callable[..., Bundle], tmp_path: Path, options: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(OutputError) as caught:
            make_bundle(disk / "x.edgekit")
        assert names(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)
    text = {"size=64k": "no space left on the device", "ro": "the file system is read-only"}[options]
    assert str(caught.value).startswith(f"cannot write '{disk}/x.edgekit': {text}.")
    assert "\n" not in str(caught.value)


def test_a_file_size_limit(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OutputError, match="the file is larger than allowed here"):
            make_bundle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []


def test_a_name_that_was_taken_meanwhile_is_left_alone_and_nothing_is_lost(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    place = tmp_path / "m.edgekit"

    def another(_: Bundle) -> None:
        make_bundle(place, readme="the quicker one")

    for number in (2, 3):
        with pytest.raises(OutputError) as caught:
            make_bundle(place, readme=f"number {number}", check=another if number == 2 else lambda _: place.mkdir())
        assert isinstance(caught.value, TakenError)
        kept = tmp_path / f"m-{number}.edgekit"
        assert caught.value.kept == kept
        assert f"'{place}' exists" in str(caught.value) and f"whose bundle is kept as '{kept}'" in str(caught.value)
        assert (kept / "README.md").read_text() == f"number {number}"
        open_bundle(kept)
        if number == 2:
            assert (place / "README.md").read_text() == "the quicker one"
            shutil.rmtree(place)
    assert names(tmp_path) == ["m-2.edgekit", "m-3.edgekit", "m.edgekit"]


def test_what_is_no_bundle_is_not_replaced_at_the_end_either(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    place = tmp_path / "m.edgekit"
    with pytest.raises(TakenError, match="exists and is not a bundle"):
        make_bundle(place, overwrite=True, check=lambda _: place.write_text("somebody's"))
    assert place.read_text() == "somebody's"
    open_bundle(tmp_path / "m-2.edgekit")


WRITER = """
import sys
from pathlib import Path
import numpy as np
from edgekit.bundle import EngineUse, Manifest, write_bundle
from edgekit.contracts import TensorSpec, Tolerance
from edgekit.runtimes import onnxruntime
from edgekit.runtimes import openvino as openvino_adapter
model_dir, place, wait_for = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
manifest = Manifest("x", "cpu", "fp32", EngineUse("onnxruntime", "1", {"threads": 1}, ""), "model/model.onnx", "onnx",
                    (TensorSpec("x", "float32", (1, 8)),), (TensorSpec("y", "float32", (1, 3)),),
                    {}, {}, None, (), {}, None, {}, "now")
number = 0
while True:
    if number == int(wait_for):
        print("ready", flush=True)
    number += 1
    write_bundle(place, manifest=manifest, model_dir=model_dir, golden=[], golden_tolerance=Tolerance(),
                 readme=str(number), runtime_module_file=Path(onnxruntime.__file__), overwrite=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_bundle_or_none(linear: Artifact, tmp_path: Path) -> None:
    place = tmp_path / "x.edgekit"
    for seed in range(10):
        writes_before = "0" if seed < 3 else "1"
        command = [sys.executable, "-c", WRITER, str(linear.path.parent), str(place), writes_before]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.15))
        victim.kill()
        victim.wait()
        victim.stdout.close()
        end = time.monotonic() + 10
        while set(names(tmp_path)) - {"x.edgekit"} and time.monotonic() < end:
            time.sleep(0.02)
        assert set(names(tmp_path)) <= {"x.edgekit"}
        if place.exists() or writes_before == "1":
            open_bundle(place)
