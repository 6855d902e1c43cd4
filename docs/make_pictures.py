"""Make the pictures of README.md and of the documentation, into docs/pictures/.

    python docs/make_pictures.py demo [--folder DIR] [--transcript FILE]
    python docs/make_pictures.py report [--folder DIR]
    python docs/make_pictures.py drawings

`demo` runs `edgekit demo` in a terminal of its own and draws what it printed (demo.svg); the transcript is kept in the
folder, and `--transcript` draws a kept one again. `report` writes the report of the demo's result and lets headless
Chromium photograph it (report.png). `drawings` draws the rest: the stages, and what the
statistics mean, from series made here with a fixed seed. No picture needs the network to be shown.

Needs `pip install -c constraints.txt -e ".[cpu,docs]"`; `report` needs Chromium (apt install chromium).
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

PICTURES = Path(__file__).resolve().parent / "pictures"
COLUMNS = 110
EDGEKIT = [sys.executable, "-m", "edgekit"]
Array = NDArray[np.float64]

# ── The demo, as a terminal shows it ─────────────────────────────────────────────────────────────────────────────────

_TERMINAL = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="What edgekit demo prints">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-ligatures: none; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's template without its web font and its title: what is drawn uses a font that the reader has."""


def draw_demo(folder: Path, transcript: Path | None) -> None:
    """Run the demo, or take what an earlier run printed, and draw it."""
    if transcript is None:
        transcript = folder / "demo.transcript"
        transcript.write_bytes(run_in_terminal([*EDGEKIT, "demo", "-q"], folder))
    printed = transcript.read_text(encoding="utf-8").replace("\r\n", "\n").rstrip("\n")
    write("demo.svg", terminal(f"\x1b[1m$ edgekit demo\x1b[0m\n{printed}"))


def run_in_terminal(command: Sequence[str], folder: Path) -> bytes:
    """What a command writes to a terminal of `COLUMNS` columns; its progress goes to our own standard error."""
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    running = subprocess.Popen(command, cwd=folder, stdout=theirs, env=env)
    os.close(theirs)
    printed = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        printed += part
    os.close(ours)
    if running.wait():
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return bytes(printed)


def terminal(printed: str) -> str:
    """A dark terminal that holds what was ``printed``, ANSI colours included: readable on light and on dark pages."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    grey, red, green, white = (139, 148, 158), (255, 123, 114), (86, 211, 100), (230, 237, 243)
    colours = [(72, 79, 88), red, green, (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221), grey]
    theme = TerminalTheme((13, 17, 23), white, colours, colours)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(printed), soft_wrap=True)
        return console.export_svg(title="", theme=theme, code_format=_TERMINAL, unique_id="edgekit")


# ── The report, as a browser shows it ────────────────────────────────────────────────────────────────────────────────

_BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def draw_report(folder: Path) -> None:
    """Report the demo's export, and take a picture of the page's beginning."""
    listed = [*EDGEKIT, "results", "list", "--kind", "export", "--limit", "1", "--json"]
    told = subprocess.run(listed, cwd=folder, check=True, capture_output=True, text=True).stdout
    result = json.loads(told)["results"][0]["id"]
    subprocess.run([*EDGEKIT, "report", result, "-o", "report.html"], cwd=folder, check=True)
    photograph(folder / "report.html", PICTURES / "report.png", 1100, 1120)


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """A PNG of a page in headless Chromium, in few colours: it is text."""
    from PIL import Image

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("no Chromium: apt install chromium")
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={picture}"]
        subprocess.run([browser, *_BROWSER, *options, page.resolve().as_uri()], check=True, capture_output=True)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(96).save(picture, optimize=True)


# ── Drawings: SVG by hand, in colours that can be read on white and on black ─────────────────────────────────────────

_INK, _FAINT, _BLUE, _ORANGE, _GREEN = "#7d8590", "#7d859055", "#4493f8", "#d97b2b", "#3a9d5d"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def text(x: float, y: float, what: str, *, size: int = 13, colour: str = _INK, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(what)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = _INK, width: float = 1.0, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def dot(x: float, y: float, colour: str, radius: float = 3.0) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def path(points: Iterable[tuple[float, float]], colour: str, width: float = 1.2) -> str:
    d = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


def picture(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{_FONT}">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>"]) + "\n"


def stages() -> str:
    """The way of a model, left to right."""
    boxes = [
        ("PyTorch model", "and data", "#4493f8"),
        ("export", "ONNX graph", "#7d8590"),
        ("candidates", "engine × precision", "#7d8590"),
        ("check", "against PyTorch", "#d97b2b"),
        ("measure", "fresh processes", "#d97b2b"),
        ("bundle", "model + runner", "#3a9d5d"),
        ("your app", "same code", "#3a9d5d"),
    ]
    width, gap, top = 116, 20, 12
    parts = []
    for index, (head, below, colour) in enumerate(boxes):
        x = 4 + index * (width + gap)
        parts.append(
            f'<rect x="{x}" y="{top}" width="{width}" height="58" rx="8" fill="{colour}" fill-opacity="0.14" '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )
        parts += [text(x + width / 2, top + 26, head, size=14), text(x + width / 2, top + 45, below, size=11)]
        if index:
            start, end, y = x - gap + 3, x - 3, top + 29
            parts += [line(start, y, end - 4, y, _INK, 1.5)]
            parts += [f'<path d="M{end} {y} l-7 -4 v8 z" fill="{_INK}"/>']
    below = 4 + 3 * (width + gap) + width / 2
    parts += [
        text(below, 98, "misses are repaired or rejected,", size=12),
        text(below, 114, "with the layer's name", size=12),
    ]
    below += width + gap
    parts += [text(below + 30, 98, "in turns;", size=12), text(below + 30, 114, "the fastest is picked", size=12)]
    return picture(952, 124, "A PyTorch model is exported, checked, measured and bundled", parts)


def correlated(random: np.random.Generator, count: int, rho: float, spread: float) -> Array:
    """A series around 0, each value of which resembles the one before (AR(1))."""
    noise, out = random.standard_normal(count), np.empty(count)
    out[0] = noise[0]
    for index in range(1, count):
        out[index] = rho * out[index - 1] + np.sqrt(1 - rho**2) * noise[index]
    return spread * out


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def percentiles() -> str:
    """A histogram of latencies with p50, p90 and p99."""
    random = np.random.default_rng(1)
    runs = np.concatenate([random.normal(0.20, 0.008, 9200), 0.21 + random.exponential(0.02, 800)])
    x, edges = scale(0.17, 0.30, 30, 690), np.linspace(0.17, 0.30, 66)
    counts, _ = np.histogram(runs, edges)
    y = scale(0, counts.max(), 190, 60)
    parts = [
        f'<rect x="{x(left):.1f}" y="{y(count):.1f}" width="{x(right) - x(left) - 1:.1f}" '
        f'height="{190 - y(count):.1f}" fill="{_BLUE}" fill-opacity="0.55"/>'
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
    ]
    for q, name, told, level in (
        (50, "p50", "half of the runs are faster", 20),
        (90, "p90", "nine of ten are", 38),
        (99, "p99", "99 of 100 are: the slow tail", 56),
    ):
        at = x(float(np.percentile(runs, q)))
        parts += [
            line(at, level + 4, at, 190, _ORANGE, 1.6),
            text(at + 6, level + 8, name, colour=_ORANGE, anchor="start"),
        ]
        parts += [text(at + 38, level + 8, told, size=12, anchor="start")]
    parts += [line(30, 190, 690, 190), text(360, 226, "latency of one run, in ms", size=12)]
    parts += [text(x(tick), 205, f"{tick:.2f}", size=11) for tick in (0.18, 0.22, 0.26)]
    return picture(720, 234, "A histogram of latencies with p50, p90 and p99", parts)


def interval() -> str:
    """Five processes, the median of each, and the interval that follows."""
    random = np.random.default_rng(4)
    medians = [0.2018, 0.2046, 0.1992, 0.2031, 0.2010]
    x, parts = scale(0.19, 0.215, 120, 600), []
    for index, middle in enumerate(medians):
        y = 30 + 26 * index
        runs = middle + np.abs(correlated(random, 60, 0.8, 0.0018)) * np.sign(random.standard_normal(60))
        parts += [text(110, y + 4, f"process {index + 1}", size=12, anchor="end")]
        parts += [dot(x(value), y + 3 * random.standard_normal(), _FAINT, 2) for value in runs]
        parts += [line(x(middle), y - 9, x(middle), y + 9, _BLUE, 2.5)]
    logs = np.log(medians)
    mean, half = float(logs.mean()), 2.776 * float(logs.std(ddof=1)) / np.sqrt(5)  # Student's t, 4 degrees of freedom
    low, value, high = (float(np.exp(mean + sign * half)) for sign in (-1, 0, 1))
    parts += [line(x(low), 172, x(high), 172, _ORANGE, 3), line(x(low), 165, x(low), 179, _ORANGE, 2)]
    parts += [line(x(high), 165, x(high), 179, _ORANGE, 2), dot(x(value), 172, _ORANGE, 5)]
    parts += [text(110, 176, "together", size=12, anchor="end")]
    parts += [
        text(
            x(high) + 10,
            176,
            f"p50 {value:.3f} ms ±{max(high - value, value - low):.3f}",
            anchor="start",
            colour=_ORANGE,
        )
    ]
    return picture(760, 196, "The medians of five processes and the interval that follows from them", parts)


def dependence() -> str:
    """Two hundred runs that know nothing of each other, and two hundred that do."""
    random, parts = np.random.default_rng(11), []
    for row, (rho, told) in enumerate(
        ((0.0, "200 independent runs: worth 200"), (0.95, "200 runs, each like the one before: worth about 5"))
    ):
        series = correlated(random, 200, rho, 1.0)
        top = 24 + 112 * row
        x, y = scale(0, 199, 20, 700), scale(-3, 3, top + 84, top)
        parts += [text(20, top - 6, told, anchor="start")]
        parts += [line(20, y(0), 700, y(0), _INK, 1, "4 4")]
        parts += [path(((x(i), y(float(value))) for i, value in enumerate(series)), (_BLUE, _ORANGE)[row])]
        mean = float(series.mean())
        parts += [line(20, y(mean), 700, y(mean), (_BLUE, _ORANGE)[row], 2.5)]
    parts += [text(360, 240, "thin: the runs in order; thick: their mean; dashed: the truth", size=12)]
    return picture(720, 248, "Independent and correlated runs", parts)


def verdicts() -> str:
    """A steady, a noisy and a drifting measurement: five processes each."""
    random, parts = np.random.default_rng(8), []
    shapes = {
        "steady": ([0.0, 0.1, -0.1, 0.05, -0.05], 0.0),
        "noisy": ([0.0, 1.6, -1.2, 0.9, -1.7], 0.0),
        "drifting": ([-1.6, -0.8, 0.0, 0.8, 1.6], 0.9),
    }
    for column, (name, (levels, slope)) in enumerate(shapes.items()):
        left = 10 + 240 * column
        y = scale(-3, 3, 150, 34)
        parts += [text(left + 108, 20, name, size=15, colour=(_GREEN, _ORANGE, _ORANGE)[column])]
        for index, level in enumerate(levels):
            start = left + 44 * index
            values = level + slope * np.linspace(-0.5, 0.5, 30) + correlated(random, 30, 0.6, 0.25)
            parts += [path(((start + 1.2 * i, y(float(value))) for i, value in enumerate(values)), _BLUE)]
            parts += [line(start, y(float(np.median(values))), start + 35, y(float(np.median(values))), _ORANGE, 2.2)]
        parts += [line(left, 154, left + 212, 154)]
        parts += [text(left + 106, 170, "five processes, one after the other", size=11)]
    return picture(740, 180, "A steady, a noisy and a drifting measurement", parts)


def outcomes() -> str:
    """The interval of a ratio on either side of 1, or over it; and a control that fails."""
    x, parts = scale(0.85, 1.15, 190, 560), []
    rows = [
        ("faster", 0.93, 0.02, _GREEN, "below 1"),
        ("slower", 1.06, 0.02, _ORANGE, "above 1"),
        ("indistinguishable", 0.985, 0.03, _INK, "over 1"),
    ]
    for index, (name, middle, half, colour, told) in enumerate(rows):
        y = 30 + 34 * index
        parts += [text(180, y + 5, name, colour=colour, anchor="end")]
        parts += [line(x(middle - half), y, x(middle + half), y, colour, 3), dot(x(middle), y, colour, 5)]
        parts += [text(580, y + 5, f"interval {told}", size=12, anchor="start")]
    parts += [line(x(1), 10, x(1), 118, _INK, 1.4, "4 4"), line(190, 120, 560, 120)]
    parts += [text(x(tick), 136, f"{tick:.2f}", size=11) for tick in (0.9, 1.0, 1.1)]
    parts += [text(376, 154, "p50 of B ÷ p50 of A, with its interval", size=12)]
    return picture(720, 162, "Faster, slower, indistinguishable", parts)


DRAWINGS = {
    "stages": stages,
    "percentiles": percentiles,
    "interval": interval,
    "dependence": dependence,
    "verdicts": verdicts,
    "outcomes": outcomes,
}


def write(name: str, text_: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / name).write_text(text_, encoding="utf-8")


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["demo", "report", "drawings"])
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="where the demo's folder is or comes; default: here"
    )
    parser.add_argument("--transcript", type=Path, help="demo: draw what an earlier run printed")
    options = parser.parse_args()
    if options.what == "demo":
        draw_demo(options.folder, options.transcript)
    elif options.what == "report":
        draw_report(options.folder)
    else:
        for name, draw in DRAWINGS.items():
            write(f"{name}.svg", draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
