from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle import Bundle, FileRecord, Manifest
from edgekit.bundle.manifest import refuse_unsafe_name
from edgekit.errors import BundleError


@pytest.fixture
def manifest(make_bundle: Callable[..., Bundle]) -> Manifest:
    return make_bundle(changes={"metric": {"name": "top1", "reference": 0.9}, "calibration": {"samples": 3}}).manifest


def test_comes_back_as_it_was(manifest: Manifest) -> None:
    assert Manifest.loads(manifest.dumps()) == manifest
    assert manifest.golden_samples == 3
    assert manifest.files["model/model.onnx"].size_bytes > 0


def test_is_what_the_design_says(manifest: Manifest) -> None:
    value = json.loads(manifest.dumps())
    assert value["schema"] == 1
    assert value["artifact"] == {"file": "model/model.onnx", "format": "onnx"}
    assert value["runtime"] == {
        "name": "onnxruntime", "version": "1.0", "options": {"threads": 1}, "install": "pip install onnxruntime",
    }  # fmt: skip
    assert value["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 8]}]
    assert value["golden"] == {"samples": 3, "tolerance": {"rel_l2": 1e-4}}
    assert value["passes"][0]["options"] == {"deep": True}
    assert set(value["files"]["README.md"]) == {"sha256", "size_bytes"}


def test_the_machines_it_was_made_for(make_bundle: Callable[..., Bundle], manifest: Manifest) -> None:
    bundle = make_bundle(changes={"arch": ("aarch64",)}, overwrite=True)
    assert Manifest.loads(bundle.manifest.dumps()).arch == ("aarch64",)
    older = manifest.to_json()
    del older["arch"]
    assert Manifest.loads(json.dumps(older).encode()).arch == ()
    with pytest.raises(BundleError, match=r"'arch' must hold strings, got \[3\]"):
        Manifest.loads(json.dumps({**older, "arch": [3]}).encode())


def test_what_json_cannot_hold(make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        make_bundle(changes={"parity": {"sqnr_db": math.inf}})


def changed(manifest: Manifest, path: str, value: Any) -> bytes:
    table = manifest.to_json()
    inner = table
    *parents, last = path.split("/")
    for key in parents:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(table).encode()


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("schema", 2, r"has schema 2; this edgekit reads schema 1. Use the edgekit version"),
        ("name", ..., r"'name' must be a string, got None"),
        ("name", "a/b", r"must not hold a '/', got 'a/b'"),
        ("name", "..", r"'\.\.' is not a safe name"),
        ("runtime", [], r"'runtime' must be an object, got \[\]"),
        ("runtime/options", 1, r"'runtime.options' must be an object, got 1"),
        ("artifact/file", "model/other", r"the artifact 'model/other' is not among its files"),
        ("inputs", [1], r"'inputs\[0\]' must be an object"),
        ("outputs", [{"name": "y", "dtype": "float32", "shape": [1.5]}], r"'outputs\[0\].shape' must hold integers"),
        ("golden/samples", True, r"'golden.samples' must be an integer, got True"),
        ("golden/tolerance", {"sqnr": 1}, r"has no option 'sqnr'. Did you mean 'sqnr_db'"),
        ("files", {"../x": {}}, r"'\.\./x' is not a safe name"),
        ("files", {"x": {"sha256": "0" * 63, "size_bytes": 1}}, r"'files.x' holds no sha256 and size"),
        ("files", {"x": {"sha256": "0" * 64, "size_bytes": -1}}, r"'files.x' holds no sha256 and size"),
        ("files", {"x": 3}, r"'files.x' must be an object, got 3"),
        ("files", {"manifest.json": {}}, r"cannot hold its own hash"),
        ("passes", [{"name": "x"}], r"'passes' must hold records of passes"),
    ],
)
def test_what_is_wrong_is_named(manifest: Manifest, path: str, value: Any, text: str) -> None:
    with pytest.raises(BundleError, match=text):
        Manifest.loads(changed(manifest, path, value))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest.json is not"):
        Manifest.loads(data)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_json_is_refused_in_our_own_words(value: Any) -> None:
    table = {**(value if isinstance(value, dict) else {}), "schema": 1}
    with pytest.raises(BundleError):
        Manifest.loads(json.dumps(table).encode())


@pytest.mark.parametrize(
    "name", ["", "/a", "a//b", "../a", "a/..", "./a", "a\\b", "C:/a", "c:a", "a\nb", "a\0", "a/", "."]
)
def test_unsafe_names(name: str) -> None:
    with pytest.raises(BundleError, match="is not a safe name"):
        refuse_unsafe_name(name)


@pytest.mark.parametrize("name", ["a", "a/b.c", "model/.hidden", "weights 1.bin", "ünï.onnx", "a..b"])
def test_safe_names(name: str) -> None:
    refuse_unsafe_name(name)


def test_equal_manifests_give_equal_bytes(manifest: Manifest) -> None:
    turned = dict(reversed(list(manifest.files.items())))
    again = Manifest(**{**{key: getattr(manifest, key) for key in Manifest.__dataclass_fields__}, "files": turned})
    assert again.dumps() == manifest.dumps()
    assert isinstance(next(iter(turned.values())), FileRecord)
