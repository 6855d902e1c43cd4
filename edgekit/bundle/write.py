"""Write a bundle: put together out of sight, flushed to the disk, then renamed into place as a whole."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..contracts import Feeds, Outputs, Tolerance
from ..errors import BundleError, OutputError, TakenError
from ..measure import npz
from ..measure.engines import runtimes_folder
from ..tempdir import move_beside, put_new, replace_folder, work_folder, writing
from .manifest import LAYERS, MANIFEST, STATE, FileRecord, Manifest, refuse_unsafe_name
from .read import Bundle, hash_file, open_folder
from .relative import adapters_imported, with_relative_imports

MAX_GOLDEN_SAMPLES = 8
MAX_GOLDEN_BYTES = 16 * 2**20
"""Golden samples beyond this are left out, all but the first."""

# The device floor: what a device needs to run, check and measure a bundle. The engines' adapters come on top.
_FLOOR = (
    "__init__.py",
    "contracts.py",
    "errors.py",
    "facts.py",
    "version.py",
    "bundle/__init__.py",
    "bundle/feeds.py",
    "bundle/manifest.py",
    "bundle/open.py",
    "bundle/read.py",
    "measure/*.py",
)
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, slots=True)
class GoldenStream:
    """The first steps of a model with memory, each side with its own state."""

    steps: Sequence[tuple[Feeds, Outputs]]  # frames without the state, each with PyTorch's outputs that are none
    tolerance: Tolerance  # what the self-test holds them to
    initial: Feeds  # the state before the first, by the inputs' names; what is zero is left out


def write_bundle(
    destination: Path,
    *,
    manifest: Manifest,
    model_dir: Path,
    golden: Sequence[tuple[Feeds, Outputs]],
    golden_tolerance: Tolerance,
    stream: GoldenStream | None = None,
    readme: str,
    runtime_module_file: Path,
    runtime_class: str = "PLUGIN",
    substitute_module_file: Path | None = None,
    layers: bytes | None = None,
    app: Mapping[str, Path] | None = None,
    overwrite: bool = False,
    check: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Write the bundle's folder ``destination``: all of it, or nothing.

    Args:
        destination: the bundle's folder; must not exist, or be a bundle and ``overwrite`` be set.
        manifest: everything but what only this function knows: ``files`` and the golden samples' number and tolerance.
        model_dir: the artifact's folder, which becomes ``model/``; its files are hard-linked where that is possible.
        golden: real inputs, each with PyTorch's outputs; the first ones that fit `MAX_GOLDEN_BYTES` are taken.
        golden_tolerance: what the self-test holds them to.
        stream: of a model with memory; the first steps that fit `MAX_GOLDEN_BYTES` are taken.
        readme: the text of README.md.
        runtime_module_file: the source file of the engine's adapter.
        runtime_class: the adapter's name in it; in the bundle it is called ``PLUGIN`` as well.
        substitute_module_file: that of the adapter in ``manifest.checked_with``, which calls it ``PLUGIN``.
        layers: the content of layers.json (`edgekit.analysis.layers`), by which a profile is mapped back to the graph.
        app: glue for apps: path in the bundle → the file to copy there.
        overwrite: replace a bundle that is there.
        check: called with the finished bundle before it is put in place; what it raises ends the writing.

    Raises:
        OutputError: the destination is taken, or cannot be written (read-only, no space left).
        TakenError: it was taken while this ran: the bundle is whole, and kept beside it.
        BundleError: a file name that no bundle may hold.
    """
    refuse_destination(destination, overwrite)
    with work_folder(beside=destination) as workplace:
        folder = workplace / "bundle"
        with writing(destination):
            folder.mkdir()
            place_files(model_dir, folder / "model")
            samples = _write_golden(golden, folder / "golden")
            steps = 0
            if stream is not None:
                steps = _write_golden(stream.steps, folder / "golden" / "stream")
                if stream.initial:
                    (folder / STATE).write_bytes(npz.dump(stream.initial))
            place_runner(folder, runtime_module_file, runtime_class, manifest.runtime.name)
            if substitute_module_file is not None and manifest.checked_with is not None:
                place = folder / "runtime" / "edgekit" / "runtimes" / f"{manifest.checked_with.name}.py"
                _place_code(substitute_module_file, place, 1)
            (folder / "README.md").write_text(readme, encoding="utf-8")
            if layers is not None:
                (folder / LAYERS).write_bytes(layers)
            for name, source in (app or {}).items():
                _place(source, folder / name)
            complete = dataclasses.replace(
                manifest,
                golden_tolerance=golden_tolerance,
                golden_samples=samples,
                golden_steps=steps,
                golden_steps_tolerance=Tolerance() if stream is None else stream.tolerance,
                files=_hash_files(folder),
            )
            (folder / MANIFEST).write_bytes(complete.dumps())
            _flush(folder)
        with open_folder(folder, verify=False) as bundle:  # what was written can be read
            if check is not None:
                check(bundle)
        put_in_place(folder, destination, overwrite)
        with writing(destination):
            _flush_folder(destination.absolute().parent)
    return open_folder(destination, verify=False)


def put_in_place(folder: Path, destination: Path, overwrite: bool) -> None:
    """Rename a finished bundle to ``destination``; beside it, where that was taken since the work began.

    Raises:
        TakenError: something is there that may not be replaced; the bundle is kept beside it.
        OutputError: it cannot be renamed.
    """
    taken = f"'{destination}' exists"
    try:
        refuse_destination(destination, overwrite)
    except OutputError as error:
        if not os.path.lexists(destination):
            raise
        taken = error.what
    else:
        if overwrite:
            replace_folder(folder, destination)
            return
        with writing(destination):
            if put_new(folder, destination):
                return
    kept = move_beside(folder, destination, ".edgekit")
    raise TakenError(
        f"{taken}: it was made while this was at work, whose bundle is kept as '{kept}'",
        kept=kept,
        fix="Keep either, or rename them.",
    )


def refuse_destination(destination: Path, overwrite: bool) -> None:
    """Refuse a place where no bundle may be written.

    Raises:
        OutputError: something is there and may not be replaced, or the folder above is missing.
    """
    if not destination.absolute().parent.is_dir():
        raise OutputError(f"cannot write '{destination}': its folder does not exist", fix="Create it first.")
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or not destination.is_dir() or not _is_bundle(destination):
        raise OutputError(f"'{destination}' exists and is not a bundle", fix="Choose another name with -o.")
    if not overwrite:
        raise OutputError(f"'{destination}' exists", fix="Choose another name with -o, or add --overwrite.")


def _is_bundle(folder: Path) -> bool:
    try:
        with open_folder(folder, verify=False):
            return True
    except BundleError:
        return False


def place_files(source: Path, folder: Path) -> None:
    """Link the files under ``source`` into ``folder``, or copy them where links are impossible or would stay links."""
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(path, target)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write_golden(golden: Sequence[tuple[Feeds, Outputs]], folder: Path) -> int:
    folder.mkdir()
    written = total = 0
    for feeds, outputs in golden[:MAX_GOLDEN_SAMPLES]:
        inputs, expected = npz.dump(feeds), npz.dump(outputs)
        total += len(inputs) + len(expected)
        if written and total > MAX_GOLDEN_BYTES:
            break
        (folder / f"{written}.inputs.npz").write_bytes(inputs)
        (folder / f"{written}.outputs.npz").write_bytes(expected)
        written += 1
    return written


def place_runner(folder: Path, runtime_file: Path, runtime_class: str, runtime: str) -> None:
    """What runs a model in ``folder``: run.py, and the device floor with the engine's adapter."""
    vendor_floor(folder / "runtime" / "edgekit", runtime_file, runtime_class, runtime)
    shutil.copyfile(Path(__file__).with_name("run.py"), folder / "run.py")


def vendor_floor(folder: Path, runtime_file: Path, runtime_class: str, runtime: str) -> None:
    """Copy the device floor with the one adapter, the null runtime, and the helpers that lie beside them.

    What an adapter alone needs, code or not, lies in the folder of its name with an underscore before it. One that
    builds on an adapter of ours, itself or in a helper, brings that along.
    """
    for source in (path for pattern in _FLOOR for path in sorted(_PACKAGE.glob(pattern))):
        _place(source, folder / source.relative_to(_PACKAGE))
    own = runtimes_folder()
    adapters = folder / "runtimes"
    adapters.mkdir()
    for path in (own / "__init__.py", own / "null.py", *own.glob("_*.py"), *runtime_file.parent.glob("_[!_]*.py")):
        _place_code(path, adapters / path.name, 1)
    _place_parts(runtime_file, adapters)
    text = runtime_file.read_text("utf-8")
    helpers = (*runtime_file.parent.glob("_[!_]*.py"), *runtime_file.with_name(f"_{runtime_file.stem}").rglob("*.py"))
    imported = (adapters_imported(item) for item in (text, *(path.read_text("utf-8") for path in helpers)))
    for base in sorted(set().union(*imported)):
        if (own / f"{base}.py").is_file():
            _place_code(own / f"{base}.py", adapters / f"{base}.py", 1)
            _place_parts(own / f"{base}.py", adapters)
    code = with_relative_imports(text, 1)
    if not re.search(r"^PLUGIN\b", code, flags=re.MULTILINE):  # its entry point names the class itself
        code += f"\n\nPLUGIN = {runtime_class}\n"
    (adapters / f"{runtime}.py").write_text(code, "utf-8")


def _place_parts(adapter: Path, adapters: Path) -> None:
    """Copy the folder of what an adapter alone needs, where it has one."""
    parts = adapter.with_name(f"_{adapter.stem}")
    for path in sorted(parts.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            inside = path.relative_to(parts.parent)
            if path.suffix == ".py":
                _place_code(path, adapters / inside, len(inside.parts))
            else:
                _place(path, adapters / inside)


def _place_code(source: Path, target: Path, depth: int) -> None:
    """Copy a module that may import ``edgekit`` by its installed name; ``depth``: see `with_relative_imports`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(with_relative_imports(source.read_text("utf-8"), depth), "utf-8")


def _hash_files(folder: Path) -> dict[str, FileRecord]:
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in paths:
        refuse_unsafe_name(name)
    return {name: hash_file(path) for name, path in paths.items()}


def _flush(folder: Path) -> None:
    """Bring every file and folder to the disk, so that a rename never precedes the content."""
    for parent, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _flush_folder(Path(parent))


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # folders cannot be opened elsewhere
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
