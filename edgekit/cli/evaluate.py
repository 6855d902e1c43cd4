"""``edgekit evaluate``: accuracy of a bundle through the target's own engine."""

from __future__ import annotations

import click

from .console import Console
from .options import define

EXAMPLE = """
edgekit evaluate build.edgekit --data test.npz --metric top1
edgekit evaluate build.edgekit --data ./images --preprocess imagenet --metric top5 --json
"""


@define("evaluate", example=EXAMPLE)
@click.argument("bundle")
@click.option(
    "--data", required=True, metavar="D", help="Samples with labels: .npz, an image folder, or file.py:factory."
)
@click.option("--metric", required=True, metavar="M", help="top1, top5, mse, …, or file.py:function.")
@click.option("--preprocess", metavar="P", help="How an image folder becomes input arrays.")
@click.option(
    "--samples", type=click.IntRange(min=1), metavar="N", help="At most so many, evenly strided. Default: all."
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Instead of the measured session option.")
def command(
    console: Console,
    bundle: str,
    data: str,
    metric: str,
    preprocess: str | None,
    samples: int | None,
    threads: int | None,
) -> None:
    """Measure a bundle's accuracy through the target's own engine."""
    from ..evaluate import evaluate
    from ..report.bench import evaluate_text

    result = evaluate(
        bundle,
        data=data,
        metric=metric,
        preprocess=preprocess,
        samples=samples,
        threads=threads,
        progress=console.progress,
    )
    value = result.to_json()
    console.show(value, lambda: evaluate_text(value, console.colour, console.width))
