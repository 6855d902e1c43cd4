"""Find the adapter of an engine, in an installed edgekit and in a bundle alike, and what is installed for it."""

from __future__ import annotations

from importlib import import_module, metadata
from pathlib import Path

from ..contracts import Runtime
from ..errors import EngineError

_ROOT = __package__.rpartition(".")[0]  # "edgekit", or the private name a bundle loads this floor under


def load_runtime(reference: str) -> Runtime:
    """The adapter ``reference`` stands for.

    Args:
        reference: the name of a module of this package's ``runtimes`` (``"onnxruntime"``), or, for one that came in by
            an entry point, ``"package.module:Class"``.

    Raises:
        EngineError: there is none of that name.
    """
    module_name, _, attribute = reference.partition(":")
    if not attribute:
        if not reference.isidentifier() or reference.startswith("_"):
            raise EngineError(f"'{reference}' is not the name of a runtime")
        module_name, attribute = f"{_ROOT}.runtimes.{reference}", "PLUGIN"
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise EngineError(f"runtime '{reference}' is not available here: there is no module {module_name}") from error
    runtime: Runtime = getattr(module, attribute)()
    return runtime


def runtimes_folder() -> Path:
    """Where the source files of this package's own adapters lie."""
    return Path(str(import_module(f"{_ROOT}.runtimes").__file__)).parent


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, as pip names it (``onnxruntime-gpu``), without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
