r"""Plans built on this device, kept for the next start: ``~/.cache/edgekit/tensorrt`` (``$XDG_CACHE_HOME/edgekit/…``).

A plan holds machine code for one GPU, one driver and one TensorRT; another device's would crash or compute something
else. So a plan's file begins with a header that states what it was built for, and a plan is loaded only where every
value of it is this device's own. One file, renamed into place as a whole: a killed build leaves no half plan.

    edgekit-plan 1\n   {"identity": {…}, "sha256": …, "build_s": …}\n   the plan
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MARKER = b"edgekit-plan 1\n"
_MAX_HEADER = 1 << 16
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan from the cache."""

    path: Path
    plan: bytes
    build_s: float  # how long it took to build


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file of the cache is not loaded, and the plan is built anew."""

    path: Path
    reason: str


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where plans are kept; created. Without a usable home: ``edgekit-UID`` in the system's folder for temporary files.

    Raises:
        OSError: nowhere can be written to.
    """
    home = environment.get("XDG_CACHE_HOME") or (environment["HOME"] + "/.cache" if environment.get("HOME") else "")
    if home and Path(home).is_absolute():
        with contextlib.suppress(OSError):  # read-only, or no home of its own: the other place
            folder = Path(home) / "edgekit" / "tensorrt"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"edgekit-{user}" / "tensorrt"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.parent.stat().st_uid != os.getuid():
        raise PermissionError(f"'{folder.parent}' belongs to another user")
    return folder


def plan_path(folder: Path, identity: Mapping[str, str]) -> Path:
    """The file of the plan for exactly this model, recipe and device."""
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:32]}.plan"


def load(path: Path, identity: Mapping[str, str]) -> Kept | Refused | None:
    """The plan at ``path`` if it was built for ``identity``; why not, if it was not; None where there is no file.

    Args:
        path: as `plan_path` gives it.
        identity: what the plan must have been built for: model, recipe, GPU, driver, TensorRT.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Refused(path, f"it cannot be read: {error.strerror}")
    if not data.startswith(_MARKER):
        return Refused(path, "it has no header that says which device it was built on")
    end = data.find(b"\n", len(_MARKER), _MAX_HEADER)
    try:
        header = json.loads(data[len(_MARKER) : end])
        found, sha256, build_s = dict(header["identity"]), str(header["sha256"]), float(header["build_s"])
    except (ValueError, TypeError, KeyError):
        return Refused(path, "its header is damaged")
    for key in sorted({*identity, *found}):
        if found.get(key) != identity.get(key):
            return Refused(path, f"it was built for {key} '{found.get(key)}', here it is '{identity.get(key)}'")
    plan = data[end + 1 :]
    if hashlib.sha256(plan).hexdigest() != sha256:
        return Refused(path, "its content is damaged")
    return Kept(path, plan, build_s)


def store(path: Path, identity: Mapping[str, str], plan: bytes, build_s: float) -> None:
    """Write the plan and its header, all or nothing.

    Raises:
        OSError: no space, or no right to write.
    """
    header = {"identity": dict(identity), "sha256": hashlib.sha256(plan).hexdigest(), "build_s": build_s}
    write_whole(path, _MARKER + json.dumps(header, sort_keys=True).encode() + b"\n" + plan)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place, bring it to the disk, rename it into its place.

    Raises:
        OSError: no space, or no right to write.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def hash_model(path: Path) -> str:
    """SHA-256 over the model file and the other files of its folder (external data), by name and content."""
    digest = hashlib.sha256()
    for item in sorted(path.parent.iterdir()):
        if item.is_file():
            content = hashlib.sha256()
            with item.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    content.update(chunk)
            digest.update(f"{item.name} {content.hexdigest()}\n".encode())
    return digest.hexdigest()
