"""Timing several engines side by side: each in a fresh process, taking turns in short blocks.

In every round each contender gets a new process; all are open at once, and one at a time runs a block. So a slow minute
of the machine, or a warm one, hits all of them alike, and block by block they can be compared in pairs.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WARMUP_S = 0.5
MIN_RUNS = 5
SETTLE_S = 0.02
"""A pause before each block: an engine's idle threads spin for some milliseconds after their last run."""


@dataclass
class Peer:
    """Who runs: ``opener`` names a function of the worker's script, called with ``arguments``."""

    name: str
    opener: str
    arguments: Mapping[str, Any]
    blocks: list[NDArray[np.float64]] = field(default_factory=list)  # seconds a run, one array a block
    failure: str | None = None

    @property
    def p50_s(self) -> float:
        return float(np.median(np.concatenate(self.blocks))) if self.blocks else float("nan")


class _Process:
    """A worker process: opens a contender, then times a block whenever it is told to."""

    def __init__(self, script: Path, contender: Peer) -> None:
        command = [sys.executable, str(script), "--worker", contender.opener, json.dumps(dict(contender.arguments))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._read()  # ready

    def block(self, seconds: float, warmup_s: float = 0.0) -> NDArray[np.float64]:
        assert self._process.stdin is not None
        print(json.dumps({"seconds": seconds, "warmup_s": warmup_s}), file=self._process.stdin, flush=True)
        return np.array(self._read()["samples"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise RuntimeError((errors.strip().splitlines() or ["ended without a word"])[-1])
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self._process.communicate()


def take_turns(
    contenders: Sequence[Peer],
    script: Path,
    *,
    rounds: int,
    blocks: int,
    block_s: float,
    say: Callable[[str], None],
) -> None:
    """Fill the contenders' ``blocks``: ``rounds`` fresh processes of ``blocks`` blocks each. One that fails is out."""
    order = random.Random(0)
    for round_ in range(rounds):
        with ExitStack() as stack:
            running = []
            for contender in [item for item in contenders if item.failure is None]:
                say(f"round {round_ + 1} of {rounds}: opening {contender.name}")
                try:
                    process = _Process(script, contender)
                except RuntimeError as error:
                    contender.failure = str(error)
                    continue
                stack.callback(process.close)
                running.append((contender, process))
            for block in range(blocks):
                say(f"round {round_ + 1} of {rounds}: block {block + 1} of {blocks}")
                order.shuffle(running)
                taken = {}
                for contender, process in running:
                    time.sleep(SETTLE_S)
                    taken[contender.name] = process.block(block_s, WARMUP_S if block == 0 else block_s / 5)
                for contender, _ in running:
                    contender.blocks.append(taken[contender.name])


def ratio(a: Peer, b: Peer) -> tuple[float, float, float]:
    """Median over blocks of a's p50 ÷ b's p50 in the same turn, and its 95 % interval (bootstrap over the blocks)."""
    pairs = np.array([np.median(x) / np.median(y) for x, y in zip(a.blocks, b.blocks, strict=True)])
    draws = np.random.default_rng(0).choice(pairs, size=(2000, len(pairs)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(np.median(pairs)), float(low), float(high)


def serve(openers: Mapping[str, Callable[..., Callable[[], object]]]) -> None:
    """The worker's side: open what the command line names, then time blocks until stdin ends.

    An opener returns the hot call. Whatever libraries print goes to stderr: stdout carries the answers.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    call = openers[sys.argv[2]](**json.loads(sys.argv[3]))
    call()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        warm = time.perf_counter() + asked["warmup_s"]
        while time.perf_counter() < warm:
            call()
        samples: list[float] = []
        end = time.perf_counter() + asked["seconds"]
        while len(samples) < MIN_RUNS or time.perf_counter() < end:
            start = time.perf_counter_ns()
            call()
            samples.append((time.perf_counter_ns() - start) / 1e9)
        print(json.dumps({"samples": samples}), file=answers, flush=True)
