"""``edgekit bundle``: verify, run, pack, unpack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError, OutputError
from .console import Console
from .group import Group
from .options import define

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..contracts import Outputs

VERIFY_EXAMPLE = """
edgekit bundle verify build.edgekit
"""
RUN_EXAMPLE = """
edgekit bundle run build.edgekit
edgekit bundle run build.edgekit --data images.npz -o logits.npz
"""
PACK_EXAMPLE = """
edgekit bundle pack build.edgekit -o build.edgekit.zip
"""
UNPACK_EXAMPLE = """
edgekit bundle unpack build.edgekit.zip
"""


@click.group("bundle", cls=Group)
def command() -> None:
    """Verify, run, pack or unpack a bundle."""


@define("verify", example=VERIFY_EXAMPLE, group=command)
@click.argument("path")
def verify(console: Console, path: str) -> None:
    """Check that a bundle is whole: every file there with its hash, no link, nothing else.

    The exit code is 7 where it is not. PATH is its folder or its .edgekit.zip.
    """
    from ..bundle import open_bundle
    from ..report.bundle import bundle_text

    with console.progress.stage(f"verify {path}"), open_bundle(path) as bundle:
        value = _facts(bundle)
    console.show(value, lambda: bundle_text(value, "intact"))


@define("run", example=RUN_EXAMPLE, group=command)
@click.argument("path")
@click.option("--data", metavar="D", help="Samples to run: an .npz, or what else export's --data takes.")
@click.option("-o", "--output", metavar="FILE", help="Where to write the outputs, as .npz. Only with --data.")
@click.option("--preprocess", metavar="P", help="How an image folder becomes input arrays.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Instead of the measured session option.")
def run(
    console: Console, path: str, data: str | None, output: str | None, preprocess: str | None, threads: int | None
) -> None:
    """Run a bundle on data; without data, on its golden inputs against PyTorch's outputs (exit 4 on a miss)."""
    from ..bundle import open_bundle

    if output is not None and data is None:
        raise click.UsageError("-o is for the outputs of --data, which is not given")
    overrides = {} if threads is None else {"threads": threads}
    with open_bundle(path) as bundle:
        if data is None:
            _self_test(console, bundle, overrides)
        else:
            _run_on_data(console, bundle, data, output, preprocess, overrides)


@define("pack", example=PACK_EXAMPLE, group=command)
@click.argument("path")
@click.option("-o", "--output", metavar="FILE", help="The zip file. Default: PATH.zip.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def pack(console: Console, path: str, output: str | None, overwrite: bool) -> None:
    """Pack a bundle's folder into one .edgekit.zip; equal bundles give equal bytes."""
    from ..bundle import pack as pack_bundle
    from ..units import size

    with console.progress.stage(f"pack {path}"):
        packed = pack_bundle(path, Path(output) if output else None, overwrite=overwrite)
    size_bytes = packed.stat().st_size
    value = {"schema": 1, "bundle": path, "packed": str(packed), "size_bytes": size_bytes}
    console.show(value, lambda: f"{packed}   {size(size_bytes)}")


@define("unpack", example=UNPACK_EXAMPLE, group=command)
@click.argument("path")
@click.option("-o", "--output", metavar="DIR", help="The bundle's folder. Default: PATH without .zip.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
def unpack(console: Console, path: str, output: str | None, overwrite: bool) -> None:
    """Unpack a .edgekit.zip, checked whole before it appears."""
    from ..bundle import unpack as unpack_bundle
    from ..report.bundle import bundle_text

    with (
        console.progress.stage(f"unpack {path}"),
        unpack_bundle(path, Path(output) if output else None, overwrite=overwrite) as bundle,
    ):
        value = _facts(bundle)
    console.show(value, lambda: bundle_text(value, "unpacked"))


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "schema": 1,
        "bundle": str(bundle.path),
        "sha256": bundle.sha256,
        "files": len(manifest.files),
        "size_bytes": bundle.size_bytes,
        "model_bytes": bundle.model_bytes,
        "target": manifest.target,
        "precision": manifest.precision,
        "runtime": {
            "name": manifest.runtime.name,
            "version": manifest.runtime.version,
            "options": dict(manifest.runtime.options),
        },
    }


def _self_test(console: Console, bundle: Bundle, overrides: dict[str, Any]) -> None:
    from ..report.bundle import self_test_text

    with console.progress.stage("self-test"):
        test = bundle.self_test(**overrides)
    parity = test.parity
    value = {
        "schema": 1,
        "bundle": str(bundle.path),
        "passed": test.passed,
        "misses": list(test.misses),
        "parity": {
            "max_abs": parity.max_abs,
            "rel_l2": parity.rel_l2,
            "sqnr_db": parity.sqnr_db,
            "part_db": parity.part_db,
            "worst": parity.worst.told() if parity.worst else "",
            "samples": parity.samples,
            "tolerance": bundle.manifest.golden_tolerance.to_json(),
        },
        "stream": None
        if test.stream is None
        else {
            "sqnr_db": test.stream.sqnr_db,
            "steps": test.stream.samples,
            "tolerance": bundle.manifest.golden_steps_tolerance.to_json(),
        },
        "runtime": {"name": bundle.manifest.runtime.name, "version": test.engine_version},
    }
    console.show(value, lambda: self_test_text(test, bundle.manifest))
    if not test.passed:
        console.complain(f"the self-test of '{bundle.path}' is missed: {'; '.join(test.misses)}")
        raise click.exceptions.Exit(4)


def _run_on_data(
    console: Console,
    bundle: Bundle,
    data: str,
    output: str | None,
    preprocess: str | None,
    overrides: dict[str, Any],
) -> None:
    from ..data.load import load_data
    from ..measure.stream import frame_inputs, has_state, without_state
    from ..report.bundle import outputs_text

    if output is not None and not Path(output).absolute().parent.is_dir():
        raise OutputError(f"the folder of '{output}' does not exist", fix="Create it, or choose another -o.")
    state = bundle.manifest.state
    inputs, optional = frame_inputs(bundle.manifest.inputs, state)
    dataset = load_data(data, inputs, preprocess=preprocess, optional=optional)
    streamed = bool(state) and not has_state(next(dataset.feeds()), state)  # frames alone are a stream
    found: list[Outputs] = []
    with console.progress.stage(f"run {bundle.path}"), bundle.session(**overrides) as model:
        run = model.stream().run if streamed else model.run
        for index, feeds in enumerate(dataset.feeds()):
            found.append(run(without_state(feeds, state) if streamed else feeds))
            console.progress.step(index + 1, len(dataset))
    outputs = _joined(found)
    if output is not None:
        _save(Path(output), outputs)
    value = {
        "schema": 1,
        "bundle": str(bundle.path),
        "samples": len(found),
        "streamed": streamed,
        "output": output,
        "outputs": {name: {"dtype": item.dtype.name, "shape": list(item.shape)} for name, item in outputs.items()},
    }
    console.show(value, lambda: outputs_text(outputs, len(found), output, streamed))


def _joined(found: list[Outputs]) -> Outputs:
    """The samples' outputs under each other, as the data held the samples: N of [1, …] → [N, …].

    Raises:
        DataError: outputs of different shapes, which one array cannot hold.
    """
    import numpy as np

    joined: Outputs = {}
    for name in found[0]:
        arrays = [item[name] for item in found]
        first = arrays[0]
        if len(arrays) == 1:
            joined[name] = first
        elif any(item.shape[1:] != first.shape[1:] for item in arrays):
            raise DataError(
                f"output '{name}' has different shapes from sample to sample: {first.shape} and others",
                fix="Run samples of one shape at a time.",
            )
        else:
            joined[name] = np.concatenate(arrays) if first.ndim else np.stack(arrays)
    return joined


def _save(path: Path, outputs: Outputs) -> None:
    """Write all or nothing."""
    from ..measure.npz import dump

    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(dump(outputs))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
