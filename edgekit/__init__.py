"""edgekit takes a model from PyTorch to a device, and proves what it does there.

The Python API is loaded on first use, so that ``import edgekit`` costs nothing:

>>> import edgekit
>>> result = edgekit.export("net.py:build", target="cpu")        # doctest: +SKIP
>>> bundle = edgekit.open_bundle(result.bundle)                   # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .version import __version__

__all__ = ["__version__", "bench", "compare", "evaluate", "export", "inspect", "open_bundle"]

if TYPE_CHECKING:
    from .api.bench import bench as bench
    from .api.compare import compare as compare
    from .api.evaluate import evaluate as evaluate
    from .api.export import export as export
    from .api.inspect import inspect as inspect
    from .bundle import open_bundle as open_bundle

_API = {
    "bench": ".api.bench",
    "compare": ".api.compare",
    "evaluate": ".api.evaluate",
    "export": ".api.export",
    "inspect": ".api.inspect",
    "open_bundle": ".bundle",
}


def __getattr__(name: str) -> object:
    """Import a function of the API when it is first asked for (PEP 562)."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_API[name], __name__), name)


# In a clone, `exporters/ runtimes/ targets/ examples/` lie beside this package, not in it (pyproject maps them in).
# Python started in the clone's root finds this folder before an installed edgekit, so let it see them there.
_clone = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "runtimes").is_dir() and (_clone / "pyproject.toml").is_file():
    __path__.append(str(_clone))
