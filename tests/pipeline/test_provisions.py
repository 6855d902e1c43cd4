from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.contracts import TensorSpec
from edgekit.errors import OutputError
from edgekit.pipeline.provisions import refuse_full_disks, refuse_output
from edgekit.sources.source import Source
from edgekit.target.load import load_target
from edgekit.target.toolchain import Toolchain


def source(parameters: int) -> Source:
    spec = (TensorSpec("x", "float32", (1,)),)
    return Source(
        spec="net.py:build",
        kind="factory",
        name="net",
        description="",
        inputs=spec,
        outputs=spec,
        example={"x": np.zeros(1, np.float32)},
        parameters=parameters,
    )


def test_a_model_that_no_disk_holds_is_refused_before_the_work(tmp_path: Path) -> None:
    offered = [Toolchain(item) for item in load_target("cpu-onnxruntime").candidates]
    refuse_full_disks(tmp_path / "x.edgekit", source(1000), offered)
    with pytest.raises(OutputError, match=r"' has .* free, and this export writes at least \d+ GB there\. Free some"):
        refuse_full_disks(tmp_path / "x.edgekit", source(10**14), offered)


def test_a_place_is_tried(tmp_path: Path) -> None:
    refuse_output(tmp_path / "x.edgekit", overwrite=False)
    assert not list(tmp_path.iterdir()), "nothing is left of the trial"
    with pytest.raises(OutputError, match="its folder does not exist"):
        refuse_output(tmp_path / "no" / "x.edgekit", overwrite=False)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts need root")
def test_a_file_system_that_is_read_only_is_found_by_trying(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edgekit.pipeline.provisions import refuse_output\n"
        "refuse_output(Path(sys.argv[1]), False)"
    )
    mounted = f'mount -t tmpfs -o ro none "{tmp_path}" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, "sh", sys.executable, "-c", script, str(tmp_path / "x.edgekit")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no mounts in this sandbox")
    assert "OutputError: cannot write" in done.stderr and "the file system is read-only" in done.stderr
