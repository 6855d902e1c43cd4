"""What `doctor --device` found, as a person reads it."""

from __future__ import annotations

from .. import units
from ..devices.browser import BrowserReport
from ..devices.examine import DeviceReport
from .layout import Ink, cores_text, labelled


def device_text(report: DeviceReport, colour: bool, width: int) -> str:
    """The device, its Python, its engines; what is missing comes with the line that installs it."""
    ink = Ink(colour)
    facts = report.device
    name = facts["board"] or facts["cpu"] or "unknown CPU"
    cpu = f"{name} ({facts['machine']}), {cores_text(facts, ' usable')}"
    lines = labelled("device", f"{report.url}   {cpu}", ink, width)
    if facts["memory_bytes"]:
        lines += labelled("memory", units.size(facts["memory_bytes"]), ink, width)
    if facts["emulated"]:
        lines += labelled("emulated", f"by {facts['emulated']}: its latencies say nothing about a real one", ink, width)
    lines += labelled("python", f"{facts['python']}   {report.python}", ink, width)
    for part in (report.numpy, *report.engines):
        lines += labelled(part.name, part.version or ink.bad(str(part.problem)), ink, width)
    lines += labelled("cache", report.cache, ink, width)
    if report.unverified:
        lines += labelled("note", report.unverified, ink, width)
    missing = report.missing
    if missing:
        lines += ["", ink.bad("not ready: on the device, type")]
        lines += [f"  {ink.label(part.install)}" for part in missing]
        lines += [
            "or, without a network or pip there, from here:",
            f"  edgekit doctor --device '{report.url}' --install",
        ]
    else:
        lines += labelled("verdict", "ready", ink, width)
    return "\n".join(lines)


def browser_text(report: BrowserReport, colour: bool, width: int) -> str:
    """The browser, the engine, and what a page can have; what it cannot have comes with the reason."""
    ink = Ink(colour)
    lines = labelled("browser", f"{report.version}   {report.path}", ink, width)
    if report.no_engine is None:
        lines += labelled("engine", f"onnxruntime-web {report.engine}   {report.engine_folder}", ink, width)
    else:
        lines += labelled("engine", ink.bad(report.no_engine), ink, width)
    cores = "" if report.cores is None else f" on {report.cores} cores"
    lines += labelled("threads", f"yes{cores}, with SIMD" if report.threads else ink.bad("no"), ink, width)
    if report.webgpu is None:
        return "\n".join([*lines, *labelled("WebGPU", f"no: {report.no_webgpu}", ink, width)])
    fp16 = "with fp16" if report.webgpu["f16"] else "without fp16"
    played = ": emulated by the CPU, not a GPU" if report.webgpu["software"] else ""
    return "\n".join([*lines, *labelled("WebGPU", f"{report.webgpu['name']}, {fp16}{played}", ink, width)])
