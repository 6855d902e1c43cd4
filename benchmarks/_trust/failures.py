"""One candidate fails in a way that nobody foresaw."""

from __future__ import annotations

from _trust.side import Outcome, Side

PASS = '''"""A pass with a bug."""
from edgekit.passes import GraphPass

class Buggy(GraphPass):
    """Divides by nothing."""

    name = "buggy"

    def rewrite(self, model):
        return 1 / 0

PLUGIN = Buggy
'''

TARGET = """
name = "bug"
extends = "cpu-onnxruntime"
description = "A CPU with a candidate whose pass has a bug"
[[candidates]]
name = "buggy"
precision = "fp32"
passes = [{ name = "buggy" }]
"""


def exception(side: Side) -> Outcome:
    """A plug-in pass raises ZeroDivisionError: its candidate is a row, and another one ships."""
    package = side.folder / "plugins" / "buggy_passes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Passes."""\n')
    (package / "buggy.py").write_text(PASS)
    info = side.folder / "plugins" / "buggy_passes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy-passes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgekit.passes]\nbuggy = buggy_passes\n")
    (side.folder / "bug.toml").write_text(TARGET)
    done = side.export("nets.py:tiny", "bug.toml", "tiny", extra={"PYTHONPATH": str(side.folder / "plugins")})
    if done.code:
        return Outcome(done.said, False)
    row = next((item for item in done.json["candidates"] if item["name"] == "buggy"), {})
    said = str(row.get("rejected")).split(". ")[0]
    return Outcome(f"{done.picked}; buggy: {said[:90]}", done.json["chosen"] != "buggy" and "ZeroDivision" in said)
