"""``edgekit export``: source → bundle."""

from __future__ import annotations

from typing import Any

import click

from .console import Console
from .options import define, input_options, range_option, reference_option, state_options, target_option

EXAMPLE = """
edgekit export net.py:build --target cpu --data digits.npz --metric top1 --max-drop 0.005
edgekit export ./my-bert --target cpu --dynamic input_ids:1 --dynamic attention_mask:1
edgekit export model.onnx --target raspberry-pi-5 --data samples.npz -o model.edgekit
edgekit export model.onnx --target raspberry-pi-5 --data samples.npz --device ssh://pi@raspberrypi
edgekit export net.py:build --target jetson --data test.npz --dynamic x:0 --range batch=1..4..16
"""


@define("export", example=EXAMPLE, keeps=True)
@click.argument("source")
@target_option(required=True)
@click.option("-o", "--output", metavar="DIR", help="The bundle's folder. Default: NAME.edgekit in this folder.")
@click.option(
    "--device",
    default="local",
    show_default=True,
    metavar="URL",
    help="Check and measure the candidates there: ssh://[user@]host[:port] or adb://serial.",
)
@click.option("--data", metavar="D", help="Samples to check on: .npz, an image folder, or file.py:factory.")
@click.option("--calibration-data", metavar="D", help="Samples to calibrate with. Default: those of --data.")
@click.option("--preprocess", metavar="P", help="How an image folder becomes input arrays.")
@click.option(
    "--metric",
    metavar="M",
    help="On labels: top1, top5, auc, map. On labels where there are any, else against the model: f1, miou, mse, mae, "
    "r2, wer. Against the model: agreement, cosine, detections. Or file.py:function.",
)
@click.option("--max-drop", type=float, metavar="X", help="The largest loss of the metric that is acceptable.")
@click.option("--ignore-labels", is_flag=True, help="Use the data as if they had no labels.")
@click.option(
    "--tolerance",
    multiple=True,
    metavar="NAME=X",
    help="Loosen a parity bound by name: sqnr_db=15, or int8.sqnr_db=15 for one precision. Repeat for several.",
)
@input_options
@click.option(
    "--example", metavar="FILE.npz", help="Example inputs, as the model takes them, in place of made-up ones."
)
@range_option
@state_options
@click.option("--task", metavar="T", help="The Hugging Face task, where the folder does not tell.")
@click.option(
    "--ignore-where",
    multiple=True,
    metavar="NAME=VALUE",
    help="Outputs are not compared where this mask holds this value. Hugging Face models: attention_mask=0, or none.",
)
@reference_option
@click.option("--threads", type=int, metavar="N", help="Fix the number of threads. Default: the fastest, measured.")
@click.option(
    "--candidate", "candidates", multiple=True, metavar="NAME", help="Only this candidate. Repeat for several."
)
@click.option(
    "--allow-fallback",
    multiple=True,
    metavar="OP",
    help="An operator that may run elsewhere than on the target's device. Repeat for several.",
)
@click.option(
    "--samples",
    type=int,
    metavar="N",
    help="Check on at most so many. Default: the target's, 1000, or fewer where an emulator stands for the device.",
)
@click.option(
    "--calibration-samples",
    type=int,
    default=128,
    show_default=True,
    metavar="N",
    help="Calibrate with at most so many.",
)
@click.option(
    "--unverified",
    is_flag=True,
    help="Ship an integer form that was not checked on real data all the same. The bundle records it.",
)
@click.option(
    "--prefer",
    type=click.Choice(["latency", "size", "memory"]),
    default="latency",
    show_default=True,
    help="What a coarser form must pay in: time a run, bytes of the model, or the peak of memory.",
)
@click.option(
    "--min-gain",
    type=float,
    default=1.05,
    show_default=True,
    metavar="X",
    help="How many times better in that a coarser form must be than the best finer one.",
)
@click.option(
    "--max-time", type=float, default=120.0, show_default=True, metavar="S", help="Seconds for measuring the fastest."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
def command(console: Console, source: str, max_time: float, **options: Any) -> None:
    """The main job: a PyTorch model → a checked, measured bundle for a device.

    SOURCE is file.py:factory or package.module:factory (returns an nn.Module, or a module and its example inputs), a
    Hugging Face directory or id, a .pt2 exported program, or a .onnx file.

    Every candidate of the target is built, checked in its own engine against PyTorch (an .onnx file: what two
    evaluators agree on) and measured; the fastest within the accuracy is bundled. With --device this happens on
    the device itself.
    """
    from ..api.export import export
    from ..errors import TakenError
    from ..report.text import export_text

    taken: TakenError | None = None
    try:
        result = export(source, max_time_s=max_time, progress=console.progress, **options)
    except TakenError as error:  # the work is done, and told, all the same
        result, taken = error.result, error
    value = console.keep("export", result.to_json(), result.samples)
    console.show(value, lambda: export_text(result, console.colour, console.width))
    if taken is not None:
        console.complain(str(taken))
        raise click.exceptions.Exit(taken.exit_code)
    if result.measured is None:
        console.hint(f"Next: edgekit bench {result.bundle}")
    elif result.pick.checked_with:
        console.hint(f"Next: edgekit build {result.bundle} --device ssh://…")
    else:
        console.hint(f"Next: copy {result.bundle} to the device and run it there: python run.py bench")
