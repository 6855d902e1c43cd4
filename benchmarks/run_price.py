"""What ``run`` costs beside the bound call that ``bench`` measures, for a model that takes microseconds.

    python benchmarks/run_price.py BUNDLE…

In one process, in turns: the bound call, ``model.run`` of the bundle's own runner, and ``session.run`` below it. The
ratios are of one run of this script, so the machine's speed does not come into them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import edgekit
from edgekit.measure.call_price import call_price


def main() -> None:
    """A line a bundle."""
    print(f"{'bundle':<24}{'bind':>10}{'session.run':>14}{'model.run':>12}{'run adds':>11}{'ratio':>8}")
    for name in sys.argv[1:]:
        with edgekit.open_bundle(name) as bundle, bundle.session() as model:
            feeds, _ = bundle.golden()[0]
            rounds = [(call_price(model._session, feeds, 0.3), call_price(model, feeds, 0.3)) for _ in range(5)]
        bound = median(item.bind_p50_s for pair in rounds for item in pair)
        inner, outer = (median(pair[index].run_p50_s for pair in rounds) for index in (0, 1))
        adds = median(pair[1].adds_s for pair in rounds)
        cells = "".join(
            f"{1e6 * value:>{width}.2f}" for value, width in ((bound, 10), (inner, 14), (outer, 12), (adds, 11))
        )
        print(f"{Path(name).name:<24}{cells}{outer / bound:>8.2f}")


if __name__ == "__main__":
    main()
