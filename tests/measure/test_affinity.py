from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from edgekit.errors import UsageError
from edgekit.measure.affinity import parse_cores

needs_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")

# In a process of its own: a test must not change the one that runs all tests.
PROGRAM = """
import json, os, threading
from pathlib import Path
from edgekit.measure.affinity import apply
stop = threading.Event()
threading.Thread(target=stop.wait).start()
applied = apply({cores}, {nice})
told = [sorted(os.sched_getaffinity(int(path.name))) for path in Path("/proc/self/task").iterdir()]
stop.set()
print(json.dumps({{**applied.to_json(), "threads": told}}))
"""


def applied(cores: str, nice: str) -> dict[str, object]:
    code = PROGRAM.format(cores=cores, nice=nice)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@needs_linux
def test_every_thread_stays_on_the_cores() -> None:
    core = max(os.sched_getaffinity(0))
    found = applied(f"[{core}]", "None")
    assert found["cores"] == [core] and found["refused"] == []
    assert found["threads"] == [[core], [core]]


@needs_linux
def test_priority_is_lowered_without_a_privilege() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = applied("None", str(min(before + 1, 19)))
    assert found["nice"] == min(before + 1, 19) and found["refused"] == []
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@needs_linux
def test_a_core_that_is_not_there_is_refused_in_the_systems_words() -> None:
    found = applied("[4000]", "None")
    assert found["cores"] == sorted(os.sched_getaffinity(0))
    assert found["refused"] == ["cores 4000: Invalid argument"]


@pytest.mark.parametrize(("text", "cores"), [("0", (0,)), ("3,0", (0, 3)), ("0,2-4", (0, 2, 3, 4)), (" 1 , 1", (1,))])
def test_a_list_of_cores(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "0;1"])
def test_no_list_of_cores(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a list of cores\. Write 0,2-3"):
        parse_cores(text)
