"""What this machine can do at best: multiply–accumulates and bytes per second, measured with numpy.

A program of its own (``python peaks.py THREADS``), since a BLAS takes its number of threads when it is loaded.

    rate      = n³ / t for C = A·B, float32, n × n; the fastest of `GEMM_REPEATS`
    bandwidth = 2·size / t for copying ``size`` bytes (read once, written once, as STREAM counts); the fastest of
                `REPEATS`, each thread copying its own share again and again; for several sizes, since what fits a cache
                is faster

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures"
(CACM 2009); a roof for each cache level as in Ilic, Pratas and Sousa, "Cache-aware roofline model" (2014); McCalpin,
"STREAM".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
GEMM_SIZE = 512
GEMM_REPEATS = 20
COPY_BYTES = (256 * 2**10, 2 * 2**20, 16 * 2**20, 128 * 2**20)
REPEATS = 5  # of each copy
_COPY_S = 0.02
_COPIES = 8  # between two looks at the clock
_TIMEOUT_S = 120
# Runs this file without its folder on the path, which holds modules named like standard ones, and without the user's
# folder, which may too. (python -P does that from 3.11 on; a device may have 3.10.)
_PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); sys.argv = sys.argv[1:]; "
    "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@dataclass(frozen=True, slots=True)
class Peaks:
    """The roofs of the roofline."""

    threads: int
    macs_per_s: float  # float32
    bytes_per_s: tuple[tuple[int, float], ...]  # (bytes touched, bandwidth), the smallest first

    def bandwidth(self, size_bytes: float) -> float:
        """For a layer that touches so many bytes: the best over all measured sizes that are no smaller."""
        return max((rate for size, rate in self.bytes_per_s if size >= size_bytes), default=self.bytes_per_s[-1][1])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "threads": self.threads,
            "macs_per_s": self.macs_per_s,
            "bytes_per_s": [{"touched_bytes": size, "bytes_per_s": rate} for size, rate in self.bytes_per_s],
            "method": f"numpy: float32 product of {GEMM_SIZE} x {GEMM_SIZE} matrices, best of {GEMM_REPEATS}; "
            f"copies, best of {REPEATS}",
        }


def measure(threads: int) -> Peaks:
    """Measure in a fresh process, which takes about two seconds.

    Args:
        threads: how many; 0: one for each core that this process may use.

    Raises:
        RuntimeError: the process fails; with its last words.
    """
    from . import machine  # not on top: run as a program, this file is in no package

    threads = threads or machine.usable_cores() or 1
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    command = [sys.executable, "-c", _PROGRAM, str(Path(__file__).resolve()), str(threads)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"the machine's peaks could not be measured: {done.stderr.strip()[-300:]}")
    return from_json(json.loads(done.stdout))


def from_json(value: dict[str, Any]) -> Peaks:
    """The reverse of ``dataclasses.asdict``."""
    return Peaks(value["threads"], value["macs_per_s"], tuple((size, rate) for size, rate in value["bytes_per_s"]))


def _gemm() -> float:
    import numpy as np

    random = np.random.default_rng(0)
    a, b = (random.standard_normal((GEMM_SIZE, GEMM_SIZE)).astype(np.float32) for _ in range(2))
    out = np.empty_like(a)
    np.matmul(a, b, out=out)
    times = []
    for _ in range(GEMM_REPEATS):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        times.append(time.perf_counter() - start)
    return GEMM_SIZE**3 / min(times)


def _copy(touched: int, threads: int) -> float:
    """Bytes per second of copies that touch ``touched`` bytes in all: half of them read, half written."""
    import numpy as np

    share = touched // 2 // threads
    pairs = [(np.ones(share, np.uint8), np.zeros(share, np.uint8)) for _ in range(threads)]
    best = 0.0
    for _ in range(REPEATS):
        rates = [0.0] * threads

        def work(index: int, rates: list[float] = rates) -> None:
            source, target = pairs[index]
            moved, start = 0, time.perf_counter()
            while (now := time.perf_counter()) - start < _COPY_S or not moved:
                for _ in range(_COPIES):
                    np.copyto(target, source)  # releases Python's lock
                moved += 2 * share * _COPIES
            rates[index] = moved / (now - start)

        workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, sum(rates))
    return best


def main() -> None:
    """Measure with as many threads as the first argument says, and print JSON."""
    threads = int(sys.argv[1])
    peaks = Peaks(threads, _gemm(), tuple((size, _copy(size, threads)) for size in COPY_BYTES))
    print(json.dumps(asdict(peaks)))


if __name__ == "__main__":
    main()
