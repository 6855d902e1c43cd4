"""Check, measure and run the model of this folder. Needs Python 3.10, numpy and the model's engine; nothing else.

    python run.py                       self-test: the golden inputs against the reference's outputs for them
    python run.py test --substitute     the same in the runtime that checked it where its engine could not run
    python run.py bench                 latency on this machine (--json, --threads, --seconds, --processes)
    python run.py worker                serve a host over standard input and output

In your own program, with this folder on the import path:

    from run import load

    with load() as model:
        outputs = model.run({"image": image})

The code that runs and measures lies in runtime/. It is loaded under a name made of this bundle's hash, so it meets
neither an installed edgekit nor another bundle in the same program. The same lines load a second bundle, whose folder
was put on the import path after this one's.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent


def load(*, verify: bool = True, **options: Any) -> Any:
    """Open the model in its engine.

    Args:
        verify: check the hash of every file first; False is faster for a large model.
        options: session options to change from those that were measured: ``threads=2``.

    Returns:
        An object with ``run({name: array}) -> {name: array}``, ``inputs``, ``outputs``, ``placement()``, ``close()``;
        a context manager.
    """
    return _floor("bundle").open_bundle(HERE, verify=verify).session(**options)


def main() -> int:
    """The command line. Returns the exit code: 0 passed, 4 self-test missed, 6 engine missing, 7 bundle damaged."""
    _prepare_streams()
    parser = argparse.ArgumentParser(prog="run.py", description="Check, measure and run the model of this folder.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    test = commands.add_parser("test", help="compare with the reference on the golden inputs (default)")
    test.add_argument("--substitute", action="store_true", help="in the runtime that stood in for the engine at export")
    bench = commands.add_parser("bench", help="measure the latency on this machine")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument("--threads", type=int, help="instead of the measured session option")
    bench.add_argument("--precision", type=float, default=0.02, help="stop when p50 is known to ± this (default: 0.02)")
    bench.add_argument("--max-time", type=float, default=60.0, help="stop after so many seconds (default: 60)")
    bench.add_argument("--processes", type=int, default=5, help="fresh processes to measure in, at least (default: 5)")
    bench.add_argument("--seconds", type=float, help="instead: so long, in exactly so many processes")
    bench.add_argument("--profile", action="store_true", help="also time each layer")
    bench.add_argument("--cores", help="keep the processes on these cores: 0,2-3")
    bench.add_argument("--nice", type=int, help="their priority, -20 (first) to 19")
    commands.add_parser("worker", help="serve a host over standard input and output")
    arguments = parser.parse_args()
    try:
        if arguments.command == "worker":
            _floor("measure.worker").main()
        if arguments.command == "bench":
            return _bench(arguments)
        return _self_test(getattr(arguments, "substitute", False))
    except OSError as error:  # this machine's: no permission, no space, no file; the code is whole
        where = f": '{error.filename}'" if error.filename else ""
        print(f"run.py: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except Exception as error:
        if not isinstance(error, _DamagedError) and not isinstance(error, _floor("errors").EdgekitError):
            raise
        print(f"run.py: {error}", file=sys.stderr)
        return int(error.exit_code)


def _self_test(substitute: bool) -> int:
    with _floor("bundle").open_bundle(HERE) as bundle:
        result = bundle.self_test(substitute=substitute)
        use, other = bundle.manifest.runtime, bundle.manifest.checked_with
        reference = bundle.manifest.reference
    engine = f"{use.name} {result.engine_version}"
    if substitute:
        engine = f"{other.name} {result.engine_version}, in place of {use.name}"
    elif use.version and result.engine_version != use.version:
        engine += f" (measured with {use.version})"
    if not result.passed:
        _say(f"self-test FAILED on {engine}: {'; '.join(result.misses)}")
        return 4
    parity, stream = result.parity, result.stream
    streamed = f", {stream.sqnr_db:.1f} dB over a stream of {stream.samples} steps" if stream is not None else ""
    found = f"{parity.told()} to {reference}{streamed}"
    _say(f"self-test passed on {engine}: {parity.samples} golden inputs, {found}")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    benchmark = _floor("measure.benchmark")
    with _floor("bundle").open_bundle(HERE) as bundle:
        command = [sys.executable, str(HERE / "run.py"), "worker"]
        overrides = {} if arguments.threads is None else {"threads": arguments.threads}
        measured = benchmark.benchmark_bundle(
            bundle,
            lambda *opening: _floor("measure.client").Worker(command, *opening),
            runtime=bundle.manifest.runtime.name,
            options=bundle.options(**overrides),
            plan=_floor("measure.sampling").Plan(
                precision=arguments.precision,
                max_time_s=arguments.max_time,
                processes=arguments.processes,
                seconds=arguments.seconds,
            ),
            profile=arguments.profile,
            cores=None if arguments.cores is None else _floor("measure.affinity").parse_cores(arguments.cores),
            nice=arguments.nice,
        )
        device = _floor("measure.here").describe()
        result = benchmark.to_json(
            str(HERE), bundle.model_bytes, measured, device=device, samples=None, arch=bundle.manifest.arch
        )
    _say(benchmark.dumps(result) if arguments.json else benchmark.to_text(result))
    return 0


def _prepare_streams() -> None:
    """Streams that were closed become the null device; a character that the locale lacks is escaped, no error."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        if mode == "w":
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python's own exit would fail once more
        raise OSError(error.errno, f"cannot write to standard output: {error.strerror}") from error


def _floor(module: str) -> Any:
    """A module of runtime/edgekit, which is imported under this bundle's own name."""
    try:
        data = (HERE / "manifest.json").read_bytes()
    except OSError as error:
        raise _DamagedError(f"'{HERE}' is not a whole bundle: manifest.json: {error.strerror}") from error
    name = f"_edgekit_{sha256(data).hexdigest()[:16]}"
    if name not in sys.modules:
        _check_code(data)
        folder = HERE / "runtime" / "edgekit"
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{name}.{module}")


def _check_code(manifest: bytes) -> None:
    """Every file of runtime/ against its hash in the manifest, before any of it runs."""
    try:
        listed = json.loads(manifest)["files"]
        wanted = {name: record["sha256"] for name, record in listed.items() if name.startswith("runtime/")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"manifest.json in '{HERE}' is damaged: {error}") from error
    found = {}
    for parent, folders, files in os.walk(HERE / "runtime"):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for path in (Path(parent, name) for name in files):
            found[path.relative_to(HERE).as_posix()] = path
    for name in sorted({*wanted, *found}):
        if name not in found or name not in wanted:
            raise _DamagedError(f"'{name}' in '{HERE}' is {'missing' if name in wanted else 'not in manifest.json'}")
        if sha256(found[name].read_bytes()).hexdigest() != wanted[name]:
            raise _DamagedError(f"'{name}' in '{HERE}' is damaged: its SHA-256 is not the manifest's")


class _DamagedError(Exception):
    """The code of this bundle is not what was exported: nothing of it was run."""

    exit_code = 7


class _Run(ModuleType):
    """This module, imported as ``run``: Python forgets it as soon as ``load`` was taken from it.

    So ``from run import load`` means the bundle that is first on the import path now, every time it is written.
    """

    def __getattribute__(self, name: str) -> Any:
        if name == "load" and sys.modules.get("run") is self:
            del sys.modules["run"]
        return super().__getattribute__(name)


if __name__ == "run":
    sys.modules[__name__].__class__ = _Run
if __name__ == "__main__":
    sys.dont_write_bytecode = True  # leave the bundle as it is
    sys.path[:] = [item for item in sys.path if Path(item or ".").resolve() != HERE]  # only runtime/ is ours to import
    if sys.version_info < (3, 10):  # noqa: UP036 - whoever runs a bundle has installed nothing that would say so
        sys.exit(f"run.py needs Python 3.10 or later, this is {sys.version.split()[0]}")
    if importlib.util.find_spec("numpy") is None:
        sys.exit("run.py: numpy is not installed. Install it: pip install numpy")
    sys.exit(main())
