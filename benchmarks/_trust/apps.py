"""What an app does with bundles that a self-test does not: threads, two of them, arrays from elsewhere."""

from __future__ import annotations

import json
import shutil

import numpy as np
import torch

from _trust import nets
from _trust.side import Array, Outcome, Side

THREADS = """
import sys, threading
import numpy as np
sys.path.insert(0, sys.argv[1])
from run import load
found = np.load(sys.argv[2])
inputs, truth = found["inputs"], found["truth"]
wrong, errors = [0] * 8, [0] * 8
with load() as model:
    start = threading.Barrier(8)
    def work(own):
        start.wait()
        for _ in range(400):
            try:
                answer = next(iter(model.run({"input": inputs[own]}).values()))
            except Exception:
                errors[own] += 1
                continue
            wrong[own] += not np.allclose(answer, truth[own], atol=1e-3)
    threads = [threading.Thread(target=work, args=(own,)) for own in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(sum(wrong), sum(errors))
"""

TWO = """
import sys
import numpy as np
found = np.load(sys.argv[3])
sys.path.insert(0, sys.argv[1])
from run import load
first = load()
sys.path.insert(0, sys.argv[2])
from run import load
second = load()
for model, truth in ((first, found["first"]), (second, found["second"])):
    answer = next(iter(model.run({"input": found["input"]}).values()))
    print(int(np.allclose(answer, truth, atol=1e-3)))
"""

FEEDS = """
import sys
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
from run import load
found = np.load(sys.argv[2])
x, truth = found["input"], found["truth"]
sealed = x.copy()
sealed.setflags(write=False)
given = {
    "big-endian": {"input": x.astype(">f4")},
    "negative strides": {"input": np.ascontiguousarray(x[..., ::-1])[..., ::-1]},
    "read-only": {"input": sealed},
    "torch tensor": {"input": torch.from_numpy(x)},
    "positional": x,
    "list": {"input": x.tolist()},
}
with load() as model:
    for name, feeds in given.items():
        try:
            answer = next(iter(model.run(feeds).values()))
            print(f"{name}={'right' if np.allclose(answer, truth, atol=1e-3) else 'WRONG'}")
        except Exception as error:
            clear = any(kind.__module__.endswith("errors") for kind in type(error).__mro__)
            print(f"{name}={'refused' if clear else 'bare ' + type(error).__name__}")
"""

PRICE = """
import sys, time
from statistics import median
import numpy as np
sys.path.insert(0, sys.argv[1])
from run import load
with load() as model:
    feeds = {"input": np.zeros((1, 6), np.float32)}
    bound = model.bind(feeds)
    def timed(call):
        taken = []
        for _ in range(3000):
            before = time.perf_counter()
            call()
            taken.append(time.perf_counter() - before)
        return median(taken)
    rounds = [(timed(lambda: model.run(feeds)), timed(bound)) for _ in range(5)]
print(median(a for a, _ in rounds), median(b for _, b in rounds))
"""


def truth_of(net: str, inputs: Array) -> Array:
    with torch.no_grad():
        model = getattr(nets, net)()[0]
        return np.stack([model(torch.from_numpy(item)).numpy() for item in inputs])


def some(count: int) -> Array:
    return np.random.default_rng(9).standard_normal((count, 1, 3, 24, 24)).astype(np.float32)


def threads(side: Side) -> Outcome:
    """Eight threads share one model; each asks for its own answer 400 times."""
    bundle = side.bundle("classifier", "cpu-openvino", "openvino fp32")
    inputs = some(8)
    np.savez(side.folder / "it.npz", inputs=inputs, truth=truth_of("classifier", inputs))
    done = side.script(THREADS, str(bundle), "it.npz")
    if done.code:
        return Outcome(done.said, False)
    wrong, errors = map(int, done.out.split())
    return Outcome(f"{wrong:,} of 3,200 answers wrong, {errors:,} errors", wrong == 0 and errors == 0)


def two_bundles(side: Side) -> Outcome:
    """Two bundles in one program, each loaded by the lines of its README."""
    one, two = (side.bundle(net, "cpu-openvino", "openvino fp32") for net in ("classifier", "another"))
    inputs = some(1)
    first, second = (truth_of(net, inputs)[0] for net in ("classifier", "another"))
    np.savez(side.folder / "it.npz", input=inputs[0], first=first, second=second)
    done = side.script(TWO, str(one), str(two), "it.npz")
    if done.code:
        return Outcome(done.said, False)
    own = [word == "1" for word in done.out.split()]
    return Outcome(
        f"the first answers {'right' if own[0] else 'WRONG'}, the second {'right' if own[1] else 'WRONG'}", all(own)
    )


def odd_arrays(side: Side) -> Outcome:
    """Arrays as apps have them: right, or refused by an error of edgekit's own."""
    bundle = side.bundle("classifier", "cpu-openvino", "openvino fp32")
    inputs = some(1)
    np.savez(side.folder / "it.npz", input=inputs[0], truth=truth_of("classifier", inputs)[0])
    done = side.script(FEEDS, str(bundle), "it.npz")
    if done.code:
        return Outcome(done.said, False)
    found = [line.split("=") for line in done.out.split("\n") if line]
    bad = [f"{name}: {end}" for name, end in found if end not in ("right", "refused")]
    refused = [name for name, end in found if end == "refused"]
    text = "; ".join(bad) or f"{sum(end == 'right' for _, end in found)} of {len(found)} right"
    return Outcome(text + (f"; refused in one line: {', '.join(refused)}" if refused else ""), not bad)


def price(side: Side) -> Outcome:
    """`bench` measures the bound call: what `run()` adds is small, or `bench` tells it."""
    bundle = side.bundle("tiny", "cpu-onnxruntime", "onnxruntime fp32")
    done = side.script(PRICE, str(bundle))
    if done.code:
        return Outcome(done.said, False)
    run, bound = map(float, done.out.split())
    bench = side.edgekit("bench", str(bundle), "--seconds", "2", "--processes", "2")
    told = [line for line in (bench.out + bench.err).splitlines() if "run" in line and "adds" in line]
    text = f"run() {1e6 * run:.1f} µs, bind() {1e6 * bound:.1f} µs: {run / bound:.1f}x, " + (
        "bench tells it" if told else "bench does not tell it"
    )
    return Outcome(text, bool(told) or run <= 1.1 * bound)


def odd_record(side: Side) -> Outcome:
    """One kept result is of a path that the locale could not read, another was cut off when the power went."""
    bundle = side.bundle("tiny", "cpu-onnxruntime", "onnxruntime fp32")
    shutil.copytree(bundle, side.folder / "café.edgekit")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    short = ["--seconds", "1", "--processes", "1", "-q"]
    side.edgekit("bench", str(bundle), *short)
    side.edgekit("bench", "café.edgekit", *short, extra=plain)
    ends = [f"of an odd path: {listed(side)}"]
    side.edgekit("bench", str(bundle), *short)
    newest = max((side.folder / ".edgekit" / "results").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in newest.glob("*.json"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ends.append(f"one cut off: {listed(side)}")
    return Outcome("; ".join(ends), all("results listed" in end for end in ends))


def listed(side: Side) -> str:
    """How many results are told, or how that ends."""
    done = side.edgekit("results", "list", "--json")
    try:
        count = len(json.loads(done.out)["results"])
    except (ValueError, KeyError, TypeError):
        return done.said
    return f"{count} results listed" if count and not done.code else done.said
