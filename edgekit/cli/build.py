"""``edgekit build``: what a bundle's engine builds on its device, built now."""

from __future__ import annotations

import click

from .console import Console
from .options import define

EXAMPLE = """
edgekit build net.edgekit --device ssh://jetson
edgekit build net.edgekit --device ssh://jetson --json
"""


@define("build", example=EXAMPLE)
@click.argument("bundle")
@click.option("--device", default="local", show_default=True, metavar="URL", help="Where to build it.")
def command(console: Console, bundle: str, device: str) -> None:
    """Build on the device what a bundle's engine runs (a TensorRT plan), and keep it there.

    The bundle's own runner does it, as it would at first start, with progress. The plan is kept in the device's
    ~/.cache/edgekit/tensorrt, and built anew where the GPU, the driver, TensorRT or the model has changed.
    """
    from ..api.build import build
    from ..report.build import build_text

    result = build(bundle, device, progress=console.progress)
    value = result.to_json()
    console.show(value, lambda: build_text(value, console.colour, console.width))
    where = "" if device == "local" else f" --device {device}"
    console.hint(f"Next: edgekit bench {bundle}{where}")
