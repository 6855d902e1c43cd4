"""One edgekit (the older or this one), used as its user uses it: a command line in a folder, an app's own script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NETS = Path(__file__).with_name("nets.py")
PATIENCE_S = 240.0

# What an app does with a bundle: load it as its README says and run it.
APP = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from run import load
feeds = np.load(sys.argv[2])
count = max(int(name.split("/")[0]) for name in feeds) + 1
kept = {}
with load() as model:
    for index in range(count):
        sample = {name.split("/", 1)[1]: feeds[name] for name in feeds if name.split("/")[0] == str(index)}
        for place, value in enumerate(model.run(sample).values()):
            kept[f"{index}/{place}"] = value
np.savez(sys.argv[3], **kept)
"""


@dataclass(frozen=True)
class Outcome:
    """What a case ended with."""

    text: str
    right: bool | None  # None: not tried


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.out)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def said(self) -> str:
        """The last line of an error, short enough for a cell."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("edgekit:")] or lines[-1:]
        line = " ".join(told[-1:]).removeprefix("edgekit: ")
        return f"exit {self.code}: {line[:110]}" + ("…" if len(line) > 110 else "")

    @property
    def broke(self) -> bool:
        """It ended in a traceback, or calls itself a bug."""
        both = self.out + self.err
        return "Traceback (most recent call last)" in both or "bug in edgekit" in both or self.code < 0

    @property
    def picked(self) -> str:
        """What was shipped, in words; `said` where nothing was."""
        found = self.json
        if self.code or not found.get("chosen"):
            return self.said
        kept = next((item.get("kept_float") for item in found["candidates"] if item["name"] == found["chosen"]), None)
        return f"{found['chosen']} picked" + (f" ({len(kept)} node{'s' * (len(kept) > 1)} in float)" if kept else "")


@dataclass
class Side:
    """An edgekit and the folder in which a case may write."""

    python: str
    folder: Path
    shared: Path  # bundles that several cases use

    def at(self, folder: Path) -> Side:
        """The same edgekit in another folder."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(NETS, folder)
        return Side(self.python, folder, self.shared)

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-P", "-m", "edgekit", *arguments]

    def shell(self, arguments: Sequence[str | bytes], extra: Mapping[str, str] | None = None) -> Done:
        """Run anything in the folder; a command that never ends is an outcome, too."""
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment = {**clean, **(extra or {})}
        try:
            done = subprocess.run(
                arguments, cwd=self.folder, env=environment, capture_output=True, timeout=PATIENCE_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Done(124, "", f"it did not end within {PATIENCE_S:.0f} s")
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def edgekit(self, *arguments: str, extra: Mapping[str, str] | None = None) -> Done:
        return self.shell(self.command(*arguments), extra)

    def export(
        self, source: str, target: str, name: str, *options: str, extra: Mapping[str, str] | None = None
    ) -> Done:
        """A short export to ``name``.edgekit."""
        short = ["--max-time", "1", "--threads", "1", "-o", f"{name}.edgekit", "--overwrite", "--json"]
        return self.edgekit("export", source, "--target", target, *short, *options, extra=extra)

    def script(self, code: str, *arguments: str, extra: Mapping[str, str] | None = None) -> Done:
        """An app's own script, in the python beside this edgekit."""
        path = self.folder / "app.py"
        path.write_text(code, encoding="utf-8")
        return self.shell([self.python, "-P", str(path), *arguments], extra)

    def bundle(self, net: str, target: str, candidate: str) -> Path:
        """The bundle of a small net; cases that look at apps share it."""
        place = self.shared / f"{net}.edgekit"
        if not place.exists():
            done = self.at(self.shared).export(f"nets.py:{net}", target, net, "--candidate", candidate)
            if done.code:
                raise RuntimeError(f"no bundle of {net}: {done.err}")
        return place

    def answers(self, bundle: str | Path, samples: Sequence[Mapping[str, Array]]) -> list[list[Array]]:
        """What an app gets from a bundle, sample after sample, output after output."""
        feeds, kept = self.folder / "feeds.npz", self.folder / "answers.npz"
        np.savez(feeds, **{f"{i}/{name}": value for i, item in enumerate(samples) for name, value in item.items()})
        done = self.script(APP, str(bundle), str(feeds), str(kept))
        if done.code:
            raise RuntimeError(f"the app ended with {done.said}")
        with np.load(kept) as found:
            places = sorted((tuple(map(int, key.split("/"))), found[key]) for key in found)
        outputs: list[list[Array]] = [[] for _ in samples]
        for (index, _), value in places:
            outputs[index].append(value)
        return outputs


def graph_answers(bundle: Path, samples: Sequence[Mapping[str, Array]]) -> list[list[Array]]:
    """The shipped graph in plain ONNX Runtime, for targets whose device is not here."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(bundle / "model" / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return [session.run(None, dict(item)) for item in samples]


def decibels(reference: Array, got: Array) -> float:
    """10·log10(Σr² / Σ(g − r)²) of two arrays of one shape; the reference centred."""
    wide, error = reference.astype(np.float64), got.astype(np.float64) - reference
    signal = ((wide - wide.mean()) ** 2).sum()
    return float(10 * np.log10(signal / max((error**2).sum(), 1e-30 * max(signal, 1e-30))))
