"""The packed form of a bundle: ``NAME.edgekit.zip``. The same bundle always gives the same bytes."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BundleError, OutputError, TakenError
from ..tempdir import move_beside, put_new, work_folder, writing
from .manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, refuse_unsafe_name
from .read import Bundle, open_folder
from .write import put_in_place, refuse_destination

SUFFIX = ".edgekit.zip"
MAX_BYTES = 64 * 2**30
MAX_RATIO = 200  # unpacked to packed: weights hardly shrink, only a zip bomb shrinks more
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 2**20


def pack(bundle: str | Path, destination: Path | None = None, *, overwrite: bool = False) -> Path:
    """Pack a bundle's folder into one file, checked before and written all or nothing.

    Stored, not compressed: weights hardly shrink, and the bytes then depend on no zlib version.

    Args:
        bundle: its folder.
        destination: the zip file; default ``NAME.edgekit.zip`` beside the folder.
        overwrite: replace a file that is there.

    Raises:
        BundleError: it is damaged.
        OutputError: the destination is taken or cannot be written.
    """
    if Path(bundle).is_file():
        raise OutputError(f"'{bundle}' is a file, not a bundle's folder", fix="Only an unpacked bundle can be packed.")
    with open_folder(Path(bundle)) as opened:
        target = destination or opened.folder.absolute().with_name(_stem(opened.folder.absolute().name) + SUFFIX)
        if os.path.lexists(target) and not (overwrite and target.is_file()):
            raise OutputError(f"'{target}' exists", fix="Choose another name with -o, or add --overwrite.")
        with work_folder(beside=target) as workplace, writing(target):
            file = workplace / "packed"
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name in (MANIFEST, *sorted(opened.manifest.files)):
                    _add(archive, opened.folder / name, f"{opened.manifest.name}.edgekit/{name}")
            with file.open("rb") as written:
                os.fsync(written.fileno())
            if overwrite:
                file.replace(target)
            elif not put_new(file, target):
                kept = move_beside(file, target, SUFFIX)
                raise TakenError(
                    f"'{target}' exists: it was made while this was at work, whose file is kept as '{kept}'",
                    kept=kept,
                    fix="Keep either, or rename them.",
                )
    return target


def unpack(archive: str | Path, destination: Path | None = None, *, overwrite: bool = False) -> Bundle:
    """Unpack a zip into a folder, checked whole before it is put in place.

    Args:
        archive: the zip file.
        destination: the bundle's folder; default: beside the file, without ``.zip``.
        overwrite: replace a bundle that is there.

    Raises:
        BundleError: not a bundle, or damaged, or unsafe; names the file.
        OutputError: the destination is taken or cannot be written.
    """
    source = Path(archive)
    target = destination or source.absolute().with_name(_stem(source.name) + ".edgekit")
    refuse_destination(target, overwrite)
    with work_folder(beside=target) as workplace, writing(target):
        folder = workplace / "bundle"
        _extract(source, folder)
        open_folder(folder).close()
        put_in_place(folder, target, overwrite)
    return open_folder(target, verify=False)


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """The content of a zip in a temporary folder. Sizes and names are checked here, hashes by who opens it."""
    with work_folder() as workplace:
        folder = workplace / "bundle"
        with writing(workplace):
            _extract(archive, folder)
        yield folder


def _extract(source: Path, folder: Path) -> None:
    """Write out the files that the archive's manifest lists, each with exactly the size listed there."""
    try:
        stream = source.open("rb")
    except OSError as error:
        raise BundleError(f"cannot read '{source}': {error.strerror}") from error
    try:
        with stream, zipfile.ZipFile(stream) as archive:
            entries = _entries(archive, source)
            data = _read_bounded(archive, entries.pop(MANIFEST), MAX_MANIFEST_BYTES, source)
            manifest = Manifest.loads(data)
            _refuse_bomb(source, manifest)
            extra = sorted(set(entries) - set(manifest.files))
            if extra:
                raise BundleError(f"'{source}' holds '{extra[0]}', not listed in {MANIFEST}")
            folder.mkdir()
            (folder / MANIFEST).write_bytes(data)
            for name, record in manifest.files.items():
                if name not in entries:
                    raise BundleError(f"'{source}' is not complete: '{name}' missing")
                if entries[name].file_size != record.size_bytes:
                    raise BundleError(
                        f"'{name}' in '{source}' has {entries[name].file_size} bytes, expected {record.size_bytes}"
                    )
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entries[name]) as packed, path.open("wb") as plain:
                    shutil.copyfileobj(packed, plain, _CHUNK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BundleError(f"'{source}' is not a readable zip file: {error}") from error


def _entries(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """Name in the bundle → entry, the common top folder taken off."""
    entries: dict[str, zipfile.ZipInfo] = {}
    tops = set()
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        try:
            refuse_unsafe_name(entry.orig_filename)
        except BundleError as error:
            raise BundleError(f"'{source}': {error.what}") from error
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BundleError(f"'{entry.filename}' in '{source}' is a link: a bundle holds none")
        top, _, name = entry.filename.partition("/")
        tops.add(top)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise BundleError(f"'{entry.filename}' in '{source}' is encrypted, or compressed in an unusual way")
        if name in entries and entries[name].filename == entry.filename:
            raise BundleError(f"'{entry.filename}' is in '{source}' twice")
        entries[name] = entry
    if len(tops) != 1 or MANIFEST not in entries:
        raise BundleError(f"'{source}' is not a packed bundle: it holds no single folder with a {MANIFEST}")
    return entries


def _read_bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, source: Path) -> bytes:
    with archive.open(entry) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"'{entry.filename}' in '{source}' is larger than {limit} bytes")
    return data


def _refuse_bomb(source: Path, manifest: Manifest) -> None:
    total, packed = sum(record.size_bytes for record in manifest.files.values()), source.stat().st_size
    if total > MAX_BYTES or total > MAX_RATIO * packed:
        raise BundleError(f"'{source}' would unpack from {packed} to {total} bytes, more than a bundle does")


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)


def _stem(name: str) -> str:
    return name.removesuffix(".zip").removesuffix(".edgekit")
