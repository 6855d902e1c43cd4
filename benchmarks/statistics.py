"""Do the intervals hold what they promise? The proof behind `edgekit/measure/statistics.py`.

    python benchmarks/statistics.py [--series 2000] [--seed 0] [--real 10] [--json FILE]

Simulated latencies whose true percentiles are known, simulated comparisons, and a runtime that sleeps for a known time:
see `_coverage.py`. Prints a table with a pass or fail a row; the exit code is 1 where one failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    from _coverage import main

    sys.exit(main())

# Another script of this folder, or PyTorch in its name, imports the standard library's module of the same name and
# finds this file first: step aside for it.
_folder = Path(__file__).resolve().parent
_path = sys.path[:]
sys.path[:] = [item for item in _path if Path(item or ".").resolve() != _folder]
del sys.modules[__name__]
try:
    import statistics  # noqa: F401 - now the standard library's; the import system hands that one out
finally:
    sys.path[:] = _path
