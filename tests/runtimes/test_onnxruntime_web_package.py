"""Where onnxruntime-web's files come from: real npm, and all the ways in which it may not be there."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from edgekit.errors import EngineError
from edgekit.runtimes._onnxruntime_web import package


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(package.FOLDER, raising=False)
    return tmp_path / "edgekit" / "onnxruntime-web" / package.VERSION


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``npm`` that does what a real one would in a situation that cannot be made here."""
    (folder / "bin").mkdir()
    npm = folder / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")


@pytest.mark.slow
def test_npm_fetches_it_once_and_its_integrity_holds(empty_cache: Path) -> None:
    if not package.can_fetch():
        pytest.skip("no npm: apt install npm")
    assert package.find_package() is None
    found = package.get_package()
    assert (found.folder, found.version) == (empty_cache, package.VERSION)
    for backend in ("wasm", "webgpu"):
        assert all(path.stat().st_size > 0 for path in found.files(backend).values())
    assert [path.name for path in empty_cache.parent.iterdir()] == [package.VERSION]  # nothing half-done beside it
    before = empty_cache.stat().st_mtime_ns
    assert package.get_package() == found
    assert empty_cache.stat().st_mtime_ns == before


def test_without_npm_the_line_to_type_is_there(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(EngineError) as raised:
        package.get_package()
    assert str(raised.value) == (
        f"onnxruntime-web {package.VERSION} is not here, and there is no npm to fetch it. Fetch it elsewhere "
        f"(npm pack onnxruntime-web@{package.VERSION}), unpack it and set EDGEKIT_ORT_WEB=DIR/package, "
        "or install npm: apt install npm"
    )


def test_without_a_network_npms_own_words_are_told(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not package.can_fetch():
        pytest.skip("no npm: apt install npm")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retry_mintimeout", "1")
    with pytest.raises(EngineError, match=r"npm cannot fetch onnxruntime-web") as raised:
        package.get_package()
    assert "ECONNREFUSED" in str(raised.value)
    assert f"or try: npm pack onnxruntime-web@{package.VERSION}" in str(raised.value)
    assert not empty_cache.exists()


def test_other_content_than_npms_registry_states_is_refused(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "echo tampered > onnxruntime-web.tgz", monkeypatch)
    with pytest.raises(
        EngineError, match=r"what npm fetched is not onnxruntime-web .*: its hash is sha512-.*, expected"
    ):
        package.get_package()
    assert not empty_cache.exists()


def test_a_folder_of_ones_own(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(package.FOLDER, str(tmp_path))
    with pytest.raises(EngineError, match=r"EDGEKIT_ORT_WEB='.*' does not hold onnxruntime-web"):
        package.get_package()
    (tmp_path / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "9.8.7"}))
    found = package.get_package()
    assert found.version == "9.8.7"
    with pytest.raises(EngineError, match=r"lacks ort\.wasm\.min\.mjs"):
        found.files("wasm")
    (tmp_path / "dist").mkdir()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / "dist" / name).write_bytes(b"")
    assert found.files("wasm")["ort.wasm.min.mjs"] == tmp_path / "dist" / "ort.wasm.min.mjs"


def test_a_bundle_is_run_with_the_engine_it_brings_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(package.FOLDER, raising=False)
    model = tmp_path / "model" / "model.onnx"
    assert package.bundled(model) == {}
    folder = tmp_path / "web" / "ort"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "1.0.0"}))
    assert package.bundled(model) == {package.FOLDER: str(folder)}
    monkeypatch.setenv(package.FOLDER, "/elsewhere")
    assert package.bundled(model) == {}
