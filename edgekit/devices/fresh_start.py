"""Whether engines start where a bundle's self-test will start them, looked at before anything is built for them.

The self-test is a new process of this interpreter. It has the bundle's copy of an engine's adapter and the environment
(PYTHONPATH), and nothing else of this process: an engine that is found here because `sys.path` was changed by hand, or
an adapter with a part that no bundle holds, is found out here and not after the work.

Where the adapter is edgekit's own and this process has loaded nothing but from where a new one looks (a command has, a
notebook has not), this process shows it already.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import plugins
from ..bundle.manifest import MANIFEST
from ..bundle.read import hash_file
from ..bundle.write import place_runner
from ..errors import EngineError, signal_name
from ..tempdir import work_folder

LIMIT_S = 120.0
"""A first import from a cold disk takes half a minute; what takes longer than this does not come."""
_LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import run
del sys.path[0]
try:
    run._floor("measure.engines").load_runtime(sys.argv[2]).version()
except run._floor("errors").EdgekitError as error:
    print(json.dumps([error.what, error.fix]))
    sys.exit(6)
"""
_HINT = "What it needs must be installed, or be on PYTHONPATH: a changed sys.path does not reach it."

_PACKAGE = __name__.partition(".")[0]
_MAIN = ("__main__", "__mp_main__")

_started: set[tuple[str, ...]] = set()
"""What has started from this process: to look once is enough."""


@contextmanager
def fresh_starts(runtimes: Iterable[str]) -> Iterator[dict[str, EngineError]]:
    """Start each engine in a new process, beside what the ``with`` block does.

    Args:
        runtimes: names of runtimes that this process can use.

    Yields:
        Runtime → why it does not start; it is filled when the block ends.
    """
    failed: dict[str, EngineError] = {}
    new = {name: key for name in dict.fromkeys(runtimes) if (key := _key(name)) not in _started}
    if new and not _foreign():
        new = {name: key for name, key in new.items() if not _is_ours(plugins.load("runtimes", name))}
    if not new:
        yield failed
        return
    with work_folder() as folder:
        started = {name: _start(name, folder / name) for name in new}
        try:
            yield failed
            for name, process in started.items():
                error = process if isinstance(process, EngineError) else _outcome(name, process)
                if error is None:
                    _started.add(new[name])
                else:
                    failed[name] = error
        finally:
            for process in started.values():
                if not isinstance(process, EngineError):
                    _end(process)


def _key(runtime: str) -> tuple[str, ...]:
    adapter = plugins.load("runtimes", runtime)
    path = os.environ.get("PYTHONPATH", "")  # may be relative to the folder
    return runtime, adapter.__module__, sys.executable, path, os.getcwd() if path else ""  # noqa: PTH109


def _is_ours(adapter: Any) -> bool:
    return str(adapter.__module__).startswith(f"{_PACKAGE}.")


def _foreign() -> list[str]:
    """Modules, other than edgekit's, that this process has from where a new one would not look."""
    looked = _search_path()
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and name not in _MAIN and name.partition(".")[0] != _PACKAGE:
            path = os.path.abspath(file)  # noqa: PTH100 - thousands of them, and links are to stay
            if not path.startswith(looked):
                found.append(name)
    return found


def _search_path() -> tuple[str, ...]:
    """The folders in which a new process of this interpreter looks, each with a separator at its end."""
    sites = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    lines = [line.strip() for item in sites for file in Path(item).glob("*.pth") for line in _lines(file)]
    stated = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    folders = [*own, *sites, *stated, *(line for line in lines if Path(line).is_absolute())]
    return tuple(os.path.join(os.path.abspath(item), "") for item in folders)  # noqa: PTH100, PTH118


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _start(runtime: str, folder: Path) -> subprocess.Popen[str] | EngineError:
    """The process, with the code of a bundle in ``folder``; or why there is none to be had."""
    adapter: Any = plugins.load("runtimes", runtime)
    source = getattr(sys.modules[adapter.__module__], "__file__", None)
    if source is None or not Path(source).is_file():
        return EngineError(f"the adapter of runtime '{runtime}' is in no file that a bundle could hold")
    folder.mkdir()
    place_runner(folder, Path(source), adapter.__qualname__, runtime)
    code = sorted(path for path in (folder / "runtime").rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): {"sha256": hash_file(path).sha256} for path in code}
    (folder / MANIFEST).write_text(json.dumps({"files": files}), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _LOOK, str(folder), runtime],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


def _outcome(runtime: str, process: subprocess.Popen[str]) -> EngineError | None:
    where = "in a new process, as the bundle's self-test is one"
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return EngineError(f"runtime '{runtime}' does not start within {LIMIT_S:g} s {where}", fix=_HINT)
    if process.returncode == 0:
        return None
    if process.returncode == EngineError.exit_code:
        with suppress(ValueError, IndexError):
            what, fix = json.loads(out.splitlines()[-1])
            return EngineError(f"{what} {where}", fix=" ".join(filter(None, (_HINT, fix))))
    words = err.strip().splitlines()
    last = words[-1].strip().rstrip(".") if words else f"exit code {process.returncode}"
    if process.returncode < 0:
        last = f"it was killed by {signal_name(-process.returncode)}"
    return EngineError(f"runtime '{runtime}' does not start {where}: {last}", fix=_HINT)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()
