"""A plan is loaded only where every word of its header is this device's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.runtimes import _plan_cache as cache

IDENTITY = {
    "model": "a" * 64,
    "recipe": "b" * 64,
    "engine": "tensorrt 10.3.0",
    "gpu": "Orin",
    "compute capability": "8.7",
    "driver": "Linux R36.4.0, CUDA 12.6",
    "machine": "aarch64",
}
PLAN = bytes(range(256)) * 40


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = cache.plan_path(tmp_path, IDENTITY)
    cache.store(path, IDENTITY, PLAN, 12.5)
    return path


def test_what_was_stored_comes_back(kept: Path) -> None:
    found = cache.load(kept, IDENTITY)
    assert isinstance(found, cache.Kept)
    assert (found.plan, found.build_s, found.path) == (PLAN, 12.5, kept)


def test_nothing_is_there(tmp_path: Path) -> None:
    assert cache.load(tmp_path / "none.plan", IDENTITY) is None


@pytest.mark.parametrize("key", sorted(IDENTITY))
def test_each_part_of_the_identity_has_a_file_of_its_own(tmp_path: Path, key: str) -> None:
    other = {**IDENTITY, key: "another"}
    assert cache.plan_path(tmp_path, other) != cache.plan_path(tmp_path, IDENTITY)


@pytest.mark.parametrize("key", sorted(IDENTITY))
def test_a_foreign_plan_under_our_name_is_refused_and_the_difference_told(tmp_path: Path, key: str) -> None:
    path = cache.plan_path(tmp_path, IDENTITY)
    cache.store(path, {**IDENTITY, key: "another device's"}, PLAN, 1.0)
    found = cache.load(path, IDENTITY)
    assert isinstance(found, cache.Refused)
    assert found.reason == f"it was built for {key} 'another device's', here it is '{IDENTITY[key]}'"


def test_a_header_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    path = cache.plan_path(tmp_path, IDENTITY)
    cache.store(path, {key: value for key, value in IDENTITY.items() if key != "driver"}, PLAN, 1.0)
    found = cache.load(path, IDENTITY)
    assert isinstance(found, cache.Refused) and "driver 'None'" in found.reason


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: PLAN, "it has no header that says which device it was built on"),
        (lambda data: data[:-1] + b"\x00", "its content is damaged"),
        (lambda data: data[: len(data) // 2], "its content is damaged"),
        (lambda data: data.replace(b'"identity"', b'"identitx"'), "its header is damaged"),
        (lambda data: b"edgekit-plan 1\nno json\n" + PLAN, "its header is damaged"),
        (lambda data: b"", "it has no header that says which device it was built on"),
    ],
)
def test_a_damaged_file_is_refused(kept: Path, damage, reason: str) -> None:
    kept.write_bytes(damage(kept.read_bytes()))
    found = cache.load(kept, IDENTITY)
    assert isinstance(found, cache.Refused) and found.reason == reason


def test_a_failed_write_leaves_what_was_there(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.store(kept, IDENTITY, b"new", 1.0)
    found = cache.load(kept, IDENTITY)
    assert isinstance(found, cache.Kept) and found.plan == PLAN
    assert [item.name for item in kept.parent.iterdir()] == [kept.name]


def test_the_folder_follows_xdg_then_home(tmp_path: Path) -> None:
    assert cache.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "edgekit" / "tensorrt"
    assert cache.cache_folder({"HOME": str(tmp_path)}) == tmp_path / ".cache" / "edgekit" / "tensorrt"


@pytest.mark.parametrize("environment", [{}, {"HOME": "/proc/none"}, {"XDG_CACHE_HOME": "relative"}])
def test_without_a_usable_home_it_lies_among_temporary_files(environment, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache.cache_folder(environment)
    assert folder.is_dir() and folder.is_relative_to(tmp_path) and folder.name == "tensorrt"


def test_the_models_hash_covers_external_data_and_the_recipe(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"graph")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    before = cache.hash_model(model)
    (tmp_path / "model.onnx.data").write_bytes(b"weightz")
    assert cache.hash_model(model) != before
