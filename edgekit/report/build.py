"""What ``edgekit build`` did, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import units
from .layout import Ink, labelled
from .text import placement_text


def build_text(value: Mapping[str, Any], colour: bool, width: int) -> str:
    """The plan, the engine, the device; from the object of ``build --json``."""
    ink = Ink(colour)
    runtime, device, in_force = value["runtime"], value["device"], value["runtime"]["in_force"]
    took = "" if value["build_s"] is None else units.duration(value["build_s"])
    done = f"built in {took}" if value["built"] else f"kept from before (took {took} then)"
    lines = labelled(value["what"], done if value["build_s"] is not None else "made by the engine", ink, width)
    if value["because"]:
        lines += labelled("because", f"the kept one was not used: {value['because']}", ink, width)
    lines += labelled("kept at", str(value["path"] or "nowhere"), ink, width)
    gpu = ", ".join(str(in_force[key]) for key in ("gpu", "driver") if in_force.get(key))
    lines += labelled("engine", f"{runtime['name']} {runtime['version']}" + (f" on {gpu}" if gpu else ""), ink, width)
    where = device.get("board") or device.get("cpu") or device.get("machine") or ""
    lines += labelled("device", f"{device.get('url', 'local')}   {where}", ink, width)
    if value["placement"]:
        lines += labelled("placement", placement_text(value["placement"]), ink, width)
    first = "" if value["first_run_s"] is None else f", first run {units.duration(value['first_run_s'])}"
    lines += labelled("opened in", f"{units.duration(value['load_s'])}{first}", ink, width)
    return "\n".join(lines)
