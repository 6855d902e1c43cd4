"""What ExecuTorch has one of for a whole process: its thread pool."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

import pytest

from edgekit.contracts import Artifact

APP = """
import sys, threading
from pathlib import Path

import numpy as np

from edgekit.contracts import Artifact, TensorSpec
from edgekit.runtimes.executorch import ExecuTorch

inputs = (TensorSpec("image", "float32", (2, 3, 8, 8)), TensorSpec("ids", "int64", (2,)))
outputs = (TensorSpec("logits", "float32", (2, 5)), TensorSpec("best", "int64", (2,)))
artifact = Artifact(Path(sys.argv[1]), "executorch-pte", "fp32", inputs, outputs)
feeds = {"image": np.ones((2, 3, 8, 8), np.float32), "ids": np.array([3, 5])}
start, answers = threading.Barrier(8), []

def app(number):
    start.wait()
    for turn in range(20):
        session = ExecuTorch().open(artifact, ExecuTorch.Options(threads=1 + (number + turn) % 3))
        answers.append(session.run(feeds)["logits"])

threads = [threading.Thread(target=app, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(answers) == 160 and all(np.allclose(answer, answers[0], atol=1e-5) for answer in answers)
print("all right")
"""


def test_sessions_that_open_and_run_at_once_share_the_pool(artifact: Callable[[str], Artifact]) -> None:
    """Each resets the pool's size; two at once, or one beside a run, would end the process or hang it."""
    if not list(metadata.distributions(name="executorch")):
        pytest.skip("executorch is not installed: pip install -c constraints.txt executorch")
    path = artifact("executorch-pte").path
    done = subprocess.run(
        [sys.executable, "-c", APP, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 and "all right" in done.stdout, done.stderr[-2000:]
