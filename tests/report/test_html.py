"""The page of `edgekit report`: complete, self-contained, safe, and drawn by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.report.html import report_html
from edgekit.report.html.markup import Markup, el, join, table
from edgekit.report.kept import listing_text, record_text
from edgekit.results_store import Record, Store, keep

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&\u2028"
DEVICE = {
    "machine": "x86_64",
    "cpu": "Tester 9000",
    "cores": 4,
    "usable_cores": 2,
    "memory_bytes": 8e9,
    "os": "Linux 6",
}
SNAPSHOT = {
    "time_s": 0.0, "governors": ["performance"], "frequencies_hz": [2_000_000_000, 3_000_000_000],
    "temperatures_c": {"package": 51.0}, "throttle_count": 0, "throttled": None, "other_load": 0.1, "battery": None,
    "gpus": None,
}  # fmt: skip
LAYERS = [
    {
        "name": f"n{n}", "op_type": "Conv", "modules": [f"encoder.{n}.conv"], "nodes": [f"/conv{n}"],
        "time_s": 1e-4 / n, "share": 0.5 / n, "macs": 1_000_000, "bytes": 50_000,
        "macs_per_s": 1e10 * n, "bytes_per_s": 5e8 * n,
        "limit": "compute", "of_limit": 0.2 * n,
    }
    for n in (1, 2, 3)
]  # fmt: skip
BENCH: dict[str, Any] = {
    "schema": 1,
    "bundle": "net.edgekit",
    "device": DEVICE,
    "runtime": {"name": "onnxruntime", "version": "1.32.0", "options": {"threads": 1}, "in_force": {"threads": 1}},
    "placement": {"CPU": 31},
    "placement_nodes": [{"name": "n1", "op_type": "Conv", "device": "CPU", "precision": "f32", "reason": None}],
    "latency": {
        "p50_s": {"value": 2.1e-4, "low": 2.0e-4, "high": 2.2e-4},
        "p90_s": {"value": 2.6e-4, "low": 2.5e-4, "high": 2.9e-4},
        "p99_s": None,
        "confidence": 0.95,
        "n": 600,
        "processes": 3,
    },
    "throughput_per_s": 4700.0,
    "memory": {"model_bytes": 400_000, "peak_rss_bytes": 61_000_000},
    "energy_j": None,
    "verdict": "noisy",
    "reasons": ["the medians of 3 processes differ by 7%"],
    "state": {
        "before": SNAPSHOT, "during": [{**SNAPSHOT, "time_s": 0.5, "other_load": 0.4}],
        "after": {**SNAPSHOT, "time_s": 1.0, "throttle_count": 2},
        "unread": {"battery": "there is none"}, "cost_s": 1e-3,
    },
    "profile": {
        "layers": LAYERS, "total_s": 2e-4, "runs": 50, "notes": [],
        "peaks": {
            "threads": 1, "macs_per_s": 5e10, "method": "numpy",
            "bytes_per_s": [{"touched_bytes": 1e5, "bytes_per_s": 4e10}, {"touched_bytes": 1e8, "bytes_per_s": 1e10}],
        },
    },
    "not_measured": {"latency.p99_s": "p99 needs 662 samples, have 600", "energy_j": "no counter here"},
}  # fmt: skip


def candidate(name: str, p50_s: float | None, value: float, **changes: Any) -> dict[str, Any]:
    latency = None
    if p50_s is not None:
        ends = {"low": 0.95 * p50_s, "high": 1.05 * p50_s}
        latency = {"p50_s": {"value": p50_s, **ends}, "p90_s": None, "n": 600, "processes": 3, "screening": False}
    row = {"max_abs": 0.01, "rel_l2": 0.02, "sqnr_db": 34.0}
    parity = {
        "passed": True, **row, "samples": 200, "tolerance": {"sqnr_db": 25.0}, "reference": "PyTorch 2.13.0 fp32",
        "misses": [], "outputs": {"logits": row},
    }  # fmt: skip
    metric = {"name": "top1", "reference": 0.98, "value": value, "drop": 0.98 - value, "max_drop": 0.01, "samples": 899}
    fields = {
        "name": name, "runtime": name.split()[0], "precision": name.split()[-1], "options": {"threads": 1},
        "size_bytes": 400_000, "nodes": 31, "latency": latency, "parity": parity, "metric": metric, "kept_float": [],
        "rejected": None, "note": None,
    }  # fmt: skip
    return {**fields, **changes}


EXPORT: dict[str, Any] = {
    "schema": 1,
    "target": "cpu",
    "bundle": "net.edgekit",
    "size_bytes": 400_000,
    "fp32_size_bytes": 1_200_000,
    "source": {"spec": "net.py:build", "parameters": 309_000, "inputs": []},
    "candidates": [
        candidate("onnxruntime int8", 2e-4, 0.979, kept_float=["/head/MatMul"]),
        candidate("openvino fp32", 6e-4, 0.98),
        candidate("openvino int8", None, 0.5, rejected="top1 drops by 0.48, allowed 0.01"),
    ],
    "chosen": "onnxruntime int8",
    "reason": "the fastest of the candidates that hold the accuracy",
    "placement": {"CPU": 31},
    "not_measured_because": None,
    "calibration": {"data": "d.npz", "samples": 128, "same_data_as_checked": False},
    "passes": [
        {"name": "fold", "modified": True, "detail": "folded 4", "options": {}, "nodes_before": 58, "nodes_after": 31}
    ],
    "opset": 20,
    "nodes": {"exported": 58, "after_passes": 31},
    "self_test": "self-test passed",
    "stages": [{"name": "load", "seconds": 0.4}],
}
COMPARE: dict[str, Any] = {
    "schema": 1, "a": "old.edgekit", "b": "new.edgekit", "device": DEVICE, "verdict": "faster", "reasons": [],
    "ratio": {"value": 0.8, "low": 0.78, "high": 0.83}, "control": {"value": 1.0, "low": 0.99, "high": 1.01},
    "latency": {"a": {}, "b": {}},
}  # fmt: skip
EVALUATE: dict[str, Any] = {
    "schema": 1, "bundle": "net.edgekit", "data": "test.npz", "samples": 899,
    "metric": {
        "name": "top1", "value": 0.981, "reference": 0.982, "drop": 0.001, "reference_source": "PyTorch",
        "interval": {"low": 0.971, "high": 0.989}, "reference_interval": {"low": 0.972, "high": 0.991},
        "drop_interval": {"low": -0.002, "high": 0.004}, "confidence": 0.95, "verdict": "indistinguishable",
    },
    "device": DEVICE,
    "runtime": {"name": "onnxruntime", "version": "1.32.0", "options": {"threads": 1}},
}  # fmt: skip


def timed(seconds: float, seed: int = 0) -> list[list[np.ndarray[Any, np.dtype[np.float64]]]]:
    random = np.random.default_rng(seed)
    return [[seconds * (1 + random.gamma(2, 0.05, 40)) for _ in range(5)] for _ in range(3)]


@pytest.fixture
def records(results_folder: Path) -> dict[str, Record]:
    store = Store(results_folder)
    words = ["edgekit", "bench", "my net.edgekit"]
    both = {"onnxruntime int8": timed(2e-4), "openvino fp32": timed(6e-4, 1)}
    sides = {"a": timed(2e-4), "b": timed(1.6e-4), "control": timed(2e-4, 2)}
    return {
        "export": keep("export", EXPORT, both, command=words, store=store).record,
        "bench": keep("bench", BENCH, {"latency": timed(2e-4)}, command=words, store=store).record,
        "compare": keep("compare", COMPARE, sides, command=words, store=store).record,
        "evaluate": keep("evaluate", EVALUATE, {}, command=words, store=store).record,
    }


class Page(HTMLParser):
    """What a page is made of, checked while it is read."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.headings: list[int] = []
        self.feed(text)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_each_kind_of_result_tells_what_it_holds(records: dict[str, Record]) -> None:
    words = Page(report_html(list(records.values()), "2026-01-01")).words
    for expected in (
        "Overview", "3.0x faster than openvino fp32, top1 97.90 % instead of 98.00 %", "◀ picked",
        "rejected: top1 drops by 0.48", "0.21 ms", "p99 needs 662 samples, have 600",
        "Noisy: measure again on a quieter machine (the medians of 3 processes differ by 7%).", "b is faster than a.",
        "top1 is 98.10 %, 0.10 % worse than the reference, which these samples cannot tell from chance.",
        "97.10 % to 98.90 %",
        "-0.20 % to 0.40 %",
        "not distinguishable",
        "PyTorch 2.13.0 fp32 → bundle: 34 dB",
        "encoder.1.conv",
        "throttle events meanwhile 2", "edgekit bench 'my net.edgekit'", "not measured: no counter here",
        "Tester 9000", "Latency while measured", "Roofline", "Temperature",
    ):  # fmt: skip
        assert expected in words, expected


def test_a_section_appears_only_with_its_data() -> None:
    bare = {
        key: value for key, value in BENCH.items() if key not in ("state", "profile", "placement", "placement_nodes")
    }
    words = Page(report_html([Record("1", "bench", "", bare)])).words
    for absent in ("Roofline", "Device state", "Placement", "Overview", "Latency distribution", "Time by layer"):
        assert absent not in words, absent
    assert "its command was not kept" in words


def test_missing_samples_are_said_and_hide_nothing_else(records: dict[str, Record]) -> None:
    record = records["bench"]
    assert record.folder is not None
    (record.folder / "samples-0.npy").unlink()
    words = Page(report_html([record])).words
    assert "samples-0.npy' is missing" in words
    assert "0.210 ms" in words
    assert "Latency distribution" not in words


def test_the_page_is_usable_without_eyes_or_a_mouse(records: dict[str, Record]) -> None:
    page = Page(report_html(list(records.values())))
    named = [attributes for _, attributes in page.attributes]
    ids = [str(item["id"]) for item in named if "id" in item]
    assert len(ids) == len(set(ids)), "ids are unique"
    for item in named:
        for key in ("aria-labelledby", "href"):
            if key in item:
                assert str(item[key]).removeprefix("#") in ids, item
    assert page.tags["main"] == page.tags["h1"] == page.tags["header"] == page.tags["nav"] == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    plots = [item for item in named if item.get("role") == "img"]
    assert plots and all(len(item["aria-label"] or "") > 40 for item in plots)
    assert page.tags["figure"] == len(plots)
    scrolled = [item for item in named if item.get("class") == "scroll"]
    assert all(item.get("tabindex") == "0" and item.get("aria-label") for item in scrolled)
    assert page.tags["caption"] == page.tags["table"] >= len(plots), "a table behind each plot"
    assert ("html", {"lang": "en"}) in page.attributes


def luminance(colour: str) -> float:
    """Relative luminance: WCAG 2.2."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(mode: int) -> None:
    """Text at 4.5 to its ground, lines of plots at 3: WCAG 2.2, 1.4.3 and 1.4.11."""
    css = report_html([Record("1", "evaluate", "", EVALUATE)])
    palette = dict(re.findall(r"--([\w-]+): (#\w+)", css.split(":root {")[1 + mode].split("}")[0]))
    for name in ("text", "muted", "accent", "good", "bad", *(f"series-{n}" for n in range(6))):
        for ground in ("page", "card", "mark"):
            high, low = sorted((luminance(palette[name]), luminance(palette[ground])), reverse=True)
            wanted = 3.0 if name.startswith("series") else 4.5
            assert (high + 0.05) / (low + 0.05) >= wanted, (name, ground)


def evil_records(store: Store) -> list[Record]:
    bench = {**BENCH, "bundle": EVIL, "reasons": [EVIL], "device": {**DEVICE, "cpu": EVIL}}
    bench["profile"] = {**BENCH["profile"], "layers": [{**LAYERS[0], "modules": [EVIL], "op_type": EVIL}]}
    export = {
        **EXPORT,
        "candidates": [candidate(EVIL, 1e-3, 0.9), candidate("b", 2e-3, 0.9)],
        "chosen": EVIL,
        "bundle": EVIL,
    }
    return [
        keep("bench", bench, {EVIL: timed(1e-3)}, command=["edgekit", "bench", EVIL], store=store).record,
        keep("export", export, {EVIL: timed(1e-3)}, command=["edgekit", EVIL], store=store).record,
    ]


def test_what_users_write_is_text_and_nothing_else(results_folder: Path) -> None:
    text = report_html(evil_records(Store(results_folder)))
    page = Page(text)
    assert page.tags["script"] == 4, "the data and our three"
    assert page.tags["img"] == 0
    assert "<script>document.title" not in text
    assert not [item for _, item in page.attributes if any(name.startswith("on") for name in item)]
    data = json.loads(re.findall(r'<script type="application/json" id="figures">(.*?)</script>', text)[0])
    names = [line["name"] for item in data if item["kind"] == "distribution" for line in item["data"]["lines"]]
    assert EVIL in names, "told as it is"


def test_nothing_is_loaded_from_anywhere(records: dict[str, Record]) -> None:
    page = Page(report_html(list(records.values())))
    policy = next(item["content"] for _, item in page.attributes if item.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "script-src 'unsafe-inline'" not in policy
    for tag, item in page.attributes:
        assert "src" not in item, tag
        assert (item.get("href") or "#").startswith("#"), item


def test_markup_escapes_unless_it_is_markup() -> None:
    assert el("p", "<b>", el("i", "x"), None, class_='"') == '<p class="&quot;">&lt;b&gt;<i>x</i></p>'
    assert join(["a", Markup("<br>")], "&") == "a<br>&amp;"
    assert "<th" in table("t", ["a", "b"], [["1", ""], ["2", None]]) and "b</th>" not in table(
        "t", ["a", "b"], [["1", ""]]
    )


def test_the_terminal_tells_the_same(records: dict[str, Record], results_folder: Path) -> None:
    lines = listing_text(Store(results_folder).rows(), colour=False, width=110).splitlines()
    assert len({len(line[: line.index("net.edgekit")]) for line in lines if " net.edgekit" in line}) == 1
    assert all(len(line) <= 110 for line in lines[:-1])
    shown = record_text(records["export"], colour=False, width=110)
    assert "3.0x faster than openvino fp32" in shown
    assert "command     edgekit bench 'my net.edgekit'" in shown


@pytest.fixture(scope="session")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return found


def browse(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000",
        f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the page printed to its console: errors and violations of the security policy."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desktop"])
def test_a_real_browser_draws_every_plot(records: dict[str, Record], tmp_path: Path, browser: str, width: int) -> None:
    text = report_html(list(records.values()))
    page = tmp_path / "report.html"
    page.write_text(text, encoding="utf-8")
    # Headless Chromium has no window narrower than 500: the page's own width is what it is drawn in.
    done = browse(browser, page, f"--window-size={max(width, 500)},900", "--dump-dom")
    assert said(done) == []
    plots = text.count('class="plot"')
    assert plots >= 9
    assert done.stdout.count('class="drawn"') == plots
    drawn = re.findall(r'class="plot"[^>]*><(?:svg|figure)', done.stdout)
    assert len(drawn) == plots


@pytest.mark.slow
def test_a_real_browser_runs_nothing_that_users_wrote(results_folder: Path, tmp_path: Path, browser: str) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_html(evil_records(Store(results_folder))), encoding="utf-8")
    done = browse(browser, page, "--dump-dom")
    assert said(done) == []
    assert "<title>owned" not in done.stdout
    assert 'class="drawn"' in done.stdout


WIDTHS = """<body style="margin:0"><iframe id="f" src="report.html" width="360" height="800" style="border:0"></iframe>
<script>onload = () => { const page = document.getElementById("f").contentDocument.documentElement;
document.title = `${page.scrollWidth} of ${page.clientWidth}`; }</script>"""


@pytest.mark.slow
def test_a_phone_scrolls_in_one_direction_only(records: dict[str, Record], tmp_path: Path, browser: str) -> None:
    (tmp_path / "report.html").write_text(report_html(list(records.values())), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(WIDTHS)
    done = browse(browser, frame, "--dump-dom", "--allow-file-access-from-files")
    found = re.search(r"<title>(\d+) of (\d+)</title>", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert 300 < int(found[2]) <= 360  # less its scroll bar


@pytest.mark.slow
@pytest.mark.parametrize("dark", [True, False])
def test_it_follows_dark_mode(records: dict[str, Record], tmp_path: Path, browser: str, dark: bool) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_html([records["bench"]]), encoding="utf-8")
    shot = tmp_path / "shot.png"
    browse(browser, page, f"--screenshot={shot}", f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert (brightness(shot) < 80) == dark


def brightness(path: Path) -> float:
    """The mean of a PNG's bytes before its filters are undone tells nothing: read its first pixel instead."""
    import struct
    import zlib

    data, place, body = path.read_bytes(), 8, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            body += data[place + 8 : place + 8 + length]
        place += 12 + length
    # The first pixel of the first row has no neighbour, so that no filter changes it.
    return float(np.mean(list(zlib.decompress(body)[1:4])))
