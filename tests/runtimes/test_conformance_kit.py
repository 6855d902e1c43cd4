"""Every adapter that is found passes the kit that plug-in authors use: a new one is tested by being there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit import plugins
from edgekit.contracts import Artifact, Tolerance
from edgekit.errors import EngineError
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance

Arrays = dict[str, np.ndarray]
# float32 throughout, sums of up to 36 terms: rounding stays under 1e-6 relative.
FLOAT32 = Tolerance(rel_l2=1e-6)
NEEDS_A_DEVICE: dict[str, str] = {}
"""Adapters whose engine cannot be installed everywhere, each with the test that stands for the kit."""
FOUND = {name: plugins.load("runtimes", name)() for name in plugins.names("runtimes") if name not in NEEDS_A_DEVICE}
COMPUTES_NOTHING = "null"  # test_null.py


@pytest.mark.parametrize(
    ("name", "format"),
    [(name, format) for name, item in FOUND.items() if name != COMPUTES_NOTHING for format in item.formats],
)
class TestEveryRuntime(RuntimeConformance):
    @pytest.fixture
    def runtime_case(
        self, name: str, format: str, artifact: Callable[[str], Artifact], feeds: Arrays, expected: Arrays
    ) -> RuntimeCase:
        try:
            FOUND[name].version()
        except EngineError as error:
            pytest.skip(str(error))
        return RuntimeCase(FOUND[name], artifact(format), feeds, expected, FLOAT32)
