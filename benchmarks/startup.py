"""CPU time of `import edgekit` and `edgekit --help`: under 0.15 s each.

    python benchmarks/startup.py

The least of several runs of a fresh interpreter, user and system time, Python's own start included. The exit code is 1
when one is over the limit.
"""

from __future__ import annotations

import resource
import subprocess
import sys

LIMIT_S = 0.15
RUNS = 9
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import edgekit": ["-c", "import edgekit"],
    "edgekit --help": ["-m", "edgekit", "--help"],
    "edgekit export --help": ["-m", "edgekit", "export", "--help"],
}
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "numpy")


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one run of this Python."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def loaded() -> str:
    """The heavy packages that `import edgekit` brings along."""
    code = f"import edgekit, sys; print(', '.join(name for name in {HEAVY!r} if name in sys.modules) or 'none')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    print(f"{'':<24}{'CPU time':>10}   limit {LIMIT_S} s")
    over = False
    for name, arguments in COMMANDS.items():
        seconds = min(cpu_seconds(arguments) for _ in range(RUNS))
        over |= seconds >= LIMIT_S
        print(f"{name:<24}{seconds:>8.3f} s   {'over' if seconds >= LIMIT_S else 'ok'}")
    print(f"heavy packages loaded by `import edgekit`: {loaded()}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
