"""Write docs/targets.md, and the table of README.md, from the profiles in targets/ and from docs/parity.json.

    python docs/make_targets.py             writes both
    python docs/make_targets.py --check     exit code 1 where one of them is not up to date

Nothing in the tables is written by hand: where a target was verified stands in its profile ([verified]), the accuracies
come from `python benchmarks/parity.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit import units
from edgekit.target.load import load_target
from edgekit.target.profile import Target, Verified

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "targets.md"
README = DOCS.parent / "README.md"
PARITY = DOCS / "parity.json"
PROFILES = DOCS.parent / "targets"
_PLACES = {
    "cpu": "CPU",
    "gpu": "GPU",
    "stand_in": "another engine",
    "emulator": "vendor's emulator",
    "emulated_device": "emulated device",
    "browser": "browser",
    "device": "the device",
}
_FAMILIES = {
    "[PC, server](docs/devices/cpu.md)": ("cpu", "cpu-onnxruntime", "cpu-openvino"),
    "[other engines](docs/devices/cpu.md)": ("cpu-executorch", "cpu-litert"),
    "[NVIDIA GPU](docs/devices/gpu.md)": ("desktop-gpu",),
    "[TensorRT](docs/devices/gpu.md)": ("desktop-tensorrt",),
    "[Jetson](docs/devices/jetson.md)": ("jetson", "jetson-orin-nano", "jetson-agx-orin"),
    "[Snapdragon NPU](docs/devices/phone.md)": (
        "mobile-npu",
        "snapdragon-8-gen2",
        "snapdragon-8-gen3",
        "snapdragon-8-elite",
        "snapdragon-8-elite-gen5",
    ),
    "[ARM boards](docs/devices/arm.md)": ("cpu-arm64", "raspberry-pi-5", "raspberry-pi-4"),
    "[browser](docs/devices/browser.md)": ("web",),
}
"""Rows of README.md. What the first target of each says of itself stands for all of them, so it is the general one."""
_BEGIN, _END = "<!-- targets: written by docs/make_targets.py -->\n", "<!-- end of targets -->"
_HEAD = """\
# Targets

<!-- Written by docs/make_targets.py from targets/*.toml and docs/parity.json: change those, and run it again. -->

`edgekit targets list` names them, `edgekit targets show NAME` prints one with the file each value came from, and
`edgekit targets new my-board --extends NAME` starts one of your own.

**Verified** tells where the whole way was tried: on a CPU or a GPU of the kind, in a browser, on the vendor's emulator
of an accelerator, on a whole device run by an emulator, or on the device; where no machine of ours runs its engine, in
another engine. An emulator's outputs are right, its latency means nothing. **Open** is what nobody has tried.
"""
_PARITY = """
## Accuracy on the example models

Against PyTorch in fp32, over all samples, in the target's own engine or the one that is named; a metric where there are
labels. PyTorch's own: {references}. `—`: not tried; a row with a reason was refused for it.
"""


def render() -> str:
    """The page."""
    targets = [item for item in (load_target(path) for path in sorted(PROFILES.glob("*.toml"))) if not item.abstract]
    rows = [["target", "engines, precisions", "verified", "open"]]
    rows += [
        [
            f"`{item.name}`<br>{item.description}",
            f"{_list(one.runtime for one in item.candidates)}: {_list(one.precision for one in item.candidates)}",
            _verified(item.verified),
            item.verified.open or "—",
        ]
        for item in targets
    ]
    return _HEAD + "\n" + _table(rows) + _parity(targets, json.loads(PARITY.read_text(encoding="utf-8")))


def render_summary() -> str:
    """The table of README.md: a family of devices a row, with what its first target says of itself."""
    targets = {item.name: item for item in map(load_target, sorted(PROFILES.glob("*.toml"))) if not item.abstract}
    rows = [["device", "targets", "verified", "not tried"]]
    for family, names in _FAMILIES.items():
        first = targets[names[0]]
        shown = ", ".join(f"`{name}`" for name in names)
        rows.append([family, shown, _verified(first.verified), first.verified.open or "—"])
    named = [name for names in _FAMILIES.values() for name in names]
    if sorted(named) != sorted(targets):
        raise SystemExit(f"docs/make_targets.py: in _FAMILIES or in targets/, not in both: {set(named) ^ set(targets)}")
    return _table(rows)


def with_summary(readme: str) -> str:
    """README.md with the table in its place."""
    head, _, rest = readme.partition(_BEGIN)
    return f"{head}{_BEGIN}\n{render_summary()}\n{_END}{rest.partition(_END)[2]}"


def _verified(verified: Verified) -> str:
    told = [(word, getattr(verified, key)) for key, word in _PLACES.items()]
    assert set(_PLACES) == {field.name for field in dataclasses.fields(verified)} - {"open"}
    return "; ".join(f"**{word}**: {text}" for word, text in told if text) or "**not at all**"


def _parity(targets: Iterable[Target], data: Mapping[str, Any]) -> str:
    models = data["models"]
    rows = [["target", "candidate", *models]]
    for target in targets:
        found = data["targets"].get(target.name, {})
        for candidate in target.candidates:
            cells = [_cell(found.get(model, {}).get(candidate.name), models[model]["samples"]) for model in models]
            if set(cells) != {"—"}:
                rows.append([f"`{target.name}`", candidate.name, *cells])
    references = ", ".join(
        f"{model} {item['metric']} {units.metric(item['metric'], item['reference'])} on {item['samples']} samples"
        for model, item in models.items()
    )
    text = _PARITY.format(references=references) + "\n" + _table(rows)
    places = "\n".join(f"- `{name}`: {item['on']}" for name, item in sorted(data["where"].items()))
    return f"{text}\nChecked with `python benchmarks/parity.py`:\n\n{places}\n"


def _cell(item: Mapping[str, Any] | None, usual: int) -> str:
    """The accuracy; with PyTorch's own where it was checked on another number of samples than is usual."""
    if item is None:
        return "—"
    if item["sqnr_db"] is None:
        return str(item["rejected"])
    metric = f", {item['metric']} {units.metric(item['metric'], item['value'])}"
    if item.get("samples", usual) != usual:
        metric += f" (PyTorch {units.metric(item['metric'], item['reference'])} on these {item['samples']} samples)"
    reason = f"; {item['rejected']}" if item["rejected"] else ""
    instead = f" (in {item['checked_with']})" if item.get("checked_with") else ""
    return f"{units.decibels(item['sqnr_db'])}{metric}{instead}{reason}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _table(rows: list[list[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is not up to date")
    arguments = parser.parse_args()
    wanted = {PAGE: render(), README: with_summary(README.read_text(encoding="utf-8"))}
    if arguments.check:
        return int(any(not path.is_file() or path.read_text(encoding="utf-8") != wanted[path] for path in wanted))
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
