"""What every candidate of a target reaches on the example models: its accuracy in its own engine, for docs/targets.md.

    python benchmarks/parity.py --targets cpu,raspberry-pi-5 [--models digits,minilm] [--device ssh://…]

Exports each model for each target and writes what `export` says of every candidate into docs/parity.json, in place of
what stood there for these targets and models. Then: python docs/make_targets.py. Latency is none of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import _models
import numpy as np

from edgekit import export
from edgekit.errors import EdgekitError

PARITY = Path(__file__).resolve().parents[1] / "docs" / "parity.json"
MODELS = ("digits", "minilm")
"""The two that are trained: of the others no accuracy can be told."""
ENGINES = ("onnxruntime", "openvino", "executorch", "ai-edge-litert", "onnxruntime-gpu", "tensorrt", "onnxruntime-qnn")


def candidates_of(target: str, subject: _models.Subject, device: str, folder: Path) -> tuple[dict[str, Any], str, Any]:
    """Candidate → its accuracy; where it was checked; the reference's metric and the number of samples."""
    for name, samples in (("calibration", subject.calibration), ("evaluation", subject.evaluation)):
        arrays = {key: np.concatenate([feeds[key] for feeds in samples]) for key in samples[0]}
        labels = {} if name == "calibration" or subject.labels is None else {"labels": subject.labels}
        np.savez(folder / f"{name}.npz", **arrays, **labels)
    result = export(
        (subject.module, subject.example),
        target=target,
        device=device,
        output=folder / "model.edgekit",
        data=str(folder / "evaluation.npz"),
        calibration_data=str(folder / "calibration.npz"),
        max_time_s=1.0,
        overwrite=True,
        **subject.accuracy,
    ).to_json()
    rows, reference = {}, None
    for item in result["candidates"]:
        metric, parity = item["metric"], item["parity"]
        reference = metric or reference
        rows[item["name"]] = {
            "precision": item["precision"],
            "sqnr_db": parity and parity["sqnr_db"],
            "metric": metric and metric["name"],
            "value": metric and metric["value"],
            "reference": metric and metric["reference"],
            "samples": metric and metric["samples"],
            "rejected": item["rejected"],
            "checked_with": item["checked_with"],
        }
    facts = result["device"]
    emulator = facts["emulated"] or result["emulated"]
    emulated = f", emulated by {emulator}" if emulator else f", {facts['browser']}" if facts.get("browser") else ""
    where = facts["board"] or ("ARM64" if facts["machine"] == "aarch64" else facts["machine"])
    return rows, f"{where}, {facts['os'].split()[0]}{emulated}", reference


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", required=True, help="names, separated by commas")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--device", default="local")
    options = parser.parse_args()
    data: dict[str, Any] = json.loads(PARITY.read_text()) if PARITY.is_file() else {}
    data = {"models": {}, "targets": {}, "where": {}, **data}
    with tempfile.TemporaryDirectory() as temporary:
        for model in options.models.split(","):
            folder = Path(temporary) / model
            subject = _models.load(model, folder)
            for target in options.targets.split(","):
                print(f"{target}: {model}", file=sys.stderr)
                try:
                    rows, where, reference = candidates_of(target, subject, options.device, folder)
                except EdgekitError as error:
                    print(f"{target}, {model}: {error}", file=sys.stderr)
                    return error.exit_code
                data["targets"].setdefault(target, {})[model] = rows
                data["where"][target] = {"on": f"{where}; {_versions()}; {datetime.now(UTC):%Y-%m-%d}"}
                if reference and reference["samples"] >= data["models"].get(model, {}).get("samples", 0):
                    data["models"][model] = {
                        "metric": reference["name"],
                        "reference": reference["reference"],
                        "samples": reference["samples"],
                    }
                PARITY.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    return 0


def _versions() -> str:
    found = []
    for name in ("torch", *ENGINES):
        try:
            found.append(f"{name} {metadata.version(name).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
