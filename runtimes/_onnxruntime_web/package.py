"""The files of npm's package onnxruntime-web: where they are, and getting them once, by npm, at one known version."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...errors import EngineError

NAME = "onnxruntime-web"
VERSION = "1.30.0"
"""The one that is fetched, and that edgekit was tested with."""
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""npm's ``dist.integrity`` of that version: of the archive, as the registry states it."""
FOLDER = "EDGEKIT_ORT_WEB"
"""The environment variable that names a folder with the package instead, as npm unpacks it."""

_FILES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
"""Backend → what it loads, the module first."""
_NPM_S = 600.0  # 33 MB over a slow line


@dataclass(frozen=True, slots=True)
class Package:
    """A folder with the package's files."""

    folder: Path
    version: str

    def files(self, backend: str) -> dict[str, Path]:
        """What ``backend`` loads, and the package's own description: name → file.

        Raises:
            EngineError: one is missing.
        """
        found = {name: _inside(self.folder, name) for name in ("package.json", *_FILES[backend])}
        for name, path in found.items():
            if not path.is_file():
                raise EngineError(
                    f"{NAME} in '{self.folder}' lacks {name}", fix=f"Delete the folder, or name another: {FOLDER}=DIR"
                )
        return found


def find_package() -> Package | None:
    """The package that `FOLDER` names, else the one of the bundle that this file ships in, else the one in the cache.

    Raises:
        EngineError: what the user named holds no such package.
    """
    named = os.environ.get(FOLDER)
    if named:
        package = _read(Path(named))
        if package is None:
            raise EngineError(
                f"{FOLDER}='{named}' does not hold {NAME}: there is no package.json of it",
                fix=f"Name the folder that npm made, node_modules/{NAME}.",
            )
        return package
    return _read(_of_this_bundle()) or _read(_cache() / VERSION)


def get_package() -> Package:
    """Like `find_package`; if there is none, npm fetches version `VERSION` into the cache.

    Raises:
        EngineError: npm is missing or fails (in its own words), or what it brought is not what it should be.
    """
    package = find_package()
    if package is not None:
        return package
    _fetch(_cache() / VERSION)
    package = find_package()
    assert package is not None, "it was just put there"
    return package


def bundled(model: Path) -> dict[str, str]:
    """The environment in which the bundle that holds ``model`` is run with the files that it brings along.

    Empty where it is in no bundle, or the user has named others.
    """
    folder = model.parent.parent / "web" / "ort"
    return {FOLDER: str(folder)} if not os.environ.get(FOLDER) and _read(folder) else {}


def can_fetch() -> bool:
    """Whether there is an npm to fetch with."""
    return shutil.which("npm") is not None


def missing() -> EngineError:
    """The error where the package is not here and there is no npm."""
    return EngineError(
        f"{NAME} {VERSION} is not here, and there is no npm to fetch it",
        fix=f"Fetch it elsewhere (npm pack {NAME}@{VERSION}), unpack it and set {FOLDER}=DIR/package, "
        "or install npm: apt install npm",
    )


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.home may raise
    return Path(base) / "edgekit" / NAME


def _of_this_bundle() -> Path:
    """BUNDLE/web/ort, where this is BUNDLE/runtime/edgekit/runtimes/_onnxruntime_web/package.py."""
    return Path(__file__).resolve().parents[4] / "web" / "ort"


def _read(folder: Path) -> Package | None:
    try:
        described = json.loads((folder / "package.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(described, dict) or described.get("name") != NAME:
        return None
    return Package(folder, str(described.get("version", "unknown")))


def _inside(folder: Path, name: str) -> Path:
    """The package keeps what it loads in ``dist``; a bundle and the cache have everything in one folder."""
    nested = folder / "dist" / name
    return nested if nested.is_file() else folder / name


def _fetch(place: Path) -> None:
    """Bring the package's files to the folder ``place``, which appears whole."""
    if not can_fetch():
        raise missing()
    with tempfile.TemporaryDirectory(prefix="edgekit-npm-") as folder:
        archive = _npm_pack(Path(folder))
        digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            raise EngineError(
                f"what npm fetched is not {NAME} {VERSION}: its hash is {digest}, expected {INTEGRITY}",
                fix="Is another registry or a proxy in between? See: npm config get registry",
            )
        try:
            _unpack(archive, place)
        except OSError as error:
            raise EngineError(f"cannot write '{place}': {error.strerror}", fix="Set XDG_CACHE_HOME.") from error


def _npm_pack(folder: Path) -> Path:
    """The package's archive, fetched into ``folder``. Nothing in it is run."""
    line = f"npm pack {NAME}@{VERSION}"
    cache = f"--cache={folder / 'cache'}"  # nothing is left behind
    options = [
        "--ignore-scripts",
        "--loglevel=error",
        "--fetch-retries=1",
        "--no-update-notifier",
        "--logs-max=0",
        cache,
    ]
    try:
        done = subprocess.run(
            [*line.split(), *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_NPM_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"npm did not fetch {NAME} {VERSION} within {_NPM_S:g} s", fix=f"Try: {line}") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = [text.removeprefix("npm error").strip() for text in done.stderr.splitlines()]
        words = [text for text in said if text and not text.startswith("at ")]  # without its stack
        raise EngineError(
            f"npm cannot fetch {NAME} {VERSION}",
            details=words[:5] or [f"npm ended with exit code {done.returncode}"],
            fix=f"Is there a network? Unpack it from elsewhere and set {FOLDER}=DIR/package, or try: {line}",
        )
    return archives[0]


def _unpack(archive: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
    beside.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for name in ("package.json", *(f"dist/{item}" for files in _FILES.values() for item in files)):
                member = tar.extractfile(f"package/{name}")
                assert member is not None, "the hash was right, so it is a file"
                with member, (beside / Path(name).name).open("wb") as file:
                    shutil.copyfileobj(member, file)
        beside.rename(place)
    except FileExistsError:
        pass  # another process was faster
    except OSError:
        if not place.is_dir():  # renaming onto a folder that another process made a moment ago fails in many ways
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
