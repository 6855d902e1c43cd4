"""``edgekit evaluate``: accuracy of a bundle through the target's own engine."""

from __future__ import annotations

from typing import Any

import click

from .console import Console
from .options import define, input_options, reference_option

EXAMPLE = """
edgekit evaluate build.edgekit --data test.npz --metric top1
edgekit evaluate build.edgekit --data unlabelled.npz --metric cosine --source net.py:build
edgekit evaluate build.edgekit --data ./images --preprocess imagenet --metric top5 --json
"""


@define("evaluate", example=EXAMPLE, keeps=True)
@click.argument("bundle")
@click.option("--data", required=True, metavar="D", help="Samples: .npz, an image folder, or file.py:factory.")
@click.option(
    "--metric",
    required=True,
    metavar="M",
    help="On labels: top1, top5, auc, map. On labels where there are any, else against --source: f1, miou, mse, mae, "
    "r2, wer. Against --source: agreement, cosine, sqnr_db, detections. Or file.py:function.",
)
@click.option("--ignore-labels", is_flag=True, help="Use the data as if they had no labels.")
@click.option("--source", metavar="SOURCE", help="The model it was made from, run on the same samples to compare with.")
@reference_option
@input_options
@click.option("--task", metavar="T", help="The Hugging Face task of --source, where its folder does not tell.")
@click.option("--preprocess", metavar="P", help="How an image folder becomes input arrays.")
@click.option(
    "--samples", type=click.IntRange(min=1), metavar="N", help="At most so many, evenly strided. Default: all."
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Instead of the measured session option.")
@click.option("--device", default="local", show_default=True, metavar="URL", help="Where to run.")
def command(console: Console, bundle: str, data: str, metric: str, **options: Any) -> None:
    """Measure a bundle's accuracy through the target's own engine.

    Compared with --source on the same samples, or else with what export recorded, where that was for the same metric
    on the same samples.
    """
    from ..api.evaluate import evaluate
    from ..report.bench import evaluate_text

    value = console.keep("evaluate", evaluate(bundle, data, metric, progress=console.progress, **options).to_json(), {})
    console.show(value, lambda: evaluate_text(value, console.colour, console.width))
