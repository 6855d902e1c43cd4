from __future__ import annotations

import numpy as np
import pytest

from edgekit.contracts import Artifact
from edgekit.errors import EngineError
from edgekit.runtimes.null import Null


def test_right_shapes_and_dtypes(artifacts: dict[str, Artifact], feeds: dict[str, np.ndarray]) -> None:
    session = Null().open(artifacts["onnx"], Null.Options(threads=2))
    outputs = session.run(feeds)
    assert {name: (array.dtype.name, array.shape) for name, array in outputs.items()} == {
        "logits": ("float32", (2, 5)),  # the free dimension has the size that the feeds give it
        "best": ("int64", (2,)),
    }
    assert session.in_force() == {"threads": 2, "precision": "fp32"}
    assert session.placement().unknown
    assert session.bind(feeds)() is None


def test_checks_feeds_like_any_engine(artifacts: dict[str, Artifact]) -> None:
    session = Null().open(artifacts["onnx"], Null.Options())
    with pytest.raises(EngineError, match="image"):
        session.run({})
