from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.bundle import Bundle, open_bundle, pack, unpack
from edgekit.errors import BundleError, EdgekitError, OutputError


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle()


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_packed_and_unpacked_are_equal(bundle: Bundle, tmp_path: Path) -> None:
    packed = pack(bundle.path)
    assert packed == tmp_path / "linear.edgekit.zip"
    with open_bundle(packed) as opened:
        assert opened.sha256 == bundle.sha256
        assert opened.path == packed
        assert opened.self_test().passed
        temporary = opened.folder
        assert temporary.exists()
    assert not temporary.exists()
    again = unpack(packed, tmp_path / "again.edgekit")
    assert files(again.path) == files(bundle.path)
    assert names(tmp_path) == ["again.edgekit", "linear.edgekit", "linear.edgekit.zip"]


def test_the_default_folder_is_beside_the_file(bundle: Bundle, tmp_path: Path) -> None:
    packed = pack(bundle.path)
    bundle.path.rename(tmp_path / "moved")
    assert unpack(packed).path == tmp_path / "linear.edgekit"


def test_the_same_bundle_gives_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    first = pack(bundle.path)
    moved = tmp_path / "elsewhere.edgekit"
    unpack(first, moved)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    (moved / "__pycache__").mkdir()
    (moved / "__pycache__" / "x.pyc").touch()
    assert pack(moved).read_bytes() == first.read_bytes()


def test_other_tools_read_it(bundle: Bundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(bundle.path)) as archive:
        assert archive.testzip() is None
        assert {entry.filename.split("/")[0] for entry in archive.infolist()} == {"linear.edgekit"}


def test_a_zip_packed_by_another_tool_is_read(bundle: Bundle, tmp_path: Path) -> None:
    packed = tmp_path / "by-hand.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("some folder")
        for name, data in files(bundle.path).items():
            archive.writestr(f"some folder/{name}", data)
    with open_bundle(packed) as opened:
        assert opened.sha256 == bundle.sha256


def test_nothing_is_overwritten_unless_told(bundle: Bundle, tmp_path: Path) -> None:
    packed = pack(bundle.path)
    with pytest.raises(OutputError, match=r"linear.edgekit.zip' exists. Choose another name with -o"):
        pack(bundle.path)
    pack(bundle.path, overwrite=True)
    with pytest.raises(OutputError, match=r"linear.edgekit' exists. Choose another name with -o"):
        unpack(packed)
    unpack(packed, overwrite=True)
    with pytest.raises(OutputError, match=r"linear.edgekit' exists"):
        pack(bundle.path, bundle.path, overwrite=True)


def test_a_damaged_bundle_is_not_packed(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "README.md").write_text("changed")
    with pytest.raises(BundleError, match=r"'README.md' in '.*' is damaged"):
        pack(bundle.path)
    assert names(tmp_path) == ["linear.edgekit"]


def test_a_packed_bundle_is_not_packed_again(bundle: Bundle) -> None:
    with pytest.raises(OutputError, match="Only an unpacked bundle can be packed"):
        pack(pack(bundle.path))


def rewritten(bundle: Bundle, path: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> Path:
    """A zip of the bundle, with ``change`` to its files or to the archive before they are written."""
    content = files(bundle.path)
    with zipfile.ZipFile(path, "w") as archive:
        change(archive, content)
        for name, data in content.items():
            archive.writestr(f"linear.edgekit/{name}", data)
    return path


def _link(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    entry = zipfile.ZipInfo("linear.edgekit/README.md")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")
    del content["README.md"]


def _topless(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    """Zipped from inside of the folder: two of its files lie in folders under the same name."""
    for name, data in {**content, "model/readme": b"", "golden/readme": b""}.items():
        archive.writestr(name, data)


def _twice(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    archive.writestr("linear.edgekit/README.md", "other")


def _named(name: str) -> Callable[[zipfile.ZipFile, dict[str, bytes]], None]:
    return lambda archive, content: archive.writestr(name, "x")


def _without(name: str) -> Callable[[zipfile.ZipFile, dict[str, bytes]], None]:
    return lambda archive, content: content.__delitem__(name)


def _shorter(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    content["README.md"] = b"#"


def _changed(archive: zipfile.ZipFile, content: dict[str, bytes]) -> None:
    content["README.md"] = content["README.md"].upper()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_named("linear.edgekit/../../evil"), "'linear.edgekit/../../evil' is not a safe name"),
        (_named("../evil"), "'../evil' is not a safe name"),
        (_named("/evil"), "'/evil' is not a safe name"),
        (_named("linear.edgekit/a\\..\\evil"), "is not a safe name"),
        (_named("linear.edgekit/C:evil"), "is not a safe name"),
        (_named("other/file"), "it holds no single folder with a manifest.json"),
        (_named("linear.edgekit/extra"), "holds 'extra', not listed in manifest.json"),
        (_link, "is a link: a bundle holds none"),
        (_twice, "twice"),
        (_topless, "it holds no single folder with a manifest.json"),
        (_without("manifest.json"), "it holds no single folder with a manifest.json"),
        (_without("README.md"), "is not complete: 'README.md' missing"),
        (_shorter, "'README.md' in '.*' has 1 bytes, expected 9"),
        (_changed, "'README.md' in '.*' is damaged: its SHA-256"),
    ],
)
def test_unsafe_and_damaged_archives(
    bundle: Bundle, tmp_path: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None], text: str
) -> None:
    packed = rewritten(bundle, tmp_path / "bad.zip", change)
    before = names(tmp_path)
    with pytest.raises(BundleError, match=text):
        open_bundle(packed)
    with pytest.raises(BundleError, match=text):
        unpack(packed, tmp_path / "out.edgekit")
    assert names(tmp_path) == before
    assert not (tmp_path.parent / "evil").exists()


def test_a_bomb_is_not_unpacked(bundle: Bundle, tmp_path: Path) -> None:
    import hashlib
    import json

    content = files(bundle.path)
    content["README.md"] = bytes(2**28)
    manifest = json.loads(content["manifest.json"])
    manifest["files"]["README.md"] = {"sha256": hashlib.sha256(content["README.md"]).hexdigest(), "size_bytes": 2**28}
    content["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(f"x/{name}", data)
    with pytest.raises(BundleError, match=r"would unpack from .* bytes, more than a bundle does"):
        open_bundle(tmp_path / "bomb.zip")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is not a readable zip file: File is not a zip file"),
        (b"PK\x05\x06" + bytes(18), "is not a packed bundle: it holds no single folder with a manifest.json"),
        (b"text", "is not a readable zip file: File is not a zip file"),
        (b"PK\x03\x04" + bytes(40), "is not a readable zip file: File is not a zip file"),
    ],
)
def test_what_is_no_zip(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BundleError, match=re.escape(told)):
        open_bundle(tmp_path / "x.zip")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot read '.*/x.zip': No such file"):
        unpack(tmp_path / "x.zip")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0), byte=st.integers(0, 255), count=st.integers(1, 4))
def test_damage_anywhere_is_found_or_harmless(bundle: Bundle, where: int, byte: int, count: int) -> None:
    packed = bundle.path.with_suffix(".zip")
    if not packed.exists():
        pack(bundle.path, packed)
    data = bytearray(packed.read_bytes())
    for index in range(count):
        data[(where * (index + 1)) % len(data)] = byte
    broken = packed.with_name("broken.zip")
    broken.write_bytes(data)
    try:
        with open_bundle(broken) as opened:
            assert opened.sha256 == bundle.sha256
    except EdgekitError as error:
        assert isinstance(error, BundleError)
