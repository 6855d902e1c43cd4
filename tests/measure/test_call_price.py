from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from edgekit.measure.call_price import call_price


class Session:
    """A run costs 2 ms more than the bound call, which takes 1 ms."""

    def bind(self, feeds: Any) -> Callable[[], object]:
        return lambda: time.sleep(0.001)

    def run(self, feeds: Any) -> Any:
        time.sleep(0.003)
        return {}


class Same(Session):
    def run(self, feeds: Any) -> Any:
        time.sleep(0.0005)
        return {}


@pytest.mark.alone
def test_what_run_adds() -> None:
    found = call_price(Session(), {}, 0.2)  # type: ignore[arg-type]
    assert found.bind_p50_s < found.run_p50_s
    assert found.adds_s == pytest.approx(0.002, rel=0.3)


def test_it_never_saves() -> None:
    assert call_price(Same(), {}, 0.05).adds_s == 0.0  # type: ignore[arg-type]
