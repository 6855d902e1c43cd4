"""What edgekit says where others are wrong in silence: a row a kind of failure, before and now.

    python benchmarks/trust.py [--before PYTHON] [CASE…]

Each case makes small inputs in a scratch folder, runs the command line as a user would, and judges what came out by
code that is not edgekit's: numpy, PyTorch and plain ONNX Runtime. ``--before`` names a python whose edgekit is an older
one; without it only the installed one is shown. CASE is a part of a row's name; default: every row. Exit 1: a row is
wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _trust import apps, evidence, failures, files, memory, parts, places
from _trust.side import Outcome, Side

INT8 = "onnxruntime int8 static"

CASES: dict[str, Callable[[Side], Outcome]] = {
    "scores beside boxes: coordinates, cpu-onnxruntime": partial(
        parts.detector, net="coordinates", target="cpu-onnxruntime", candidate=INT8
    ),
    "scores beside boxes: coordinates, jetson": partial(parts.detector, net="coordinates", target="jetson"),
    "scores beside boxes: YOLO head, mobile-npu": partial(parts.detector, net="mixed", target="mobile-npu"),
    "regression with an offset, mobile-npu": parts.offset,
    "argmax inside": parts.class_numbers,
    "calibration: outlier": partial(evidence.calibration, fault="outlier"),
    "calibration: zeros": partial(evidence.calibration, fault="zeros"),
    "calibration: one sample": partial(evidence.calibration, fault="one sample"),
    "no real data": evidence.no_data,
    "source quantized already": evidence.quantized_source,
    "eight threads, OpenVINO": apps.threads,
    "two bundles in one app": apps.two_bundles,
    "arrays as apps have them": apps.odd_arrays,
    "price of run() over bind()": apps.price,
    "CPU quota": places.quota,
    "read-only root": places.read_only,
    "closed streams": places.closed_streams,
    "ASCII locale": places.ascii_locale,
    "one odd record": apps.odd_record,
    "two exports to one name": places.two_exports,
    "dimension -1": partial(files.odd_dimensions, kind="-1"),
    "dimension ?": partial(files.odd_dimensions, kind="?"),
    "untrue rank": partial(files.odd_dimensions, kind="untrue"),
    "batch declared as 1": partial(files.odd_dimensions, kind="frozen"),
    "sequence_lens": files.sequence_lengths,
    "left-padded decoder": memory.left_padding,
    "drift of a state": memory.drift,
    "buffer written by forward": memory.buffer,
    "an exception in one candidate": failures.exception,
}


def tried(case: Callable[[Side], Outcome], side: Side) -> Outcome:
    """The case's outcome; a judge that cannot go on is one, too."""
    try:
        return case(side)
    except (RuntimeError, OSError, ValueError) as error:
        return Outcome(f"{type(error).__name__}: {' '.join(str(error).split())[:140]}", False)


def commit(python: str) -> str:
    """Of which commit that python's edgekit is; its version outside a checkout."""
    asked = "import edgekit, pathlib; print(pathlib.Path(edgekit.__file__).parent, edgekit.__version__, sep='\\n')"
    where = subprocess.run([python, "-P", "-c", asked], capture_output=True, text=True, check=True).stdout.splitlines()
    found = subprocess.run(
        ["git", "-C", where[0], "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or where[1]


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def main() -> int:
    """The table, row after row as it is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", metavar="PYTHON", help="a python whose edgekit is the older one")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="parts of the names of rows")
    given = parser.parse_args()
    unknown = [word for word in given.cases if not any(word in name for name in CASES)]
    if unknown:
        parser.error(f"no case is named like {', '.join(unknown)}; there are: {'; '.join(CASES)}")
    chosen = {name: case for name, case in CASES.items() if not given.cases or any(w in name for w in given.cases)}
    pythons = {"before": given.before, "now": sys.executable} if given.before else {"now": sys.executable}
    heads = [f"{when} ({commit(python)})" for when, python in pythons.items()]
    print(f"| kind | {' | '.join(heads)} | |\n|{'---|' * (len(heads) + 2)}", flush=True)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="edgekit-trust-") as scratch:
        for index, (name, case) in enumerate(chosen.items()):
            outcomes = []
            for when, python in pythons.items():
                root = Path(scratch) / when
                (root / "shared").mkdir(parents=True, exist_ok=True)
                side = Side(python, root, root / "shared").at(root / f"case{index}")
                outcomes.append(tried(case, side))
            last = outcomes[-1].right
            wrong += last is False
            verdict = {True: "right", False: "**wrong**", None: "–"}[last]
            print(f"| {name} | {' | '.join(cell(item.text) for item in outcomes)} | {verdict} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
